//! The records of an experiment, as figures need them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use np_record::compare::Measure;
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
    /// An optimizer's diagnostic that is the norm of a whole epoch, √(Σ ‖·‖²) over its steps, as the root mean square of a step.
    StepNorm(&'static str),
}

/// How far a band reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    /// One sample standard deviation over the seeds to either side.
    Seeds,
    /// The mean over the seeds of another quantity, to either side.
    Of(Quantity),
    /// No band, but every seed as a thin line: for few seeds.
    Lines,
}

impl Quantity {
    /// Name and unit, for the CSV.
    pub(crate) fn key(self) -> String {
        match self {
            Quantity::TestAccuracy => "test_accuracy_percent".into(),
            Quantity::TrainLoss => "train_loss_nats".into(),
            Quantity::Diagnostic(key) => key.into(),
            Quantity::ShareDiagnostic(key) => format!("{key}_percent"),
            Quantity::StepNorm(key) => format!("{key}_of_a_step"),
        }
    }

    /// Name in a table.
    pub(crate) fn title(self) -> String {
        match self {
            Quantity::TestAccuracy => "test accuracy (%)".into(),
            Quantity::TrainLoss => "training loss (nats)".into(),
            Quantity::Diagnostic("alpha_mean") => "mean α".into(),
            Quantity::ShareDiagnostic("alpha_fraction_near_max") => "α at or near its upper bound (%)".into(),
            Quantity::ShareDiagnostic("alpha_fraction_near_min") => "α at or near its lower bound (%)".into(),
            Quantity::Diagnostic("alpha_std") => "standard deviation of α".into(),
            Quantity::Diagnostic("alpha_min") => "least α".into(),
            Quantity::Diagnostic("alpha_max") => "largest α".into(),
            Quantity::Diagnostic("raw_gradient_norm") => "gradient norm".into(),
            Quantity::Diagnostic(key) => key.replace('_', " "),
            Quantity::ShareDiagnostic(key) => format!("{} (%)", key.replace('_', " ")),
            Quantity::StepNorm(key) => format!("{} of a step", Quantity::Diagnostic(key).title()),
        }
    }

    /// The value in an epoch; `None` if the optimizer does not report it or it is not finite.
    pub(crate) fn of(self, epoch: &Epoch) -> Option<f64> {
        let value = match self {
            Quantity::TestAccuracy => epoch.test_accuracy.map(|accuracy| 100.0 * accuracy),
            Quantity::TrainLoss => Some(epoch.train_loss),
            Quantity::Diagnostic(key) => epoch.diagnostics.get(key).copied(),
            Quantity::ShareDiagnostic(key) => epoch.diagnostics.get(key).map(|share| 100.0 * share),
            // Steps are counted from the beginning of the run, and every epoch has as many.
            Quantity::StepNorm(key) => {
                epoch.diagnostics.get(key).map(|norm| norm / (epoch.steps as f64 / epoch.epoch as f64).sqrt())
            }
        };
        value.filter(|v| v.is_finite())
    }
}

impl Runs {
    /// The runs in the form that np-record's comparisons take.
    pub(crate) fn recorded(&self) -> Vec<(PlannedRun, Option<Record>)> {
        self.runs.iter().map(|(run, record)| (run.clone(), Some(record.clone()))).collect()
    }

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

    /// Records of one arm, by seed. Several runs of one seed, which differ in a swept key, are an error: restrict the runs first, such as by
    /// [`Runs::where_axis`].
    pub(crate) fn arm(&self, arm: &str) -> Result<BTreeMap<u64, &Record>> {
        let mut records = BTreeMap::new();
        for (run, record) in self.runs.iter().filter(|(run, _)| run.arm == arm) {
            if records.insert(run.seed, record).is_some() {
                let axes: BTreeSet<&str> =
                    self.runs.iter().flat_map(|(run, _)| run.axes.keys()).map(String::as_str).collect();
                bail!(
                    "`{}`: arm `{arm}` has several runs of seed {}\nhint: they differ in {}",
                    self.plan.experiment,
                    run.seed,
                    axes.into_iter().map(|axis| format!("`{axis}`")).collect::<Vec<_>>().join(", ")
                );
            }
        }
        Ok(records)
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

    /// The fractions of the training split that the runs use, ascending.
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

    /// The runs of each arm's best configuration, chosen on the split that the plan names. An arm is left out if none can be chosen, because each of its
    /// configurations has a run that did not finish.
    pub(crate) fn selected(&self) -> Result<(Runs, Selection)> {
        let all = self.recorded();
        let rule = Rule::of(&self.plan, self.plan.selection.unwrap_or_default());
        let (selection, kept) = select::select(&rule, &all)?;
        let chosen = |run: &PlannedRun| {
            selection.choices.iter().any(|c| c.arm == run.arm && c.axes == run.axes && c.chosen.is_some())
        };
        let runs =
            kept.into_iter().filter(|(run, _)| chosen(run)).filter_map(|(run, record)| Some((run, record?))).collect();
        Ok((Runs { plan: self.plan.clone(), runs }, selection))
    }

    /// The model in words: `ResNet-18 of width 16` for a record's `ResNet-18 3-16-10` (input channels, width, classes).
    pub(crate) fn model(&self) -> String {
        let title = self.runs.first().map(|(_, record)| record.model.title.clone()).unwrap_or_default();
        let width = title.strip_prefix("ResNet-18 ").and_then(|sizes| sizes.split('-').nth(1));
        width.map_or_else(|| title.clone(), |width| format!("ResNet-18 of width {width}"))
    }

    /// The number of training examples, if it is the same for all runs.
    pub(crate) fn train_examples(&self) -> Option<usize> {
        let counts: BTreeSet<usize> = self.runs.iter().map(|(_, record)| record.data.train_examples).collect();
        counts.first().copied().filter(|_| counts.len() == 1)
    }

    /// Model and amount of data in a sentence: `a ResNet-18 of width 16, trained on 5000 images`.
    pub(crate) fn task(&self) -> String {
        let images = self.train_examples().map_or_else(String::new, |count| format!(", trained on {count} images"));
        let model = self.model();
        format!("{} {model}{images}", if model.starts_with("MLP") { "an" } else { "a" })
    }

    /// The longest run, in epochs.
    pub(crate) fn epochs(&self) -> usize {
        self.runs.iter().map(|(_, record)| record.epochs.len()).max().unwrap_or(0)
    }

    /// Name of the first run's data set.
    pub(crate) fn data(&self) -> String {
        self.runs.first().map(|(_, record)| record.data.name.clone()).unwrap_or_default()
    }

    /// A curve for each arm: the mean over seeds by epoch, with a band. Every mean is added to `rows`.
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
            let records = self.arm(arm)?;
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
                    Spread::Lines => None,
                };
                let (x, half) = ((index + 1) as f64, half.unwrap_or(0.0));
                let spot = Spot { x, mean: value, low: value - half, high: value + half };
                spots.push(spot);
                let ends = (spread != Spread::Lines).then_some([spot.low, spot.high]);
                rows.push(self.row(panel, arm, quantity, x, Mark::Mean { value, ends, n: values.len() }));
            }
            if spread == Spread::Lines {
                layers.push(self.lines(panel, arm, quantity, rows)?);
            }
            if !spots.is_empty() {
                let marks = Marks::staggered(self.epochs(), i, arms.len());
                layers.push(Layer::Curve { look: theme::arm(arm)?, spots, band, marks, fill });
            }
        }
        Ok(layers)
    }

    /// Every seed of an arm as a thin line. Its values are added to `rows`.
    fn lines(&self, panel: char, arm: &str, quantity: Quantity, rows: &mut Vec<Row>) -> Result<Layer> {
        let mut lines = Vec::new();
        for (seed, record) in self.arm(arm)? {
            let values = record.epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, quantity.of(epoch)?)));
            let line: Vec<(f64, f64)> = values.collect();
            rows.extend(line.iter().map(|&(x, value)| self.row(panel, arm, quantity, x, Mark::Seed { seed, value })));
            lines.push(line);
        }
        Ok(Layer::Lines { look: theme::arm(arm)?, lines })
    }

    fn row(&self, panel: char, arm: &str, quantity: Quantity, x: f64, mark: Mark) -> Row {
        Row { panel, data: self.data(), arm: arm.into(), quantity: quantity.key(), x_name: "epoch", x, mark }
    }

    /// The last epoch's value of every finished run of an arm, by seed.
    pub(crate) fn last(&self, arm: &str, quantity: Quantity) -> Result<BTreeMap<u64, f64>> {
        let finished = self.arm(arm)?.into_iter().filter(|(_, record)| record.outcome == Outcome::Finished);
        Ok(finished.filter_map(|(seed, record)| Some((seed, quantity.of(record.last()?)?))).collect())
    }

    /// The summary of a measure over every finished run of an arm, shares in percent; `None` if no run has it.
    pub(crate) fn measured(&self, arm: &str, measure: Measure) -> Result<Option<Summary>> {
        let finished = self.arm(arm)?.into_iter().filter(|(_, record)| record.outcome == Outcome::Finished);
        let unit = if measure.unit() == "%" { 100.0 } else { 1.0 };
        Ok(Summary::of(finished.filter_map(|(seed, record)| Some((seed, unit * measure.of(record)?))).collect()))
    }

    /// The summary of [`last`](Self::last); `None` if no run of the arm has finished.
    pub(crate) fn summary(&self, arm: &str, quantity: Quantity) -> Result<Option<Summary>> {
        Ok(Summary::of(self.last(arm, quantity)?))
    }
}

/// The values of one number for several seeds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    /// By seed; not empty.
    pub(crate) values: BTreeMap<u64, f64>,
    /// Their mean.
    pub(crate) mean: f64,
    /// Their sample standard deviation; `None` for a single value.
    pub(crate) std: Option<f64>,
}

impl Summary {
    /// Of values by seed; `None` if there are none.
    pub(crate) fn of(values: BTreeMap<u64, f64>) -> Option<Self> {
        let all: Vec<f64> = values.values().copied().collect();
        Some(Self { mean: stats::mean(&all)?, std: stats::sample_std(&all), values })
    }

    /// The mean minus and plus one standard deviation; twice the mean itself for a single value.
    pub(crate) fn ends(&self) -> [f64; 2] {
        let half = self.std.unwrap_or(0.0);
        [self.mean - half, self.mean + half]
    }

    /// The mean with these ends, at `x`.
    pub(crate) fn spot(&self, x: f64) -> Spot {
        let [low, high] = self.ends();
        Spot { x, mean: self.mean, low, high }
    }

    /// Rows of the CSV: the mean with its ends, and every seed.
    pub(crate) fn rows(&self, row: impl Fn(Mark) -> Row) -> Vec<Row> {
        let mean = row(Mark::Mean { value: self.mean, ends: Some(self.ends()), n: self.values.len() });
        [mean].into_iter().chain(self.values.iter().map(|(&seed, &value)| row(Mark::Seed { seed, value }))).collect()
    }
}

/// The fraction of the training split that a run uses: from an axis of the plan, or from its configuration, or else 1.
pub(crate) fn fraction_of(run: &PlannedRun) -> f64 {
    let axis = run.axes.get("data.fraction").and_then(Value::as_f64);
    axis.or_else(|| run.config.pointer("/data/fraction").and_then(Value::as_f64)).unwrap_or(1.0)
}

/// Checks that two runs that are to be paired were trained alike: their configurations may differ only in the optimizer and the seed.
pub(crate) fn check_alike(a: &PlannedRun, b: &PlannedRun) -> Result<()> {
    let rest = |run: &PlannedRun| {
        let mut config = run.config.clone();
        if let Some(map) = config.as_object_mut() {
            map.retain(|key, _| key != "optimizer" && key != "seed");
        }
        config
    };
    if let Some((key, [own, other])) = difference(&rest(a), &rest(b)) {
        bail!(
            "`{}` and `{}` are to be paired, and were not trained alike: `{key}` is {own} and {other}\nhint: the experiment files of the figure must agree in it",
            a.arm,
            b.arm
        );
    }
    Ok(())
}

/// The first place where two values differ: its path, and both values there.
fn difference(a: &Value, b: &Value) -> Option<(String, [String; 2])> {
    let (Value::Object(own), Value::Object(other)) = (a, b) else {
        return (a != b).then(|| (String::new(), [a.to_string(), b.to_string()]));
    };
    let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    keys.into_iter().find_map(|key| {
        let at = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
        let (path, values) = difference(&at(own), &at(other))?;
        Some((if path.is_empty() { key.clone() } else { format!("{key}.{path}") }, values))
    })
}
