//! A worker that dies: once more from its snapshot, and then its run has failed; what that means for the others.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use common::{Lab, TINY, text};

/// A run that never ends by itself, and one of a moment.
fn two_arms() -> String {
    let arms = TINY.split("arms:").next().unwrap().to_owned();
    arms + "arms:\n  slow: {optimizer: adam, train: {epochs: 1000000}}\n  quick: {optimizer: adam}\n"
}

fn launch(lab: &Lab, more: &[&str]) -> Child {
    let args =
        [&["run", "tiny.yaml", "--store", "store", "--threads", "1", "--snapshot-every", "1epoch"][..], more].concat();
    lab.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Kills the process that trains a run, once it has kept something; returns its id.
fn kill(lab: &Lab, id: &str, before: Option<&str>) -> String {
    let next = |lab: &Lab| lab.worker(id).filter(|pid| Some(pid.as_str()) != before);
    lab.wait_for("a worker", |lab| next(lab).is_some());
    lab.wait_for("a snapshot", |lab| lab.path(&format!("store/snapshots/{id}.snapshot")).exists());
    let pid = next(lab).unwrap();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    pid
}

/// Ids of the runs of an arm.
fn ids(lab: &Lab, arm: &str) -> Vec<String> {
    let (plan, _) = lab.good(&["plan", "tiny.yaml", "--json", "--arm", arm]);
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    plan["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_worker_that_dies_is_started_once_more_and_goes_on() {
    let lab = Lab::new(TINY.replace("epochs: 2", "epochs: 600").replace("[1, 2]", "[1]"));
    lab.good(&["run", "tiny.yaml", "--store", "whole", "--arm", "sgd"]);
    let id = &ids(&lab, "sgd")[0];
    let launcher = launch(&lab, &["--arm", "sgd"]);
    kill(&lab, id, None);
    let output = launcher.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("the worker ended early (signal: 9 (SIGKILL)); it is started once more"), "{said}");
    assert!(said.contains("goes on after epoch"), "{said}");
    assert_eq!(lab.results("store"), lab.results("whole"));
}

#[test]
fn a_run_whose_worker_dies_twice_has_failed_and_the_others_go_on() {
    let lab = Lab::new(two_arms().replace("[1, 2]", "[1]"));
    let slow = &ids(&lab, "slow")[0];
    let launcher = launch(&lab, &["--jobs", "1"]);
    let first = kill(&lab, slow, None);
    kill(&lab, slow, Some(&first));
    let output = launcher.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 run failed"), "{said}");
    let outcomes: Vec<_> = lab.records("store").iter().map(|record| record["outcome"]["kind"].clone()).collect();
    assert_eq!(outcomes.len(), 2, "the other has its record: {said}");
    assert!(outcomes.contains(&"failed".into()) && outcomes.contains(&"finished".into()), "{outcomes:?}");
    let (rows, _) = lab.good(&["status", "tiny.yaml", "--store", "store"]);
    assert!(rows.contains("the worker ended early (signal: 9 (SIGKILL))"), "{rows}");
}

#[test]
fn with_fail_fast_the_first_failure_stops_the_others_which_keep_what_they_have_done() {
    let lab = Lab::new(two_arms());
    let slow = ids(&lab, "slow");
    let launcher = launch(&lab, &["--jobs", "2", "--fail-fast"]);
    let first = kill(&lab, &slow[0], None);
    lab.wait_for("the other's snapshot", |lab| lab.path(&format!("store/snapshots/{}.snapshot", slow[1])).exists());
    kill(&lab, &slow[0], Some(&first));
    let output = launcher.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("stopped at the first failure: 0 runs done, 4 left"), "{said}");
    assert_eq!(lab.records("store").len(), 1, "that of the failure");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(lab.worker(&slow[1]), None, "it was stopped");
    assert!(lab.path(&format!("store/snapshots/{}.snapshot", slow[1])).exists());
    let (rows, _) = lab.good(&["status", "tiny.yaml", "--store", "store", "--format", "json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&rows).unwrap();
    let of = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!((&of(&slow[0])["state"], &of(&slow[1])["state"]), (&"failed".into(), &"interrupted".into()));
    assert!(of(&slow[1])["epochs"].as_u64() > Some(0), "what is kept of it");
}
