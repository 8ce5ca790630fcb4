//! A run gives the same bits however often, at whatever number of jobs and threads, and however it was broken off.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fs,
    process::{Child, Stdio},
};

use common::{Lab, TINY, foreign, lab_of_full, text};

/// Wide enough that two threads do share the work.
fn wide() -> String {
    TINY.replace("hidden: [16]", "hidden: [256, 64]").replace("batch_size: 32", "batch_size: 64")
}

#[test]
fn jobs_and_threads_do_not_change_a_bit() {
    let lab = Lab::new(wide());
    let mut all = Vec::new();
    for (store, jobs, threads) in [("one", "1", "1"), ("jobs", "2", "1"), ("threads", "1", "2"), ("three", "1", "3")] {
        lab.good(&["run", "tiny.yaml", "--store", store, "--jobs", jobs, "--threads", threads]);
        all.push(lab.results(store));
    }
    assert_eq!(all[0].len(), 4);
    for other in &all[1..] {
        assert_eq!(*other, all[0]);
    }
}

#[test]
fn a_second_run_trains_nothing_and_touches_nothing() {
    let lab = Lab::new(TINY);
    let (first, _) = lab.good(&["run", "tiny.yaml", "--store", "store"]);
    let before = lab.files("store");
    let times = |lab: &Lab| -> Vec<_> {
        lab.files("store").keys().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect()
    };
    let modified = times(&lab);
    let (second, said) = lab.good(&["run", "tiny.yaml", "--store", "store"]);
    assert!(said.contains("nothing to train"), "{said}");
    assert_eq!(first, second, "the same table");
    assert_eq!(lab.files("store"), before);
    assert_eq!(times(&lab), modified);
}

/// A sweep that has just written its first record.
fn started(lab: &Lab, store: &str) -> Child {
    let mut launcher = lab.command(&["run", "tiny.yaml", "--store", store, "--jobs", "1", "--threads", "1"]);
    let launcher = launcher.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    lab.wait_for("the first record", |lab| !lab.results(store).is_empty());
    launcher
}

#[test]
fn a_sweep_that_was_killed_goes_on_to_the_same_end() {
    let text = TINY.replace("epochs: 2", "epochs: 20").replace("[1, 2]", "[1, 2, 3]");
    let lab = Lab::new(text);
    lab.good(&["run", "tiny.yaml", "--store", "whole", "--jobs", "1", "--threads", "1"]);

    let mut launcher = started(&lab, "cut");
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    let kept = lab.results("cut");
    assert!(!kept.is_empty() && kept.len() < 6, "killed in the middle, with {} records", kept.len());

    lab.good(&["run", "tiny.yaml", "--store", "cut", "--jobs", "2"]);
    assert_eq!(lab.results("cut"), lab.results("whole"));
}

#[test]
fn a_divergence_is_a_result() {
    let lab = Lab::new(TINY);
    let args = ["run", "tiny.yaml", "--store", "store", "--arm", "sgd", "--set", "optimizer.lr=1e30", "--seeds", "7"];
    let (table, said) = lab.good(&args);
    assert!(said.contains("diverged, which is a result: sgd · seed 7"), "{said}");
    assert!(table.contains("1 diverged"), "{table}");
    let (_, again) = lab.good(&args);
    assert!(again.contains("nothing to train"), "{again}");
}

#[test]
fn a_failure_is_recorded_and_tried_again() {
    let lab = lab_of_full();
    let folder = lab.path("data/fashion-mnist");
    foreign(&folder, 0);
    let args = |command| [command, "tiny.yaml", "--store", "store", "--arm", "sgd", "--data-dir", "data"];
    lab.good(&args("run"));
    let path = fs::read_dir(lab.path("store/plans")).unwrap().next().unwrap().unwrap().path();
    let plan: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let id = plan["runs"][0]["id"].as_str().unwrap().to_owned();
    fs::remove_file(lab.path("store/runs").join(format!("{id}.json"))).unwrap();
    // The data changes after the run was planned.
    foreign(&folder, 1);
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let exec = ["exec", &name, "0", "--store", "store", "--data-dir", "data"];
    let output = lab.np(&exec);
    assert_eq!(output.status.code(), Some(2));
    let other = lab.np(&[&exec[..], &["--id", "0"]].concat());
    assert!(text(&other.stderr).contains("the plan was replaced"), "a worker trains what its launcher meant");
    let record = fs::read_to_string(lab.path("store/runs").join(format!("{id}.json"))).unwrap();
    assert!(record.contains("\"failed\"") && record.contains("the data has changed"), "{record}");

    foreign(&folder, 0);
    let (listed, _) = lab.good(&args("plan"));
    assert!(listed.contains("failed"), "{listed}");
    let (_, said) = lab.good(&args("run"));
    assert!(said.contains("training 1"), "{said}");
}
