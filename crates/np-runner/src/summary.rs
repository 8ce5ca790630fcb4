//! What a plan's records say in brief: the table at the end of a sweep, and what the rest would cost.

use std::collections::{BTreeMap, BTreeSet};

use np_record::{Outcome, Plan, PlannedRun, Record, Store, stats};
use serde_json::Value;

use crate::{error::Result, table::table, worker::plain};

/// Mean ± standard deviation over seeds of the final test accuracy and training loss, by arm and axes.
///
/// # Errors
/// Those of reading records.
pub fn results(plan: &Plan, store: &Store) -> Result<String> {
    let mut groups: Vec<(Vec<String>, Vec<Option<Record>>)> = Vec::new();
    let axes = axis_names(plan.runs.iter());
    for (run, record) in store.records_of(plan)? {
        let mut head = vec![run.arm.clone()];
        head.extend(axis_values(&axes, &run));
        match groups.iter_mut().find(|(other, _)| *other == head) {
            Some((_, records)) => records.push(record),
            None => groups.push((head, vec![record])),
        }
    }
    let rows: Vec<Vec<String>> = groups
        .into_iter()
        .map(|(mut row, records)| {
            let finished: Vec<_> = records
                .iter()
                .flatten()
                .filter(|record| record.outcome == Outcome::Finished)
                .filter_map(Record::last)
                .collect();
            let accuracy: Vec<f64> = finished.iter().map(|last| last.test_accuracy * 100.0).collect();
            let loss: Vec<f64> = finished.iter().map(|last| last.train_loss).collect();
            row.extend([spread(&accuracy, 2), spread(&loss, 4), finished.len().to_string(), remarks(&records)]);
            row
        })
        .collect();
    let tail = ["test accuracy %", "training loss", "n", ""];
    let header: Vec<&str> = ["arm"].into_iter().chain(axes.iter().map(String::as_str)).chain(tail).collect();
    Ok(table(&header, &tail[..3], &rows))
}

/// The axes that any run has, in order; arms may have some of their own.
pub(crate) fn axis_names<'a>(runs: impl IntoIterator<Item = &'a PlannedRun>) -> Vec<String> {
    runs.into_iter().flat_map(|run| run.axes.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A run's values of these axes, as they are printed.
pub(crate) fn axis_values(names: &[String], run: &PlannedRun) -> Vec<String> {
    names.iter().map(|name| run.axes.get(name).map_or_else(|| "–".to_owned(), plain)).collect()
}

/// `87.76 ± 0.34`
fn spread(values: &[f64], decimals: usize) -> String {
    match (stats::mean(values), stats::sample_std(values)) {
        (Some(mean), Some(std)) => format!("{mean:.decimals$} ± {std:.decimals$}"),
        (Some(mean), None) => format!("{mean:.decimals$}"),
        _ => "–".to_owned(),
    }
}

fn remarks(records: &[Option<Record>]) -> String {
    let count = |test: &dyn Fn(&Option<Record>) -> bool| records.iter().filter(|record| test(record)).count();
    let outcome = |record: &Option<Record>| record.as_ref().map(|record| record.outcome.clone());
    let parts = [
        ("diverged", count(&|record| matches!(outcome(record), Some(Outcome::Diverged { .. })))),
        ("failed", count(&|record| matches!(outcome(record), Some(Outcome::Failed { .. })))),
        ("missing", count(&Option::is_none)),
    ];
    let said: Vec<String> = parts.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{n} {what}")).collect();
    said.join(", ")
}

/// Seconds a training example and epoch, as the records of a store show it.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    /// By what decides the pace: model, batch size and kind of optimizer.
    known: BTreeMap<String, Vec<f64>>,
}

impl Costs {
    /// Reads the timings of every record of a store that can be read: an estimate is no reason to refuse anything.
    ///
    /// # Errors
    /// Those of listing the store.
    pub fn of(store: &Store) -> Result<Self> {
        let mut costs = Self::default();
        for id in store.ids()? {
            let Ok(Some(record)) = store.read_record(&id) else { continue };
            let passes = (record.timing.len() * record.data.train_examples) as f64;
            let seconds: f64 = record.timing.iter().map(np_record::Phases::total).sum();
            if passes > 0.0 {
                costs.known.entry(pace_key(&record.config)).or_default().push(seconds / passes);
            }
        }
        Ok(costs)
    }

    /// Estimated seconds of a run over so many training examples; `None` without a record of its kind.
    #[must_use]
    pub fn of_run(&self, run: &PlannedRun, examples: usize) -> Option<f64> {
        let epochs = run.config.pointer("/train/epochs")?.as_f64()?;
        let pace = stats::mean(self.known.get(&pace_key(&run.config))?)?;
        Some(pace * epochs * examples as f64)
    }
}

fn pace_key(config: &Value) -> String {
    let part = |pointer| config.pointer(pointer).map(Value::to_string).unwrap_or_default();
    let kind = config.get("optimizer").and_then(Value::as_object).and_then(|map| map.keys().next().cloned());
    format!("{} {} {}", part("/model"), part("/train/batch_size"), kind.unwrap_or_default())
}
