//! Time to target: the epochs, steps and seconds until a run first reaches a value of a metric.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{Metric, with_unit};
use crate::stats::median;
use crate::table::{Cell, Column, Table};
use crate::{Outcome, PlannedRun, Record};

/// The target to reach.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// A value of the metric; an accuracy between 0 and 1.
    Value(f64),
    /// The final value of this arm on each problem: its median over seeds.
    Arm(String),
}

/// Why a metric or target cannot be used.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum TargetError {
    /// The metric has no value for each epoch.
    #[error("`{0}` has no value after each epoch")]
    NoCurve(Metric),
    /// The metric cannot be used as a cost: higher values are better, and it has no upper bound to take the difference from.
    #[error("`{0}` is the better the higher, and no share: there is no cost to compare")]
    NoCost(Metric),
    /// A target accuracy outside of 0 to 1.
    #[error("expected a share of 0 to 1, or an arm, got `{got}`")]
    NoShare {
        /// The given value.
        got: f64,
    },
}

impl TargetError {
    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoCurve(_) | Self::NoCost(_) => "choose another `--metric`",
            Self::NoShare { .. } => "accuracies are shares: 85 % is `0.85`",
        }
    }
}

/// When a run reached its target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reached {
    /// The first epoch, from 1, after which it was reached.
    pub epoch: usize,
    /// Optimizer steps until then.
    pub steps: usize,
    /// Wall time of all phases until then, evaluation included.
    pub seconds: f64,
}

/// The time to target of an arm on one problem.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TimeToTarget {
    /// The arm.
    pub arm: String,
    /// The values of the axes.
    pub axes: BTreeMap<String, Value>,
    /// The target; `None` if the arm that sets it has no finished run.
    pub target: Option<f64>,
    /// When each run reached it, by seed; `None` for a run that finished or diverged without reaching it (a censored value).
    pub runs: BTreeMap<u64, Option<Reached>>,
    /// Number of runs that failed or have no record.
    pub unknown: usize,
}

/// Beyond this ratio the times of records say more about the load of their machines than about their arms.
const UNEVEN: f64 = 2.0;

/// How many times as long the slowest step takes as the fastest, among the runs of one arm on one problem; the largest there is, 1 if there is none.
fn unevenness(times: &[TimeToTarget]) -> f64 {
    let ratio = |time: &TimeToTarget| {
        let steps: Vec<f64> =
            time.runs.values().flatten().map(|reached| reached.seconds / reached.steps as f64).collect();
        let (low, high) = steps.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), s| (low.min(*s), high.max(*s)));
        if low > 0.0 && high > 0.0 { high / low } else { 1.0 }
    };
    times.iter().map(ratio).fold(1.0, f64::max)
}

/// When `record` first reached `target`; `None` if it never did.
#[must_use]
pub fn reached(record: &Record, metric: Metric, target: f64) -> Option<Reached> {
    let good = |value: f64| if metric.higher_is_better() { value >= target } else { value <= target };
    let at = record.epochs.iter().position(|epoch| metric.of_epoch(epoch).is_some_and(good))?;
    let epoch = &record.epochs[at];
    let seconds = record.timing.iter().take(at + 1).map(crate::Phases::total).sum();
    Some(Reached { epoch: epoch.epoch, steps: epoch.steps, seconds })
}

/// The time to target of every arm on every problem, in the plan's order.
///
/// # Errors
///
/// [`TargetError`].
pub fn time_to_target(
    runs: &[(PlannedRun, Option<Record>)],
    metric: Metric,
    target: &Target,
) -> Result<Vec<TimeToTarget>, TargetError> {
    if metric == Metric::TrainingTime {
        return Err(TargetError::NoCurve(metric));
    }
    if let Target::Value(got) = *target
        && metric.unit() == "%"
        && !(0.0..=1.0).contains(&got)
    {
        return Err(TargetError::NoShare { got });
    }
    let mut times: Vec<TimeToTarget> = Vec::new();
    for (run, record) in runs {
        let at = times.iter().position(|t| t.arm == run.arm && t.axes == run.axes).unwrap_or_else(|| {
            let target = match target {
                Target::Value(value) => Some(*value),
                Target::Arm(arm) => ends_at(runs, arm, &run.axes, metric),
            };
            let (arm, axes) = (run.arm.clone(), run.axes.clone());
            times.push(TimeToTarget { arm, axes, target, runs: BTreeMap::new(), unknown: 0 });
            times.len() - 1
        });
        let time = &mut times[at];
        match (record, time.target) {
            (Some(record), Some(target)) if record.is_done() => {
                time.runs.insert(run.seed, reached(record, metric, target));
            }
            _ => time.unknown += 1,
        }
    }
    Ok(times)
}

fn ends_at(
    runs: &[(PlannedRun, Option<Record>)],
    arm: &str,
    axes: &BTreeMap<String, Value>,
    metric: Metric,
) -> Option<f64> {
    let here = runs.iter().filter(|(run, _)| run.arm == arm && run.axes == *axes);
    let finished = here.filter_map(|(_, record)| record.as_ref().filter(|r| r.outcome == Outcome::Finished));
    median(&finished.filter_map(|record| metric.of(record)).collect::<Vec<_>>())
}

impl TimeToTarget {
    /// The median of `of` over runs; infinite if the median run did not reach the target, `None` if there are no runs.
    #[must_use]
    pub fn median(&self, of: impl Fn(&Reached) -> f64) -> Option<f64> {
        let value = |reached: &Option<Reached>| reached.as_ref().map_or(f64::INFINITY, &of);
        median(&self.runs.values().map(value).collect::<Vec<_>>())
    }

    /// Number of runs that reached the target.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.runs.values().flatten().count()
    }
}

/// Times to target, as a table.
#[must_use]
pub fn time_to_target_table(times: &[TimeToTarget], metric: Metric) -> Table {
    let mut axes: Vec<&String> = times.iter().flat_map(|time| time.axes.keys()).collect();
    axes.sort();
    axes.dedup();
    let mut columns: Vec<Column> = axes.iter().map(|axis| Column::name(axis, axis)).collect();
    columns.extend([
        Column::name("arm", "arm"),
        Column::number(&with_unit("target", metric.unit()), "target"),
        Column::number("reached", "reached"),
        Column::raw("runs"),
        Column::number("epochs", "median_epochs"),
        Column::number("steps", "median_steps"),
        Column::number("seconds", "median_seconds"),
        Column::raw("unknown"),
    ]);
    let rows = times.iter().map(|time| {
        let mut row: Vec<Cell> = axes.iter().map(|axis| Cell::axis(time.axes.get(*axis))).collect();
        let n = time.runs.len();
        let target = time.target.map_or_else(|| "none".into(), |target| metric.text(target));
        let known = |value: Option<f64>| value.filter(|value| value.is_finite());
        let median = |of: &dyn Fn(&Reached) -> f64, decimals: usize| {
            let value = time.median(of);
            let text = match value {
                Some(value) if value.is_finite() => format!("{value:.decimals$}"),
                Some(_) => "not reached".into(),
                None => "–".into(),
            };
            Cell::number(text, known(value))
        };
        row.extend([
            Cell::name(&*time.arm),
            Cell::number(target, time.target),
            Cell { text: format!("{} of {n}", time.reached()), raw: time.reached().into() },
            Cell::raw(n),
            median(&|reached| reached.epoch as f64, 1),
            median(&|reached| reached.steps as f64, 0),
            median(&|reached| reached.seconds, 1),
            Cell::raw(time.unknown),
        ]);
        row
    });
    let unknown: usize = times.iter().map(|time| time.unknown).sum();
    let mut notes = Vec::new();
    if unknown > 0 {
        notes.push(format!("warning: {unknown} of the runs failed, are missing, or have no target, and are left out"));
    }
    let uneven = unevenness(times);
    if uneven > UNEVEN {
        notes.push(format!(
            "warning: seconds do not compare: a step took up to {uneven:.1} times as long in one record of an arm as in another; epochs and steps do"
        ));
    }
    notes.push(
        "medians over runs; one that never got there counts as later than all that did; looked at after each epoch only; \
         seconds are of all phases, evaluation included, on the machine of the record"
            .into(),
    );
    let sign = if metric.higher_is_better() { "at least" } else { "at most" };
    let title = format!("time until {} is {sign} the target", metric.title().trim_start_matches("final "));
    Table { title, columns, rows: rows.collect(), notes }
}
