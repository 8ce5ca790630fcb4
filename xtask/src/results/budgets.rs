//! The table of figure 11: the accuracy of every arm on each data set, and its selected learning rate and schedule.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use super::numbers::spread;
use crate::draw::theme;
use crate::figures::budgets::{self, SETTINGS};
use crate::figures::runs::Runs;
use crate::figures::study;

/// The table, with one row for each arm, in the order of the experiment.
pub(super) fn table(runs: &Runs) -> Result<String> {
    let measure = study::outcome(runs)?;
    let titles = SETTINGS.map(|(_, title)| title);
    let mut out = format!("| arm | {} |\n| :-- | --: | --: | --: |\n", titles.join(" | "));
    for arm in runs.arms().iter().filter_map(|arm| arm.strip_suffix(SETTINGS[0].0)) {
        let _ = write!(out, "| {} |", theme::arm(arm)?.label);
        for (ending, _) in SETTINGS {
            let name = format!("{arm}{ending}");
            let run = runs.runs.iter().find(|(run, _)| run.arm == name).with_context(|| format!("no arm `{name}`"))?;
            let cell = match runs.measured(&name, measure)? {
                Some(summary) => spread(summary.values, 2)?,
                None => "diverged".into(),
            };
            let settings = budgets::settings_of(&run.0).replace(", cosine", " c").replace(", constant", " k");
            let _ = write!(out, " {cell} ({settings}) |");
        }
        out.push('\n');
    }
    Ok(out)
}
