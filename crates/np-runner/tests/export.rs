//! `np export`: the tables hold what the records do, in every form, and replace nothing else.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs::{self, File};

use common::{Lab, TINY, text};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, Row};
use serde_json::{Value, json};

fn lab() -> Lab {
    let lab = Lab::new(TINY.replace("arms:\n", "sweep: {optimizer.lr: [0.1, 0.05]}\narms:\n"));
    lab.good(&["run", "tiny.yaml"]);
    lab
}

fn rows(lab: &Lab, file: &str) -> Vec<Row> {
    let reader = SerializedFileReader::new(File::open(lab.path(file)).unwrap()).unwrap();
    reader.get_row_iter(None).unwrap().map(Result::unwrap).collect()
}

fn field<'a>(row: &'a Row, name: &str) -> &'a Field {
    row.get_column_iter().find(|(column, _)| *column == name).unwrap_or_else(|| panic!("no `{name}` in {row}")).1
}

fn lines(lab: &Lab, file: &str) -> Vec<Value> {
    let text = fs::read_to_string(lab.path(file)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `np` says as it refuses.
fn bad(lab: &Lab, args: &[&str]) -> String {
    let output = lab.np(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    text(&output.stderr)
}

#[test]
fn the_tables_hold_what_the_records_do() {
    let lab = lab();
    let (out, said) = lab.good(&["export", "tiny.yaml", "--out", "tables"]);
    assert!(out.is_empty() && said.contains("runs 8, epochs 16, comparisons 2: `tables`"), "{said}");
    lab.good(&["export", "tiny.yaml", "--out", "tables", "--format", "jsonl"]);
    let (runs, epochs) = (rows(&lab, "tables/runs.parquet"), lines(&lab, "tables/epochs.jsonl"));
    assert_eq!((runs.len(), epochs.len()), (8, 16));
    for record in lab.records("records/quick") {
        let id = record["id"].as_str().unwrap();
        let run = runs.iter().find(|row| *field(row, "id") == Field::Str(id.to_owned())).unwrap();
        let last = &record["epochs"][1];
        assert_eq!(*field(run, "final_test_accuracy"), Field::Double(last["test_accuracy"].as_f64().unwrap()));
        assert_eq!(*field(run, "seed"), Field::ULong(record["config"]["seed"].as_u64().unwrap()));
        assert_eq!(*field(run, "outcome"), Field::Str("finished".to_owned()));
        let here: Vec<&Value> = epochs.iter().filter(|row| row["id"] == id).collect();
        assert_eq!(here.len(), 2);
        for (row, epoch) in here.iter().zip(record["epochs"].as_array().unwrap()) {
            for name in ["epoch", "steps", "train_loss", "test_accuracy"] {
                assert_eq!(row[name], epoch[name], "{name}");
            }
            // Plain SGD says nothing of itself.
            assert_eq!(
                row["diagnostic.alpha_mean"],
                epoch["diagnostics"].get("alpha_mean").cloned().unwrap_or_default()
            );
        }
    }
    let compared: Value = serde_json::from_str(&lab.good(&["compare", "tiny.yaml", "--format", "json"]).0).unwrap();
    let comparisons = lines(&lab, "tables/comparisons.jsonl");
    assert_eq!(comparisons[0]["kind"], "exploratory");
    let told = compared.to_string();
    for row in &comparisons {
        assert_eq!((&row["arm"], &row["against"], &row["pairs"]), (&json!("full"), &json!("sgd"), &json!(2)));
        assert!(
            told.contains(&row["difference"].to_string()) && told.contains(&row["p_holm"].to_string()),
            "{row}\n{told}"
        );
    }
}

#[test]
fn the_same_export_is_the_same_files_and_a_run_that_is_missing_is_a_row() {
    let lab = lab();
    let export = || {
        for format in ["parquet", "csv", "jsonl", "tensorboard"] {
            lab.good(&["export", "tiny.yaml", "--out", "out", "--format", format]);
        }
        lab.files("out")
    };
    let first = export();
    // Three tables in three forms, and a curve a run.
    assert_eq!(first.len(), 9 + 8);
    assert_eq!(first, export(), "what is there is replaced by the same");
    let events = lab.path("out/tiny/full,optimizer.lr=0.1/seed-1/events.out.tfevents.0.np");
    let events = fs::read(events).unwrap();
    let holds = |part: &[u8]| events.windows(part.len()).any(|window| window == part);
    assert!(holds(b"test/accuracy") && holds(b"diagnostics/alpha_mean"));

    let record = fs::read_dir(lab.path("records/quick/runs")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(record).unwrap();
    lab.good(&["export", "tiny.yaml", "--out", "out", "--format", "csv"]);
    let runs = fs::read_to_string(lab.path("out/runs.csv")).unwrap();
    assert_eq!(runs.lines().count(), 9);
    assert_eq!(runs.lines().filter(|line| line.contains(",missing,")).count(), 1, "{runs}");
}

#[test]
fn nothing_but_an_export_is_replaced() {
    let lab = lab();
    fs::create_dir(lab.path("out")).unwrap();
    fs::write(lab.path("out/runs.csv"), "name,wage\nme,1\n").unwrap();
    let said = bad(&lab, &["export", "tiny.yaml", "--out", "out", "--format", "csv"]);
    assert!(said.contains("runs.csv` is there already, and is no table of an export"), "{said}");
    assert_eq!(lab.files("out").len(), 1, "none of the three is written");
    let said = bad(&lab, &["export", "tiny.yaml", "--out", "tiny.yaml"]);
    assert!(said.contains("expected a folder, found a file"), "{said}");
    let said = bad(&lab, &["export", "tiny.yaml", "--out", "records/quick/runs", "--format", "jsonl"]);
    assert!(said.contains("is in a folder of the store"), "{said}");
}
