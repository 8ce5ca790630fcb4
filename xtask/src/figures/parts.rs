//! Figure 12: the effect of removing a part of the full rule: paired differences to the full rule, and to a coefficient of 1.

use anyhow::Result;
use np_record::compare::{Comparison, Difference, Group, Metric, Question};
use np_record::stats::Bootstrap;
use serde_json::json;

use super::caption::Caption;
use super::runs::Runs;
use super::study::{self, Line, Told, capital, in_points};
use super::table::long_format;
use super::{Figure, Scale};
use crate::draw::panel::{self, Key, Layout};
use crate::draw::theme;

/// The axis whose values are the data sets.
const SETTING: &str = "setting";
/// For each data set, the ending of its arms' names, and its title.
pub(crate) const SETTINGS: [(&str, &str); 4] = [
    ("-mnist", "MNIST"),
    ("-fashion", "Fashion-MNIST"),
    ("-quarter", "Fashion-MNIST, 25 %"),
    ("-tenth", "Fashion-MNIST, 10 %"),
];
/// The arms that the others are compared with, and their names on axes and in titles.
const BASELINES: [(&str, &str); 2] = [("full", "full rule"), ("coefficient-one", "coefficient 1")];
/// Width of the figure and height of a row, in pixels.
const WIDTH: f64 = 3720.0;
const ROW: f64 = 76.0;

/// Every arm compared with both baselines, on each data set.
pub(crate) struct Parts {
    /// The runs, with the data set as an axis of their plan.
    pub(crate) runs: Runs,
    /// The arms in the order of the experiment.
    pub(crate) arms: Vec<String>,
    comparisons: Vec<Comparison>,
}

impl Parts {
    /// Compares by the experiment's outcome.
    pub(crate) fn of(runs: &Runs) -> Result<Self> {
        let measure = study::outcome(runs)?;
        let runs = study::by_setting(runs, SETTING, &SETTINGS.map(|(ending, title)| (ending, json!(title))))?;
        let arms = runs.arms();
        let all = runs.recorded();
        let mut comparisons = Vec::new();
        for (baseline, _) in BASELINES {
            for arm in arms.iter().filter(|arm| *arm != baseline) {
                let (arm, baseline) = (arm.clone(), baseline.to_owned());
                let question = Question { arm, baseline, metric: measure, bootstrap: Bootstrap::default() };
                comparisons.push(Comparison::new(question, &all)?);
            }
        }
        Ok(Self { runs, arms, comparisons })
    }

    /// An arm minus a baseline on a data set; `None` if no seed finished in both.
    pub(crate) fn difference(&self, arm: &str, baseline: &str, setting: &str) -> Option<&Difference> {
        let pair = self.comparisons.iter().find(|pair| pair.arm == arm && pair.baseline == baseline)?;
        let here = |group: &&Group| group.axes.get(SETTING) == Some(&json!(setting));
        pair.groups.iter().find(here)?.difference.as_ref()
    }
}

/// Draws the figure.
pub(crate) fn draw(scale: Scale, runs: &Runs) -> Result<Figure> {
    let measure = study::outcome(runs)?;
    let parts = Parts::of(runs)?;
    let (runs, arms) = (&parts.runs, &parts.arms);
    let (mut rows, mut panels) = (Vec::new(), Vec::new());
    let mut letters = 'A'..;
    for (_, setting) in SETTINGS {
        for ((baseline, title), letter) in BASELINES.iter().zip(&mut letters) {
            let mut lines = Vec::new();
            for arm in arms {
                let look = theme::arm(arm)?;
                lines.push(Line {
                    label: look.label.into(),
                    look,
                    setting: setting.into(),
                    arm: format!("{arm} − {baseline}"),
                    difference: parts.difference(arm, baseline, setting),
                    beside: None,
                });
            }
            let mut panel = study::forest(letter, setting, measure, &lines, Told::Mean, &mut rows);
            panel.x.name = format!("Arm − {title} (points)");
            panel.key = vec![Key::remark(&format!("right of zero: better than {title}"))];
            panels.push(panel);
        }
    }
    study::label_first_column(&mut panels, BASELINES.len());
    let layout = Layout::facets(BASELINES.len(), WIDTH, &[arms.len()], ROW);
    let drawing = panel::figure("Figure 12: components", &panels, layout, &[])?;
    let mut text = String::from("**Found** (from the records).");
    for (_, setting) in SETTINGS {
        let by_part = arms.iter().filter(|arm| *arm != "full").filter_map(|arm| {
            let difference = parts.difference(arm, "full", setting)?;
            Some(format!("{} {}", theme::arm(arm).ok()?.label, in_points(difference)))
        });
        text += &format!(" {setting}, minus the full rule: {}.", by_part.collect::<Vec<_>>().join("; "));
    }
    let mut caption = Caption::new(12, "Components", scale, runs)
        .text(&format!(
            "The full rule without one of its parts, each variant at the learning rate that it chose among equally many on held-out images: its {} minus that of the full rule (left) and minus that of a coefficient \
             of 1 for every element (right), paired by seed, in points, on {} sets.",
            measure.title(),
            SETTINGS.len()
        ))
        .rates_are_tried()
        .bands(&format!(
            "large markers are mean differences, printed at the right; bars 95 % bootstrap intervals of the mean (none where fewer than six pairs make one), small points single seeds. {} is shown for every arm, \
             and only the experiment's hypotheses are tested, below",
            capital(&measure.title())
        ));
    if let Some(text) = study::expected(&runs.plan) {
        caption = caption.table(text);
    }
    let caption = caption.table(text + "\n").comparison(Metric::FinalTestAccuracy).finish()?;
    Ok(Figure { name: "fig12", drawing, table: long_format(&rows), caption })
}
