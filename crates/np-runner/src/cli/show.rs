//! `np show`: one record, readable.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args as ClapArgs;
use np_record::{Outcome, Record, Store};

use super::{print, print_json, short};
use crate::{
    data::described,
    error::{Fault, Place, Result},
    say::{count, say},
    screen::human,
    table::table,
};

/// Show a record: configuration, metrics of every epoch, time, and where it comes from
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// Id of a run, or enough of its beginning
    id: String,
    /// Folder of plans and records [default: every `experiments/records/*` of this folder or one above it, else `records/*` of this one]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print the record as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &Args) -> Result<ExitCode> {
    let (store, record) = find(args)?;
    if args.json {
        print_json(&record)?;
    } else {
        print(&readable(&record))?;
    }
    say!("from `{}`", short(store.root()));
    Ok(ExitCode::SUCCESS)
}

fn find(args: &Args) -> Result<(Store, Record)> {
    let folders = match &args.store {
        Some(folder) => vec![folder.clone()],
        None => stores(),
    };
    let place = || Place::Option(format!("np show {}", args.id));
    if args.id.is_empty() {
        let fault =
            Fault::new(Place::Option("np show \"\"".into()), "expected the id of a run, or its beginning, got nothing");
        return Err(fault.hint("`np plan FILE` lists ids").into());
    }
    let mut found: Vec<(Store, String)> = Vec::new();
    for folder in &folders {
        let store = Store::open(folder)?;
        // A whole id needs no look at the others.
        if store.record_path(&args.id).is_ok_and(|path| path.is_file()) {
            found = vec![(store, args.id.clone())];
            break;
        }
        let ids = store.ids()?.into_iter().filter(|id| id.starts_with(&args.id));
        found.extend(ids.map(|id| (store.clone(), id)));
    }
    found.dedup_by(|a, b| a.1 == b.1);
    match found.as_slice() {
        [(store, id)] => {
            let record = store.read_record(id)?.ok_or_else(|| Fault::new(place(), "the record has gone"))?;
            Ok((store.clone(), described(record)))
        }
        [] => {
            let looked: Vec<String> = folders.iter().map(|folder| format!("`{}`", short(folder))).collect();
            let looked = if looked.is_empty() {
                "no store was found".into()
            } else {
                format!("looked in {}", looked.join(", "))
            };
            let fault = Fault::new(place(), format!("no record has such an id ({looked})"));
            Err(fault.hint("`np plan FILE` lists ids; `--store DIR` names a store").into())
        }
        many => {
            let ids: Vec<String> = many.iter().take(4).map(|(_, id)| format!("`{id}`")).collect();
            let more = if many.len() > 4 { ", …" } else { "" };
            let text = format!("{} records have such an id: {}{more}", many.len(), ids.join(", "));
            Err(Fault::new(place(), text).hint("give more of its digits").into())
        }
    }
}

/// Every store of the project that the current folder is in, or of the experiments beside it.
pub(super) fn stores() -> Vec<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    let project =
        here.ancestors().map(|folder| folder.join("experiments").join("records")).find(|folder| folder.is_dir());
    let home = project.or_else(|| Some(here.join("records")).filter(|folder| folder.is_dir()));
    let entries = home.as_deref().map(Path::read_dir).and_then(std::result::Result::ok).into_iter().flatten();
    let mut stores: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    stores.sort();
    stores
}

fn readable(record: &Record) -> String {
    let mut text = String::new();
    let outcome = match &record.outcome {
        Outcome::Finished => "finished".to_owned(),
        Outcome::Diverged { epoch, step } => format!("diverged at step {step}, in epoch {epoch}"),
        Outcome::Failed { reason } => format!("failed: {reason}"),
    };
    let machine = &record.provenance.machine;
    let commit = match (&record.provenance.commit, record.provenance.dirty) {
        (Some(commit), Some(true)) => format!("{commit}, with uncommitted changes"),
        (Some(commit), _) => commit.clone(),
        (None, _) => "unknown".to_owned(),
    };
    let versions: Vec<String> =
        record.provenance.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    for (name, value) in [
        ("run", record.id.clone()),
        ("outcome", outcome),
        ("model", format!("{}, {} parameters", record.model.title, record.model.parameters)),
        (
            "data",
            format!(
                "{}, {} training and {} test examples",
                record.data.standing.remark(&record.data.title).unwrap_or_else(|| record.data.title.clone()),
                record.data.train_examples,
                record.data.test_examples
            ),
        ),
        ("digest", record.data.digest.clone()),
        ("result", record.result_sha256.clone()),
        ("started", record.provenance.started.clone()),
        ("command", record.provenance.command.clone()),
        (
            "machine",
            format!(
                "{}, {}, {}, on {}",
                machine.cpu,
                count(machine.cores, "core"),
                machine.os,
                count(record.provenance.threads, "thread")
            ),
        ),
        ("gpu", machine.gpu.as_ref().map_or_else(String::new, ToString::to_string)),
        (
            "memory",
            record.provenance.memory_peak_bytes.map_or_else(
                || "not measured".to_owned(),
                |bytes| format!("at most {:.0} MiB", bytes as f64 / f64::from(1 << 20)),
            ),
        ),
        ("commit", commit),
        ("versions", versions.join(", ")),
    ] {
        // Only runs on a GPU have one.
        if (name, value.as_str()) == ("gpu", "") {
            continue;
        }
        // A field is one line, whoever wrote it: what it holds begins no other.
        let _ = writeln!(text, "{name:9}{}", np_record::visible(&value));
    }
    let config = serde_yaml::to_string(&record.config).unwrap_or_default();
    let _ = write!(text, "\n{config}\n");
    let held_out = record.epochs.iter().any(|epoch| epoch.validation.is_some());
    let classified = record.epochs.is_empty() || record.epochs.iter().any(|epoch| epoch.test_accuracy.is_some());
    let percent = |share: Option<f64>| share.map_or_else(|| "–".into(), |share| format!("{:.2}", share * 100.0));
    let own: BTreeSet<&String> = record.epochs.iter().flat_map(|epoch| epoch.metrics.keys()).collect();
    let rows: Vec<Vec<String>> = record
        .epochs
        .iter()
        .zip(&record.timing)
        .map(|(epoch, time)| {
            let mut row = vec![epoch.epoch.to_string(), epoch.steps.to_string(), format!("{:.4}", epoch.train_loss)];
            row.extend(classified.then(|| percent(epoch.train_accuracy)));
            // Held-out examples, where the run has any.
            if held_out {
                let score = epoch.validation;
                row.push(score.map_or_else(|| "–".into(), |score| format!("{:.4}", score.loss)));
                row.extend(classified.then(|| percent(score.and_then(|score| score.accuracy))));
            }
            row.push(epoch.test_loss.map_or_else(|| "–".into(), |loss| format!("{loss:.4}")));
            row.extend(classified.then(|| percent(epoch.test_accuracy)));
            let value =
                |name: &&String| epoch.metrics.get(*name).map_or_else(|| "–".into(), |value| format!("{value:.4}"));
            row.extend(own.iter().map(value));
            row.push(format!("{:.2}", time.total()));
            row
        })
        .collect();
    let names: Vec<String> = own.iter().map(|name| np_record::visible(&name.replace('_', " ")).into_owned()).collect();
    let header = ["epoch", "steps", "train loss"].into_iter().chain(classified.then_some("train %"));
    let held = [(held_out, "validation loss"), (held_out && classified, "validation %")];
    let header = header.chain(held.into_iter().filter_map(|(is, name)| is.then_some(name))).chain(["test loss"]);
    let header = header.chain(classified.then_some("test %")).chain(names.iter().map(String::as_str));
    let header: Vec<&str> = header.chain(["seconds"]).collect();
    text.push_str(&table(&header, &header, &rows));
    if let Some(last) = record.last().filter(|last| !last.diagnostics.is_empty()) {
        let _ = writeln!(text, "\ndiagnostics of epoch {}", last.epoch);
        let rows: Vec<Vec<String>> = last
            .diagnostics
            .iter()
            .map(|(name, value)| vec![np_record::visible(name).into_owned(), format!("{value:.6}")])
            .collect();
        text.push_str(&table(&["", " "], &[" "], &rows));
    }
    let sum = |phase: fn(&np_record::Phases) -> f64| human(record.timing.iter().map(phase).sum());
    if record.timing.iter().any(|phases| phases.steps > 0.0) {
        let [data, steps] = [sum(|phases| phases.data), sum(|phases| phases.steps)];
        let [evaluation, total] = [sum(|phases| phases.evaluation), sum(np_record::Phases::total)];
        let _ = writeln!(text, "\ntime: data {data}, steps {steps}, evaluation {evaluation}; in all {total}");
        return text;
    }
    let _ = writeln!(
        text,
        "\ntime: data {}, forward {}, backward {}, optimizer {}, evaluation {}; in all {}",
        sum(|phases| phases.data),
        sum(|phases| phases.forward),
        sum(|phases| phases.backward),
        sum(|phases| phases.optimizer),
        sum(|phases| phases.evaluation),
        sum(np_record::Phases::total),
    );
    text
}
