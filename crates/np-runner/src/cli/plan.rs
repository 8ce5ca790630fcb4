//! `np plan`: what `np run` would do, and what it would cost.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use np_record::{Outcome, PlannedRun, Reading, Record};

use super::{ExperimentArgs, on_foreign, print, print_json, short};
use crate::{
    Costs, Planned, Share, UNKNOWN, asked, cores,
    error::Result,
    missing, origin,
    planning::blocked,
    say::{count, say, say_refused},
    screen::human,
    seeds,
    summary::{axis_names, axis_values},
    table::table,
};

/// Show the runs of an experiment: which are done, and what the rest would cost
///
/// Nothing is trained or written. Costs are estimated from the timings of the store's records; and, for a machine that has none, such as a GPU, from
/// the operations of the models' passes and what the machine sustains of them, `--tflops`.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Print the plan as JSON, every run with its whole configuration
    #[arg(long)]
    json: bool,
    /// What a machine of another kind sustains in such trainings, in TFLOP/s; about 10 is usual for a data-centre GPU in single precision
    #[arg(long, value_name = "RATE", default_value_t = 10.0, value_parser = rate)]
    tflops: f64,
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if rate > 0.0 && rate.is_finite() { Ok(rate) } else { Err("expected a number above 0".to_owned()) }
}

pub(super) fn plan(args: &Args) -> Result<ExitCode> {
    let request = args.experiment.request();
    let store = args.experiment.store()?;
    let planned = asked(&request, args.experiment.place.data_dir.as_deref(), &store, true)?;
    let Planned { plan, examples, operations, .. } = &planned;
    origin::check(&store, plan, &request.file)?;
    if args.json {
        print_json(plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Reading { runs: records, refused } = store.records_of(plan);
    let costs = Costs::of(&store, &records)?;
    let axes = axis_names(plan.runs.iter());
    let rows: Vec<Vec<String>> =
        records.iter().zip(examples).map(|((run, record), &n)| row(&axes, run, record, n, &costs)).collect();
    let tail = ["seed", "state", "time"];
    let header: Vec<&str> = ["id", "arm"].into_iter().chain(axes.iter().map(String::as_str)).chain(tail).collect();
    print(&table(&header, &["seed", "time"], &rows))?;

    let todo = missing(plan, &store);
    let on = on_foreign(&planned.foreign);
    say!("{} ({}), records in `{}`{on}", plan.experiment, plan.scale, short(store.root()));
    say_refused(&refused);
    for warning in &planned.warnings {
        say!("warning: {warning}");
    }
    if let Some(outcome) = plan.outcome {
        let (title, better, count) = (outcome.measure().title(), outcome.direction, plan.hypotheses.len());
        say!("outcome: {title}, {better} values are better; hypotheses: {count}");
    }
    say!("seeds: {}", seeds::in_words(plan.runs.iter().map(|run| run.seed)));
    let memory = planned.memory.iter().max_by_key(|memory| memory.total());
    if let Some(memory) = memory {
        say!("memory of a run: {}", memory.in_words());
    }
    let (left_out, mut code) = (blocked(&refused), ExitCode::SUCCESS);
    if left_out > 0 {
        say!(
            "{} left out: what stands in the place of a record cannot be used, and is not set aside",
            count(left_out, "run")
        );
        code = ExitCode::FAILURE;
    }
    if todo.is_empty() {
        if left_out == 0 {
            say!("nothing to train: every run has its record");
        }
        return Ok(code);
    }
    let cost: Option<f64> = todo.iter().map(|&index| costs.of_run(&plan.runs[index], examples[index])).sum();
    let jobs = Share::of(cores(), todo.len(), None, None).jobs;
    if let Some(text) = memory.and_then(|memory| memory.warning(jobs)) {
        say!("warning: {text}");
    }
    let about = match cost {
        Some(seconds) => format!("about {}, {jobs} at a time", human(seconds / jobs as f64)),
        None => "no record of the like to estimate the time from".to_owned(),
    };
    say!("{} to train: {about}", count(todo.len(), "run"));
    let work: f64 = todo.iter().map(|&index| operations[index]).sum();
    let seconds = work / (args.tflops * 1e12);
    let rate = args.tflops;
    say!("work: {work:.1e} floating-point operations, {} of a machine that sustains {rate} TFLOP/s", human(seconds));
    if let Some(fault) = &planned.unread {
        let ids = match plan.runs.iter().any(|run| run.data_digest == UNKNOWN) {
            true => "some ids cannot be known without the data",
            false => "ids are those of the published data, or of an earlier plan",
        };
        say!("{ids}; to train, {}", super::told(&fault.to_string()));
    }
    Ok(code)
}

fn row(axes: &[String], run: &PlannedRun, record: &Option<Record>, examples: usize, costs: &Costs) -> Vec<String> {
    let id = if run.data_digest == UNKNOWN { "?".to_owned() } else { run.id.clone() };
    let mut row = vec![id, run.arm.clone()];
    row.extend(axis_values(axes, run));
    row.push(run.seed.to_string());
    let (state, time) = match record {
        Some(record) if record.is_done() => {
            let seconds = record.timing.iter().map(np_record::Phases::total).sum();
            let diverged = matches!(record.outcome, Outcome::Diverged { .. });
            (if diverged { "diverged" } else { "done" }, human(seconds))
        }
        other => {
            let state = if other.is_some() { "failed" } else { "missing" };
            (state, costs.of_run(run, examples).map_or_else(|| "?".into(), |seconds| format!("~{}", human(seconds))))
        }
    };
    row.extend([state.to_owned(), time]);
    row
}
