//! Digests of the plans and records that this project published before files carried a digest of their whole.
//!
//! `published.sha256` is what `sha256sum plans/*.json runs/*.json` prints in the published store, for the files that lack one. So they are
//! as safe from edits as newer ones, wherever they are copied to.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Kind;

/// SHA-256 of each file, by its place in a store (`runs/ID.json`).
static PUBLISHED: LazyLock<BTreeMap<&'static str, &'static str>> = LazyLock::new(|| {
    let lines = include_str!("published.sha256").lines();
    lines.filter_map(|line| line.split_once("  ")).map(|(digest, place)| (place, digest)).collect()
});

/// The digest that a file's bytes must have, in hex; `None` for a file that was not published without one.
pub(super) fn digest(kind: Kind, name: &str) -> Option<&'static str> {
    PUBLISHED.get(format!("{}/{name}.json", kind.folder()).as_str()).copied()
}
