//! Figure 8: final accuracy by learning rate and disabled part of the rule, as a heat map.

use std::fmt::Write as _;

use anyhow::Result;

use super::caption::Caption;
use super::curves::data_title;
use super::optimizers::RATE;
use super::runs::{Quantity, Runs, Summary};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::Axis;
use crate::draw::chart::{Cell, Layer, Ramp};
use crate::draw::panel::{self, Grid, Layout, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// Height of a row, in pixels.
const ROW: f64 = 170.0;

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let (arms, rates, title) = (runs.arms(), runs.values(RATE, None), data_title(runs));
    let colours = Colours::of(runs)?;
    let (mut rows, mut cells, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (i, arm) in arms.iter().enumerate() {
        labels.push(theme::arm(arm)?.label.to_owned());
        for (j, rate) in rates.iter().enumerate() {
            let here = runs.where_axis(RATE, &(*rate).into())?;
            let row = |mark| {
                let (data, quantity) = (runs.data(), Quantity::TestAccuracy.key());
                Row { panel: 'A', data, arm: arm.clone(), quantity, x_name: "learning_rate", x: *rate, mark }
            };
            let planned = here.arm(arm)?.len();
            let summary = here.summary(arm, Quantity::TestAccuracy)?;
            match &summary {
                Some(summary) => rows.extend(summary.rows(row)),
                None => rows.push(row(Mark::Nothing)),
            }
            cells.push(cell((j, i), planned, summary.as_ref(), &colours));
        }
    }
    let panel = Panel {
        title: format!("{title}: final test accuracy (%)"),
        x: Axis::columns("Learning rate", rates.iter().map(f64::to_string).collect()),
        y: Axis { name: "Variant of the rule".into(), ..Axis::rows(labels) },
        layers: vec![Layer::Cells(cells), Layer::Ramp(Ramp { ticks: colours.ticks() })],
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
             means over the seeds that finished, small ones the sample standard deviation. Colours go with the logarithm of the mean error, from 90 % (chance) \
             to that of the best cell, so that near the best a few points are a step of colour. A run diverges when its \
             loss or a parameter is not finite."
        ))
        .rates_are_tried()
        .divergence_is_shown()
        .bands("cells are means")
        .table(format!("Best mean accuracy (%), where, and the rates at which every run finished with a mean within five points of it:\n\n{}", spans(runs)?))
        .finish()?;
    Ok(Figure { name: "fig8", drawing, table: long_format(&rows), caption })
}

/// The accuracy of guessing among ten classes, in percent.
const CHANCE: f64 = 10.0;

/// The scale of shades, from chance to the best cell: logarithmic in the error. On a linear scale of accuracies 77 and 88 % would look alike.
struct Colours {
    /// Mean accuracy of the best cell, in percent.
    best: f64,
}

impl Colours {
    fn of(runs: &Runs) -> Result<Self> {
        let mut best = CHANCE + 10.0;
        for rate in runs.values(RATE, None) {
            let here = runs.where_axis(RATE, &rate.into())?;
            for arm in here.arms() {
                let summary = here.summary(&arm, Quantity::TestAccuracy)?;
                best = summary.map_or(best, |summary| best.max(summary.mean));
            }
        }
        // Of no error there is no logarithm.
        Ok(Self { best: best.min(99.5) })
    }

    /// The shade of an accuracy, from 0 (chance or worse) to 1 (the best).
    fn shade(&self, accuracy: f64) -> f64 {
        let ratio = (100.0 - CHANCE) / (100.0 - accuracy.min(self.best));
        (ratio.ln() / ((100.0 - CHANCE) / (100.0 - self.best)).ln()).clamp(0.0, 1.0)
    }

    /// Ticks of the colour bar: the best accuracy, and round ones that are far enough from it.
    fn ticks(&self) -> Vec<(f64, String)> {
        let round = [10.0, 50.0, 70.0, 80.0, 85.0, 90.0, 95.0, 98.0];
        let apart = round.into_iter().filter(|value| self.shade(*value) < 0.91);
        apart.chain([self.best]).map(|value| (self.shade(value), format!("{value:.0} %"))).collect()
    }
}

/// The cell in a column and row: mean accuracy, and how many of the `planned` runs diverged.
fn cell((column, row): (usize, usize), planned: usize, summary: Option<&Summary>, colours: &Colours) -> Cell {
    let diverged = planned - summary.map_or(0, |summary| summary.values.len());
    let note = match (diverged, summary) {
        (0, Some(Summary { std: Some(std), .. })) => format!("± {std:.1}"),
        (0, _) => String::new(),
        (_, None) => format!("{diverged} of {planned}"),
        _ => format!("{diverged} diverged"),
    };
    let text = summary.map_or_else(|| "diverged".into(), |summary| format!("{:.1}", summary.mean));
    let shade = summary.map(|summary| colours.shade(summary.mean));
    Cell { column: column as f64, row: row as f64, shade, text, note }
}

/// The results of an arm over the learning rates.
pub(crate) struct Reach {
    /// Learning rate and mean accuracy, of rates at which all runs finished: if one diverged, the mean of the others says little about the rate.
    whole: Vec<(f64, f64)>,
    /// How many runs diverged, at all rates.
    pub(crate) diverged: usize,
}

impl Reach {
    pub(crate) fn of(runs: &Runs, arm: &str) -> Result<Self> {
        let (mut whole, mut diverged) = (Vec::new(), 0);
        for rate in runs.values(RATE, None) {
            let here = runs.where_axis(RATE, &rate.into())?;
            let (planned, summary) = (here.arm(arm)?.len(), here.summary(arm, Quantity::TestAccuracy)?);
            let lost = planned - summary.as_ref().map_or(0, |summary| summary.values.len());
            diverged += lost;
            whole.extend(summary.filter(|_| lost == 0).map(|summary| (rate, summary.mean)));
        }
        Ok(Self { whole, diverged })
    }

    /// The best rate and its mean; `None` if there is no rate at which all runs finished.
    pub(crate) fn best(&self) -> Option<(f64, f64)> {
        self.whole.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// A Markdown table of the learning rates at which each arm stays within five points of its best.
pub(crate) fn spans(runs: &Runs) -> Result<String> {
    let mut out =
        String::from("| arm | best | at | within five points | diverged runs |\n| :-- | --: | --: | :-- | --: |\n");
    for arm in &runs.arms() {
        let (reach, label) = (Reach::of(runs, arm)?, theme::arm(arm)?.label);
        let diverged = reach.diverged;
        let Some((at, best)) = reach.best() else {
            let _ = writeln!(out, "| {label} | – | – | at no rate did all runs finish | {diverged} |");
            continue;
        };
        let near: Vec<String> =
            reach.whole.iter().filter(|(_, mean)| *mean > best - 5.0).map(|(rate, _)| rate.to_string()).collect();
        let _ = writeln!(out, "| {label} | {best:.1} | {at} | {} | {diverged} |", near.join(", "));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_tell_good_from_best() {
        let colours = Colours { best: 88.0 };
        assert_eq!([0.0, 10.0, 88.0, 90.0].map(|accuracy| colours.shade(accuracy)), [0.0, 0.0, 1.0, 1.0]);
        // By hand: ln(90 / 23) / ln(90 / 12).
        assert!((colours.shade(77.0) - 0.677).abs() < 1e-3);
        let ticks = colours.ticks();
        assert_eq!(
            ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(),
            ["10 %", "50 %", "70 %", "80 %", "85 %", "88 %"]
        );
        assert!(ticks.windows(2).all(|pair| pair[1].0 - pair[0].0 > 0.08));
    }
}
