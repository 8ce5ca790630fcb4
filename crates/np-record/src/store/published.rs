//! Digests of published plans and records.
//!
//! `published.sha256` lists the files that were published before files contained a digest of themselves, in the format of `sha256sum`. So changes of
//! these files are recognised too, in every store. `results.sha256` lists the result digest of every published run, a line `DIGEST  ID` each: a run always gives
//! the same bits, so that a record of this id with other results cannot come from running it. `cargo xtask results` maintains this list.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Kind;

/// SHA-256 of each file, by its place in a store (`runs/ID.json`).
static PUBLISHED: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("published.sha256").lines();
    lines.filter_map(|line| line.split_once("  ")).map(|(digest, place)| (place, digest)).collect()
});

/// `result_sha256` of each published record, by the run's id: what anybody who makes the run again gets, so that no other record answers for it.
static RESULTS: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("results.sha256").lines();
    lines.filter_map(|line| line.split_once("  ")).map(|(digest, id)| (id, digest)).collect()
});

/// The digest that the results of a published run have, in hex; `None` for a run that was not published.
pub(super) fn result(id: &str) -> Option<&'static str> {
    RESULTS.get(id).copied()
}

/// The digest that a file's bytes must have, in hex; `None` for a file that was not published without one.
pub(super) fn digest(kind: Kind, name: &str) -> Option<&'static str> {
    PUBLISHED.get(format!("{}/{name}.json", kind.folder()).as_str()).copied()
}
