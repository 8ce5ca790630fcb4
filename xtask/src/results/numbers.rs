//! The keys of numbers, and what they are in the records.
//!
//! | key | value |
//! |---|---|
//! | `seeds EXPERIMENT` | how many seeds it has |
//! | `accuracy EXPERIMENT ARM [DATA [FRACTION]]` | final test accuracy in per cent, mean ± standard deviation |
//! | `last EXPERIMENT ARM QUANTITY` | a diagnostic in the last epoch on Fashion-MNIST or the only data set, mean ± standard deviation |
//! | `difference CONTROL SETTING` | full rule minus ablation in points, with its interval |
//! | `p CONTROL SETTING` | p, and Holm's |
//! | `step SETTING` | how far the published ablation moves a step, in shares of the full rule |
//! | `bench ours KEY`, `bench theirs KEY` | nanoseconds a parameter that `cargo xtask bench --keep` has kept last |
//! | `rate ours MODEL`, `rate theirs MODEL` | images a second that `cargo xtask bench --models --keep` has kept last; three significant digits |
//! | `parity theirs` | PyTorch's final accuracy in the parity experiment, mean ± standard deviation |
//! | `table NAME` | a table of [`super::tables`] |

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use np_record::compare::Difference;
use np_record::stats;
use serde_json::Value;

use super::tables;
use crate::figures::Scale;
use crate::figures::cost;
use crate::figures::evidence::{CONTROLS, Evidence, Sources};
use crate::figures::runs::{Quantity, Runs};
use crate::figures::source::Workspace;

/// What numbers are made from.
pub(crate) struct Numbers {
    workspace: Workspace,
    evidence: OnceCell<Evidence>,
}

impl Numbers {
    pub(crate) fn new(root: &Path, scale: Scale) -> Self {
        Self { workspace: Workspace { root: root.to_path_buf(), scale }, evidence: OnceCell::new() }
    }

    /// The runs of an experiment; all of them must be there.
    pub(super) fn runs(&self, name: &str) -> Result<Runs> {
        self.workspace.obtain(name, &|name| bail!("records of `{name}` are missing or out of date"))
    }

    /// The pairs of figure 9.
    pub(super) fn evidence(&self) -> Result<&Evidence> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let all = [
            "fig2-sanity",
            "fig3-low-data",
            "fig5-transfer",
            "fig9-matched-step",
            "fig9-matched-step-cifar",
            "fig9-best-rate",
            "fig9-best-rate-cifar",
        ];
        let runs: Vec<Runs> = all.iter().map(|name| self.runs(name)).collect::<Result<_>>()?;
        let [sanity, low_data, transfer, step, step_cifar, rate, rate_cifar] = &runs[..] else {
            bail!("figure 9 is drawn from seven experiments")
        };
        let (steps, rates) = ([step, step_cifar], [rate, rate_cifar]);
        let evidence = Evidence::gather(&Sources { sanity, low_data, transfer, steps, rates })?;
        Ok(self.evidence.get_or_init(|| evidence))
    }

    /// The value of a key.
    pub(crate) fn value(&self, key: &str) -> Result<String> {
        let words: Vec<&str> = key.split_whitespace().collect();
        match words[..] {
            ["seeds", experiment] => {
                let runs = self.runs(experiment)?;
                let seeds: std::collections::BTreeSet<u64> = runs.runs.iter().map(|(run, _)| run.seed).collect();
                Ok(seeds.len().to_string())
            }
            ["accuracy", experiment, arm, ref place @ ..] => {
                let mut runs = self.runs(experiment)?;
                if let [data, ..] = place {
                    runs = runs.on(data)?;
                }
                if let [_, fraction] = place {
                    runs = runs.at_fraction(fraction.parse().context("a fraction")?)?;
                }
                spread(&runs.last(arm, Quantity::TestAccuracy), 2)
            }
            ["last", experiment, arm, quantity] => {
                let runs = self.runs(experiment)?;
                let quantity = tables::diagnostic(quantity)?;
                spread(&runs.last(arm, quantity), tables::decimals(quantity))
            }
            ["difference", control, ref setting @ ..] => {
                let difference = self.difference(control, &setting.join(" "))?;
                Ok(tables::difference_text(&difference))
            }
            ["p", control, ref setting @ ..] => {
                let difference = self.difference(control, &setting.join(" "))?;
                Ok(tables::p_text(&difference))
            }
            ["step", ref setting @ ..] => {
                let setting = setting.join(" ");
                let steps = &self.evidence()?.steps;
                let found = steps.iter().find(|(known, ..)| *known == setting).context("no such setting")?;
                Ok(format!("{:.3}", found.1))
            }
            ["bench", side, timing] => {
                let kept = cost::latest(&self.workspace.root)?;
                let times = if side == "ours" { &kept.ours } else { &kept.theirs };
                Ok(format!("{:.2}", times.get(timing).context("not measured")?))
            }
            ["rate", side, ref model @ ..] => {
                let kept = json_of(&cost::latest_path(&self.workspace.root, true)?)?;
                let rate = kept.pointer(&format!("/rates/{}/{side}", model.join(" "))).and_then(Value::as_f64);
                let rate = rate.context("not measured")?;
                let unit = 10_f64.powf(rate.log10().floor() - 2.0);
                Ok(format!("{}", (rate / unit).round() * unit))
            }
            ["parity", "theirs"] => {
                let theirs = json_of(&self.workspace.root.join("experiments/parity/resnet18.json"))?;
                let curves = theirs.get("accuracy_by_epoch").and_then(Value::as_object).context("no curves")?;
                let last = |(seed, curve): (&String, &Value)| {
                    Some((seed.parse().ok()?, 100.0 * curve.as_array()?.last()?.as_f64()?))
                };
                let values: Option<BTreeMap<u64, f64>> = curves.iter().map(last).collect();
                spread(&values.context("no accuracies")?, 2)
            }
            ["table", name] => tables::table(self, name),
            _ => bail!("no such key\nhint: xtask/src/results/numbers.rs lists them"),
        }
    }

    fn difference(&self, control: &str, setting: &str) -> Result<Difference> {
        let names: BTreeMap<&str, usize> =
            [("published", 0), ("bounds", 1), ("step", 2), ("rates", 3)].into_iter().collect();
        let which = *names.get(control).with_context(|| format!("no control `{control}`"))?;
        let found = self.evidence()?.mark(which, setting);
        found
            .map(|(_, _, difference)| difference.clone())
            .with_context(|| format!("no difference at `{setting}` under `{}`", CONTROLS[which].0))
    }
}

fn json_of(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))
}

/// Mean ± sample standard deviation.
pub(super) fn spread(values: &BTreeMap<u64, f64>, decimals: usize) -> Result<String> {
    let values: Vec<f64> = values.values().copied().collect();
    let mean = stats::mean(&values).context("no run finished")?;
    Ok(match stats::sample_std(&values) {
        Some(std) => format!("{mean:.decimals$} ± {std:.decimals$}"),
        None => format!("{mean:.decimals$}"),
    })
}
