//! Figure 11: every optimizer at its best learning rate and schedule on three data sets: accuracy, training loss, and the paired difference to tuned SGD.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use np_record::PlannedRun;
use np_record::compare::{Comparison, Measure, Metric, Question};
use np_record::stats::Bootstrap;
use serde_json::{Value, json};

use super::caption::Caption;
use super::runs::Runs;
use super::study::{self, Line, Told, capital, ends, in_points, signed};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Interval, Layer};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme;

/// The axis whose values are the data sets.
const SETTING: &str = "setting";
/// For each data set, the ending of its arms' names, and its title.
pub(crate) const SETTINGS: [(&str, &str); 3] =
    [("-mnist", "MNIST"), ("-fashion", "Fashion-MNIST"), ("-tenth", "Fashion-MNIST, 10 %")];
/// The arm that all others are compared with.
const TUNED: &str = "sgd";
/// The greatest number of ticks of an axis, because three panels are side by side.
const TICKS: usize = 5;
/// Width of the figure and height of a row, in pixels.
const WIDTH: f64 = 3960.0;
const ROW: f64 = 84.0;

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let measure = study::outcome(runs)?;
    let runs = &study::by_setting(runs, SETTING, &SETTINGS.map(|(ending, title)| (ending, json!(title))))?;
    let arms = runs.arms();
    let loss = Metric::FinalTrainLoss.into();
    let against = against_tuned(runs, measure)?;
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    let mut letters = 'A'..;
    for (measure, limits) in [(measure, Limits::PERCENT), (loss, Limits::POSITIVE)] {
        for ((_, setting), letter) in SETTINGS.iter().zip(&mut letters) {
            panels.push(values(runs, (letter, setting), measure, limits, &mut rows)?);
        }
    }
    for ((_, setting), letter) in SETTINGS.iter().zip(&mut letters) {
        let lines = arms.iter().map(|arm| {
            let comparison = against.iter().find(|comparison| comparison.arm == *arm);
            let here = |group: &&np_record::compare::Group| group.axes.get(SETTING) == Some(&json!(setting));
            let group = comparison.and_then(|comparison| comparison.groups.iter().find(here));
            let look = theme::arm(arm)?;
            Ok(Line {
                label: look.label.into(),
                look,
                setting: (*setting).into(),
                arm: format!("{arm} − {TUNED}"),
                difference: group.and_then(|group| group.difference.as_ref()),
                beside: None,
            })
        });
        let lines = lines.collect::<Result<Vec<_>>>()?;
        let mut panel = study::forest(letter, setting, measure, &lines, Told::Mean, &mut rows);
        panel.x = panel.x.at_most(TICKS);
        panel.x.name = "Minus tuned SGD (points)".into();
        panel.key = vec![Key::remark("right of zero: better")];
        panels.push(panel);
    }
    study::label_first_column(&mut panels, SETTINGS.len());
    let layout = Layout::facets(SETTINGS.len(), WIDTH, &[arms.len()], ROW);
    let drawing = panel::figure("Figure 11: equal budgets", &panels, layout, &[])?;
    let mut caption = Caption::new(11, "Equal budgets", scale, runs)
        .text(&format!(
            "{} (A to C), training loss of the last epoch (D to F), and the former minus that of tuned SGD, paired by seed, in points (G to I), for every optimizer at the learning rate and \
             the schedule that it chose among equally many on held-out images; the seeds here chose nothing. Hybrids have no stabiliser; at strength 0 they are their base, SGD with momentum and AdamW.",
            capital(&measure.title())
        ))
        .rates_are_tried()
        .bands(
            "large markers are means, printed at the right; bars 95 % bootstrap intervals of the mean (none where fewer than six runs make one), small points single seeds. Differences to SGD are shown for every \
             arm, and only the experiment's hypotheses are tested, below",
        );
    if let Some(text) = study::expected(&runs.plan) {
        caption = caption.table(text);
    }
    let caption = caption
        .table(found(runs, measure, &against)?)
        .table(chosen(runs)?)
        .comparison(Metric::FinalTestAccuracy)
        .finish()?;
    Ok(Figure { name: "fig11", drawing, table: long_format(&rows), caption })
}

/// A panel of means with intervals, one row for each arm.
fn values(
    runs: &Runs,
    (letter, setting): (char, &str),
    measure: Measure,
    limits: Limits,
    rows: &mut Vec<Row>,
) -> Result<Panel> {
    let part = runs.where_axis(SETTING, &json!(setting))?;
    let (mut intervals, mut labels) = (Vec::new(), Vec::new());
    let mut notes = Notes { head: "mean".into(), lines: Vec::new() };
    for (place, arm) in runs.arms().iter().enumerate() {
        let (look, place) = (theme::arm(arm)?, place as f64);
        labels.push(look.label.to_owned());
        let row = |mark| Row {
            panel: letter,
            data: setting.into(),
            arm: arm.clone(),
            quantity: study::key(measure),
            x_name: "row",
            x: place,
            mark,
        };
        let Some(summary) = part.measured(arm, measure)? else {
            rows.push(row(Mark::Nothing));
            notes.lines.push((place, "–".into()));
            continue;
        };
        let [low, high] = ends(&summary);
        rows.extend(study::with_ends(&summary, [low, high], row));
        let mean = summary.mean;
        notes.lines.push((place, if measure.unit() == "%" { format!("{mean:.2}") } else { format!("{mean:.3}") }));
        let ends = (low < high).then_some([low, high]);
        let values = summary.values.into_values().collect();
        intervals.push(Interval { look, row: place, mean, ends, values, fill: Fill::Solid });
    }
    let layers = vec![Layer::Intervals(intervals)];
    let x = Axis::linear(&study::axis_name(measure), layers.iter().flat_map(Layer::widths), limits).at_most(TICKS);
    let y = Axis::rows(labels);
    let key = vec![study::over_epochs(measure)];
    Ok(Panel { title: setting.into(), x, y, layers, key, grid: Grid::Rows, notes: Some(notes) })
}

/// Every other arm compared with tuned SGD, one group for each data set. These comparisons are shown, not tested.
fn against_tuned(runs: &Runs, measure: Measure) -> Result<Vec<Comparison>> {
    let arms = runs.arms();
    if !arms.iter().any(|arm| arm == TUNED) {
        bail!("`{}` has no arm `{TUNED}` to compare with", runs.plan.experiment);
    }
    let all = runs.recorded();
    let others = arms.into_iter().filter(|arm| arm != TUNED);
    let comparisons = others.map(|arm| {
        let question = Question { arm, baseline: TUNED.into(), metric: measure, bootstrap: Bootstrap::default() };
        Ok(Comparison::new(question, &all)?)
    });
    comparisons.collect()
}

/// Learning rate and schedule of a run.
pub(crate) fn settings_of(run: &PlannedRun) -> String {
    let optimizer = run.config.get("optimizer").and_then(Value::as_object);
    let rate = optimizer.and_then(|kinds| kinds.values().next()?.get("lr")?.as_f64());
    let schedule = match run.config.pointer("/options/schedule") {
        Some(Value::Object(schedule)) => schedule.keys().next().cloned(),
        Some(Value::String(schedule)) => Some(schedule.clone()),
        _ => None,
    };
    let rate = rate.map_or_else(|| "?".into(), |rate| rate.to_string());
    schedule.map_or(rate.clone(), |schedule| format!("{rate}, {schedule}"))
}

/// A table of every arm's learning rate and schedule on every data set.
fn chosen(runs: &Runs) -> Result<String> {
    let titles = SETTINGS.map(|(_, title)| title);
    let mut out =
        format!("Learning rate and schedule:\n\n| arm | {} |\n| :-- | :-- | :-- | :-- |\n", titles.join(" | "));
    for arm in runs.arms() {
        let of = |title: &str| {
            let here = runs.runs.iter().find(|(run, _)| run.arm == arm && run.axes.get(SETTING) == Some(&json!(title)));
            here.map_or_else(|| "–".into(), |(run, _)| settings_of(run))
        };
        let _ = writeln!(out, "| {} | {} |", theme::arm(&arm)?.label, titles.map(of).join(" | "));
    }
    Ok(out)
}

/// The results in words, as Markdown.
fn found(runs: &Runs, measure: Measure, against: &[Comparison]) -> Result<String> {
    let mut text = String::from("**Found** (from the records).");
    for (_, setting) in SETTINGS {
        let part = runs.where_axis(SETTING, &json!(setting))?;
        let mut means: Vec<(f64, &str)> = Vec::new();
        for arm in part.arms() {
            means.extend(
                part.measured(&arm, measure)?
                    .map(|summary| (summary.mean, theme::arm(&arm).map_or("?", |look| look.label))),
            );
        }
        means.sort_by(|a, b| b.0.total_cmp(&a.0));
        let place = |label: &str| means.iter().position(|(_, known)| *known == label).map(|at| at + 1);
        let Some((best, label)) = means.first() else { continue };
        let _ = write!(text, " {setting}: {label} is the most accurate with {best:.2} %");
        let full = theme::arm("full")?.label;
        if let Some(place) = place(full) {
            let _ = write!(text, ", the full rule number {place} of {}", means.len());
        }
        let here = |group: &&np_record::compare::Group| group.axes.get(SETTING) == Some(&json!(setting));
        let full = against.iter().find(|comparison| comparison.arm == "full");
        let difference = full.and_then(|full| full.groups.iter().find(here)?.difference.as_ref());
        if let Some(difference) = difference {
            let _ = write!(text, "; it is {} from tuned SGD", in_points(difference));
        }
        text += ".";
    }
    text += &held(runs, measure)?;
    Ok(text + "\n")
}

/// What was expected before the runs: pairs of arms, and by how many points they would differ at most.
const EXPECTED: [(&str, &str, f64); 5] = [
    ("full", "coefficient-one", 0.2),
    ("full", "sgd", 0.2),
    ("adamw", "full", 0.3),
    ("hybrid-sgd-momentum", "sgd-momentum", 0.2),
    ("hybrid-adamw", "adamw", 0.2),
];

/// On which data sets the arms' means agree with what was expected, in words.
fn held(runs: &Runs, measure: Measure) -> Result<String> {
    let mut text = String::new();
    for (arm, other, most) in EXPECTED {
        let (mut within, mut beyond) = (Vec::new(), Vec::new());
        for (_, setting) in SETTINGS {
            let part = runs.where_axis(SETTING, &json!(setting))?;
            let there = part.arms();
            if ![arm, other].iter().all(|name| there.iter().any(|known| known == name)) {
                continue;
            }
            let Some(apart) = part.measured(arm, measure)?.zip(part.measured(other, measure)?) else { continue };
            let apart = apart.0.mean - apart.1.mean;
            let held = apart.abs() <= most;
            if held { &mut within } else { &mut beyond }.push(format!("{setting} ({})", signed(apart)));
        }
        let labels = [theme::arm(arm)?.label, theme::arm(other)?.label];
        let listed = |sets: &[String]| sets.join(", ");
        let said = match (&within[..], &beyond[..]) {
            ([], []) => continue,
            (within, []) => format!("on {}", listed(within)),
            ([], beyond) => format!("on none, {}", listed(beyond)),
            (within, beyond) => format!("on {}; not on {}", listed(within), listed(beyond)),
        };
        let _ = write!(text, " Expected: {} within {most} points of {}. It is so {said}.", labels[0], labels[1]);
    }
    Ok(text)
}
