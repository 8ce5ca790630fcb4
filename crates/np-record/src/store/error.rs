//! What can be wrong with a file of a store, in words that name it; a hint apart from them says what mends it.

use std::io;
use std::path::{Path, PathBuf};

use crate::SCHEMA;

/// An error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// An error of the operating system.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The attempted action (`read`, `write`, `list`).
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is truncated, is not JSON, or does not have the layout of its kind.
    #[error("`{}` is not a whole {kind}: at `{place}`: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The kind of file that was expected.
        kind: Kind,
        /// The key at which reading stopped (`epochs[3].train_loss`).
        place: String,
        /// What was expected and found, with line and column.
        source: serde_json::Error,
    },
    /// The file was written by a newer version of this project.
    #[error("`{}` has schema `{got}`, this build reads up to `{SCHEMA}`", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        got: u32,
    },
    /// The file was renamed, or copied to the wrong place.
    #[error("`{}` says `{field}: {got}`, its name says `{expected}`", path.display())]
    WrongName {
        /// The file.
        path: PathBuf,
        /// The key that names it (`id`, `experiment`).
        field: &'static str,
        /// The name of the file.
        expected: String,
        /// The name in its content.
        got: String,
        /// Whether an intact file has the name in its content already.
        taken: bool,
    },
    /// The record is not that of its id: its configuration, data and semantics give another id.
    #[error("`{}` is not of the run `{expected}`: its configuration, data and semantics are those of `{got}`", path.display())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The id that it has.
        expected: String,
        /// The id that its content gives.
        got: String,
    },
    /// The file was edited, or is damaged but still JSON.
    #[error("`{}` was changed after it was written: `{field}` is `{expected}`, its content gives `{got}`", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The key of the digest.
        field: &'static str,
        /// The digest in the file.
        expected: String,
        /// The digest of its content.
        got: String,
    },
    /// The file has no digest of itself, and none is published for it.
    #[error("`{}` is a {kind} without `{field}`: nobody can tell whether it was changed", path.display())]
    NoDigest {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: Kind,
        /// The missing key.
        field: &'static str,
    },
    /// The record has other results than those published for its run, although a run always gives the same bits.
    #[error("`{}` has other results than were published for the run `{id}`: `result_sha256` is `{got}`, and not `{expected}`", path.display())]
    OtherResult {
        /// The file.
        path: PathBuf,
        /// The run's id.
        id: String,
        /// The published digest.
        expected: String,
        /// The digest of the results in the file.
        got: String,
    },
    /// A pack, or a file in it, is truncated or damaged.
    #[error("`{}` is not a whole pack: at {what}: {source}", path.display())]
    DamagedPack {
        /// The pack, or the pack and the file in it.
        path: PathBuf,
        /// The damaged part: its index, or a file.
        what: String,
        /// The error of decompression.
        source: io::Error,
    },
    /// The file is not an archive, or is truncated or damaged.
    #[error("`{}` is no archive that can be used: {why}", path.display())]
    NoArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
    /// Two records of a run, of which at least one is packed, have different results.
    #[error("`{}` has other results of the run `{id}` than `{}`", path.display(), other.display())]
    Conflict {
        /// One of them.
        path: PathBuf,
        /// The pack with the other.
        other: PathBuf,
        /// The run's id.
        id: String,
    },
    /// A folder, a pipe or a broken link in place of a file. Nothing is read from it.
    #[error("`{}` is no regular file, and no {kind}", path.display())]
    NotRegular {
        /// Its path.
        path: PathBuf,
        /// The kind of file that was expected.
        kind: Kind,
    },
    /// The record is not written, because it would be refused when read.
    #[error("record `{id}` is not written: `{field}` is `{expected}`, its content gives `{got}`")]
    Unsealed {
        /// The record's id.
        id: String,
        /// The key of the id or digest.
        field: &'static str,
        /// Its value in the record.
        expected: String,
        /// The value that the content gives.
        got: String,
    },
    /// An id or name that cannot be the name of a file.
    #[error("`{name}` cannot name a {kind}: only letters, digits, `-`, `_` and inner points can")]
    BadName {
        /// The kind of file.
        kind: Kind,
        /// The name.
        name: String,
    },
}

/// What mends a file that can be made again.
const AGAIN: &str = "`np run` sets it aside and makes it anew";

impl StoreError {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { source, .. } => of_refusal(source),
            Self::Malformed { .. }
            | Self::OtherRun { .. }
            | Self::Digest { .. }
            | Self::OtherResult { .. }
            | Self::NotRegular { .. }
            | Self::NoDigest { kind: Kind::Plan | Kind::Pack, .. } => Some(AGAIN),
            Self::NoDigest { kind: Kind::Record, .. } => Some(
                "made by an earlier version: its description is not under a digest; `np run` sets it aside and trains the run anew, that version still reads it",
            ),
            Self::NewerSchema { .. } => Some("update this checkout, or delete the file and run again"),
            Self::WrongName { taken: true, .. } => {
                Some("remove it: what has that name is sound; `np run` sets it aside and makes it anew")
            }
            Self::WrongName { taken: false, .. } => {
                Some("give it its own name back; `np run` sets it aside and makes it anew")
            }
            Self::DamagedPack { .. } => {
                Some("copy it there again; else `np run` sets it aside and makes anew what it held")
            }
            Self::NoArchive { .. } => Some("copy it again from where it was made"),
            Self::Conflict { .. } => {
                Some("a run has one result: remove the one that was changed; `np run` sets the first aside")
            }
            Self::Unsealed { .. } | Self::BadName { .. } => None,
        }
    }
}

impl StoreError {
    /// Whether the file itself is damaged, so that it may be set aside and made again. `false` for errors of the system and for files of a newer
    /// version.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Malformed { .. }
            | Self::WrongName { .. }
            | Self::OtherRun { .. }
            | Self::Digest { .. }
            | Self::NoDigest { .. }
            | Self::OtherResult { .. }
            | Self::DamagedPack { .. }
            | Self::Conflict { .. }
            | Self::NotRegular { .. } => true,
            // An archive is no file of the store.
            Self::Io { .. }
            | Self::NewerSchema { .. }
            | Self::NoArchive { .. }
            | Self::Unsealed { .. }
            | Self::BadName { .. } => false,
        }
    }
}

impl StoreError {
    /// The pack that cannot be looked into, if that is the trouble.
    pub(super) fn damaged_pack(&self) -> Option<&Path> {
        let (Self::DamagedPack { path, .. }
        | Self::Malformed { path, .. }
        | Self::WrongName { path, .. }
        | Self::NotRegular { path, .. }) = self
        else {
            return None;
        };
        path.extension().is_some_and(|extension| extension == "gz").then_some(path)
    }
}

/// What mends a refusal of the operating system, where that is known.
fn of_refusal(refusal: &io::Error) -> Option<&'static str> {
    match refusal.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Some("make room and give the same command again; what is written stays")
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            Some("let this user read and write there, or use another folder; what is written stays")
        }
        _ => None,
    }
}

/// A kind of file in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A [`crate::Plan`], in `plans/`.
    Plan,
    /// A [`crate::Record`], in `runs/`.
    Record,
    /// A plan and its records in one compressed file, in `packs/`.
    Pack,
}

impl Kind {
    pub(super) fn folder(self) -> &'static str {
        match self {
            Kind::Plan => "plans",
            Kind::Record => "runs",
            Kind::Pack => "packs",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Plan => "plan",
            Kind::Record => "record",
            Kind::Pack => "pack",
        })
    }
}
