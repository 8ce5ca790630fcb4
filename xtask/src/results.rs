//! `cargo xtask results`: the numbers in README.md, RESULTS.md and the book, from the committed records.
//!
//! A number is between marks that are invisible on the page, `<!--=KEY-->97.4<!--/-->`; a key that begins with `table` marks a whole table. The command
//! updates all of them, and `--check` reports those that differ from the records. [`numbers`] lists the keys. The command also updates the list of published
//! results, by which `np_record` refuses edited records.

mod bench;
mod budgets;
mod claims;
pub(crate) mod design;
mod numbers;
mod parts;
mod sensitivity;
mod tables;
mod transfer;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use np_record::{Store, write_atomic};

use crate::figures::Scale;
use numbers::Numbers;

/// Pages with numbers.
const PAGES: [&str; 5] =
    ["README.md", "RESULTS.md", "docs/src/optimizers.md", "docs/src/results.md", "docs/src/benchmarks.md"];
/// The digest of each committed record's results, `DIGEST  ID` a line in the order of the ids.
const LISTED: &str = "crates/np-record/src/store/results.sha256";
const BEGIN: &str = "<!--=";
const END: &str = "<!--/-->";

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Change nothing, and fail where a page differs from the records
    #[arg(long)]
    check: bool,
}

/// Runs the command; with `--check` all pages are looked at before it fails.
pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    let numbers = Numbers::new(root, Scale::Cpu);
    let mut differing = Vec::new();
    for page in PAGES {
        let path = root.join(page);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{page}`"))?;
        let mut count = 0;
        let filled = fill(&text, |key| {
            count += 1;
            numbers.value(key).with_context(|| format!("{page}: `{key}`"))
        })
        .with_context(|| format!("in `{page}`"))?;
        if count == 0 {
            bail!("`{page}` has no mark `{BEGIN}KEY-->…{END}`\nhint: its numbers have been cut loose from the records");
        }
        if filled == text {
            println!("{page}: {count} values are those of the records");
        } else if options.check {
            let first = text.lines().zip(filled.lines()).find(|(is, should)| is != should);
            let (is, should) = first.unwrap_or(("fewer lines", "more lines"));
            eprintln!("{page}\n  has:     {is}\n  records: {should}");
            differing.push(format!("`{page}`"));
        } else {
            write_atomic(&path, filled.as_bytes()).with_context(|| format!("cannot write `{page}`"))?;
            println!("{page}: {count} values brought up to date");
        }
    }
    let path = root.join(LISTED);
    let listed = listed(root)?;
    let count = listed.lines().count();
    if fs::read_to_string(&path).with_context(|| format!("cannot read `{LISTED}`"))? == listed {
        println!("{LISTED}: {count} results are those of the records");
    } else if options.check {
        differing.push(format!("`{LISTED}`"));
    } else {
        write_atomic(&path, listed.as_bytes()).with_context(|| format!("cannot write `{LISTED}`"))?;
        println!("{LISTED}: {count} results brought up to date");
    }
    if !differing.is_empty() {
        bail!("not what the records give: {}\nhint: `cargo xtask results` brings it up to date", differing.join(", "));
    }
    Ok(())
}

/// The list of all committed results, of every scale.
fn listed(root: &Path) -> Result<String> {
    let mut digests = BTreeMap::new();
    for scale in [Scale::Cpu, Scale::Paper] {
        let store = Store::open(root.join("experiments/records").join(scale.to_string()))?;
        for id in store.ids()? {
            let record = store.read_record(&id)?.with_context(|| format!("no record `{id}`"))?;
            let digest = record.result_sha256;
            if digests.insert(id.clone(), digest.clone()).is_some_and(|other| other != digest) {
                bail!("`{id}` has another result at scale `{scale}` than at another scale");
            }
        }
    }
    Ok(digests.into_iter().map(|(id, digest)| format!("{digest}  {id}\n")).collect())
}

/// `text` with the value of each key between its marks. What looks like a mark and is none is an error: the number in it would be free.
fn fill(text: &str, mut value: impl FnMut(&str) -> Result<String>) -> Result<String> {
    let mut parts = text.split(BEGIN);
    let mut out = sound(parts.next().unwrap_or_default())?.to_owned();
    for part in parts {
        let Some((key, rest)) = part.split_once("-->") else { bail!("a mark `{BEGIN}` without an end") };
        let Some((_, rest)) = rest.split_once(END) else { bail!("`{BEGIN}{key}-->` without `{END}`") };
        let value = value(key)?;
        let value = if key.starts_with("table") { format!("\n\n{}\n\n", value.trim_end()) } else { value };
        out.push_str(&format!("{BEGIN}{key}-->{value}{END}{}", sound(rest)?));
    }
    Ok(out)
}

/// What stands between marks, if there is no half of one in it.
fn sound(text: &str) -> Result<&str> {
    if text.contains(END) {
        bail!("`{END}` without `{BEGIN}KEY-->` before it");
    }
    for comment in text.split("<!--").skip(1) {
        if comment.trim_start().starts_with(['=', '/']) {
            let start: String = comment.chars().take(20).collect();
            bail!("`<!--{start}…` is no mark\nhint: `{BEGIN}KEY-->` without spaces, and `{END}`");
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_put_between_their_marks() {
        let value = |key: &str| Ok(format!("[{key}]"));
        let text = "a <!--=x y-->old<!--/--> b\n<!--=table t-->\n| old |\n<!--/-->\nc";
        let filled = fill(text, value).unwrap();
        assert_eq!(filled, "a <!--=x y-->[x y]<!--/--> b\n<!--=table t-->\n\n[table t]\n\n<!--/-->\nc");
        assert_eq!(fill(&filled, value).unwrap(), filled, "again, it changes nothing");
        assert_eq!(fill("nothing <!-- but a remark -->", value).unwrap(), "nothing <!-- but a remark -->");
        for bad in
            ["<!--=x", "<!--=x-->1", "1<!--/-->", "<!--=x-->1<!--/-->2<!--/-->", "<!-- =x-->9<!--/-->", "<!-- /-->"]
        {
            assert!(fill(bad, value).is_err(), "{bad}");
        }
    }
}
