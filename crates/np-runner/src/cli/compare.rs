//! `np compare`: two arms against each other, paired by seed.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use np_record::{
    Plan, Store,
    compare::{Comparison, Format, Metric, Question},
    stats::Bootstrap,
};

use super::{OverrideArgs, PlaceArgs, print};
use crate::{
    error::{Error, Fault, Place, Result, list, suggest},
    plan,
    say::say,
    spec::{Request, default_store},
};

/// Compare the arms of an experiment, paired by seed: differences, intervals, exact tests
///
/// Each arm is compared with one of them, `--against`: by default the first arm is, as the one in question, compared with each other one.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np compare experiments/fig2-sanity.yaml
  np compare experiments/fig3-low-data.yaml --metric final-train-loss --format markdown
  np compare experiments/records/cpu/plans/fig2-sanity.json --against gradient-only
  np compare experiments/zoo.yaml --costs")]
pub(super) struct Args {
    /// An experiment, or a plan in a store (`STORE/plans/NAME.json`)
    #[arg(value_name = "FILE|PLAN")]
    source: PathBuf,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// The number that runs are judged by
    #[arg(long, default_value = Metric::default().key(), value_parser = PossibleValuesParser::new(Metric::ALL.map(Metric::key)))]
    metric: String,
    /// How to print it; csv and json hold raw values
    #[arg(long, default_value = Format::default().key(), value_parser = PossibleValuesParser::new(Format::ALL.map(Format::key)))]
    format: String,
    /// Say what each arm reaches and costs, instead of comparing: accuracy, time of the optimizer, size of its state
    #[arg(long, conflicts_with_all = ["against", "metric"])]
    costs: bool,
    /// Compare every other arm with this one
    #[arg(long, value_name = "ARM")]
    against: Option<String>,
}

pub(super) fn compare(args: &Args) -> Result<ExitCode> {
    let (store, plan) = find(args)?;
    let runs = store.records_of(&plan)?;
    if runs.iter().all(|(_, record)| record.is_none()) {
        let fault = Fault::new(Place::File(args.source.clone(), None), "none of its runs has a record yet");
        return Err(fault.hint(format!("train them: `np run {}`", args.source.display())).into());
    }
    let format: Format = args.format.parse().unwrap_or_default();
    if args.costs {
        print(&crate::costs::render(&crate::costs::costs(&runs), format))?;
        return Ok(ExitCode::SUCCESS);
    }
    let arms = plan.arms();
    let pairs: Vec<(&str, &str)> = match &args.against {
        Some(baseline) if !arms.contains(&baseline.as_str()) => {
            let place = Place::Option(format!("--against {baseline}"));
            return Err(Fault::new(place, "there is no such arm").hint_if(suggest(baseline, arms)).into());
        }
        Some(baseline) => arms.iter().filter(|arm| *arm != baseline).map(|arm| (*arm, baseline.as_str())).collect(),
        None => arms.iter().skip(1).map(|baseline| (arms[0], *baseline)).collect(),
    };
    if pairs.is_empty() {
        let place = Place::File(args.source.clone(), None);
        let fault = Fault::new(place, format!("nothing to compare: there is one arm, {}", list(&arms)));
        let hint = match args.overrides.arm.is_empty() {
            true => "give the experiment another arm",
            false => "leave out `--arm`, or name two",
        };
        return Err(fault.hint(hint).into());
    }
    let metric: Metric = args.metric.parse().unwrap_or_default();
    let mut parts = Vec::new();
    for (arm, baseline) in pairs {
        let question =
            Question { arm: arm.to_owned(), baseline: baseline.to_owned(), metric, bootstrap: Bootstrap::default() };
        parts.push(Comparison::new(question, &runs).map_err(|error| {
            let text = error.to_string();
            let (problem, hint) = text.split_once("\nhint: ").map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
            Error::from(Fault::new(Place::File(args.source.clone(), None), problem).hint_if(hint.map(str::to_owned)))
        })?);
    }
    Comparison::adjust_together(&mut parts);
    print(&render(&parts, format))?;
    if parts.iter().flat_map(|part| &part.groups).all(|group| group.difference.is_none()) {
        say!(
            "nothing to compare: no seed has a finished run of both arms\n  hint: `np plan {file}` shows what is there, `np run {file}` trains what is missing",
            file = args.source.display()
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// One text for all comparisons: one table under one header in CSV, one array in JSON where there is more than one.
fn render(parts: &[Comparison], format: Format) -> String {
    let texts: Vec<String> = parts.iter().map(|part| part.render(format)).collect();
    match format {
        Format::Csv => {
            let rest = texts.iter().skip(1).flat_map(|text| text.split_inclusive('\n').skip(1));
            texts.iter().take(1).map(String::as_str).chain(rest).collect()
        }
        Format::Json if texts.len() > 1 => {
            format!("[\n{}\n]\n", texts.iter().map(|text| text.trim_end()).collect::<Vec<_>>().join(",\n"))
        }
        _ => texts.join("\n"),
    }
}

/// The plan to compare, with its store: a plan file, the store's plan of an experiment while it is up to date, or one made anew.
fn find(args: &Args) -> Result<(Store, Plan)> {
    if args.source.extension().is_some_and(|extension| extension == "json") {
        return stored(&args.source);
    }
    let request = args.overrides.request(&args.source);
    let folder = args.place.store.clone().unwrap_or_else(|| default_store(&args.source, request.scale()));
    let store = Store::open(folder)?;
    if let Some(plan) = up_to_date(&request, &store)? {
        return Ok((store, plan));
    }
    Ok((store, plan(&request, args.place.data_dir.as_deref())?.plan))
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
