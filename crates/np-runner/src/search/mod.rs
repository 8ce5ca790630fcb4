//! Searches: configurations drawn from a space that an experiment file states, trained in rungs, and chosen by held-out images.
//!
//! ```text
//! search: in FILE.yaml ─ spec, space ─► configurations of every arm ─ rung 1 ─► records ─ prune ─► rung 2, an experiment of its own ─► … ─► report
//! ```
//!
//! The file's own runs are those of the first rung: to every other command a search is an experiment. Later rungs depend on records, and each is
//! [written](mod@write) as an experiment in `searches/` of the store. So all of a search's runs are ordinary ones, with ids of their configurations: a search that is
//! started again trains nothing twice.

pub(crate) mod prune;
pub(crate) mod report;
pub(crate) mod rungs;
pub(crate) mod space;
mod spec;
pub(crate) mod write;

use std::num::NonZeroUsize;

use np_record::{Hypothesis, StatedOutcome, select::Split};
use serde_json::{Map, Value};

pub(crate) use spec::{SearchSpec, Written};

/// A search, resolved: every configuration that it may train.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    /// How configurations are chosen among.
    pub(crate) method: rungs::Method,
    /// The seeds of every configuration at every rung.
    pub(crate) seeds: Vec<u64>,
    /// The seeds of the finals.
    pub(crate) final_seeds: Vec<u64>,
    /// The rungs, the first one first.
    pub(crate) rungs: Vec<rungs::Rung>,
    /// What the file fixes for the finals.
    pub(crate) outcome: Option<StatedOutcome>,
    /// The pairs that the finals test.
    pub(crate) hypotheses: Vec<Hypothesis>,
    /// How launchers are to run it, as the file says.
    pub(crate) launcher: Option<Value>,
    /// The arms, in the file's order.
    pub(crate) arms: Vec<Arm>,
}

/// An arm of a search.
#[derive(Debug, Clone)]
pub(crate) struct Arm {
    /// Its name.
    pub(crate) name: String,
    /// What its configurations are drawn from.
    pub(crate) space: Vec<space::Dimension>,
    /// Its configurations, by number.
    pub(crate) points: Vec<Map<String, Value>>,
    /// The parts of its runs, without the values that are searched.
    pub(crate) bare: Value,
}

impl Search {
    /// Over how many epochs at the end of a rung's runs their accuracy is averaged: as many as the outcome's, and no more than there are.
    pub(crate) fn last_epochs(&self, rung: rungs::Rung) -> NonZeroUsize {
        let asked = self.outcome.map_or(NonZeroUsize::MIN, |outcome| outcome.last_epochs);
        let most = NonZeroUsize::new(rung.epochs as usize).unwrap_or(NonZeroUsize::MIN);
        asked.min(most)
    }

    /// What an experiment states that is the first rung: it selects by held-out images, averages over no more epochs than there are, and tests nothing.
    pub(crate) fn stated(&self) -> (Option<Split>, Option<StatedOutcome>, Vec<Hypothesis>) {
        let first = self.rungs.first();
        let outcome = |outcome: StatedOutcome| StatedOutcome {
            last_epochs: first.map_or(outcome.last_epochs, |rung| self.last_epochs(*rung)),
            ..outcome
        };
        (Some(Split::Validation), self.outcome.map(outcome), Vec::new())
    }

    /// What other commands must say of it.
    pub(crate) fn warning(&self) -> Option<String> {
        let all = self.rungs.len();
        (all > 1).then(|| {
            format!("these are the runs of the first of {all} rungs of a search: `np search` goes on with the others")
        })
    }

    /// Epochs of training that every arm gets.
    pub(crate) fn budget(&self) -> u64 {
        rungs::budget(&self.rungs, self.seeds.len())
    }

    /// The budget in a sentence.
    pub(crate) fn budget_in_words(&self) -> String {
        let (seeds, first) = (self.seeds.len(), self.rungs.first().map_or(0, |rung| rung.configurations));
        format!(
            "the same for every arm: {first} configurations and {} epochs of training ({} configurations × epochs, {seeds} seeds each)",
            self.budget(),
            rungs::in_words(&self.rungs)
        )
    }
}
