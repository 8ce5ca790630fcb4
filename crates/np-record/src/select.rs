//! Selects the best configuration of every arm. The tried values of settings are axes of the plan.
//!
//! The score of a configuration is the mean over seeds of the accuracy (or of the loss, for a task without accuracy), after the last epoch or averaged over
//! the last epochs. It is measured on the examples held out for validation or, as the paper does, on the test split. An arm with more configurations has
//! better chances. So the numbers of configurations are reported, and can be made equal.

mod quantity;
mod show;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stats::{self, SplitMix64};
use crate::{Outcome, Plan, PlannedRun, Record};

pub use quantity::Quantity;

/// Runs of a plan, each with its record if there is one.
pub type Runs = Vec<(PlannedRun, Option<Record>)>;

/// The split that configurations are selected on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Held-out training examples (`data.validation`), so that the test split has no influence on the selection. The default.
    #[default]
    Validation,
    /// The test split, as the paper does. Reported results are then too good on average.
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

    /// The score of a record on this split, averaged over the last `last_epochs` epochs. `None` if the run has fewer epochs or no such score.
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

/// How many configurations of an arm take part in the selection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Budget {
    /// All that are planned. The default.
    #[default]
    Planned,
    /// As many as the arm with the fewest configurations has, drawn at random with this seed.
    Equal(u64),
}

/// Settings of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The split that configurations are selected on.
    pub split: Split,
    /// Number of last epochs over which the score is averaged. Default 1; [`Rule::of`] takes it from the experiment's outcome.
    pub last_epochs: NonZeroUsize,
    /// The tuned axes, by which the configurations of an arm differ. Empty: all axes of `optimizer.…`, `options.…` and `train.…`. The other axes
    /// (data, model) are problems, and each arm is tuned on each of them separately.
    pub tuned: Vec<String>,
    /// How many configurations take part.
    pub budget: Budget,
}

impl Default for Rule {
    fn default() -> Self {
        Self { split: Split::default(), last_epochs: NonZeroUsize::MIN, tuned: Vec::new(), budget: Budget::default() }
    }
}

impl Rule {
    /// The rule for the runs of `plan`, on a split. Scores are averaged over as many epochs as the plan's outcome, if it fixes one.
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
    /// The plan has no tuned axis.
    #[error("nothing to select: no axis of `optimizer`, `options` or `train`, got {}", names(got))]
    NothingTuned {
        /// The plan's axes.
        got: Vec<String>,
    },
    /// The plan has no axis of this name.
    #[error("expected an axis of the plan, got `{got}`")]
    UnknownAxis {
        /// The plan's axes.
        expected: Vec<String>,
        /// The given name.
        got: String,
    },
    /// A finished run has no validation score.
    #[error("run `{id}` of arm `{arm}` has no validation score")]
    NoValidation {
        /// The run.
        id: String,
        /// Its arm.
        arm: String,
    },
}

impl SelectError {
    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::NothingTuned { .. } => {
                "try values with `--sweep optimizer.lr=0.1,0.03`, or name the tuned axis with `--tune KEY`".to_owned()
            }
            Self::UnknownAxis { expected, .. } => format!("its axes are {}", names(expected)),
            Self::NoValidation { .. } => {
                "hold examples out with `data.validation` (`--set data.validation=0.1`) and train again, or select on the test split, as the paper does, with `--select test`".to_owned()
            }
        }
    }
}

fn names(axes: &[String]) -> String {
    if axes.is_empty() {
        return "none".into();
    }
    axes.iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ")
}

/// The result of a selection, for every arm and problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Selection {
    /// The split that configurations were selected on.
    pub split: Split,
    /// The quantity that they were selected by; not written if it is the accuracy.
    #[serde(skip_serializing_if = "Quantity::is_accuracy")]
    pub quantity: Quantity,
    /// Number of last epochs over which the score was averaged.
    pub last_epochs: NonZeroUsize,
    /// The tuned axes.
    pub tuned: Vec<String>,
    /// The choice for each arm and problem, in the plan's order.
    pub choices: Vec<Choice>,
    /// Caveats for the reader.
    pub warnings: Vec<String>,
}

/// The selection within one arm, on one problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    /// The arm.
    pub arm: String,
    /// The values of the other axes.
    pub axes: BTreeMap<String, Value>,
    /// The configurations, in the plan's order.
    pub candidates: Vec<Candidate>,
    /// Index of the best of `candidates`; `None` if none has finished with all its seeds.
    pub chosen: Option<usize>,
}

/// One configuration of an arm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The values of the tuned axes.
    pub axes: BTreeMap<String, Value>,
    /// Whether it takes part in the selection, see [`Budget`].
    pub competes: bool,
    /// Number of planned runs, one for each seed.
    pub runs: usize,
    /// Number of runs that finished with a finite score.
    pub finished: usize,
    /// Number of runs that diverged.
    pub diverged: usize,
    /// Optimizer steps of all its runs.
    pub steps: usize,
    /// Mean score over seeds. `None` unless every planned run has a score, so that no configuration gains from a missing seed.
    pub score: Option<f64>,
    /// Sample standard deviation of the score over seeds.
    pub std: Option<f64>,
}

impl Choice {
    /// Number of configurations that take part, and number of their runs that finished or diverged.
    #[must_use]
    pub fn budget(&self) -> (usize, usize) {
        let competing = || self.candidates.iter().filter(|candidate| candidate.competes);
        (competing().count(), competing().map(|candidate| candidate.finished + candidate.diverged).sum())
    }

    /// Mean number of optimizer steps of its finished runs.
    #[must_use]
    pub fn steps_a_run(&self) -> Option<f64> {
        let whole = || self.candidates.iter().filter(|c| c.competes && c.finished == c.runs && c.runs > 0);
        let runs: usize = whole().map(|candidate| candidate.runs).sum();
        (runs > 0).then(|| whole().map(|candidate| candidate.steps).sum::<usize>() as f64 / runs as f64)
    }

    /// The best configuration; `None` if none was chosen.
    #[must_use]
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.get(self.chosen?)
    }

    /// The scores of the configurations that take part and have one.
    #[must_use]
    pub fn scores(&self) -> Vec<f64> {
        self.candidates.iter().filter(|candidate| candidate.competes).filter_map(|candidate| candidate.score).collect()
    }
}

/// A configuration without its seed and validation fraction. A final training and the tuning run that its settings come from have this part in
/// common.
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

/// Selects each arm's best configuration on each problem. Returns the selection, and the runs of the chosen configurations without the tuned axes, as
/// if the plan had not swept them. If no configuration of an arm can be chosen, the runs of its first one are returned, so that diverged and missing
/// runs are counted.
///
/// # Errors
///
/// [`SelectError`] if the plan has no tuned axis, a named axis does not exist, or a finished run has no validation score.
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
