//! Figure 7: every formulation and controller in a row, against tuned SGD.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use np_record::PlannedRun;
use np_record::compare::{Comparison, Metric, Question};
use np_record::stats::Bootstrap;

use super::caption::Caption;
use super::curves::data_title;
use super::runs::{Quantity, Runs, check_alike};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Interval, Layer, Rule};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// The arm of figure 4 that all are held against.
pub(crate) const TUNED: &str = "sgd-momentum";
/// Height of a row, in pixels.
const ROW: f64 = 100.0;

/// Draws the figure: `runs` are the variants', `standard` those of figure 4.
pub(crate) fn draw(scale: Scale, runs: &Runs, standard: &Runs) -> Result<Figure> {
    let (best, selection) = standard.selected()?;
    let Some(tuned) = best.summary(TUNED, Quantity::TestAccuracy)? else {
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
            let (data, quantity) = (runs.data(), Quantity::TestAccuracy.key());
            Row { panel: 'A', data, arm: arm.clone(), quantity, x_name: "row", x: i as f64, mark }
        };
        let Some(summary) = runs.summary(arm, Quantity::TestAccuracy)? else {
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
    let look = theme::arm(TUNED)?;
    let ends = tuned.ends();
    rows.push(Row {
        panel: 'A',
        data: standard.data(),
        arm: TUNED.into(),
        quantity: Quantity::TestAccuracy.key(),
        x_name: "rule",
        x: 0.0,
        mark: Mark::Mean { value: tuned.mean, ends: Some(ends), n: tuned.values.len() },
    });
    let rule = Layer::Rule(Rule { at: tuned.mean, look: Some(look), band: Some(ends) });
    let layers = vec![Layer::Intervals(intervals), rule];
    let title = data_title(runs);
    let panel = Panel {
        title: format!("{title}, {}", runs.model()),
        x: Axis::linear("Final test accuracy (%)", layers.iter().flat_map(Layer::widths), Limits::PERCENT),
        y: Axis::rows(labels),
        layers,
        key: vec![Key::remark("bar: ± 1 standard deviation; small points: seeds")],
        grid: Grid::Rows,
        notes: Some(notes),
    };
    let layout = Layout::of_rows(1, 1.7 * PANEL_WIDTH, &[arms.len()], ROW);
    let legend = [theme::Look { label: "SGD with momentum at its best rate, ± 1 standard deviation", ..look }];
    let drawing = panel::figure("Figure 7: design space", &[panel], layout, &legend)?;
    let rate = selection.choices.iter().find(|choice| choice.arm == TUNED).and_then(|choice| choice.best());
    let rate = rate.and_then(|best| best.axes.get(super::optimizers::RATE).cloned()).unwrap_or_default();
    let caption = Caption::new(7, "Design space", scale, runs)
        .also(&[standard])
        .text(&format!(
            "Test accuracy after the last epoch on {title} with {}: each way of putting the coefficient into the update, and each controller of the \
             learning rate. The line is SGD with momentum at the learning rate that its {} accuracy chose ({rate}, figure 4), its band ± 1 \
             sample standard deviation over seeds. All variants have the coefficient that was tuned on MNIST and the learning rate 0.1.",
            runs.task(),
            selection.split.key()
        ))
        .bands("large markers are means, bars ± 1 sample standard deviation, small points single seeds")
        .comparisons(vec![against_tuned(runs, &best)?])
        .note("the variants are not tuned, and SGD is: a variant that reaches it here does so without having been tuned on this task, one that does not might with another rate".into())
        .finish()?;
    Ok(Figure { name: "fig7", drawing, table: long_format(&rows), caption })
}

/// Every variant against tuned SGD, a group each.
fn against_tuned(runs: &Runs, best: &Runs) -> Result<Comparison> {
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
    let question =
        Question { arm, baseline, metric: Metric::FinalTestAccuracy.into(), bootstrap: Bootstrap::default() };
    Ok(Comparison::new(question, &all)?)
}

fn relabelled(run: &PlannedRun, arm: &str, variant: &str) -> PlannedRun {
    PlannedRun { arm: arm.into(), axes: BTreeMap::from([("variant".into(), variant.into())]), ..run.clone() }
}
