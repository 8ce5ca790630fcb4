//! `cargo xtask book`: checks README and book without mdBook and without the network.
//!
//! Links must lead to existing files, folders and headings ([`links`]). Every page must be in the table of contents, and every page with Rust blocks in the
//! documentation tests ([`pages`]). With `--run`, YAML blocks are planned and shell blocks run ([`blocks`]). [`markdown`] parses the pages.

mod blocks;
mod links;
mod markdown;
mod pages;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use markdown::Page;

/// Options of the command.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Plan every YAML block with `np`, and run every shell block that is not marked otherwise
    #[arg(long)]
    run: bool,
}

/// Pages of the repository's root that readers are sent to.
const ROOT: [&str; 7] = [
    "README.md",
    "RESULTS.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "CODE_OF_CONDUCT.md",
];

/// The folder of the book's pages.
const BOOK: &str = "docs/src";

/// Runs the command; without `--run` it only reads.
pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    let pages = read(root)?;
    let mut findings = Vec::new();
    for page in &pages {
        findings.extend(links::check(root, page, &pages));
    }
    findings.extend(pages::check(root, &pages)?);
    if !findings.is_empty() {
        bail!("{} finding{}\n{}", findings.len(), if findings.len() == 1 { "" } else { "s" }, findings.join("\n"));
    }
    println!("{} pages: every link leads somewhere, every block is tested", pages.len());
    if options.run { blocks::run(root, &pages) } else { Ok(()) }
}

/// All pages, those of the root first.
fn read(root: &Path) -> Result<Vec<Page>> {
    let mut names: Vec<String> = ROOT.iter().map(|name| (*name).to_owned()).collect();
    let mut found = Vec::new();
    below(root, BOOK, &mut found)?;
    for entry in fs::read_dir(root.join("crates")).context("cannot read `crates`")? {
        let name = format!("crates/{}/README.md", entry?.file_name().to_string_lossy());
        found.extend(root.join(&name).exists().then_some(name));
    }
    found.sort();
    names.extend(found);
    let page = |name: String| {
        let text = fs::read_to_string(root.join(&name)).with_context(|| format!("cannot read `{name}`"))?;
        Ok(Page::read(&name, &text))
    };
    names.into_iter().map(page).collect()
}

/// The Markdown files in a folder and its folders.
fn below(root: &Path, folder: &str, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(root.join(folder)).with_context(|| format!("cannot read `{folder}`"))? {
        let entry = entry?;
        let name = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            below(root, &name, found)?;
        } else if name.ends_with(".md") {
            found.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_this_repository_have_no_findings() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        run(&Options::default(), root).unwrap();
    }
}
