//! What a plan's records say in brief: the table at the end of a sweep, and what the rest would cost.

use std::collections::{BTreeMap, BTreeSet};

use np_record::{
    Outcome, Plan, PlannedRun, Record, Store,
    compare::{Measure, Metric},
    stats, words,
};
use serde_json::Value;

use crate::{error::Result, table::table};

/// Mean ± standard deviation over seeds of the final test accuracy and training loss, by arm and axes; of runs without an accuracy, of the outcome
/// or the test loss instead.
///
/// A damaged record is none.
#[must_use]
pub fn results(plan: &Plan, store: &Store) -> String {
    let mut groups: Vec<(Vec<String>, Vec<Option<Record>>)> = Vec::new();
    let axes = axis_names(plan.runs.iter());
    let runs = store.records_of(plan).runs;
    let accuracy = Metric::FinalTestAccuracy;
    let shown = if accuracy.is_measured(&runs) { accuracy.into() } else { Measure::usual(plan, &runs) };
    for (run, record) in runs {
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
                .filter(|record| record.outcome == Outcome::Finished && record.last().is_some())
                .collect();
            let (scale, decimals) = if shown.unit() == "%" { (100.0, 2) } else { (1.0, 4) };
            let value = |record: &&Record| Some(shown.of(record)? * scale);
            let first: Vec<f64> = finished.iter().filter_map(value).collect();
            let loss: Vec<f64> = finished.iter().filter_map(|record| Some(record.last()?.train_loss)).collect();
            row.extend([spread(&first, decimals), spread(&loss, 4), finished.len().to_string(), remarks(&records)]);
            row
        })
        .collect();
    let title = if shown == accuracy.into() { "test accuracy %".to_owned() } else { shown.title() };
    let tail = [title.as_str(), "training loss", "n", ""];
    let header: Vec<&str> = ["arm"].into_iter().chain(axes.iter().map(String::as_str)).chain(tail).collect();
    table(&header, &tail[..3], &rows)
}

/// The axes that any run has, in order; arms may have some of their own.
pub(crate) fn axis_names<'a>(runs: impl IntoIterator<Item = &'a PlannedRun>) -> Vec<String> {
    runs.into_iter().flat_map(|run| run.axes.keys().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// A run's values of these axes, as they are printed.
pub(crate) fn axis_values(names: &[String], run: &PlannedRun) -> Vec<String> {
    names.iter().map(|name| run.axes.get(name).map_or_else(|| "–".to_owned(), words)).collect()
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
    /// By what decides the pace: model, batch size, kind of optimizer, and device.
    known: BTreeMap<String, Vec<f64>>,
}

impl Costs {
    /// The pace of a plan's runs, from their own records; where there is none of the like of one, some other records of the store are looked at, so
    /// many at most that a large store takes no longer than a small one. What cannot be read is left out: an estimate is no reason to refuse anything.
    ///
    /// # Errors
    /// Those of listing the store.
    pub fn of(store: &Store, runs: &[(PlannedRun, Option<Record>)]) -> Result<Self> {
        let mut costs = Self::default();
        runs.iter().filter_map(|(_, record)| record.as_ref()).for_each(|record| costs.add(record));
        let unknown = |costs: &Self| runs.iter().any(|(run, _)| !costs.known.contains_key(&pace_key(&run.config)));
        if unknown(&costs) {
            for id in store.some_ids(OTHERS)? {
                if let Ok(Some(record)) = store.read_record(&id) {
                    costs.add(&record);
                }
            }
        }
        Ok(costs)
    }

    fn add(&mut self, record: &Record) {
        let passes = (record.timing.len() * record.data.train_examples) as f64;
        let seconds: f64 = record.timing.iter().map(np_record::Phases::total).sum();
        if passes > 0.0 {
            self.known.entry(pace_key(&record.config)).or_default().push(seconds / passes);
        }
    }

    /// Estimated seconds of a run over so many training examples; `None` without a record of its kind.
    #[must_use]
    pub fn of_run(&self, run: &PlannedRun, examples: usize) -> Option<f64> {
        let epochs = run.config.pointer("/train/epochs")?.as_f64()?;
        let pace = stats::mean(self.known.get(&pace_key(&run.config))?)?;
        Some(pace * epochs * examples as f64)
    }
}

/// Records of other plans that an estimate may look at.
const OTHERS: usize = 64;

fn pace_key(config: &Value) -> String {
    let part = |pointer| config.pointer(pointer).map(Value::to_string).unwrap_or_default();
    let kind = config.get("optimizer").and_then(Value::as_object).and_then(|map| map.keys().next().cloned());
    let device = part("/train/device") + &part("/train/precision");
    format!("{}{} {} {} {device}", part("/task"), part("/model"), part("/train/batch_size"), kind.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use np_record::{PlannedRun, Provenance};
    use serde_json::json;

    use super::*;
    use crate::worker::failed;

    #[test]
    fn an_estimate_reads_no_more_records_than_it_needs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let run = |optimizer: &str, seed: u64| {
            let config = json!({"optimizer": {optimizer: {}}, "train": {"epochs": 1}, "seed": seed});
            let (id, arm) = (PlannedRun::id_of(&config, "d"), optimizer.to_owned());
            PlannedRun { id, arm, seed, axes: BTreeMap::new(), config, data_digest: "d".into() }
        };
        let record = |run: &PlannedRun| {
            let provenance: Provenance = serde_json::from_value(json!({
                "machine": {"cpu": "", "cores": 1, "os": ""}, "threads": 1, "commit": null, "dirty": null, "versions": {}, "command": "",
                "started": "",
            }))
            .unwrap();
            let mut record = failed(run, String::new(), provenance);
            record.data.train_examples = 10;
            record.timing = vec![np_record::Phases { forward: 5.0, ..Default::default() }];
            store.write_record(&record).unwrap();
            record
        };
        for seed in 0..300 {
            record(&run("sgd", seed));
        }
        let read = |runs: &[(PlannedRun, Option<Record>)]| {
            let costs = Costs::of(&store, runs).unwrap();
            (costs.known.values().map(Vec::len).sum::<usize>(), costs.of_run(&runs[0].0, 20))
        };
        let (own, none) = (run("sgd", 1), run("adam", 1));
        assert_eq!(read(&[(own.clone(), Some(record(&own)))]), (1, Some(10.0)), "its own record alone");
        assert_eq!(read(&[(own, None)]), (OTHERS, Some(10.0)), "some of the 300");
        assert_eq!(read(&[(none, None)]), (OTHERS, None));
    }
}
