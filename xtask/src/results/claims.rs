//! The first table of RESULTS.md: each claim of the paper and the evidence in the records. Verdicts follow from p values and signs by fixed rules.

mod appendix;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use np_record::compare::{Asked, Compared, Comparison, Difference, Verdict};
use np_record::stats;

use super::numbers::Numbers;
use super::parts;
use super::sensitivity::{LAST, Paired, last_epochs};
use super::tables::{difference_text, signed};
use super::transfer::{self, Counted};
use crate::draw::axis::percent;
use crate::figures::budgets::SETTINGS;
use crate::figures::evidence::p_alone;
use crate::figures::rates::{self, Interaction};
use crate::figures::runs::Runs;
use crate::figures::study;

/// A claim, the evidence, and the verdict.
struct Row {
    claim: &'static str,
    verdict: String,
    effect: String,
    evidence: &'static str,
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
        let all = SETTINGS.iter().map(|(ending, title)| {
            Ok((*title, budgets.difference(&format!("{arm}{ending}"), &format!("{against}{ending}"))?))
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
    rows.extend(signals(numbers)?);
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
            verdict: twice(above_zero(again.as_ref().unwrap_or(&published)), above_zero(&tuned)).into(),
            effect: format!("as published {words}; each tuned {}", with_p(&tuned)),
            evidence: match again {
                Some(_) => "[figures 9](#evidence-under-five-controls-figure-9), [14](#data-or-steps-figure-14) and [11](#equal-budgets-figure-11)",
                None => "[figures 9](#evidence-under-five-controls-figure-9) and [11](#equal-budgets-figure-11)",
            },
        });
    }
    rows.push(harder(numbers)?);
    rows.push(low_data(numbers, &steps)?);
    rows.push(transfer(numbers)?);
    rows.extend(appendix::rows(numbers)?);
    let mut out = String::from("| claim | verdict | effect | evidence |\n| :-- | :-- | :-- | :-- |\n");
    for Row { claim, verdict, effect, evidence } in rows {
        out.push_str(&format!("| {claim} | **{verdict}** | {effect} | {evidence} |\n"));
    }
    Ok(out)
}

/// The effect of each signal, and whether the full rule's curve over learning rates is above that of a coefficient of 1.
fn signals(numbers: &Numbers) -> Result<Vec<Row>> {
    let runs = numbers.runs("fig12-components")?;
    let mut rows = Vec::new();
    for (claim, arm) in [
        ("… the same at a constant schedule, rates alone tuned", "coefficient-one"),
        ("… it is ahead of itself without the activity signal, whose weight goes to the others", "no-activity"),
        ("… of itself without the memory signal", "no-memory"),
        ("… of itself without the gradient signal, whose net weight is −0.2", "no-gradient-at-all"),
    ] {
        let all = parts::full_minus(&runs, arm)?;
        let (verdict, effect) = (over_sets(&all), listed(&all));
        let evidence = "[figure 12](#components-figure-12), test accuracy, seeds 51–60";
        rows.push(Row { claim, verdict, effect, evidence });
    }
    let runs = numbers.runs("fig13-rate-and-rule")?;
    let all = rates::interactions(&rates::compared(&runs)?, &parts::shares(&runs));
    let of: Vec<_> = all.iter().filter(|one| one.baseline == "coefficient-one").collect();
    let mut said: Vec<&str> = of.iter().map(|one| over_rates(one)).collect();
    said.dedup();
    let measure = study::outcome(&runs)?;
    let mut effect = Vec::new();
    for one in of {
        let part = runs.at_fraction(one.share)?;
        let best = |arm: &str| -> Result<String> {
            let (rate, top) = rates::top(&part, arm, measure)?.context("no rate at which all runs finished")?;
            Ok(format!("{:.2} at {rate}", top.mean))
        };
        let ([low, high], [first, last], share) = (one.rates, one.at.map(signed), percent(one.share));
        let p = p_alone(one.p_holm);
        effect.push(format!(
            "{share}: best {} against {}; difference {first} at {low}, {last} at {high}, p of the change {p}",
            best("full")?,
            best(&one.baseline)?
        ));
    }
    rows.push(Row {
        claim: "… its accuracy lies above coefficient 1's at every learning rate",
        verdict: said.join("; "),
        effect: effect.join("; "),
        evidence: "[figure 13](#rate-and-rule-figure-13), Fashion-MNIST and a tenth of it, six rates, seeds 51–60",
    });
    Ok(rows)
}

/// How one curve lies relative to the other, judged at the lowest and the highest rate at which no run diverged.
fn over_rates(one: &Interaction) -> &'static str {
    match (one.p_holm < Verdict::LEVEL, one.at[0] > 0.0, one.at[1] > 0.0) {
        (true, true, false) => "no: ahead at low rates, behind at high ones",
        (true, false, true) => "no: behind at low rates, ahead at high ones",
        (_, true, true) => "above at both ends",
        (_, false, false) => "no: below at both ends",
        (false, ..) => "cannot be told",
    }
}

/// The hypotheses of an experiment, with p values adjusted over all of them.
pub(super) struct Stated(Vec<Comparison>);

impl Stated {
    pub(super) fn of(runs: &Runs) -> Result<Self> {
        let all = runs.recorded();
        Ok(Self(Compared::of(&runs.plan, &all, &Asked::default())?.hypotheses))
    }

    pub(super) fn difference(&self, arm: &str, against: &str) -> Result<Difference> {
        let pair = self.0.iter().find(|pair| pair.arm == arm && pair.baseline == against);
        let difference = pair.and_then(|pair| pair.groups.first()?.difference.clone());
        difference.with_context(|| format!("no hypothesis has `{arm}` against `{against}`, or no seed in both"))
    }
}

/// The verdict on a difference of accuracies.
fn above_zero(difference: &Difference) -> Verdict {
    Verdict::of(difference, true)
}

/// The full rule minus the published ablation in a setting, with p adjusted over figure 9's tests.
fn of_figure_9(numbers: &Numbers, setting: &str) -> Result<Difference> {
    let found = numbers.evidence()?.mark(0, setting);
    Ok(found.with_context(|| format!("no difference on {setting}"))?.2.clone())
}

/// Two verdicts in words: as published, and with each arm tuned.
fn twice(published: Verdict, tuned: Verdict) -> &'static str {
    match (published, tuned) {
        (Verdict::Ahead, Verdict::Ahead) => "holds",
        (Verdict::Ahead, _) => "at the published rate only",
        (_, Verdict::Ahead) => "when both are tuned",
        (_, Verdict::Behind) => "reversed when both are tuned",
        _ => "not shown",
    }
}

/// A verdict over data sets, such as `not shown`, `ahead on MNIST`, or `behind on MNIST, Fashion-MNIST`.
fn over_sets(all: &[(&str, Difference)]) -> String {
    let names = |which: Verdict| -> Vec<&str> {
        all.iter().filter(|(_, difference)| above_zero(difference) == which).map(|(name, _)| *name).collect()
    };
    let (ahead, behind) = (names(Verdict::Ahead), names(Verdict::Behind));
    let part = |word: &str, names: &[&str]| match names.len() {
        0 => None,
        n if n == all.len() => Some(format!("{word} on all {}", if n == 3 { "three" } else { "four" })),
        _ => Some(format!("{word} on {}", names.join(" and "))),
    };
    let parts: Vec<String> = [part("ahead", &ahead), part("behind", &behind)].into_iter().flatten().collect();
    if parts.is_empty() { "not shown".into() } else { parts.join(", ") }
}

fn listed(all: &[(&str, Difference)]) -> String {
    all.iter().map(|(name, difference)| format!("{name} {}", with_p(difference))).collect::<Vec<_>>().join("; ")
}

/// A difference with the adjusted p, such as `+0.20 [+0.14, +0.27], p 0.016`.
fn with_p(difference: &Difference) -> String {
    format!("{}, p {}", difference_text(difference), p_alone(difference.p_holm))
}

/// The full rule's advantage on CIFAR-10: with the network of the paper, by the last epoch and by the last five, and at `cpu`.
fn transfer(numbers: &Numbers) -> Result<Row> {
    let runs = numbers.runs_at_paper("fig5-transfer")?;
    let [last, late] = [Counted::Last, Counted::Late].map(|counted| transfer::ahead(&runs, "gradient-only", counted));
    let (last, late) = (last?, late?);
    let told = |found: &Paired| Ok::<_, anyhow::Error>((found.mean_and_ahead()?, p_alone(found.mean_and_p()?.1)));
    let ((of_last, p_last), (of_late, p_late)) = (told(&last)?, told(&late)?);
    let small = with_p(&of_figure_9(numbers, "CIFAR-10, ResNet")?);
    Ok(Row {
        claim: "4.3, E The same configuration is ahead on CIFAR-10",
        verdict: by_both(&last, &late)?,
        effect: format!(
            "{of_last} after the last epoch, p {p_last}; {of_late} over the last {LAST}, p {p_late}; small network, few images {small}"
        ),
        evidence: "[figure 5](#transfer-cifar-10-figure-5), 3 seeds: the paper's network, 45,000 images, 50 epochs (exploratory, p of each test alone); width 16, 5,000 images, 8 epochs (p adjusted as figure 9's)",
    })
}

/// The verdict of a test that was not fixed beforehand; that it cannot be told, where no p can be small enough.
fn exploratory(paired: &Paired) -> Result<&'static str> {
    let (mean, p) = paired.mean_and_p()?;
    Ok(match (p < Verdict::LEVEL, mean > 0.0) {
        _ if stats::smallest_p(paired.len()) >= Verdict::LEVEL => "cannot be told",
        (false, _) => "not shown",
        (true, true) => "holds",
        (true, false) => "reversed",
    })
}

/// The verdict by the last epoch and by the mean of the last few, where they differ both.
fn by_both(last: &Paired, late: &Paired) -> Result<String> {
    Ok(match (exploratory(last)?, exploratory(late)?) {
        (one, other) if one == other => one.to_owned(),
        (one, other) => format!("last epoch: {one}; last five: {other}"),
    })
}

/// Whether the advantage is larger on Fashion-MNIST than on MNIST.
fn harder(numbers: &Numbers) -> Result<Row> {
    let of = |setting: &str| of_figure_9(numbers, setting).map(|difference| in_points(&difference));
    let last = Paired::of(&of("Fashion-MNIST")?, &of("MNIST")?);
    let (sanity, low_data) = (numbers.runs("fig2-sanity")?.on("mnist")?, numbers.runs("fig3-low-data")?);
    let late = Paired::of(&advantage(&low_data, "Fashion-MNIST")?, &advantage(&sanity, "MNIST")?);
    let verdict = by_both(&last, &late)?;
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
    let grows = |paired: &Paired| paired.mean_and_p().map(|(mean, p)| p < Verdict::LEVEL && mean > 0.0);
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
        use Verdict::{Ahead, Behind, NotShown};
        assert_eq!(twice(Ahead, Ahead), "holds");
        assert_eq!(twice(Ahead, NotShown), "at the published rate only");
        assert_eq!(twice(NotShown, Ahead), "when both are tuned");
        assert_eq!(twice(NotShown, Behind), "reversed when both are tuned");
        assert_eq!(twice(NotShown, NotShown), "not shown");
    }
}
