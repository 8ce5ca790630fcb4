//! A sweep that is broken off keeps what is done, calls nothing failed, and goes on to the same end.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use common::{Lab, TINY, text};

/// Six runs of a second or so.
fn long() -> String {
    TINY.replace("epochs: 2", "epochs: 60").replace("[1, 2]", "[1, 2, 3]")
}

fn signal(name: &str, whom: &str) {
    assert!(Command::new("kill").args(["-s", name, "--", whom]).status().unwrap().success(), "kill -{name} {whom}");
}

#[test]
fn a_ctrl_c_reaches_the_launcher_alone_and_fails_no_run() {
    let lab = Lab::new(long());
    lab.good(&["run", "tiny.yaml", "--store", "whole"]);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let args = ["run", "tiny.yaml", "--store", name, "--jobs", "2", "--threads", "1"];
        let launcher =
            lab.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn().unwrap();
        lab.wait_for("the first record", |lab| !lab.results(name).is_empty());
        // To the whole group, as a terminal does.
        signal(name, &format!("-{}", launcher.id()));
        let output = launcher.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("interrupted: ") && said.contains("hint: the same command goes on"), "{said}");
        assert!(!said.contains("failed"), "{said}");
        let kept = lab.records(name);
        assert!((1..6).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().all(|record| record["outcome"]["kind"] == "finished"), "no run is called failed");
        thread::sleep(Duration::from_millis(200));
        assert_eq!(lab.records(name).len(), kept.len(), "the workers have ended too");

        lab.good(&["run", "tiny.yaml", "--store", name]);
        assert_eq!(lab.results(name), lab.results("whole"));
    }
}

#[test]
fn a_worker_that_is_asked_to_stop_alone_keeps_what_is_done_and_fails_no_run() {
    let lab = Lab::new(TINY.replace("epochs: 2", "epochs: 100000"));
    let (plan, _) = lab.good(&["plan", "tiny.yaml", "--json", "--store", "store"]);
    std::fs::create_dir_all(lab.path("store/plans")).unwrap();
    std::fs::write(lab.path("store/plans/tiny.json"), plan).unwrap();
    let mut resumed = 0;
    // To go on later, with an epoch gained; and to end.
    for (name, code) in [("USR2", 75), ("TERM", 130)] {
        let mut command = lab.command(&["exec", "tiny", "0", "--store", "store"]);
        // With no input at all: only a launcher's worker takes its end for a wish.
        let mut worker = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
        let begun = lines.by_ref().take_while(|line| !line.starts_with("{\"event\":\"epoch\"")).collect::<String>();
        resumed += begun.matches("{\"event\":\"resumed\",\"epoch\":").count();
        signal(name, &worker.id().to_string());
        assert_eq!(lines.last().unwrap(), "{\"event\":\"stopped\"}");
        assert_eq!(worker.wait().unwrap().code(), Some(code));
        let kept = lab.files("store/snapshots");
        assert!(kept.keys().any(|path| path.extension().is_some_and(|extension| extension == "snapshot")), "{kept:?}");
    }
    assert_eq!(resumed, 1, "the second goes on where the first was stopped");
    assert!(lab.results("store").is_empty());
}

#[test]
fn a_reader_that_has_seen_enough_ends_no_training() {
    let lab = Lab::new(TINY);
    // As in `np run tiny.yaml 2>&1 | head -0`: both pipes are closed before the first word.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = lab.command(&["run", "tiny.yaml", "--store", "store"]);
    let status = command.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(lab.results("store").len(), 4);
}
