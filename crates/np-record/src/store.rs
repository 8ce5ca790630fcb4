//! The folder of plans and records, each a JSON file or packed with others, and the checks of these files.
//!
//! Files are written in full or not at all (see [`crate::write_atomic`]). A file that is read must have the right name, a known layout, and the digest that
//! it was written with; a record must be that of its id. A damaged file is named and left out, and the others can still be read. Stores are merged by
//! copying files. A file that is not loose is looked for in the packs ([`pack`]). Files are written loose, and can be packed later ([`packing`]).

mod archive;
mod check;
mod error;
mod handing;
mod pack;
mod packing;
mod published;
mod regular;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use archive::{Archive, ArchiveWriter, Part};
pub use error::{Kind, StoreError};
pub use handing::Taken;
pub use packing::Packed;
pub use regular::read_regular;

use check::{check, is_held, known, rename_aside, whole};
use pack::Packs;

use crate::plan::hex_of;
use crate::select::Runs;
use crate::{Plan, PlannedRun, Record, can_name, write_atomic};

/// The plans and records below one folder, by convention `experiments/records/SCALE/`:
///
/// ```text
/// plans/EXPERIMENT.json               a Plan
/// runs/ID.json                        a Record
/// packs/EXPERIMENT.DIGEST.json.gz     a Plan and its Records
/// ```
///
/// A loose file takes precedence over a packed one; a loose record must have the same results as the packed one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
    packs: Packs,
}

/// The runs of a plan, each with its record if there is one, and the errors of records that cannot be used.
#[derive(Debug, Default)]
pub struct Reading {
    /// The runs, in the plan's order. A run whose record is refused has none.
    pub runs: Runs,
    /// The errors of refused records, one for each file.
    pub refused: Vec<StoreError>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// The store in the folder `root`. If the folder does not exist, the store is empty, and writing the first file creates it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if `root` exists and is not a folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => {
                Err(StoreError::Io { action: "open", path: root, source: io::ErrorKind::NotADirectory.into() })
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { action: "open", path: root, source })
            }
            _ => Ok(Self { root, packs: Packs::default() }),
        }
    }

    /// The folder of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Path of the loose record of run `id`, whether it exists or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadName`].
    pub fn record_path(&self, id: &str) -> Result<PathBuf> {
        self.path(Kind::Record, id)
    }

    /// Path of the loose plan of `experiment`, whether it exists or not.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadName`].
    pub fn plan_path(&self, experiment: &str) -> Result<PathBuf> {
        self.path(Kind::Plan, experiment)
    }

    /// The record of run `id`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] that names the file, if it is unreadable, malformed, of a newer schema, under a wrong name, of another run than its id says, or
    /// changed since it was written.
    pub fn read_record(&self, id: &str) -> Result<Option<Record>> {
        let Some((path, bytes)) = self.read(Kind::Record, id)? else { return Ok(None) };
        let is_loose = !path.starts_with(pack::folder(&self.root));
        let record = self.record_in(path.clone(), id, &bytes)?;
        if !is_loose {
            return Ok(Some(record));
        }
        // That a run failed here is no result beside one that was trained elsewhere.
        if !record.is_done()
            && let Some((path, bytes)) = self.packs.read(&self.root, Kind::Record, id).ok().flatten()
        {
            return self.record_in(path, id, &bytes).map(Some);
        }
        self.check_against_packs(path, &record, &bytes)?;
        Ok(Some(record))
    }

    /// A record, if these bytes are that of run `id` in all of their parts.
    fn record_in(&self, path: PathBuf, id: &str, bytes: &[u8]) -> Result<Record> {
        let record: Record = known(&path, Kind::Record, bytes)?;
        if record.id != id {
            let taken = self.says::<Record>(Kind::Record, &record.id, |own| &own.id)
                && matches!(self.read_record(&record.id), Ok(Some(_)));
            return Err(StoreError::WrongName { path, field: "id", expected: id.into(), got: record.id, taken });
        }
        let got = record.own_id();
        if record.id != got {
            return Err(StoreError::OtherRun { path, expected: record.id, got });
        }
        check(&path, "result_sha256", &record.result_sha256, record.digest_result())?;
        if let Some(expected) = published::result(id).filter(|published| **published != record.result_sha256)
            && is_held(&record)
        {
            let (id, expected) = (record.id, expected.to_owned());
            return Err(StoreError::OtherResult { path, id, expected, got: record.result_sha256 });
        }
        whole(&path, Kind::Record, id, bytes, "record_sha256", record.record_sha256.as_deref(), &|| record.digest())?;
        Ok(record)
    }

    /// Refuses a loose record whose run has other results in a pack. Packs that cannot be looked into do not concern it.
    fn check_against_packs(&self, path: PathBuf, record: &Record, bytes: &[u8]) -> Result<()> {
        let Ok((holding, _)) = self.packs.holding(&self.root, Kind::Record, &record.id) else { return Ok(()) };
        let place = pack::place(Kind::Record, &record.id);
        let differs = |pack: &&std::sync::Arc<pack::Pack>| {
            let packed = &pack.members[&place];
            packed.result.as_ref() != Some(&record.result_sha256) && packed.sha256 != hex_of(bytes)
        };
        match holding.iter().find(differs) {
            None => Ok(()),
            Some(other) => {
                let (other, id) = (other.path.join(place), record.id.clone());
                Err(StoreError::Conflict { path, other, id })
            }
        }
    }

    /// Writes a record with its digest ([`Record::digest`]) under its id. An older record is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealed`] if its id or its result digest is not that of its content; [`StoreError::Io`], [`StoreError::BadName`].
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let sealed =
            [("id", &record.id, record.own_id()), ("result_sha256", &record.result_sha256, record.digest_result())];
        if let Some((field, expected, got)) = sealed.into_iter().find(|(_, expected, got)| *expected != got) {
            let (id, expected) = (record.id.clone(), expected.clone());
            return Err(StoreError::Unsealed { id, field, expected, got });
        }
        self.write(Kind::Record, &record.id, &Record { record_sha256: Some(record.digest()), ..record.clone() })
    }

    /// The plan of `experiment`; `None` if there is none. [`Plan::stale`] tells whether it is up to date.
    ///
    /// # Errors
    ///
    /// A [`StoreError`] that names the file, if it is unreadable, malformed, of a newer schema, under a wrong name, or changed since it was written.
    pub fn read_plan(&self, experiment: &str) -> Result<Option<Plan>> {
        let Some((path, bytes)) = self.read(Kind::Plan, experiment)? else { return Ok(None) };
        self.plan_of(path, experiment, &bytes).map(Some)
    }

    /// A plan, if these bytes are that of `experiment` in all of their parts.
    fn plan_of(&self, path: PathBuf, experiment: &str, bytes: &[u8]) -> Result<Plan> {
        let plan: Plan = known(&path, Kind::Plan, bytes)?;
        if plan.experiment != experiment {
            let expected = experiment.into();
            let got = plan.experiment;
            let taken = self.says::<Plan>(Kind::Plan, &got, |own| &own.experiment)
                && matches!(self.read_plan(&got), Ok(Some(_)));
            return Err(StoreError::WrongName { path, field: "experiment", expected, got, taken });
        }
        match &plan.spec {
            Some(text) => check(&path, "spec_sha256", &plan.spec_sha256, hex_of(text.as_bytes()))?,
            // Whoever writes a digest writes the text as well, from which the runs can be told.
            None if plan.plan_sha256.is_some() => {
                return Err(StoreError::NoDigest { path, kind: Kind::Plan, field: "spec" });
            }
            None => {}
        }
        whole(&path, Kind::Plan, experiment, bytes, "plan_sha256", plan.plan_sha256.as_deref(), &|| plan.digest())?;
        Ok(plan)
    }

    /// Writes a plan with its digest ([`Plan::digest`]) under its experiment's name. An older plan is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoDigest`] if it has no [`Plan::spec`], so that it would be refused when read; [`StoreError::Io`], [`StoreError::BadName`].
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        if plan.spec.is_none() {
            let path = self.path(Kind::Plan, &plan.experiment)?;
            return Err(StoreError::NoDigest { path, kind: Kind::Plan, field: "spec" });
        }
        self.write(Kind::Plan, &plan.experiment, &plan.clone().sealed())
    }

    /// Whether run `id` has a record and need not be trained again ([`Record::is_done`]).
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn is_done(&self, id: &str) -> Result<bool> {
        Ok(self.read_record(id)?.is_some_and(|record| record.is_done()))
    }

    /// All runs of `plan`, in the plan's order, each with its record if there is one that can be used.
    #[must_use]
    pub fn records_of(&self, plan: &Plan) -> Reading {
        let mut reading = Reading::default();
        for run in &plan.runs {
            let record = self.record_of(run).unwrap_or_else(|error| {
                // What a damaged pack held is not known: it is named once, and not for every run that is nowhere else.
                let is_said = match error.damaged_pack() {
                    Some(pack) => reading.refused.iter().any(|earlier| earlier.damaged_pack() == Some(pack)),
                    None => plan.runs[..reading.runs.len()].iter().any(|earlier| earlier.id == run.id),
                };
                if !is_said {
                    reading.refused.push(error);
                }
                None
            });
            reading.runs.push((run.clone(), record));
        }
        reading
    }

    /// The record of a planned run; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`]; [`StoreError::OtherRun`] if it has another configuration or other data than the planned run.
    pub fn record_of(&self, run: &PlannedRun) -> Result<Option<Record>> {
        let Some(record) = self.read_record(&run.id)? else { return Ok(None) };
        if record.config != run.config || record.data.digest != run.data_digest {
            let got = PlannedRun::id_of(&run.config, &run.data_digest);
            return Err(StoreError::OtherRun { path: self.record_path(&run.id)?, expected: run.id.clone(), got });
        }
        Ok(Some(record))
    }

    /// Renames a damaged file in its folder, so that its name is free and its contents are kept; returns the new path. A packed file is removed from its pack,
    /// whose old version is kept under another name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::BadName`].
    pub fn set_aside(&self, kind: Kind, name: &str) -> Result<PathBuf> {
        let path = self.path(kind, name)?;
        match path.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !pack::list(&self.root)?.is_empty() => {
                self.set_aside_packed(kind, name)
            }
            _ => rename_aside(&path),
        }
    }

    /// Names of the experiments with a plan in the store, in alphabetical order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn plans(&self) -> Result<Vec<String>> {
        self.names(Kind::Plan)
    }

    /// Ids of the runs with a record in the store, in alphabetical order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn ids(&self) -> Result<Vec<String>> {
        self.names(Kind::Record)
    }

    /// Ids of at most `most` runs with a record in the store, in the order of the file system.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn some_ids(&self, most: usize) -> Result<Vec<String>> {
        self.listed(Kind::Record, most)
    }

    fn path(&self, kind: Kind, name: &str) -> Result<PathBuf> {
        if !can_name(name) {
            return Err(StoreError::BadName { kind, name: name.into() });
        }
        Ok(self.root.join(kind.folder()).join(format!("{name}.json")))
    }

    fn names(&self, kind: Kind) -> Result<Vec<String>> {
        let mut names = self.listed(kind, usize::MAX)?;
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn listed(&self, kind: Kind, most: usize) -> Result<Vec<String>> {
        let folder = self.root.join(kind.folder());
        let failed = |source| StoreError::Io { action: "list", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries.map_err(failed)?),
        };
        let mut names = Vec::new();
        for entry in entries.into_iter().flatten() {
            if names.len() >= most {
                break;
            }
            let file = entry.map_err(failed)?.file_name();
            let stem = file.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(stem.filter(|stem| !stem.starts_with('.')).map(String::from));
        }
        // A pack that cannot be looked into is named where something is asked of it.
        for (plan, path) in pack::list(&self.root)? {
            if names.len() >= most {
                break;
            }
            match kind {
                Kind::Plan => names.push(plan),
                _ => {
                    let Ok(Some(pack)) = self.packs.open(&path) else { continue };
                    names.extend(pack.records().take(most - names.len()).map(String::from));
                }
            }
        }
        Ok(names)
    }

    /// Whether there is a file of this name that says the same name. One that says another is not asked further, or two could ask each other without end.
    fn says<T: DeserializeOwned>(&self, kind: Kind, name: &str, own: impl Fn(&T) -> &String) -> bool {
        let found = self.read(kind, name).ok().flatten();
        found.and_then(|(path, bytes)| known::<T>(&path, kind, &bytes).ok()).is_some_and(|value| own(&value) == name)
    }

    /// A file's way and bytes: loose, or else packed.
    fn read(&self, kind: Kind, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>> {
        let path = self.path(kind, name)?;
        match read_regular(&path) {
            Ok(Some(bytes)) => Ok(Some((path, bytes))),
            Ok(None) => Err(StoreError::NotRegular { path, kind }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.packs.read(&self.root, kind, name),
            Err(source) => Err(StoreError::Io { action: "read", path, source }),
        }
    }

    fn write(&self, kind: Kind, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.path(kind, name)?;
        let written = serde_json::to_vec_pretty(value).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            write_atomic(&path, &bytes)
        });
        written.map_err(|source| StoreError::Io { action: "write", path, source })
    }
}
