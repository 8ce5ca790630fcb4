//! Digests of the plans and records that this project published before files carried a digest of their whole.
//!
//! `published.sha256` is what `sha256sum plans/*.json runs/*.json` prints in the published store, for the files that lack one. So they are
//! as safe from edits as newer ones, wherever they are copied to. `results.sha256` holds the digest of every published result, `DIGEST  ID` a line: runs
//! give the same bits whenever they are made, and so a record of such an id with other results was not made by running it. `cargo xtask results` keeps the list.

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
