//! `np pack` and `np unpack`: every command reads packed records as loose ones, and a damaged pack is named, set aside and made anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Lab, TINY, text};

fn packs(lab: &Lab) -> Vec<PathBuf> {
    let entries = fs::read_dir(lab.path("records/quick/packs")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn packed_records_are_read_by_every_command() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let loose = lab.files("records/quick");
    let id = lab.results("records/quick").into_keys().next().unwrap();
    let asked: [&[&str]; 5] = [
        &["plan", "tiny.yaml"],
        &["compare", "tiny.yaml"],
        &["compare", "records/quick/plans/tiny.json", "--format", "json"],
        &["show", &id[..6]],
        &["status", "--store", "records/quick"],
    ];
    let answers = || asked.map(|args| lab.good(args).0);
    let before = answers();
    lab.good(&["report", "tiny.yaml", "--out", "before.html"]);

    let (_, said) = lab.good(&["pack", "tiny.yaml"]);
    assert!(said.starts_with("tiny: 5 files, ") && said.contains("; 5 loose files removed"), "{said}");
    assert!(lab.records("records/quick").is_empty() && packs(&lab).len() == 1);
    assert_eq!(answers(), before);
    lab.good(&["report", "tiny.yaml", "--out", "after.html"]);
    assert_eq!(fs::read(lab.path("before.html")).unwrap(), fs::read(lab.path("after.html")).unwrap());
    let (_, said) = lab.good(&["run", "tiny.yaml"]);
    assert!(said.contains("nothing to train: every run has its record"), "{said}");
    assert!(lab.records("records/quick").is_empty(), "done, and nothing written");

    // What is trained later is loose beside it, until it is packed too.
    let (_, said) = lab.good(&["run", "tiny.yaml", "--seeds", "1,2,3"]);
    assert!(said.contains("training 2"), "{said}");
    assert_eq!(lab.records("records/quick").len(), 2);
    let (_, said) = lab.good(&["pack", "--store", "records/quick"]);
    assert!(said.lines().count() == 2 && lab.records("records/quick").is_empty() && packs(&lab).len() == 2, "{said}");
    let (_, said) = lab.good(&["unpack", "--store", "records/quick"]);
    assert!(said.contains("tiny: 5 loose files written; removed `records/quick/packs/tiny."), "{said}");
    let now = lab.files("records/quick");
    assert!(loose.iter().all(|(path, bytes)| now.get(path) == Some(bytes)), "to the byte");
    assert!(packs(&lab).is_empty());
}

#[test]
fn a_damaged_pack_is_set_aside_and_its_runs_are_made_anew() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml"]);
    let results = lab.results("records/quick");
    lab.good(&["pack", "tiny.yaml"]);
    let [path] = &packs(&lab)[..] else { panic!("one pack") };
    let sound = fs::read(path).unwrap();
    fs::write(path, &sound[..sound.len() / 2]).unwrap();
    let (_, said) = lab.good(&["plan", "tiny.yaml"]);
    let named = "is not a whole pack: at its index: ";
    assert_eq!(said.matches(named).count(), 1, "named once for all of its runs: {said}");
    assert!(said.contains("4 runs to train"), "{said}");
    let (_, said) = lab.good(&["run", "tiny.yaml"]);
    assert!(said.contains(".json.gz.damaged-1`: ") && said.contains(named), "{said}");
    assert_eq!(lab.results("records/quick"), results, "the same results, made again");
    // The pack comes back from where it was copied: its runs are the same ones, of another day.
    fs::write(path, &sound).unwrap();
    assert!(!lab.good(&["plan", "tiny.yaml"]).1.contains("warning"), "no conflict");
    // One record alone: the others stay packed.
    lab.good(&["pack", "tiny.yaml"]);
    // Beside it is the one that was set aside, whose name may come first.
    let whole: Vec<_> =
        packs(&lab).into_iter().filter(|path| path.extension().is_some_and(|end| end == "gz")).collect();
    let [path] = &whole[..] else { panic!("one pack: {whole:?}") };
    let mut bytes = fs::read(path).unwrap();
    let end = bytes.len() - 100;
    bytes[end] ^= 0xff;
    fs::write(path, bytes).unwrap();
    let (_, said) = lab.good(&["run", "tiny.yaml"]);
    assert!(said.contains("training 1"), "{said}");
    assert_eq!(lab.records("records/quick").len(), 1);
    assert!(lab.good(&["run", "tiny.yaml"]).1.contains("nothing to train"));
}

#[test]
fn what_cannot_be_packed_is_told() {
    let lab = Lab::new(TINY);
    for (args, says) in [
        (&["pack"][..], "expected an experiment or a store, got neither"),
        (&["pack", "tiny.yaml"], "has no plan of it\n  hint: `np run` writes it"),
        (&["pack", "--store", "records"], "`records`: a store without plans"),
        (&["pack", "--store", "records", "--scale", "cpu"], "`--scale cpu`: there is no experiment that it is about"),
        (&["unpack", "tiny.yaml"], "has no plan of it"),
    ] {
        let output = lab.np(args);
        let said = text(&output.stderr);
        let plain = said.replace("records: a store", "`records`: a store");
        assert!(output.status.code() == Some(2) && plain.contains(says), "{args:?}: {said}");
    }
    lab.good(&["run", "tiny.yaml"]);
    assert!(lab.good(&["unpack", "tiny.yaml"]).1.contains("tiny: nothing of it is packed"));
}
