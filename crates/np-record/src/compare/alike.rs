//! Arms that do not differ: they have the same configurations, or different ones with the same results.
//!
//! Tables without pairwise comparisons (costs, times to a target, profiles) report this in their notes, as a comparison does in its warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::render::axes_text;
use crate::{Epoch, PlannedRun, Record, Table};

/// What is said of two arms whose records are the same.
pub(super) const SAME_RESULTS: &str = "the same results to the bit: these arms do not differ in anything that acts";

/// An arm that does not differ from an earlier one.
#[derive(Debug, Clone, PartialEq)]
pub struct Likeness {
    /// The later arm.
    pub arm: String,
    /// The earlier one.
    pub earlier: String,
    /// The combinations of axes at which they do not differ; empty if that is all combinations of the later arm.
    pub at: Vec<BTreeMap<String, Value>>,
    /// Whether they have the same runs, not only the same results.
    pub identical: bool,
}

impl fmt::Display for Likeness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arm, earlier, at, identical } = self;
        if *identical {
            write!(f, "`{arm}`: same configuration as `{earlier}`")?;
        } else {
            write!(f, "`{arm}` and `{earlier}`")?;
        }
        if !at.is_empty() {
            let places: Vec<String> = at.iter().map(axes_text).collect();
            write!(f, " at {}", places.join("; at "))?;
        }
        if *identical { f.write_str(", nothing to compare") } else { write!(f, ": {SAME_RESULTS}") }
    }
}

/// The arms that do not differ from an earlier one, each once, in order of appearance. Runs without records are compared by their ids alone.
#[must_use]
pub fn likenesses(runs: &[(PlannedRun, Option<Record>)]) -> Vec<Likeness> {
    let mut arms: Vec<Arm> = Vec::new();
    for (run, record) in runs {
        let at = arms.iter().position(|arm| arm.name == run.arm).unwrap_or_else(|| {
            arms.push(Arm { name: &run.arm, runs: Vec::new(), ids: BTreeSet::new(), epochs: BTreeMap::new() });
            arms.len() - 1
        });
        let arm = &mut arms[at];
        arm.runs.push(run);
        arm.ids.insert(&run.id);
        if let Some(epochs) = record.as_ref().map(|record| record.epochs.as_slice()).filter(|all| !all.is_empty()) {
            arm.epochs.insert(place(run), (&run.id, epochs));
        }
    }
    let mut found = Vec::new();
    for (at, arm) in arms.iter().enumerate() {
        let pairs = arms[..at].iter().flat_map(|earlier| [(earlier, true), (earlier, false)]);
        let all: Vec<Likeness> = pairs.filter_map(|(earlier, identical)| arm.like(earlier, identical)).collect();
        // Of all values of the axes before of some.
        found.extend(all.iter().find(|like| like.at.is_empty()).or_else(|| all.first()).cloned());
    }
    found
}

/// Adds notes to a table, before its other notes, about arms that do not differ. A note that is there already is not repeated.
pub fn note_likenesses(table: &mut Table, runs: &[(PlannedRun, Option<Record>)]) {
    let notes = likenesses(runs).into_iter().filter_map(|like| {
        let turned = Likeness { arm: like.earlier.clone(), earlier: like.arm.clone(), ..like.clone() };
        let [note, turned] = [like, turned].map(|like| format!("warning: {like}"));
        (!table.notes.contains(&note) && !table.notes.contains(&turned)).then_some(note)
    });
    let notes: Vec<String> = notes.collect();
    table.notes.splice(0..0, notes);
}

/// The runs of an arm, and how another's are looked up among them.
struct Arm<'a> {
    name: &'a str,
    runs: Vec<&'a PlannedRun>,
    ids: BTreeSet<&'a str>,
    /// Id and epochs by seed and axes.
    epochs: BTreeMap<(u64, String), (&'a str, &'a [Epoch])>,
}

/// What pairs the runs of two arms.
fn place(run: &PlannedRun) -> (u64, String) {
    (run.seed, axes_text(&run.axes))
}

impl Arm<'_> {
    /// Where this arm does not differ from an earlier one, if anywhere: in its runs (`identical`), or else in their results.
    fn like(&self, earlier: &Self, identical: bool) -> Option<Likeness> {
        let like = |run: &PlannedRun| match identical {
            true => earlier.ids.contains(run.id.as_str()),
            false => self
                .epochs
                .get(&place(run))
                .zip(earlier.epochs.get(&place(run)))
                .is_some_and(|(own, theirs)| own.0 != theirs.0 && own.1 == theirs.1),
        };
        // Groups of the same axes, and whether all their seeds are alike.
        let mut groups: Vec<(&BTreeMap<String, Value>, bool)> = Vec::new();
        for run in &self.runs {
            let like = like(run);
            match groups.iter_mut().find(|(axes, _)| **axes == run.axes) {
                Some((_, all)) => *all &= like,
                None => groups.push((&run.axes, like)),
            }
        }
        let mut at: Vec<_> = groups.iter().filter(|(_, like)| *like).map(|(axes, _)| (*axes).clone()).collect();
        if at.is_empty() {
            return None;
        }
        if at.len() == groups.len() {
            at.clear();
        }
        Some(Likeness { arm: self.name.to_owned(), earlier: earlier.name.to_owned(), at, identical })
    }
}
