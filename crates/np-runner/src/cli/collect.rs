//! `np collect`: brings what was trained elsewhere into the store.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use np_record::{Archive, Store};

use super::{print, short};
use crate::{
    Collection,
    bundle::plans_in,
    error::{Fault, Place, Result},
    say::{count, say},
    spec::default_store,
};

/// Bring the archives that `run.sh` of a bundle has left into the store
///
/// Records pass the checks of any record. Snapshots are put where `np run` finds them and goes on, unless the store's own is as far. A run of
/// which the store has other results is refused, and named. An archive that is damaged is an error, and nothing of any archive is taken then. To do it again
/// changes nothing. An archive is believed as a record is: it shows what was changed since, and not who made it.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Example:
  np collect fig5/results.archive")]
pub(super) struct Args {
    /// The archives
    #[arg(required = true, value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// Folder of plans and records [default: `experiments/records/SCALE` in or above the current folder, else `records/SCALE`]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

pub(super) fn collect(args: &Args) -> Result<ExitCode> {
    let store = store(args)?;
    let done = crate::collect(&args.archives, &store)?;
    let mut refused = 0;
    for Collection { path, new, known, refused: those, notes } in &done {
        let told = |counts: &[usize; 3]| {
            let words = ["plan", "record", "snapshot"];
            let parts: Vec<String> =
                counts.iter().zip(words).filter(|(n, _)| **n > 0).map(|(n, word)| count(*n, word)).collect();
            if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
        };
        print(&format!("{}: new: {}; known: {}; refused: {}\n", short(path), told(new), told(known), those.len()))?;
        notes.iter().for_each(|note| say!("note: {note}"));
        those.iter().for_each(|why| say!("refused: {why}"));
        refused += those.len();
    }
    say!("records are in `{}`", short(store.root()));
    Ok(if refused > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The store that is named, or else that of the archives' scale.
fn store(args: &Args) -> Result<Store> {
    if let Some(folder) = &args.store {
        return Ok(Store::open(folder)?);
    }
    let mut scales = BTreeSet::new();
    let nowhere = Store::open("")?;
    for path in &args.archives {
        scales.extend(plans_in(&Archive::open(path)?, &nowhere)?.0.into_values().map(|plan| plan.scale));
    }
    let mut scales = scales.into_iter();
    match (scales.next(), scales.next()) {
        (Some(scale), None) => Ok(Store::open(default_store(Path::new("archive"), &scale))?),
        (first, _) => {
            let found = if first.is_some() { "plans of several scales" } else { "no sound plan" };
            let place = Place::File(args.archives.first().cloned().unwrap_or_default(), None);
            let fault = Fault::new(place, format!("expected plans of one scale, got {found}"));
            Err(fault.hint("name the store with `--store DIR`").into())
        }
    }
}
