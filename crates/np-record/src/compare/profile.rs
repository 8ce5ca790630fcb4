//! Performance profiles over problems: data sets, fractions, experiments.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Metric, Target, TargetError, time_to_target};
use crate::stats::{Profile, median};
use crate::table::{Cell, Column, Table};
use crate::{Outcome, PlannedRun, Record};

/// What each arm costs on one problem.
#[derive(Default)]
struct Costs {
    /// Ids of all its runs: two problems of the same runs are one.
    ids: BTreeSet<String>,
    /// By arm. Infinite where the middle run never got there.
    arms: Vec<(String, Known)>,
}

/// What is known of an arm on one problem.
#[derive(Clone, Copy, Default)]
struct Known {
    /// The median over the runs that were trained; `None` without any.
    cost: Option<f64>,
    /// Runs that were not trained, or failed.
    unknown: usize,
}

/// The cost of a run; lower is better.
#[derive(Debug, Clone, PartialEq)]
pub enum Cost {
    /// Epochs to a target.
    Epochs(Target),
    /// Optimizer steps to a target.
    Steps(Target),
    /// Wall time to a target.
    Seconds(Target),
    /// The metric at the end; for an accuracy the error, 1 − accuracy.
    Final,
}

/// The runs of an experiment, with its name.
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

/// The performance profiles of the arms that all problems have. Each combination of axes of each experiment is a problem, and the cost of an arm
/// on it is the median over seeds. A problem that two experiments share counts once. A problem is left out if an arm has no trained run on it or if it
/// has no target.
///
/// # Errors
///
/// [`TargetError`].
pub fn profile(experiments: &[Problem<'_>], metric: Metric, cost: &Cost) -> Result<Table, TargetError> {
    // Costs by problem and arm.
    let mut problems: Vec<Costs> = Vec::new();
    let mut shared = 0;
    for Problem { runs, .. } in experiments {
        for problem in costs(runs, metric, cost)? {
            match problems.iter().any(|known| known.ids == problem.ids) {
                true => shared += 1,
                false => problems.push(problem),
            }
        }
    }
    let mut arms: Vec<String> =
        problems.first().into_iter().flat_map(|p| &p.arms).map(|(arm, _)| arm.clone()).collect();
    arms.retain(|arm| problems.iter().all(|problem| problem.arms.iter().any(|(other, _)| other == arm)));
    let mut left_out: Vec<String> = problems.iter().flat_map(|p| &p.arms).map(|(arm, _)| arm.clone()).collect();
    let all = problems.len();
    let unknown: usize = problems.iter().map(|problem| problem.unknown(&arms)).sum();
    problems.retain(|problem| arms.iter().all(|arm| problem.of(arm).is_some_and(|known| known.cost.is_some())));
    left_out.retain(|arm| !arms.contains(arm));
    left_out.sort();
    left_out.dedup();
    let table: Vec<Vec<Option<f64>>> = problems
        .iter()
        .map(|problem| {
            let of = |arm: &String| problem.of(arm).and_then(|known| known.cost).filter(|cost| cost.is_finite());
            arms.iter().map(of).collect()
        })
        .collect();
    let what = match cost {
        Cost::Epochs(_) => "epochs to the target".to_owned(),
        Cost::Steps(_) => "steps to the target".to_owned(),
        Cost::Seconds(_) => "seconds to the target".to_owned(),
        Cost::Final if metric.is_share() => format!("1 − {}", metric.title()),
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
    if unknown > 0 {
        let s = if unknown == 1 { " is" } else { "s are" };
        notes.push(format!("warning: {unknown} run{s} missing or failed, and not counted in medians"));
    }
    if problems.len() < all {
        let n = all - problems.len();
        notes.push(format!("warning: {n} of {all} problems left out: no target, or an arm without a trained run"));
    }
    if shared > 0 {
        let s = if shared == 1 { "" } else { "s" };
        notes.push(format!("{shared} problem{s} of the very same runs as another, counted once"));
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
    let mut add = |axes: &BTreeMap<String, Value>, arm: String, known: Known| {
        let at = problems.iter().position(|other| other == axes).unwrap_or_else(|| {
            problems.push(axes.clone());
            let here = runs.iter().filter(|(run, _)| run.axes == *axes);
            out.push(Costs { ids: here.map(|(run, _)| run.id.clone()).collect(), arms: Vec::new() });
            problems.len() - 1
        });
        if out[at].of(&arm).is_none() {
            out[at].arms.push((arm, known));
        }
    };
    let target = match cost {
        Cost::Epochs(target) | Cost::Steps(target) | Cost::Seconds(target) => target,
        Cost::Final if metric.higher_is_better() && !metric.is_share() => return Err(TargetError::NoCost(metric)),
        Cost::Final => {
            for (run, _) in runs {
                let same = runs.iter().filter(|(other, _)| other.arm == run.arm && other.axes == run.axes);
                let value = |record: &Record| match record.outcome {
                    Outcome::Finished => metric.of(record).filter(|value| !value.is_nan()),
                    _ => None,
                };
                // A run that diverged is as bad as can be; one that failed or is missing says nothing.
                let planned = same.clone().count();
                let done = same.filter_map(|(_, record)| record.as_ref().filter(|record| record.is_done()));
                let end = |value: f64| if metric.is_share() { 1.0 - value } else { value };
                let ends: Vec<f64> = done.map(|record| value(record).map_or(f64::INFINITY, end)).collect();
                let known = Known { cost: median(&ends), unknown: planned - ends.len() };
                add(&run.axes, run.arm.clone(), known);
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
        // Without a target nothing could be reached, and nothing is known.
        let cost = median.filter(|_| time.target.is_some());
        add(&time.axes, time.arm.clone(), Known { cost, unknown: time.unknown });
    }
    Ok(out)
}

impl Costs {
    fn of(&self, arm: &str) -> Option<Known> {
        self.arms.iter().find(|(other, _)| other == arm).map(|(_, known)| *known)
    }

    fn unknown(&self, arms: &[String]) -> usize {
        arms.iter().filter_map(|arm| self.of(arm)).map(|known| known.unknown).sum()
    }
}
