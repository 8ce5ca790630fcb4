//! `np status`: how it is with every run, whoever trains it.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use np_record::{Store, compare::Format};

use super::{OverrideArgs, PlaceArgs, on_foreign, print, short, show::stores, source::say_unread};
use crate::{
    Planned, asked,
    error::{Error, Fault, Place, Result, told},
    launch::slurm::Queue,
    planning::of_stored,
    rebuild,
    say::say,
    spec::default_store,
    status::{render, status as status_of, totals},
};

/// Show how it is with every run: done, diverged, failed and why, running, queued, interrupted, or missing
///
/// Records, locks and snapshots tell, and Slurm's queue where there is one. Of a run under way, or interrupted, the epochs are those that are kept.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np status experiments/fig2-sanity.yaml
  np status --store experiments/records/cpu --format csv")]
pub(super) struct Args {
    /// The experiment, a YAML file [default: every plan of the store]
    file: Option<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// How to print it; csv and json hold raw values
    #[arg(long, default_value = Format::default().key(), value_parser = PossibleValuesParser::new(Format::ALL.map(Format::key)))]
    format: String,
}

pub(super) fn status(args: &Args) -> Result<ExitCode> {
    let mut rows = Vec::new();
    let mut said = Vec::new();
    for (store, plans) in plans(args)? {
        let queue = if Queue::concerns(&store) { Queue::of(&store) } else { Ok(None) };
        let queue = queue.unwrap_or_else(|error| {
            say!("note: the queue is not known: {}", told(&error, error.hint()));
            None
        });
        for Planned { plan, foreign, .. } in plans {
            let of_plan = status_of(&plan, &store, queue.as_ref())?;
            let (name, scale, folder) = (&plan.experiment, &plan.scale, short(store.root()));
            said.push(format!("{name} ({scale}): {}, records in `{folder}`{}", totals(&of_plan), on_foreign(&foreign)));
            rows.extend(of_plan);
        }
    }
    print(&render(&rows, args.format.parse().unwrap_or_default()))?;
    for line in said {
        say!("{line}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The plans to look at, by store.
fn plans(args: &Args) -> Result<Vec<(Store, Vec<Planned>)>> {
    if let Some(file) = &args.file {
        let request = args.overrides.request(file);
        let folder = args.place.store.clone().unwrap_or_else(|| default_store(file, request.scale()));
        let store = Store::open(folder)?;
        let planned = asked(&request, args.place.data_dir.as_deref(), &store, true)?;
        say_unread(&planned, &args.place);
        return Ok(vec![(store, vec![planned])]);
    }
    let scale = args.overrides.scale.iter().map(|scale| format!("--scale {scale}"));
    if let Some(option) = args.overrides.request(Path::new("")).overrides().into_iter().chain(scale).next() {
        let fault = Fault::new(Place::Option(option), "there is no experiment that it is about");
        return Err(fault.hint("name the experiment's YAML file as well, or leave the option out").into());
    }
    let folders = args.place.store.clone().map_or_else(stores, |folder| vec![folder]);
    let all = |folder| {
        let store = Store::open(folder)?;
        let mut plans = Vec::new();
        for name in store.plans()? {
            let read = store.read_plan(&name).map_err(Error::from);
            let checked = read.and_then(|plan| {
                let Some(plan) = plan else { return Ok(None) };
                let path = store.plan_path(&name)?;
                rebuild::check(&plan, &path)?;
                // What it was trained on, whatever is at hand now.
                of_stored(plan, &path, None).map(Some)
            });
            // One that cannot be used keeps no other from being shown.
            match checked {
                Ok(plan) => plans.extend(plan),
                Err(error) => say!("warning: not used: {}", told(&error, error.hint())),
            }
        }
        Ok((store, plans))
    };
    folders.into_iter().map(all).collect()
}
