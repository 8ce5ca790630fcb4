//! Figure 13: accuracy and training loss against the learning rate, a curve for each rule, to see whether a curve is higher or only shifted along the axis.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use np_record::compare::{Asked, Compared, Comparison, Difference, Measure, Metric, Pairs};
use np_record::stats::{self, Bootstrap};
use serde_json::Value;

use super::caption::Caption;
use super::curves::{data_title, heights, looks};
use super::evidence::{interval, p_text};
use super::optimizers::RATE;
use super::runs::{Runs, Summary};
use super::study::{self, Along, capital, signed};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits, percent};
use crate::draw::chart::{Layer, Spot};
use crate::draw::panel::{self, Grid, Key, Layout, Panel};
use crate::draw::theme::{self, INK, Look};

/// The axis of fractions of the training data, one for each half of the figure.
const SHARE: &str = "data.fraction";
/// The arm that the others are compared with.
const SUBJECT: &str = "full";

/// Limits of what is drawn, so that learning rates at which nothing learns do not hide the others: accuracies at most `BELOW` points below a panel's best; losses at
/// most `TIMES` its lowest; and, at rates at which the full rule's accuracy is drawn, differences of at most `APART` points.
const BELOW: f64 = 3.0;
const TIMES: f64 = 2.0;
const APART: f64 = 2.5;

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let measure = study::outcome(runs)?;
    let title = data_title(runs);
    let mut shares = runs.fractions();
    shares.reverse();
    let rates = runs.values(RATE, None);
    let x = Axis::tried("Learning rate", &rates);
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    // How many means are not drawn, and at which rates the full rule's accuracy is.
    let (mut cut, mut learning): (usize, Vec<Vec<f64>>) = (0, Vec::new());
    let mut letters = 'A'..;
    for (measure, limits) in [(measure, Limits::PERCENT), (Metric::FinalTrainLoss.into(), Limits::POSITIVE)] {
        for (&share, letter) in shares.iter().zip(&mut letters) {
            let part = runs.at_fraction(share)?;
            let layers =
                Along { runs: &part, axis: RATE, x_name: "learning_rate" }.curves(letter, measure, &mut rows)?;
            let best = best_of(&layers, measure.higher_is_better());
            let is_near = |spot: &Spot| match measure.higher_is_better() {
                true => spot.mean >= best - BELOW,
                false => spot.mean <= TIMES * best,
            };
            let (layers, far) = near(layers, is_near);
            cut += far;
            if measure.higher_is_better() {
                let own = theme::arm(SUBJECT)?;
                let spots = layers.iter().flat_map(|layer| match layer {
                    Layer::Curve { look, spots, .. } if *look == own => spots.as_slice(),
                    _ => &[],
                });
                learning.push(spots.map(|spot| spot.x).collect());
            }
            let name = study::axis_name(measure);
            let mut panel = panel(&title, share, &x, (&name, limits), layers);
            panel.key = vec![study::over_epochs(measure)];
            panels.push(panel);
        }
    }
    let compared = compared(runs)?;
    for ((&share, learning), letter) in shares.iter().zip(&learning).zip(&mut letters) {
        let layers = differences(&compared, (share, letter, &rates), &runs.data(), &mut rows)?;
        let (layers, far) = near(layers, |spot| spot.mean.abs() <= APART && learning.contains(&spot.x));
        cut += far;
        let mut panel = panel(&title, share, &x, ("Full rule − other arm (points)", Limits::ANY), layers);
        panel.key = vec![Key::remark("above the line: full rule better")];
        panels.push(panel);
    }
    let drawing = panel::figure("Figure 13: rate and rule", &panels, Layout::grid(shares.len()), &looks(runs)?)?;
    let interactions = interactions(&compared, &shares);
    let mut caption = Caption::new(13, "Rate and rule", scale, runs)
        .text(&format!(
            "{} (A, B) and training loss of the last epoch (C, D) on {title} with {}, on all of the data and on a part, at every learning rate that was tried (logarithmic axis). E, F: the full rule \
             minus each other arm, whose look it has, at the same rate, by the number of A and B, paired by seed. A rule that helps is above the others at its best rate; a rule that merely moves further is ahead at low rates and behind \
             at high ones.",
            capital(&measure.title()),
            runs.model()
        ))
        .rates_are_tried()
        .bands("lines are means, bands 95 % bootstrap intervals of the mean (none where fewer than six runs make one); a rate of which no run has finished has no marker");
    if cut > 0 {
        caption = caption.note(format!(
            "{cut} means are in the table and not drawn: accuracies more than {BELOW} points below a panel's best, losses above {TIMES} times its least, differences of more than {APART} points, or at rates at which the full rule's accuracy is not drawn"
        ));
    }
    if let Some(text) = study::expected(&runs.plan) {
        caption = caption.table(text);
    }
    let caption = caption
        .table(found(runs, measure, &shares, &interactions)?)
        .table(table(&interactions)?)
        .comparison(Metric::FinalTestAccuracy)
        .note("every rate is shown, and none was chosen on held-out images: an arm's best rate is read off the test images here, for all arms alike".into())
        .finish()?;
    Ok(Figure { name: "fig13", drawing, table: long_format(&rows), caption })
}

/// The best mean of all curves.
fn best_of(layers: &[Layer], highest: bool) -> f64 {
    let means = layers.iter().flat_map(|layer| match layer {
        Layer::Curve { spots, .. } => spots.as_slice(),
        _ => &[],
    });
    let means = means.map(|spot| spot.mean);
    if highest { means.fold(f64::NEG_INFINITY, f64::max) } else { means.fold(f64::INFINITY, f64::min) }
}

/// Removes the means that are not `near` from curves; also returns how many it has removed.
fn near(layers: Vec<Layer>, near: impl Fn(&Spot) -> bool) -> (Vec<Layer>, usize) {
    let mut cut = 0;
    let layers = layers.into_iter().filter_map(|layer| match layer {
        Layer::Curve { look, spots, .. } => {
            let (spots, far): (Vec<_>, Vec<_>) = spots.into_iter().partition(&near);
            cut += far.len();
            study::curve(look, spots)
        }
        other => Some(other),
    });
    let layers = layers.collect();
    (layers, cut)
}

/// The full rule compared with each other arm.
pub(crate) fn compared(runs: &Runs) -> Result<Compared> {
    let all = runs.recorded();
    Ok(Compared::of(&runs.plan, &all, &Asked { pairs: Pairs::Of(SUBJECT), ..Asked::default() })?)
}

fn panel(title: &str, share: f64, x: &Axis, (name, limits): (&str, Limits), layers: Vec<Layer>) -> Panel {
    Panel {
        title: if share < 1.0 { format!("{title}, {}", percent(share)) } else { title.to_owned() },
        x: x.clone(),
        y: Axis::linear(name, heights(&layers), limits),
        layers,
        key: Vec::new(),
        grid: Grid::Levels,
        notes: None,
    }
}

/// The differences of a hypothesis on a fraction of the data, by learning rate.
fn by_rate(comparison: &Comparison, share: f64) -> BTreeMap<u64, (f64, &Difference)> {
    let number = |axes: &BTreeMap<String, Value>, key: &str| axes.get(key).and_then(Value::as_f64);
    let here = comparison.groups.iter().filter(|group| number(&group.axes, SHARE) == Some(share));
    // Rates are positive: their bits have their order.
    here.filter_map(|group| {
        let rate = number(&group.axes, RATE)?;
        Some((rate.to_bits(), (rate, group.difference.as_ref()?)))
    })
    .collect()
}

/// The layers of a panel: a curve of differences for each hypothesis, and a line at zero.
fn differences(
    compared: &Compared,
    (share, panel, rates): (f64, char, &[f64]),
    data: &str,
    rows: &mut Vec<Row>,
) -> Result<Vec<Layer>> {
    let ends = [rates.first(), rates.last()].map(|end| end.copied().unwrap_or(1.0));
    let zero = Look { colour: INK, ..theme::arm(SUBJECT)? };
    let mut layers = vec![Layer::Lines { look: zero, lines: vec![ends.map(|rate| (rate, 0.0)).to_vec()] }];
    for comparison in &compared.hypotheses {
        let mut spots = Vec::new();
        for (x, difference) in by_rate(comparison, share).into_values() {
            let (mean, ends) = (100.0 * difference.mean, interval(difference));
            let row = |quantity: &str, mark| Row {
                panel,
                data: data.into(),
                arm: format!("{} − {}", comparison.arm, comparison.baseline),
                quantity: quantity.into(),
                x_name: "learning_rate",
                x,
                mark,
            };
            let points = format!("{}_difference_points", compared.measure.key());
            rows.push(row(&points, Mark::Mean { value: mean, ends, n: difference.values.len() }));
            rows.push(row("p_holm", Mark::Printed { value: difference.p_holm }));
            let [low, high] = ends.unwrap_or([mean; 2]);
            spots.push(Spot { x, mean, low, high });
        }
        layers.extend(study::curve(theme::arm(&comparison.baseline)?, spots));
    }
    Ok(layers)
}

/// How a difference changes from the lowest to the highest rate at which no run of either arm has diverged.
pub(crate) struct Interaction {
    /// The arm that the full rule is compared with.
    pub(crate) baseline: String,
    /// The fraction of the training data.
    pub(crate) share: f64,
    /// The two rates.
    pub(crate) rates: [f64; 2],
    /// Mean difference at both, in points.
    pub(crate) at: [f64; 2],
    /// The difference at the higher rate minus that at the lower, paired by seed, in points.
    pub(crate) change: f64,
    /// The 95 % interval of the change; `None` if the pairs are too few.
    pub(crate) ends: Option<[f64; 2]>,
    p: f64,
    /// p, adjusted over all interactions of the experiment.
    pub(crate) p_holm: f64,
}

/// All interactions of an experiment.
pub(crate) fn interactions(compared: &Compared, shares: &[f64]) -> Vec<Interaction> {
    let mut all = Vec::new();
    for comparison in &compared.hypotheses {
        for &share in shares {
            let sound = |rate: f64| {
                let here = comparison.groups.iter().filter(|group| {
                    let is = |key: &str, value: f64| group.axes.get(key).and_then(Value::as_f64) == Some(value);
                    is(SHARE, share) && is(RATE, rate)
                });
                here.into_iter().all(|group| group.arm.diverged.is_empty() && group.baseline.diverged.is_empty())
            };
            let whole: Vec<_> = by_rate(comparison, share).into_values().filter(|(rate, _)| sound(*rate)).collect();
            let [(low, first), .., (high, last)] = whole[..] else { continue };
            let pairs = stats::paired_differences(&last.values, &first.values);
            let values: Vec<f64> = pairs.into_iter().map(|(_, d)| 100.0 * d).collect();
            let Some((change, test)) = stats::mean(&values).zip(stats::sign_flip(&values)) else { continue };
            let ends = Bootstrap::default().interval_of_mean(&values).filter(|_| !Bootstrap::is_rough(values.len()));
            all.push(Interaction {
                baseline: comparison.baseline.clone(),
                share,
                rates: [low, high],
                at: [first, last].map(|difference| 100.0 * difference.mean),
                change,
                ends: ends.map(|ends| [ends.low, ends.high]),
                p: test.p,
                p_holm: test.p,
            });
        }
    }
    let p: Vec<f64> = all.iter().map(|one| one.p).collect();
    all.iter_mut().zip(stats::holm(&p)).for_each(|(one, adjusted)| one.p_holm = adjusted);
    all
}

fn table(interactions: &[Interaction]) -> Result<String> {
    let mut out = format!(
        "Interaction of rate and rule: the difference at the highest rate minus that at the lowest, of those at which no run of either arm diverged; two-sided sign-flip test, p adjusted (Holm) \
         over these {} tests:\n\n| data | full rule against | rates | at the lowest (points) | at the highest (points) | change (points) | 95 % interval | p (Holm) |\n\
         | :-- | :-- | :-- | --: | --: | --: | :-- | --: |\n",
        interactions.len()
    );
    for one in interactions {
        let ends = one.ends.map_or_else(|| "–".into(), |[low, high]| format!("[{}, {}]", signed(low), signed(high)));
        let _ = writeln!(
            out,
            "| {} | {} | {} to {} | {} | {} | {} | {ends} | {} |",
            percent(one.share),
            theme::arm(&one.baseline)?.label,
            one.rates[0],
            one.rates[1],
            signed(one.at[0]),
            signed(one.at[1]),
            signed(one.change),
            p_text(one.p, one.p_holm)
        );
    }
    Ok(out)
}

/// The learning rate at which an arm's mean is highest, with its values there. Rates at which a run diverged do not count.
pub(crate) fn top(part: &Runs, arm: &str, measure: Measure) -> Result<Option<(f64, Summary)>> {
    let mut top: Option<(f64, Summary)> = None;
    for rate in part.values(RATE, Some(arm)) {
        let here = part.where_axis(RATE, &rate.into())?;
        let Some(summary) = here.measured(arm, measure)? else { continue };
        if summary.values.len() < here.arm(arm)?.len() {
            continue;
        }
        if top.as_ref().is_none_or(|(_, best)| summary.mean > best.mean) {
            top = Some((rate, summary));
        }
    }
    Ok(top)
}

/// The results in words, as Markdown.
fn found(runs: &Runs, measure: Measure, shares: &[f64], interactions: &[Interaction]) -> Result<String> {
    let mut text = String::from("**Found** (from the records).");
    for &share in shares {
        let part = runs.at_fraction(share)?;
        let mut best: Vec<String> = Vec::new();
        for arm in part.arms() {
            if let Some((rate, top)) = top(&part, &arm, measure)? {
                best.push(format!("{} {:.2} % at {rate}", theme::arm(&arm)?.label, top.mean));
            }
        }
        let _ = write!(text, " The best means on {}: {}.", percent(share), best.join(", "));
        let changes = interactions.iter().filter(|one| one.share == share);
        let changes = changes.map(|one| {
            let label = theme::arm(&one.baseline)?.label;
            Ok(format!("{} against {label} (p {})", signed(one.change), super::evidence::p_alone(one.p_holm)))
        });
        let changes = changes.collect::<Result<Vec<_>>>()?;
        if !changes.is_empty() {
            let _ = write!(
                text,
                " From the lowest to the highest rate the full rule's difference changes by {} points.",
                changes.join(", ")
            );
        }
    }
    Ok(text + "\n")
}
