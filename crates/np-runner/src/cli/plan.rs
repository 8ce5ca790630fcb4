//! `np plan`: what `np run` would do, and what it would cost.

use std::{collections::BTreeSet, process::ExitCode};

use clap::Args as ClapArgs;
use np_record::{Outcome, PlannedRun, Reading, Record};

use super::{ExperimentArgs, on_foreign, print, print_json, short};
use crate::{
    Costs, Planned, Share, UNKNOWN, asked, cores,
    error::{Result, told},
    gpu, gpu_times, missing, origin,
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
    let Planned { plan, operations, .. } = &planned;
    origin::check(&store, plan, &request.file)?;
    if args.json {
        print_json(plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Reading { runs: records, refused } = store.records_of(plan);
    let costs = Costs::of(&store, &records)?;
    let axes = axis_names(plan.runs.iter());
    let seconds: Vec<Option<f64>> = (0..plan.runs.len()).map(|index| expected(&planned, index, &costs)).collect();
    let rows: Vec<Vec<String>> =
        records.iter().zip(&seconds).map(|((run, record), &seconds)| row(&axes, run, record, seconds)).collect();
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
    let memory = planned.memory.iter().flatten().max_by_key(|memory| memory.total());
    match memory {
        Some(memory) => say!("memory of a run: {}", memory.in_words()),
        None => say!("memory of a run: unknown, because its task does not say"),
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
    let (on_gpus, on_cpu): (Vec<usize>, Vec<usize>) =
        todo.iter().copied().partition(|&index| gpu::wants(&plan.runs[index]));
    if !on_gpus.is_empty() {
        on_gpu(&planned, &on_gpus, &costs);
    }
    if !on_cpu.is_empty() {
        let cost: Option<f64> = on_cpu.iter().map(|&index| seconds[index]).sum();
        let jobs = Share::of(cores(), on_cpu.len(), None, None).jobs;
        if let Some(text) = memory.and_then(|memory| memory.warning(jobs)) {
            say!("warning: {text}");
        }
        let about = match cost {
            Some(seconds) => format!("about {}, {jobs} at a time", human(seconds / jobs as f64)),
            None => "no record of the like to estimate the time from".to_owned(),
        };
        say!("{} to train: {about}", count(on_cpu.len(), "run"));
    }
    let rate = args.tflops;
    match todo.iter().map(|&index| operations[index]).sum::<Option<f64>>() {
        Some(work) => {
            let time = human(work / (rate * 1e12));
            say!("work: {work:.1e} floating-point operations, {time} of a machine that sustains {rate} TFLOP/s");
        }
        None => say!("work: unknown, because a task does not say"),
    }
    if let Some(fault) = &planned.unread {
        let ids = match plan.runs.iter().any(|run| run.data_digest == UNKNOWN) {
            true => "some ids cannot be known without the data",
            false => "ids are those of the published data, or of an earlier plan",
        };
        say!("{ids}; to train, {}", fault.told());
    }
    Ok(code)
}

/// Seconds of a run, by records of the like; of one on a GPU by what is kept of GPUs, if that is known: its records may be of runs that shared one.
fn expected(planned: &Planned, index: usize, costs: &Costs) -> Option<f64> {
    let run = &planned.plan.runs[index];
    let kept = || gpu_times::seconds(run, planned.operations[index]?).map(|(seconds, _)| seconds);
    kept().or_else(|| costs.of_run(run, planned.examples[index]))
}

/// Says what the runs on a GPU would cost, and what that is known from.
fn on_gpu(planned: &Planned, todo: &[usize], costs: &Costs) {
    let Planned { plan, examples, operations, .. } = planned;
    let (mut seconds, mut unknown, mut from) = (0.0, 0, BTreeSet::new());
    for &index in todo {
        let run = &plan.runs[index];
        let mut kept = || {
            let (seconds, reading) = gpu_times::seconds(run, operations[index]?)?;
            from.insert(format!("passes alone, {}, measured {}", reading.gpu, reading.measured));
            Some(seconds)
        };
        match kept().or_else(|| costs.of_run(run, examples[index])) {
            Some(time) => seconds += time,
            None => unknown += 1,
        }
    }
    let from: String = from.iter().map(|from| format!(" ({from})")).collect();
    let about = match (todo.len() - unknown, unknown) {
        (0, _) => "no estimate: neither a record nor a kept step time is of the like".to_owned(),
        (_, 0) => format!("about {:.1} GPU minutes{from}", seconds / 60.0),
        (known, _) => {
            format!("about {:.1} GPU minutes for {known} of them{from}, and no estimate of the others", seconds / 60.0)
        }
    };
    say!("{} to train on a GPU: {about}", count(todo.len(), "run"));
    let largest =
        todo.iter().filter_map(|&index| planned.memory.get(index)?.as_ref()).max_by_key(|memory| memory.total());
    match gpu::visible() {
        Ok(found) => {
            say!("GPUs here: {}", found.len());
            if let Err(error) = largest.map_or(Ok(()), |&memory| gpu::fits(memory, 1, gpu::smallest())) {
                say!("warning: {}", told(&error, error.hint()));
            }
        }
        Err(error) => say!("note: {error}"),
    }
}

fn row(axes: &[String], run: &PlannedRun, record: &Option<Record>, seconds: Option<f64>) -> Vec<String> {
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
            (state, seconds.map_or_else(|| "?".into(), |seconds| format!("~{}", human(seconds))))
        }
    };
    row.extend([state.to_owned(), time]);
    row
}
