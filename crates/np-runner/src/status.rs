//! How it is with every run of a plan: from its record, its lock, its snapshot, and Slurm's queue where there is one. Nothing is written.

use std::{collections::BTreeMap, fmt};

use np_record::{Outcome, Plan, Reading, Store, compare::Format, select::Runs};
use serde::Serialize;
use serde_json::Value;

use crate::{
    error::Result,
    keeper::Keeper,
    launch::slurm::{self, Queue, TaskState},
    lock::Lock,
    say::say_refused,
    table::render as render_table,
};

/// How it is with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It finished every epoch.
    Done,
    /// It diverged, which is a result.
    Diverged,
    /// Its record says why there is no result.
    Failed,
    /// A process trains it.
    Running,
    /// It waits in a queue.
    Queued,
    /// Nobody has it, but a snapshot of it is kept.
    Interrupted,
    /// Nobody has it, and nothing of it is kept.
    Missing,
}

/// A run, and how it is with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    experiment: String,
    scale: String,
    id: String,
    arm: String,
    axes: BTreeMap<String, Value>,
    seed: u64,
    pub(crate) state: State,
    /// Epochs that are kept: in its record, or else in its last snapshot.
    epochs: Option<usize>,
    /// Epochs that it is to have.
    of: Option<u64>,
    /// Its task in Slurm's queue, which is the name of its log too.
    task: Option<String>,
    /// Why it failed, waits, or ended early.
    why: Option<String>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
            Self::Running => "running",
            Self::Queued => "queued",
            Self::Interrupted => "interrupted",
            Self::Missing => "missing",
        })
    }
}

/// Every run of a plan, in the plan's order.
///
/// # Errors
/// Those of reading records and locks.
pub(crate) fn status(plan: &Plan, store: &Store, queue: Option<&Queue>) -> Result<Vec<Row>> {
    let Reading { runs, refused } = store.records_of(plan);
    say_refused(&refused);
    status_of(plan, store, queue, runs)
}

/// The same of a plan's runs with their records, which have been read.
///
/// # Errors
/// Those of reading locks.
pub(crate) fn status_of(plan: &Plan, store: &Store, queue: Option<&Queue>, runs: Runs) -> Result<Vec<Row>> {
    let row = |(run, record): (np_record::PlannedRun, Option<np_record::Record>)| {
        let task = queue.and_then(|queue| queue.task(&run.id));
        let name = task.map(|task| format!("{}_{}", task.array, task.place));
        let done = record.as_ref().is_some_and(np_record::Record::is_done);
        let kept = match &record {
            Some(record) if done => Some(record.epochs.len()),
            _ => Keeper::kept(store, &run.id),
        };
        let (state, why) = match (record.map(|record| record.outcome), task.map(|task| task.state)) {
            (Some(Outcome::Finished), _) => (State::Done, None),
            (Some(Outcome::Diverged { epoch, step }), _) => {
                (State::Diverged, Some(format!("at step {step}, in epoch {epoch}")))
            }
            (_, Some(TaskState::Running)) => (State::Running, None),
            _ if Lock::is_held(store, &run.id)? => (State::Running, None),
            (_, Some(TaskState::Waiting)) => {
                (State::Queued, task.map(|task| task.reason.clone()).filter(|why| why != "None"))
            }
            (Some(Outcome::Failed { reason }), None) => (State::Failed, Some(reason)),
            (None, None) => {
                let crash = slurm::crash(store, &plan.experiment, &run.id);
                let state = if kept.is_some() { State::Interrupted } else { State::Missing };
                (state, crash.map(|crash| format!("ended early: {crash}")))
            }
        };
        Ok(Row {
            experiment: plan.experiment.clone(),
            scale: plan.scale.clone(),
            epochs: kept,
            of: run.config.pointer("/train/epochs").and_then(Value::as_u64),
            id: run.id,
            arm: run.arm,
            axes: run.axes,
            seed: run.seed,
            state,
            task: name.filter(|_| !done),
            why,
        })
    };
    runs.into_iter().map(row).collect()
}

/// `6 runs: 4 done, 1 queued, 1 missing`
pub(crate) fn totals(rows: &[Row]) -> String {
    let mut counts: BTreeMap<State, usize> = BTreeMap::new();
    for row in rows {
        *counts.entry(row.state).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {state}")).collect();
    format!("{}: {}", crate::say::count(rows.len(), "run"), counts.join(", "))
}

/// A column's name, whether it is shown, and its cell of a row.
type Column<'a> = (&'a str, bool, &'a dyn Fn(&Row) -> String);

/// The rows as text. What no row has gets no column, but in CSV.
pub(crate) fn render(rows: &[Row], format: Format) -> String {
    if format == Format::Json {
        return np_record::visible_json(&serde_json::to_string_pretty(rows).unwrap_or_default()) + "\n";
    }
    let raw = format == Format::Csv;
    let several =
        rows.windows(2).any(|pair| pair[0].experiment != pair[1].experiment || pair[0].scale != pair[1].scale);
    let axes = |row: &Row| row.axes.values().map(np_record::words).collect::<Vec<_>>().join(" · ");
    // As `np plan` heads them, where all that have any have the same.
    let mut named = rows.iter().filter(|row| !row.axes.is_empty()).map(|row| row.axes.keys().collect::<Vec<_>>());
    let first = named.next().filter(|first| !raw && named.all(|other| other == *first));
    let axis_names = first.map(|keys| keys.into_iter().map(String::as_str).collect::<Vec<_>>().join(" · "));
    let epochs = |row: &Row| match (row.epochs, row.of) {
        (Some(epochs), Some(of)) => format!("{epochs}/{of}"),
        _ => String::new(),
    };
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    // A failure's reason may have lines, and end with a full stop of somebody else's.
    let why = |row: &Row| row.why.as_deref().unwrap_or_default().lines().next().unwrap_or_default().to_owned();
    let columns: [Column<'_>; 11] = [
        ("experiment", raw || several, &|row| row.experiment.clone()),
        ("scale", raw || several, &|row| row.scale.clone()),
        ("id", true, &|row| row.id.clone()),
        ("arm", true, &|row| row.arm.clone()),
        (axis_names.as_deref().unwrap_or("axes"), raw || rows.iter().any(|row| !row.axes.is_empty()), &axes),
        ("seed", true, &|row| row.seed.to_string()),
        ("state", true, &|row| row.state.to_string()),
        ("epochs", true, &|row| if raw { number(row.epochs.map(|n| n as u64)) } else { epochs(row) }),
        ("of", raw, &|row| number(row.of)),
        ("task", raw || rows.iter().any(|row| row.task.is_some()), &|row| row.task.clone().unwrap_or_default()),
        ("why", raw || rows.iter().any(|row| row.why.is_some()), &why),
    ];
    let shown: Vec<_> = columns.iter().filter(|(_, shown, _)| *shown).collect();
    let header: Vec<&str> = shown.iter().map(|(name, ..)| *name).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(|row| shown.iter().map(|(.., cell)| cell(row)).collect()).collect();
    render_table(&header, &["seed", "epochs", "of"], &cells, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(state: State) -> Row {
        Row {
            experiment: "tiny".into(),
            scale: "quick".into(),
            id: "ab".into(),
            arm: "sgd".into(),
            axes: BTreeMap::new(),
            seed: 1,
            state,
            epochs: None,
            of: Some(4),
            task: None,
            why: None,
        }
    }

    #[test]
    fn what_no_row_has_gets_no_column_but_in_csv() {
        let running = Row { epochs: Some(2), task: Some("7_0".into()), ..row(State::Running) };
        let rows = [row(State::Missing), running];
        let text = render(&rows, Format::Text);
        assert_eq!(text.lines().next().unwrap(), "id  arm  seed  state    epochs  task");
        assert_eq!(text.lines().last().unwrap(), "ab  sgd     1  running     2/4  7_0");
        let csv = render(&rows, Format::Csv);
        assert_eq!(csv.lines().next().unwrap(), "experiment,scale,id,arm,axes,seed,state,epochs,of,task,why");
        assert_eq!(csv.lines().last().unwrap(), "tiny,quick,ab,sgd,,1,running,2,4,7_0,");
        let json: Value = serde_json::from_str(&render(&rows, Format::Json)).unwrap();
        assert_eq!((&json[1]["state"], &json[1]["epochs"]), (&"running".into(), &2.into()));
        let on = |axes: Value| Row { axes: serde_json::from_value(axes).unwrap(), ..row(State::Done) };
        let (one, two) =
            (on(serde_json::json!({"optimizer.lr": 0.1})), on(serde_json::json!({"b": 1, "optimizer.lr": 0.1})));
        let head = |rows: &[Row], format| render(rows, format).lines().next().unwrap().to_owned();
        assert!(head(&[row(State::Done), one.clone()], Format::Text).starts_with("id  arm  optimizer.lr  seed"));
        assert!(head(std::slice::from_ref(&two), Format::Text).starts_with("id  arm  b · optimizer.lr  seed"));
        assert!(head(&[one.clone(), two], Format::Text).starts_with("id  arm  axes  "));
        assert!(head(&[one], Format::Csv).contains(",axes,"));
        let other = Row { experiment: "other".into(), ..row(State::Done) };
        assert!(render(&[row(State::Done), other], Format::Text).starts_with("experiment"));
    }

    #[test]
    fn totals_leave_out_what_there_is_none_of() {
        let rows = [row(State::Missing), row(State::Done), row(State::Done)];
        assert_eq!(totals(&rows), "3 runs: 2 done, 1 missing");
    }
}
