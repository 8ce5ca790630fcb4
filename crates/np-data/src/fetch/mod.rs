//! Fetches data sets from the Hugging Face Hub: downloads its parquet files with hf-hub, checks their digests, and [imports](crate::hub) them.
//!
//! hf-hub does the transfer: server, token, cache, revision. A set in the Hub's cache is used without a request. An interrupted transfer of a file starts
//! again, up to [`Hub::tries`] times within a call; complete files stay in the cache for later calls. hf-hub does not check digests, so this module does.
//! A file with a wrong digest is removed from the cache if this call has downloaded it, and left alone if it was there before. The set's folder is
//! created by one rename after everything has been checked.

mod ask;
mod error;
mod place;
mod transfer;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use error::FetchError;
use place::{Place, converted, place};
use transfer::{Arrived, Repository, pause};

use crate::dataset::DataSet;
use crate::digest::known_digest;
use crate::error::Error;
use crate::hub::import_files;
use crate::looks;
use crate::name::{DataName, Source};
use crate::regular;

/// The Hub.
pub const ENDPOINT: &str = "https://huggingface.co";

/// The environment variable that names another server. This crate does not read it; the program does.
pub const ENDPOINT_ENV: &str = "HF_ENDPOINT";

/// Settings of a fetch: server, token, cache, revision, retries and time limits.
#[derive(Clone)]
pub struct Hub {
    /// The server. Default [`ENDPOINT`].
    pub endpoint: String,
    /// Access token for repositories that are not public. Default `None`: the one that hf-hub finds in `HF_TOKEN` or in the file of a login.
    pub token: Option<String>,
    /// Folder of the Hub's cache. Default `None`: hf-hub's, which is set by `HF_HUB_CACHE` or `HF_HOME`, else in the home folder.
    pub cache: Option<PathBuf>,
    /// A commit, branch or tag. Default `None`: a commit that is known to contain the set.
    pub revision: Option<String>,
    /// Number of attempts to transfer a file. Default 5.
    pub tries: u32,
    /// Wait before the second attempt; it doubles before each further one, up to 32 times this value. Default 1 s.
    pub wait: Duration,
    /// Longest time without data from the server before an attempt is given up. Default 30 s.
    pub silence: Duration,
}

impl Default for Hub {
    fn default() -> Self {
        let (wait, silence) = (Duration::from_secs(1), Duration::from_secs(30));
        let (token, cache, revision) = (None, None, None);
        Self { endpoint: ENDPOINT.to_owned(), token, cache, revision, tries: 5, wait, silence }
    }
}

impl fmt::Debug for Hub {
    /// All but the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, cache, revision, tries, wait, silence, token } = self;
        let mut shown = f.debug_struct("Hub");
        shown.field("endpoint", endpoint).field("has_token", &token.is_some()).field("cache", cache);
        shown.field("revision", revision).field("tries", tries).field("wait", wait).field("silence", silence).finish()
    }
}

/// The progress of a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The data folder already contains the complete set.
    There,
    /// The Hub's cache contains both files; the path is that of the first.
    Cached(&'a Path),
    /// A file is being transferred.
    Bytes {
        /// Its name.
        file: &'a str,
        /// Its size in bytes.
        size: u64,
        /// Bytes received so far.
        here: u64,
    },
    /// An attempt has failed for this reason; another follows.
    Again(&'a str),
    /// Both files are complete and checked, and are being converted.
    Importing,
}

impl Hub {
    /// Fetches a data set into `data_dir`, unless it is there already, and loads it. `watch` is called with the progress.
    ///
    /// # Errors
    /// [`Error::Fetch`] for the transfer, [`Error::Write`] for the data folder, and those of [`import`](crate::hub::import).
    pub fn fetch(
        &self,
        name: DataName,
        data_dir: &Path,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<DataSet, Error> {
        let folder = data_dir.join(name.as_str());
        if let Some(set) = there(name, data_dir, &folder)? {
            watch(Progress::There);
            return Ok(set);
        }
        if let Some(found) = self.revision.as_ref().filter(|revision| !is_revision(revision)) {
            return Err(FetchError::Revision { found: found.clone() }.into());
        }
        let work = data_dir.join(".fetch").join(name.as_str());
        fs::create_dir_all(&work).map_err(refused(&work))?;
        let lock = Lock::take(work.with_extension("lock"))?;

        let made = work.join("made");
        let set = self.files(name, watch).and_then(|files| {
            watch(Progress::Importing);
            import_files(name, files.each_ref().map(PathBuf::as_path), &made).and_then(|set| published(name, set))
        });
        if let Ok(_set) = &set {
            fs::rename(made.join(name.as_str()), &folder).map_err(refused(&folder))?;
        }
        // Nothing to go on from: what has arrived is in the Hub's cache.
        fs::remove_dir_all(&work).map_err(refused(&work))?;
        drop(lock);
        // Gone with the last set that is fetched.
        let _ = fs::remove_dir(data_dir.join(".fetch"));
        set
    }

    /// Both files of a set, in the Hub's cache, checked.
    fn files(&self, name: DataName, watch: &mut dyn FnMut(Progress<'_>)) -> Result<[PathBuf; 2], Error> {
        let repository = Repository::new(self)?;
        let mut place = place(name, self.revision.as_deref());
        let elsewhere = self.revision.is_none().then(|| converted(name));
        if let Some(files) = repository.cached(&place) {
            for (part, path) in files.iter().enumerate() {
                check_cached(name, place.known.map(|known| known[part]), path)?;
            }
            watch(Progress::Cached(&files[0]));
            return Ok(files);
        }
        let files = elsewhere.and_then(|place| repository.cached(&place));
        // Another program's: where they are not right, they are not in the way.
        if let Some(files) = files.filter(|files| files.iter().all(|path| check_cached(name, None, path).is_ok())) {
            watch(Progress::Cached(&files[0]));
            return Ok(files);
        }
        let train = self.file(&repository, &mut place, 0, watch)?;
        Ok([train, self.file(&repository, &mut place, 1, watch)?])
    }

    /// Brings one file into the cache; `place` has the commit then.
    fn file(
        &self,
        repository: &Repository,
        place: &mut Place,
        part: usize,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, Error> {
        let (file, known) = (place.files[part].clone(), place.known.map(|known| known[part]));
        let name = file.rsplit('/').next().unwrap_or(&file);
        let (endpoint, revision) = (self.endpoint.trim_end_matches('/'), place.revision.replace('/', "%2F"));
        let url = format!("{endpoint}/datasets/{}/{}/resolve/{revision}/{file}", place.owner, place.repository);
        let mut failures = 0;
        loop {
            let mut bytes = |here, size| watch(Progress::Bytes { file: name, size, here });
            let trouble = match repository.bring(self, place, &file, &url, known, &mut bytes) {
                Ok((arrived, remote)) => {
                    let expected = known.unwrap_or(&remote.sha256);
                    let found = digest_of(&arrived.path)?;
                    if !found.eq_ignore_ascii_case(expected) {
                        return Err(wrong(repository, &url, expected, &found, arrived));
                    }
                    place.revision = remote.commit;
                    return Ok(arrived.path);
                }
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing(error)) => error,
            };
            failures += 1;
            if failures >= self.tries {
                return Err(trouble.into());
            }
            watch(Progress::Again(&trouble.to_string()));
            thread::sleep(pause(self.wait, failures));
        }
    }
}

/// Holds a file of the cache to its digest: the known one, or that by which the cache names the bytes.
fn check_cached(name: DataName, known: Option<&str>, path: &Path) -> Result<(), Error> {
    let bytes = path.canonicalize().map_err(|source| Error::Io { path: path.to_path_buf(), source })?;
    let named = bytes.file_name().and_then(|name| name.to_str());
    let named = named.filter(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    match known.or(named) {
        Some(expected) => {
            let found = digest_of(path)?;
            if found.eq_ignore_ascii_case(expected) {
                return Ok(());
            }
            let expected = format!("bytes with the SHA-256 `{expected}`");
            Err(FetchError::Cached { path: bytes.clone(), expected, found: described(&bytes, &found) }.into())
        }
        // Where a cache has copies instead of links, it names no digest; that of the pixels will tell.
        None if known_digest(name, Source::Full).is_some() => Ok(()),
        None => {
            let expected = "a name that is the SHA-256".to_owned();
            Err(FetchError::Cached { path: bytes, expected, found: "another name".to_owned() }.into())
        }
    }
}

/// The error of a file that is not what it should be. What has come now does not stay in the cache.
fn wrong(repository: &Repository, url: &str, expected: &str, found: &str, arrived: Arrived) -> Error {
    let found = described(&arrived.path, found);
    let expected = format!("bytes with the SHA-256 `{expected}`");
    if arrived.now {
        repository.remove(&arrived.path);
        return FetchError::Digest { url: url.to_owned(), expected, found }.into();
    }
    let path = arrived.path.canonicalize().unwrap_or(arrived.path);
    FetchError::Cached { path, expected, found }.into()
}

/// A file's digest, and what it looks like if it is no parquet file.
fn described(path: &Path, digest: &str) -> String {
    let mut start = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(looks::ENOUGH).read_to_end(&mut start));
    match looks::like(&start).filter(|_| !start.starts_with(b"PAR1")) {
        Some(looks) => format!("`{digest}`, {looks}"),
        None => format!("`{digest}`"),
    }
}

/// Whether this can name a commit, a branch or a tag; it becomes part of an address and of a path.
fn is_revision(text: &str) -> bool {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte));
    letters && (1..=200).contains(&text.len()) && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

/// Why a try has ended.
enum Trouble {
    /// Another may succeed.
    Passing(FetchError),
    /// None will.
    Final(Error),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// The set, if it is in its place; `None` if the place is free.
fn there(name: DataName, data_dir: &Path, place: &Path) -> Result<Option<DataSet>, Error> {
    let occupied = |found: String| FetchError::Occupied { path: place.to_path_buf(), found };
    let free = match fs::read_dir(place) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if free {
        return Ok(None);
    }
    match DataSet::load(name, Source::Full, Some(data_dir)) {
        Ok(set) if known_digest(name, Source::Full).is_none_or(|known| known == set.digest) => Ok(Some(set)),
        Ok(set) => Err(occupied(format!("{} + {} other examples", set.train.len(), set.test.len())).into()),
        Err(error) => Err(occupied(format!("something else ({error})")).into()),
    }
}

/// The set, if it is the published one as far as that is known.
fn published(name: DataName, set: DataSet) -> Result<DataSet, Error> {
    match known_digest(name, Source::Full) {
        Some(expected) if expected != set.digest => {
            Err(FetchError::Unpublished { name, expected, found: set.digest }.into())
        }
        _ => Ok(set),
    }
}

fn refused(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.to_path_buf();
    move |source| Error::Write { path: path.clone(), source }
}

/// SHA-256 of a file, in hex.
fn digest_of(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Io { path: path.to_path_buf(), source };
    let mut file = regular::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(crate::digest::hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The right to fetch a set, until it is dropped or its process ends.
struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    fn take(path: PathBuf) -> Result<Self, Error> {
        let file = File::options().create(true).append(true).open(&path).map_err(refused(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path, _file: file }),
            Err(TryLockError::WouldBlock) => Err(FetchError::Busy { path }.into()),
            // A file system without locks: better fetched twice than not at all.
            Err(TryLockError::Error(_)) => Ok(Self { path, _file: file }),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
