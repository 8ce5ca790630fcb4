//! The keys of numbers, and their values from the records.
//!
//! | key | value |
//! |---|---|
//! | `seeds EXPERIMENT` | number of seeds |
//! | `accuracy EXPERIMENT ARM [DATA [FRACTION]]` | final test accuracy in per cent, mean ± standard deviation |
//! | `accuracy paper EXPERIMENT ARM` | the same at scale `paper` |
//! | `last EXPERIMENT ARM QUANTITY` | a diagnostic in the last epoch, mean ± standard deviation; only for experiments with one run for each seed |
//! | `difference CONTROL SETTING` | full rule minus ablation in points, with its interval |
//! | `p CONTROL SETTING`, `p alone CONTROL SETTING` | p and the adjusted p (Holm); p alone |
//! | `trend CONTROL` | mean difference on subsets of Fashion-MNIST minus that on the full set, with its interval and p |
//! | `gap published` | the largest distance of a mean from the published code's, in points |
//! | `step SETTING` | length of a step of the published ablation, as a share of the full rule's |
//! | `bench ours KEY`, `bench theirs KEY` | nanoseconds per parameter, last kept by `cargo xtask bench --keep` |
//! | `bench cores` | number of cores of the machine of these times |
//! | `rate ours MODEL`, `rate theirs MODEL` | images per second, last kept by `cargo xtask bench --models --keep`; three significant digits |
//! | `parity theirs` | PyTorch's final accuracy in the parity experiment, mean ± standard deviation |
//! | `table NAME` | a table of [`super::tables`] |

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use np_record::compare::Difference;
use serde_json::Value;

use super::{sensitivity, tables};
use crate::figures::Scale;
use crate::figures::cost;
use crate::figures::evidence::{self, CONTROLS, EXPERIMENTS, Evidence, Sources};
use crate::figures::runs::{Quantity, Runs, Summary};
use crate::figures::source::Workspace;

/// Computes the values of keys from the repository's records and timings.
pub(crate) struct Numbers {
    workspace: Workspace,
    evidence: OnceCell<Evidence>,
}

impl Numbers {
    pub(crate) fn new(root: &Path, scale: Scale) -> Self {
        Self {
            workspace: Workspace { root: root.to_path_buf(), scale, ask: Workspace::planned },
            evidence: OnceCell::new(),
        }
    }

    /// The repository's folder.
    pub(super) fn root(&self) -> &Path {
        &self.workspace.root
    }

    /// The runs of an experiment; an error if a record is missing.
    pub(super) fn runs(&self, name: &str) -> Result<Runs> {
        Self::runs_of(&self.workspace, name)
    }

    /// The runs of an experiment at the scale of the paper.
    pub(super) fn runs_at_paper(&self, name: &str) -> Result<Runs> {
        let root = self.workspace.root.clone();
        Self::runs_of(&Workspace { root, scale: Scale::Paper, ask: Workspace::planned }, name)
    }

    fn runs_of(workspace: &Workspace, name: &str) -> Result<Runs> {
        workspace.obtain(name, &|reason| {
            bail!("`{name}`: {reason}\nhint: `cargo np run experiments/{name}.yaml --scale {}`", workspace.scale)
        })
    }

    /// The pairs of figure 9.
    pub(super) fn evidence(&self) -> Result<&Evidence> {
        if let Some(evidence) = self.evidence.get() {
            return Ok(evidence);
        }
        let runs: Vec<Runs> = EXPERIMENTS.iter().map(|name| self.runs(name)).collect::<Result<_>>()?;
        let evidence = Evidence::gather(&Sources::of(&runs.iter().collect::<Vec<_>>())?)?;
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
            ["accuracy", "paper", experiment, arm] => {
                spread(self.runs_at_paper(experiment)?.last(arm, Quantity::TestAccuracy)?, 2)
            }
            ["accuracy", experiment, arm, ref place @ ..] => {
                let mut runs = self.runs(experiment)?;
                if let [data, ..] = place {
                    runs = runs.on(data)?;
                }
                if let [_, fraction] = place {
                    runs = runs.at_fraction(fraction.parse().context("a fraction")?)?;
                }
                spread(runs.last(arm, Quantity::TestAccuracy)?, 2)
            }
            ["last", experiment, arm, quantity] => {
                let runs = self.runs(experiment)?;
                let quantity = tables::diagnostic(quantity)?;
                spread(runs.last(arm, quantity)?, tables::decimals(quantity))
            }
            ["difference", control, ref setting @ ..] => {
                let difference = self.difference(control, &setting.join(" "))?;
                Ok(tables::difference_text(&difference))
            }
            ["p", "alone", control, ref setting @ ..] => {
                let difference = self.difference(control, &setting.join(" "))?;
                Ok(evidence::p_alone(difference.test.p))
            }
            ["p", control, ref setting @ ..] => {
                let difference = self.difference(control, &setting.join(" "))?;
                Ok(tables::p_text(&difference))
            }
            ["trend", control] => sensitivity::trend(self.evidence()?, control_of(control)?),
            ["gap", "published"] => tables::gap(self),
            ["step", ref setting @ ..] => {
                let setting = setting.join(" ");
                let steps = &self.evidence()?.steps;
                let found = steps.iter().find(|(known, ..)| *known == setting).context("no such setting")?;
                Ok(format!("{:.3}", found.1))
            }
            ["bench", "cores"] => Ok(cost::latest(&self.workspace.root)?.machine.cores.to_string()),
            ["bench", side, timing] => {
                let kept = cost::latest(&self.workspace.root)?;
                let times = match side {
                    "ours" => &kept.ours,
                    "theirs" => &kept.theirs,
                    _ => bail!("`{side}` is neither `ours` nor `theirs`"),
                };
                Ok(format!("{:.2}", times.get(timing).context("not measured")?))
            }
            ["rate", side, ref model @ ..] => {
                let kept = json_of(&cost::latest_path(&self.workspace.root, true)?)?;
                let rate = kept.pointer(&format!("/rates/{}/{side}", model.join(" "))).and_then(Value::as_f64);
                let rate = rate.context("not measured")?;
                Ok(three_digits(rate))
            }
            ["parity", "theirs"] => {
                let theirs = json_of(&self.workspace.root.join("experiments/parity/resnet18.json"))?;
                let curves = theirs.get("accuracy_by_epoch").and_then(Value::as_object).context("no curves")?;
                let last = |(seed, curve): (&String, &Value)| {
                    Some((seed.parse().ok()?, 100.0 * curve.as_array()?.last()?.as_f64()?))
                };
                let values: Option<BTreeMap<u64, f64>> = curves.iter().map(last).collect();
                spread(values.context("no accuracies")?, 2)
            }
            ["table", name] => tables::table(self, name),
            _ => bail!("no such key\nhint: xtask/src/results/numbers.rs lists them"),
        }
    }

    fn difference(&self, control: &str, setting: &str) -> Result<Difference> {
        let which = control_of(control)?;
        let found = self.evidence()?.mark(which, setting);
        found
            .map(|(_, _, difference)| difference.clone())
            .with_context(|| format!("no difference at `{setting}` under `{}`", CONTROLS[which].0))
    }
}

/// The index of a control in [`CONTROLS`], by its short name.
fn control_of(name: &str) -> Result<usize> {
    let names = ["published", "bounds", "step", "rates", "one"];
    names
        .iter()
        .position(|known| *known == name)
        .with_context(|| format!("no control `{name}`, but {}", names.join(", ")))
}

/// A positive number with three significant digits.
fn three_digits(value: f64) -> String {
    let places = 2 - value.log10().floor() as i32;
    let unit = 10_f64.powi(-places);
    let decimals = usize::try_from(places).unwrap_or(0);
    format!("{:.decimals$}", (value / unit).round() * unit)
}

fn json_of(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("`{}` is no JSON", path.display()))
}

/// Mean ± sample standard deviation.
pub(super) fn spread(values: BTreeMap<u64, f64>, decimals: usize) -> Result<String> {
    let Summary { mean, std, .. } = Summary::of(values).context("no run finished")?;
    Ok(match std {
        Some(std) => format!("{mean:.decimals$} ± {std:.decimals$}"),
        None => format!("{mean:.decimals$}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_three_digits() {
        let texts = [33.3, 64.1, 66_571.0, 9.996, 440.4, 0.012_34].map(three_digits);
        assert_eq!(texts, ["33.3", "64.1", "66600", "10.00", "440", "0.0123"]);
    }

    #[test]
    fn keys_that_are_none_are_told() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let numbers = Numbers::new(root, Scale::Cpu);
        let message = |key: &str| format!("{:#}", numbers.value(key).unwrap_err());
        assert!(message("bench our adamw_11M").contains("neither `ours` nor `theirs`"));
        assert!(message("bench ours no_such_11M").contains("not measured"));
        assert!(message("accuracy fig2-sanity full").contains("several runs of seed 41"));
        assert!(message("difference none MNIST").contains("no control `none`, but published"));
        assert!(message("difference published Iris").contains("no difference at `Iris`"));
        assert!(message("anything else").contains("no such key"));
        assert!(message("table none").contains("no such table"));
    }

    #[test]
    fn a_difference_is_that_of_the_records() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let numbers = Numbers::new(root, Scale::Cpu);
        let runs = numbers.runs("fig2-sanity").unwrap().on("mnist").unwrap();
        let of = |arm: &str| runs.summary(arm, Quantity::TestAccuracy).unwrap().unwrap().mean;
        let want = format!("{:+.2}", of("full") - of("gradient-only"));
        assert!(numbers.value("difference published MNIST").unwrap().starts_with(&want));
    }
}
