//! Figure 4: NeuroPlastic and the standard optimizers, each at its best learning rate.

use anyhow::Result;
use np_record::compare::{Format, Metric};
use np_record::words;
use serde_json::Value;

use super::caption::Caption;
use super::curves::{data_title, heights, looks};
use super::runs::{Quantity, Runs, Spread};
use super::table::{Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Filled, Layer};
use crate::draw::panel::{self, Grid, Key, Layout, Panel};
use crate::draw::theme;

/// The axis of learning rates.
pub(crate) const RATE: &str = "optimizer.lr";
/// The axis of schedules, if the experiment tries several.
const SCHEDULE: &str = "options.schedule";

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let (best, selection) = runs.selected()?;
    let (title, split) = (data_title(runs), selection.split.key());
    let mut rows = Vec::new();
    let curves = best.curves('A', Quantity::TestAccuracy, Spread::Seeds, Fill::Solid, &mut rows)?;
    let by_epoch = Panel {
        title: format!("{title}: each at its best rate"),
        x: Axis::epochs(best.epochs()),
        y: Axis::linear("Test accuracy (%)", heights(&curves), Limits::PERCENT),
        layers: curves,
        key: vec![Key::remark("band: ± 1 standard deviation over seeds")],
        grid: Grid::Levels,
        notes: None,
    };
    let (mut panels, schedules) = (vec![by_epoch], schedules(runs));
    for (schedule, letter) in schedules.iter().zip('B'..) {
        let part = match schedule {
            Some(schedule) => runs.where_axis(SCHEDULE, schedule)?,
            None => runs.clone(),
        };
        let mut layers = Vec::new();
        for arm in part.arms() {
            let chosen = selection.choices.iter().find(|choice| choice.arm == arm).and_then(|choice| choice.best());
            let chosen = chosen.filter(|best| best.axes.get(SCHEDULE) == schedule.as_ref());
            let chosen = chosen.and_then(|best| best.axes.get(RATE)?.as_f64());
            layers.extend(by_rate(&part, &arm, letter, chosen, &mut rows)?);
        }
        let with = schedule.as_ref().map(|schedule| format!(", {} schedule", words(schedule))).unwrap_or_default();
        panels.push(Panel {
            title: format!("{title}: every rate{with}"),
            x: Axis::tried("Learning rate", &runs.values(RATE, None)),
            y: Axis::linear("Final test accuracy (%)", heights(&layers), Limits::PERCENT),
            layers,
            key: vec![
                Key::marker(Fill::Solid, &format!("chosen on {split} images")),
                Key::marker(Fill::Open, "other rates"),
            ],
            grid: Grid::Levels,
            notes: None,
        });
    }
    let columns = panels.len().min(2);
    let drawing = panel::figure("Figure 4: standard optimizers", &panels, Layout::grid(columns), &looks(runs)?)?;
    let (chosen, each) = match schedules.len() {
        0 | 1 => ("learning rate", "B"),
        _ => ("learning rate and schedule", "B and C, a panel a schedule"),
    };
    let mut shown = best.clone();
    shown.runs.iter_mut().for_each(|(run, _)| run.axes.clear());
    let diverged: usize =
        selection.choices.iter().flat_map(|c| &c.candidates).map(|candidate| candidate.diverged).sum();
    let mut caption = Caption::new(4, "Standard optimizers", scale, &shown)
        .text(&format!(
            "{title} with {}. A: test accuracy by epoch, each optimizer at the {chosen} that its {split} accuracy chose. {each}: test accuracy of the \
             last epoch at every rate that was tried, each labelled on the logarithmic axis; filled markers are the chosen rates. Optimizers with the same rates stand \
             beside each other, and points of seeds to the right of their marker.",
            runs.task()
        ))
        .made_from(&[runs])
        .rates_are_tried()
        .bands("lines and large markers are means, bands and bars ± 1 sample standard deviation, small points single seeds")
        .table(selection.table().render(Format::Markdown))
        .comparison(Metric::FinalTestAccuracy)
        .note("every optimizer has the same budget of learning rates and seeds; all else is at its default or, for NeuroPlastic, as tuned on MNIST".into());
    let unchosen = selection.choices.iter().filter(|choice| choice.chosen.is_none());
    for choice in unchosen {
        caption = caption.note(format!(
            "no rate of `{}` can be chosen: each has a run that diverged; A does not show it",
            choice.arm
        ));
    }
    if diverged > 0 {
        caption = caption
            .note(format!("{diverged} runs diverged; they are in no mean, and a rate with one cannot be chosen"));
    }
    Ok(Figure { name: "fig4", drawing, table: long_format(&rows), caption: caption.finish()? })
}

/// The schedules that were tried, as values of the axis; a single `None` if the plan has no such axis.
fn schedules(runs: &Runs) -> Vec<Option<Value>> {
    let mut schedules = Vec::new();
    for (run, _) in &runs.runs {
        let schedule = run.axes.get(SCHEDULE).cloned();
        if !schedules.contains(&schedule) {
            schedules.push(schedule);
        }
    }
    schedules
}

/// Final test accuracy by learning rate, of one arm.
fn by_rate(runs: &Runs, arm: &str, panel: char, chosen: Option<f64>, rows: &mut Vec<Row>) -> Result<Option<Layer>> {
    let (mut spots, mut values) = (Vec::new(), Vec::new());
    for rate in runs.values(RATE, Some(arm)) {
        let Some(summary) = runs.where_axis(RATE, &rate.into())?.summary(arm, Quantity::TestAccuracy)? else {
            continue;
        };
        rows.extend(summary.rows(|mark| {
            let (data, quantity) = (runs.data(), Quantity::TestAccuracy.key());
            Row { panel, data, arm: arm.into(), quantity, x_name: "learning_rate", x: rate, mark }
        }));
        values.extend(summary.values.values().map(|value| (rate, *value)));
        spots.push(summary.spot(rate));
    }
    let which = chosen.and_then(|chosen| spots.iter().position(|spot| spot.x == chosen));
    // Adam and AdamW have the same rates, and SGD and NeuroPlastic nearly so: the one stands a little beside the other.
    let shift = match arm {
        "adam" => -26.0,
        "adamw" => 26.0,
        "sgd-momentum" => -16.0,
        "neuroplastic" => 16.0,
        _ => 0.0,
    };
    let look = theme::arm(arm)?;
    Ok((!spots.is_empty()).then_some(Layer::Points {
        look,
        spots,
        values,
        shift,
        filled: which.map_or(Filled::None, Filled::One),
    }))
}
