//! Tables that only a page has: what every arm reached, all comparisons in one, what did not finish, the runs of an arm.

use std::collections::BTreeMap;

use np_record::{
    Cell, Column, Outcome, Phases, PlannedRun, Record, Table,
    compare::{Comparison, Family, Measure, Metric},
    select::Runs,
    stats,
};
use serde_json::Value;

/// Runs that differ by nothing but their seed, in the plan's order.
pub(super) type Group<'a> = Vec<&'a (PlannedRun, Option<Record>)>;

/// Groups of runs by arm and axes.
pub(super) fn groups(runs: &Runs) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for run in runs {
        let same = |group: &&mut Group<'_>| (&group[0].0.arm, &group[0].0.axes) == (&run.0.arm, &run.0.axes);
        match groups.iter_mut().find(same) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}

/// The axes that any run has, in order.
pub(super) fn axes(runs: &Runs) -> Vec<&String> {
    let mut axes: Vec<&String> = runs.iter().flat_map(|(run, _)| run.axes.keys()).collect();
    axes.sort();
    axes.dedup();
    axes
}

/// What every arm reached on every problem, over the runs that finished; by the outcome first, where one was fixed beforehand.
pub(super) fn results(runs: &Runs, outcome: Option<Measure>) -> Table {
    let axes = axes(runs);
    let mut columns: Vec<Column> = axes.iter().map(|axis| Column::name(axis, axis)).collect();
    columns.push(Column::name("arm", "arm"));
    let others = [
        (Metric::FinalTestAccuracy, "test accuracy %"),
        (Metric::FinalTestLoss, "test loss"),
        (Metric::FinalTrainLoss, "training loss"),
    ];
    let others = || others.into_iter().filter(|(metric, _)| metric.is_measured(runs));
    let last = Metric::FinalTestAccuracy.into();
    let outcome = outcome.filter(|outcome| *outcome != last);
    columns.extend(outcome.map(|outcome| Column::number(&outcome.titled(), &outcome.titled())));
    let mut measures: Vec<Measure> = outcome.into_iter().chain(others().map(|(metric, _)| metric.into())).collect();
    let timed = alone(runs.iter().filter_map(|(_, record)| record.as_ref()));
    columns.extend(others().map(|(_, title)| Column::number(title, title)));
    if timed {
        measures.push(Metric::TrainingTime.into());
        columns.push(Column::number("seconds", "seconds"));
    }
    columns.push(Column::number("finished", "finished"));
    let rows = groups(runs).into_iter().map(|group| {
        let mut row: Vec<Cell> = axes.iter().map(|axis| Cell::axis(group[0].0.axes.get(*axis))).collect();
        let finished: Vec<&Record> =
            group.iter().filter_map(|(_, record)| record.as_ref().filter(|r| r.outcome == Outcome::Finished)).collect();
        let spread = |metric: &Measure| {
            let values: Vec<f64> = finished.iter().filter_map(|record| metric.of(record)).collect();
            let text = match (stats::mean(&values), stats::sample_std(&values)) {
                (Some(mean), Some(std)) => format!("{} ± {}", metric.text(mean), metric.text(std)),
                (Some(mean), None) => metric.text(mean),
                _ => "–".into(),
            };
            Cell::printed(text)
        };
        row.push(Cell::name(&*group[0].0.arm));
        row.extend(measures.iter().map(spread));
        row.push(Cell::printed(format!("{} of {}", finished.len(), group.len())));
        row
    });
    let rows = rows.collect();
    let but = if outcome.is_some() { ", but for the first number" } else { "" };
    let seconds = if timed { "seconds of all phases" } else { "no times, since runs shared the machine" };
    let notes = vec![format!("after the last epoch{but}; mean ± sample standard deviation over seeds; {seconds}")];
    Table { title: "what every arm reached".into(), columns, rows, notes }
}

/// Whether each run had the machine for itself, so that its times say something: by the command that it was trained by.
fn alone<'a>(mut records: impl Iterator<Item = &'a Record>) -> bool {
    records.all(|record| {
        let words: Vec<&str> = record.provenance.command.split_whitespace().collect();
        record.provenance.machine.cores == 1
            || words.contains(&"--jobs=1")
            || words.windows(2).any(|pair| pair == ["--jobs", "1"])
    })
}

/// Comparisons of one arm with others in a table, a row a problem and other arm; notes that several share are said once.
pub(super) fn comparisons(parts: &[Comparison]) -> Table {
    let mut tables: Vec<Table> = parts.iter().map(Comparison::table).collect();
    // Arms may have axes of their own: each table gets a column for every axis of any.
    let mut names: Vec<&String> = parts.iter().flat_map(|part| &part.groups).flat_map(|g| g.axes.keys()).collect();
    names.sort();
    names.dedup();
    for (part, table) in parts.iter().zip(&mut tables) {
        for (place, name) in names.iter().enumerate() {
            if !part.groups.iter().any(|group| group.axes.contains_key(*name)) {
                table.columns.insert(place, Column::name(name, name));
                table.rows.iter_mut().for_each(|row| row.insert(place, Cell::axis(None)));
            }
        }
    }
    let Some(first) = tables.first() else { return Table::default() };
    let axes = names.len();
    let mut columns = first.columns.clone();
    columns.splice(axes + 1..axes + 2, [Column::name("against", "against"), Column::number("that arm", "baseline")]);
    // An interval of few differences is called a range; where only some are, all are.
    if let Some(range) = tables.iter().flat_map(|table| &table.columns).find(|column| column.title == "bootstrap range")
    {
        columns[axes + 5].title.clone_from(&range.title);
    }
    // Names first, so that a row can be read from its head.
    let against = columns.remove(axes + 1);
    columns.insert(axes, against);
    let mut rows = Vec::new();
    let mut notes: Vec<String> = Vec::new();
    let several = parts.iter().any(|part| part.arm != parts[0].arm);
    let of = |part: &Comparison| if several { format!("`{}` ", part.arm) } else { String::new() };
    for (part, table) in parts.iter().zip(&tables) {
        for row in &table.rows {
            let mut row = row.clone();
            row.insert(axes, Cell::name(&*part.baseline));
            rows.push(row);
        }
        for note in &table.notes {
            let everywhere = tables.iter().all(|other| other.notes.contains(note));
            let own = note.strip_prefix("warning: ").map_or_else(
                || note.clone(),
                |warning| format!("warning: {}against `{}`: {warning}", of(part), part.baseline),
            );
            let note = if everywhere { note.clone() } else { own };
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
    }
    // Warnings before the rest.
    notes.sort_by_key(|note| !note.starts_with("warning: "));
    let (metric, arm) = (parts[0].metric, &parts[0].arm);
    let better = if metric.higher_is_better() { "more is better" } else { "less is better" };
    let mut who = format!("`{arm}` against the others");
    if several || parts[0].family_of == Family::Hypotheses {
        // Pairs of their own: the arm has a column, and what is said of the pair.
        columns[axes + 1].title = "the arm".into();
        columns.insert(axes, Column::name("arm", "arm"));
        let arms = parts.iter().zip(&tables).flat_map(|(part, table)| table.rows.iter().map(|_| &part.arm));
        rows.iter_mut().zip(arms).for_each(|(row, arm)| row.insert(axes, Cell::name(&**arm)));
        let named =
            |part: &Comparison| Some(format!("`{}` against `{}`: {}", part.arm, part.baseline, part.name.as_ref()?));
        notes.splice(0..0, parts.iter().filter_map(named));
        who = "pairs of arms".into();
    }
    let unit = if metric.unit().is_empty() { String::new() } else { format!("{}, ", metric.unit()) };
    let title = format!("{} ({unit}{better}): {who}, paired by seed", metric.title());
    Table { title, columns, rows, notes }
}

/// Runs that did not finish, each with what is known of why; `None` where all did.
pub(super) fn unfinished(runs: &Runs) -> Option<Table> {
    let columns = ["run", "arm", "at", "seed", "what happened"].map(|title| Column::name(title, title)).to_vec();
    let rows: Vec<Vec<Cell>> = runs
        .iter()
        .filter_map(|(run, record)| {
            let what = match record.as_ref().map(|record| &record.outcome) {
                Some(Outcome::Finished) => return None,
                Some(Outcome::Diverged { epoch, step }) => format!("diverged in epoch {epoch}, at step {step}"),
                Some(Outcome::Failed { reason }) => format!("failed: {reason}"),
                None => "no record: not trained yet, or under way".into(),
            };
            Some(
                [run.id.clone(), run.arm.clone(), settings(&run.axes), run.seed.to_string(), what]
                    .map(Cell::name)
                    .to_vec(),
            )
        })
        .collect();
    let notes = vec!["a run that diverged is a result; `np run` tries one that failed or is missing again".into()];
    (!rows.is_empty()).then(|| Table { title: "runs that did not finish".into(), columns, rows, notes })
}

/// `data.name = mnist, data.fraction = 0.1`
pub(super) fn settings(axes: &BTreeMap<String, Value>) -> String {
    let setting = |(axis, value): (&String, &Value)| format!("{axis} = {}", Cell::axis(Some(value)).text);
    axes.iter().map(setting).collect::<Vec<_>>().join(", ")
}

/// How a group's records were made: what all of them share, and a table of the rest.
pub(super) fn provenance(group: &Group<'_>) -> (Vec<(String, String)>, Table) {
    let records: Vec<(&PlannedRun, &Record)> =
        group.iter().filter_map(|(run, record)| Some((run, record.as_ref()?))).collect();
    let facts: Vec<Vec<(String, String)>> = records.iter().map(|(_, record)| facts(record)).collect();
    let mut keys: Vec<&String> = facts.iter().flatten().map(|(key, _)| key).collect();
    let mut seen = std::collections::BTreeSet::new();
    keys.retain(|key| seen.insert(*key));
    let value = |facts: &[(String, String)], key: &str| {
        facts.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let shared = |key: &&String| facts.iter().all(|of| value(of, key) == value(&facts[0], key));
    let (common, own): (Vec<&String>, Vec<&String>) = keys.into_iter().partition(shared);
    let common = common.into_iter().map(|key| (key.clone(), value(&facts[0], key))).collect();

    let mut columns =
        vec![Column::name("seed", "seed"), Column::name("run", "run"), Column::name("outcome", "outcome")];
    let timed = alone(records.iter().map(|(_, record)| *record));
    let accuracy = Metric::FinalTestAccuracy;
    let epochs = || records.iter().flat_map(|(_, record)| &record.epochs);
    let has_accuracy = epochs().next().is_none() || epochs().any(|epoch| epoch.test_accuracy.is_some());
    let (first, title) =
        if has_accuracy { (accuracy, "test accuracy %") } else { (Metric::FinalTestLoss, "test loss") };
    columns.extend([title, "training loss"].map(|title| Column::number(title, title)));
    columns.extend(timed.then(|| Column::number("seconds", "seconds")));
    columns.extend(own.iter().map(|key| Column::name(key, key)));
    let rows = records.iter().zip(&facts).map(|((run, record), facts)| {
        let seconds: f64 = record.timing.iter().map(Phases::total).sum();
        let last =
            |metric: Metric| Cell::printed(metric.of(record).map_or_else(|| "–".into(), |value| metric.text(value)));
        let outcome = match record.outcome {
            Outcome::Finished => "finished",
            Outcome::Diverged { .. } => "diverged",
            Outcome::Failed { .. } => "failed",
        };
        let mut row = vec![Cell::name(run.seed.to_string()), Cell::name(&*run.id), Cell::name(outcome)];
        row.extend([last(first), last(Metric::FinalTrainLoss)]);
        row.extend(timed.then(|| Cell::printed(format!("{seconds:.1}"))));
        row.extend(own.iter().map(|key| Cell::name(value(facts, key))));
        row
    });
    let rows = rows.collect();
    (common, Table { title: "runs by seed".into(), columns, rows, notes: Vec::new() })
}

/// Everything that a record says of its making, by dotted path, so that nothing that records learn to say is left out here.
fn facts(record: &Record) -> Vec<(String, String)> {
    let mut facts = vec![
        ("model".to_owned(), format!("{}, {} parameters", record.model.title, record.model.parameters)),
        (
            "data".to_owned(),
            format!(
                "{}, {} training and {} test examples",
                record.data.title, record.data.train_examples, record.data.test_examples
            ),
        ),
        ("data digest".to_owned(), record.data.digest.clone()),
        ("result digest".to_owned(), record.result_sha256[..16.min(record.result_sha256.len())].to_owned()),
    ];
    flatten("", &serde_json::to_value(&record.provenance).unwrap_or_default(), &mut facts);
    facts
}

fn flatten(path: &str, value: &Value, facts: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, facts);
            }
        }
        Value::Null => {}
        value => facts.push((path.to_owned(), Cell::axis(Some(value)).text)),
    }
}
