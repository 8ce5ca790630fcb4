//! The table of figure 7: every variant compared with tuned SGD, in the last epoch and averaged over the last epochs.

use anyhow::{Context as _, Result};

use super::numbers::spread;
use super::sensitivity::{LAST, Paired, last_epochs, settings};
use super::tables::decimals;
use crate::draw::theme;
use crate::figures::runs::{Quantity, Runs, Summary};
use crate::figures::space::TUNED;

/// The values of an arm in a row of the table.
struct Columns {
    last: Summary,
    /// The mean over the last few epochs.
    late: Summary,
    /// `None` if no loss of the last epoch is finite.
    loss: Option<Summary>,
}

impl Columns {
    /// `None` if no run of the arm has finished.
    fn of(runs: &Runs, arm: &str) -> Result<Option<Self>> {
        let Some(last) = runs.summary(arm, Quantity::TestAccuracy)? else { return Ok(None) };
        let setting = settings(runs).into_iter().next().context("no run is there")?;
        let late = Summary::of(last_epochs(runs, &setting, arm, LAST)).context("no run has that many epochs")?;
        Ok(Some(Self { last, late, loss: runs.summary(arm, Quantity::TrainLoss)? }))
    }

    /// A row of the table; with the differences from `rival`, if there is one.
    fn row(&self, label: &str, rival: Option<&Self>) -> Result<String> {
        let difference = |own: &Summary, of: fn(&Self) -> &Summary| {
            rival.map_or(Ok(String::new()), |rival| Paired::of(&own.values, &of(rival).values).mean_and_ahead())
        };
        let loss = self.loss.as_ref().map(|loss| spread(loss.values.clone(), decimals(Quantity::TrainLoss)));
        Ok(format!(
            "| {label} | {} | {} | {} | {} | {} |\n",
            spread(self.last.values.clone(), 2)?,
            difference(&self.last, |rival| &rival.last)?,
            spread(self.late.values.clone(), 2)?,
            difference(&self.late, |rival| &rival.late)?,
            loss.unwrap_or_else(|| Ok("–".into()))?,
        ))
    }
}

/// The table of the variants, in descending order of their means in the last epoch.
pub(crate) fn table(runs: &Runs, standard: &Runs) -> Result<String> {
    let (best, _) = standard.selected()?;
    let tuned = Columns::of(&best, TUNED)?.context("no rate of SGD can be chosen")?;
    let mut rows = vec![(tuned.last.mean, tuned.row("SGD with momentum, own best rate", None)?)];
    for arm in runs.arms() {
        let label = theme::arm(&arm)?.label;
        rows.push(match Columns::of(runs, &arm)? {
            Some(columns) => (columns.last.mean, columns.row(label, Some(&tuned))?),
            None => (f64::NEG_INFINITY, format!("| {label} | diverged | – | – | – | – |\n")),
        });
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut out = format!(
        "| variant | last epoch (%) | against tuned SGD (points) | mean over the last five epochs (%) | against tuned SGD (points) | {} |\n\
         | :-- | --: | --: | --: | --: | --: |\n",
        Quantity::TrainLoss.title()
    );
    out.extend(rows.into_iter().map(|(_, row)| row));
    Ok(out)
}
