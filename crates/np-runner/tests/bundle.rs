//! `np bundle`, its `run.sh` on a bare machine, and `np collect`: what is trained elsewhere is what would have been trained here.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    process::{Command, Output},
};

use common::{Lab, TINY, foreign, lab_of_full, text};

/// Two short runs, and one that takes a while.
const UNEVEN: &str = "\
name: tiny
question: Does it run elsewhere?
data: {name: mnist, source: mini, fraction: 0.05}
model: {mlp: {hidden: [16], dropout: 0.1}}
optimizer: {neuroplastic: {lr: 0.1}}
train: {epochs: 2, batch_size: 32}
seeds: [1]
arms:
  short: {}
  other: {optimizer: {sgd: {lr: 0.05}}}
  long: {train: {epochs: 2000}}
";

/// `run.sh` of a folder, with nothing of this machine but its shell and its usual tools.
fn there(lab: &Lab, folder: &str, args: &[&str]) -> Output {
    let mut command = Command::new("bash");
    command.current_dir("/").arg(lab.path(folder).join("run.sh")).args(args).env_clear().env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

fn snapshots(lab: &Lab, store: &str) -> usize {
    let ends = |path: &&std::path::PathBuf| path.extension().is_some_and(|end| end == "snapshot");
    lab.files(&format!("{store}/snapshots")).keys().filter(ends).count()
}

/// `records/quick`, loose and packed.
fn results(lab: &Lab) -> BTreeMap<String, String> {
    lab.results("records/quick")
}

#[test]
fn a_run_is_begun_here_goes_on_there_and_ends_with_the_same_bits() {
    let lab = Lab::new(UNEVEN);
    lab.good(&["run", "tiny.yaml", "--store", "whole"]);
    let whole = lab.results("whole");

    // One run is known already, and is not trained again.
    lab.good(&["run", "tiny.yaml", "--arm", "other"]);
    let (out, said) = lab.good(&["bundle", "tiny.yaml", "--out", "away", "--minutes", "0.03"]);
    assert_eq!(out, "away\n");
    assert!(said.contains("tiny (quick): 2 of 3 runs to train") && said.contains("compressed, for "), "{said}");
    // With the minutes that the folder was made with, then with more where this machine is too slow for an epoch.
    let (mut wanted, mut output) = (vec![&["--jobs", "1"][..], &["0.1"], &["0.3"], &["1"]].into_iter(), None);
    while !lab.path("away/experiments/records/quick/snapshots").exists() {
        output = Some(there(&lab, "away", wanted.next().unwrap()));
    }
    let output = output.unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("the time is over: 2 runs done, 1 left"), "{said}");
    assert!(said.contains("packed 1 record and 1 snapshot into `results.archive`"), "{said}");
    fs::copy(lab.path("away/results.archive"), lab.path("first.archive")).unwrap();

    let (out, _) = lab.good(&["collect", "first.archive"]);
    assert_eq!(out, "first.archive: new: 1 plan, 1 record, 1 snapshot; known: nothing; refused: 0\n");
    assert_eq!((results(&lab).len(), snapshots(&lab, "records/quick")), (2, 1));
    let before = lab.files("records");
    let (out, _) = lab.good(&["collect", "first.archive", "first.archive"]);
    let known = "first.archive: new: nothing; known: 1 plan, 1 record, 1 snapshot; refused: 0\n";
    assert_eq!(out, known.repeat(2), "the same again");
    assert_eq!(lab.files("records"), before, "and nothing is changed");

    let (_, said) = lab.good(&["bundle", "tiny.yaml", "--out", "again"]);
    assert!(said.contains("1 of 3 runs to train") && said.contains("1 run under way, "), "{said}");
    let output = there(&lab, "again", &["--out", "all.archive", "--limit", "1", "--", "--snapshot-every", "200epochs"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("long · seed 1: goes on after epoch "), "{said}");
    assert!(said.contains("packed 1 record and 0 snapshots into `all.archive`"), "{said}");
    let (out, _) = lab.good(&["collect", "again/all.archive", "first.archive"]);
    assert!(out.contains("all.archive: new: 1 record; known: 1 plan; refused: 0\n"), "{out}");
    assert!(out.contains("first.archive: new: nothing; known: 1 plan, 1 record, 1 snapshot; refused: 0\n"), "{out}");
    assert_eq!(results(&lab), whole, "to the bit");
    assert_eq!(snapshots(&lab, "records/quick"), 0, "done, and nothing left over");
    assert!(lab.good(&["run", "tiny.yaml"]).1.contains("nothing to train"));
    let output = lab.np(&["bundle", "tiny.yaml", "--out", "none"]);
    assert!(text(&output.stderr).contains("nothing to take along: every run has its record"));
    assert!(!lab.path("none").exists());
}

#[test]
fn data_goes_along_as_it_is() {
    let lab = lab_of_full();
    foreign(&lab.path("data/FashionMNIST/raw"), 0);
    foreign(&lab.path("data/mnist"), 1);
    lab.good(&["run", "tiny.yaml", "--data-dir", "data", "--store", "whole", "--set", "train.epochs=1"]);
    let words = ["bundle", "tiny.yaml", "--data-dir", "data", "--out", "new/away", "--set", "train.epochs=1"];
    let (_, said) = lab.good(&words);
    assert!(said.contains("data `fashion-mnist`: 0.1 MiB\n"), "{said}");
    let taken = lab.files("new/away/data");
    let names: Vec<_> = taken.keys().map(|path| path.strip_prefix(lab.path("new/away/data")).unwrap()).collect();
    assert_eq!(names.len(), 4);
    assert!(names.iter().all(|name| name.starts_with("fashion-mnist/raw")), "{names:?}");
    assert_eq!(
        taken.into_values().collect::<Vec<_>>(),
        lab.files("data/FashionMNIST").into_values().collect::<Vec<_>>()
    );

    // Elsewhere, and with other data: nothing is trained under the wrong names.
    fs::rename(lab.path("new/away"), lab.path("moved")).unwrap();
    let labels = lab.path("moved/data/fashion-mnist/raw/t10k-labels-idx1-ubyte");
    let mut bytes = fs::read(&labels).unwrap();
    bytes[20] ^= 1;
    fs::write(&labels, &bytes).unwrap();
    let output = there(&lab, "moved", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("make other runs of it than the plan that came along"));
    assert!(!lab.path("moved/results.archive").exists());
    bytes[20] ^= 1;
    fs::write(&labels, &bytes).unwrap();
    let output = there(&lab, "moved", &["5"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let (out, _) = lab.good(&["collect", "moved/results.archive", "--store", "home"]);
    assert!(out.contains("new: 1 plan, 4 records; known: nothing; refused: 0"), "{out}");
    assert_eq!(lab.results("home"), lab.results("whole"));
}

#[test]
fn what_cannot_be_bundled_is_told_and_leaves_nothing() {
    let lab = lab_of_full();
    foreign(&lab.path("data/fashion-mnist"), 0);
    fs::create_dir_all(lab.path("taken/inside")).unwrap();
    fs::create_dir_all(lab.path("other")).unwrap();
    fs::copy(lab.path("tiny.yaml"), lab.path("other/tiny.yaml")).unwrap();
    fs::write(lab.path("script"), "#!/bin/sh\n").unwrap();
    let before = lab.files(".").len();
    let known = ["--data-dir", "data", "--out", "away"];
    for (words, says) in [
        (&["none.yaml"][..], "none.yaml: there is no such file\n  hint: did you mean `tiny.yaml`?"),
        (&["tiny.yaml", "--scale", "paper"], "has no scale `paper`"),
        (&["tiny.yaml", "other/tiny.yaml"], "other/tiny.yaml: another experiment has this name"),
        (
            &["tiny.yaml", "--limit", "0"],
            "data and snapshots take 0.1 MiB, more than 0.0 kB: `fashion-mnist` 0.1 MiB\n  hint: take fewer experiments",
        ),
        (&["tiny.yaml", "--program", "script"], "expected a program of Linux (ELF)"),
        (&["tiny.yaml", "--minutes", "0"], "expected minutes, a number above 0, got `0`"),
    ] {
        let output = lab.np(&[&["bundle"][..], words, &known].concat());
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says), "{words:?}: {said}");
    }
    for (words, says) in [
        (["--data-dir", "data", "--out", "taken"], "`--out taken`: something is there already"),
        (["--data-dir", "none", "--out", "away"], "none"),
        (["--data-dir", "taken", "--out", "away"], "fashion-mnist"),
    ] {
        let output = lab.np(&[&["bundle", "tiny.yaml"][..], &words].concat());
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{words:?}: {said}");
    }
    assert!(!lab.path("away").exists());
    assert_eq!(lab.files(".").len(), before, "no file is left over");
    let output = lab.np(&["bundled"]);
    assert!(text(&output.stderr).contains("hint: `np bundle` makes such a folder"), "{}", text(&output.stderr));
}

#[test]
fn a_limit_of_time_is_kept_and_the_same_command_goes_on() {
    let lab = Lab::new(TINY);
    let output = lab.np(&["run", "tiny.yaml", "--minutes", "0.00001"]);
    let said = text(&output.stderr);
    assert!(output.status.code() == Some(75) && said.contains("the time is over: 0 runs done, 4 left"), "{said}");
    let output = lab.np(&["run", "tiny.yaml", "--minutes", "1", "--launcher", "slurm"]);
    assert!(text(&output.stderr).contains("`--minutes`: a cluster's tasks have limits of their own"));
    lab.good(&["run", "tiny.yaml", "--minutes", "1000"]);
    assert_eq!(lab.results("records/quick").len(), 4);
}

/// As a program for a GPU is where its libraries are missing: the system does not start it, and `run.sh` says what is wanted.
#[test]
fn a_program_that_does_not_start_there_says_what_it_wants() {
    let lab = Lab::new(TINY);
    let (_, said) = lab.good(&["bundle", "tiny.yaml", "--out", "away", "--program", "/bin/false"]);
    assert!(said.contains("note: that program cannot be started here"), "{said}");
    let output = there(&lab, "away", &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("error: `np` does not start here") && said.contains("hint: for runs on a GPU"), "{said}");
    assert!(!lab.path("away/results.archive").exists());
}
