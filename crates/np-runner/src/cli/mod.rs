//! The command line: options as typed, and one module a command.
//!
//! What a command makes goes to standard output; how it goes on, and what is wrong, to standard error. Exit codes: 0 done, 1 a run
//! failed or the machine refused, 2 something written is wrong, 130 interrupted (143 by SIGTERM, 129 by SIGHUP). A worker that SIGUSR2 stops ends with 75, to be started again,
//! or with 76 if it has completed no epoch since it was started.

mod again;
mod bundle;
mod collect;
mod compare;
mod completions;
mod conform;
mod data;
mod export;
mod import;
mod optimizers;
mod pack;
mod plan;
mod report;
mod run;
mod search;
mod show;
mod source;
mod status;
mod watch;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use np_record::{PlannedRun, Store};

use crate::{
    device::Device,
    error::{Error, Result, told},
    keeper::Every,
    launch::OtherGpu,
    provenance::Caller,
    say::say,
    spec::{Request, default_store},
    task::{Tasks, install},
    worker::{Job, Supervision},
};

/// Trains, plans and compares the experiments of NeuroPlastic.
///
/// An experiment is a YAML file: a question, arms, seeds. Each of its runs leaves one record, a JSON file named after a hash of
/// everything that decides its numbers; a run that has a record, loose or packed, is not trained again.
#[derive(Debug, Parser)]
#[command(name = "np", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  np plan experiments/fig2-sanity.yaml
  np run experiments/fig2-sanity.yaml
  np run experiments/fig2-sanity.yaml --set optimizer.lr=0.05 --seeds 41,42,43,44
  np compare experiments/fig2-sanity.yaml --metric final-train-loss
  np report experiments/fig2-sanity.yaml";

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Search(search::Args),
    Plan(plan::Args),
    Status(status::Args),
    Watch(watch::Args),
    Compare(compare::Args),
    Report(report::Args),
    Export(export::Args),
    Pack(pack::Args),
    Unpack(pack::UnpackArgs),
    Bundle(bundle::Args),
    Collect(collect::Args),
    Show(show::Args),
    Optimizers(optimizers::Args),
    Conform(conform::Args),
    Import(import::Args),
    Data(data::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Exec(ExecArgs),
    #[command(hide = true)]
    Bundled(bundle::BundledArgs),
}

/// An experiment and what the command line changes about it.
#[derive(Debug, Args)]
struct ExperimentArgs {
    /// The experiment, a YAML file
    file: PathBuf,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Debug, Args)]
struct OverrideArgs {
    /// One of the file's scales [default: quick]
    #[arg(long, value_name = "NAME")]
    scale: Option<String>,
    /// Set a value in every run; the kind of model or optimizer may be left out: `optimizer.lr=0.05`
    #[arg(long, value_name = "KEY=VALUE", allow_hyphen_values = true)]
    set: Vec<String>,
    /// What computes every run: the same as `--set train.device=DEVICE`, and for the CPU without `train.precision`
    #[arg(long, value_enum, value_name = "DEVICE")]
    device: Option<Device>,
    /// Try several values of a key: `optimizer.lr=0.1,0.03`
    #[arg(long, value_name = "KEY=A,B", allow_hyphen_values = true)]
    sweep: Vec<String>,
    /// Keep this arm only; may be given more than once
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    arm: Vec<String>,
    /// These seeds instead of the file's: numbers, and ranges with both their ends, `1..10`
    #[arg(long, value_name = "41,42|1..10", allow_hyphen_values = true)]
    seeds: Option<String>,
}

/// Where records and data are.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// Folder of plans and records [default: `experiments/records/SCALE` above the file, else `records/SCALE` beside it]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Folder of the published data files, for `source: full`: `DIR/mnist/train-images-idx3-ubyte.gz`, …
    #[arg(long, value_name = "DIR", env = np_data::DATA_DIR_ENV)]
    data_dir: Option<PathBuf>,
}

/// Trains one run of a plan. Started by `np run`, or by Slurm.
#[derive(Debug, Args)]
struct ExecArgs {
    /// Name of a plan in the store
    plan: String,
    /// Which of its runs, from 0
    index: usize,
    /// Id that the run must have
    #[arg(long)]
    id: Option<String>,
    /// The run itself, as JSON, instead of what the plan has there
    #[arg(long, value_parser = planned)]
    run: Option<PlannedRun>,
    /// Folder of plans and records
    #[arg(long)]
    store: PathBuf,
    /// Folder of the published data files
    #[arg(long, env = np_data::DATA_DIR_ENV)]
    data_dir: Option<PathBuf>,
    /// Threads that the run computes on; those of `RAYON_NUM_THREADS`
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A store with another copy of the plan [default: the store]
    #[arg(long)]
    plans: Option<PathBuf>,
    /// How often what is done is kept
    #[arg(long, default_value_t)]
    snapshot_every: Every,
    /// Stop when standard input ends
    #[arg(long)]
    supervised: bool,
    /// Begin anew, if it was begun on another GPU
    #[arg(long)]
    restart: bool,
    /// What the record says about the command, as JSON
    #[arg(long, value_parser = caller, default_value = "{\"command\":\"np exec\"}")]
    caller: Caller,
}

fn caller(text: &str) -> std::result::Result<Caller, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn planned(text: &str) -> std::result::Result<PlannedRun, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    main_with(Tasks::builtin())
}

/// As [`main`], of a program that has tasks of its own: `np`, with these beside the images.
///
/// ```no_run
/// // `.with(MyTask)` for each task
/// let code: std::process::ExitCode = np_runner::cli::main_with(np_runner::Tasks::builtin());
/// ```
#[must_use]
pub fn main_with(tasks: Tasks) -> ExitCode {
    if let Err(error) = install(tasks) {
        say!("error: {}", told(&error, Some(error.hint())));
        return ExitCode::FAILURE;
    }
    let cli = match parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Search(args) => search::search(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Status(args) => status::status(&args),
        Command::Watch(args) => watch::watch(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Report(args) => report::report(&args),
        Command::Export(args) => export::export(&args),
        Command::Pack(args) => pack::pack(&args),
        Command::Unpack(args) => pack::unpack(&args),
        Command::Bundle(args) => bundle::bundle(&args),
        Command::Collect(args) => collect::collect(&args),
        Command::Bundled(args) => bundle::bundled(&args),
        Command::Show(args) => show::show(&args),
        Command::Optimizers(args) => optimizers::optimizers(&args),
        Command::Conform(args) => conform::conform(&args),
        Command::Import(args) => import::import(&args),
        Command::Data(args) => data::data(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Exec(args) => exec(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say!("error: {}", error.told());
            ExitCode::from(error.exit_code())
        }
    }
}

/// The command line, and what the environment has in place of options.
fn parse() -> std::result::Result<Cli, clap::Error> {
    let mut command = with_negative_numbers(without_empty(Cli::command()));
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// `command`, for which a variable that is set to nothing is not set: `NP_DATA_DIR= np run …` is how a shell unsets one for a command.
fn without_empty(command: clap::Command) -> clap::Command {
    let set = |arg: clap::Arg| match arg.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => arg.env(None),
        _ => arg,
    };
    command.mut_args(set).mut_subcommands(without_empty)
}

/// `command`, whose options are given a negative number as a value, to say what is wrong with it: clap would take it for an option that there is not.
fn with_negative_numbers(command: clap::Command) -> clap::Command {
    let number = |arg: clap::Arg| match arg.get_action().takes_values() && !arg.is_positional() {
        true => arg.allow_negative_numbers(true),
        false => arg,
    };
    command.mut_args(number).mut_subcommands(with_negative_numbers)
}

/// Says what is wrong with a command line, or prints the help that it asks for.
fn refuse(error: &clap::Error) -> ExitCode {
    // It repeats what was typed, and on a terminal as it was typed; the plain text is without any escapes.
    let hidden = std::env::args_os().any(|word| word.to_string_lossy().contains(np_record::is_hidden));
    match error.use_stderr() && hidden {
        true => say!("{}", error.render().to_string().trim_end()),
        false => drop(error.print()),
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn exec(args: &ExecArgs) -> Result<ExitCode> {
    let store = Store::open(&args.store)?;
    let plans = args.plans.as_ref().map(Store::open).transpose()?;
    let job = Job {
        plan: &args.plan,
        plans: plans.as_ref(),
        index: args.index,
        id: args.id.as_deref(),
        run: args.run.as_ref(),
        data_dir: args.data_dir.as_deref(),
        threads: args.threads,
        caller: &args.caller,
        snapshots: args.snapshot_every,
        other_gpu: if args.restart { OtherGpu::Restart } else { OtherGpu::Refuse },
        supervision: if args.supervised { Supervision::Launcher } else { Supervision::Alone },
    };
    crate::exec(&store, &job)?;
    Ok(ExitCode::SUCCESS)
}

impl OverrideArgs {
    fn request(&self, file: &Path) -> Request {
        let device = self.device.map(|device| format!("train.device={}", device.key()));
        // The CPU has one precision; what the file says of it is for a GPU.
        let precision = (self.device == Some(Device::Cpu)).then(|| "train.precision=null".to_owned());
        Request {
            file: file.to_owned(),
            scale: self.scale.clone(),
            set: self.set.iter().cloned().chain(device).chain(precision).collect(),
            sweep: self.sweep.clone(),
            arms: self.arm.clone(),
            seeds: self.seeds.clone(),
        }
    }
}

impl ExperimentArgs {
    fn request(&self) -> Request {
        self.overrides.request(&self.file)
    }

    fn store(&self) -> Result<Store> {
        let folder = self.place.store.clone().unwrap_or_else(|| default_store(&self.file, self.request().scale()));
        Ok(Store::open(folder)?)
    }
}

/// What the first line of a plan or a run says of data that is not the published set of its name; nothing of one that is.
fn on_foreign(foreign: &[String]) -> String {
    match foreign {
        [] => String::new(),
        remarks => format!("; data: {}", remarks.join("; ")),
    }
}

/// Prints what the command makes. A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<()> {
    // Names and messages in it are others'.
    print_raw(&np_record::visible_lines(text))
}

/// Prints JSON, for programs: what stands in it keeps its meaning.
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::io("standard output")(error.into()))?;
    print_raw(&(np_record::visible_json(&text) + "\n"))
}

fn print_raw(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output")(error)),
        _ => Ok(()),
    }
}

/// A path as people like to read it: relative to the current folder where it is inside.
fn short(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    inside.filter(|inside| !inside.as_os_str().is_empty()).unwrap_or_else(|| path.to_owned()).display().to_string()
}
