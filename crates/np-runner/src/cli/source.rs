//! Finding what has been trained: a plan and its records, by experiment file or by plan file.

use std::path::{Path, PathBuf};

use np_record::{
    Plan, Store,
    select::{Budget, Rule, Runs, Selection, Split, select},
};

use super::{OverrideArgs, PlaceArgs};
use crate::{
    error::{Error, Fault, Place, Result},
    plan,
    spec::{Request, default_store},
};

/// An experiment with its records, tuned arms at their best configuration.
#[derive(Debug)]
pub(super) struct Source {
    /// The plan.
    pub(super) plan: Plan,
    /// All its runs.
    pub(super) all: Runs,
    /// Those that are compared; after a selection those of the chosen configurations.
    pub(super) runs: Runs,
    /// How the runs were selected.
    pub(super) selection: Option<Selection>,
}

/// What is to be selected, as asked for.
#[derive(Debug, Clone, Default)]
pub(super) enum Choose {
    /// As the experiment says.
    #[default]
    AsWritten,
    /// Nothing, whatever it says.
    Nothing,
    /// By this split.
    By(Split),
}

/// Reads an experiment's records and selects among them.
///
/// # Errors
/// A fault where there is no record, or nothing to select.
pub(super) fn read(
    file: &Path,
    overrides: &OverrideArgs,
    place: &PlaceArgs,
    choose: &Choose,
    tuned: &[String],
    budget: Budget,
) -> Result<Source> {
    let (store, plan) = find(file, overrides, place)?;
    let all = store.records_of(&plan)?;
    if all.iter().all(|(_, record)| record.is_none()) {
        let fault = Fault::new(Place::File(file.to_owned(), None), "none of its runs has a record yet");
        return Err(fault.hint(format!("train them: `np run {}`", file.display())).into());
    }
    let split = match choose {
        Choose::AsWritten => plan.selection,
        Choose::Nothing => None,
        Choose::By(split) => Some(*split),
    };
    let Some(split) = split else {
        if !tuned.is_empty() || budget != Budget::Planned {
            let place = Place::Option(if tuned.is_empty() { "--equal-budget" } else { "--tune" }.into());
            return Err(Fault::new(place, "nothing is selected").hint("say `--select validation` as well").into());
        }
        return Ok(Source { plan, runs: all.clone(), all, selection: None });
    };
    let rule = Rule { split, tuned: tuned.to_vec(), budget };
    let (selection, runs) = select(&rule, &all).map_err(|error| {
        let place = match choose {
            Choose::By(split) => Place::Option(format!("--select {}", split.key())),
            _ => Place::File(file.to_owned(), None),
        };
        refused(place, &error)
    })?;
    Ok(Source { plan, all, runs, selection: Some(selection) })
}

/// An error of np-record, whose hint stands on a second line, as a fault.
pub(super) fn refused(place: Place, error: &dyn std::fmt::Display) -> Error {
    let text = error.to_string();
    let (problem, hint) = text.split_once("\nhint: ").map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    Fault::new(place, problem).hint_if(hint.map(str::to_owned)).into()
}

/// The plan of `file`, with its store: a plan file, the store's plan of an experiment while it is up to date, or one made anew.
fn find(file: &Path, overrides: &OverrideArgs, place: &PlaceArgs) -> Result<(Store, Plan)> {
    if file.extension().is_some_and(|extension| extension == "json") {
        return stored(file);
    }
    let request = overrides.request(file);
    let store = Store::open(folder(&request, place))?;
    if let Some(plan) = up_to_date(&request, &store)? {
        return Ok((store, plan));
    }
    Ok((store, plan(&request, place.data_dir.as_deref())?.plan))
}

/// The folder of an experiment's records.
pub(super) fn folder(request: &Request, place: &PlaceArgs) -> PathBuf {
    place.store.clone().unwrap_or_else(|| default_store(&request.file, request.scale()))
}

fn stored(path: &Path) -> Result<(Store, Plan)> {
    let absolute = std::path::absolute(path).map_err(Error::io(path))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let root = absolute.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let store = Store::open(root)?;
    let inside = absolute.parent().is_some_and(|folder| folder.ends_with("plans"));
    match store.read_plan(&name)? {
        Some(plan) if inside => Ok((store, plan)),
        _ => {
            let fault = Fault::new(Place::File(path.to_owned(), None), "there is no such plan");
            Err(fault.hint("plans are `STORE/plans/NAME.json`").into())
        }
    }
}

/// The store's plan of an experiment, if the file has not changed since and nothing is overridden: it needs no data files.
fn up_to_date(request: &Request, store: &Store) -> Result<Option<Plan>> {
    if !request.overrides().is_empty() {
        return Ok(None);
    }
    let (Some(name), Ok(text)) = (request.file.file_stem(), std::fs::read(&request.file)) else { return Ok(None) };
    let plan = store.read_plan(&name.to_string_lossy())?;
    Ok(plan.filter(|plan| plan.scale == request.scale() && plan.stale(&text).is_none()))
}
