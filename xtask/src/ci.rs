//! `cargo xtask ci`: format, tidy, book, lints, documentation and tests, the fastest first.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::{book, command, tidy};

/// A check that is a cargo command.
struct Check {
    heading: &'static str,
    arguments: &'static [&'static str],
    /// A variable of the environment, and its value.
    with: Option<(&'static str, &'static str)>,
    hint: &'static str,
}

const CHECKS: [Check; 4] = [
    Check { heading: "format", arguments: &["fmt", "--all", "--check"], with: None, hint: "run `cargo fmt --all`" },
    Check {
        heading: "lints",
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        with: None,
        hint: "each warning above says what it wants",
    },
    Check {
        heading: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"],
        with: Some(("RUSTDOCFLAGS", "-D warnings")),
        hint: "each warning above says what it wants",
    },
    Check {
        heading: "tests",
        arguments: &["test", "--workspace", "--locked"],
        with: None,
        hint: "run the named test alone with `cargo test NAME`",
    },
];

/// Runs the command.
pub(crate) fn run(root: &Path) -> Result<()> {
    let [format, rest @ ..] = &CHECKS;
    pass(root, format)?;
    println!("\n== tidy");
    tidy::run(root)?;
    println!("\n== book");
    book::run(&book::Options::default(), root)?;
    rest.iter().try_for_each(|check| pass(root, check))?;
    println!("\nall checks passed");
    Ok(())
}

fn pass(root: &Path, check: &Check) -> Result<()> {
    let shown = format!("cargo {}", check.arguments.join(" "));
    println!("\n== {}: {shown}", check.heading);
    let status = command::cargo(root, check.arguments).envs(check.with).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("check `{}` failed: `{shown}` ended with {status}\nhint: {}", check.heading, check.hint);
    }
    Ok(())
}
