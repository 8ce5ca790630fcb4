//! The folder where plans and records live, one JSON file each, and everything that can be wrong with such a file.
//!
//! Nothing is ever half written (see [`crate::write_atomic`]) and nothing doubtful is read silently: what a reader gets has the
//! right name, a layout it knows, and the digest that it was written with; and a record is the run that its id names. One damaged file
//! is named and left out, and keeps no other from being read. Stores merge by copying files.

mod error;
mod published;
mod regular;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use error::{Kind, StoreError};
pub use regular::read_regular;

use crate::plan::hex_of;
use crate::select::Runs;
use crate::{Plan, PlannedRun, Record, SCHEMA, can_name, write_atomic};

/// The plans and records below one folder, by convention `experiments/records/SCALE/`:
///
/// ```text
/// plans/EXPERIMENT.json    a Plan
/// runs/ID.json             a Record
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    root: PathBuf,
}

/// The runs of a plan, each with its record where there is one, and what is wrong with those that cannot be used.
#[derive(Debug, Default)]
pub struct Reading {
    /// The runs, in the plan's order; one whose record is refused has none.
    pub runs: Runs,
    /// Why records are refused, a file once.
    pub refused: Vec<StoreError>,
}

type Result<T> = std::result::Result<T, StoreError>;

impl Store {
    /// The store at `root`. A folder that is not there yet is an empty store; it is created with the first file written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if `root` is there and is not a folder.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        match fs::metadata(&root) {
            Ok(meta) if !meta.is_dir() => {
                Err(StoreError::Io { action: "open", path: root, source: io::ErrorKind::NotADirectory.into() })
            }
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { action: "open", path: root, source })
            }
            _ => Ok(Self { root }),
        }
    }

    /// The folder of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the record of run `id` is or would be.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadName`].
    pub fn record_path(&self, id: &str) -> Result<PathBuf> {
        self.path(Kind::Record, id)
    }

    /// Where the plan of `experiment` is or would be.
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
    /// Any [`StoreError`] that names the file: unreadable, malformed, of a newer schema, under a wrong name, of another run than its id says, or
    /// changed since it was written.
    pub fn read_record(&self, id: &str) -> Result<Option<Record>> {
        let Some((path, bytes, record)) = self.read::<Record>(Kind::Record, id)? else { return Ok(None) };
        if record.id != id {
            return Err(StoreError::WrongName { path, field: "id", expected: id.into(), got: record.id });
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
        whole(&path, Kind::Record, id, &bytes, "record_sha256", record.record_sha256.as_deref(), &|| record.digest())?;
        Ok(Some(record))
    }

    /// Writes a record under its id, in place of an older one, with the digest of its whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealed`] if its id or its digest is not that of its content; [`StoreError::Io`], [`StoreError::BadName`].
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let sealed =
            [("id", &record.id, record.own_id()), ("result_sha256", &record.result_sha256, record.digest_result())];
        if let Some((field, expected, got)) = sealed.into_iter().find(|(_, expected, got)| *expected != got) {
            let (id, expected) = (record.id.clone(), expected.clone());
            return Err(StoreError::Unsealed { id, field, expected, got });
        }
        self.write(Kind::Record, &record.id, &Record { record_sha256: Some(record.digest()), ..record.clone() })
    }

    /// The plan of `experiment`; `None` if there is none. Whether it is up to date is another question: [`Plan::stale`].
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] that names the file: unreadable, malformed, of a newer schema, under a wrong name, or changed since it was written.
    pub fn read_plan(&self, experiment: &str) -> Result<Option<Plan>> {
        let Some((path, bytes, plan)) = self.read::<Plan>(Kind::Plan, experiment)? else { return Ok(None) };
        if plan.experiment != experiment {
            let expected = experiment.into();
            return Err(StoreError::WrongName { path, field: "experiment", expected, got: plan.experiment });
        }
        match &plan.spec {
            Some(text) => check(&path, "spec_sha256", &plan.spec_sha256, hex_of(text.as_bytes()))?,
            // Whoever writes a digest writes the text as well, from which the runs can be told.
            None if plan.plan_sha256.is_some() => {
                return Err(StoreError::NoDigest { path, kind: Kind::Plan, field: "spec" });
            }
            None => {}
        }
        whole(&path, Kind::Plan, experiment, &bytes, "plan_sha256", plan.plan_sha256.as_deref(), &|| plan.digest())?;
        Ok(Some(plan))
    }

    /// Writes a plan under its experiment's name, in place of an older one, with the digest of its whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoDigest`] if it lacks its text and would be refused when read again; [`StoreError::Io`], [`StoreError::BadName`].
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

    /// Every run of `plan`, in the plan's order, with its record where there is one that can be used.
    #[must_use]
    pub fn records_of(&self, plan: &Plan) -> Reading {
        let mut reading = Reading::default();
        for run in &plan.runs {
            let record = self.record_of(run).unwrap_or_else(|error| {
                if !plan.runs[..reading.runs.len()].iter().any(|earlier| earlier.id == run.id) {
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
    /// As [`Store::read_record`], and [`StoreError::OtherRun`] if it has another configuration or other data than the plan says.
    pub fn record_of(&self, run: &PlannedRun) -> Result<Option<Record>> {
        let Some(record) = self.read_record(&run.id)? else { return Ok(None) };
        if record.config != run.config || record.data.digest != run.data_digest {
            let got = PlannedRun::id_of(&run.config, &run.data_digest);
            return Err(StoreError::OtherRun { path: self.record_path(&run.id)?, expected: run.id.clone(), got });
        }
        Ok(Some(record))
    }

    /// Gives a damaged file another name, beside its own, so that its place is free and what it holds is not lost; the new name.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::BadName`].
    pub fn set_aside(&self, kind: Kind, name: &str) -> Result<PathBuf> {
        let path = self.path(kind, name)?;
        let named = |n: usize| path.with_extension(format!("json.damaged-{n}"));
        let aside = (1..1000).map(named).find(|aside| aside.symlink_metadata().is_err()).unwrap_or_else(|| named(1000));
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(aside),
            Err(source) => Err(StoreError::Io { action: "set aside", path, source }),
        }
    }

    /// Names of the experiments that have a plan here, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn plans(&self) -> Result<Vec<String>> {
        self.names(Kind::Plan)
    }

    /// Ids of the runs that have a record here, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`] if the folder cannot be listed.
    pub fn ids(&self) -> Result<Vec<String>> {
        self.names(Kind::Record)
    }

    /// Ids of some runs that have a record here, as the system lists them: up to `most`, however many there are.
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
        Ok(names)
    }

    fn listed(&self, kind: Kind, most: usize) -> Result<Vec<String>> {
        let folder = self.root.join(kind.folder());
        let failed = |source| StoreError::Io { action: "list", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() >= most {
                break;
            }
            let file = entry.map_err(failed)?.file_name();
            let stem = file.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(stem.filter(|stem| !stem.starts_with('.')).map(String::from));
        }
        Ok(names)
    }

    fn read<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<(PathBuf, Vec<u8>, T)>> {
        let path = self.path(kind, name)?;
        let bytes = match read_regular(&path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(StoreError::NotRegular { path, kind }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Io { action: "read", path, source }),
        };
        // The schema first: a newer layout may well have keys that ours calls malformed.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let Head { schema } = parse(&path, kind, &bytes)?;
        if schema > SCHEMA {
            return Err(StoreError::NewerSchema { path, got: schema });
        }
        let value = parse(&path, kind, &bytes)?;
        Ok(Some((path, bytes, value)))
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

/// Whether a record of a published run must have its results: not that of a run that failed, which has none; and off x86-64, where the bits may be
/// others, not that of a machine of one's own.
fn is_held(record: &Record) -> bool {
    let own = !cfg!(target_arch = "x86_64") && !record.provenance.machine.os.ends_with("x86_64");
    !own && (record.is_done() || !record.epochs.is_empty())
}

/// Whether a digest that a file says is that of its content.
fn check(path: &Path, field: &'static str, said: &str, got: String) -> Result<()> {
    if said == got {
        return Ok(());
    }
    Err(StoreError::Digest { path: path.to_path_buf(), field, expected: said.into(), got })
}

/// Whether a file is, in all of its parts, what was written: by the digest that it carries, or else by the one that is published for it.
fn whole(
    path: &Path,
    kind: Kind,
    name: &str,
    bytes: &[u8],
    field: &'static str,
    said: Option<&str>,
    digest: &dyn Fn() -> String,
) -> Result<()> {
    match (said, published::digest(kind, name)) {
        (Some(said), _) => check(path, field, said, digest()),
        (None, Some(published)) => check(path, "the published SHA-256", published, hex_of(bytes)),
        (None, None) => Err(StoreError::NoDigest { path: path.to_path_buf(), kind, field }),
    }
}

fn parse<T: DeserializeOwned>(path: &Path, kind: Kind, bytes: &[u8]) -> Result<T> {
    let malformed = |place: String, source| StoreError::Malformed { path: path.to_path_buf(), kind, place, source };
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut input).map_err(|e| malformed(e.path().to_string(), e.into_inner()))?;
    input.end().map_err(|e| malformed("end of file".into(), e))?;
    Ok(value)
}
