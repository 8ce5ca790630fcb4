//! The records of an experiment, as figures look at them.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use np_record::select::{self, Rule, Selection};
use np_record::{Epoch, Outcome, Plan, PlannedRun, Record, stats};
use serde_json::Value;

use super::table::{Mark, Row};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Band, Layer, Marks, Spot};
use crate::draw::theme;

/// A plan with all its records.
#[derive(Debug, Clone)]
pub(crate) struct Runs {
    /// The plan.
    pub(crate) plan: Plan,
    /// Its runs, in its order.
    pub(crate) runs: Vec<(PlannedRun, Record)>,
}

/// A number of an epoch that is plotted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Test accuracy in percent.
    TestAccuracy,
    /// Training loss in nats.
    TrainLoss,
    /// An optimizer's diagnostic, as it is.
    Diagnostic(&'static str),
    /// An optimizer's diagnostic that is a share, in percent.
    ShareDiagnostic(&'static str),
}

/// How far a band reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// One sample standard deviation over the seeds to either side.
    Seeds,
    /// The mean over the seeds of another quantity, to either side.
    Of(Quantity),
}

impl Quantity {
    /// Name and unit, for the CSV.
    pub(crate) fn key(self) -> String {
        match self {
            Quantity::TestAccuracy => "test_accuracy_percent".into(),
            Quantity::TrainLoss => "train_loss_nats".into(),
            Quantity::Diagnostic(key) => key.into(),
            Quantity::ShareDiagnostic(key) => format!("{key}_percent"),
        }
    }

    /// Name in a table.
    pub(crate) fn title(self) -> String {
        match self {
            Quantity::TestAccuracy => "test accuracy (%)".into(),
            Quantity::TrainLoss => "training loss (nats)".into(),
            Quantity::Diagnostic("alpha_mean") => "mean α".into(),
            Quantity::ShareDiagnostic("alpha_fraction_near_max") => "α near its upper bound (%)".into(),
            Quantity::ShareDiagnostic("alpha_fraction_near_min") => "α near its lower bound (%)".into(),
            Quantity::Diagnostic("alpha_std") => "standard deviation of α".into(),
            Quantity::Diagnostic("alpha_min") => "least α".into(),
            Quantity::Diagnostic("alpha_max") => "largest α".into(),
            Quantity::Diagnostic("raw_gradient_norm") => "gradient norm".into(),
            Quantity::Diagnostic(key) => key.replace('_', " "),
            Quantity::ShareDiagnostic(key) => format!("{} (%)", key.replace('_', " ")),
        }
    }

    /// The value in an epoch; `None` where the optimizer does not give it, or it is not finite.
    pub(crate) fn of(self, epoch: &Epoch) -> Option<f64> {
        let value = match self {
            Quantity::TestAccuracy => Some(100.0 * epoch.test_accuracy),
            Quantity::TrainLoss => Some(epoch.train_loss),
            Quantity::Diagnostic(key) => epoch.diagnostics.get(key).copied(),
            Quantity::ShareDiagnostic(key) => epoch.diagnostics.get(key).map(|share| 100.0 * share),
        };
        value.filter(|v| v.is_finite())
    }
}

impl Runs {
    /// Names of the arms, in the plan's order.
    pub(crate) fn arms(&self) -> Vec<String> {
        let mut arms: Vec<String> = Vec::new();
        for (run, _) in &self.runs {
            if !arms.contains(&run.arm) {
                arms.push(run.arm.clone());
            }
        }
        arms
    }

    /// Records of one arm, by seed.
    pub(crate) fn arm(&self, arm: &str) -> BTreeMap<u64, &Record> {
        self.runs.iter().filter(|(run, _)| run.arm == arm).map(|(run, record)| (run.seed, record)).collect()
    }

    /// The runs on one data set.
    pub(crate) fn on(&self, data: &str) -> Result<Runs> {
        self.part(data, |_, record| record.data.name == data)
    }

    /// The runs on a fraction of the training split.
    pub(crate) fn at_fraction(&self, fraction: f64) -> Result<Runs> {
        self.part(&format!("fraction {fraction}"), |run, _| fraction_of(run) == fraction)
    }

    fn part(&self, what: &str, keep: impl Fn(&PlannedRun, &Record) -> bool) -> Result<Runs> {
        let runs: Vec<_> = self.runs.iter().filter(|(run, record)| keep(run, record)).cloned().collect();
        if runs.is_empty() {
            bail!(
                "`{}` has no runs on `{what}`\nhint: the figure needs them; see its experiment file",
                self.plan.experiment
            );
        }
        Ok(Runs { plan: self.plan.clone(), runs })
    }

    /// The fractions that there are, ascending.
    pub(crate) fn fractions(&self) -> Vec<f64> {
        let mut fractions: Vec<f64> = self.runs.iter().map(|(run, _)| fraction_of(run)).collect();
        fractions.sort_by(f64::total_cmp);
        fractions.dedup();
        fractions
    }

    /// The runs where a swept key has this value.
    pub(crate) fn where_axis(&self, axis: &str, value: &Value) -> Result<Runs> {
        self.part(&format!("{axis} = {value}"), |run, _| run.axes.get(axis) == Some(value))
    }

    /// The values of a swept key that is a number, ascending; those of one arm, or of all.
    pub(crate) fn values(&self, axis: &str, arm: Option<&str>) -> Vec<f64> {
        let runs = self.runs.iter().filter(|(run, _)| arm.is_none_or(|arm| run.arm == arm));
        let mut values: Vec<f64> = runs.filter_map(|(run, _)| run.axes.get(axis)?.as_f64()).collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        values
    }

    /// Each arm at its best configuration by the plan's own split, the other configurations left out.
    pub(crate) fn selected(&self) -> Result<(Runs, Selection)> {
        let all: Vec<_> = self.runs.iter().map(|(run, record)| (run.clone(), Some(record.clone()))).collect();
        let rule = Rule { split: self.plan.selection.unwrap_or_default(), ..Rule::default() };
        let (selection, kept) = select::select(&rule, &all)?;
        let runs = kept.into_iter().filter_map(|(run, record)| Some((run, record?))).collect();
        Ok((Runs { plan: self.plan.clone(), runs }, selection))
    }

    /// The model, as records call it.
    pub(crate) fn model(&self) -> String {
        self.runs.first().map(|(_, record)| record.model.title.clone()).unwrap_or_default()
    }

    /// The longest run, in epochs.
    pub(crate) fn epochs(&self) -> usize {
        self.runs.iter().map(|(_, record)| record.epochs.len()).max().unwrap_or(0)
    }

    /// Name of the first run's data set.
    pub(crate) fn data(&self) -> String {
        self.runs.first().map(|(_, record)| record.data.name.clone()).unwrap_or_default()
    }

    /// A curve an arm: the mean over seeds by epoch, with a band. Every mean goes into `rows` too.
    pub(crate) fn curves(
        &self,
        panel: char,
        quantity: Quantity,
        spread: Spread,
        fill: Fill,
        rows: &mut Vec<Row>,
    ) -> Result<Vec<Layer>> {
        let band = if spread == Spread::Seeds { Band::Tint } else { Band::Edges };
        let mut layers = Vec::new();
        let arms = self.arms();
        for (i, arm) in arms.iter().enumerate() {
            let records = self.arm(arm);
            let mut spots = Vec::new();
            for index in 0..self.epochs() {
                let at = |q: Quantity| -> Vec<f64> {
                    records.values().filter_map(|r| r.epochs.get(index)).filter_map(|epoch| q.of(epoch)).collect()
                };
                let values = at(quantity);
                let Some(value) = stats::mean(&values) else { continue };
                let half = match spread {
                    Spread::Seeds => stats::sample_std(&values),
                    Spread::Of(other) => stats::mean(&at(other)),
                };
                let (x, half) = ((index + 1) as f64, half.unwrap_or(0.0));
                let spot = Spot { x, mean: value, low: value - half, high: value + half };
                spots.push(spot);
                rows.push(Row {
                    panel,
                    data: self.data(),
                    arm: arm.clone(),
                    quantity: quantity.key(),
                    x_name: "epoch",
                    x,
                    mark: Mark::Mean { value, low: spot.low, high: spot.high, n: values.len() },
                });
            }
            if !spots.is_empty() {
                let marks = Marks::staggered(self.epochs(), i, arms.len());
                layers.push(Layer::Curve { look: theme::arm(arm)?, spots, band, marks, fill });
            }
        }
        Ok(layers)
    }

    /// The last epoch's value of every finished run of an arm, by seed.
    pub(crate) fn last(&self, arm: &str, quantity: Quantity) -> BTreeMap<u64, f64> {
        let finished = self.arm(arm).into_iter().filter(|(_, record)| record.outcome == Outcome::Finished);
        finished.filter_map(|(seed, record)| Some((seed, quantity.of(record.last()?)?))).collect()
    }
}

/// The share of the training split that a run uses: an axis of the plan, or in its configuration; all of it if neither says.
pub(crate) fn fraction_of(run: &PlannedRun) -> f64 {
    let axis = run.axes.get("data.fraction").and_then(Value::as_f64);
    axis.or_else(|| run.config.pointer("/data/fraction").and_then(Value::as_f64)).unwrap_or(1.0)
}
