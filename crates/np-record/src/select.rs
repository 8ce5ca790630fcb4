//! The best configuration of every arm: tried values are axes of a plan, and each arm is represented by the one that scores best.
//!
//! The score is the mean accuracy over seeds (of a task that has none, the mean loss), after the last epoch or over the last few, on the examples held out for validation or, as the paper does, on the test split. A
//! selection is only as fair as its budget: who tries more finds more. So budgets are counted, and can be made equal.

mod quantity;
mod show;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stats::{self, SplitMix64};
use crate::{Outcome, Plan, PlannedRun, Record};

pub use quantity::Quantity;

/// Runs of a plan, each with its record where there is one.
pub type Runs = Vec<(PlannedRun, Option<Record>)>;

/// The split that configurations are judged on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Training examples that were held out (`data.validation`). The default: the test split has no part in the choice.
    #[default]
    Validation,
    /// The test split, as the paper does: what is reported is then too good on average.
    Test,
}

impl Split {
    /// The name in a sentence and on a command line.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Split::Validation => "validation",
            Split::Test => "test",
        }
    }

    /// The score on it, mean over so many epochs at the end; `None` where the run has fewer, or no such score.
    #[must_use]
    pub fn score(self, quantity: Quantity, record: &Record, last_epochs: NonZeroUsize) -> Option<f64> {
        let from = record.epochs.len().checked_sub(last_epochs.get())?;
        let scores = record.epochs[from..].iter().map(|epoch| match (self, quantity) {
            (Split::Validation, Quantity::Accuracy) => epoch.validation.and_then(|score| score.accuracy),
            (Split::Validation, Quantity::Loss) => epoch.validation.map(|score| score.loss),
            (Split::Test, Quantity::Accuracy) => epoch.test_accuracy,
            (Split::Test, Quantity::Loss) => epoch.test_loss,
        });
        stats::mean(&scores.collect::<Option<Vec<f64>>>()?)
    }
}

/// How many configurations of an arm may compete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Budget {
    /// All that were planned.
    #[default]
    Planned,
    /// As many as the arm with the fewest has, drawn by this seed.
    Equal(u64),
}

/// How configurations are selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What they are judged on.
    pub split: Split,
    /// Over how many epochs at the end of a run their accuracy is averaged. Default 1; an experiment that fixes its outcome selects by the same
    /// average.
    pub last_epochs: NonZeroUsize,
    /// The axes that tell the configurations of an arm apart; empty for all of `optimizer.…`, `options.…` and `train.…`. The other axes
    /// (data, model) are problems: each arm is tuned for each of them.
    pub tuned: Vec<String>,
    /// How many may compete.
    pub budget: Budget,
}

impl Default for Rule {
    fn default() -> Self {
        Self { split: Split::default(), last_epochs: NonZeroUsize::MIN, tuned: Vec::new(), budget: Budget::default() }
    }
}

impl Rule {
    /// How the runs of `plan` are selected by a split: over the epochs of its outcome, where it fixes one.
    #[must_use]
    pub fn of(plan: &Plan, split: Split) -> Self {
        let last_epochs = plan.outcome.map_or(NonZeroUsize::MIN, |outcome| outcome.last_epochs);
        Self { split, last_epochs, ..Self::default() }
    }
}

/// Why nothing can be selected.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SelectError {
    /// No axis of the plan is a tuned one.
    #[error(
        "nothing to select: no axis of `optimizer`, `options` or `train`, got {}\nhint: try values with `--sweep optimizer.lr=0.1,0.03`, or name the tuned axis with `--tune KEY`",
        names(got)
    )]
    NothingTuned {
        /// The axes that there are.
        got: Vec<String>,
    },
    /// A named axis is none.
    #[error("expected an axis of the plan, got `{got}`\nhint: its axes are {}", names(expected))]
    UnknownAxis {
        /// The axes that there are.
        expected: Vec<String>,
        /// The one named.
        got: String,
    },
    /// A finished run was not judged on held-out examples.
    #[error(
        "run `{id}` of arm `{arm}` has no validation score\nhint: hold examples out with `data.validation` (`--set data.validation=0.1`) and train again, or select on the test split, as the paper does, with `--select test`"
    )]
    NoValidation {
        /// The run.
        id: String,
        /// Its arm.
        arm: String,
    },
}

fn names(axes: &[String]) -> String {
    if axes.is_empty() {
        return "none".into();
    }
    axes.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ")
}

/// What was selected, for every arm and problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selection {
    /// What configurations were judged on.
    pub split: Split,
    /// What they were judged by; not written where it is the accuracy.
    #[serde(skip_serializing_if = "Quantity::is_accuracy")]
    pub quantity: Quantity,
    /// Over how many epochs at the end their accuracy was averaged.
    pub last_epochs: NonZeroUsize,
    /// The axes that told them apart.
    pub tuned: Vec<String>,
    /// Arm by arm and problem by problem, in the plan's order.
    pub choices: Vec<Choice>,
    /// What a reader must know.
    pub warnings: Vec<String>,
}

/// The competition within one arm, for one problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The arm.
    pub arm: String,
    /// The values of the other axes.
    pub axes: BTreeMap<String, Value>,
    /// The configurations, in the plan's order.
    pub candidates: Vec<Candidate>,
    /// The place of the best among them; `None` if none has finished for all its seeds.
    pub chosen: Option<usize>,
}

/// One configuration of an arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The values of the tuned axes.
    pub axes: BTreeMap<String, Value>,
    /// Whether it may compete, see [`Budget`].
    pub competes: bool,
    /// Runs planned: one a seed.
    pub runs: usize,
    /// Runs that finished with a finite score.
    pub finished: usize,
    /// Runs that diverged.
    pub diverged: usize,
    /// Optimizer steps of all its runs.
    pub steps: usize,
    /// Mean score over seeds, if every planned run has one: luck on the seeds that are left is no merit.
    pub score: Option<f64>,
    /// Sample standard deviation of the score.
    pub std: Option<f64>,
}

impl Choice {
    /// Configurations that compete, and their runs that were trained to an end, good or bad.
    #[must_use]
    pub fn budget(&self) -> (usize, usize) {
        let competing = || self.candidates.iter().filter(|candidate| candidate.competes);
        (competing().count(), competing().map(|candidate| candidate.finished + candidate.diverged).sum())
    }

    /// Mean optimizer steps of its finished runs: how long a training of this arm is.
    #[must_use]
    pub fn steps_a_run(&self) -> Option<f64> {
        let whole = || self.candidates.iter().filter(|c| c.competes && c.finished == c.runs && c.runs > 0);
        let runs: usize = whole().map(|candidate| candidate.runs).sum();
        (runs > 0).then(|| whole().map(|candidate| candidate.steps).sum::<usize>() as f64 / runs as f64)
    }

    /// The best configuration.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.get(self.chosen?)
    }

    /// The scores of the configurations that compete and have one.
    #[must_use]
    pub fn scores(&self) -> Vec<f64> {
        self.candidates.iter().filter(|candidate| candidate.competes).filter_map(|candidate| candidate.score).collect()
    }
}

/// What a final training shares with the one that its settings were chosen by: a configuration without its seed, and without the share of
/// examples that was held out to choose by.
#[must_use]
pub fn as_tuned(config: &Value) -> Value {
    let mut config = config.clone();
    if let Some(map) = config.as_object_mut() {
        map.retain(|key, _| key != "seed");
    }
    if let Some(data) = config.get_mut("data").and_then(Value::as_object_mut) {
        data.retain(|key, _| key != "validation");
    }
    config
}

/// Selects each arm's best configuration for each problem. What comes back beside the selection are the runs of the chosen configurations,
/// without the tuned axes: as if the plan had never swept them. Where no configuration of an arm can be chosen its first one
/// stands for it, so that what diverged or is missing is counted.
///
/// # Errors
///
/// [`SelectError`]: there is nothing to choose from, or nothing to choose by.
pub fn select(rule: &Rule, runs: &[(PlannedRun, Option<Record>)]) -> Result<(Selection, Runs), SelectError> {
    let tuned = tuned(rule, runs)?;
    let quantity = Quantity::of(runs);
    let mut choices: Vec<Choice> = Vec::new();
    let mut members: Vec<Vec<Vec<usize>>> = Vec::new();
    for (index, (run, _)) in runs.iter().enumerate() {
        let (own, problem): (BTreeMap<_, _>, BTreeMap<_, _>) =
            run.axes.clone().into_iter().partition(|(axis, _)| tuned.contains(axis));
        let at = choices.iter().position(|c| c.arm == run.arm && c.axes == problem).unwrap_or_else(|| {
            choices.push(Choice { arm: run.arm.clone(), axes: problem, candidates: Vec::new(), chosen: None });
            members.push(Vec::new());
            choices.len() - 1
        });
        let candidates = &mut choices[at].candidates;
        let which = candidates.iter().position(|candidate| candidate.axes == own).unwrap_or_else(|| {
            candidates.push(Candidate::new(own));
            members[at].push(Vec::new());
            candidates.len() - 1
        });
        members[at][which].push(index);
    }
    for (choice, members) in choices.iter_mut().zip(&members) {
        for (candidate, indices) in choice.candidates.iter_mut().zip(members) {
            candidate.judge(rule, quantity, &choice.arm, indices.iter().map(|&index| &runs[index]))?;
        }
    }
    if let Budget::Equal(seed) = rule.budget {
        equalise(&mut choices, seed);
    }
    choices.iter_mut().for_each(|choice| choice.choose(quantity));
    let kept = choices.iter().zip(&members).flat_map(|(choice, members)| {
        let first = choice.candidates.iter().position(|candidate| candidate.competes);
        choice.chosen.or(first).map(|which| members[which].clone()).unwrap_or_default()
    });
    let mut kept: Vec<usize> = kept.collect();
    kept.sort_unstable();
    let reduced = |index: usize| {
        let (mut run, record) = runs[index].clone();
        run.axes.retain(|axis, _| !tuned.contains(axis));
        (run, record)
    };
    let kept = kept.into_iter().map(reduced).collect();
    let warnings = show::warnings(rule.split, quantity, &choices);
    let (split, last_epochs) = (rule.split, rule.last_epochs);
    Ok((Selection { split, quantity, last_epochs, tuned, choices, warnings }, kept))
}

/// The tuned axes of a plan's runs.
fn tuned(rule: &Rule, runs: &[(PlannedRun, Option<Record>)]) -> Result<Vec<String>, SelectError> {
    let mut all: Vec<String> = runs.iter().flat_map(|(run, _)| run.axes.keys().cloned()).collect();
    all.sort();
    all.dedup();
    if let Some(got) = rule.tuned.iter().find(|axis| !all.contains(axis)) {
        return Err(SelectError::UnknownAxis { expected: all, got: got.clone() });
    }
    let part = |axis: &str| ["optimizer", "options", "train"].contains(&axis.split('.').next().unwrap_or_default());
    let is_tuned = |axis: &&String| if rule.tuned.is_empty() { part(axis) } else { rule.tuned.contains(axis) };
    let tuned: Vec<String> = all.iter().filter(is_tuned).cloned().collect();
    if tuned.is_empty() { Err(SelectError::NothingTuned { got: all }) } else { Ok(tuned) }
}

/// Lets only as many configurations compete as the arm with the fewest has, problem by problem. The draw depends on the seed and the arm's
/// name alone, so that it is the same for every problem and whatever other arms there are, as long as the number is.
fn equalise(choices: &mut [Choice], seed: u64) {
    let fewest: Vec<usize> = choices
        .iter()
        .map(|choice| {
            let rivals = choices.iter().filter(|rival| rival.axes == choice.axes);
            rivals.map(|rival| rival.candidates.len()).min().unwrap_or(0)
        })
        .collect();
    for (choice, fewest) in choices.iter_mut().zip(fewest) {
        let name = choice
            .arm
            .bytes()
            .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        let mut random = SplitMix64(seed ^ name);
        let mut places: Vec<usize> = (0..choice.candidates.len()).collect();
        for drawn in 0..fewest {
            places.swap(drawn, drawn + random.below(choice.candidates.len() - drawn));
        }
        for &left in &places[fewest..] {
            choice.candidates[left].competes = false;
        }
    }
}

impl Candidate {
    fn new(axes: BTreeMap<String, Value>) -> Self {
        Self { axes, competes: true, runs: 0, finished: 0, diverged: 0, steps: 0, score: None, std: None }
    }

    fn judge<'a>(
        &mut self,
        rule: &Rule,
        quantity: Quantity,
        arm: &str,
        runs: impl Iterator<Item = &'a (PlannedRun, Option<Record>)>,
    ) -> Result<(), SelectError> {
        let mut scores = Vec::new();
        for (run, record) in runs {
            self.runs += 1;
            let Some(record) = record else { continue };
            self.steps += record.last().map_or(0, |last| last.steps);
            match &record.outcome {
                Outcome::Failed { .. } => {}
                Outcome::Diverged { .. } => self.diverged += 1,
                Outcome::Finished => match rule.split.score(quantity, record, rule.last_epochs) {
                    None => return Err(SelectError::NoValidation { id: run.id.clone(), arm: arm.into() }),
                    Some(score) if score.is_finite() => scores.push(score),
                    Some(_) => self.diverged += 1,
                },
            }
        }
        self.finished = scores.len();
        if self.finished == self.runs {
            (self.score, self.std) = (stats::mean(&scores), stats::sample_std(&scores));
        }
        Ok(())
    }
}

impl Choice {
    /// The best score; of equals the first.
    fn choose(&mut self, quantity: Quantity) {
        let mut best: Option<(usize, f64)> = None;
        let beats = |score: f64, best: f64| match quantity {
            Quantity::Accuracy => score > best,
            Quantity::Loss => score < best,
        };
        for (which, candidate) in self.candidates.iter().enumerate().filter(|(_, candidate)| candidate.competes) {
            if let Some(score) = candidate.score.filter(|score| best.is_none_or(|(_, other)| beats(*score, other))) {
                best = Some((which, score));
            }
        }
        self.chosen = best.map(|(which, _)| which);
    }
}
