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

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

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
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's root, wherever in it the command was given.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_path_buf).context("xtask is not inside a workspace")
}
