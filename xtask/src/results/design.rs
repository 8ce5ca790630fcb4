//! The table of figure 7: every variant beside tuned SGD, at the last epoch and over the last few.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use np_record::stats;

use super::numbers::spread;
use super::sensitivity::{LAST, last_epochs, settings};
use super::tables::{decimals, signed};
use crate::draw::theme;
use crate::figures::runs::{Quantity, Runs};

const TUNED: &str = "sgd-momentum";

/// What a row says of an arm: values by seed.
struct Columns {
    last: BTreeMap<u64, f64>,
    late: BTreeMap<u64, f64>,
    loss: BTreeMap<u64, f64>,
}

impl Columns {
    /// `None` if a run of the arm has diverged.
    fn of(runs: &Runs, arm: &str) -> Result<Option<Self>> {
        let Some(last) = runs.summary(arm, Quantity::TestAccuracy)? else { return Ok(None) };
        let setting = settings(runs).into_iter().next().context("no run is there")?;
        let late = last_epochs(runs, &setting, arm, LAST);
        Ok(Some(Self { last: last.values, late, loss: runs.last(arm, Quantity::TrainLoss)? }))
    }

    fn cells(&self, tuned: &Self) -> Result<[String; 5]> {
        let loss =
            if self.loss.is_empty() { "–".into() } else { spread(self.loss.clone(), decimals(Quantity::TrainLoss))? };
        Ok([
            spread(self.last.clone(), 2)?,
            against(&self.last, &tuned.last),
            spread(self.late.clone(), 2)?,
            against(&self.late, &tuned.late),
            loss,
        ])
    }
}

/// `−4.75, 0 of 3 ahead`; of an arm and itself, nothing.
fn against(own: &BTreeMap<u64, f64>, rival: &BTreeMap<u64, f64>) -> String {
    if own == rival {
        return String::new();
    }
    let differences: Vec<f64> = stats::paired_differences(own, rival).into_iter().map(|(_, d)| d).collect();
    let ahead = differences.iter().filter(|d| **d > 0.0).count();
    stats::mean(&differences)
        .map_or_else(|| "–".into(), |mean| format!("{}, {ahead} of {} ahead", signed(mean), differences.len()))
}

/// The variants by their mean at the last epoch, the best first.
pub(crate) fn table(runs: &Runs, standard: &Runs) -> Result<String> {
    let (best, _) = standard.selected()?;
    let tuned = Columns::of(&best, TUNED)?.context("no rate of SGD can be chosen")?;
    let mut rows = vec![(
        stats::mean(&Vec::from_iter(tuned.last.values().copied())),
        "SGD with momentum, own best rate",
        tuned.cells(&tuned)?,
    )];
    for arm in runs.arms() {
        let label = theme::arm(&arm)?.label;
        match Columns::of(runs, &arm)? {
            Some(columns) => {
                let mean = stats::mean(&Vec::from_iter(columns.last.values().copied()));
                rows.push((mean, label, columns.cells(&tuned)?));
            }
            None => rows.push((None, label, ["diverged", "–", "–", "–", "–"].map(str::to_owned))),
        }
    }
    rows.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(std::cmp::Ordering::Equal));
    let mut out = format!(
        "| variant | last epoch (%) | against tuned SGD (points) | mean over the last five epochs (%) | against tuned SGD (points) | {} |\n\
         | :-- | --: | --: | --: | --: | --: |\n",
        Quantity::TrainLoss.title()
    );
    for (_, label, cells) in rows {
        out.push_str(&format!("| {label} | {} |\n", cells.join(" | ")));
    }
    Ok(out)
}
