//! `np compare`: arms against each other, paired by seed; and other tables of the same runs.

use std::{collections::BTreeSet, path::PathBuf, process::ExitCode};

use clap::{Args as ClapArgs, ValueEnum, builder::PossibleValuesParser};
use np_record::{
    Table,
    compare::{
        Asked, CompareError, Compared, Comparison, Cost, Format, Group, Measure, Metric, Pairs, Problem, Target,
        note_likenesses, pooled, profile, time_to_target, time_to_target_table,
    },
    select::{Budget, Selection, Split},
    stats::Bootstrap,
};
use serde_json::{Map, Value, json};

use super::{
    OverrideArgs, PlaceArgs,
    again::About,
    print,
    source::{Choose, Source, read, refused},
};
use crate::{
    error::{Fault, Place, Result, list, suggest},
    say::say,
    task::known,
};

/// Compare the arms of an experiment, paired by seed: differences, intervals, exact tests
///
/// The pairs that the file fixes under `hypotheses` come first, tested on the `outcome` that it fixes. All other tables are exploratory: each arm against
/// one of them, `--against`, or the first arm against each other one.
/// Where learning rates or other values were swept, `--select` puts each arm at its best configuration first.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np compare experiments/fig2-sanity.yaml
  np compare experiments/fig3-low-data.yaml --metric final-train-loss --format markdown
  np compare experiments/records/cpu/plans/fig2-sanity.json --against gradient-only
  np compare experiments/fig2-sanity.yaml --sweep optimizer.lr=0.3,0.1,0.03 --select test
  np compare experiments/fig2-sanity.yaml --target gradient-only
  np compare experiments/fig2-sanity.yaml experiments/fig3-low-data.yaml --target gradient-only --profile
  np compare experiments/zoo.yaml --costs")]
pub(super) struct Args {
    /// An experiment, or a plan in a store (`STORE/plans/NAME.json`); several with `--profile` only
    #[arg(value_name = "FILE|PLAN", required = true)]
    sources: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// The number that runs are judged by [default: the file's `outcome`, else final-test-accuracy, or final-test-loss of a task without one]
    #[arg(long, value_parser = PossibleValuesParser::new(metrics().map(Metric::key)))]
    metric: Option<String>,
    /// How to print it; csv and json hold raw values
    #[arg(long, default_value = Format::default().key(), value_parser = PossibleValuesParser::new(Format::ALL.map(Format::key)))]
    format: String,
    /// Compare every other arm with this one
    #[arg(long, value_name = "ARM", allow_hyphen_values = true)]
    against: Option<String>,
    /// Put each arm at its best configuration by the accuracy on this split [default: what the file's `selection` says, else nothing]
    #[arg(long, value_name = "SPLIT")]
    select: Option<Select>,
    /// An axis whose values are configurations of an arm [default: every axis of `optimizer`, `options`, `train`]
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    tune: Vec<String>,
    /// Let as many configurations of every arm compete as the arm with the fewest has, drawn by this seed [default seed: 0]
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true, default_missing_value = "0", value_parser = seed)]
    equal_budget: Option<u64>,
    /// Show every configuration that was tried and its score, instead of comparing
    #[arg(long, group = "table")]
    configurations: bool,
    /// Show every arm over all problems: interquartile mean, probability of improvement
    #[arg(long, group = "table")]
    iqm: bool,
    /// Show after how long each arm is first this good: a value (accuracies are shares), or an arm's name for what that one ends at
    #[arg(long, value_name = "VALUE|ARM", allow_hyphen_values = true, conflicts_with_all = ["configurations", "iqm", "costs"])]
    target: Option<String>,
    /// Show how often each arm is within a factor of the best, over problems (data sets, experiments), by this cost [default: steps with
    /// `--target`, else final]
    #[arg(long, value_name = "COST", group = "table", num_args = 0..=1, require_equals = true)]
    profile: Option<Option<ProfileCost>>,
    /// Say what each arm reaches and costs, instead of comparing: accuracy, time of the optimizer, size of its state
    #[arg(long, group = "table", conflicts_with_all = ["against", "metric"])]
    costs: bool,
}

fn seed(text: &str) -> std::result::Result<u64, String> {
    text.parse().map_err(|_| format!("expected a seed, a whole number from 0 to {}", u64::MAX))
}

/// What configurations are judged on.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Select {
    /// Held-out training examples.
    Validation,
    /// The test split, as the paper does.
    Test,
    /// Nothing, whatever the file says.
    None,
}

/// What a profile is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileCost {
    /// Epochs to the target.
    Epochs,
    /// Optimizer steps to the target.
    Steps,
    /// Seconds to the target.
    Seconds,
    /// The final error, or the metric itself where it is none of accuracy.
    Final,
}

pub(super) fn compare(args: &Args) -> Result<ExitCode> {
    let choose = match args.select {
        None => Choose::AsWritten,
        Some(Select::None) => Choose::Nothing,
        Some(Select::Validation) => Choose::By(Split::Validation),
        Some(Select::Test) => Choose::By(Split::Test),
    };
    let budget = args.equal_budget.map_or(Budget::Planned, Budget::Equal);
    let read = |file: &PathBuf| read(file, &args.overrides, &args.place, &choose, &args.tune, budget);
    let sources: Vec<Source> = args.sources.iter().map(read).collect::<Result<_>>()?;
    let format: Format = args.format.parse().unwrap_or_default();
    let measure = measure(args, &sources[0]);
    // What a run reaches on its way is looked at epoch by epoch.
    let metric = measure.metric();
    for remark in sources.iter().flat_map(|source| &source.foreign) {
        say!("warning: {remark}");
    }
    if let Some(cost) = args.profile {
        let mut table = profiles(args, &sources, metric, cost)?;
        sources.iter().for_each(|source| remark(&mut table, source));
        return show(&table, format);
    }
    let [source] = &sources[..] else {
        let fault = Fault::new(Place::Option(args.sources[1].display().to_string()), "a second experiment");
        return Err(fault.hint("several go with `--profile` only; else compare them one by one").into());
    };
    if args.costs {
        let mut notes = Table::default();
        remark(&mut notes, source);
        let mut text = crate::costs::render(&crate::costs::costs(&source.runs), format);
        match format {
            Format::Text | Format::Markdown if !notes.notes.is_empty() => {
                text += &notes.notes.iter().map(|note| format!("\n{note}")).collect::<String>();
                text.push('\n');
            }
            Format::Csv | Format::Json => notes.notes.iter().for_each(|note| say!("{note}")),
            _ => {}
        }
        print(&text)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.configurations {
        let Some(selection) = &source.selection else {
            let fault = Fault::new(Place::Option("--configurations".into()), "nothing is selected");
            return Err(fault.hint("say `--select validation` as well").into());
        };
        return show(&selection.candidates(), format);
    }
    if let Some(text) = &args.target {
        let times = time_to_target(&source.runs, metric, &target(text, source)?)
            .map_err(|error| refused(Place::Option(format!("--target {text}")), &error, Some(error.hint())))?;
        let mut table = time_to_target_table(&times, metric);
        remark(&mut table, source);
        return show(&table, format);
    }
    if args.iqm {
        let arms = source.plan.arms();
        let baseline = against(args, &arms)?.unwrap_or(arms[0]);
        let mut table = pooled(&source.runs, baseline, measure, &Bootstrap::default());
        remark(&mut table, source);
        return show(&table, format);
    }
    comparisons(args, source, measure, format)
}

/// The numbers that can be named: those of every run, and those of the program's own tasks.
fn metrics() -> impl Iterator<Item = Metric> {
    Metric::ALL.into_iter().chain(known().metrics().into_iter().map(Metric::FinalOwn))
}

/// The number that runs are judged by.
fn measure(args: &Args, source: &Source) -> Measure {
    let asked = args.metric.as_ref().and_then(|name| metrics().find(|metric| metric.key() == name));
    asked.map_or_else(|| Measure::usual(&source.plan, &source.runs), Measure::from)
}

/// Says in a table's notes what its runs were trained on, which arms do not differ, and how they were selected.
fn remark(table: &mut Table, source: &Source) {
    for remark in source.foreign.iter().map(|remark| format!("warning: {remark}")) {
        if !table.notes.contains(&remark) {
            table.notes.push(remark);
        }
    }
    note_likenesses(table, &source.runs);
    table.notes.extend(source.selection.iter().flat_map(Selection::remarks));
    // Warnings before the rest.
    table.notes.sort_by_key(|note| !note.starts_with("warning: "));
}

fn show(table: &Table, format: Format) -> Result<ExitCode> {
    print(&table.render(format))?;
    Ok(ExitCode::SUCCESS)
}

/// The arm that others are compared with, if one is named.
fn against<'a>(args: &'a Args, arms: &[&str]) -> Result<Option<&'a str>> {
    match &args.against {
        Some(baseline) if !arms.contains(&baseline.as_str()) => {
            let place = Place::Option(format!("--against {baseline}"));
            Err(Fault::new(place, "there is no such arm").hint_if(suggest(baseline, arms)).into())
        }
        baseline => Ok(baseline.as_deref()),
    }
}

/// A target as typed: a number, or an arm.
fn target(text: &str, source: &Source) -> Result<Target> {
    if let Ok(value) = text.parse() {
        return Ok(Target::Value(value));
    }
    let arms = source.plan.arms();
    if arms.contains(&text) {
        return Ok(Target::Arm(text.to_owned()));
    }
    let fault = Fault::new(Place::Option(format!("--target {text}")), "neither a number nor an arm");
    Err(fault.hint_if(suggest(text, arms)).into())
}

fn profiles(args: &Args, sources: &[Source], metric: Metric, cost: Option<ProfileCost>) -> Result<Table> {
    let target = args.target.as_deref().map(|text| target(text, &sources[0])).transpose()?;
    let cost = match (cost, target) {
        (None | Some(ProfileCost::Steps), Some(target)) => Cost::Steps(target),
        (Some(ProfileCost::Epochs), Some(target)) => Cost::Epochs(target),
        (Some(ProfileCost::Seconds), Some(target)) => Cost::Seconds(target),
        (None | Some(ProfileCost::Final), None) => Cost::Final,
        (Some(ProfileCost::Final), Some(_)) => {
            let fault = Fault::new(Place::Option("--profile=final".into()), "what a run ends at has no target");
            return Err(fault.hint("leave out `--target`, or say `--profile=steps`").into());
        }
        (Some(_), None) => {
            let fault = Fault::new(Place::Option("--profile".into()), "the time to which target?");
            return Err(fault.hint("name it: `--target 0.85`, or an arm, `--target sgd`").into());
        }
    };
    let problems: Vec<Problem<'_>> =
        sources.iter().map(|source| Problem { experiment: &source.plan.experiment, runs: &source.runs }).collect();
    let place = || Place::Option(args.target.as_ref().map_or("--profile".into(), |text| format!("--target {text}")));
    profile(&problems, metric, &cost).map_err(|error| refused(place(), &error, Some(error.hint())))
}

fn comparisons(args: &Args, source: &Source, measure: Measure, format: Format) -> Result<ExitCode> {
    let Source { plan, runs, selection, .. } = source;
    let file = &args.sources[0];
    let arms = plan.arms();
    let pairs = against(args, &arms)?.map_or(Pairs::OfFirst, Pairs::Against);
    if arms.len() < 2 {
        let place = Place::File(file.clone(), None);
        let fault = Fault::new(place, format!("nothing to compare: there is one arm, {}", list(&arms)));
        let hint = match args.overrides.arm.is_empty() {
            true => "give the experiment another arm",
            false => "leave out `--arm`, or name two",
        };
        return Err(fault.hint(hint).into());
    }
    let refuse = |error: CompareError| refused(Place::File(file.clone(), None), &error, error.hint());
    let asked = Asked { measure: Some(measure), pairs, bootstrap: Bootstrap::default() };
    let mut compared = Compared::of(plan, runs, &asked).map_err(refuse)?;
    if let Some(caveat) = selection.as_ref().and_then(Selection::caveat) {
        compared.warn(&caveat);
    }
    let beside = compared.beside(runs).map_err(refuse)?;
    print(&render(&compared, beside.as_ref(), selection.as_ref(), format))?;
    let parts: Vec<&Comparison> = compared.all().collect();
    if parts.iter().flat_map(|part| &part.groups).all(|group| group.difference.is_none()) {
        let about = About::of(file, plan, &args.overrides, &args.place);
        let twins = parts.iter().filter_map(|part| {
            let (arm, other) = (&part.arm, &part.baseline);
            let identical = || format!("`{arm}`: same configuration as `{other}`");
            let same = || format!("`{arm}` and `{other}`: the same results to the bit");
            let any = |test: fn(&Group) -> bool| part.groups.iter().any(test);
            any(|group| group.identical).then(identical).or_else(|| any(|group| group.same_results).then(same))
        });
        let names: Vec<String> = twins.collect();
        if !names.is_empty() {
            let shows = match &about {
                Some(about) => format!("`{}` shows the ids of their runs", about.command("plan")),
                None => "`np report` shows their configurations".to_owned(),
            };
            say!("{}, nothing to compare\n  hint: {shows}", names.join("; "));
            return Ok(ExitCode::FAILURE);
        }
        let axes = |arm: &str| -> BTreeSet<String> {
            let of = runs.iter().filter(|(run, _)| run.arm == arm);
            of.map(|(run, _)| serde_json::to_string(&run.axes).unwrap_or_default()).collect()
        };
        if arms.iter().any(|arm| axes(arm) != axes(arms[0])) {
            say!(
                "nothing to compare: no values of the axes are common to both arms\n  hint: `--select validation` or `--select test` puts each arm at its best"
            );
            return Ok(ExitCode::FAILURE);
        }
        let hint = match &about {
            Some(about) => {
                let (shows, trains) = (about.command("plan"), about.command("run"));
                format!("`{shows}` shows what is there, `{trains}` trains what is missing")
            }
            None => "`np run` of the experiment's YAML file trains what is missing".to_owned(),
        };
        say!("nothing to compare: no seed has a finished run of both arms\n  hint: {hint}");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// One text for all: what was fixed beforehand first, then the rest; one table under one header in CSV.
fn render(compared: &Compared, beside: Option<&Table>, selection: Option<&Selection>, format: Format) -> String {
    let parts: Vec<&Comparison> = compared.all().collect();
    let texts = |parts: &[Comparison]| parts.iter().map(|part| part.render(format)).collect::<Vec<_>>();
    match format {
        Format::Text | Format::Markdown => {
            let mut out: Vec<String> = selection.iter().map(|selection| selection.table().render(format)).collect();
            if !compared.hypotheses.is_empty() {
                out.push(compared.heading() + "\n");
                out.extend(texts(&compared.hypotheses));
            }
            out.extend(compared.untested.iter().map(|lost| format!("warning: {lost}\n")));
            let rest = (!compared.exploratory.is_empty()).then(|| {
                let mut rest = vec![Compared::EXPLORATORY.to_owned() + "\n"];
                rest.extend(texts(&compared.exploratory));
                rest
            });
            let beside = beside.map(|table| table.render(format));
            // Beside the hypotheses or, where there are none, what else is compared.
            let (first, last) = if compared.hypotheses.is_empty() {
                (rest, beside.map(|b| vec![b]))
            } else {
                (beside.map(|b| vec![b]), rest)
            };
            out.extend(first.into_iter().chain(last).flatten());
            out.join("\n")
        }
        Format::Csv => {
            // One table a file: what was chosen goes to people.
            selection.iter().for_each(|selection| say!("{}", selection.table().render(Format::Text)));
            compared.untested.iter().for_each(|lost| say!("warning: {lost}"));
            let all: Vec<String> = parts.iter().map(|part| part.render(format)).collect();
            let rest = all.iter().skip(1).flat_map(|text| text.split_inclusive('\n').skip(1));
            all.iter().take(1).map(String::as_str).chain(rest).collect()
        }
        Format::Json => {
            let whole = match (&parts[..], compared.is_outcome, selection) {
                ([one], false, None) => json!(one),
                (all, false, None) => json!(all),
                (all, _, selection) => {
                    let mut map = Map::new();
                    if let Some(selection) = selection {
                        map.insert("selection".into(), json!(selection));
                    }
                    if compared.is_outcome {
                        map.insert("outcome".into(), json!(compared.measure));
                        map.insert("hypotheses".into(), json!(compared.hypotheses));
                        map.insert("untested".into(), json!(compared.untested));
                        map.insert("beside".into(), beside.map(Table::json).unwrap_or(Value::Null));
                        map.insert("exploratory".into(), json!(compared.exploratory));
                    } else {
                        map.insert("comparisons".into(), json!(all));
                    }
                    Value::Object(map)
                }
            };
            np_record::visible_json(&serde_json::to_string_pretty(&whole).unwrap_or_default()) + "\n"
        }
    }
}
