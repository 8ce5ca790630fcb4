//! Analyses beyond the main comparison (accuracy of the last epoch at the published learning rate): other learning rates, the mean of several
//! epochs, and the amount of data. They were chosen after the runs, and their p values are not adjusted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use np_record::stats::{self, Bootstrap};
use np_record::{PlannedRun, Record};

use super::tables::signed;
use crate::draw::axis::percent;
use crate::figures::evidence::{Evidence, p_alone, setting};
use crate::figures::optimizers::RATE;
use crate::figures::runs::Runs;

/// How many epochs at the end are averaged over.
pub(super) const LAST: usize = 5;

/// Differences, paired by seed.
pub(super) struct Paired(Vec<f64>);

impl Paired {
    pub(super) fn of(own: &BTreeMap<u64, f64>, rival: &BTreeMap<u64, f64>) -> Self {
        Self(stats::paired_differences(own, rival).into_iter().map(|(_, d)| d).collect())
    }

    /// The mean, and its p by an exact two-sided sign-flip test, not adjusted.
    pub(super) fn mean_and_p(&self) -> Result<(f64, f64)> {
        let mean = stats::mean(&self.0).context("no seed is finished in both arms")?;
        Ok((mean, stats::sign_flip(&self.0).context("nothing to test")?.p))
    }

    /// The number of pairs.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether every difference is below zero.
    pub(super) fn all_below(&self) -> bool {
        self.0.iter().all(|d| *d < 0.0)
    }

    /// Mean and p, such as `+0.10; p = 0.033`.
    fn short(&self) -> Result<String> {
        let mean = stats::mean(&self.0).context("no seed is finished in both arms")?;
        let test = stats::sign_flip(&self.0).context("nothing to test")?;
        Ok(format!("{}; p = {}", signed(mean), p_alone(test.p)))
    }

    /// Mean, interval and p, such as `+0.10 [+0.01, +0.20], p = 0.033`.
    pub(super) fn text(&self) -> Result<String> {
        let mean = stats::mean(&self.0).context("no seed is finished in both arms")?;
        let test = stats::sign_flip(&self.0).context("nothing to test")?;
        let interval = Bootstrap::default().interval_of_mean(&self.0).context("too few pairs")?;
        let (low, high) = (signed(interval.low), signed(interval.high));
        Ok(format!("{} [{low}, {high}], p = {}", signed(mean), p_alone(test.p)))
    }

    /// The mean, and for how many seeds the difference is above zero, such as `−4.74, 0 of 3 ahead`.
    pub(super) fn mean_and_ahead(&self) -> Result<String> {
        let mean = stats::mean(&self.0).context("no seed is finished in both arms")?;
        Ok(format!("{}, {} ahead", signed(mean), self.ahead()))
    }

    /// For how many seeds the difference is above zero.
    fn ahead(&self) -> String {
        format!("{} of {}", self.0.iter().filter(|d| **d > 0.0).count(), self.0.len())
    }
}

/// Full rule minus published ablation at equal learning rates, in every setting of the MLP.
pub(super) fn rates(runs: &Runs) -> Result<String> {
    let settings = settings(runs);
    let mut out = format!("| learning rate of both | {} |\n| --: |", settings.join(" | "));
    let _ = writeln!(out, "{}", " --: |".repeat(settings.len()));
    for rate in runs.values(RATE, None) {
        let here = runs.where_axis(RATE, &rate.into())?;
        let cells = settings.iter().map(|name| {
            let of = |arm: &str| last_epochs(&here, name, arm, 1);
            Paired::of(&of("full"), &of("gradient-only")).short()
        });
        let _ = writeln!(out, "| {rate} | {} |", cells.collect::<Result<Vec<_>>>()?.join(" | "));
    }
    Ok(out)
}

/// Full rule minus its ablations, accuracy averaged over the last five epochs.
pub(super) fn late(sanity: &Runs, low_data: &Runs) -> Result<String> {
    let mut out = String::from(
        "| mean over the last five epochs | as published | seeds ahead | matched bounds | seeds ahead |\n| :-- | --: | --: | --: | --: |\n",
    );
    let whole = sanity.on("mnist")?;
    for runs in [&whole, low_data] {
        for name in settings(runs) {
            let of = |arm: &str| last_epochs(runs, &name, arm, LAST);
            let full = of("full");
            let [published, matched] =
                ["gradient-only", "gradient-only-matched"].map(|arm| Paired::of(&full, &of(arm)));
            let (first, second) = (published.text()?, matched.text()?);
            let _ = writeln!(out, "| {name} | {first} | {} | {second} | {} |", published.ahead(), matched.ahead());
        }
    }
    Ok(out)
}

/// The mean difference on fractions of Fashion-MNIST minus that on all of it.
pub(super) fn trend(evidence: &Evidence, control: usize) -> Result<String> {
    let of = |setting: &str| evidence.mark(control, setting).map(|(_, _, difference)| &difference.values);
    let whole = of("Fashion-MNIST").context("no difference on all of Fashion-MNIST")?;
    let parts = [0.5, 0.25, 0.1].map(|share| of(&format!("Fashion-MNIST, {}", percent(share))));
    let parts: Vec<_> = parts.into_iter().collect::<Option<_>>().context("no difference on a part of Fashion-MNIST")?;
    let mut differences = Vec::new();
    for (seed, all) in whole {
        let there: Option<Vec<f64>> = parts.iter().map(|part| part.get(seed).copied()).collect();
        if let Some(mean) = there.as_deref().and_then(stats::mean) {
            differences.push(100.0 * (mean - all));
        }
    }
    Paired(differences).text()
}

/// The settings of an experiment, in the order of its runs; of one data set the larger fractions first.
pub(super) fn settings(runs: &Runs) -> Vec<String> {
    let mut settings: Vec<String> = Vec::new();
    let mut fractions = runs.fractions();
    fractions.reverse();
    let parts = fractions.into_iter().filter_map(|fraction| runs.at_fraction(fraction).ok());
    for (run, record) in parts.flat_map(|part| part.runs) {
        let name = setting(&run, &record);
        if !settings.contains(&name) {
            settings.push(name);
        }
    }
    settings
}

/// Test accuracy in percent of an arm's finished runs in a setting, by seed, averaged over the last `count` epochs.
pub(super) fn last_epochs(runs: &Runs, name: &str, arm: &str, count: usize) -> BTreeMap<u64, f64> {
    let here = |(run, record): &&(PlannedRun, Record)| {
        run.arm == arm && record.outcome == np_record::Outcome::Finished && setting(run, record) == name
    };
    let mean = |(run, record): &(PlannedRun, Record)| {
        let from = record.epochs.len().checked_sub(count)?;
        let values = record.epochs[from..].iter().map(|epoch| Some(100.0 * epoch.test_accuracy?));
        Some((run.seed, stats::mean(&values.collect::<Option<Vec<f64>>>()?)?))
    };
    runs.runs.iter().filter(here).filter_map(mean).collect()
}
