//! Curves drawn by the page itself: a number by epoch, a small chart a problem, a line an arm. A pointer over an arm, or a click on it, shows its seeds.
//!
//! Colours are those of Okabe and Ito, by class, so that the dark page can lighten them; dashes tell arms apart without colour.

use std::fmt::Write as _;

use maud::{Markup, html};
use np_record::{Outcome, compare::Metric, select::Runs, stats};

use super::markup::capital;

/// Lines that a chart can hold: as many as there are colours.
pub(super) const MOST: usize = 8;

/// Charts that a page shows of one experiment.
pub(super) const MOST_CHARTS: usize = 12;

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 210.0;
/// Left, right, top and bottom of the plotting area.
const AREA: [f64; 4] = [42.0, 312.0, 10.0, 172.0];

/// One arm's curve: at each epoch mean and standard deviation over seeds, as print has the number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    /// Place of the arm, for its colour.
    pub(super) arm: usize,
    /// Epoch, mean, spread (none of one seed).
    pub(super) points: Vec<(f64, f64, Option<f64>)>,
    /// Each seed's values at the same epochs; empty for one seed, which is the curve.
    pub(super) seeds: Vec<(u64, Vec<f64>)>,
}

/// The curves of runs that share all axes; of runs that finished.
pub(super) fn curves(runs: &Runs, arms: &[&str], metric: Metric) -> Vec<Curve> {
    let scale = if metric.unit() == "%" { 100.0 } else { 1.0 };
    let of = |(place, name): (usize, &&str)| {
        let records: Vec<_> = runs
            .iter()
            .filter(|(run, _)| run.arm == **name)
            .filter_map(|(run, record)| {
                Some((run.seed, record.as_ref().filter(|record| record.outcome == Outcome::Finished)?))
            })
            .collect();
        let epochs = records.iter().map(|(_, record)| record.epochs.len()).min().unwrap_or(0);
        let value = |record: &np_record::Record, at: usize| Some(metric.of_epoch(record.epochs.get(at)?)? * scale);
        let point = |at: usize| {
            let values: Option<Vec<f64>> = records.iter().map(|(_, record)| value(record, at)).collect();
            let values = values?;
            let epoch = records.first()?.1.epochs[at].epoch as f64;
            Some((epoch, stats::mean(&values).filter(|mean| mean.is_finite())?, stats::sample_std(&values)))
        };
        let points: Vec<_> = (0..epochs).map_while(point).collect();
        let seeds = records.iter().filter(|_| records.len() > 1);
        let seeds = seeds.map(|(seed, record)| (*seed, (0..points.len()).map_while(|at| value(record, at)).collect()));
        Curve { arm: place, seeds: seeds.collect(), points }
    };
    arms.iter().enumerate().map(of).filter(|curve| !curve.points.is_empty()).collect()
}

/// A chart of curves (elements of SVG end explicitly: an HTML parser would nest those that do not); `title` says of what, to those who cannot see it as well.
pub(super) fn chart(curves: &[Curve], arms: &[&str], metric: Metric, title: &str) -> Markup {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let ends = points().flat_map(|(_, mean, std)| [mean - std.unwrap_or(0.0), mean + std.unwrap_or(0.0)]);
    let seeds = || curves.iter().flat_map(|curve| &curve.seeds).flat_map(|(_, values)| values.iter().copied());
    let (low, high) =
        ends.chain(seeds()).fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)));
    let last = points().map(|(epoch, ..)| *epoch).fold(1.0, f64::max);
    let (ticks, decimals) = ticks(low, high);
    let (bottom, top) = (ticks[0], ticks[ticks.len() - 1]);
    let [x0, x1, y0, y1] = AREA;
    let x = |epoch: f64| x0 + (x1 - x0) * if last > 1.0 { (epoch - 1.0) / (last - 1.0) } else { 0.5 };
    let y = |value: f64| y1 - (y1 - y0) * (value - bottom) / (top - bottom);
    let percent = metric.unit() == "%";
    let number = |value: f64| if percent { format!("{value:.2} %") } else { format!("{value:.4}") };
    let told: Vec<String> = curves
        .iter()
        .filter_map(|curve| Some(format!("{} ends at {}", arms[curve.arm], number(curve.points.last()?.1))))
        .collect();
    let name = capital(metric.title().trim_start_matches("final "));
    let of = if title.is_empty() { String::new() } else { format!(", {title}") };
    let view = format!("0 0 {WIDTH} {HEIGHT}");
    html! {
        svg.chart viewBox=(view) role="img" aria-label=(format!("{name} by epoch{of}: {}", told.join(", "))) {
            @for tick in &ticks {
                line.grid x1=(x0) x2=(x1) y1=(short(y(*tick))) y2=(short(y(*tick))) {}
                text x=(x0 - 6.0) y=(short(y(*tick) + 4.0)) text-anchor="end" { (format!("{tick:.decimals$}")) }
            }
            @for epoch in epochs(last) {
                text x=(short(x(epoch))) y=(y1 + 16.0) text-anchor="middle" { (epoch) }
            }
            text x=((x0 + x1) / 2.0) y=(y1 + 33.0) text-anchor="middle" { "epoch" }
            @for curve in curves { path.band.{ "f" (curve.arm) } d=(band(curve, &x, &y)) {} }
            @for curve in curves {
                @let means: Vec<f64> = curve.points.iter().map(|(_, mean, _)| *mean).collect();
                @let d = line(curve, &means, &x, &y);
                g.arm tabindex=[(!curve.seeds.is_empty()).then_some("0")] {
                    title { (arms[curve.arm]) ": " (means.last().copied().map(number).unwrap_or_default()) " at the end" }
                    @for (seed, values) in &curve.seeds {
                        path.seed.{ "s" (curve.arm) } d=(line(curve, values, &x, &y)) {
                            title { (arms[curve.arm]) ", seed " (seed) ": " (values.last().copied().map(number).unwrap_or_default()) " at the end" }
                        }
                    }
                    @if !curve.seeds.is_empty() { path.hit d=(d) {} }
                    path.line.{ "s" (curve.arm) } d=(d) {}
                }
            }
        }
    }
}

/// The key of a line, as the chart draws it.
pub(super) fn key(arm: usize) -> Markup {
    html! { svg.key viewBox="0 0 38 10" aria-hidden="true" { path.line.{ "s" (arm) } d="M1 5H37" {} } }
}

/// A line through values at the epochs of a curve.
fn line(curve: &Curve, values: &[f64], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let mut path = String::new();
    for (i, ((epoch, ..), value)) in curve.points.iter().zip(values).enumerate() {
        let _ = write!(path, "{}{} {}", if i == 0 { 'M' } else { 'L' }, short(x(*epoch)), short(y(*value)));
    }
    // A single point would be no line.
    if curve.points.len() == 1 { path + "h4" } else { path }
}

fn band(curve: &Curve, x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> String {
    let edge = |sign: f64| {
        let with = curve.points.iter().filter_map(move |(epoch, mean, std)| Some((*epoch, mean + sign * (*std)?)));
        with.map(|(epoch, value)| format!("{} {}", short(x(epoch)), short(y(value)))).collect::<Vec<_>>()
    };
    let (upper, mut lower) = (edge(1.0), edge(-1.0));
    lower.reverse();
    if upper.is_empty() { String::new() } else { format!("M{}Z", [upper, lower].concat().join("L")) }
}

/// Round values that enclose a range, three to seven of them, and the decimals that they need.
fn ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    if !low.is_finite() || !high.is_finite() {
        return (vec![0.0, 50.0, 100.0], 0);
    }
    let rough = ((high - low) / 4.0).max(0.05);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
    let count = (last - first) as usize;
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    ((0..=count).map(|i| (first + i as f64) * step).collect(), decimals)
}

/// Epochs that are written below a chart: the first, the last, and round ones between.
fn epochs(last: f64) -> Vec<f64> {
    let step = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0].into_iter().find(|step| last / step <= 6.0);
    let step = step.unwrap_or(last);
    let between = (1..).map(|i| f64::from(i) * step).take_while(|epoch| *epoch < last - step * 0.6);
    let mut all: Vec<f64> = std::iter::once(1.0).chain(between.filter(|epoch| *epoch > 1.0)).collect();
    if last > 1.0 {
        all.push(last);
    }
    all
}

/// A coordinate, to a tenth of a pixel.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_enclose_what_is_drawn() {
        assert_eq!(ticks(91.3, 97.6), (vec![90.0, 92.0, 94.0, 96.0, 98.0], 0));
        assert_eq!(ticks(0.0, 100.0), (vec![0.0, 50.0, 100.0], 0));
        let (few, decimals) = ticks(97.46, 97.48);
        assert!(few.len() >= 2 && few[0] <= 97.46 && few[few.len() - 1] >= 97.48 && decimals == 2, "{few:?}");
        let (same, _) = ticks(50.0, 50.0);
        assert!(same.len() >= 2 && same[0] < same[same.len() - 1], "{same:?}");
        assert_eq!(ticks(f64::INFINITY, f64::NEG_INFINITY).0.len(), 3);
        assert_eq!(epochs(10.0), [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(epochs(1.0), [1.0]);
        assert_eq!(epochs(3.0), [1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let accuracy = Metric::FinalTestAccuracy;
        let points = vec![(1.0, 90.0, Some(1.0)), (2.0, 95.0, Some(0.5))];
        let curve =
            Curve { arm: 1, points: points.clone(), seeds: vec![(41, vec![89.0, 94.5]), (42, vec![91.0, 95.5])] };
        let text = chart(&[curve], &["a", "b<c"], accuracy, "`mnist`").into_string();
        assert!(text.contains("aria-label=\"Test accuracy by epoch, `mnist`: b&lt;c ends at 95.00 %\""), "{text}");
        assert!(text.contains("class=\"line s1\"") && text.contains("class=\"band f1\""), "{text}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        assert!(text.contains("<title>b&lt;c, seed 42: 95.50 % at the end</title>") && text.contains("tabindex=\"0\""));
        let loss = Curve { arm: 0, points, seeds: Vec::new() };
        let text = chart(&[loss], &["a"], Metric::FinalTrainLoss, "").into_string();
        assert!(
            text.contains("aria-label=\"Training loss by epoch: a ends at 95.0000\"") && !text.contains("seed"),
            "{text}"
        );
        let single = Curve { arm: 0, points: vec![(1.0, 90.0, None)], seeds: Vec::new() };
        let text = chart(&[single], &["a"], accuracy, "").into_string();
        assert!(!text.contains("NaN") && text.contains("h4"), "{text}");
    }
}
