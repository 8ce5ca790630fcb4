//! Figures 2, 3, 5 and 6: curves of the arms over epochs, and over the amount of data.

use anyhow::Result;
use np_record::StatedOutcome;
use np_record::compare::{Asked, Compared, Group, Measure, Metric, Pairs};

use super::caption::Caption;
use super::evidence::{interval, p_alone};
use super::runs::{Quantity, Runs, Spread};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Filled, Interval, Layer, Rule};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, Look};

/// Sideways distance of two arms at one x, in pixels.
const DODGE: f64 = 56.0;
/// Height of a row of differences, in pixels.
const ROW: f64 = 112.0;

pub(super) fn looks(runs: &Runs) -> Result<Vec<Look>> {
    runs.arms().iter().map(|arm| theme::arm(arm)).collect()
}

pub(super) fn heights(layers: &[Layer]) -> Vec<f64> {
    layers.iter().flat_map(Layer::heights).collect()
}

/// The title of the data set, from the first record.
pub(super) fn data_title(runs: &Runs) -> String {
    runs.runs.first().map(|(_, record)| record.data.title.clone()).unwrap_or_default()
}

/// Figure 2: test accuracy by epoch on both data sets, and the paired differences.
pub(crate) fn sanity(scale: Scale, runs: &Runs) -> Result<Figure> {
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    for (letter, data) in [('A', "mnist"), ('B', "fashion-mnist")] {
        let part = runs.on(data)?;
        let layers = part.curves(letter, Quantity::TestAccuracy, Spread::Seeds, Fill::Solid, &mut rows)?;
        panels.push(Panel {
            title: data_title(&part),
            x: Axis::epochs(part.epochs()),
            y: Axis::linear("Test accuracy (%)", heights(&layers), Limits::PERCENT),
            layers,
            key: Vec::new(),
            grid: Grid::Levels,
            notes: None,
        });
    }
    let (measure, differences) = paired_differences(runs, &mut rows)?;
    let layout = Layout::grid(2).above_rows(differences.y.ticks.len(), ROW);
    panels.push(differences);
    let drawing = panel::figure("Figure 2: test accuracy by epoch", &panels, layout, &looks(runs)?)?;
    let caption = Caption::new(2, "Sanity check", scale, runs)
        .text(&format!(
            "Test accuracy after each epoch on {} (A) and {} (B). C: the full rule’s {} minus that of each other arm, paired by seed, in points.",
            panels[0].title,
            panels[1].title,
            measure.title()
        ))
        .bands(
            "lines in A and B are means, bands ± 1 sample standard deviation; large markers in C are means, bars 95 % bootstrap intervals of the mean \
             (none where fewer than six pairs make one), small points single seeds; at the right the p of an exact two-sided sign-flip test, adjusted \
             (Holm) as in the tables below",
        )
        .comparison(Metric::FinalTestAccuracy)
        .finish()?;
    Ok(Figure { name: "fig2", drawing, table: long_format(&rows), caption })
}

/// A panel of the full rule minus each ablation on each data set, and the measure: the experiment's stated outcome, or else test accuracy in the last epoch.
fn paired_differences(runs: &Runs, rows: &mut Vec<Row>) -> Result<(Measure, Panel)> {
    let all = runs.recorded();
    let measure = runs.plan.outcome.map_or(Metric::FinalTestAccuracy.into(), StatedOutcome::measure);
    let asked = Asked { measure: Some(measure), pairs: Pairs::Of("full"), ..Asked::default() };
    let compared = Compared::of(&runs.plan, &all, &asked)?;
    let (mut labels, mut intervals, mut notes) = (Vec::new(), Vec::new(), Notes::default());
    notes.head = "p (Holm)".into();
    for data in ["mnist", "fashion-mnist"] {
        let title = data_title(&runs.on(data)?);
        for comparison in compared.all().filter(|comparison| comparison.arm == "full") {
            let look = theme::arm(&comparison.baseline)?;
            let here = |group: &&Group| group.axes.get("data.name").is_none_or(|name| name == data);
            let place = labels.len() as f64;
            labels.push(format!("{title}: {}", look.label));
            let found = comparison.groups.iter().find(here).and_then(|group| group.difference.as_ref());
            let Some(difference) = found else {
                notes.lines.push((place, "none".into()));
                continue;
            };
            let (mean, ends) = (100.0 * difference.mean, interval(difference));
            let values: Vec<f64> = difference.values.values().map(|d| 100.0 * d).collect();
            let row = |quantity: &str, mark| {
                let (arm, quantity) = (format!("full − {}", comparison.baseline), quantity.to_owned());
                Row { panel: 'C', data: data.into(), arm, quantity, x_name: "row", x: place, mark }
            };
            let points = format!("{}_difference_points", measure.key());
            rows.push(row(&points, Mark::Mean { value: mean, ends, n: values.len() }));
            let seeds = difference.values.iter();
            rows.extend(seeds.map(|(&seed, d)| row(&points, Mark::Seed { seed, value: 100.0 * d })));
            rows.push(row("p_holm", Mark::Printed { value: difference.p_holm }));
            notes.lines.push((place, p_alone(difference.p_holm)));
            intervals.push(Interval { look, row: place, mean, ends, values, fill: Fill::Solid });
        }
    }
    let layers = vec![Layer::Rule(Rule { at: 0.0, look: None, band: None }), Layer::Intervals(intervals)];
    let x = Axis::linear("Difference (points)", layers.iter().flat_map(Layer::widths), Limits::ANY);
    let title = format!("Full rule − other arm: {}", measure.title());
    let key = vec![Key::from(0.0, "full rule better →")];
    Ok((measure, Panel { title, x, y: Axis::rows(labels), layers, key, grid: Grid::Rows, notes: Some(notes) }))
}

/// Figure 3: final test accuracy and training loss by fraction of the training data.
pub(crate) fn low_data(scale: Scale, runs: &Runs) -> Result<Figure> {
    let runs = &runs.on("fashion-mnist")?;
    let fractions = runs.fractions();
    let title = data_title(runs);
    let x = Axis::fractions("Share of the training data", &fractions);
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    for (letter, quantity, what, name, limits) in [
        ('A', Quantity::TestAccuracy, "accuracy", "Final test accuracy (%)", Limits::PERCENT),
        ('B', Quantity::TrainLoss, "training loss", "Final training loss (nats)", Limits::POSITIVE),
    ] {
        let layers = by_fraction(runs, &fractions, letter, quantity, &mut rows)?;
        panels.push(Panel {
            title: format!("{title}: {what}"),
            x: x.clone(),
            y: Axis::linear(name, heights(&layers), limits),
            layers,
            key: Vec::new(),
            grid: Grid::Levels,
            notes: None,
        });
    }
    let drawing = panel::figure("Figure 3: low data", &panels, Layout::grid(2), &looks(runs)?)?;
    let caption = Caption::new(3, "Low data", scale, runs)
        .text(&format!(
            "Test accuracy (A) and mean training loss (B) of the last epoch on {title}, by the share of the training data \
             (logarithmic axis); for one seed the smaller shares are part of the larger ones."
        ))
        .bands("large markers are means, bars ± 1 sample standard deviation, small points single seeds; arms stand side by side")
        .comparison(Metric::FinalTestAccuracy)
        .comparison(Metric::FinalTrainLoss)
        .finish()?;
    Ok(Figure { name: "fig3", drawing, table: long_format(&rows), caption })
}

fn by_fraction(
    runs: &Runs,
    fractions: &[f64],
    panel: char,
    quantity: Quantity,
    rows: &mut Vec<Row>,
) -> Result<Vec<Layer>> {
    let arms = runs.arms();
    let mut layers = Vec::new();
    for (i, arm) in arms.iter().enumerate() {
        let (mut spots, mut values) = (Vec::new(), Vec::new());
        for &x in fractions {
            let Some(summary) = runs.at_fraction(x)?.summary(arm, quantity)? else { continue };
            rows.extend(summary.rows(|mark| {
                let (data, arm, quantity) = (runs.data(), arm.clone(), quantity.key());
                Row { panel, data, arm, quantity, x_name: "fraction", x, mark }
            }));
            values.extend(summary.values.values().map(|value| (x, *value)));
            spots.push(summary.spot(x));
        }
        // Many arms stand no wider than three do.
        let dodge = DODGE * (3.0 / arms.len() as f64).min(1.0);
        let shift = (i as f64 - (arms.len() - 1) as f64 / 2.0) * dodge;
        if !spots.is_empty() {
            layers.push(Layer::Points { look: theme::arm(arm)?, spots, values, shift, filled: Filled::All });
        }
    }
    Ok(layers)
}

/// Figure 5: accuracy and loss by epoch on a task that nothing was tuned on.
pub(crate) fn transfer(scale: Scale, runs: &Runs) -> Result<Figure> {
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    let title = data_title(runs);
    for (letter, quantity, what, name, limits) in [
        ('A', Quantity::TestAccuracy, "accuracy", "Test accuracy (%)", Limits::PERCENT),
        ('B', Quantity::TrainLoss, "training loss", "Training loss (nats)", Limits::POSITIVE),
    ] {
        let layers = runs.curves(letter, quantity, Spread::Lines, Fill::Solid, &mut rows)?;
        panels.push(panel(runs, &format!("{title}: {what}"), name, layers, limits));
    }
    panels.iter_mut().for_each(|panel| panel.key = vec![Key::remark("thin: single seeds; thick: their mean")]);
    let drawing = panel::figure("Figure 5: transfer", &panels, Layout::grid(2), &looks(runs)?)?;
    let caption = Caption::new(5, "Transfer", scale, runs)
        .text(&format!(
            "The configuration that was tuned on MNIST, unchanged, on {title} with {}. Test accuracy (A) and mean training loss (B) by epoch.",
            runs.task()
        ))
        .bands("thin lines are single seeds, thick lines with markers their means")
        .comparison(Metric::FinalTestAccuracy)
        .comparison(Metric::FinalTrainLoss)
        .finish()?;
    Ok(Figure { name: "fig5", drawing, table: long_format(&rows), caption })
}

/// Figure 6: what the coefficient and the update do by epoch, on Fashion-MNIST.
pub(crate) fn dynamics(scale: Scale, runs: &Runs) -> Result<Figure> {
    const ALPHA: Quantity = Quantity::Diagnostic("alpha_mean");
    const SPREAD: Spread = Spread::Of(Quantity::Diagnostic("alpha_std"));
    const UPDATE: Quantity = Quantity::StepNorm("effective_update_norm");
    const GRADIENT: Quantity = Quantity::StepNorm("raw_gradient_norm");
    const NEAR_MAX: Quantity = Quantity::ShareDiagnostic("alpha_fraction_near_max");
    const NEAR_MIN: Quantity = Quantity::ShareDiagnostic("alpha_fraction_near_min");
    let runs = &runs.on("fashion-mnist")?;
    let mut rows = Vec::new();
    let mut panels = Vec::new();
    let coefficient = format!("{}: coefficient", data_title(runs));
    for (letter, title, name, quantity, spread, limits) in [
        ('A', coefficient.as_str(), "Mean α", ALPHA, SPREAD, Limits::POSITIVE),
        (
            'B',
            "Update after stabilisation",
            "Norm of a step (RMS of the epoch)",
            UPDATE,
            Spread::Seeds,
            Limits::POSITIVE,
        ),
        ('C', "Gradient", "Norm of a step (RMS of the epoch)", GRADIENT, Spread::Seeds, Limits::POSITIVE),
    ] {
        let layers = runs.curves(letter, quantity, spread, Fill::Solid, &mut rows)?;
        panels.push(panel(runs, title, name, layers, limits));
    }
    // A coefficient that is constant is always at both of its bounds.
    let varied = runs.runs.iter().filter(|(run, _)| run.arm != "coefficient-one").cloned().collect();
    let varied = Runs { plan: runs.plan.clone(), runs: varied };
    let mut layers = varied.curves('D', NEAR_MAX, Spread::Seeds, Fill::Solid, &mut rows)?;
    layers.extend(varied.curves('D', NEAR_MIN, Spread::Seeds, Fill::Open, &mut rows)?);
    let mut shares = panel(runs, "Coefficients at or near a bound", "Share of elements (%)", layers, Limits::PERCENT);
    shares.key =
        vec![Key::marker(Fill::Solid, "at or near the upper bound"), Key::marker(Fill::Open, "at or near the lower")];
    panels.push(shares);
    panels[0].key = vec![Key::remark("band: ± 1 standard deviation of α over elements")];
    panels[1].key = vec![Key::remark("band: ± 1 standard deviation over seeds, as in C and D")];

    let drawing = panel::figure("Figure 6: dynamics", &panels, Layout::grid(2), &looks(runs)?)?;
    let caption = Caption::new(6, "Dynamics", scale, runs)
        .text(&format!(
            "Training on {} with {}, by epoch. A: mean of the coefficient α over elements and steps; the band reaches one standard deviation \
             of α (over elements and steps, mean over seeds) to either side. B: norm of the update after stabilisation and \
             gain, without the learning rate. C: norm of the gradient. Norms are those of a step, as their root mean square \
             over the epoch: √(Σ ‖·‖² / n), summed over the tensors and the n steps of the epoch; times √n they are the norms \
             of an epoch that records hold. D: share of elements whose α is within 5 % of the bounds' range of the upper bound or beyond it (filled), of the lower one or \
             beyond it (open), where α varies: in the full rule it may leave its bounds.",
            data_title(runs),
            runs.task()
        ))
        .bands("lines are means, bands in B to D ± 1 sample standard deviation")
        .last_epoch(&[ALPHA, UPDATE, GRADIENT, NEAR_MAX, NEAR_MIN])
        .finish()?;
    Ok(Figure { name: "fig6", drawing, table: long_format(&rows), caption })
}

fn panel(runs: &Runs, title: &str, name: &str, layers: Vec<Layer>, limits: Limits) -> Panel {
    let y = Axis::linear(name, heights(&layers), limits);
    let x = Axis::epochs(runs.epochs());
    Panel { title: title.into(), x, y, layers, key: Vec::new(), grid: Grid::Levels, notes: None }
}
