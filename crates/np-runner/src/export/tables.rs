//! The tables of an experiment: a row a run, a row an epoch, a row a comparison.

use np_record::compare::{Compared, Comparison};
use np_record::{Epoch, Outcome, Phases, Plan, PlannedRun, Record};
use serde_json::Value;

use super::{Cell, Frame};

/// An experiment, and what is left of its runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exported<'a> {
    /// The plan.
    pub(crate) plan: &'a Plan,
    /// All its runs, each with its record if there is one.
    pub(crate) all: &'a [(PlannedRun, Option<Record>)],
}

/// Cells by their columns.
#[derive(Default)]
struct Row(Vec<(String, Cell)>);

impl Row {
    fn set(&mut self, name: &str, cell: impl Into<Cell>) {
        self.0.push((name.to_owned(), cell.into()));
    }

    fn set_if(&mut self, name: &str, cell: Option<impl Into<Cell>>) {
        if let Some(cell) = cell {
            self.set(name, cell);
        }
    }

    /// What tells a run from all others.
    fn key(&mut self, plan: &Plan, run: &PlannedRun) {
        self.set("experiment", plan.experiment.as_str());
        self.set("scale", plan.scale.as_str());
        self.set("arm", run.arm.as_str());
        self.axes(&run.axes);
        self.set("seed", run.seed);
        self.set("id", run.id.as_str());
    }

    fn axes<'a>(&mut self, axes: impl IntoIterator<Item = (&'a String, &'a Value)>) {
        for (axis, value) in axes {
            self.set(&format!("axis.{axis}"), Cell::of(value));
        }
    }
}

/// A row a planned run, whether it has been trained or not.
pub(crate) fn runs(frame: &mut Frame, Exported { plan, all }: Exported) {
    for (run, record) in all {
        let mut row = Row::default();
        row.key(plan, run);
        row.set("outcome", record.as_ref().map_or("missing", |record| said(&record.outcome)));
        if let Some(record) = record {
            of_record(&mut row, record);
        }
        let kind = run.config.get("optimizer").and_then(Value::as_object).and_then(|kinds| kinds.keys().next());
        row.set_if("optimizer", kind.map(String::as_str));
        row.set("config", run.config.to_string());
        frame.row(row.0);
    }
}

fn said(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Finished => "finished",
        Outcome::Diverged { .. } => "diverged",
        Outcome::Failed { .. } => "failed",
    }
}

fn of_record(row: &mut Row, record: &Record) {
    match &record.outcome {
        Outcome::Finished => {}
        Outcome::Diverged { epoch, step } => {
            row.set("diverged_epoch", *epoch);
            row.set("diverged_step", *step);
        }
        Outcome::Failed { reason } => row.set("failure", reason.as_str()),
    }
    let data = &record.data;
    row.set("data", data.name.as_str());
    row.set("data_title", data.title.as_str());
    row.set("data_sha256", data.digest.as_str());
    row.set("train_examples", data.train_examples);
    row.set("validation_examples", data.validation_examples);
    row.set("test_examples", data.test_examples);
    row.set("model", record.model.title.as_str());
    row.set("parameters", record.model.parameters);
    row.set("epochs", record.epochs.len());
    if let Some(last) = record.last() {
        metrics(row, "final_", last);
    }
    let seconds: f64 = record.timing.iter().map(Phases::total).sum();
    row.set("seconds", seconds);
    // What is queued on a device has no parts of its own.
    let apart = record.timing.iter().all(|phases| phases.steps == 0.0);
    let optimizer: f64 = record.timing.iter().map(|phases| phases.optimizer).sum();
    row.set_if("optimizer_seconds", apart.then_some(optimizer));
    row.set_if("state_bytes", record.optimizer.map(|optimizer| optimizer.state_bytes));
    let made = &record.provenance;
    row.set_if("commit", made.commit.as_deref());
    row.set("cpu", made.machine.cpu.as_str());
    row.set_if("gpu", made.machine.gpu.as_ref().map(|gpu| gpu.name.as_str()));
    row.set("threads", made.threads);
    row.set("started", made.started.as_str());
    row.set("result_sha256", record.result_sha256.as_str());
}

fn metrics(row: &mut Row, head: &str, epoch: &Epoch) {
    for (name, value) in [
        ("train_loss", Some(epoch.train_loss)),
        ("train_accuracy", epoch.train_accuracy),
        ("test_loss", epoch.test_loss),
        ("test_accuracy", epoch.test_accuracy),
        ("validation_loss", epoch.validation.map(|score| score.loss)),
        ("validation_accuracy", epoch.validation.and_then(|score| score.accuracy)),
    ] {
        row.set_if(&format!("{head}{name}"), value);
    }
    for (name, value) in &epoch.metrics {
        row.set(&format!("{head}{name}"), *value);
    }
}

/// A row an epoch that was completed.
pub(crate) fn epochs(frame: &mut Frame, Exported { plan, all }: Exported) {
    for (run, record) in all.iter().filter_map(|(run, record)| Some((run, record.as_ref()?))) {
        for (place, epoch) in record.epochs.iter().enumerate() {
            let mut row = Row::default();
            row.key(plan, run);
            row.set("epoch", epoch.epoch);
            row.set("steps", epoch.steps);
            row.set("lr", epoch.lr);
            metrics(&mut row, "", epoch);
            row.set_if("seconds", record.timing.get(place).map(Phases::total));
            for (name, value) in &epoch.diagnostics {
                row.set(&format!("diagnostic.{name}"), *value);
            }
            frame.row(row.0);
        }
    }
}

/// A row a comparison and setting: hypotheses first, then what is exploratory. Values are raw: accuracies are shares of 1.
pub(crate) fn comparisons(frame: &mut Frame, plan: &Plan, compared: &Compared) {
    let stated = compared.hypotheses.iter().map(|comparison| ("hypothesis", comparison));
    for (kind, comparison) in stated.chain(compared.exploratory.iter().map(|comparison| ("exploratory", comparison))) {
        of_comparison(frame, plan, kind, comparison);
    }
}

fn of_comparison(frame: &mut Frame, plan: &Plan, kind: &str, comparison: &Comparison) {
    for group in &comparison.groups {
        let mut row = Row::default();
        row.set("experiment", plan.experiment.as_str());
        row.set("scale", plan.scale.as_str());
        row.set("kind", kind);
        row.set_if("name", comparison.name.as_deref());
        row.set("arm", comparison.arm.as_str());
        row.set("against", comparison.baseline.as_str());
        row.axes(&group.axes);
        row.set("metric", comparison.metric.key());
        for (side, summary) in [("arm", &group.arm), ("against", &group.baseline)] {
            row.set_if(&format!("{side}_mean"), summary.mean);
            row.set_if(&format!("{side}_std"), summary.std);
            row.set(&format!("{side}_runs"), summary.values.len());
            row.set(&format!("{side}_diverged"), summary.diverged.len());
        }
        if let Some(difference) = &group.difference {
            row.set("pairs", difference.values.len());
            row.set("difference", difference.mean);
            row.set_if("difference_std", difference.std);
            row.set_if("interval_low", difference.interval.as_ref().map(|interval| interval.low));
            row.set_if("interval_high", difference.interval.as_ref().map(|interval| interval.high));
            row.set("p", difference.test.p);
            row.set("p_holm", difference.p_holm);
            row.set("smallest_p", difference.smallest_p);
            row.set("family", comparison.family);
        }
        row.set_if("warnings", (!group.warnings.is_empty()).then(|| group.warnings.join("; ")));
        frame.row(row.0);
    }
}
