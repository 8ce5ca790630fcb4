//! Finding what has been trained: a plan and its records, by experiment file or by plan file.

use std::path::{Path, PathBuf};

use np_record::{
    Plan, Reading, Store, StoreError,
    select::{Budget, Rule, Runs, Selection, Split, select},
};

use super::{OverrideArgs, PlaceArgs, again::About};
use crate::{
    Planned, asked,
    data::described,
    error::{Error, Fault, Place, Result},
    origin,
    planning::of_stored,
    rebuild,
    say::{say, say_refused},
    spec::{Request, default_store},
    worker::first_line,
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
    /// What it is trained on and is not the published set of that name, a sentence each.
    pub(super) foreign: Vec<String>,
    /// Why records that are there are not used, a sentence each, without the store's folder.
    pub(super) unused: Vec<String>,
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
    let (store, planned) = find(file, overrides, place)?;
    say_unread(&planned, place);
    let Planned { plan, foreign, .. } = planned;
    let Reading { runs: all, refused: unused } = store.records_of(&plan);
    say_refused(&unused);
    let folder = format!("{}/", store.root().display());
    let told = |error: &StoreError| first_line(&error.to_string()).replace(&folder, "");
    let unused: Vec<String> = unused.iter().map(told).collect();
    let all: Runs = all.into_iter().map(|(run, record)| (run, record.map(described))).collect();
    if all.iter().all(|(_, record)| record.is_none()) {
        if !is_plan(file) {
            // Another file's plan is in the way, and `np run` would say so.
            origin::check(&store, &plan, file)?;
        }
        let fault = Fault::new(Place::File(file.to_owned(), None), "none of its runs has a record yet");
        let hint = match (on_other_data(&plan, &store), About::of(file, &plan, overrides, place)) {
            (true, _) => "the store's runs of it are on other data: name that folder with `--data-dir`".to_owned(),
            (false, Some(about)) => format!("train them: `{}`", about.command("run")),
            (false, None) => "train them: `np run` takes the experiment's YAML file".to_owned(),
        };
        return Err(fault.hint(hint).into());
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
        return Ok(Source { plan, runs: all.clone(), all, selection: None, foreign, unused });
    };
    let rule = Rule { tuned: tuned.to_vec(), budget, ..Rule::of(&plan, split) };
    let (selection, runs) = select(&rule, &all).map_err(|error| {
        let place = match choose {
            Choose::By(split) => Place::Option(format!("--select {}", split.key())),
            _ => Place::File(file.to_owned(), None),
        };
        refused(place, &error, Some(error.hint()))
    })?;
    Ok(Source { plan, all, runs, selection: Some(selection), foreign, unused })
}

/// An error of np-record with its hint, as a fault.
pub(super) fn refused(place: Place, error: &dyn std::fmt::Display, hint: Option<impl Into<String>>) -> Error {
    Fault::new(place, error.to_string()).hint_if(hint).into()
}

/// Whether a file is a plan, and not an experiment.
fn is_plan(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "json")
}

/// The runs that answer `file`, with their store: those of a plan file, or else those that `np plan` would show.
fn find(file: &Path, overrides: &OverrideArgs, place: &PlaceArgs) -> Result<(Store, Planned)> {
    if is_plan(file) {
        refuse_changes(file, overrides, place)?;
        return stored(file, place);
    }
    let request = overrides.request(file);
    let store = Store::open(folder(&request, place))?;
    let planned = asked(&request, place.data_dir.as_deref(), &store, false)?;
    Ok((store, planned))
}

/// A plan has its runs, its scale and its store: nothing about them can be asked for otherwise.
fn refuse_changes(file: &Path, overrides: &OverrideArgs, place: &PlaceArgs) -> Result<()> {
    let scale = overrides.scale.iter().map(|scale| format!("--scale {scale}"));
    let store = place.store.iter().map(|store| format!("--store {}", store.display()));
    let Some(option) = overrides.request(file).overrides().into_iter().chain(scale).chain(store).next() else {
        return Ok(());
    };
    let text = format!("`{}` is a plan, and what it holds cannot be changed", file.display());
    let hint = "leave the option out, or name the experiment's YAML file instead of the plan";
    Err(Fault::new(Place::Option(option), text).hint(hint).into())
}

/// Says that a data folder was named and does not have the set, so that something else stands in for it.
pub(super) fn say_unread(planned: &Planned, place: &PlaceArgs) {
    if let Some(fault) = planned.unread.as_ref().filter(|_| place.data_dir.is_some()) {
        say!(
            "warning: not of the data folder that is named: {fault}; runs are those of the published data, or of an earlier plan"
        );
    }
}

/// Whether the store has a plan of the same runs on other data.
fn on_other_data(plan: &Plan, store: &Store) -> bool {
    let Ok(Some(kept)) = store.read_plan(&plan.experiment) else { return false };
    let configs = |plan: &Plan| plan.runs.iter().map(|run| run.config.clone()).collect::<Vec<_>>();
    configs(&kept) == configs(plan) && !kept.agrees_with(plan)
}

/// The folder of an experiment's records.
pub(super) fn folder(request: &Request, place: &PlaceArgs) -> PathBuf {
    place.store.clone().unwrap_or_else(|| default_store(&request.file, request.scale()))
}

/// A plan by its file, if its runs are those of the text that it carries, and on the data at hand.
fn stored(path: &Path, place: &PlaceArgs) -> Result<(Store, Planned)> {
    let absolute = std::path::absolute(path).map_err(Error::io(path))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let root = absolute.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let store = Store::open(root)?;
    let inside = absolute.parent().is_some_and(|folder| folder.ends_with("plans"));
    match store.read_plan(&name)? {
        Some(plan) if inside => {
            rebuild::check(&plan, path)?;
            Ok((store, of_stored(plan, path, place.data_dir.as_deref())?))
        }
        _ => {
            let fault = Fault::new(Place::File(path.to_owned(), None), "there is no such plan");
            Err(fault.hint("plans are `STORE/plans/NAME.json`").into())
        }
    }
}
