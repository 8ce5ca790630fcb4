//! Figure 7: every formulation and controller in a row, against tuned SGD.

use std::collections::BTreeMap;

use anyhow::Result;
use np_record::PlannedRun;
use np_record::compare::{Comparison, Metric, Question};
use np_record::stats::{self, Bootstrap};

use super::caption::Caption;
use super::curves::data_title;
use super::runs::{Quantity, Runs};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::chart::{Interval, Layer, Rule};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// The arm of figure 4 that all are held against.
const TUNED: &str = "sgd-momentum";
/// Height of a row, in pixels.
const ROW: f64 = 100.0;

/// Draws the figure: `runs` are the variants', `standard` those of figure 4.
pub(crate) fn draw(scale: Scale, runs: &Runs, standard: &Runs) -> Result<Figure> {
    let (best, selection) = standard.selected()?;
    let tuned: Vec<f64> = best.last(TUNED, Quantity::TestAccuracy).into_values().collect();
    let (mut rows, mut intervals, mut notes) = (Vec::new(), Vec::new(), Notes::default());
    notes.head = "mean".into();
    let arms = runs.arms();
    let mut labels = Vec::new();
    for (i, arm) in arms.iter().enumerate() {
        let look = theme::arm(arm)?;
        labels.push(look.label.to_owned());
        let last = runs.last(arm, Quantity::TestAccuracy);
        let values: Vec<f64> = last.values().copied().collect();
        let Some(mean) = stats::mean(&values) else {
            notes.lines.push((i as f64, "diverged".into()));
            continue;
        };
        let interval = Bootstrap::default().interval_of_mean(&values);
        let (low, high) = interval.map_or((mean, mean), |interval| (interval.low, interval.high));
        let row = |mark| {
            let (data, quantity) = (runs.data(), Quantity::TestAccuracy.key());
            Row { panel: 'A', data, arm: arm.clone(), quantity, x_name: "row", x: i as f64, mark }
        };
        rows.push(row(Mark::Mean { value: mean, low, high, n: values.len() }));
        rows.extend(last.iter().map(|(&seed, &value)| row(Mark::Seed { seed, value })));
        notes.lines.push((i as f64, format!("{mean:.1}")));
        intervals.push(Interval { look, row: i as f64, mean, low, high, values });
    }
    let mut layers = vec![Layer::Intervals(intervals)];
    let look = theme::arm(TUNED)?;
    if let Some(at) = stats::mean(&tuned) {
        let half = stats::sample_std(&tuned).unwrap_or(0.0);
        rows.push(Row {
            panel: 'A',
            data: standard.data(),
            arm: TUNED.into(),
            quantity: Quantity::TestAccuracy.key(),
            x_name: "rule",
            x: 0.0,
            mark: Mark::Mean { value: at, low: at - half, high: at + half, n: tuned.len() },
        });
        layers.push(Layer::Rule(Rule { at, look: Some(look), band: Some([at - half, at + half]) }));
    }
    let title = data_title(runs);
    let panel = Panel {
        title: format!("{title}, {}", runs.model()),
        x: Axis::linear("Final test accuracy (%)", layers.iter().flat_map(Layer::widths), Limits::PERCENT),
        y: Axis::rows(labels),
        layers,
        key: vec![Key::remark("bar: bootstrap interval of the mean; small points: seeds")],
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
            runs.model(),
            selection.split.key()
        ))
        .bands("large markers are means, bars 95 % bootstrap intervals of the mean, small points single seeds")
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
    for name in runs.arms() {
        let tuned = best.runs.iter().filter(|(run, _)| run.arm == TUNED);
        let label = theme::arm(&name)?.label;
        all.extend(tuned.map(|(run, record)| (relabelled(run, baseline, label), Some(record.clone()))));
    }
    let (arm, baseline) = (arm.to_owned(), baseline.to_owned());
    let question = Question { arm, baseline, metric: Metric::FinalTestAccuracy, bootstrap: Bootstrap::default() };
    Ok(Comparison::new(question, &all)?)
}

fn relabelled(run: &PlannedRun, arm: &str, variant: &str) -> PlannedRun {
    PlannedRun { arm: arm.into(), axes: BTreeMap::from([("variant".into(), variant.into())]), ..run.clone() }
}
