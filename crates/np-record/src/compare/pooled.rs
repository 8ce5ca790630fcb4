//! Arms over all problems at once: interquartile mean and probability of improvement, each with an interval.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Measure, with_unit};
use crate::stats::{Bootstrap, Interval, interquartile_mean, mean, probability_above};
use crate::table::{Cell, Column, Table};
use crate::{Outcome, PlannedRun, Record};

/// Values of an arm, a list a problem.
type Values = Vec<Vec<f64>>;

/// Whether two arms have the same runs.
fn twins(runs: &[(PlannedRun, Option<Record>)], arm: &str, other: &str) -> bool {
    let ids = |arm: &str| -> BTreeSet<&String> {
        runs.iter().filter(|(run, _)| run.arm == arm).map(|(run, _)| &run.id).collect()
    };
    ids(arm) == ids(other)
}

/// A table of all arms over all problems (combinations of axes) of a plan: mean, interquartile mean, and the probability of improvement over
/// `baseline`, that a run of the arm is better than one of the baseline on the same problem. A diverged run is worse than every other. Intervals are
/// bootstrapped within each problem. The notes list runs that did not finish and problems that an arm was not run on.
#[must_use]
pub fn pooled(
    runs: &[(PlannedRun, Option<Record>)],
    baseline: &str,
    metric: impl Into<Measure>,
    bootstrap: &Bootstrap,
) -> Table {
    let metric = metric.into();
    let mut problems: Vec<&BTreeMap<String, Value>> = Vec::new();
    let mut arms: Vec<&str> = Vec::new();
    for (run, _) in runs {
        if !problems.contains(&&run.axes) {
            problems.push(&run.axes);
        }
        if !arms.contains(&run.arm.as_str()) {
            arms.push(&run.arm);
        }
    }
    let of_arm = |arm: &str, value: &dyn Fn(&Record) -> Option<f64>| -> Values {
        let of = |problem: &&BTreeMap<String, Value>| {
            let here = runs.iter().filter(|(run, _)| run.arm == arm && run.axes == **problem);
            here.filter_map(|(_, record)| value(record.as_ref()?)).collect()
        };
        problems.iter().map(of).collect()
    };
    let finished = |record: &Record| {
        let value = (record.outcome == Outcome::Finished).then(|| metric.of(record)).flatten();
        value.filter(|value| value.is_finite())
    };
    // As bad as a number can be.
    let worst = if metric.higher_is_better() { f64::MIN } else { f64::MAX };
    let trained = |record: &Record| record.is_done().then(|| finished(record).unwrap_or(worst));
    let values = |arm: &str| of_arm(arm, &finished);
    let rival = of_arm(baseline, &trained);
    let level = format!("{} % interval", bootstrap.confidence * 100.0);
    let better = format!("P(better than `{baseline}`)");
    let columns = vec![
        Column::name("arm", "arm"),
        Column::number("problems", "problems"),
        Column::number("runs", "runs"),
        Column::number(&with_unit("mean", metric.unit()), "mean"),
        Column::number("interquartile mean", "iqm"),
        Column::printed(&level),
        Column::raw("iqm_low"),
        Column::raw("iqm_high"),
        Column::number(&better, "probability_better"),
        Column::printed(&level),
        Column::raw("probability_low"),
        Column::raw("probability_high"),
    ];
    let rows: Vec<Vec<Cell>> = arms
        .iter()
        .map(|arm| {
            let own = values(arm);
            let all = own.concat();
            let strata: Vec<&[f64]> = own.iter().map(Vec::as_slice).collect();
            let iqm_interval = bootstrap.interval_of(&strata, |drawn| interquartile_mean(&drawn.concat()));
            let ranked = of_arm(arm, &trained);
            let versus = (*arm != baseline && !twins(runs, arm, baseline))
                .then(|| improvement(&ranked, &rival, metric, bootstrap))
                .flatten();
            let interval = |interval: Option<Interval>, text: &dyn Fn(f64) -> String| {
                let shown = interval.map(|i| format!("[{}, {}]", text(i.low), text(i.high)));
                let printed = Cell::printed(shown.unwrap_or_else(|| "–".into()));
                [printed, Cell::raw(interval.map(|i| i.low)), Cell::raw(interval.map(|i| i.high))]
            };
            let number = |value: Option<f64>, text: &dyn Fn(f64) -> String| {
                Cell::number(value.map_or_else(|| "–".into(), text), value)
            };
            let of_metric = |value| metric.text(value);
            let share = |value: f64| format!("{value:.2}");
            let mut row = vec![
                Cell::name(*arm),
                Cell::count(own.iter().filter(|values| !values.is_empty()).count()),
                Cell::count(all.len()),
                number(mean(&all), &of_metric),
                number(interquartile_mean(&all), &of_metric),
            ];
            row.extend(interval(iqm_interval, &of_metric));
            row.push(number(versus.map(|(at, _)| at), &share));
            row.extend(interval(versus.and_then(|(_, interval)| interval), &share));
            row
        })
        .collect();
    let mut notes = Vec::new();
    for arm in arms.iter().filter(|arm| **arm != baseline && twins(runs, arm, baseline)) {
        notes.push(format!("warning: `{arm}`: same configuration as `{baseline}`, nothing to compare"));
    }
    let remarks: BTreeSet<String> = runs
        .iter()
        .filter_map(|(_, record)| record.as_ref()?.data.standing.remark(&record.as_ref()?.data.title))
        .collect();
    notes.extend(remarks.into_iter().map(|remark| format!("warning: {remark}")));
    for arm in &arms {
        let own = || runs.iter().filter(|(run, _)| run.arm == *arm).map(|(_, record)| record.as_ref());
        let count = |what: &str, is: &dyn Fn(Option<&Record>) -> bool| {
            let n = own().filter(|record| is(*record)).count();
            (n > 0).then(|| format!("{n} {what}"))
        };
        let lost = [
            count("diverged", &|record| record.is_some_and(|r| r.is_done() && finished(r).is_none())),
            count("failed", &|record| record.is_some_and(|r| !r.is_done())),
            count("missing", &|record| record.is_none()),
        ];
        let lost: Vec<String> = lost.into_iter().flatten().collect();
        if !lost.is_empty() {
            let lost = lost.join(", ");
            notes.push(format!(
                "warning: `{arm}`: {lost}; in no mean, and a diverged run loses against every other in P"
            ));
        }
        let covered = values(arm).iter().filter(|values| !values.is_empty()).count();
        if covered < problems.len() {
            let all = problems.len();
            notes.push(format!(
                "warning: `{arm}` has values on {covered} of {all} problems: its means are of those alone"
            ));
        }
    }
    let fewest = arms.iter().map(|arm| values(arm).concat().len()).min().unwrap_or(0);
    if fewest < 4 {
        notes.push(format!("warning: n = {fewest}: below four runs an interquartile mean drops none, and is the mean"));
    }
    let strata = arms.iter().flat_map(|arm| values(arm)).map(|values| values.len()).filter(|n| *n > 0);
    if let Some(n) = strata.min().filter(|n| Bootstrap::is_rough(*n)) {
        notes.push(format!("warning: n = {n} on a problem: intervals resampled from so few runs are too short"));
    }
    if problems.len() > 1 && metric.unit() != "%" {
        let title = metric.title();
        notes.push(format!(
            "warning: {title} is pooled over problems as it is, and the problem with the largest spread decides"
        ));
    }
    notes.push(format!(
        "interquartile mean: without the lowest and the highest quarter of all runs; intervals: {} bootstrap resamples within each problem",
        bootstrap.resamples
    ));
    notes.push(
        "P: over all pairs of runs on the same problem, a tie counting half; 0.5 is no difference; unpaired".into(),
    );
    let title =
        format!("{} over {} problem{}", metric.title(), problems.len(), if problems.len() == 1 { "" } else { "s" });
    Table { title, columns, rows, notes }
}

/// The probability of improvement, mean over the problems that both have, with its interval.
fn improvement(
    own: &Values,
    rival: &Values,
    metric: Measure,
    bootstrap: &Bootstrap,
) -> Option<(f64, Option<Interval>)> {
    let both: Vec<(&[f64], &[f64])> = own
        .iter()
        .zip(rival)
        .filter(|(own, rival)| !own.is_empty() && !rival.is_empty())
        .map(|(own, rival)| (own.as_slice(), rival.as_slice()))
        .collect();
    let of_pair = |(own, rival): (&[f64], &[f64])| match metric.higher_is_better() {
        true => probability_above(own, rival),
        false => probability_above(rival, own),
    };
    let of_all = |pairs: &mut dyn Iterator<Item = (&[f64], &[f64])>| {
        let each: Option<Vec<f64>> = pairs.map(of_pair).collect();
        each.and_then(|each| mean(&each))
    };
    let at = of_all(&mut both.iter().copied())?;
    let strata: Vec<&[f64]> = both.iter().flat_map(|(own, rival)| [*own, *rival]).collect();
    let pairs = |drawn: &[Vec<f64>]| of_all(&mut drawn.chunks(2).map(|pair| (pair[0].as_slice(), pair[1].as_slice())));
    Some((at, bootstrap.interval_of(&strata, pairs)))
}
