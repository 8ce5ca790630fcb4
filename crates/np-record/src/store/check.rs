//! Checks that a file is as it was written, and sets damaged files aside.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Kind, StoreError};
use super::{Result, published};
use crate::plan::hex_of;
use crate::{Record, SCHEMA};

/// Whether a record of a published run must have its results: not that of a run that failed, which has none; and off x86-64, where the bits may be
/// others, not that of a machine of one's own.
pub(super) fn is_held(record: &Record) -> bool {
    let own = !cfg!(target_arch = "x86_64") && !record.provenance.machine.os.ends_with("x86_64");
    !own && (record.is_done() || !record.epochs.is_empty())
}

/// Whether a digest that a file says is that of its content.
pub(super) fn check(path: &Path, field: &'static str, said: &str, got: String) -> Result<()> {
    if said == got {
        return Ok(());
    }
    Err(StoreError::Digest { path: path.to_path_buf(), field, expected: said.into(), got })
}

/// Whether a file is, in all of its parts, what was written: by the digest that it carries, or else by the one that is published for it.
pub(super) fn whole(
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

/// Gives a file the first free name of those that damaged ones have.
pub(super) fn rename_aside(path: &Path) -> Result<PathBuf> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".damaged-");
    let named = |n: usize| {
        let mut name = name.clone();
        name.push(n.to_string());
        path.with_file_name(name)
    };
    let aside = (1..1000).map(named).find(|aside| aside.symlink_metadata().is_err()).unwrap_or_else(|| named(1000));
    match fs::rename(path, &aside) {
        Ok(()) => Ok(aside),
        Err(source) => Err(StoreError::Io { action: "set aside", path: path.into(), source }),
    }
}

/// A file of a layout that this version knows.
pub(super) fn known<T: DeserializeOwned>(path: &Path, kind: Kind, bytes: &[u8]) -> Result<T> {
    // The schema first: a newer layout may well have keys that ours calls malformed.
    #[derive(Deserialize)]
    struct Head {
        schema: u32,
    }
    let Head { schema } = parse(path, kind, bytes)?;
    if schema > SCHEMA {
        return Err(StoreError::NewerSchema { path: path.into(), got: schema });
    }
    parse(path, kind, bytes)
}

pub(super) fn parse<T: DeserializeOwned>(path: &Path, kind: Kind, bytes: &[u8]) -> Result<T> {
    let malformed = |place: String, source| StoreError::Malformed { path: path.to_path_buf(), kind, place, source };
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let value =
        serde_path_to_error::deserialize(&mut input).map_err(|e| malformed(e.path().to_string(), e.into_inner()))?;
    input.end().map_err(|e| malformed("end of file".into(), e))?;
    Ok(value)
}
