//! Data sets from the Hub: its parquet files by HTTP, checked against the digest that the Hub has of them, then [imported](crate::hub).
//!
//! A download that was broken off goes on where it ended, within a command and from one to the next: what has arrived is in
//! `DATA_DIR/.fetch/NAME/SHA256.partial`, named after the bytes that it is to become. The set's own folder appears at once, by a rename,
//! when everything has been checked. `hf-hub` would resume too, but compares no digest, takes any answer to a request for a range, and waits
//! without end; hence a plain HTTP client here.

mod error;
mod remote;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

pub use error::FetchError;
use remote::{Chunk, Client, Remote};

use crate::dataset::DataSet;
use crate::digest::known_digest;
use crate::error::Error;
use crate::hub::import;
use crate::name::{DataName, Source};

/// The Hub.
pub const ENDPOINT: &str = "https://huggingface.co";

/// The environment variable that names another server. This crate doesn't read it: whoever reads the command line does.
pub const ENDPOINT_ENV: &str = "HF_ENDPOINT";

/// From where to fetch, and how patiently.
#[derive(Debug, Clone)]
pub struct Hub {
    /// The server. Default [`ENDPOINT`].
    pub endpoint: String,
    /// Tries in a row that bring nothing new, before it is given up. Default 5.
    pub tries: u32,
    /// Wait before the second try, doubled before each further one. Default 1 s.
    pub wait: Duration,
    /// The longest that the server may say nothing. Default 30 s.
    pub silence: Duration,
}

impl Default for Hub {
    fn default() -> Self {
        let (wait, silence) = (Duration::from_secs(1), Duration::from_secs(30));
        Self { endpoint: ENDPOINT.to_owned(), tries: 5, wait, silence }
    }
}

/// How a fetch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The set is there already, whole.
    There,
    /// A file, its size, and how much of it is here.
    Bytes {
        /// Its name.
        file: &'a str,
        /// Bytes in all.
        size: u64,
        /// Bytes that have arrived, in this command or before.
        here: u64,
    },
    /// A try has ended early, for this reason; another follows.
    Again(&'a str),
    /// All bytes are here and right; they are being converted.
    Importing,
}

/// Where the Hub has a set: the repository, and the two files in it.
fn repository(name: DataName) -> (&'static str, &'static str) {
    match name {
        DataName::Mnist => ("ylecun/mnist", "mnist"),
        DataName::FashionMnist => ("zalando-datasets/fashion_mnist", "fashion_mnist"),
        DataName::Cifar10 => ("uoft-cs/cifar10", "plain_text"),
    }
}

const FILES: [&str; 2] = ["train-00000-of-00001.parquet", "test-00000-of-00001.parquet"];

impl Hub {
    /// Fetches a data set into `data_dir`, unless it is there, and loads it; `watch` hears how it goes.
    ///
    /// # Errors
    /// [`Error::Fetch`] about the way here, [`Error::Write`] about the folder, and those of [`import`].
    pub fn fetch(
        &self,
        name: DataName,
        data_dir: &Path,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<DataSet, Error> {
        let place = data_dir.join(name.as_str());
        if let Some(set) = there(name, data_dir, &place)? {
            watch(Progress::There);
            return Ok(set);
        }
        let work = data_dir.join(".fetch").join(name.as_str());
        fs::create_dir_all(&work).map_err(refused(&work))?;
        let lock = Lock::take(work.with_extension("lock"))?;

        let client = Client::new(self.silence);
        let (repository, folder) = repository(name);
        for file in FILES {
            let endpoint = self.endpoint.trim_end_matches('/');
            let url = format!("{endpoint}/datasets/{repository}/resolve/main/{folder}/{file}");
            self.file(&client, &url, file, &work, watch)?;
        }
        watch(Progress::Importing);
        let made = work.join("made");
        let set = import(name, &work, &made).and_then(|set| published(name, set)).inspect_err(|error| {
            // Bytes as the Hub has them that are not the set: nothing to go on from. A full disk is no fault of theirs.
            let _ = fs::remove_dir_all(if matches!(error, Error::Write { .. }) { &made } else { &work });
        })?;
        fs::rename(made.join(name.as_str()), &place).map_err(refused(&place))?;
        fs::remove_dir_all(&work).map_err(refused(&work))?;
        drop(lock);
        // Gone with the last set that is fetched.
        let _ = fs::remove_dir(data_dir.join(".fetch"));
        Ok(set)
    }

    /// Brings one file into `work` under its own name.
    fn file(
        &self,
        client: &Client,
        url: &str,
        file: &str,
        work: &Path,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), Error> {
        let mut failures = 0;
        let mut before = None;
        loop {
            let mut size = 0;
            let result = client.ask(url).and_then(|remote| {
                size = remote.size;
                advance(client, &remote, url, file, work, watch)
            });
            let trouble = match result {
                Ok(()) => return Ok(()),
                Err(Trouble::Final(error)) => return Err(error),
                Err(Trouble::Passing { here, error }) => {
                    // A try that brought something counts for nothing against it.
                    failures = if here > before.unwrap_or(0) { 1 } else { failures + 1 };
                    before = Some(here.max(before.unwrap_or(0)));
                    error
                }
            };
            if failures >= self.tries {
                return Err(trouble.into());
            }
            watch(Progress::Again(&trouble.to_string()));
            thread::sleep(self.wait * 2_u32.saturating_pow(failures - 1).min(32));
        }
    }
}

/// Why a try has ended.
enum Trouble {
    /// Another may succeed; with the bytes that are here.
    Passing { here: u64, error: FetchError },
    /// None will.
    Final(Error),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Final(error.into())
    }
}

/// One try: gets what is missing of a file, and checks the whole.
fn advance(
    client: &Client,
    remote: &Remote,
    url: &str,
    file: &str,
    work: &Path,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Trouble> {
    let whole = work.join(file);
    if whole.exists() && digest_of(&whole)? == remote.sha256 {
        watch(Progress::Bytes { file, size: remote.size, here: remote.size });
        return Ok(());
    }
    let partial = work.join(format!("{}.partial", remote.sha256));
    let write = || refused(&partial);
    let mut out = File::options().create(true).append(true).open(&partial).map_err(write())?;
    let mut here = out.metadata().map_err(write())?.len();
    if here > remote.size {
        out.set_len(0).map_err(write())?;
        here = 0;
    }
    if here < remote.size {
        let Chunk { from, mut body } = match client.get(url, here, remote.size) {
            Err(Trouble::Final(Error::Fetch(error))) if here > 0 && error.is_about_range() => {
                // What is here is not the beginning of what the server has: from the start.
                out.set_len(0).map_err(write())?;
                return Err(Trouble::Passing { here: 0, error });
            }
            Err(Trouble::Passing { error, .. }) => return Err(Trouble::Passing { here, error }),
            other => other?,
        };
        if from != here {
            // It does not know ranges: from the start.
            out.set_len(from).map_err(write())?;
            here = from;
        }
        let mut buffer = vec![0; 1 << 16];
        watch(Progress::Bytes { file, size: remote.size, here });
        while here < remote.size {
            let room = usize::try_from(remote.size - here).unwrap_or(buffer.len()).min(buffer.len());
            let early = |found: String| FetchError::Connection { url: url.to_owned(), found };
            match body.read(&mut buffer[..room]) {
                Ok(0) => {
                    let error = early(format!("an end after {here} of {} bytes", remote.size));
                    return Err(Trouble::Passing { here, error });
                }
                Ok(count) => {
                    out.write_all(&buffer[..count]).map_err(write())?;
                    here += count as u64;
                    watch(Progress::Bytes { file, size: remote.size, here });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Trouble::Passing { here, error: early(error.to_string()) }),
            }
        }
    }
    out.sync_all().map_err(write())?;
    let found = digest_of(&partial)?;
    if found != remote.sha256 {
        fs::remove_file(&partial).map_err(write())?;
        let expected = format!("{} bytes with the SHA-256 `{}`", remote.size, remote.sha256);
        return Err(FetchError::Digest { url: url.to_owned(), expected, found: format!("`{found}`") }.into());
    }
    fs::rename(&partial, &whole).map_err(write())?;
    Ok(())
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
        Err(error) => {
            let text = error.to_string();
            let first = text.split("\nhint: ").next().unwrap_or_default();
            Err(occupied(format!("something else ({first})")).into())
        }
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
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
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
