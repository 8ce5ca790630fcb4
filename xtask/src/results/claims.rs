//! The table that RESULTS.md opens with: each claim of the paper, and what the records say of it. Verdicts are made by rule, from p and signs, never by hand.

mod appendix;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use np_record::compare::{Asked, Compared, Comparison, Difference};
use np_record::stats;

use super::numbers::Numbers;
use super::sensitivity::{LAST, Paired, last_epochs};
use super::tables::difference_text;
use crate::figures::evidence::p_alone;
use crate::figures::runs::Runs;

/// Below it, adjusted where it is one of a family, a difference is told from none.
const LEVEL: f64 = 0.05;
/// The three sets of figure 11: how its arms end, and what the set is called.
pub(super) const SETS: [(&str, &str); 3] =
    [("mnist", "MNIST"), ("fashion", "Fashion-MNIST"), ("tenth", "a tenth of Fashion-MNIST")];

/// A claim and what is found of it.
struct Row {
    claim: &'static str,
    verdict: String,
    effect: String,
    evidence: &'static str,
}

/// What one test says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Ahead,
    Behind,
    Nothing,
    /// So few pairs that no result could have told.
    TooFew,
}

impl Said {
    fn of(difference: &Difference) -> Self {
        match difference {
            d if d.smallest_p > LEVEL => Self::TooFew,
            d if d.p_holm >= LEVEL => Self::Nothing,
            d if d.mean > 0.0 => Self::Ahead,
            _ => Self::Behind,
        }
    }
}

/// The table.
pub(super) fn table(numbers: &Numbers) -> Result<String> {
    let budgets = Stated::of(&numbers.runs("fig11-equal-budgets")?)?;
    let steps = Stated::of(&numbers.runs("fig14-data-or-steps")?)?;
    let mut rows = Vec::new();
    for (claim, arm, against) in [
        (
            "*The question:* the three signals help (full rule against a coefficient of 1, both tuned)",
            "full",
            "coefficient-one",
        ),
        ("… the full rule is ahead of tuned SGD", "full", "sgd"),
        ("… and of tuned AdamW", "full", "adamw"),
        ("… the coefficient helps SGD with momentum (hybrid against its base)", "hybrid-sgd-momentum", "sgd-momentum"),
        ("… and AdamW (hybrid against its base)", "hybrid-adamw", "adamw"),
    ] {
        let all = SETS.iter().map(|(set, title)| {
            Ok((*title, budgets.difference(&format!("{arm}-{set}"), &format!("{against}-{set}"))?))
        });
        let all = all.collect::<Result<Vec<_>>>()?;
        let (verdict, effect) = (over_sets(&all), listed(&all));
        rows.push(Row {
            claim,
            verdict,
            effect,
            evidence: "[figure 11](#equal-budgets-figure-11), test accuracy, seeds 51–60",
        });
    }
    for (claim, title, set) in [
        ("4.1 The full rule is ahead of its ablation on MNIST", "MNIST", "mnist"),
        ("4.1 … on Fashion-MNIST", "Fashion-MNIST", "fashion"),
    ] {
        let published = of_figure_9(numbers, title)?;
        let tuned = budgets.difference(&format!("full-{set}"), &format!("gradient-only-{set}"))?;
        // On all of Fashion-MNIST figure 14 tests the same pair, fixed beforehand, with seeds of its own.
        let again = (set == "fashion").then(|| steps.difference("full-100", "gradient-only-100")).transpose()?;
        let words = match &again {
            Some(again) => {
                format!(
                    "{} after the last epoch, {} over the last five with fresh seeds",
                    with_p(&published),
                    with_p(again)
                )
            }
            None => with_p(&published),
        };
        rows.push(Row {
            claim,
            verdict: twice(Said::of(again.as_ref().unwrap_or(&published)), Said::of(&tuned)).into(),
            effect: format!("as published {words}; each tuned {}", with_p(&tuned)),
            evidence: match again {
                Some(_) => "[figures 9](#evidence-under-four-controls-figure-9), [14](#data-or-steps-figure-14) and [11](#equal-budgets-figure-11)",
                None => "[figures 9](#evidence-under-four-controls-figure-9) and [11](#equal-budgets-figure-11)",
            },
        });
    }
    rows.push(harder(numbers)?);
    rows.push(low_data(numbers, &steps)?);
    let cifar = of_figure_9(numbers, "CIFAR-10, ResNet")?;
    rows.push(Row {
        claim: "4.3, E The same configuration is ahead on CIFAR-10",
        verdict: said(Said::of(&cifar)).into(),
        effect: with_p(&cifar),
        evidence: "[figure 5](#transfer-cifar-10-figure-5), 3 seeds, width 16, 5,000 images: not the published scale",
    });
    rows.extend(appendix::rows(numbers)?);
    let mut out = String::from("| claim | verdict | effect | evidence |\n| :-- | :-- | :-- | :-- |\n");
    for Row { claim, verdict, effect, evidence } in rows {
        out.push_str(&format!("| {claim} | **{verdict}** | {effect} | {evidence} |\n"));
    }
    Ok(out)
}

/// The hypotheses of an experiment, adjusted over all of them.
struct Stated(Vec<Comparison>);

impl Stated {
    fn of(runs: &Runs) -> Result<Self> {
        let all: Vec<_> = runs.runs.iter().map(|(run, record)| (run.clone(), Some(record.clone()))).collect();
        Ok(Self(Compared::of(&runs.plan, &all, &Asked::default())?.hypotheses))
    }

    fn difference(&self, arm: &str, against: &str) -> Result<Difference> {
        let pair = self.0.iter().find(|pair| pair.arm == arm && pair.baseline == against);
        let difference = pair.and_then(|pair| pair.groups.first()?.difference.clone());
        difference.with_context(|| format!("no hypothesis has `{arm}` against `{against}`, or no seed in both"))
    }
}

/// Full rule minus published ablation, adjusted over figure 9's tests.
fn of_figure_9(numbers: &Numbers, setting: &str) -> Result<Difference> {
    let found = numbers.evidence()?.mark(0, setting);
    Ok(found.with_context(|| format!("no difference on {setting}"))?.2.clone())
}

fn said(said: Said) -> &'static str {
    match said {
        Said::Ahead => "holds",
        Said::Behind => "reversed",
        Said::Nothing => "not shown",
        Said::TooFew => "cannot be told",
    }
}

/// As published, and with each arm tuned.
fn twice(published: Said, tuned: Said) -> &'static str {
    match (published, tuned) {
        (Said::Ahead, Said::Ahead) => "holds",
        (Said::Ahead, _) => "at the published rate only",
        (_, Said::Ahead) => "when both are tuned",
        (_, Said::Behind) => "reversed when both are tuned",
        _ => "not shown",
    }
}

/// `not shown`, `ahead on MNIST`, `behind on MNIST, Fashion-MNIST`.
fn over_sets(all: &[(&str, Difference)]) -> String {
    let names = |which: Said| -> Vec<&str> {
        all.iter().filter(|(_, difference)| Said::of(difference) == which).map(|(name, _)| *name).collect()
    };
    let (ahead, behind) = (names(Said::Ahead), names(Said::Behind));
    let part = |word: &str, names: &[&str]| match names.len() {
        0 => None,
        n if n == all.len() => Some(format!("{word} on all three")),
        _ => Some(format!("{word} on {}", names.join(" and "))),
    };
    let parts: Vec<String> = [part("ahead", &ahead), part("behind", &behind)].into_iter().flatten().collect();
    if parts.is_empty() { "not shown".into() } else { parts.join(", ") }
}

fn listed(all: &[(&str, Difference)]) -> String {
    all.iter().map(|(name, difference)| format!("{name} {}", with_p(difference))).collect::<Vec<_>>().join("; ")
}

/// `+0.20 [+0.14, +0.27], p 0.016`, p adjusted.
fn with_p(difference: &Difference) -> String {
    format!("{}, p {}", difference_text(difference), p_alone(difference.p_holm))
}

/// What a test that was not fixed beforehand says.
fn exploratory(paired: &Paired) -> Result<&'static str> {
    let (mean, p) = paired.mean_and_p()?;
    Ok(match (p < LEVEL, mean > 0.0) {
        (false, _) => "not shown",
        (true, true) => "holds",
        (true, false) => "reversed",
    })
}

/// Whether the advantage is larger on Fashion-MNIST than on MNIST.
fn harder(numbers: &Numbers) -> Result<Row> {
    let of = |setting: &str| of_figure_9(numbers, setting).map(|difference| in_points(&difference));
    let last = Paired::of(&of("Fashion-MNIST")?, &of("MNIST")?);
    let (sanity, low_data) = (numbers.runs("fig2-sanity")?.on("mnist")?, numbers.runs("fig3-low-data")?);
    let late = Paired::of(&advantage(&low_data, "Fashion-MNIST")?, &advantage(&sanity, "MNIST")?);
    let verdict = match (exploratory(&last)?, exploratory(&late)?) {
        (one, other) if one == other => one.to_owned(),
        (one, other) => format!("last epoch: {one}; last five: {other}"),
    };
    Ok(Row {
        claim: "4.1 The harder task gains more (Fashion-MNIST against MNIST)",
        verdict,
        effect: format!(
            "{} more after the last epoch, {} over the last {LAST} (exploratory)",
            last.text()?,
            late.text()?
        ),
        evidence: "[figures 2 and 3](#sanity-mnist-and-fashion-mnist-figures-2-and-3), as published",
    })
}

/// Full rule minus published ablation in a setting, over the last epochs, in points.
fn advantage(runs: &Runs, setting: &str) -> Result<BTreeMap<u64, f64>> {
    let ablation = last_epochs(runs, setting, "gradient-only", LAST);
    let full = last_epochs(runs, setting, "full", LAST);
    Ok(stats::paired_differences(&full, &ablation).into_iter().collect())
}

fn in_points(difference: &Difference) -> BTreeMap<u64, f64> {
    difference.values.iter().map(|(seed, value)| (*seed, 100.0 * value)).collect()
}

/// Whether the advantage grows from all of the data to a tenth, at equal epochs and at equal steps.
fn low_data(numbers: &Numbers, steps: &Stated) -> Result<Row> {
    let change = |against: &str| -> Result<Paired> {
        let of = |part: &str| {
            let difference = steps.difference(&format!("full-{part}"), &format!("{against}-{part}"))?;
            Ok::<_, anyhow::Error>(in_points(&difference))
        };
        Ok(Paired::of(&of("10")?, &of("100")?))
    };
    let runs = numbers.runs("fig3-low-data")?;
    let epochs = Paired::of(&advantage(&runs, "Fashion-MNIST, 10 %")?, &advantage(&runs, "Fashion-MNIST")?);
    let (ablation, one) = (change("gradient-only")?, change("coefficient-one")?);
    let grows = |paired: &Paired| paired.mean_and_p().map(|(mean, p)| p < LEVEL && mean > 0.0);
    let verdict = match (grows(&epochs)?, grows(&ablation)?, grows(&one)?) {
        (true, true, true) => "holds",
        (true, false, true) => {
            "against the ablation with fewer steps, not with less data; against coefficient 1 with less data"
        }
        (true, false, false) => "with fewer steps, not with less data",
        (false, false, false) => "not shown",
        _ => "in part",
    };
    Ok(Row {
        claim: "4.2 Less data gains more (a tenth of Fashion-MNIST against all)",
        verdict: verdict.into(),
        effect: format!(
            "against the ablation {} at equal epochs and {} at equal steps; against coefficient 1 {} at equal steps (exploratory)",
            epochs.text()?,
            ablation.text()?,
            one.text()?
        ),
        evidence: "[figures 3](#sanity-mnist-and-fashion-mnist-figures-2-and-3) and [14](#data-or-steps-figure-14), last five epochs, at the published rate",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_where_it_held_as_published_and_tuned() {
        use Said::{Ahead, Behind, Nothing};
        assert_eq!(twice(Ahead, Ahead), "holds");
        assert_eq!(twice(Ahead, Nothing), "at the published rate only");
        assert_eq!(twice(Nothing, Ahead), "when both are tuned");
        assert_eq!(twice(Nothing, Behind), "reversed when both are tuned");
        assert_eq!(twice(Nothing, Nothing), "not shown");
    }

    #[test]
    fn a_verdict_is_of_the_adjusted_p_and_of_what_the_seeds_could_have_shown() {
        // By hand: ten pairs of one sign have p = 2 / 2^10, three of them 0.25.
        let of = |values: &[f64], family: f64| {
            let test = stats::sign_flip(values).unwrap();
            let smallest_p = 2.0 / 2_f64.powi(values.len() as i32);
            Said::of(&Difference {
                values: (0..).zip(values.iter().copied()).collect(),
                mean: stats::mean(values).unwrap(),
                std: None,
                interval: None,
                p_holm: (test.p * family).min(1.0),
                test,
                smallest_p,
            })
        };
        assert_eq!(of(&[0.1; 10], 18.0), Said::Ahead);
        assert_eq!(of(&[-0.1; 10], 18.0), Said::Behind);
        assert_eq!(of(&[0.1; 10], 30.0), Said::Nothing);
        assert_eq!(of(&[0.1; 3], 1.0), Said::TooFew);
    }
}
