//! `np export`: runs, epochs and comparisons as files for other programs.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args as ClapArgs, ValueEnum};
use np_record::{
    OutputKind, check_output,
    compare::{Asked, Compared},
    select::Budget,
    write_output,
};

use super::{
    OverrideArgs, PlaceArgs, short,
    source::{Choose, Source, read, refused},
};
use crate::{
    error::{Error, Fault, Place, Result},
    export::{Exported, Frame, comparisons, epochs, events, folder_of, parquet, runs},
    say::{count, say},
};

/// Write runs, epochs and comparisons as tables for polars, pandas, R or a spreadsheet, or curves for TensorBoard
///
/// Into the folder go `runs`, `epochs` and `comparisons`, a file each, with a row a run, an epoch, a pair of arms and setting. Columns that begin with `axis.` hold the values
/// that were swept, those with `diagnostic.` what the optimizer says of itself. Values are raw: accuracies are shares of 1, losses are in nats.
/// The comparisons are those that `np compare` prints, hypotheses and exploratory ones. For TensorBoard, each run has a folder `EXPERIMENT/ARM/seed-N` with its scalars.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  np export experiments/fig2-sanity.yaml --out fig2
  np export experiments/fig2-sanity.yaml experiments/fig3-low-data.yaml --scale cpu --format csv --out tables
  np export experiments/fig2-sanity.yaml --format tensorboard --out runs && tensorboard --logdir runs")]
pub(super) struct Args {
    /// Experiments, or plans in a store (`STORE/plans/NAME.json`)
    #[arg(value_name = "FILE|PLAN", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    overrides: OverrideArgs,
    #[command(flatten)]
    place: PlaceArgs,
    /// What is written
    #[arg(long, value_enum, default_value_t = Form::Parquet)]
    format: Form,
    /// The folder for it, which is made; files of an earlier export are replaced, others are not
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A form of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Typed columns in a compressed file: polars, pandas, R's arrow, DuckDB
    Parquet,
    /// Text with a header
    Csv,
    /// An object a line
    Jsonl,
    /// Event files with scalars by step
    Tensorboard,
}

const PARQUET: OutputKind = OutputKind { name: "parquet file", is: |start| start.starts_with(b"PAR1") };
const CSV: OutputKind = OutputKind { name: "table of an export", is: |start| start.starts_with(b"experiment,scale,") };
const JSONL: OutputKind = OutputKind { name: "table of an export", is: |start| start.starts_with(b"{\"experiment\":") };
/// The length of a first message of 24 bytes.
const EVENTS: OutputKind = OutputKind { name: "event file", is: |start| start.starts_with(&[24, 0, 0, 0, 0, 0, 0, 0]) };

pub(super) fn export(args: &Args) -> Result<ExitCode> {
    let sources = args
        .files
        .iter()
        .map(|file| read(file, &args.overrides, &args.place, &Choose::AsWritten, &[], Budget::Planned));
    let sources: Vec<Source> = sources.collect::<Result<_>>()?;
    for remark in sources.iter().flat_map(|source| &source.foreign) {
        say!("warning: {remark}");
    }
    match args.format {
        Form::Tensorboard => scalars(args, &sources),
        form => tables(args, &sources, form),
    }
}

fn tables(args: &Args, sources: &[Source], form: Form) -> Result<ExitCode> {
    let mut frames = [("runs", Frame::default()), ("epochs", Frame::default()), ("comparisons", Frame::default())];
    for (Source { plan, all, runs: chosen, .. }, file) in sources.iter().zip(&args.files) {
        let [(_, of_runs), (_, of_epochs), (_, of_comparisons)] = &mut frames;
        runs(of_runs, Exported { plan, all });
        epochs(of_epochs, Exported { plan, all });
        let compared = Compared::of(plan, chosen, &Asked::default())
            .map_err(|error| refused(Place::File(file.clone(), None), &error, error.hint()))?;
        comparisons(of_comparisons, plan, &compared);
    }
    let mut files = Vec::new();
    for (name, frame) in &frames {
        let (ending, kind, bytes) = match form {
            Form::Parquet => ("parquet", PARQUET, parquet(frame).map_err(|error| lost(&args.out, &error))?),
            Form::Csv => ("csv", CSV, frame.csv().into_bytes()),
            Form::Jsonl | Form::Tensorboard => ("jsonl", JSONL, frame.jsonl().into_bytes()),
        };
        files.push((args.out.join(format!("{name}.{ending}")), kind, bytes));
    }
    write(args, &files)?;
    let rows = frames.map(|(name, frame)| format!("{name} {}", frame.rows));
    say!("{}: `{}`", rows.join(", "), short(&args.out));
    Ok(ExitCode::SUCCESS)
}

fn scalars(args: &Args, sources: &[Source]) -> Result<ExitCode> {
    let mut files = Vec::new();
    for Source { plan, all, .. } in sources {
        for (run, record) in all.iter().filter_map(|(run, record)| Some((run, record.as_ref()?))) {
            let folder = args.out.join(&plan.experiment).join(folder_of(run));
            files.push((folder.join("events.out.tfevents.0.np"), EVENTS, events(record)));
        }
    }
    write(args, &files)?;
    say!("{}: `{}`", count(files.len(), "run"), short(&args.out));
    Ok(ExitCode::SUCCESS)
}

fn lost(out: &Path, error: &dyn std::fmt::Display) -> Error {
    Fault::new(Place::File(out.to_owned(), None), format!("cannot make a parquet file: {error}")).into()
}

/// Writes all of them, or none that would replace what is no export.
fn write(args: &Args, files: &[(PathBuf, OutputKind, Vec<u8>)]) -> Result<()> {
    let option = || Place::Option(format!("--out {}", args.out.display()));
    if args.out.exists() && !args.out.is_dir() {
        return Err(Fault::new(option(), "expected a folder, found a file")
            .hint("name another one; it is made")
            .into());
    }
    let mut paths = BTreeSet::new();
    for (path, kind, _) in files {
        if !paths.insert(path) {
            let fault = Fault::new(Place::File(path.clone(), None), "two of the runs would be written here");
            return Err(fault.hint("export the experiments, or their scales, into folders of their own").into());
        }
        check_output(path, *kind, &args.files).map_err(|error| refused(option(), &error, error.hint()))?;
    }
    for (path, _, bytes) in files {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder))?;
        }
        write_output(path, bytes).map_err(Error::io(path))?;
    }
    Ok(())
}
