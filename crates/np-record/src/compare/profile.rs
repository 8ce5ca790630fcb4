//! Performance profiles over problems: data sets, fractions, experiments.

use super::{Metric, Target, TargetError, time_to_target};
use crate::stats::{Profile, median};
use crate::table::{Cell, Column, Table};
use crate::{Outcome, PlannedRun, Record};

/// What each arm costs on one problem.
type Costs = Vec<(String, Option<f64>)>;

/// What a run costs: less is better.
#[derive(Debug, Clone, PartialEq)]
pub enum Cost {
    /// Epochs to a target.
    Epochs(Target),
    /// Optimizer steps to a target.
    Steps(Target),
    /// Wall time to a target.
    Seconds(Target),
    /// What it ends at: the error, where the metric is an accuracy, else the metric itself.
    Final,
}

/// One experiment's runs, under its name.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// The experiment.
    pub experiment: &'a str,
    /// Its runs.
    pub runs: &'a [(PlannedRun, Option<Record>)],
}

/// The factors that a table shows.
const FACTORS: [f64; 6] = [1.0, 1.05, 1.1, 1.25, 1.5, 2.0];

/// The largest factor of the score, as AlgoPerf has it.
const LARGEST: f64 = 4.0;

/// The performance profile of every arm that all problems have: each combination of axes of each experiment is a problem, and an arm's cost
/// on it the median over seeds.
///
/// # Errors
///
/// [`TargetError`].
pub fn profile(experiments: &[Problem<'_>], metric: Metric, cost: &Cost) -> Result<Table, TargetError> {
    // Costs by problem and arm.
    let mut problems: Vec<Costs> = Vec::new();
    for Problem { runs, .. } in experiments {
        problems.extend(costs(runs, metric, cost)?);
    }
    let mut arms: Vec<&String> = problems.first().into_iter().flatten().map(|(arm, _)| arm).collect();
    arms.retain(|arm| problems.iter().all(|problem| problem.iter().any(|(other, _)| other == *arm)));
    let mut left_out: Vec<&String> = problems.iter().flatten().map(|(arm, _)| arm).collect();
    left_out.retain(|arm| !arms.contains(arm));
    left_out.sort();
    left_out.dedup();
    let table: Vec<Vec<Option<f64>>> = problems
        .iter()
        .map(|problem| {
            let of = |arm: &&String| problem.iter().find(|(other, _)| other == *arm).and_then(|(_, cost)| *cost);
            arms.iter().map(of).collect()
        })
        .collect();
    let what = match cost {
        Cost::Epochs(_) => "epochs to the target".to_owned(),
        Cost::Steps(_) => "steps to the target".to_owned(),
        Cost::Seconds(_) => "seconds to the target".to_owned(),
        Cost::Final if metric.higher_is_better() => format!("1 − {}", metric.title()),
        Cost::Final => metric.title().to_owned(),
    };
    let mut columns = vec![Column::name("arm", "arm")];
    columns.extend(FACTORS.map(|factor| Column::number(&format!("≤ {factor} ×"), &format!("within_{factor}"))));
    columns.extend([Column::number("ever", "ever"), Column::number("score", "score")]);
    let mut notes = Vec::new();
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(|arm| format!("`{arm}`")).collect();
        notes.push(format!("warning: not on every problem, and left out: {}", names.join(", ")));
    }
    let (mut rows, mut n) = (Vec::new(), problems.len());
    match Profile::new(&table) {
        None => notes.push("warning: a cost is zero, or there is no arm: no ratio to a best one".into()),
        Some(profile) => {
            n = profile.problems();
            let share = |value: f64| Cell::number(format!("{value:.2}"), Some(value));
            rows.extend(arms.iter().enumerate().map(|(solver, arm)| {
                let mut row = vec![Cell::name(arm.as_str())];
                row.extend(FACTORS.map(|factor| share(profile.at(solver, factor))));
                row.extend([share(profile.at(solver, f64::INFINITY)), share(profile.score(solver, LARGEST))]);
                row
            }));
        }
    }
    if n < 5 {
        notes.push(format!(
            "warning: {n} problem{}: so few make a list, not a distribution",
            if n == 1 { "" } else { "s" }
        ));
    }
    notes.push(format!(
        "share of the {n} problems on which an arm's cost, the median over its seeds, is within the factor of the best arm's; \
         score: area below the profile up to {LARGEST} ×, 1 for an arm that is the best everywhere"
    ));
    Ok(Table { title: format!("performance profile by {what}"), columns, rows, notes })
}

/// Costs of the arms of one experiment, a list a combination of its axes.
fn costs(runs: &[(PlannedRun, Option<Record>)], metric: Metric, cost: &Cost) -> Result<Vec<Costs>, TargetError> {
    let mut problems = Vec::new();
    let mut out: Vec<Costs> = Vec::new();
    let mut add = |axes, arm: String, cost: Option<f64>| {
        let at = problems.iter().position(|other| *other == axes).unwrap_or_else(|| {
            problems.push(axes);
            out.push(Vec::new());
            problems.len() - 1
        });
        if out[at].iter().all(|(other, _)| *other != arm) {
            out[at].push((arm, cost));
        }
    };
    let target = match cost {
        Cost::Epochs(target) | Cost::Steps(target) | Cost::Seconds(target) => target,
        Cost::Final => {
            for (run, _) in runs {
                let same = runs.iter().filter(|(other, _)| other.arm == run.arm && other.axes == run.axes);
                let value = |record: &Record| match record.outcome {
                    Outcome::Finished => metric.of(record).filter(|value| !value.is_nan()),
                    _ => None,
                };
                // A run that diverged is as bad as can be; one that failed or is missing says nothing.
                let done = same.filter_map(|(_, record)| record.as_ref().filter(|record| record.is_done()));
                let end = |value: f64| if metric.higher_is_better() { 1.0 - value } else { value };
                let ends: Vec<f64> = done.map(|record| value(record).map_or(f64::INFINITY, end)).collect();
                add(run.axes.clone(), run.arm.clone(), median(&ends));
            }
            return Ok(out);
        }
    };
    for time in time_to_target(runs, metric, target)? {
        let median = time.median(|reached| match cost {
            Cost::Epochs(_) => reached.epoch as f64,
            Cost::Steps(_) => reached.steps as f64,
            _ => reached.seconds,
        });
        add(time.axes, time.arm, median);
    }
    Ok(out)
}
