//! The table of figure 5, by three outcomes: none of them was fixed before its runs, and with the network of the paper they do not agree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use np_record::{Epoch, Outcome, Record};

use super::numbers::spread;
use super::sensitivity::{LAST, Paired, last_epochs, settings};
use crate::draw::theme;
use crate::figures::runs::{Quantity, Runs};

/// The rule, and the ablations that it is compared with.
pub(super) const ARMS: [&str; 3] = ["full", "gradient-only", "gradient-only-matched"];

/// Which test accuracy of a run counts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Counted {
    Last,
    /// The mean over the last [`LAST`] epochs.
    Late,
    /// That of the epoch with the highest accuracy on held-out images, the first of several.
    Chosen,
}

impl Counted {
    const ALL: [(Self, &str); 3] = [
        (Self::Last, "last epoch (%)"),
        (Self::Late, "mean over the last five epochs (%)"),
        (Self::Chosen, "epoch chosen on held-out images (%)"),
    ];

    /// Of an arm's finished runs by seed, in percent.
    fn of(self, runs: &Runs, arm: &str) -> Result<BTreeMap<u64, f64>> {
        let setting = settings(runs).into_iter().next().context("no run is there")?;
        Ok(match self {
            Self::Last => last_epochs(runs, &setting, arm, 1),
            Self::Late => last_epochs(runs, &setting, arm, LAST),
            Self::Chosen => by_seed(runs, arm, |record| Some(100.0 * chosen(&record.epochs)?.test_accuracy?)),
        })
    }
}

/// The epoch with the highest accuracy on held-out images, the first of several.
fn chosen(epochs: &[Epoch]) -> Option<&Epoch> {
    let held_out = |epoch: &Epoch| epoch.validation.as_ref()?.accuracy;
    let (mut best, rest) = epochs.split_first()?;
    for epoch in rest {
        best = if held_out(epoch)? > held_out(best)? { epoch } else { best };
    }
    Some(best)
}

/// A number of each finished run of an arm, by seed.
fn by_seed(runs: &Runs, arm: &str, value: impl Fn(&Record) -> Option<f64>) -> BTreeMap<u64, f64> {
    let finished = runs.runs.iter().filter(|(run, record)| run.arm == arm && record.outcome == Outcome::Finished);
    finished.filter_map(|(run, record)| Some((run.seed, value(record)?))).collect()
}

/// The full rule minus another arm, in points.
pub(super) fn ahead(runs: &Runs, arm: &str, counted: Counted) -> Result<Paired> {
    Ok(Paired::of(&counted.of(runs, "full")?, &counted.of(runs, arm)?))
}

/// A row an arm: accuracies by each of the outcomes with the full rule's advantage, then losses and the length of a step.
pub(super) fn table(runs: &Runs) -> Result<String> {
    let mut head = String::from("| arm |");
    for (_, title) in Counted::ALL {
        let _ = write!(head, " {title} | full rule minus it (points) |");
    }
    let update = Quantity::Diagnostic("effective_update_norm");
    let mut out = format!("{head} {} | test loss (nats) | {} |\n", Quantity::TrainLoss.title(), update.title());
    let _ = writeln!(out, "| :-- |{}", " --: |".repeat(2 * Counted::ALL.len() + 3));
    for arm in ARMS {
        let _ = write!(out, "| {} |", theme::arm(arm)?.label);
        for (counted, _) in Counted::ALL {
            let accuracy = spread(counted.of(runs, arm)?, 2)?;
            let ahead = if arm == "full" { String::new() } else { ahead(runs, arm, counted)?.mean_and_ahead()? };
            let _ = write!(out, " {accuracy} | {ahead} |");
        }
        let test_loss = spread(by_seed(runs, arm, |record| record.epochs.last()?.test_loss), 3)?;
        let (loss, update) = (spread(runs.last(arm, Quantity::TrainLoss)?, 3)?, spread(runs.last(arm, update)?, 1)?);
        let _ = writeln!(out, " {loss} | {test_loss} | {update} |");
    }
    Ok(out)
}
