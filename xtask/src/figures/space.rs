//! Figure 7: a row for every formulation and controller, compared with tuned SGD.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use anyhow::{Result, bail};
use np_record::compare::{Comparison, Measure, Question};
use np_record::stats::Bootstrap;
use np_record::{EpochMetric, PlannedRun, StatedOutcome};

use super::caption::Caption;
use super::curves::data_title;
use super::runs::{Runs, check_alike};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Interval, Layer, Rule};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// The arm of figure 4 that all are compared with.
pub(crate) const TUNED: &str = "sgd-momentum";
/// A further arm of figure 4 that is shown for comparison.
const RIVAL: &str = "adamw";
/// How many epochs at the end are averaged: the last one alone varies too much.
const LATE: usize = 5;
/// Height of a row, in pixels.
const ROW: f64 = 100.0;

/// Draws the figure: `runs` are the variants', `standard` those of figure 4.
pub(crate) fn draw(scale: Scale, runs: &Runs, standard: &Runs) -> Result<Figure> {
    let (best, selection) = standard.selected()?;
    let measure = outcome(runs);
    let Some(tuned) = best.measured(TUNED, measure)? else {
        bail!(
            "figure 7: no rate of `{TUNED}` can be chosen in `{}`: each has a run that diverged",
            standard.plan.experiment
        )
    };
    let (mut rows, mut intervals, mut notes) = (Vec::new(), Vec::new(), Notes::default());
    notes.head = "mean".into();
    let arms = runs.arms();
    let mut labels = Vec::new();
    for (i, arm) in arms.iter().enumerate() {
        let look = theme::arm(arm)?;
        labels.push(look.label.to_owned());
        let row = |mark| {
            let (data, quantity) = (runs.data(), format!("{}_percent", measure.key()));
            Row { panel: 'A', data, arm: arm.clone(), quantity, x_name: "row", x: i as f64, mark }
        };
        let Some(summary) = runs.measured(arm, measure)? else {
            notes.lines.push((i as f64, "diverged".into()));
            rows.push(row(Mark::Nothing));
            continue;
        };
        rows.extend(summary.rows(row));
        let mean = summary.mean;
        notes.lines.push((i as f64, format!("{mean:.1}")));
        let ends = summary.std.map(|_| summary.ends());
        let values = summary.values.into_values().collect();
        intervals.push(Interval { look, row: i as f64, mean, ends, values, fill: Fill::Solid });
    }
    let (mut layers, mut legend) = (vec![Layer::Intervals(intervals)], Vec::new());
    let rival = best.arms().contains(&RIVAL.to_owned()).then(|| best.measured(RIVAL, measure)).transpose()?.flatten();
    for (arm, label, summary) in
        [(TUNED, "SGD with momentum at its best rate", Some(&tuned)), (RIVAL, "AdamW at its best rate", rival.as_ref())]
    {
        let Some(summary) = summary else { continue };
        let (look, ends) = (theme::Look { label, ..theme::arm(arm)? }, summary.ends());
        rows.push(Row {
            panel: 'A',
            data: standard.data(),
            arm: arm.into(),
            quantity: format!("{}_percent", measure.key()),
            x_name: "rule",
            x: 0.0,
            mark: Mark::Mean { value: summary.mean, ends: Some(ends), n: summary.values.len() },
        });
        layers.push(Layer::Rule(Rule { at: summary.mean, look: Some(look), band: Some(ends) }));
        legend.push(look);
    }
    let title = data_title(runs);
    let panel = Panel {
        title: format!("{title}, {}", runs.model()),
        x: Axis::linear(&axis_name(measure), layers.iter().flat_map(Layer::widths), Limits::PERCENT),
        y: Axis::rows(labels),
        layers,
        key: vec![Key::remark("bars and bands: ± 1 standard deviation; small points: seeds")],
        grid: Grid::Rows,
        notes: Some(notes),
    };
    let layout = Layout::of_rows(1, 1.7 * PANEL_WIDTH, &[arms.len()], ROW);
    let drawing = panel::figure("Figure 7: design space", &[panel], layout, &legend)?;
    let rate = |arm: &str| {
        let best = selection.choices.iter().find(|choice| choice.arm == arm).and_then(|choice| choice.best());
        best.and_then(|best| best.axes.get(super::optimizers::RATE).cloned()).unwrap_or_default()
    };
    let beside = if legend.len() > 1 { format!(", and AdamW likewise ({})", rate(RIVAL)) } else { String::new() };
    let mut caption = Caption::new(7, "Design space", scale, runs)
        .also(&[standard])
        .text(&format!(
            "{}, on {title} with {}: each way of putting the coefficient into the update, and each controller of the \
             learning rate. The lines are SGD with momentum at the learning rate that its {} accuracy chose ({}, figure 4){beside}, their bands ± 1 \
             sample standard deviation over seeds. All variants have the coefficient that was tuned on MNIST and the learning rate 0.1.",
            capital(&measure.title()),
            runs.task(),
            selection.split.key(),
            rate(TUNED)
        ))
        .bands("large markers are means, bars ± 1 sample standard deviation, small points single seeds")
        .comparisons(vec![against_tuned(runs, &best, measure)?])
        .note("the variants are not tuned, and SGD is: a variant that reaches it here does so without having been tuned on this task, one that does not might with another rate".into());
    if runs.plan.outcome.is_none() {
        caption = caption
            .note("exploratory: that the last epochs are averaged was decided after the runs had been seen".into());
    }
    Ok(Figure { name: "fig7", drawing, table: long_format(&rows), caption: caption.finish()? })
}

/// The experiment's stated outcome; if it states none, test accuracy averaged over the last five epochs, or over all if there are fewer.
fn outcome(runs: &Runs) -> Measure {
    let epochs = NonZeroUsize::new(runs.epochs().min(LATE)).unwrap_or(NonZeroUsize::MIN);
    runs.plan.outcome.map_or(Measure::late(EpochMetric::TestAccuracy, epochs), StatedOutcome::measure)
}

/// The name of an axis, such as `Test accuracy (%), mean of the last 5 epochs`.
fn axis_name(measure: Measure) -> String {
    let title = capital(&measure.title());
    match title.split_once(',') {
        Some((what, when)) => format!("{what} ({}),{when}", measure.unit()),
        None => format!("{title} ({})", measure.unit()),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Every variant compared with tuned SGD, one group each.
fn against_tuned(runs: &Runs, best: &Runs, measure: Measure) -> Result<Comparison> {
    let (arm, baseline) = ("variant", "tuned SGD");
    let mut all = Vec::new();
    for (run, record) in &runs.runs {
        all.push((relabelled(run, arm, theme::arm(&run.arm)?.label), Some(record.clone())));
    }
    for (run, _) in &runs.runs {
        let rival = best.runs.iter().find(|(rival, _)| rival.arm == TUNED && rival.seed == run.seed);
        rival.map_or(Ok(()), |(rival, _)| check_alike(run, rival))?;
    }
    for name in runs.arms() {
        let tuned = best.runs.iter().filter(|(run, _)| run.arm == TUNED);
        let label = theme::arm(&name)?.label;
        all.extend(tuned.map(|(run, record)| (relabelled(run, baseline, label), Some(record.clone()))));
    }
    let (arm, baseline) = (arm.to_owned(), baseline.to_owned());
    let question = Question { arm, baseline, metric: measure, bootstrap: Bootstrap::default() };
    Ok(Comparison::new(question, &all)?)
}

fn relabelled(run: &PlannedRun, arm: &str, variant: &str) -> PlannedRun {
    PlannedRun { arm: arm.into(), axes: BTreeMap::from([("variant".into(), variant.into())]), ..run.clone() }
}
