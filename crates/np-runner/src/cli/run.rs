//! `np run`: trains what has no record yet, and prints what came out.

use std::{collections::BTreeSet, path::Path, process::ExitCode, time::Duration};

use clap::Args as ClapArgs;
use np_record::{Kind, Plan, Store, select::Split};

use super::{ExperimentArgs, on_foreign, print, short};
use crate::{
    Costs, Ending, Every, Gpus, Launch, Launcher, Limit, Memory, OnFailure, OtherGpu, Planned, Screen, Share,
    Submission, Submitted, Tally, asked, cores,
    error::{Fault, Place, REQUEUE, Result, told},
    gpu::{self, wants},
    keeper::clear,
    limit::minutes,
    missing, origin,
    planning::blocked,
    provenance::Caller,
    results,
    say::{count, say, say_refused},
    screen::human,
    spec::Request,
    task::known,
    worker::{first_line, label},
};

/// Train every run of an experiment that has no record yet, and print the results
///
/// Breaking it off (Ctrl-C) loses only the epochs that are under way; the same command goes on from there. Of several that are started on
/// one store, each run is trained by one. With overrides, the plan is kept under a name of its own, beside that of the file as written;
/// records are shared. With `--launcher slurm` the runs are submitted instead, and the ids of the arrays printed.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) experiment: ExperimentArgs,
    /// Who starts the runs
    #[arg(long, value_enum, default_value_t)]
    launcher: Launcher,
    /// Runs at a time on the CPU [default: one a core; on a cluster, of all, as many as it gives]; with their threads no more than there are cores
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    jobs: Option<u16>,
    /// Runs at a time on each GPU, of those that want one: small models leave room for several [default: 1]
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    jobs_per_gpu: Option<u16>,
    /// Threads of each run on the CPU [default: 1, more if there are fewer runs than cores; on a cluster, the CPUs of a task]; results do not depend on it
    #[arg(long, value_name = "N", value_parser = one_or_more)]
    threads: Option<u16>,
    /// How often a run keeps what it has done, to go on from there: `90s`, `5min`, `2epochs`, `never`; results do not depend on it
    #[arg(long, value_name = "INTERVAL", default_value_t)]
    snapshot_every: Every,
    /// Begin runs anew that were begun on another kind of GPU, where the bits are others, instead of refusing to go on with them
    #[arg(long)]
    restart: bool,
    /// Stop at the first run that fails: the others keep what they have done
    #[arg(long)]
    fail_fast: bool,
    /// Be over after so many minutes, which may have a fraction: runs are stopped before, keep what they have done, and the exit code is 75
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<Duration>,
}

impl Args {
    /// When it is to be over, from now on.
    pub(super) fn limit(&self) -> Option<Limit> {
        self.minutes.map(Limit::within)
    }

    /// These, to be over after so much time.
    pub(super) fn within(self, time: Option<Duration>) -> Self {
        Self { minutes: time.or(self.minutes), ..self }
    }
}

fn one_or_more(text: &str) -> std::result::Result<u16, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("expected a whole number from 1 to {}", u16::MAX))
}

pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let limit = args.limit();
    let request = args.experiment.request();
    let store = args.experiment.store()?;
    let planned = asked(&request, args.experiment.place.data_dir.as_deref(), &store, false)?;
    let command = command("run", &request);
    train(args, &Sweep { file: &request.file, planned, store: &store, command, limit, shown: Shown::Results })
}

/// The runs of an experiment, to be trained.
pub(super) struct Sweep<'a> {
    /// The experiment.
    pub(super) file: &'a Path,
    /// Its plan.
    pub(super) planned: Planned,
    /// Where plan and records are.
    pub(super) store: &'a Store,
    /// What records say about the command.
    pub(super) command: String,
    /// When it is to be over.
    pub(super) limit: Option<Limit>,
    /// What is printed at the end.
    pub(super) shown: Shown,
}

/// What is printed once runs are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// A table of what they reached.
    Results,
    /// Nothing: they are for something else, and the test split is to have no part in that. How they go on is shown by the held-out examples.
    Nothing,
}

/// Trains what has no record yet.
pub(super) fn train(args: &Args, sweep: &Sweep<'_>) -> Result<ExitCode> {
    let Sweep { file, planned, store, command, limit, shown } = sweep;
    let data_dir = args.experiment.place.data_dir.as_deref();
    let todo = missing(&planned.plan, store);
    let open: BTreeSet<&str> = todo.iter().map(|&index| planned.plan.runs[index].id.as_str()).collect();
    clear(store, planned.plan.runs.iter().map(|run| run.id.as_str()).filter(|id| !open.contains(id)));
    if let Some(fault) = planned.unread.clone().filter(|_| !todo.is_empty()) {
        return Err(fault.into());
    }
    let gpus = gpus(args, planned, &todo)?;
    origin::check(store, &planned.plan, file)?;
    let kept = keep_plan(&planned.plan, store)?;
    if kept {
        origin::keep(store, &planned.plan, file);
    }
    let (jobs, threads) = (args.jobs.map(usize::from), args.threads.map(usize::from));
    let left_out = introduce(planned, store, &todo);
    if args.launcher == Launcher::Slurm && !todo.is_empty() {
        return submit(args, sweep, &todo);
    }
    let on_cpu = todo.iter().filter(|&&index| !wants(&planned.plan.runs[index])).count();
    let share = Share::of(cores(), on_cpu, jobs, threads);
    if let Some(text) = share.cut(cores(), on_cpu, jobs, threads).filter(|_| on_cpu > 0) {
        say!("note: {text}");
    }
    let mut tally = Tally::default();
    if !todo.is_empty() {
        estimate(planned, store, &todo, share, &gpus)?;
        let caller = caller(command);
        let launch = Launch {
            plan: &planned.plan,
            store,
            share,
            gpus,
            data_dir,
            caller: &caller,
            snapshots: args.snapshot_every,
            on_failure: if args.fail_fast { OnFailure::Stop } else { OnFailure::GoOn },
            limit: *limit,
            other_gpu: other_gpu(args),
        };
        let split = if *shown == Shown::Results { Split::Test } else { Split::Validation };
        tally = launch.train(&todo, &mut Screen::new(todo.len()).by(split))?;
    }
    if *shown == Shown::Results {
        print(&results(&planned.plan, store))?;
    }
    let code = conclude(&planned.plan, store, &tally);
    if left_out > 0 {
        say!(
            "{} left out: what stands in the place of a record cannot be used, and is not set aside",
            count(left_out, "run")
        );
    }
    let is_whole = kept && left_out == 0;
    Ok(if code == ExitCode::SUCCESS && !is_whole { ExitCode::FAILURE } else { code })
}

/// Puts the plan into the store, unless it is there. A damaged one in its place is set aside; one that says the same and lacks but its
/// text stays as it is. Whether it is there: what cannot be read, and is not damage, keeps its place and no run from being trained.
fn keep_plan(plan: &Plan, store: &Store) -> Result<bool> {
    // Here, once, and not by every worker.
    for (aside, error) in store.set_aside_packs()? {
        say!("note: set aside as `{}`: {}", short(&aside), first_line(&error.to_string()));
    }
    match store.read_plan(&plan.experiment) {
        Ok(Some(kept)) if kept.agrees_with(plan) => return Ok(true),
        Err(error) if error.is_damage() => {
            let aside = store.set_aside(Kind::Plan, &plan.experiment)?;
            say!("note: set aside as `{}`: {}", short(&aside), first_line(&error.to_string()));
        }
        Ok(_) => {}
        Err(error) => {
            say!("warning: the plan is not kept: {}", told(&error, error.hint()));
            return Ok(false);
        }
    }
    store.write_plan(plan)?;
    Ok(true)
}

/// Who asks for the runs, for their records.
fn caller(command: &str) -> Caller {
    let caller = Caller::of(command.to_owned());
    if caller.commit.is_none() && known().names().is_empty() {
        say!(
            "note: records will name no commit: this `np` was not built from the code in its source tree as that is now"
        );
    }
    caller
}

fn other_gpu(args: &Args) -> OtherGpu {
    if args.restart { OtherGpu::Restart } else { OtherGpu::Refuse }
}

/// The GPUs of this machine for the runs that want one, if any does; they must have room for the largest. What a cluster gives them, Slurm knows.
fn gpus(args: &Args, planned: &Planned, todo: &[usize]) -> Result<Gpus> {
    let on_gpu: Vec<usize> = todo.iter().copied().filter(|&index| wants(&planned.plan.runs[index])).collect();
    if on_gpu.is_empty() {
        return Ok(Gpus::default());
    }
    gpu::built()?;
    if args.launcher == Launcher::Slurm {
        return Ok(Gpus::default());
    }
    let (devices, jobs) = (gpu::visible()?, usize::from(args.jobs_per_gpu.unwrap_or(1)));
    let most = on_gpu.len().div_ceil(devices.len()).min(jobs);
    if let Some(largest) = on_gpu.iter().filter_map(|&index| planned.memory[index]).max_by_key(Memory::total) {
        gpu::fits(largest, most, gpu::smallest())?;
    }
    Ok(Gpus { devices, jobs })
}

/// Hands the runs to Slurm; prints the ids of the arrays.
fn submit(args: &Args, sweep: &Sweep<'_>, todo: &[usize]) -> Result<ExitCode> {
    let Sweep { planned, store, command, .. } = sweep;
    if args.fail_fast {
        let place = Place::Option("--fail-fast".into());
        let fault = Fault::new(place, "a cluster's tasks do not know of one another");
        return Err(fault.hint("leave it out, or `--launcher slurm`; `scancel ARRAY` ends an array").into());
    }
    if args.jobs_per_gpu.is_some() {
        let place = Place::Option("--jobs-per-gpu".into());
        let fault = Fault::new(place, "a cluster's tasks are a run each");
        return Err(fault.hint("say `gpus` in the experiment's `launcher.slurm` instead").into());
    }
    if args.restart {
        let place = Place::Option("--restart".into());
        let fault = Fault::new(place, "tasks that are requeued would begin anew on each other kind of GPU");
        return Err(fault.hint("ask for one kind of GPU in the experiment's `launcher.slurm`").into());
    }
    if args.minutes.is_some() {
        let place = Place::Option("--minutes".into());
        let fault = Fault::new(place, "a cluster's tasks have limits of their own");
        return Err(fault.hint("say `time` in the experiment's `launcher.slurm` instead").into());
    }
    let submission = Submission {
        plan: &planned.plan,
        store,
        config: &planned.launcher.slurm,
        jobs: args.jobs.map(usize::from),
        threads: args.threads.map(usize::from),
        data_dir: args.experiment.place.data_dir.as_deref(),
        caller: &caller(command),
        snapshots: args.snapshot_every,
        other_gpu: other_gpu(args),
    };
    let mut ids = String::new();
    let submitted = submission.submit(todo, &mut |array| {
        say!("submitted {} as array {}", count(array.tasks, "run"), array.id);
        ids.push_str(&format!("{}\n", array.id));
    });
    print(&ids)?;
    let Submitted { under_way, logs, arrays } = submitted?;
    if under_way > 0 {
        say!("{} submitted or trained already", count(under_way, "run"));
    }
    if !arrays.is_empty() {
        let store = crate::shell::quoted(&short(store.root()));
        say!("logs are in `{}`\n  hint: `np status --store {store}` shows how it goes", short(&logs));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what the experiment is, and whether there is something to do; how many runs are left out.
fn introduce(planned: &Planned, store: &Store, todo: &[usize]) -> usize {
    let Planned { plan, warnings, .. } = planned;
    say!(
        "{} ({}): {}, records in `{}`{}",
        plan.experiment,
        plan.scale,
        count(plan.runs.len(), "run"),
        short(store.root()),
        on_foreign(&planned.foreign)
    );
    let refused = store.records_of(plan).refused;
    say_refused(&refused);
    for warning in warnings {
        say!("warning: {warning}");
    }
    let left_out = blocked(&refused);
    if todo.is_empty() && left_out == 0 {
        say!("nothing to train: every run has its record");
    }
    left_out
}

/// Says how long it will take here.
fn estimate(planned: &Planned, store: &Store, todo: &[usize], share: Share, gpus: &Gpus) -> Result<()> {
    let Planned { plan, examples, .. } = planned;
    let costs = Costs::of(store, &store.records_of(plan).runs)?;
    let about = |todo: &[usize], jobs: usize| {
        let cost: Option<f64> = todo.iter().map(|&index| costs.of_run(&plan.runs[index], examples[index])).sum();
        cost.map(|seconds| format!(", about {}", human(seconds / jobs as f64))).unwrap_or_default()
    };
    let (on_gpu, todo): (Vec<usize>, Vec<usize>) = todo.iter().copied().partition(|&index| wants(&plan.runs[index]));
    if !on_gpu.is_empty() {
        let (jobs, devices) = (gpus.runs().min(on_gpu.len()), count(gpus.devices.len(), "GPU"));
        say!("training {}, {jobs} at a time on {devices}{}", on_gpu.len(), about(&on_gpu, jobs));
    }
    if todo.is_empty() {
        return Ok(());
    }
    let Share { jobs, threads } = share;
    let each = count(threads, "thread");
    say!("training {}, {jobs} at a time on {each} each{}", todo.len(), about(&todo, jobs));
    let largest = todo.iter().filter_map(|&index| planned.memory[index]).max_by_key(Memory::total);
    if let Some(text) = largest.and_then(|memory| memory.warning(jobs)) {
        say!("warning: {text}");
    }
    Ok(())
}

/// Says how it went, and what is left to do.
fn conclude(plan: &Plan, store: &Store, tally: &Tally) -> ExitCode {
    for &index in &tally.diverged {
        say!("diverged, which is a result: {} ({})", label(&plan.runs[index]), plan.runs[index].id);
    }
    for (index, reason) in &tally.failed {
        say!("failed: {} ({}): {reason}", label(&plan.runs[*index]), plan.runs[*index].id);
    }
    let left = missing(plan, store).len();
    if tally.ending == Ending::FirstFailure {
        say!(
            "stopped at the first failure: {} done, {left} left\n  hint: once the reason is mended, the same command goes on",
            count(plan.runs.len() - left, "run")
        );
        return ExitCode::FAILURE;
    }
    if tally.ending == Ending::TimeOver && left > tally.failed.len() {
        let done = count(plan.runs.len() - left, "run");
        say!("the time is over: {done} done, {left} left\n  hint: the same command goes on");
        return ExitCode::from(REQUEUE);
    }
    if let Ending::Interrupted(code) = tally.ending {
        say!(
            "interrupted: {} done, {left} left\n  hint: the same command goes on",
            count(plan.runs.len() - left, "run")
        );
        return ExitCode::from(code);
    }
    if tally.failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    say!(
        "{} failed\n  hint: once the reason is mended, the same command tries again",
        count(tally.failed.len(), "run")
    );
    ExitCode::FAILURE
}

/// The command as records keep it: without the machine's paths.
pub(super) fn command(name: &str, request: &Request) -> String {
    let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut file = last(&request.file);
    let folder = std::path::absolute(&request.file).ok().and_then(|path| path.parent().map(last));
    if folder.as_deref() == Some("experiments") {
        file = format!("experiments/{file}");
    }
    let mut words = vec![format!("{} {name}", known().program()), file];
    words.extend(request.scale.iter().map(|scale| format!("--scale {scale}")));
    words.extend(request.overrides());
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_kept_without_the_machines_paths() {
        let request = |file: &str| Request {
            file: file.into(),
            scale: Some("cpu".into()),
            set: vec!["optimizer.lr=0.5".into()],
            seeds: Some("1,2".into()),
            ..Request::default()
        };
        let tail = "--scale cpu --set optimizer.lr=0.5 --seeds 1,2";
        assert_eq!(
            command("run", &request("/home/me/lab/experiments/a.yaml")),
            format!("np run experiments/a.yaml {tail}")
        );
        assert_eq!(command("search", &request("/home/me/a.yaml")), format!("np search a.yaml {tail}"));
    }
}
