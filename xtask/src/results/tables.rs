//! Tables for README.md and RESULTS.md.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use np_record::compare::Difference;

use super::numbers::{Numbers, spread};
use super::{
    bench, budgets, claims, design, parts, sensitivity,
    transfer::{self, ARMS},
};
use crate::draw::theme;
use crate::figures::evidence::{self, CONTROLS};
use crate::figures::runs::{Quantity, Runs};
use crate::figures::{optimizers, stability};

/// Results of the published code on these data, means over its three seeds: full rule, gradient-only with the published bounds, gradient-only with matched bounds.
const PUBLISHED: [(&str, f64, [f64; 2], Option<f64>); 5] = [
    ("mnist", 1.0, [97.56, 97.54], Some(97.47)),
    ("fashion-mnist", 1.0, [87.76, 87.40], Some(87.43)),
    ("fashion-mnist", 0.5, [85.45, 84.95], None),
    ("fashion-mnist", 0.25, [84.29, 83.79], None),
    ("fashion-mnist", 0.1, [81.65, 81.01], None),
];

/// A table by its name.
pub(super) fn table(numbers: &Numbers, name: &str) -> Result<String> {
    match name {
        "budgets" => budgets::table(&numbers.runs("fig11-equal-budgets")?),
        "claims" => claims::table(numbers),
        "components" => parts::components(&numbers.runs("fig12-components")?),
        "best-rates" => parts::best_rates(&numbers.runs("fig13-rate-and-rule")?),
        "interaction" => parts::interaction(&numbers.runs("fig13-rate-and-rule")?),
        "accuracy" => accuracy(numbers),
        "evidence" => controls(numbers),
        "steps" => steps(numbers),
        "rates" => sensitivity::rates(&numbers.runs("fig9-best-rate")?),
        "late" => sensitivity::late(&numbers.runs("fig2-sanity")?, &numbers.runs("fig3-low-data")?),
        "transfer" => transfer::table(&numbers.runs("fig5-transfer")?),
        "transfer-paper" => transfer::table(&numbers.runs_at_paper("fig5-transfer")?),
        "optimizers" => optimizers(&numbers.runs("fig4-optimizers")?),
        "design" => design::table(&numbers.runs("fig7-design-space")?, &numbers.runs("fig4-optimizers")?),
        "stability" => stability_of(&numbers.runs("fig8-stability")?),
        "dynamics" => dynamics(&numbers.runs("fig6-dynamics")?),
        "bench" => bench::table(numbers.root()),
        "zoo" => Ok(zoo()),
        _ => bail!("no such table"),
    }
}

/// np-core's table of optimizers.
fn zoo() -> String {
    let mut text =
        "| optimizer | YAML | state a parameter | when to use it | reference |\n|---|---|---|---|---|\n".to_owned();
    for row in theme::ROWS {
        let _ = writeln!(text, "| {} | `{}` | {} | {} | {} |", row.title, row.kind, row.state, row.when, row.reference);
    }
    text
}

/// A task of the MLP for which the published code's accuracy is known.
struct Published {
    title: String,
    runs: Runs,
    /// Each arm's name in this project, and the published code's accuracy.
    arms: [(&'static str, Option<f64>); 3],
}

fn published(numbers: &Numbers) -> Result<Vec<Published>> {
    let (sanity, low_data) = (numbers.runs("fig2-sanity")?, numbers.runs("fig3-low-data")?);
    let tasks = PUBLISHED.into_iter().map(|(data, fraction, [full, ablation], matched)| {
        let runs = if data == "mnist" { sanity.on(data)? } else { low_data.on(data)?.at_fraction(fraction)? };
        let title = match (data, fraction) {
            ("mnist", _) => "MNIST".into(),
            (_, 1.0) => "Fashion-MNIST".into(),
            _ => format!("… {} %", 100.0 * fraction),
        };
        let [of_full, of_ablation, of_matched] = ARMS;
        Ok(Published {
            title,
            runs,
            arms: [(of_full, Some(full)), (of_ablation, Some(ablation)), (of_matched, matched)],
        })
    });
    tasks.collect()
}

/// A table of the final test accuracy on the tasks of the MLP, beside the published code's.
fn accuracy(numbers: &Numbers) -> Result<String> {
    let mut out = String::from(
        "| data | full rule | published code | gradient-only, bounds [0.5, 1.5] | published code | gradient-only, the full rule's bounds [0.2, 2] | published code | coefficient 1 | SGD |\n\
         | :-- | --: | --: | --: | --: | --: | --: | --: | --: |\n",
    );
    for Published { title, runs, arms } in published(numbers)? {
        let _ = write!(out, "| {title} |");
        for (arm, theirs) in arms {
            let theirs = theirs.map_or_else(String::new, |value| format!("{value:.2}"));
            let _ = write!(out, " {} | {theirs} |", spread(runs.last(arm, Quantity::TestAccuracy)?, 2)?);
        }
        for arm in ["coefficient-one", "sgd"] {
            let _ = write!(out, " {} |", spread(runs.last(arm, Quantity::TestAccuracy)?, 2)?);
        }
        out.push('\n');
    }
    Ok(out)
}

/// The largest distance of a mean of this project from the published code's.
pub(super) fn gap(numbers: &Numbers) -> Result<String> {
    let mut largest = 0.0_f64;
    for Published { runs, arms, .. } in published(numbers)? {
        for (arm, theirs) in arms {
            let ours = runs.summary(arm, Quantity::TestAccuracy)?.context("no run finished")?.mean;
            largest = largest.max(theirs.map_or(0.0, |theirs| (ours - theirs).abs()));
        }
    }
    Ok(format!("{largest:.1}"))
}

/// A table of differences under the controls of figure 9.
fn controls(numbers: &Numbers) -> Result<String> {
    let evidence = numbers.evidence()?;
    let names: Vec<&str> = CONTROLS.iter().map(|(control, _)| *control).collect();
    let mut out = format!(
        "| full rule − other arm (points) | {} |\n| :-- |{}\n",
        names.join(" | "),
        " --: |".repeat(CONTROLS.len())
    );
    for setting in &evidence.settings {
        let cells = (0..CONTROLS.len()).map(|control| match evidence.mark(control, setting) {
            Some((_, _, difference)) => format!("{}; p = {}", difference_text(difference), p_text(difference)),
            None => "none".into(),
        });
        let _ = writeln!(out, "| {setting} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(out)
}

/// A table of the lengths of the arms' steps.
fn steps(numbers: &Numbers) -> Result<String> {
    let mut out =
        String::from("| setting | gradient-only as published | at matched step size |\n| :-- | --: | --: |\n");
    for (setting, before, after) in &numbers.evidence()?.steps {
        let _ = writeln!(out, "| {setting} | {before:.3} | {after:.3} |");
    }
    Ok(out)
}

const ALPHA: Quantity = Quantity::Diagnostic("alpha_mean");
const UPDATE: Quantity = Quantity::Diagnostic("effective_update_norm");

fn dynamics(runs: &Runs) -> Result<String> {
    let columns = [
        ALPHA,
        Quantity::Diagnostic("alpha_std"),
        Quantity::Diagnostic("alpha_min"),
        Quantity::Diagnostic("alpha_max"),
        Quantity::ShareDiagnostic("alpha_fraction_near_min"),
        Quantity::ShareDiagnostic("alpha_fraction_near_max"),
        UPDATE,
        Quantity::Diagnostic("raw_gradient_norm"),
    ];
    let [full, published, matched] = ARMS;
    last_epoch(runs, &[full, published, matched, "coefficient-one"], &columns)
}

/// A table with one row for each arm and one column for each quantity, in the last epoch.
fn last_epoch(runs: &Runs, arms: &[&str], columns: &[Quantity]) -> Result<String> {
    let titles: Vec<String> = columns.iter().map(|quantity| quantity.title()).collect();
    let mut out = format!("| arm | {} |\n| :-- |{}\n", titles.join(" | "), " --: |".repeat(columns.len()));
    for arm in arms {
        let cells = columns.iter().map(|quantity| spread(runs.last(arm, *quantity)?, decimals(*quantity)));
        let cells = cells.collect::<Result<Vec<_>>>()?.join(" | ");
        let _ = writeln!(out, "| {} | {cells} |", theme::arm(arm)?.label);
    }
    Ok(out)
}

/// A table of each optimizer at the learning rate with the best validation accuracy.
fn optimizers(runs: &Runs) -> Result<String> {
    let (best, selection) = runs.selected()?;
    let mut rows = Vec::new();
    for choice in &selection.choices {
        let chosen = choice.best().context("no rate can be chosen")?;
        let rate = chosen.axes.get(optimizers::RATE).cloned().unwrap_or_default();
        let last = best.summary(&choice.arm, Quantity::TestAccuracy)?.context("no run finished")?;
        let score = chosen.score.map_or_else(String::new, |score| format!("{:.2}", 100.0 * score));
        let label = theme::arm(&choice.arm)?.label;
        rows.push((last.mean, format!("| {label} | {rate} | {score} | {} |\n", spread(last.values, 2)?)));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut out =
        String::from("| optimizer | rate | validation accuracy (%) | test accuracy (%) |\n| :-- | --: | --: | --: |\n");
    rows.iter().for_each(|(_, row)| out.push_str(row));
    Ok(out)
}

fn stability_of(runs: &Runs) -> Result<String> {
    stability::spans(runs)
}

/// A diagnostic by its name.
pub(super) fn diagnostic(name: &str) -> Result<Quantity> {
    const KNOWN: [&str; 9] = [
        "alpha_mean",
        "alpha_std",
        "alpha_min",
        "alpha_max",
        "effective_update_norm",
        "raw_gradient_norm",
        "raw_update_norm",
        "parameter_norm",
        "stabilization_norm_ratio",
    ];
    let known = KNOWN.into_iter().find(|known| *known == name);
    known.map(Quantity::Diagnostic).with_context(|| format!("no diagnostic `{name}`"))
}

/// The number of decimals that a quantity is printed with.
pub(super) fn decimals(quantity: Quantity) -> usize {
    match quantity {
        Quantity::TestAccuracy => 2,
        Quantity::TrainLoss | Quantity::Diagnostic("alpha_mean" | "alpha_std" | "alpha_min" | "alpha_max") => 3,
        Quantity::Diagnostic("stabilization_norm_ratio") => 5,
        Quantity::StepNorm(_) => 3,
        Quantity::Diagnostic(_) | Quantity::ShareDiagnostic(_) => 1,
    }
}

pub(super) fn signed(points: f64) -> String {
    format!("{points:+.2}").replace('-', "−")
}

/// A difference with its interval, such as `+0.10 [−0.02, +0.21]`; if the pairs are too few for one, with every pair: `+0.10 (−0.02, +0.01, +0.31)`.
pub(super) fn difference_text(difference: &Difference) -> String {
    let around = match evidence::interval(difference) {
        Some([low, high]) => format!("[{}, {}]", signed(low), signed(high)),
        None => {
            let all: Vec<String> = difference.values.values().map(|d| signed(100.0 * d)).collect();
            format!("({})", all.join(", "))
        }
    };
    format!("{} {around}", signed(100.0 * difference.mean))
}

/// p, and the adjusted p in brackets: `0.04 (1)`.
pub(super) fn p_text(difference: &Difference) -> String {
    evidence::p_text(difference.test.p, difference.p_holm)
}
