//! Archives: a file with plans, records and snapshots of unfinished runs, to transfer them from one store to another.
//!
//! The layout is that of a pack: a gzip member with an index as JSON, then one for each file, so that `zcat` prints everything. An archive is not trusted:
//! files are named by kind and name, never by a path, and names are checked; sizes are bounded; entries must be adjacent and fill the file, so that a
//! truncated archive is recognised by its index; and each file must have the digest in the index. [`super::handing`] takes the files into a store.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use super::Result;
use super::error::StoreError;
use super::pack::Member;
use super::packing::{compress, compress_by, io_of};
use crate::atomic::write_filled;
use crate::plan::hex_of;
use crate::{SCHEMA, can_name};

/// Version of the layout.
const VERSION: u32 = 1;

/// Bytes of an index: some ten thousand files.
const LARGEST_INDEX: u64 = 1 << 24;

/// A kind of file in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A [`crate::Plan`], named by its experiment.
    Plan,
    /// A [`crate::Record`], named by its run's id.
    Record,
    /// A snapshot of an unfinished run, named by its id. This crate does not know its format.
    Snapshot,
}

impl Part {
    const ALL: [Self; 3] = [Self::Plan, Self::Record, Self::Snapshot];

    /// Path of the file of this kind and name, relative to a store.
    #[must_use]
    pub fn place(self, name: &str) -> String {
        let (folder, ending) = self.around();
        format!("{folder}{name}{ending}")
    }

    /// What is named by a place, if it can be.
    fn named(place: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|part| {
            let (folder, ending) = part.around();
            let name = place.strip_prefix(folder)?.strip_suffix(ending)?;
            can_name(name).then_some((part, name))
        })
    }

    fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::Plan => ("plans/", ".json"),
            Self::Record => ("runs/", ".json"),
            Self::Snapshot => ("snapshots/", ".snapshot"),
        }
    }

    /// Bytes that such a file may have.
    fn largest(self) -> u64 {
        match self {
            Self::Plan | Self::Record => 1 << 26,
            Self::Snapshot => 1 << 32,
        }
    }

    /// Numbers of a network are as good as random: to compress them is time spent for nothing.
    fn compression(self) -> Compression {
        match self {
            Self::Plan | Self::Record => Compression::best(),
            Self::Snapshot => Compression::none(),
        }
    }
}

/// The first member of an archive.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    schema: u32,
    archive: u32,
    files: Vec<Member>,
}

/// An archive that is being written.
#[derive(Debug)]
pub struct ArchiveWriter {
    path: PathBuf,
    /// The gzip members so far: the index, which goes before them, says where each of them lies.
    members: File,
    files: BTreeMap<(Part, String), Member>,
    length: u64,
}

impl ArchiveWriter {
    /// Begins an archive at `path`. An existing file stays until [`finish`](Self::finish) replaces it. Missing folders are created.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be written to.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let members = fs::create_dir_all(folder).and_then(|()| tempfile::tempfile_in(folder));
        let members = members.map_err(io_of("write", &path))?;
        Ok(Self { path, members, files: BTreeMap::new(), length: 0 })
    }

    /// Bytes written so far, without the index.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds a file. If the archive already has one of this kind and name, that one stays.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoArchive`] if the name is invalid or the file is too large; [`StoreError::Io`].
    pub fn add(&mut self, part: Part, name: &str, bytes: &[u8]) -> Result<()> {
        let (place, size) = (part.place(name), bytes.len() as u64);
        let refuse = |why: &str| StoreError::NoArchive { path: self.path.clone(), why: format!("`{place}` {why}") };
        if !can_name(name) {
            return Err(refuse("cannot name a file"));
        }
        if size > part.largest() {
            return Err(refuse("is too large"));
        }
        if self.files.contains_key(&(part, name.to_owned())) {
            return Ok(());
        }
        let compressed = compress_by(bytes, part.compression()).map_err(io_of("compress", &self.path))?;
        self.members.write_all(&compressed).map_err(io_of("write", &self.path))?;
        let (offset, length) = (self.length, compressed.len() as u64);
        let member = Member { place, offset, length, at: 0, size, sha256: hex_of(bytes), result: None };
        self.files.insert((part, name.to_owned()), member);
        self.length += length;
        Ok(())
    }

    /// Writes the archive to its path; returns its size in bytes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`]; an existing file is unchanged then.
    pub fn finish(mut self) -> Result<u64> {
        // As they lie, whatever they are called.
        let mut files: Vec<Member> = self.files.into_values().collect();
        files.sort_by_key(|file| file.offset);
        let index = Index { schema: SCHEMA, archive: VERSION, files };
        let failed = io_of("write", &self.path);
        let mut text = serde_json::to_vec(&index).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let head = compress(&text).map_err(&failed)?;
        self.members.seek(SeekFrom::Start(0)).map_err(&failed)?;
        let fill = |file: &mut File| file.write_all(&head).and_then(|()| io::copy(&mut self.members, file).map(drop));
        write_filled(&self.path, fill).map_err(&failed)?;
        Ok(head.len() as u64 + self.length)
    }
}

/// An archive for reading.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    /// Where the first file begins.
    start: u64,
    files: BTreeMap<(Part, String), Member>,
}

impl Archive {
    /// Opens an archive: reads and checks its index.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoArchive`] if the file is not a complete archive; [`StoreError::NewerSchema`]; [`StoreError::Io`] if the file does not exist or cannot
    /// be read.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let about = fs::metadata(&path).map_err(io_of("read", &path))?;
        // A pipe would be waited for, and cannot be read from a place.
        if !about.is_file() {
            return Err(StoreError::NoArchive { path, why: "it is no regular file".into() });
        }
        let mut reader = BufReader::new(File::open(&path).map_err(io_of("read", &path))?);
        let mut bytes = Vec::new();
        let mut decoder = GzDecoder::new(&mut reader).take(LARGEST_INDEX);
        decoder.read_to_end(&mut bytes).map_err(|error| damage(&path, "its index", error))?;
        let refuse = |why: String| StoreError::NoArchive { path: path.clone(), why };
        if decoder.limit() == 0 {
            return Err(refuse("its index is too large".into()));
        }
        let start = reader.stream_position().map_err(io_of("read", &path))?;
        let index = index(&path, &bytes)?;
        let (mut end, mut files) = (0, BTreeMap::new());
        for file in index.files {
            let Some((part, name)) = Part::named(&file.place) else {
                return Err(refuse(format!("`{}` is no plan, record or snapshot", file.place)));
            };
            if file.size > part.largest() {
                return Err(refuse(format!("`{}` is too large", file.place)));
            }
            // Snapshots are stored as they are: nothing small becomes large.
            if part == Part::Snapshot && file.size > file.length {
                return Err(refuse(format!("`{}` is larger than what it is packed as", file.place)));
            }
            let place = file.place.clone();
            let next = Some(file.offset).filter(|offset| *offset == end).and_then(|end| end.checked_add(file.length));
            end = next.ok_or_else(|| refuse(format!("`{place}` does not lie behind the one before it")))?;
            if files.insert((part, name.to_owned()), file).is_some() {
                return Err(refuse(format!("it has `{place}` twice")));
            }
        }
        let (expected, got) = (start.saturating_add(end), about.len());
        if expected != got {
            return Err(refuse(format!("expected a file of {expected} bytes, got {got}")));
        }
        Ok(Self { path, start, files })
    }

    /// Path of the archive.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files in it: plans, then records, then snapshots, each ordered by name.
    pub fn files(&self) -> impl Iterator<Item = (Part, &str)> {
        self.files.keys().map(|(part, name)| (*part, name.as_str()))
    }

    /// The contents of one of its [`files`](Self::files).
    ///
    /// # Errors
    ///
    /// [`StoreError::NoArchive`] if it is damaged or not in the archive; [`StoreError::Io`].
    pub fn read(&self, part: Part, name: &str) -> Result<Vec<u8>> {
        let refuse = |why: String| StoreError::NoArchive { path: self.path.clone(), why };
        let place = part.place(name);
        let Some(member) = self.files.get(&(part, name.to_owned())) else {
            return Err(refuse(format!("it has no `{place}`")));
        };
        let mut file = File::open(&self.path).map_err(io_of("read", &self.path))?;
        file.seek(SeekFrom::Start(self.start.saturating_add(member.offset))).map_err(io_of("read", &self.path))?;
        let mut bytes = Vec::new();
        let decoder = GzDecoder::new(BufReader::new(file.take(member.length)));
        let read = decoder.take(member.size.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| damage(&self.path, &format!("`{place}`"), error))?;
        if bytes.len() as u64 != member.size || hex_of(&bytes) != member.sha256 {
            return Err(refuse(format!("`{place}` is not what its index says")));
        }
        Ok(bytes)
    }
}

/// An index of a layout that this version knows.
fn index(path: &Path, bytes: &[u8]) -> Result<Index> {
    // The versions first: a newer layout may well have other keys.
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
        archive: u32,
    }
    let refuse = |why: String| StoreError::NoArchive { path: path.to_owned(), why };
    let head: Head = serde_json::from_slice(bytes)
        .map_err(|error| refuse(format!("its index is not one of an archive: {error}")))?;
    if head.schema > SCHEMA || head.archive > VERSION {
        return Err(refuse("it was made by a newer version".into()));
    }
    serde_json::from_slice(bytes).map_err(|error| refuse(format!("its index is not whole: {error}")))
}

/// What went wrong with a gzip member: a refusal of the system, or damage.
fn damage(path: &Path, what: &str, source: io::Error) -> StoreError {
    match source.raw_os_error() {
        Some(_) => io_of("read", path)(source),
        None => StoreError::NoArchive { path: path.to_owned(), why: format!("{what}: {source}") },
    }
}

#[cfg(test)]
mod tests;
