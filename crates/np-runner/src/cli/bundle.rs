//! `np bundle`: a folder that trains elsewhere; and `np bundled`, what its `run.sh` starts there.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args as ClapArgs, Parser as _};
use np_record::{Plan, Store};

use super::{Cli, Command, OverrideArgs, print, run, short, source::folder};
use crate::{
    bundle::{self, Manifest, Order, Packed, Snapshots, bytes_in_words},
    error::{Fault, Place, REQUEUE, Result},
    limit::minutes,
    provenance::BuiltFrom,
    say::{count, say},
    stop::Stop,
};

/// Make a folder that trains experiments elsewhere, on a machine that is lent for some minutes, and brings back one archive
///
/// The folder has this program, the plans, the data that their runs need, as it is in the data folder, and what the store knows: records, so that nothing
/// is trained twice, and snapshots of runs that are under way. There, `run.sh [MINUTES]` trains what is missing, experiment by experiment, several runs side by
/// side, is over before the minutes are, and leaves `results.archive`, which `np collect` brings into the store. It needs bash and gzip, and no network; for
/// runs on a GPU, CUDA's libraries.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np bundle experiments/fig4-optimizers.yaml --scale paper --program np-cuda --out fig4 --minutes 9
  there:  fig5/run.sh 9 --jobs-per-gpu 3
  np collect fig5/results.archive")]
pub(super) struct Args {
    /// The experiments, YAML files, in the order in which they are to be trained
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The folder, which is not there yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: super::PlaceArgs,
    /// How long to train there if `run.sh` is given no minutes [default: until all is trained]
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<Duration>,
    /// Another program than this one, built from the same code: for a GPU, or another machine
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// The most that data and snapshots may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 40)]
    limit: u32,
    /// Leave out snapshots: runs that are under way begin anew there
    #[arg(long)]
    no_snapshots: bool,
}

/// Trains what the current folder holds, and packs what came out. Started by `run.sh` of a folder that `np bundle` made.
#[derive(Debug, ClapArgs)]
pub(super) struct BundledArgs {
    /// Be over after so many minutes
    #[arg(long, value_name = "N", value_parser = minutes)]
    minutes: Option<Duration>,
    /// As `np run` has it
    #[arg(long, value_name = "N")]
    jobs: Option<u16>,
    /// As `np run` has it
    #[arg(long, value_name = "N")]
    threads: Option<u16>,
    /// As `np run` has it, where it knows of GPUs
    #[arg(long, value_name = "N")]
    jobs_per_gpu: Option<u16>,
    /// Where the archive goes
    #[arg(long, value_name = "FILE", default_value = "results.archive")]
    out: PathBuf,
    /// The most that the archive may take, in MiB: snapshots that do not fit are left out
    #[arg(long, value_name = "MIB")]
    limit: Option<u32>,
    /// What else `np run` is given
    #[arg(last = true, value_name = "OPTIONS")]
    rest: Vec<String>,
}

fn mebibytes(number: u32) -> u64 {
    u64::from(number) << 20
}

pub(super) fn bundle(args: &Args) -> Result<ExitCode> {
    let mut experiments = Vec::new();
    for file in &args.files {
        let request = args.overrides.request(file);
        let store = Store::open(folder(&request, &args.place))?;
        experiments.push((request, store));
    }
    let order = Order {
        experiments,
        data_dir: args.place.data_dir.as_deref(),
        out: &args.out,
        program: args.program.as_deref(),
        minutes: args.minutes.map(|time| time.as_secs_f64() / 60.0),
        limit: mebibytes(args.limit),
        snapshots: if args.no_snapshots { Snapshots::Left } else { Snapshots::Taken },
    };
    for line in bundle::bundle(&order)? {
        say!("{line}");
    }
    say!("  hint: take it to the other machine and start `run.sh` there; `np collect` takes what comes back");
    print(&format!("{}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The part of a time that is kept for packing the archive: a twentieth, and no more than twenty seconds.
fn reserve(time: Duration) -> Duration {
    (time / 20).min(Duration::from_secs(20))
}

pub(super) fn bundled(args: &BundledArgs) -> Result<ExitCode> {
    let start = Instant::now();
    let stop = Stop::on_signals();
    let here = Path::new(".");
    let mut manifest = Manifest::read(here)?;
    manifest.source.take().into_iter().for_each(BuiltFrom::brought);
    let time = match (args.minutes, manifest.minutes) {
        (Some(time), _) => Some(time),
        (None, kept) => kept.and_then(|kept| minutes(&kept.to_string()).ok()),
    };
    let time = time.map(|time| time.saturating_sub(reserve(time)));
    let data_dir = bundle::ready(&manifest, here)?;
    let (mut plans, mut code): (Vec<(Store, Plan)>, _) = (Vec::new(), ExitCode::SUCCESS);
    // All plans first: whatever becomes of the trainings, an archive has what there is of each.
    let mut trainings = Vec::new();
    for words in &manifest.experiments {
        let (training, store, plan) = training(words, args, data_dir.as_deref())?;
        plans.push((store, plan));
        trainings.push(training);
    }
    for training in trainings {
        let left = time.map(|time| time.saturating_sub(start.elapsed()));
        if stop.is_wished() || left.is_some_and(|left| left.is_zero()) {
            code = ExitCode::from(if stop.is_wished() { stop.code() } else { REQUEUE });
            if !args.out.exists() {
                tell(&bundle::pack(&plans, &args.out, args.limit.map(mebibytes))?, &args.out);
            }
            break;
        }
        let ended = run::run(&training.within(left)).unwrap_or_else(|error| {
            say!("error: {}", error.told());
            ExitCode::FAILURE
        });
        if ended != ExitCode::SUCCESS {
            code = ended;
        }
        // What it is now is there even if the machine is taken away during the next one.
        let packed = bundle::pack(&plans, &args.out, args.limit.map(mebibytes))?;
        tell(&packed, &args.out);
        if ended != ExitCode::SUCCESS && ended != ExitCode::FAILURE {
            break;
        }
    }
    print(&format!("{}\n", args.out.display()))?;
    Ok(code)
}

/// `np run` of one experiment of the folder, as a command line would have it; its store, and the plan that came along.
fn training(words: &[String], args: &BundledArgs, data_dir: Option<&Path>) -> Result<(run::Args, Store, Plan)> {
    let mut line: Vec<String> = ["np", "run"].map(String::from).into_iter().chain(words.iter().cloned()).collect();
    let mut option =
        |name: &str, value: Option<String>| line.extend(value.into_iter().flat_map(|value| [name.to_owned(), value]));
    option("--data-dir", data_dir.map(|folder| folder.display().to_string()));
    option("--jobs", args.jobs.map(|jobs| jobs.to_string()));
    option("--threads", args.threads.map(|threads| threads.to_string()));
    option("--jobs-per-gpu", args.jobs_per_gpu.map(|jobs| jobs.to_string()));
    line.extend(args.rest.iter().cloned());
    let refused = |why: String| Fault::new(Place::Option(line[1..].join(" ")), why);
    let run = match Cli::try_parse_from(&line).map(|cli| cli.command) {
        Ok(Command::Run(run)) => run,
        Ok(_) => return Err(refused("this is no `np run`".into()).into()),
        Err(error) => {
            let text = error.to_string();
            let why = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
            return Err(refused(why).into());
        }
    };
    let store = run.experiment.store()?;
    let plan = bundle::checked(&run.experiment.request(), &store, data_dir)?;
    Ok((run, store, plan))
}

fn tell(packed: &Packed, path: &Path) {
    let Packed { records, snapshots, left_out, bytes } = *packed;
    let (records, snapshots) = (count(records, "record"), count(snapshots, "snapshot"));
    let left =
        if left_out > 0 { format!("; {} left out, as too large", count(left_out, "snapshot")) } else { String::new() };
    say!("packed {records} and {snapshots} into `{}`, {}{left}", short(path), bytes_in_words(bytes));
}
