//! Figure 8: final accuracy by learning rate and by what of the rule is switched off, as a heat map.

use std::fmt::Write as _;

use anyhow::Result;
use np_record::stats;

use super::caption::Caption;
use super::curves::data_title;
use super::optimizers::RATE;
use super::runs::{Quantity, Runs};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::Axis;
use crate::draw::chart::{Cell, Layer};
use crate::draw::panel::{self, Grid, Layout, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// Height of a row, in pixels.
const ROW: f64 = 170.0;

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let (arms, rates, title) = (runs.arms(), runs.values(RATE, None), data_title(runs));
    let (mut rows, mut cells, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    let mut found = Vec::new();
    for (i, arm) in arms.iter().enumerate() {
        labels.push(theme::arm(arm)?.label.to_owned());
        for (j, rate) in rates.iter().enumerate() {
            let here = runs.where_axis(RATE, &(*rate).into())?;
            let planned = here.arm(arm).len();
            let last = here.last(arm, Quantity::TestAccuracy);
            let values: Vec<f64> = last.values().copied().collect();
            let row = |mark| {
                let (data, quantity) = (runs.data(), Quantity::TestAccuracy.key());
                Row { panel: 'A', data, arm: arm.clone(), quantity, x_name: "learning_rate", x: *rate, mark }
            };
            let mean = stats::mean(&values);
            let half = stats::sample_std(&values).unwrap_or(0.0);
            if let Some(value) = mean {
                rows.push(row(Mark::Mean { value, low: value - half, high: value + half, n: values.len() }));
                rows.extend(last.iter().map(|(&seed, &value)| row(Mark::Seed { seed, value })));
            }
            found.push((i, j, mean, half, planned - values.len(), planned));
        }
    }
    for (i, j, mean, half, diverged, planned) in found {
        let note = match (diverged, mean) {
            (0, _) => format!("± {half:.1}"),
            (_, None) => format!("{diverged} of {planned}"),
            _ => format!("{diverged} of {planned} diverged"),
        };
        let text = mean.map_or_else(|| "diverged".into(), |mean| format!("{mean:.1}"));
        // From chance to perfect.
        let shade = mean.map(|mean| ((mean - 10.0) / 80.0).clamp(0.0, 1.0));
        cells.push(Cell { column: j as f64, row: i as f64, shade, text, note });
    }
    let panel = Panel {
        title: format!("{title}: final test accuracy (%)"),
        x: Axis::columns("Learning rate", rates.iter().map(f64::to_string).collect()),
        y: Axis::rows(labels),
        layers: vec![Layer::Cells(cells)],
        key: Vec::new(),
        grid: Grid::Cells,
        notes: None,
    };
    let layout = Layout::of_rows(1, 1.8 * PANEL_WIDTH, &[arms.len()], ROW);
    let drawing = panel::figure("Figure 8: stability", &[panel], layout, &[])?;
    let caption = Caption::new(8, "Stability", scale, runs)
        .text(&format!(
            "Test accuracy after the last epoch on {title}, by learning rate and by what of the full rule is switched off: the normalisation of the \
             three signals, the bound on the norm of a tensor's update, the gain on its root mean square, or all three. Large numbers are \
             means over the seeds that finished, small ones the sample standard deviation; colours go with the means, from 10 % (chance) to 90 %. A run diverges when its \
             loss or a parameter is not finite."
        ))
        .rates_are_tried()
        .bands("cells are means")
        .table(format!("Best mean accuracy (%), where, and the rates at which every run finished with a mean within five points of it:\n\n{}", spans(runs)?))
        .finish()?;
    Ok(Figure { name: "fig8", drawing, table: long_format(&rows), caption })
}

/// Over which learning rates each arm stays within five points of its best.
pub(crate) fn spans(runs: &Runs) -> Result<String> {
    let (arms, rates) = (runs.arms(), runs.values(RATE, None));
    let mut out =
        String::from("| arm | best | at | within five points | diverged runs |\n| :-- | --: | --: | :-- | --: |\n");
    for arm in &arms {
        let mut means = Vec::new();
        let mut diverged = 0;
        for rate in &rates {
            let here = runs.where_axis(RATE, &(*rate).into())?;
            let values: Vec<f64> = here.last(arm, Quantity::TestAccuracy).into_values().collect();
            let lost = here.arm(arm).len() - values.len();
            diverged += lost;
            means.extend(stats::mean(&values).map(|mean| (*rate, mean, lost)));
        }
        let Some((at, best, _)) = means.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let near: Vec<String> = means
            .iter()
            .filter(|(_, mean, lost)| *lost == 0 && *mean > best - 5.0)
            .map(|(rate, ..)| rate.to_string())
            .collect();
        let _ = writeln!(out, "| {} | {best:.1} | {at} | {} | {diverged} |", theme::arm(arm)?.label, near.join(", "));
    }
    Ok(out)
}
