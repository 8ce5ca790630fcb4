//! The folder where plans and records live, one JSON file each, and everything that can be wrong with such a file.
//!
//! Nothing is ever half written (see [`crate::write_atomic`]) and nothing doubtful is read silently: what a reader gets has the
//! right name, a layout it knows, and the digest that it was written with. Stores merge by copying files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{Plan, PlannedRun, Record, SCHEMA, write_atomic};

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

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried (`read`, `write`, `list`).
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is cut short, is not JSON, or holds something else than its place says.
    #[error("`{}` is not a whole {kind}: at `{place}`: {source}\nhint: delete it and run again", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected there.
        kind: Kind,
        /// The key at which reading stopped (`epochs[3].train_loss`).
        place: String,
        /// What was expected and found, with line and column.
        source: serde_json::Error,
    },
    /// Written by a newer version of this project.
    #[error("`{}` has schema `{got}`, this build reads up to `{SCHEMA}`\nhint: update this checkout, or delete the file and run again", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The schema that it says.
        got: u32,
    },
    /// A file that was renamed, or copied to the wrong place.
    #[error("`{}` says `{field}: {got}`, its name says `{expected}`\nhint: give it its own name back, or delete it and run again", path.display())]
    WrongName {
        /// The file.
        path: PathBuf,
        /// The key that names it (`id`, `experiment`).
        field: &'static str,
        /// From the file's name.
        expected: String,
        /// From its content.
        got: String,
    },
    /// A record that was edited, or damaged in a way that is still JSON.
    #[error("`{}` was changed after it was written: `result_sha256` is `{expected}`, its content gives `{got}`\nhint: delete it and run again", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The digest that the file says.
        expected: String,
        /// The digest of what it holds.
        got: String,
    },
    /// A record that would be refused when read again.
    #[error("record `{id}` is not written: `result_sha256` is `{expected}`, its content gives `{got}`")]
    Unsealed {
        /// The record's id.
        id: String,
        /// The digest that it says.
        expected: String,
        /// The digest of what it holds.
        got: String,
    },
    /// An id or a name that cannot be a file's name.
    #[error("`{name}` cannot name a {kind}: only letters, digits, `-`, `_` and inner points can")]
    BadName {
        /// What was to be named.
        kind: Kind,
        /// The name.
        name: String,
    },
}

/// What mends a refusal of the operating system, where that is known.
fn hint(refusal: &io::Error) -> &'static str {
    match refusal.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "\nhint: make room and give the same command again; what is written stays"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "\nhint: let this user read and write there, or use another folder; what is written stays"
        }
        _ => "",
    }
}

/// The two kinds of files in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A [`Plan`], in `plans/`.
    Plan,
    /// A [`Record`], in `runs/`.
    Record,
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Kind::Plan => "plans",
            Kind::Record => "runs",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Plan => "plan",
            Kind::Record => "record",
        })
    }
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
    /// Any [`StoreError`] that names the file: unreadable, malformed, of a newer schema, under a wrong name, or changed.
    pub fn read_record(&self, id: &str) -> Result<Option<Record>> {
        let Some((path, record)) = self.read::<Record>(Kind::Record, id)? else { return Ok(None) };
        if record.id != id {
            return Err(StoreError::WrongName { path, field: "id", expected: id.into(), got: record.id });
        }
        let got = record.digest_result();
        if record.result_sha256 != got {
            return Err(StoreError::Digest { path, expected: record.result_sha256, got });
        }
        Ok(Some(record))
    }

    /// Writes a record under its id, in place of an older one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unsealed`] if its digest is not that of its content; [`StoreError::Io`], [`StoreError::BadName`].
    pub fn write_record(&self, record: &Record) -> Result<()> {
        let got = record.digest_result();
        if record.result_sha256 != got {
            let (id, expected) = (record.id.clone(), record.result_sha256.clone());
            return Err(StoreError::Unsealed { id, expected, got });
        }
        self.write(Kind::Record, &record.id, record)
    }

    /// The plan of `experiment`; `None` if there is none. Whether it is up to date is another question: [`Plan::stale`].
    ///
    /// # Errors
    ///
    /// Any [`StoreError`] that names the file: unreadable, malformed, of a newer schema, or under a wrong name.
    pub fn read_plan(&self, experiment: &str) -> Result<Option<Plan>> {
        let Some((path, plan)) = self.read::<Plan>(Kind::Plan, experiment)? else { return Ok(None) };
        if plan.experiment != experiment {
            let expected = experiment.into();
            return Err(StoreError::WrongName { path, field: "experiment", expected, got: plan.experiment });
        }
        Ok(Some(plan))
    }

    /// Writes a plan under its experiment's name, in place of an older one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Io`], [`StoreError::BadName`].
    pub fn write_plan(&self, plan: &Plan) -> Result<()> {
        self.write(Kind::Plan, &plan.experiment, plan)
    }

    /// Whether run `id` has a record and need not be trained again ([`Record::is_done`]).
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn is_done(&self, id: &str) -> Result<bool> {
        Ok(self.read_record(id)?.is_some_and(|record| record.is_done()))
    }

    /// Every run of `plan`, in the plan's order, with its record where there is one.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn records_of(&self, plan: &Plan) -> Result<Vec<(PlannedRun, Option<Record>)>> {
        plan.runs.iter().map(|run| Ok((run.clone(), self.read_record(&run.id)?))).collect()
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

    fn path(&self, kind: Kind, name: &str) -> Result<PathBuf> {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if name.is_empty() || !plain || name.starts_with('.') || name.ends_with('.') {
            return Err(StoreError::BadName { kind, name: name.into() });
        }
        Ok(self.root.join(kind.folder()).join(format!("{name}.json")))
    }

    fn names(&self, kind: Kind) -> Result<Vec<String>> {
        let folder = self.root.join(kind.folder());
        let failed = |source| StoreError::Io { action: "list", path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let file = entry.map_err(failed)?.file_name();
            let stem = file.to_str().and_then(|name| name.strip_suffix(".json"));
            names.extend(stem.filter(|stem| !stem.starts_with('.')).map(String::from));
        }
        names.sort();
        Ok(names)
    }

    fn read<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<(PathBuf, T)>> {
        let path = self.path(kind, name)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
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
        Ok(Some((path, value)))
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

fn parse<T: DeserializeOwned>(path: &Path, kind: Kind, bytes: &[u8]) -> Result<T> {
    let malformed = |place: String, source| StoreError::Malformed { path: path.to_path_buf(), kind, place, source };
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut input).map_err(|e| malformed(e.path().to_string(), e.into_inner()))?;
    input.end().map_err(|e| malformed("end of file".into(), e))?;
    Ok(value)
}
