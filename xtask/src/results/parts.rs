//! The tables of figures 12 and 13: the effect of each part of the full rule, and the accuracy of every arm at its best learning rate.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use np_record::compare::Difference;

use super::claims::Stated;
use super::numbers::spread;
use super::tables::{difference_text, signed};
use crate::draw::axis::percent;
use crate::draw::theme;
use crate::figures::evidence::p_alone;
use crate::figures::parts::{Parts, SETTINGS};
use crate::figures::rates::{self, Interaction};
use crate::figures::runs::Runs;
use crate::figures::study;

/// The arm that the others are compared with.
const FULL: &str = "full";

/// A table with one row for each arm: the arm minus the full rule on each data set, with the adjusted p if the experiment states that pair.
pub(super) fn components(runs: &Runs) -> Result<String> {
    let parts = Parts::of(runs)?;
    let titles = SETTINGS.map(|(_, title)| title);
    let mut out = format!("| arm − full rule (points) | {} |\n| :-- | --: | --: | --: | --: |\n", titles.join(" | "));
    let stated = Stated::of(runs)?;
    for arm in parts.arms.iter().filter(|arm| *arm != FULL) {
        let _ = write!(out, "| {} |", theme::arm(arm)?.label);
        for (ending, setting) in SETTINGS {
            let difference = parts.difference(arm, FULL, setting);
            let cell = difference.map_or_else(|| "diverged".into(), difference_text);
            let tested = stated.difference(&format!("{FULL}{ending}"), &format!("{arm}{ending}"));
            let p = tested.map_or_else(|_| String::new(), |tested| format!(", p {}", p_alone(tested.p_holm)));
            let _ = write!(out, " {cell}{p} |");
        }
        out.push('\n');
    }
    Ok(out)
}

/// The full rule minus an arm on each data set, for a pair that the experiment states.
pub(super) fn full_minus(runs: &Runs, arm: &str) -> Result<Vec<(&'static str, Difference)>> {
    let stated = Stated::of(runs)?;
    let of = |(ending, title): (&str, &'static str)| {
        Ok((title, stated.difference(&format!("{FULL}{ending}"), &format!("{arm}{ending}"))?))
    };
    SETTINGS.into_iter().map(of).collect()
}

/// A table with one row for each arm: the learning rate, of six, at which its mean is highest, and that mean, on each fraction of the data.
pub(super) fn best_rates(runs: &Runs) -> Result<String> {
    let measure = study::outcome(runs)?;
    let shares = shares(runs);
    let titles: Vec<String> = shares.iter().map(|share| percent(*share)).collect();
    let mut out = format!("| arm | {} |\n| :-- |{}\n", titles.join(" | "), " --: |".repeat(shares.len()));
    for arm in runs.arms() {
        let _ = write!(out, "| {} |", theme::arm(&arm)?.label);
        for &share in &shares {
            let top = rates::top(&runs.at_fraction(share)?, &arm, measure)?;
            let (rate, top) = top.with_context(|| format!("no rate at which all runs of `{arm}` finished"))?;
            let _ = write!(out, " {} ({rate}) |", spread(top.values, 2)?);
        }
        out.push('\n');
    }
    Ok(out)
}

/// A table with one row for each pair: the change of the full rule's advantage from the lowest to the highest learning rate.
pub(super) fn interaction(runs: &Runs) -> Result<String> {
    let mut out = String::from(
        "| full rule − other arm (points) | data | lowest rate | difference there | highest rate | difference there | change | p (Holm) |\n\
         | :-- | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for one in rates::interactions(&rates::compared(runs)?, &shares(runs)) {
        let Interaction { baseline, share, rates: [low, high], at: [first, last], change, ends, p_holm, .. } = one;
        let ends = ends.map_or_else(String::new, |[low, high]| format!(" [{}, {}]", signed(low), signed(high)));
        let label = theme::arm(&baseline)?.label;
        let (first, last, change) = (signed(first), signed(last), signed(change));
        let (data, p) = (percent(share), p_alone(p_holm));
        let _ = writeln!(out, "| {label} | {data} | {low} | {first} | {high} | {last} | {change}{ends} | {p} |");
    }
    Ok(out)
}

/// The fractions of the data, descending.
pub(super) fn shares(runs: &Runs) -> Vec<f64> {
    let mut shares = runs.fractions();
    shares.reverse();
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::tests::made_up;

    /// Mean over the last five epochs, in percent.
    fn late(runs: &Runs, arm: &str, seed: u64) -> f64 {
        let (_, record) = runs.runs.iter().find(|(run, _)| run.arm == arm && run.seed == seed).unwrap();
        record.epochs[record.epochs.len() - 5..].iter().map(|epoch| 20.0 * epoch.test_accuracy.unwrap()).sum()
    }

    #[test]
    fn components_are_differences_to_the_full_rule() {
        let runs = made_up("fig12-components").unwrap();
        let table = components(&runs).unwrap();
        let seeds: std::collections::BTreeSet<u64> = runs.runs.iter().map(|(run, _)| run.seed).collect();
        let of = |arm: &str| {
            let all = seeds.iter().map(|seed| late(&runs, &format!("{arm}-tenth"), *seed));
            all.sum::<f64>() / seeds.len() as f64
        };
        let row = table.lines().find(|line| line.starts_with("| scale ½ |")).unwrap();
        let cell = row.split('|').nth(5).unwrap().trim();
        assert!(cell.starts_with(&signed(of("scale-half") - of("full"))) && !cell.contains(", p "), "{cell}");
        let row = table.lines().find(|line| line.starts_with("| coefficient 1 |")).unwrap();
        assert_eq!(row.matches(", p ").count(), 4, "{row}");
        let stated = full_minus(&runs, "coefficient-one").unwrap();
        assert!((100.0 * stated[3].1.mean - (of("full") - of("coefficient-one"))).abs() < 1e-9);
        assert!(
            full_minus(&runs, "scale-half")
                .unwrap_err()
                .to_string()
                .starts_with("no hypothesis has `full-mnist` against `scale-half-mnist`")
        );
    }

    #[test]
    fn every_arm_has_a_best_rate_and_every_pair_an_interaction() {
        let runs = made_up("fig13-rate-and-rule").unwrap();
        assert_eq!(best_rates(&runs).unwrap().lines().count(), 2 + 5);
        let table = interaction(&runs).unwrap();
        assert_eq!(table.lines().count(), 2 + 6, "three stated pairs on two parts\n{table}");
    }
}
