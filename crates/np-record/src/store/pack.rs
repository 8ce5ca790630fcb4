//! Packs: a plan and the records of its runs in one compressed file, which a store reads as if they were loose files.
//!
//! `packs/PLAN.DIGEST.json.gz` is a sequence of gzip members, so that `zcat` prints everything: first an index as JSON, then the files in the order of their
//! paths (`plans/NAME.json`, `runs/ID.json`). A few records share a member, which saves a third of the size. A file is read at the offset of its member,
//! without the members before it. DIGEST is the beginning of the pack's SHA-256, so that a pack copied to another store replaces only an equal one.
//! [`super::packing`] writes packs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use flate2::bufread::GzDecoder;
use serde::{Deserialize, Serialize};

use super::Result;
use super::check::known;
use super::error::{Kind, StoreError};
use crate::plan::hex_of;

/// What the name of a pack ends with.
const ENDING: &str = ".json.gz";

/// Hex digits of its digest in a pack's name.
pub(super) const DIGITS: usize = 8;

/// Bytes that an index or a packed file may have: as many plans and records as will ever be, and no gzip member that swells without end.
const LARGEST: u64 = 1 << 28;

/// The packs of a store, of which an index is read once for as long as its file stays as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Packs {
    read: Arc<Mutex<BTreeMap<PathBuf, Remembered>>>,
}

/// Size and time of a file that was read.
type Stamp = (u64, Option<SystemTime>);

/// A pack, as it was when its file had this stamp.
type Remembered = (Stamp, Arc<Pack>);

/// What is remembered says nothing of which store it is.
impl PartialEq for Packs {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Packs {}

/// A pack, as far as its index says.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) path: PathBuf,
    /// Where the first file begins.
    start: u64,
    /// The files, by their place in a store.
    pub(super) members: BTreeMap<String, Member>,
}

/// The first member of a pack.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Index {
    pub(super) schema: u32,
    /// The plan's name.
    pub(super) pack: String,
    pub(super) files: Vec<Member>,
}

/// A packed file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Member {
    /// Where it would be loose, seen from the store.
    pub(super) place: String,
    /// Where its gzip member begins, from the end of the index.
    pub(super) offset: u64,
    /// Bytes of its gzip member.
    pub(super) length: u64,
    /// Where it begins in what its gzip member holds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) at: u64,
    /// Bytes of the file.
    pub(super) size: u64,
    /// SHA-256 of the file, in hex.
    pub(super) sha256: String,
    /// A record's `result_sha256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<String>,
}

/// For a field that most files do without.
fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl Member {
    /// Whether two packed records are of one result; other files must be the same.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 || (self.result.is_some() && self.result == other.result)
    }
}

/// Where a file would be loose, seen from the store.
pub(super) fn place(kind: Kind, name: &str) -> String {
    format!("{}/{name}.json", kind.folder())
}

/// The name of a file at a place, if it is of this kind.
pub(super) fn name_in(kind: Kind, place: &str) -> Option<&str> {
    place.strip_prefix(kind.folder())?.strip_prefix('/')?.strip_suffix(".json")
}

/// The folder of a store's packs.
pub(super) fn folder(root: &Path) -> PathBuf {
    root.join("packs")
}

/// The packs of a store, each with the name of its plan, in order.
pub(super) fn list(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let folder = folder(root);
    let failed = |source| StoreError::Io { action: "list", path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut packs = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let plan = name.to_str().filter(|name| !name.starts_with('.')).and_then(|name| name.strip_suffix(ENDING));
        if let Some((plan, _)) = plan.and_then(|name| name.rsplit_once('.')) {
            packs.push((plan.to_owned(), folder.join(&name)));
        }
    }
    packs.sort();
    Ok(packs)
}

/// Where a pack with these bytes is kept.
pub(super) fn path_of(root: &Path, plan: &str, bytes: &[u8]) -> PathBuf {
    folder(root).join(format!("{plan}.{}{ENDING}", &hex_of(bytes)[..DIGITS]))
}

impl Packs {
    /// A pack; `None` if it has gone meanwhile.
    pub(super) fn open(&self, path: &Path) -> Result<Option<Arc<Pack>>> {
        let stamp = match fs::metadata(path) {
            Ok(about) if about.is_file() => (about.len(), about.modified().ok()),
            Ok(_) => return Err(StoreError::NotRegular { path: path.into(), kind: Kind::Pack }),
            Err(e) if e.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => return Ok(None),
            Err(source) => return Err(StoreError::Io { action: "read", path: path.into(), source }),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, pack)) = read.get(path).filter(|(known, _)| *known == stamp) {
            return Ok(Some(pack.clone()));
        }
        let pack = Arc::new(Pack::open(path)?);
        read.insert(path.into(), (stamp, pack.clone()));
        Ok(Some(pack))
    }

    /// The packs that have a file, and what is wrong with those that cannot be looked into. A plan is looked for in its own packs alone.
    pub(super) fn holding(&self, root: &Path, kind: Kind, name: &str) -> Result<(Vec<Arc<Pack>>, Vec<StoreError>)> {
        let place = place(kind, name);
        let (mut holding, mut damaged) = (Vec::new(), Vec::new());
        for (plan, path) in list(root)? {
            if kind == Kind::Plan && plan != name {
                continue;
            }
            match self.open(&path) {
                Ok(pack) => holding.extend(pack.filter(|pack| pack.members.contains_key(&place))),
                Err(error) => damaged.push(error),
            }
        }
        Ok((holding, damaged))
    }

    /// A packed file with the way to it; `None` if no pack has it. One that is damaged is read from another pack that has it; two packs with different
    /// results of a run are a conflict.
    pub(super) fn read(&self, root: &Path, kind: Kind, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let place = place(kind, name);
        let (holding, mut damaged) = self.holding(root, kind, name)?;
        let mut found: Option<(&Arc<Pack>, Vec<u8>)> = None;
        for pack in &holding {
            match (&found, pack.read(&place)) {
                (None, Ok(bytes)) => found = Some((pack, bytes)),
                (Some((first, _)), Ok(_)) if kind == Kind::Record => first.check_against(pack, name)?,
                (_, Ok(_)) => {}
                // A file that is named comes before a pack that may have it.
                (_, Err(error)) => damaged.insert(0, error),
            }
        }
        match found {
            Some((pack, bytes)) => Ok(Some((pack.path.join(place), bytes))),
            // Whatever is missing may be in there.
            None => damaged.into_iter().next().map_or(Ok(None), Err),
        }
    }
}

impl Pack {
    /// Reads the index.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |source| of_gzip(path, "its index", source);
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        let mut bytes = Vec::new();
        let mut decoder = GzDecoder::new(&mut reader).take(LARGEST);
        decoder.read_to_end(&mut bytes).map_err(failed)?;
        if decoder.limit() == 0 {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let index: Index = known(path, Kind::Pack, &bytes)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.strip_suffix(ENDING).and_then(|name| name.rsplit_once('.')).is_none_or(|(plan, _)| plan != index.pack) {
            let (path, got) = (path.into(), index.pack);
            return Err(StoreError::WrongName { path, field: "pack", expected: name, got, taken: false });
        }
        let start = reader.stream_position().map_err(failed)?;
        let length = reader.get_ref().metadata().map_err(failed)?.len();
        let ends = index.files.iter().map(|file| start.checked_add(file.offset)?.checked_add(file.length));
        if !ends.into_iter().all(|end| end.is_some_and(|end| end <= length)) {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        if !apart(&index.files) {
            return Err(failed(io::ErrorKind::InvalidData.into()));
        }
        let members = index.files.into_iter().map(|file| (file.place.clone(), file)).collect();
        Ok(Self { path: path.into(), start, members })
    }

    /// Ids of the runs that it has records of.
    pub(super) fn records(&self) -> impl Iterator<Item = &str> {
        self.members.keys().filter_map(|place| name_in(Kind::Record, place))
    }

    /// The gzip member of a packed file.
    fn compressed(&self, member: &Member) -> Result<Vec<u8>> {
        let failed = |source| StoreError::Io { action: "read", path: self.path.clone(), source };
        let mut file = File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.start.saturating_add(member.offset))).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(member.length).read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    /// A packed file as it was.
    pub(super) fn read(&self, place: &str) -> Result<Vec<u8>> {
        let path = self.path.join(place);
        let Some(member) = self.members.get(place) else {
            return Err(StoreError::Io { action: "find", path, source: io::ErrorKind::NotFound.into() });
        };
        let compressed = self.compressed(member)?;
        let failed = |source| of_gzip(&path, place, source);
        let end = member.at.checked_add(member.size).filter(|end| *end <= LARGEST);
        let end = end.ok_or_else(|| failed(io::ErrorKind::FileTooLarge.into()))?;
        let mut decoder = BufReader::new(GzDecoder::new(compressed.as_slice()).take(end));
        io::copy(&mut (&mut decoder).take(member.at), &mut io::sink()).map_err(failed)?;
        let mut bytes = Vec::new();
        decoder.read_to_end(&mut bytes).map_err(failed)?;
        let got = hex_of(&bytes);
        if got != member.sha256 {
            return Err(StoreError::Digest { path, field: "sha256", expected: member.sha256.clone(), got });
        }
        Ok(bytes)
    }

    /// Refuses two packs with different results of a run.
    fn check_against(&self, other: &Self, id: &str) -> Result<()> {
        let place = place(Kind::Record, id);
        let both = self.members.get(&place).zip(other.members.get(&place));
        if both.is_none_or(|(own, theirs)| own.agrees_with(theirs)) {
            return Ok(());
        }
        let (path, other) = (self.path.join(&place), other.path.clone());
        Err(StoreError::Conflict { path, other, id: id.into() })
    }
}

/// Whether files that share a gzip member are apart in it, and end where a member may: else a small pack could take hours to read, file by file.
fn apart(files: &[Member]) -> bool {
    let mut places: Vec<(u64, u64, u64)> = files.iter().map(|file| (file.offset, file.at, file.size)).collect();
    places.sort_unstable();
    let ends = places.iter().all(|&(_, at, size)| at.checked_add(size).is_some_and(|end| end <= LARGEST));
    ends && places.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 + pair[0].2 <= pair[1].1)
}

/// What went wrong with a gzip member: a refusal of the system, or damage.
fn of_gzip(path: &Path, what: &str, source: io::Error) -> StoreError {
    let damage = [
        io::ErrorKind::InvalidInput,
        io::ErrorKind::InvalidData,
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::FileTooLarge,
        io::ErrorKind::Other,
    ];
    if damage.contains(&source.kind()) && source.raw_os_error().is_none() {
        return StoreError::DamagedPack { path: path.into(), what: what.into(), source };
    }
    StoreError::Io { action: "read", path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_member_are_apart() {
        let file = |offset: u64, at: u64, size: u64| Member {
            place: "runs/a.json".into(),
            offset,
            length: 9,
            at,
            size,
            sha256: String::new(),
            result: None,
        };
        assert!(apart(&[file(0, 0, 4), file(9, 4, 2), file(9, 0, 4), file(9, 6, 0)]));
        assert!(!apart(&[file(9, 0, 4), file(9, 3, 2)]), "one within another");
        assert!(!apart(&[file(0, LARGEST, 1)]) && !apart(&[file(0, u64::MAX, 2)]), "beyond what a member may hold");
    }
}
