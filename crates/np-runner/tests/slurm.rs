//! A sweep on a real cluster of one node: submitted, preempted, requeued, killed, resubmitted, and ending with the records of a local one.
//!
//! `.ci/slurm.sh cargo test -p neuroplastic-runner --test slurm` starts the cluster. Without one that says it is for tests, nothing is submitted anywhere.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{Lab, TINY, text};
use serde_json::Value;

/// Six runs of some seconds, in a folder whose name a shell or Slurm might take for something else.
const STORE: &str = "it's 100%/a store";

const SUBMIT: [&str; 8] = ["run", "tiny.yaml", "--store", STORE, "--launcher", "slurm", "--snapshot-every", "20epochs"];

fn experiment() -> String {
    TINY.replace("epochs: 2", "epochs: 800").replace("[1, 2]", "[1, 2, 3]") + "launcher: {slurm: {time: 10}}\n"
}

/// A program of Slurm; its output if it succeeds.
fn slurm(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().unwrap();
    output.status.success().then(|| text(&output.stdout))
}

/// What `np status` says of every run, by its id.
fn status(lab: &Lab) -> BTreeMap<String, Value> {
    let (rows, _) = lab.good(&["status", "tiny.yaml", "--store", STORE, "--format", "json"]);
    let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
    rows.into_iter().map(|row| (row["id"].as_str().unwrap().to_owned(), row)).collect()
}

/// Waits until something is there; fails, with what is known, after two minutes.
fn wait_for<T>(lab: &Lab, what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(200));
    }
    let (table, _) = lab.good(&["status", "tiny.yaml", "--store", STORE]);
    panic!("waited in vain for {what}\n{table}\n{}", slurm("squeue", &["--array"]).unwrap_or_default());
}

fn log(lab: &Lab, task: &str) -> String {
    fs::read_to_string(lab.path(&format!("{STORE}/launch/tiny/logs/{task}.log"))).unwrap_or_default()
}

/// A run that a task trains, that has kept something and is not half done; with its task.
fn running(lab: &Lab, but: Option<&str>) -> Option<(String, String)> {
    let under_way =
        |row: &Value| row["state"] == "running" && row["epochs"].as_u64().is_some_and(|n| (1..400).contains(&n));
    let rows = status(lab).into_iter();
    let (id, row) = rows.filter(|(id, _)| Some(id.as_str()) != but).find(|(_, row)| under_way(row))?;
    Some((id, row["task"].as_str()?.to_owned()))
}

#[test]
fn preempted_killed_and_resubmitted_it_ends_with_the_records_of_a_local_sweep() {
    if std::env::var_os("NP_SLURM_TEST").is_none() {
        eprintln!("skipped: there is no cluster for tests; `.ci/slurm.sh` starts one");
        return;
    }
    let lab = Lab::new(experiment());
    lab.good(&["run", "tiny.yaml", "--store", "whole"]);
    let whole = lab.results("whole");
    assert_eq!(whole.len(), 6);

    let (ids, said) = lab.good(&SUBMIT);
    // The cluster's MaxArraySize is 4.
    assert!(said.contains("submitted 4 runs as array") && said.contains("submitted 2 runs as array"), "{said}");
    assert_eq!(ids.lines().count(), 2);
    // The file changes, and the plan in the store with it; what was submitted does not.
    fs::write(lab.path("tiny.yaml"), TINY).unwrap();
    lab.good(&["run", "tiny.yaml", "--store", STORE]);
    fs::write(lab.path("tiny.yaml"), experiment()).unwrap();

    let (preempted, task) = wait_for(&lab, "a run that has kept something", || running(&lab, None));

    // A site's preemption, as the script sees it. The signal arrives, and yet `scancel` is told to try again later, which it would do for a
    // minute, and reach the task again once it goes on.
    let job = slurm("squeue", &["--noheader", "--array", "--format=%i %A"]).unwrap();
    let job = job.lines().find_map(|line| line.strip_prefix(&format!("{task} "))).unwrap().to_owned();
    let mut preemption = Command::new("scancel").args(["--batch", "--signal=USR2", &job]).spawn().unwrap();
    let kept = wait_for(&lab, "the requeued task", || {
        let row = status(&lab).remove(&preempted)?;
        (row["state"] == "queued").then(|| row["epochs"].as_u64().unwrap())
    });
    preemption.kill().unwrap();
    preemption.wait().unwrap();
    assert!(kept > 0);
    let about = slurm("scontrol", &["show", "job", &job]).unwrap();
    assert!(about.contains("Restarts=1"), "{about}");
    // It would wait for two minutes.
    wait_for(&lab, "leave to start at once", || {
        slurm("scontrol", &["update", &format!("JobId={job}"), "StartTime=now"])
    });

    let (killed, other) = wait_for(&lab, "another run to kill", || running(&lab, Some(&preempted)));
    let worker = wait_for(&lab, "its worker", || lab.worker(&killed));
    assert!(Command::new("kill").args(["-9", &worker]).stderr(Stdio::null()).status().unwrap().success());
    wait_for(&lab, "the end of its task", || {
        let row = status(&lab).remove(&killed)?;
        let ended = if row["epochs"].is_null() { "missing" } else { "interrupted" };
        (row["state"] == ended).then_some(())
    });
    assert!(log(&lab, &other).contains("ended with exit code 137"), "{}", log(&lab, &other));
    assert_eq!(status(&lab)[&killed]["why"], format!("ended early: exit code 137, task {other}"));

    let (ids, said) = lab.good(&SUBMIT);
    assert!(said.contains("submitted 1 run as array"), "{said}");
    let again = format!("{}_0", ids.trim());
    wait_for(&lab, "every record", || status(&lab).values().all(|row| row["state"] == "done").then_some(()));
    wait_for(&lab, "an empty queue", || slurm("squeue", &["--noheader"]).filter(|queue| queue.trim().is_empty()));

    let mut results = lab.results(STORE);
    results.retain(|id, _| whole.contains_key(id));
    assert_eq!(results, whole);
    let resumed = |task: &str| log(&lab, task).contains("{\"event\":\"resumed\",\"epoch\":");
    assert!(resumed(&task) && resumed(&again), "{}\n{}", log(&lab, &task), log(&lab, &again));
    let (ids, said) = lab.good(&["run", "tiny.yaml", "--store", STORE, "--launcher", "slurm"]);
    assert!(said.contains("nothing to train") && ids.starts_with("arm"), "{said}{ids}");
    assert!(
        lab.files(&format!("{STORE}/snapshots")).is_empty()
            && lab.files(&format!("{STORE}/launch/tiny/crashes")).is_empty()
    );
}
