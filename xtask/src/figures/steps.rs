//! Figure 14: fractions of the training data, at equal numbers of steps.

use std::collections::BTreeMap;

use anyhow::Result;
use np_record::compare::{Asked, Compared, Comparison, Difference, Group, Measure, Metric, Pairs, Question};
use np_record::stats::{self, Bootstrap};
use serde_json::json;

use super::caption::Caption;
use super::curves::{data_title, heights, looks};
use super::evidence::p_alone;
use super::runs::Runs;
use super::study::{self, Along, Line, Told, capital, in_points, signed};
use super::table::{Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits, percent};
use crate::draw::canvas::Fill;
use crate::draw::panel::{self, Grid, Key, Layout, Panel};
use crate::draw::theme;

/// The axis of fractions of the training data.
const SHARE: &str = "data.fraction";
/// For each fraction of the training data, the ending of its arms' names.
const PARTS: [(&str, f64); 4] = [("-100", 1.0), ("-50", 0.5), ("-25", 0.25), ("-10", 0.1)];
/// Height of a row of differences, in pixels.
const ROW: f64 = 112.0;
/// Sideways distance of two arms at one x, in pixels.
const DODGE: f64 = 56.0;

/// Draws the figure: `runs` are at equal steps, `low_data` those of figure 3, at equal epochs.
pub(crate) fn draw(scale: Scale, runs: &Runs, low_data: &Runs) -> Result<Figure> {
    let measure = study::outcome(runs)?;
    let runs = &study::by_setting(runs, SHARE, &PARTS.map(|(ending, share)| (ending, json!(share))))?;
    let title = data_title(runs);
    let along = Along { runs, axis: SHARE, x_name: "fraction" };
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    for (letter, measure, limits) in
        [('A', measure, Limits::PERCENT), ('B', Metric::FinalTrainLoss.into(), Limits::POSITIVE)]
    {
        let layers = along.points(letter, measure, DODGE, &mut rows)?;
        panels.push(Panel {
            title: title.clone(),
            x: Axis::fractions("Share of the data, at equal steps", &runs.fractions()),
            y: Axis::linear(&study::axis_name(measure), heights(&layers), limits),
            layers,
            key: vec![study::over_epochs(measure)],
            grid: Grid::Levels,
            notes: None,
        });
    }
    let all = runs.recorded();
    let compared = Compared::of(&runs.plan, &all, &Asked { pairs: Pairs::Of("full"), ..Asked::default() })?;
    let usual = at_equal_epochs(low_data, measure)?;
    panels.push(differences(runs, &compared, (&usual, low_data.epochs()), &mut rows)?);
    let layout = Layout::grid(2).above_rows(panels[2].y.ticks.len(), ROW);
    let drawing = panel::figure("Figure 14: data or steps", &panels, layout, &looks(runs)?)?;
    let [fewest, most] = steps(runs);
    let epochs: Vec<String> =
        shares(runs).into_iter().map(|(share, epochs)| format!("{epochs} epochs of {}", percent(share))).collect();
    let usual_epochs = low_data.epochs();
    let mut caption = Caption::new(14, "Data or steps", scale, runs)
        .text(&format!(
            "{} (A) and training loss of the last epoch (B) on {title}, by the share of the training data (logarithmic axis), with {fewest} to {most} steps a run at every share: {}. \
             C: the full rule minus the ablation, and minus the rule with a coefficient of 1 for every element, by the number of A, paired by seed, in points. \
             Light open markers in C are the same difference where every share has {usual_epochs} epochs, and so a tenth of the data a tenth of the steps: the runs of figure 3, over seeds of \
             their own and not tested here.",
            capital(&measure.title()),
            epochs.join(", ")
        ))
        .bands(
            "large markers are means, bars 95 % bootstrap intervals of the mean (none where fewer than six runs make one), small points single seeds; arms stand side by side in A and B; at \
             the right of C the p of an exact two-sided sign-flip test, adjusted (Holm) over the experiment's hypotheses",
        );
    if let Some(text) = study::expected(&runs.plan) {
        caption = caption.table(text);
    }
    let caption = caption
        .table(found(&compared, &usual)?)
        .comparison(Metric::FinalTestAccuracy)
        .note(format!(
            "the last {} epochs are half of the training on all of the data and a twentieth of that on a tenth: each share is a comparison of its own",
            runs.plan.outcome.map_or(1, |outcome| outcome.last_epochs.get())
        ))
        .made_from(&[runs, low_data])
        .finish()?;
    Ok(Figure { name: "fig14", drawing, table: long_format(&rows), caption })
}

/// The fractions, descending, each with its number of epochs.
fn shares(runs: &Runs) -> Vec<(f64, usize)> {
    let mut epochs: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
    for (run, record) in &runs.runs {
        let share = run.axes.get(SHARE).and_then(serde_json::Value::as_f64).unwrap_or(1.0);
        let rank = PARTS.iter().position(|(_, known)| *known == share).unwrap_or(PARTS.len());
        let longest = epochs.get(&rank).map_or(0, |(_, longest)| *longest).max(record.epochs.len());
        epochs.insert(rank, (share, longest));
    }
    epochs.into_values().collect()
}

/// The fewest and the most steps of a finished run.
fn steps(runs: &Runs) -> [usize; 2] {
    let finished = runs.runs.iter().filter(|(_, record)| record.outcome == np_record::Outcome::Finished);
    let steps: Vec<usize> = finished.filter_map(|(_, record)| Some(record.last()?.steps)).collect();
    [steps.iter().min(), steps.iter().max()].map(|end| end.copied().unwrap_or(0))
}

/// The full rule compared with its ablation by the same measure, in figure 3's runs, where all fractions have the same number of epochs.
fn at_equal_epochs(low_data: &Runs, measure: Measure) -> Result<Comparison> {
    let runs = low_data.on("fashion-mnist")?;
    let all: Vec<_> = runs.runs.into_iter().map(|(run, record)| (run, Some(record))).collect();
    let (arm, baseline) = ("full".to_owned(), "gradient-only".to_owned());
    Ok(Comparison::new(Question { arm, baseline, metric: measure, bootstrap: Bootstrap::default() }, &all)?)
}

/// The difference at a fraction.
fn at(comparison: &Comparison, share: f64) -> Option<&Difference> {
    let here = |group: &&Group| group.axes.get(SHARE).and_then(serde_json::Value::as_f64) == Some(share);
    comparison.groups.iter().find(here)?.difference.as_ref()
}

/// A panel with a row for every hypothesis and fraction.
fn differences(
    runs: &Runs,
    compared: &Compared,
    (usual, usual_epochs): (&Comparison, usize),
    rows: &mut Vec<Row>,
) -> Result<Panel> {
    let mut lines = Vec::new();
    for comparison in &compared.hypotheses {
        let look = theme::arm(&comparison.baseline)?;
        for (share, epochs) in shares(runs) {
            lines.push(Line {
                label: format!("{}, {} × {epochs} epochs", look.label, percent(share)),
                look,
                setting: percent(share),
                arm: format!("{} − {}", comparison.arm, comparison.baseline),
                difference: at(comparison, share),
                beside: at(usual, share).filter(|_| comparison.baseline == usual.baseline),
            });
        }
    }
    let title = format!("Full rule − other arm: {}", compared.measure.title());
    let mut panel = study::forest('C', &title, compared.measure, &lines, Told::P, rows);
    panel.key = vec![
        Key::from(0.0, "full rule better →"),
        Key::marker(Fill::Open, &format!("{usual_epochs} epochs at every share (figure 3)")),
    ];
    Ok(panel)
}

/// The results in words, as Markdown.
fn found(compared: &Compared, usual: &Comparison) -> Result<String> {
    let mut text = String::from("**Found** (from the records).");
    for comparison in &compared.hypotheses {
        let label = theme::arm(&comparison.baseline)?.label;
        text += &format!(" Full rule − {label}: {}.", by_share(comparison, true));
        if let Some(change) = change(comparison) {
            text += &format!(" From all of the data to a tenth it changes by {change} (exploratory).");
        }
    }
    let label = theme::arm(&usual.baseline)?.label;
    text += &format!(" With as many epochs at every share, full rule − {label}: {}.", by_share(usual, false));
    if let Some(change) = change(usual) {
        text += &format!(" There it changes by {change} from all of the data to a tenth.");
    }
    Ok(text + "\n")
}

/// The differences by fraction, such as `+0.31 points [+0.10, +0.52] on 100 % (p 0.016), …`
fn by_share(comparison: &Comparison, tested: bool) -> String {
    let parts = PARTS.iter().filter_map(|(_, share)| {
        let difference = at(comparison, *share)?;
        let p = if tested { format!(" (p {})", p_alone(difference.p_holm)) } else { String::new() };
        Some(format!("{} on {}{p}", in_points(difference), percent(*share)))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The difference on a tenth of the data minus that on all data, paired by seed, in words.
fn change(comparison: &Comparison) -> Option<String> {
    let (least, all) = (at(comparison, 0.1)?, at(comparison, 1.0)?);
    let pairs = stats::paired_differences(&least.values, &all.values);
    let values: Vec<f64> = pairs.into_iter().map(|(_, d)| 100.0 * d).collect();
    let mean = signed(stats::mean(&values)?);
    let interval = Bootstrap::default().interval_of_mean(&values).filter(|_| !Bootstrap::is_rough(values.len()));
    let ends = interval.map_or_else(String::new, |i| format!(" [{}, {}]", signed(i.low), signed(i.high)));
    Some(format!("{mean} points{ends}"))
}
