//! The claims of the paper's appendices F and G, about α, updates, stability and variants.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use np_record::stats;

use super::{Row, exploratory};
use crate::figures::runs::{Quantity, Runs};
use crate::figures::space::TUNED;
use crate::figures::stability::Reach;
use crate::results::numbers::Numbers;
use crate::results::sensitivity::{LAST, Paired, last_epochs, settings};
use crate::results::tables::signed;

/// The rows of appendix F, then those of appendix G.
pub(super) fn rows(numbers: &Numbers) -> Result<Vec<Row>> {
    let mut rows = dynamics(numbers)?;
    rows.push(stability(&numbers.runs("fig8-stability")?)?);
    rows.extend(design(numbers)?);
    Ok(rows)
}

/// Appendix F's claims about α and the size of updates.
fn dynamics(numbers: &Numbers) -> Result<Vec<Row>> {
    const EVIDENCE: &str = "[figure 6](#dynamics-figure-6), Fashion-MNIST, full rule against its ablation";
    let runs = numbers.runs("fig6-dynamics")?;
    let last = |quantity| {
        Ok::<_, anyhow::Error>(Paired::of(&runs.last("full", quantity)?, &runs.last("gradient-only", quantity)?))
    };
    let mean = last(Quantity::Diagnostic("alpha_mean"))?;
    let spread = last(Quantity::Diagnostic("alpha_std"))?;
    let norm = Quantity::StepNorm("effective_update_norm");
    let epochs = |arm: &str, of: &dyn Fn(&[f64]) -> Option<f64>| -> Result<BTreeMap<u64, f64>> {
        let series = |record: &np_record::Record| -> Option<Vec<f64>> {
            record.epochs.iter().map(|epoch| norm.of(epoch)).collect()
        };
        Ok(runs.arm(arm)?.into_iter().filter_map(|(seed, record)| Some((seed, of(&series(record)?)?))).collect())
    };
    let first = |values: &[f64]| values.first().copied();
    // In per cent of their mean.
    let rough = |values: &[f64]| {
        let last = &values[values.len().saturating_sub(LAST)..];
        Some(100.0 * stats::sample_std(last)? / stats::mean(last)?)
    };
    let early = Paired::of(&epochs("full", &first)?, &epochs("gradient-only", &first)?);
    let late = Paired::of(&epochs("gradient-only", &rough)?, &epochs("full", &rough)?);
    let row = |claim, verdict: &str, effect| Row { claim, verdict: verdict.into(), effect, evidence: EVIDENCE };
    let both = match (exploratory(&early)?, exploratory(&late)?) {
        (one, other) if one == other => one.to_owned(),
        (one, other) => format!("early: {one}; late: {other}"),
    };
    Ok(vec![
        row(
            "F Mean α is higher",
            exploratory(&mean)?,
            format!("{}; no measure of step size: a norm clip follows", mean.text()?),
        ),
        row(
            "F α is more stable",
            match exploratory(&spread)? {
                "holds" => "reversed",
                "reversed" => "holds",
                other => other,
            },
            format!("its standard deviation over elements is {} larger", spread.text()?),
        ),
        row(
            "F Updates are larger early and smoother late",
            &both,
            format!(
                "norm of a step in the first epoch {}; its standard deviation over the last {LAST} epochs, in per cent of it, ablation − full rule: {}",
                early.text()?,
                late.text()?
            ),
        ),
    ])
}

/// Appendix F's claim about what keeps training stable.
fn stability(runs: &Runs) -> Result<Row> {
    let reach = |arm: &str| -> Result<(f64, usize)> {
        let reach = Reach::of(runs, arm)?;
        let (_, best) = reach.best().with_context(|| format!("no rate at which all runs of `{arm}` finished"))?;
        Ok((best, reach.diverged))
    };
    let [(full, with), (_, without), (signals, _), (none, _)] =
        [reach("full")?, reach("no-norm-clip")?, reach("no-signal-normalization")?, reach("none")?];
    let verdict = match (without > with, full > signals) {
        (true, true) => "holds",
        (true, false) => "of the norm clip, not of normalisation",
        (false, true) => "of normalisation, not of the norm clip",
        (false, false) => "not shown",
    };
    Ok(Row {
        claim: "F Norm clip and normalisation keep training stable",
        verdict: verdict.into(),
        effect: format!(
            "diverged runs: {without} without the clip, {with} with it; best accuracy {full:.1} % with everything, {signals:.1} % without normalised signals, {none:.1} % without any of the three (no test)"
        ),
        evidence: "[figure 8](#stability-figure-8), Fashion-MNIST, 3 seeds",
    })
}

/// Appendix G's claims about variants, over the last epochs.
fn design(numbers: &Numbers) -> Result<Vec<Row>> {
    let runs = numbers.runs("fig7-design-space")?;
    let (best, _) = numbers.runs("fig4-optimizers")?.selected()?;
    let late = |runs: &Runs, arm: &str| -> Result<BTreeMap<u64, f64>> {
        Ok(last_epochs(runs, settings(runs).first().context("no run is there")?, arm, LAST))
    };
    let tuned = late(&best, TUNED)?;
    let row = |claim, arms: Vec<String>, near: &'static str, far: &'static str| -> Result<Row> {
        let mut pairs = Vec::new();
        for arm in &arms {
            pairs.push(Paired::of(&late(&runs, arm)?, &tuned));
        }
        let behind = pairs.iter().filter(|paired| paired.all_below()).count();
        let means = pairs.iter().map(|paired| Ok(paired.mean_and_p()?.0)).collect::<Result<Vec<f64>>>()?;
        let (low, high) =
            means.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(*x), high.max(*x)));
        let verdict = if 2 * behind > arms.len() { far } else { near };
        Ok(Row {
            claim,
            verdict: verdict.into(),
            effect: format!(
                "{behind} of {} behind tuned SGD for every seed; means {} to {} points (no test)",
                arms.len(),
                signed(low),
                signed(high)
            ),
            evidence: "[figure 7](#design-space-cifar-10-figure-7), mean of the last 5 epochs, 3 seeds, short training",
        })
    };
    let of = |prefixes: &[&str]| -> Vec<String> {
        runs.arms().into_iter().filter(|arm| prefixes.iter().any(|prefix| arm.starts_with(prefix))).collect()
    };
    Ok(vec![
        row(
            "G Naive variants (hybrids) fall below tuned SGD",
            of(&["adamw-", "sgd-"]),
            "cannot be told",
            "as claimed",
        )?,
        row(
            "G With the learning-rate controller the rule comes near tuned SGD",
            of(&["controller-"]),
            "as claimed",
            "not seen",
        )?,
    ])
}
