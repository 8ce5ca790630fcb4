//! What can be wrong with a file of a store, in words that name it and say what mends it.

use std::io;
use std::path::{Path, PathBuf};

use crate::SCHEMA;

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
    #[error("`{}` is not a whole {kind}: at `{place}`: {source}{}", path.display(), again())]
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
    #[error("`{}` says `{field}: {got}`, its name says `{expected}`\nhint: {}; `np run` sets it aside and makes it anew", path.display(), own_name(*taken))]
    WrongName {
        /// The file.
        path: PathBuf,
        /// The key that names it (`id`, `experiment`).
        field: &'static str,
        /// From the file's name.
        expected: String,
        /// From its content.
        got: String,
        /// Whether a sound file has that name already.
        taken: bool,
    },
    /// A record of another run than the one that its id names: configuration, data and semantics give another id.
    #[error("`{}` is not of the run `{expected}`: its configuration, data and semantics are those of `{got}`{}", path.display(), again())]
    OtherRun {
        /// The file.
        path: PathBuf,
        /// The id that it is filed under.
        expected: String,
        /// The id that it should have.
        got: String,
    },
    /// A file that was edited, or damaged in a way that is still JSON.
    #[error("`{}` was changed after it was written: `{field}` is `{expected}`, its content gives `{got}`{}", path.display(), again())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The key that says the digest.
        field: &'static str,
        /// The digest that the file says.
        expected: String,
        /// The digest of what it holds.
        got: String,
    },
    /// A file without a digest of its whole, and none is published for it.
    #[error("`{}` is a {kind} without `{field}`: nobody can tell whether it was changed\nhint: {}", path.display(), earlier(*kind))]
    NoDigest {
        /// The file.
        path: PathBuf,
        /// What it is.
        kind: Kind,
        /// The key that is missing.
        field: &'static str,
    },
    /// A record with other results than were published for its run, which gives the same bits whoever makes it.
    #[error("`{}` has other results than were published for the run `{id}`: `result_sha256` is `{got}`, and not `{expected}`{}", path.display(), again())]
    OtherResult {
        /// The file.
        path: PathBuf,
        /// The run's id.
        id: String,
        /// The published digest.
        expected: String,
        /// The digest of what the file holds.
        got: String,
    },
    /// A pack that is cut short or damaged; or a file in it.
    #[error("`{}` is not a whole pack: at {what}: {source}{}", path.display(), restore())]
    DamagedPack {
        /// The pack, and the file in it.
        path: PathBuf,
        /// Its index, or a file's place.
        what: String,
        /// What the reader of gzip said.
        source: io::Error,
    },
    /// A file that is no archive, or one that is cut short or damaged.
    #[error("`{}` is no archive that can be used: {why}\nhint: copy it again from where it was made", path.display())]
    NoArchive {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the place in it.
        why: String,
    },
    /// A loose record and a packed one of a run, or two packed ones, with different results.
    #[error("`{}` has other results of the run `{id}` than `{}`\nhint: a run has one result: remove the one that was changed; `np run` sets the first aside", path.display(), other.display())]
    Conflict {
        /// The one.
        path: PathBuf,
        /// The pack that has the other.
        other: PathBuf,
        /// The run's id.
        id: String,
    },
    /// A folder, a pipe, or a link that leads nowhere, in a file's place. Nothing is read from it.
    #[error("`{}` is no regular file, and no {kind}{}", path.display(), again())]
    NotRegular {
        /// What is there.
        path: PathBuf,
        /// What was expected there.
        kind: Kind,
    },
    /// A record that would be refused when read again.
    #[error("record `{id}` is not written: `{field}` is `{expected}`, its content gives `{got}`")]
    Unsealed {
        /// The record's id.
        id: String,
        /// The key that says the digest.
        field: &'static str,
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

/// What mends a file under another's name.
fn own_name(taken: bool) -> &'static str {
    if taken { "remove it: what has that name is sound" } else { "give it its own name back" }
}

/// What mends a damaged file.
fn again() -> &'static str {
    "\nhint: `np run` sets it aside and makes it anew"
}

/// What mends a damaged pack.
fn restore() -> &'static str {
    "\nhint: copy it there again; else `np run` sets it aside and makes anew what it held"
}

/// What mends a file that lacks what later versions write.
fn earlier(kind: Kind) -> &'static str {
    match kind {
        Kind::Plan | Kind::Pack => "`np run` sets it aside and makes it anew",
        Kind::Record => {
            "made by an earlier version: its description is not under a digest; `np run` sets it aside and trains the run anew, that version still reads it"
        }
    }
}

impl StoreError {
    /// Whether the file itself is the trouble, so that it may be set aside and made anew; not where the system refuses, or where the file is of a
    /// newer version.
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

/// The kinds of files in a store.
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
