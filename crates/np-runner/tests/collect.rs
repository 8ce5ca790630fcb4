//! `np collect` of archives that are torn, forged or at odds with each other: the store stays sound, and each is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{fs, io::Write as _, path::PathBuf};

use common::{Lab, TINY, text};
use flate2::{Compression, write::GzEncoder};
use np_record::{Archive, ArchiveWriter, Part, Record, Store};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// An archive of what was trained in `there`, with this done to each of its files.
fn packed(lab: &Lab, name: &str, edit: impl Fn(Part, &str, Vec<u8>) -> Option<Vec<u8>>) -> PathBuf {
    let store = Store::open(lab.path("there")).unwrap();
    let path = lab.path(name);
    let mut writer = ArchiveWriter::new(&path).unwrap();
    let plan = store.give_plan("tiny").unwrap().unwrap();
    let records = store.ids().unwrap().into_iter().map(|id| {
        let bytes = store.give_loose(&id).unwrap().unwrap().1;
        (Part::Record, id, bytes)
    });
    for (part, name, bytes) in [(Part::Plan, "tiny".to_owned(), plan)].into_iter().chain(records) {
        if let Some(bytes) = edit(part, &name, bytes) {
            writer.add(part, &name, &bytes).unwrap();
        }
    }
    writer.finish().unwrap();
    path
}

fn trained() -> Lab {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "there"]);
    lab
}

/// The record of the run, with other results that are in themselves consistent.
fn other_results(bytes: &[u8]) -> Vec<u8> {
    let mut record: Record = serde_json::from_slice(bytes).unwrap();
    record.epochs[0].train_loss += 0.125;
    record.result_sha256 = record.digest_result();
    record.record_sha256 = Some(record.digest());
    serde_json::to_vec_pretty(&record).unwrap()
}

#[test]
fn a_torn_archive_is_named_and_nothing_is_taken() {
    let lab = trained();
    let good = packed(&lab, "good.archive", |_, _, bytes| Some(bytes));
    let sound = fs::read(good).unwrap();
    let mut flipped = sound.clone();
    let middle = flipped.len() * 2 / 3;
    flipped[middle] ^= 0x40;
    for bytes in [&sound[..sound.len() - 1], &sound[..sound.len() / 2], &sound[..10], b"", b"{}", &flipped] {
        fs::write(lab.path("torn.archive"), bytes).unwrap();
        let output = lab.np(&["collect", "good.archive", "torn.archive", "--store", "home"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: `torn.archive` is no archive that can be used: "), "{said}");
        assert!(said.contains("  hint: copy it again from where it was made"), "{said}");
        assert!(!lab.path("home").exists(), "nothing of the good one either");
    }
    let output = lab.np(&["collect", "none.archive"]);
    assert!(text(&output.stderr).contains("cannot read `none.archive`"), "{}", text(&output.stderr));
    lab.good(&["collect", "good.archive"]);
    assert_eq!(lab.results("records/quick"), lab.results("there"), "the store of the plan's scale");
}

#[test]
fn a_forged_file_is_refused_and_the_others_are_taken() {
    let lab = trained();
    let ids: Vec<String> = lab.results("there").into_keys().collect();
    let path = packed(&lab, "forged.archive", |_, name, bytes| {
        let mut record: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        match ids.iter().position(|id| id == name) {
            // Another run under its name; a time that is not the one that was measured; nothing at all.
            Some(0) => record["config"]["optimizer"] = json!({"sgd": {"lr": 9.0}}),
            Some(1) => record["provenance"]["threads"] = json!(64),
            Some(2) => return Some(b"not a record".to_vec()),
            _ => return Some(bytes),
        }
        Some(serde_json::to_vec_pretty(&record).unwrap())
    });
    let mut writer = ArchiveWriter::new(lab.path("more.archive")).unwrap();
    let archive = Archive::open(&path).unwrap();
    for (part, name) in archive.files() {
        writer.add(part, name, &archive.read(part, name).unwrap()).unwrap();
    }
    let last = archive.read(Part::Record, &ids[3]).unwrap();
    writer.add(Part::Record, "0123456789abcdef", &last).unwrap();
    writer.add(Part::Snapshot, &ids[0], b"np-snapshot 1 00\nnothing").unwrap();
    writer.add(Part::Plan, "other", b"{\"schema\": 1}").unwrap();
    writer.finish().unwrap();

    let output = lab.np(&["collect", "more.archive", "--store", "home"]);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(out, "more.archive: new: 1 plan, 1 record; known: nothing; refused: 6\n");
    for says in [
        "is not of the run `",
        "was changed after it was written: `record_sha256`",
        "is not a whole record",
        "`more.archive/runs/0123456789abcdef.json` is of no run of the plans that came with it",
        &format!("`more.archive/snapshots/{}.snapshot` is no snapshot: its digest is not that of its content", ids[0]),
        "`more.archive/plans/other.json` is not a whole plan",
    ] {
        assert!(said.contains(says), "{says}: {said}");
    }
    assert_eq!(lab.results("home").into_keys().collect::<Vec<_>>(), ids[3..]);
    assert!(lab.files("home/snapshots").is_empty());
}

#[test]
fn no_file_is_written_outside_of_the_store() {
    let lab = trained();
    let id = lab.results("there").into_keys().next().unwrap();
    let bytes = fs::read(lab.path(&format!("there/runs/{id}.json"))).unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let member = gzip(&bytes);
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let before = lab.files(".").len();
    let absolute = lab.path("evil.json").display().to_string();
    for place in [
        absolute.as_str(),
        "runs/../../evil.json",
        "../evil.json",
        "runs/./evil.json",
        "runs/a/evil.json",
        "locks/evil.lock",
        "snapshots/../evil.snapshot",
        "plans/..\\evil.json",
        "files/tiny",
    ] {
        let file = json!({"place": place, "offset": 0, "length": member.len(), "size": bytes.len(), "sha256": digest});
        let index = json!({"schema": 1, "archive": 1, "files": [file]}).to_string();
        fs::write(lab.path("hostile.archive"), [gzip(index.as_bytes()), member.clone()].concat()).unwrap();
        for store in [&["--store", "home"][..], &[]] {
            let output = lab.np(&[&["collect", "hostile.archive"][..], store].concat());
            let said = text(&output.stderr);
            assert!(
                output.status.code() == Some(1) && said.contains("is no plan, record or snapshot"),
                "{place}: {said}"
            );
        }
        fs::remove_file(lab.path("hostile.archive")).unwrap();
        assert_eq!(lab.files(".").len(), before, "{place}");
    }
    #[cfg(unix)]
    {
        // The store's own links are for whoever made them; an archive cannot bring one, nor be one to a pipe.
        assert!(std::process::Command::new("mkfifo").arg(lab.path("pipe")).status().unwrap().success());
        let said = text(&lab.np(&["collect", "pipe", "--store", "home"]).stderr);
        assert!(said.contains("`pipe` is no archive that can be used: it is no regular file"), "{said}");
    }
}

#[test]
fn one_run_has_one_result() {
    let lab = trained();
    let id = lab.results("there").into_keys().next().unwrap();
    packed(&lab, "good.archive", |_, _, bytes| Some(bytes));
    packed(&lab, "other.archive", |_, name, bytes| Some(if name == id { other_results(&bytes) } else { bytes }));

    // Two that come together: nobody can tell which is right.
    let output = lab.np(&["collect", "good.archive", "other.archive", "--store", "home"]);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    let says = format!("`good.archive` and `other.archive` have different results of the run `{id}`");
    assert_eq!(said.matches(&says).count(), 2, "{said}");
    assert!(out.contains("good.archive: new: 1 plan, 3 records; known: nothing; refused: 1\n"), "{out}");
    assert!(out.contains("other.archive: new: nothing; known: 1 plan, 3 records; refused: 1\n"), "{out}");
    assert_eq!(lab.results("home").len(), 3);

    // One that the store has already.
    lab.good(&["collect", "good.archive", "--store", "home"]);
    let before = lab.files("home");
    let output = lab.np(&["collect", "other.archive", "--store", "home"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    let says = format!("`other.archive/runs/{id}.json` has other results of the run `{id}` than `");
    assert!(said.contains(&says) && said.contains(&format!("home/runs/{id}.json`")), "{said}");
    assert_eq!(lab.files("home"), before);

    // A damaged one of the store's own is set aside, and makes room; a failed one, too, for one that is done.
    let own = lab.path(&format!("home/runs/{id}.json"));
    fs::write(&own, "damaged").unwrap();
    let (out, said) = lab.good(&["collect", "good.archive", "--store", "home"]);
    assert!(out.contains("new: 1 record; known: 1 plan, 3 records; refused: 0"), "{out}");
    assert!(said.contains(&format!("note: set aside as `{id}.json.damaged-1`")), "{said}");
    assert_eq!(lab.results("home"), lab.results("there"));
}

#[test]
fn a_plan_of_another_text_stays_and_records_come_in() {
    let lab = trained();
    packed(&lab, "good.archive", |_, _, bytes| Some(bytes));
    fs::write(lab.path("tiny.yaml"), format!("# Another remark.\n{TINY}")).unwrap();
    let output = lab.np(&["run", "tiny.yaml", "--store", "home", "--minutes", "0.00001"]);
    assert_eq!(output.status.code(), Some(75));
    let (out, said) = lab.good(&["collect", "good.archive", "--store", "home"]);
    assert!(out.contains("new: 4 records; known: nothing; refused: 0"), "{out}");
    assert!(
        said.contains("note: the store's plan of `tiny` is another one, of another text or other options, and stays"),
        "{said}"
    );
    assert!(lab.good(&["run", "tiny.yaml", "--store", "home"]).1.contains("nothing to train"));
}
