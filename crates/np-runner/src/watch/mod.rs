//! A sweep as it goes on, for `np watch`: read from the store's records, locks and snapshots, like `np status`, so that anybody can look on, whoever trains.

mod draw;
mod seen;

use std::time::Duration;

use np_record::{Epoch, Plan, PlannedRun, Record, Store, compare::Metric, stats};
use serde_json::Value;

use crate::{
    error::Result,
    keeper::Keeper,
    launch::slurm::Queue,
    status::{State, status_of, totals},
    summary::{Costs, axis_names, axis_values},
    task::known,
};

pub(crate) use draw::draw;
pub(crate) use seen::Seen;

/// The numbers that can be looked at, in the order in which a key goes through them.
const METRICS: [Metric; 4] =
    [Metric::FinalTestAccuracy, Metric::FinalTestLoss, Metric::FinalTrainAccuracy, Metric::FinalTrainLoss];

/// What is seen at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Experiment and scale.
    pub(crate) title: String,
    /// `6 runs: 4 done, 2 running`
    pub(crate) totals: String,
    /// Share of the epochs of all runs that is kept, 0 to 1; runs that diverged or failed count as whole.
    pub(crate) share: f64,
    /// How long the rest takes with as many runs at a time as now; `None` if nothing runs, or if nobody knows.
    pub(crate) left: Option<Duration>,
    /// Whether every run is done, diverged or failed.
    pub(crate) is_over: bool,
    /// Arms at each value of their axes.
    pub(crate) groups: Vec<Group>,
    /// Runs under way: what they are, epochs that are kept, epochs that they are to have.
    pub(crate) running: Vec<(String, usize, usize)>,
}

/// The runs of an arm at the same values of its axes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    /// Arm and values.
    pub(crate) name: String,
    /// How many runs it has.
    pub(crate) of: usize,
    /// How many of them are done.
    pub(crate) done: usize,
    /// How many are under way.
    pub(crate) running: usize,
    /// How many diverged or failed.
    pub(crate) lost: usize,
    /// A curve a run that has an epoch, by seed.
    pub(crate) curves: Vec<(u64, Vec<Epoch>)>,
}

impl View {
    /// The numbers that its runs have, of [`METRICS`] and of the program's own tasks; all of [`METRICS`] before any run has an epoch.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let epochs: Vec<&Epoch> =
            self.groups.iter().flat_map(|group| &group.curves).flat_map(|(_, epochs)| epochs).collect();
        if epochs.is_empty() {
            return METRICS.to_vec();
        }
        let own = known().metrics().into_iter().map(Metric::FinalOwn);
        let all = METRICS.into_iter().chain(own);
        all.filter(|metric| epochs.iter().any(|epoch| metric.of_epoch(epoch).is_some())).collect()
    }
}

impl Group {
    /// The value of every run's last epoch that has one.
    pub(crate) fn last(&self, metric: Metric) -> Vec<f64> {
        let last = |(_, epochs): &(u64, Vec<Epoch>)| epochs.iter().rev().find_map(|epoch| metric.of_epoch(epoch));
        self.curves.iter().filter_map(last).filter(|value| value.is_finite()).collect()
    }

    /// The mean over the runs, of every epoch that all of them have.
    pub(crate) fn mean(&self, metric: Metric) -> Vec<(f64, f64)> {
        let shortest = self.curves.iter().map(|(_, epochs)| epochs.len()).min().unwrap_or(0);
        let at = |place: usize| {
            let values: Vec<f64> =
                self.curves.iter().filter_map(|(_, epochs)| metric.of_epoch(&epochs[place])).collect();
            stats::mean(&values).filter(|mean| mean.is_finite()).map(|mean| ((place + 1) as f64, mean))
        };
        (0..shortest).filter_map(at).collect()
    }
}

/// What a store says of a plan now; records that were seen before are read again only where their files have changed.
///
/// # Errors
/// Those of reading records and locks.
pub(crate) fn view(plan: &Plan, store: &Store, queue: Option<&Queue>, seen: &mut Seen) -> Result<View> {
    let runs = seen.records_of(plan, store);
    let rows = status_of(plan, store, queue, runs.clone())?;
    let axes = axis_names(runs.iter().map(|(run, _)| run));
    let costs = Costs::of(store, &runs)?;
    let (mut groups, mut running) = (Vec::<Group>::new(), Vec::new());
    let (mut kept, mut all, mut seconds) = (0.0, 0.0, Some(0.0));
    for ((run, record), row) in runs.iter().zip(&rows) {
        let epochs = epochs_of(store, run, record.as_ref());
        let of = run.config.pointer("/train/epochs").and_then(Value::as_u64).unwrap_or(0).max(1) as f64;
        let is_over = matches!(row.state, State::Done | State::Diverged | State::Failed);
        let share = if is_over { 1.0 } else { (epochs.len() as f64 / of).min(1.0) };
        (kept, all) = (kept + share * of, all + of);
        if !is_over {
            let whole = record_examples(&runs, run).and_then(|examples| costs.of_run(run, examples));
            seconds = seconds.zip(whole).map(|(sum, whole)| sum + (1.0 - share) * whole);
        }
        let name = [vec![run.arm.clone()], axis_values(&axes, run)].concat().join(" · ");
        if row.state == State::Running {
            running.push((format!("{name} · seed {}", run.seed), epochs.len(), of as usize));
        }
        let place = groups.iter().position(|group| group.name == name).unwrap_or_else(|| {
            groups.push(Group { name, of: 0, done: 0, running: 0, lost: 0, curves: Vec::new() });
            groups.len() - 1
        });
        let group = &mut groups[place];
        group.of += 1;
        match row.state {
            State::Done => group.done += 1,
            State::Running => group.running += 1,
            State::Diverged | State::Failed => group.lost += 1,
            State::Queued | State::Interrupted | State::Missing => {}
        }
        if !epochs.is_empty() {
            group.curves.push((run.seed, epochs));
        }
    }
    let is_over = rows.iter().all(|row| matches!(row.state, State::Done | State::Diverged | State::Failed));
    let left = seconds.filter(|_| !running.is_empty()).map(|seconds| seconds / running.len() as f64);
    Ok(View {
        title: format!("{} ({})", plan.experiment, plan.scale),
        totals: totals(&rows),
        share: if all > 0.0 { kept / all } else { 1.0 },
        left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
        is_over,
        groups,
        running,
    })
}

/// The epochs of a run: of its record, or else of its last snapshot.
fn epochs_of(store: &Store, run: &PlannedRun, record: Option<&Record>) -> Vec<Epoch> {
    match record.filter(|record| record.is_done()) {
        Some(record) => record.epochs.clone(),
        None => Keeper::kept_epochs(store, &run.id).unwrap_or_default(),
    }
}

/// How many examples a run trains on: as many as one on the same data and share that has a record.
fn record_examples(runs: &[(PlannedRun, Option<Record>)], run: &PlannedRun) -> Option<usize> {
    let data = |run: &PlannedRun| [run.config.get("data"), run.config.get("task")].map(Option::<&Value>::cloned);
    let same = |(other, record): &(PlannedRun, Option<Record>)| {
        record
            .as_ref()
            .filter(|record| record.is_done() && data(other) == data(run))
            .map(|record| record.data.train_examples)
    };
    runs.iter().find_map(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(epoch: usize, accuracy: f64) -> Epoch {
        Epoch {
            epoch,
            steps: epoch,
            lr: 0.1,
            train_loss: 1.0,
            train_accuracy: Some(accuracy),
            test_loss: Some(1.0),
            test_accuracy: Some(accuracy),
            validation: None,
            metrics: std::collections::BTreeMap::new(),
            diagnostics: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_mean_goes_as_far_as_every_run_has_come() {
        let curves = vec![(1, vec![epoch(1, 0.25), epoch(2, 0.75)]), (2, vec![epoch(1, 0.75)])];
        let group = Group { name: "a".into(), of: 3, done: 1, running: 1, lost: 0, curves };
        assert_eq!(group.mean(Metric::FinalTestAccuracy), [(1.0, 0.5)]);
        assert_eq!(group.last(Metric::FinalTestAccuracy), [0.75, 0.75]);
        let none = Group { curves: Vec::new(), ..group };
        assert!(none.mean(Metric::FinalTestAccuracy).is_empty());
    }
}
