//! Where a folder has been taken to: its data is made ready, and what was trained goes into one archive.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use np_data::{DataSet, Source};
use np_record::{ArchiveWriter, Part, Plan, Store, StoreError};
use serde_json::Value;

use super::{DATA, Manifest, PARQUET, data, kept};
use crate::{
    error::{Fault, Place, Result},
    planning::asked,
    say::say,
    spec::Request,
    worker::first_line,
};

/// Makes the sets that have come as parquet files, unless that is done already; the data folder, if there is one.
///
/// # Errors
/// Those of reading and writing them.
pub(crate) fn ready(manifest: &Manifest, folder: &Path) -> Result<Option<PathBuf>> {
    let root = folder.join(DATA);
    for &name in &manifest.imports {
        if DataSet::load(name, Source::Full, Some(&root)).is_err() {
            say!("making `{name}` of `{}`", folder.join(PARQUET).join(name.as_str()).display());
            // What a broken import has left.
            let _ = fs::remove_dir_all(root.join(name.as_str()));
            data::import(name, folder)?;
        }
    }
    Ok(root.is_dir().then_some(root))
}

/// The plan that has come along for an experiment, if this program and the data here make the same one of it.
///
/// # Errors
/// A fault if they do not: other runs would be trained than were asked for.
pub(crate) fn checked(request: &Request, store: &Store, data_dir: Option<&Path>) -> Result<Plan> {
    let planned = asked(request, data_dir, store, false)?;
    let place = || Place::File(request.file.clone(), None);
    match store.read_plan(&planned.plan.experiment)? {
        Some(plan) if plan.agrees_with(&planned.plan) => Ok(plan),
        Some(_) => {
            let text = "this program and the data here make other runs of it than the plan that came along";
            Err(Fault::new(place(), text)
                .hint("make the folder anew with `np bundle`, with the same `np` as `--program`")
                .into())
        }
        None => Err(Fault::new(place(), "the folder has no plan of it").hint("make it anew with `np bundle`").into()),
    }
}

/// What went into an archive.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    pub(crate) records: usize,
    pub(crate) snapshots: usize,
    /// Snapshots that were left out, as too large.
    pub(crate) left_out: usize,
    /// Bytes of the archive.
    pub(crate) bytes: u64,
}

/// Packs into one file what was trained of these plans, each with its store: plans, the records that are loose (those that came along are packed), and
/// the latest snapshots of runs that are not done. Snapshots that would make it larger than `limit` bytes are left out, those of runs that
/// are furthest from their end first.
///
/// # Errors
/// What the system says of writing it.
pub(crate) fn pack(plans: &[(Store, Plan)], path: &Path, limit: Option<u64>) -> Result<Packed> {
    let (mut packed, mut seen, mut middle) = (Packed::default(), BTreeSet::new(), Vec::new());
    let mut writer = ArchiveWriter::new(path)?;
    for (store, plan) in plans {
        if let Some(bytes) = store.give_plan(&plan.experiment)? {
            writer.add(Part::Plan, &plan.experiment, &bytes)?;
        }
        for run in plan.runs.iter().filter(|run| seen.insert(run.id.clone())) {
            match store.give_loose(&run.id) {
                Ok(Some((_, bytes))) => {
                    writer.add(Part::Record, &run.id, &bytes)?;
                    packed.records += 1;
                }
                Ok(None) => {}
                Err(error) => say!("warning: left out: {}", first_line(&error.to_string())),
            }
            if !matches!(store.is_done(&run.id), Ok(true)) {
                let epochs = run.config.pointer("/train/epochs").and_then(Value::as_u64).unwrap_or(u64::MAX);
                middle.extend(
                    crate::keeper::Keeper::kept(store, &run.id)
                        .map(|kept| (epochs - (kept as u64).min(epochs), store, &run.id)),
                );
            }
        }
    }
    middle.sort_by_key(|(left, ..)| *left);
    for (_, store, id) in middle {
        let Some(kept) = kept::latest(store, id) else { continue };
        if limit.is_some_and(|limit| writer.length() + kept.bytes.len() as u64 > limit) {
            packed.left_out += 1;
            continue;
        }
        match writer.add(Part::Snapshot, id, &kept.bytes) {
            Ok(_) => packed.snapshots += 1,
            // One that no archive can hold takes no record with it.
            Err(StoreError::NoArchive { .. }) => packed.left_out += 1,
            Err(error) => return Err(error.into()),
        }
    }
    packed.bytes = writer.finish()?;
    Ok(packed)
}
