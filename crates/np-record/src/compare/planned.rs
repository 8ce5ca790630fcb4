//! The comparisons of a plan: its hypotheses on its outcome, which the experiment file fixed beforehand, and all others, which are exploratory.
//!
//! All tables of tests (`np compare`, `np report`, captions of figures) are made here, so that a test has the same adjusted p wherever it is shown.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{CompareError, Comparison, Measure, Metric, Question};
use crate::stats::Bootstrap;
use crate::table::{Cell, Column, Table};
use crate::{Hypothesis, Plan, PlannedRun, Record};

/// Runs of a plan, each with its record where there is one.
type Runs = [(PlannedRun, Option<Record>)];

/// The family of tests that Holm's adjustment is made over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The comparisons given to [`Comparison::adjust_together`]. The default.
    #[default]
    Shown,
    /// The plan's hypotheses on its outcome.
    Hypotheses,
    /// The plan's first arm against each other arm by one number, without the hypotheses.
    Exploratory,
    /// All pairs of the plan's arms by one number, without the hypotheses.
    AllPairs,
}

/// Which comparisons of a plan are to be made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked<'a> {
    /// The number that is compared. `None`: [`Measure::usual`].
    pub measure: Option<Measure>,
    /// The pairs of arms in addition to the plan's hypotheses.
    pub pairs: Pairs<'a>,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

/// Pairs of arms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pairs<'a> {
    /// The plan's first arm against each other arm. The default.
    #[default]
    OfFirst,
    /// This arm against each other arm.
    Of(&'a str),
    /// Each other arm against this arm.
    Against(&'a str),
}

/// The comparisons of a plan's arms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The number that is compared.
    pub measure: Measure,
    /// Whether it is the plan's outcome.
    pub is_outcome: bool,
    /// The plan's hypotheses, if the number is its outcome: one family of tests.
    pub hypotheses: Vec<Comparison>,
    /// Hypotheses that cannot be tested because an arm has no runs, a sentence each.
    pub untested: Vec<String>,
    /// The other pairs that were requested.
    pub exploratory: Vec<Comparison>,
}

impl Family {
    /// The name in CSV and JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Shown => "shown",
            Self::Hypotheses => "hypotheses",
            Self::Exploratory => "exploratory",
            Self::AllPairs => "all-pairs",
        }
    }

    /// Whose tests it has, where they are more than one table's.
    pub(super) fn whose(self) -> &'static str {
        match self {
            Self::Shown => ", those of all tables here",
            Self::Hypotheses => ", those of all hypotheses",
            Self::Exploratory => ", those of all exploratory tables of this number",
            Self::AllPairs => ", those of all pairs of arms",
        }
    }
}

impl Compared {
    /// The heading of tables of exploratory tests.
    pub const EXPLORATORY: &'static str =
        "exploratory: not fixed in the experiment's file before its runs, and no test of a hypothesis";

    /// Compares the arms of `plan` over `runs`: its runs or, after a selection, those of the chosen configurations.
    ///
    /// The hypotheses are one family of tests. An exploratory test is adjusted over the tests of the plan's first arm against each other arm, if it is
    /// one of these, else over the tests of all pairs of arms. The adjusted p does not depend on which of them are shown.
    ///
    /// # Errors
    ///
    /// [`CompareError`] if the request does not fit the plan.
    pub fn of(plan: &Plan, runs: &Runs, asked: &Asked) -> Result<Self, CompareError> {
        let Asked { measure, pairs, bootstrap } = *asked;
        let outcome = plan.outcome.map(crate::StatedOutcome::measure);
        let measure = measure.unwrap_or_else(|| Measure::usual(plan, runs));
        let is_outcome = outcome == Some(measure);
        let stated: &[Hypothesis] = if is_outcome { &plan.hypotheses } else { &[] };
        let arms = arms(runs);
        let is_there = |arm: &String| arms.contains(&arm.as_str());
        let (tested, lost): (Vec<&Hypothesis>, Vec<&Hypothesis>) =
            stated.iter().partition(|pair| is_there(&pair.arm) && is_there(&pair.against));
        let compare = |arm: &str, baseline: &str, bootstrap: Bootstrap| {
            Comparison::new(Question { arm: arm.into(), baseline: baseline.into(), metric: measure, bootstrap }, runs)
        };
        let mut hypotheses = Vec::new();
        for pair in tested {
            hypotheses.push(Comparison { name: pair.name.clone(), ..compare(&pair.arm, &pair.against, bootstrap)? });
        }
        Comparison::adjust(&mut hypotheses, Family::Hypotheses);

        let is_free = |(one, other): &(&str, &str)| one != other && !stated.iter().any(|pair| pair.pairs(one, other));
        let first = arms.first().copied().unwrap_or_default();
        let usual: Vec<(&str, &str)> = arms.iter().map(|other| (first, *other)).filter(is_free).collect();
        let pairs: Vec<(&str, &str)> = match pairs {
            Pairs::OfFirst => usual.clone(),
            Pairs::Of(subject) => arms.iter().map(|other| (subject, *other)).filter(is_free).collect(),
            Pairs::Against(baseline) => arms.iter().map(|other| (*other, baseline)).filter(is_free).collect(),
        };
        let mut exploratory: Vec<Comparison> =
            pairs.iter().map(|(arm, baseline)| compare(arm, baseline, bootstrap)).collect::<Result<_, _>>()?;
        if pairs == usual {
            Comparison::adjust(&mut exploratory, Family::Exploratory);
        } else {
            // An interval is not needed for a p.
            let quick = Bootstrap { resamples: 0, ..bootstrap };
            let every = (0..arms.len())
                .flat_map(|at| arms[at + 1..].iter().map(|other| (arms[at], *other)).collect::<Vec<_>>());
            let families = [(Family::AllPairs, every.filter(is_free).collect()), (Family::Exploratory, usual)];
            for (family, of_it) in families {
                let mut all =
                    of_it.iter().map(|(one, other)| compare(one, other, quick)).collect::<Result<Vec<_>, _>>()?;
                Comparison::adjust(&mut all, family);
                exploratory.iter_mut().for_each(|shown| shown.take_adjusted(&all));
            }
        }
        let untested = lost.into_iter().map(|pair| {
            let (arm, against) = (&pair.arm, &pair.against);
            format!("hypothesis `{arm}` against `{against}`: one of them has no runs that could be compared")
        });
        Ok(Self { measure, is_outcome, hypotheses, untested: untested.collect(), exploratory })
    }

    /// All comparisons, the hypotheses first.
    pub fn all(&self) -> impl Iterator<Item = &Comparison> {
        self.hypotheses.iter().chain(&self.exploratory)
    }

    /// Adds a warning to every group, such as how its runs were selected.
    pub fn warn(&mut self, warning: &str) {
        self.hypotheses.iter_mut().chain(&mut self.exploratory).for_each(|part| part.warn(warning));
    }

    /// The heading of the tables of the hypotheses.
    #[must_use]
    pub fn heading(&self) -> String {
        format!(
            "fixed in the experiment's file before its runs: the outcome ({}) and these pairs of arms",
            self.measure.title()
        )
    }

    /// A table of further metrics beside the outcome (accuracy and loss of the last epoch), without tests. It has the pairs of the hypotheses, or all
    /// pairs if there are none. `None` if the compared number is not the plan's outcome.
    ///
    /// # Errors
    ///
    /// As [`Comparison::new`].
    pub fn beside(&self, runs: &Runs) -> Result<Option<Table>, CompareError> {
        let parts = if self.hypotheses.is_empty() { &self.exploratory } else { &self.hypotheses };
        if !self.is_outcome || parts.is_empty() {
            return Ok(None);
        }
        let mut axes: Vec<&String> = parts.iter().flat_map(|part| &part.groups).flat_map(|g| g.axes.keys()).collect();
        axes.sort();
        axes.dedup();
        let mut columns: Vec<Column> = axes.iter().map(|axis| Column::name(axis, axis)).collect();
        columns.extend(["arm", "against", "number"].map(|title| Column::name(title, title)));
        columns.extend(
            ["that of the arm", "that of the other", "n", "difference", "interval"]
                .map(|title| Column::number(title, title)),
        );
        let mut rows = Vec::new();
        for part in parts {
            for metric in self.beside_metrics().into_iter().filter(|metric| metric.is_measured(runs)) {
                let question = Question {
                    arm: part.arm.clone(),
                    baseline: part.baseline.clone(),
                    metric: metric.into(),
                    bootstrap: part.bootstrap,
                };
                let by_it = Comparison::new(question, runs)?;
                for group in &by_it.groups {
                    let mut row: Vec<Cell> = axes.iter().map(|axis| Cell::axis(group.axes.get(*axis))).collect();
                    row.extend([&*part.arm, &*part.baseline].map(Cell::name));
                    row.push(Cell::name(metric.titled()));
                    row.extend([&group.arm, &group.baseline].map(|side| Cell::printed(by_it.summary_text(side))));
                    let [n, difference, interval, ..] = by_it.difference_cells(group.difference.as_ref());
                    row.extend([n, difference, interval].map(Cell::printed));
                    rows.push(row);
                }
            }
        }
        let title = "beside the outcome: the same pairs by other numbers, after the last epoch; not tested".into();
        let notes =
            vec!["mean ± sample standard deviation; difference paired by seed, with its bootstrap interval".into()];
        Ok(Some(Table { title, columns, rows, notes }))
    }

    /// The further metrics that are shown beside the outcome.
    #[must_use]
    pub fn beside_metrics(&self) -> Vec<Metric> {
        let all = [Metric::FinalTestAccuracy, Metric::FinalTrainLoss, Metric::FinalTestLoss];
        all.into_iter().filter(|metric| Measure::from(*metric) != self.measure).collect()
    }
}

/// Names of the arms, in order of appearance.
fn arms(runs: &Runs) -> Vec<&str> {
    let mut arms: Vec<&str> = Vec::new();
    for (run, _) in runs {
        if !arms.contains(&run.arm.as_str()) {
            arms.push(&run.arm);
        }
    }
    arms
}

impl Comparison {
    /// Adjusts the p values of a whole family.
    fn adjust(family: &mut [Comparison], name: Family) {
        Self::adjust_together(family.iter_mut());
        family.iter_mut().for_each(|part| part.family_of = name);
    }

    /// Takes up the adjusted p values of the same two arms, in either order, from a family that has them.
    fn take_adjusted(&mut self, family: &[Comparison]) {
        let same = |other: &&Comparison| {
            let pair = (other.arm.as_str(), other.baseline.as_str());
            [(&*self.arm, &*self.baseline), (&*self.baseline, &*self.arm)].contains(&pair)
        };
        let Some(same) = family.iter().find(same) else { return };
        let p: BTreeMap<String, f64> = same
            .groups
            .iter()
            .filter_map(|group| Some((key(&group.axes), group.difference.as_ref()?.p_holm)))
            .collect();
        (self.family, self.family_of) = (same.family, same.family_of);
        for group in &mut self.groups {
            let adjusted = p.get(&key(&group.axes));
            if let Some((difference, p)) = group.difference.as_mut().zip(adjusted) {
                difference.p_holm = *p;
            }
        }
    }
}

fn key(axes: &BTreeMap<String, Value>) -> String {
    super::axes_text(axes)
}
