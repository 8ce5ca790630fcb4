//! Figure 5 by several outcomes: none was fixed before its runs, and they do not agree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use np_record::{Outcome, Record, stats};

use super::numbers::spread;
use super::sensitivity::{LAST, Paired};
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

    fn of(self, record: &Record) -> Option<f64> {
        let epochs = &record.epochs;
        let percent = |accuracy: Option<f64>| Some(100.0 * accuracy?);
        match self {
            Self::Last => percent(epochs.last()?.test_accuracy),
            Self::Late => {
                let late = epochs.get(epochs.len().checked_sub(LAST)?..)?;
                stats::mean(&late.iter().map(|epoch| percent(epoch.test_accuracy)).collect::<Option<Vec<_>>>()?)
            }
            Self::Chosen => {
                let held_out = |i: usize| epochs.get(i)?.validation.as_ref()?.accuracy;
                let mut best = 0;
                for i in 1..epochs.len() {
                    best = if held_out(i)? > held_out(best)? { i } else { best };
                }
                percent(epochs.get(best)?.test_accuracy)
            }
        }
    }
}

/// A number of each finished run of an arm, by seed.
fn by_seed(runs: &Runs, arm: &str, value: impl Fn(&Record) -> Option<f64>) -> BTreeMap<u64, f64> {
    let finished = runs.runs.iter().filter(|(run, record)| run.arm == arm && record.outcome == Outcome::Finished);
    finished.filter_map(|(run, record)| Some((run.seed, value(record)?))).collect()
}

/// The full rule minus another arm, in points.
pub(super) fn ahead(runs: &Runs, arm: &str, counted: Counted) -> Paired {
    let of = |arm: &str| by_seed(runs, arm, |record| counted.of(record));
    Paired::of(&of("full"), &of(arm))
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
            let accuracy = spread(by_seed(runs, arm, |record| counted.of(record)), 2)?;
            let ahead = if arm == "full" { String::new() } else { ahead(runs, arm, counted).mean_and_ahead()? };
            let _ = write!(out, " {accuracy} | {ahead} |");
        }
        let test_loss = spread(by_seed(runs, arm, |record| record.epochs.last()?.test_loss), 3)?;
        let (loss, update) = (spread(runs.last(arm, Quantity::TrainLoss)?, 3)?, spread(runs.last(arm, update)?, 1)?);
        let _ = writeln!(out, " {loss} | {test_loss} | {update} |");
    }
    Ok(out)
}
