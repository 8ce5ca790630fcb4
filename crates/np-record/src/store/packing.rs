//! Packs loose files, and unpacks packs. A file is removed only after its replacement has been read back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};

use super::error::{Kind, StoreError};
use super::pack::{self, Index, Member, Pack};
use super::{Result, Store, read_regular};
use crate::plan::hex_of;
use crate::{SCHEMA, write_atomic};

/// The result of [`Store::pack`] or [`Store::unpack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The pack; after unpacking, the one that was removed, if there was one.
    pub path: Option<PathBuf>,
    /// Number of files in it: plan and records.
    pub files: usize,
    /// Total size of these files as loose ones, in bytes.
    pub loose_bytes: u64,
    /// Size of the pack in bytes.
    pub packed_bytes: u64,
    /// Number of loose files that were removed (packing) or written (unpacking).
    pub moved: usize,
    /// Number of runs of the plan that are not done, whose records are not packed.
    pub left: usize,
}

/// How many records share a gzip member. A record is read by decompressing half of them in the mean.
const SHARING: usize = 8;

/// A file that is to be packed.
struct Entry {
    member: Member,
    bytes: Vec<u8>,
}

/// A loose file, and the digest of what was read from it.
struct Loose {
    path: PathBuf,
    sha256: String,
}

impl Store {
    /// Packs a plan and the records of its runs that are done into one file, together with the contents of earlier packs of this plan. When the pack
    /// has been read back, the packed loose files and the earlier packs are removed. A run that another plan's pack has stays there. The same files give
    /// the same bytes. `None` if there is no such plan.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]; nothing has been removed then.
    pub fn pack(&self, experiment: &str) -> Result<Option<Packed>> {
        let Some(plan) = self.read_plan(experiment)? else { return Ok(None) };
        let earlier = self.packs_of(experiment)?;
        let mut entries = BTreeMap::new();
        for pack in &earlier {
            for (place, member) in &pack.members {
                // Of two packs with one result the first counts, as in reading.
                if !entries.contains_key(place) {
                    entries.insert(place.clone(), Entry { member: member.clone(), bytes: pack.read(place)? });
                }
            }
        }
        let (mut loose, mut left) = (Vec::new(), 0);
        if let Some((path, bytes)) = self.loose(Kind::Plan, experiment)? {
            loose.push(take(&mut entries, Kind::Plan, experiment, path, &bytes, None)?);
        }
        let mut seen = BTreeSet::new();
        for run in plan.runs.iter().filter(|run| seen.insert(&run.id)) {
            let Some(record) = self.record_of(run)?.filter(crate::Record::is_done) else {
                left += 1;
                continue;
            };
            let Some((path, bytes)) = self.loose(Kind::Record, &run.id)? else { continue };
            let (holding, _) = self.packs.holding(&self.root, Kind::Record, &run.id)?;
            let (place, sha256) = (pack::place(Kind::Record, &run.id), hex_of(&bytes));
            let mut elsewhere = holding.iter().filter(|other| !earlier.iter().any(|own| own.path == other.path));
            if elsewhere.any(|other| other.members[&place].sha256 == sha256 && other.read(&place).is_ok()) {
                loose.push(Loose { path, sha256 });
                continue;
            }
            loose.push(take(&mut entries, Kind::Record, &run.id, path, &bytes, Some(record.result_sha256))?);
        }
        let bytes = build(experiment, &mut entries)?;
        let path = pack::path_of(&self.root, experiment, &bytes);
        if !earlier.iter().any(|own| own.path == path) || earlier.len() > 1 {
            write_atomic(&path, &bytes).map_err(io_of("write", &path))?;
        }
        self.verify(&path, &entries)?;
        for own in earlier.iter().filter(|own| own.path != path) {
            fs::remove_file(&own.path).map_err(io_of("remove", &own.path))?;
        }
        let moved = remove(&loose)?;
        let loose_bytes = entries.values().map(|entry| entry.member.size).sum();
        let packed_bytes = bytes.len() as u64;
        Ok(Some(Packed { path: Some(path), files: entries.len(), loose_bytes, packed_bytes, moved, left }))
    }

    /// Writes the files in a plan's packs as loose files and removes the packs. Loose files that exist already are left as they are.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]; no pack has been removed then. [`StoreError::Conflict`] if a loose record has other results.
    pub fn unpack(&self, experiment: &str) -> Result<Packed> {
        let packs = self.packs_of(experiment)?;
        let (mut packed, mut seen) =
            (Packed { path: None, files: 0, loose_bytes: 0, packed_bytes: 0, moved: 0, left: 0 }, BTreeSet::new());
        for pack in &packs {
            packed.path.get_or_insert_with(|| pack.path.clone());
            packed.packed_bytes += fs::metadata(&pack.path).map_err(io_of("read", &pack.path))?.len();
            for (place, member) in &pack.members {
                let bytes = pack.read(place)?;
                let (kind, name) = self.sound(&pack.path.join(place), place, &bytes)?;
                if !seen.insert(place.clone()) {
                    continue;
                }
                (packed.files, packed.loose_bytes) = (packed.files + 1, packed.loose_bytes + member.size);
                let path = self.path(kind, &name)?;
                if path.symlink_metadata().is_err() {
                    write_atomic(&path, &bytes).map_err(io_of("write", &path))?;
                    packed.moved += 1;
                } else if kind == Kind::Record {
                    // Which says whether it has the same results.
                    self.read_record(&name)?;
                }
            }
        }
        for pack in &packs {
            fs::remove_file(&pack.path).map_err(io_of("remove", &pack.path))?;
        }
        Ok(packed)
    }

    /// Renames the packs that cannot be read, so that their runs are trained again or the packs can be copied again. Returns the new paths, each with the
    /// error.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`].
    pub fn set_aside_packs(&self) -> Result<Vec<(PathBuf, StoreError)>> {
        let mut aside = Vec::new();
        for (_, path) in pack::list(&self.root)? {
            match self.packs.open(&path) {
                Err(error) if error.is_damage() => aside.push((super::check::rename_aside(&path)?, error)),
                _ => {}
            }
        }
        Ok(aside)
    }

    /// Takes a damaged file out of the packs that have it: the pack as it was gets another name, and one with the files that can be read its place. Packs
    /// that cannot be looked into are set aside as a whole. The new name of the first.
    pub(super) fn set_aside_packed(&self, kind: Kind, name: &str) -> Result<PathBuf> {
        let mut aside: Vec<PathBuf> = self.set_aside_packs()?.into_iter().map(|(path, _)| path).collect();
        let place = pack::place(kind, name);
        for own in self.packs.holding(&self.root, kind, name)?.0 {
            let plan = pack::list(&self.root)?.into_iter().find(|(_, path)| *path == own.path).map(|(plan, _)| plan);
            let Some(plan) = plan else { continue };
            let mut entries = BTreeMap::new();
            for (other, member) in own.members.iter().filter(|(other, _)| **other != place) {
                match own.read(other) {
                    Ok(bytes) => _ = entries.insert(other.clone(), Entry { member: member.clone(), bytes }),
                    // What damaged one may have damaged its neighbours.
                    Err(error) if error.is_damage() => {}
                    Err(error) => return Err(error),
                }
            }
            if !entries.is_empty() {
                let bytes = build(&plan, &mut entries)?;
                // The rest first, so that nobody misses it in between.
                let path = pack::path_of(&self.root, &plan, &bytes);
                write_atomic(&path, &bytes).map_err(io_of("write", &path))?;
            }
            aside.push(super::check::rename_aside(&own.path)?);
        }
        // Another process may have been faster.
        Ok(aside.into_iter().next().unwrap_or_else(|| pack::folder(&self.root)))
    }

    /// The packs of a plan.
    fn packs_of(&self, experiment: &str) -> Result<Vec<std::sync::Arc<Pack>>> {
        let own = pack::list(&self.root)?.into_iter().filter(|(plan, _)| plan == experiment);
        own.filter_map(|(_, path)| self.packs.open(&path).transpose()).collect()
    }

    /// A loose file and what is in it.
    pub(super) fn loose(&self, kind: Kind, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let path = self.path(kind, name)?;
        match read_regular(&path) {
            Ok(Some(bytes)) => Ok(Some((path, bytes))),
            Ok(None) => Err(StoreError::NotRegular { path, kind }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    /// Reads a pack that was just written: all of its files must be there, as sound as loose ones.
    fn verify(&self, path: &Path, entries: &BTreeMap<String, Entry>) -> Result<()> {
        let pack = Pack::open(path)?;
        for (place, entry) in entries {
            let bytes = pack.read(place)?;
            let (expected, got) = (&entry.member.sha256, hex_of(&bytes));
            if *expected != got {
                let (path, expected) = (path.join(place), expected.clone());
                return Err(StoreError::Digest { path, field: "sha256", expected, got });
            }
            self.sound(&path.join(place), place, &bytes)?;
        }
        Ok(())
    }

    /// Checks a packed file as a loose one; its kind and name.
    fn sound(&self, path: &Path, place: &str, bytes: &[u8]) -> Result<(Kind, String)> {
        let named = |kind: Kind| pack::name_in(kind, place).map(|name| (kind, name.to_owned()));
        let Some((kind, name)) = named(Kind::Plan).or_else(|| named(Kind::Record)) else {
            return Err(StoreError::BadName { kind: Kind::Pack, name: place.into() });
        };
        match kind {
            Kind::Plan => self.plan_of(path.into(), &name, bytes).map(drop)?,
            _ => self.record_in(path.into(), &name, bytes).map(drop)?,
        }
        Ok((kind, name))
    }
}

/// Takes a loose file up; one that is packed already stays as it was.
fn take(
    entries: &mut BTreeMap<String, Entry>,
    kind: Kind,
    name: &str,
    path: PathBuf,
    bytes: &[u8],
    result: Option<String>,
) -> Result<Loose> {
    let (place, sha256) = (pack::place(kind, name), hex_of(bytes));
    if entries.get(&place).is_none_or(|entry| entry.member.sha256 != sha256) {
        let size = bytes.len() as u64;
        let member = Member { place: place.clone(), offset: 0, length: 0, at: 0, size, sha256: sha256.clone(), result };
        entries.insert(place, Entry { member, bytes: bytes.to_vec() });
    }
    Ok(Loose { path, sha256 })
}

/// A pack's bytes. Places of files within it are set.
fn build(plan: &str, entries: &mut BTreeMap<String, Entry>) -> Result<Vec<u8>> {
    let failed = |source| StoreError::Io { action: "compress", path: plan.into(), source };
    let (mut plans, mut records) = (Vec::new(), Vec::new());
    for (place, entry) in entries.iter_mut() {
        if pack::name_in(Kind::Plan, place).is_some() { &mut plans } else { &mut records }.push(entry);
    }
    let mut body = Vec::new();
    for sharing in plans.chunks_mut(1).chain(records.chunks_mut(SHARING)) {
        let (offset, mut together) = (body.len() as u64, Vec::new());
        for entry in sharing.iter_mut() {
            entry.member.at = together.len() as u64;
            together.extend_from_slice(&entry.bytes);
        }
        let compressed = compress(&together).map_err(failed)?;
        for entry in sharing {
            (entry.member.offset, entry.member.length) = (offset, compressed.len() as u64);
        }
        body.extend(compressed);
    }
    let files = entries.values().map(|entry| entry.member.clone()).collect();
    let index = Index { schema: SCHEMA, pack: plan.into(), files };
    let mut text = serde_json::to_vec(&index).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    let mut bytes = compress(&text).map_err(failed)?;
    bytes.extend(body);
    Ok(bytes)
}

/// One gzip member, without a time or a name.
pub(super) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    compress_by(bytes, Compression::best())
}

/// As [`compress`], as hard as is worth it.
pub(super) fn compress_by(bytes: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), level);
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// Removes loose files that are still what was packed; how many.
fn remove(loose: &[Loose]) -> Result<usize> {
    let mut removed = 0;
    for Loose { path, sha256 } in loose {
        let is_same = matches!(read_regular(path), Ok(Some(bytes)) if hex_of(&bytes) == *sha256);
        if is_same {
            fs::remove_file(path).map_err(io_of("remove", path))?;
            removed += 1;
        }
    }
    Ok(removed)
}

pub(super) fn io_of<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.into(), source }
}
