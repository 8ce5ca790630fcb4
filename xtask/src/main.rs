//! The project's own commands: `cargo xtask figures`, `finals`, `results`, `book`, `bench`, `ci`, `tidy`.
//!
//! xtask does not train. It calls `np` for missing runs, which is built only if it is needed, so that xtask itself builds in seconds.
#![allow(clippy::print_stdout, reason = "paths and headings are what these commands give")]

mod bench;
mod book;
mod ci;
mod command;
mod draw;
mod figures;
mod finals;
mod results;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Error, Result};
use clap::{Parser, Subcommand};
use np_record::{StoreError, compare::CompareError, select::SelectError};

/// The project's own commands
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Draw the figures; train first what has no record yet
    Figures(figures::Options),
    /// Write the learning rates that were tuned into the experiments that conclude from them
    Finals(finals::Options),
    /// Fill in the numbers of README, RESULTS.md and the book from the records
    Results(results::Options),
    /// Measure a step of every optimizer, and PyTorch's beside it
    Bench(bench::Options),
    /// Check README and book: links, table of contents, blocks
    Book(book::Options),
    /// Run every check: format, tidy, book, lints, documentation, tests
    Ci,
    /// Check what the compiler does not: lengths of files, module heads, words that must not be there
    Tidy,
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let done = root().and_then(|root| match &command {
        Command::Figures(options) => figures::run(options, &root),
        Command::Finals(options) => finals::run(options, &root),
        Command::Results(options) => results::run(options, &root),
        Command::Bench(options) => bench::run(options, &root),
        Command::Book(options) => book::run(options, &root),
        Command::Ci => ci::run(&root),
        Command::Tidy => tidy::run(&root),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes in a line, and below it what mends it, where one of them knows that.
fn told(error: &Error) -> String {
    let of = |cause: &(dyn std::error::Error + 'static)| {
        let store = cause.downcast_ref::<StoreError>().and_then(|error| error.hint().map(str::to_owned));
        let compared = || cause.downcast_ref::<CompareError>().and_then(CompareError::hint);
        let selected = || cause.downcast_ref::<SelectError>().map(SelectError::hint);
        let data = || cause.downcast_ref::<np_data::Error>().and_then(np_data::Error::hint);
        store.or_else(compared).or_else(selected).or_else(data)
    };
    match error.chain().find_map(of) {
        Some(hint) => format!("{error:#}\nhint: {hint}"),
        None => format!("{error:#}"),
    }
}

/// The workspace's root, wherever in it the command was given.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("xtask is not inside a workspace")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_of_any_cause_is_told() {
        let unknown = CompareError::UnknownArm { expected: vec!["full".into()], got: "sgd".into() };
        let error = Error::from(unknown).context("figure 2");
        assert_eq!(told(&error), "figure 2: no arm `sgd`\nhint: the plan has `full`");
        assert_eq!(told(&anyhow::anyhow!("no more than this")), "no more than this");
    }
}
