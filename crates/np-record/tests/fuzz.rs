//! Damaged records and plans: they may be refused, with no panic and with no more memory than their bytes account for, and what is
//! accepted has the right name and digest.

#![allow(clippy::unwrap_used, reason = "the helpers, too, are tests")]

#[path = "all/common.rs"]
mod common;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use np_fuzz::{Meter, Rng, Target, damage, damage_tree, memory_folder};
use np_record::{Archive, ArchiveWriter, Part, Store, StoreError};
use serde_json::{Value, json};

#[global_allocator]
static METER: Meter = Meter;

/// Words of the format, for keys and texts.
const WORDS: [&str; 16] = [
    "schema",
    "id",
    "config",
    "data",
    "model",
    "outcome",
    "epochs",
    "timing",
    "provenance",
    "runs",
    "kind",
    "failed",
    "diverged",
    "NaN",
    "-inf",
    "reason",
];

/// A tree of values has up to 64 bytes for two of text, and is built, sorted and printed again.
const PER_BYTE: usize = 250;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

fn damaged(sound: &Value, rng: &mut Rng) -> Vec<u8> {
    let mut tree = sound.clone();
    let way = rng.below(4);
    if way > 0 {
        damage_tree(&mut tree, &WORDS, rng);
    }
    let mut bytes =
        if rng.below(2) == 0 { serde_json::to_vec(&tree) } else { serde_json::to_vec_pretty(&tree) }.unwrap();
    if way == 0 {
        damage(&mut bytes, usize::MAX, &["[", "{\"a\":", "1e999", "\\ud800", "null,", "-0"], rng);
    }
    bytes
}

#[test]
fn damaged_records() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let run = common::run("a", 1, &[("data.name", json!("mnist"))]);
    let record = common::record(&run, 0.9);
    store.write_record(&record).unwrap();
    let sound = serde_json::to_value(&record).unwrap();
    let path = store.record_path(&run.id).unwrap();
    let target = Target {
        name: "record",
        corpus: &corpus("record"),
        inputs: 4_000,
        percent: 15,
        base: 1 << 16,
        per_byte: PER_BYTE,
    };
    let (inputs, good) = target.run(
        |rng| damaged(&sound, rng),
        |bytes| {
            fs::write(&path, bytes).unwrap();
            match store.read_record(&run.id) {
                Ok(read) => {
                    let read = read.unwrap();
                    assert_eq!(read.digest_result(), read.result_sha256);
                    true
                }
                Err(error) => {
                    assert!(error.hint().is_some(), "{error}");
                    false
                }
            }
        },
    );
    // What is damaged in times and provenance only is accepted.
    assert!(good > 0 && good < inputs / 2, "{good}");
}

#[test]
fn damaged_plans() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let plan = common::plan((1..4).map(|seed| common::run("a", seed, &[("x", json!(seed))])).collect());
    store.write_plan(&plan).unwrap();
    let sound = serde_json::to_value(&plan).unwrap();
    let path = store.plan_path(&plan.experiment).unwrap();
    let target =
        Target { name: "plan", corpus: &corpus("plan"), inputs: 4_000, percent: 10, base: 1 << 16, per_byte: PER_BYTE };
    let (inputs, good) = target.run(
        |rng| damaged(&sound, rng),
        |bytes| {
            fs::write(&path, bytes).unwrap();
            let Ok(plan) = store.read_plan(&plan.experiment) else { return false };
            let _ = plan.unwrap().stale(b"");
            true
        },
    );
    assert!(good > 0 && good < inputs, "{good}");
}

#[test]
fn damaged_packs() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let plan = common::plan((1..4).map(|seed| common::run("a", seed, &[("x", json!(seed))])).collect());
    store.write_plan(&plan).unwrap();
    let records: Vec<_> = plan.runs.iter().map(|run| common::record(run, 0.9)).collect();
    records.iter().for_each(|record| store.write_record(record).unwrap());
    let path = store.pack(&plan.experiment).unwrap().unwrap().path.unwrap();
    let sound = fs::read(&path).unwrap();
    let mut reader = std::io::BufReader::new(sound.as_slice());
    let index: Value = serde_json::from_reader(flate2::bufread::GzDecoder::new(&mut reader)).unwrap();
    let rest = reader.buffer().to_vec();
    assert!(!rest.is_empty() && sound.ends_with(&rest));
    let target =
        Target { name: "pack", corpus: &corpus("pack"), inputs: 2_000, percent: 10, base: 1 << 18, per_byte: PER_BYTE };
    let (inputs, good) = target.run(
        |rng| {
            // The index, packed again; or the bytes.
            if rng.below(2) == 0 {
                let mut tree = index.clone();
                damage_tree(&mut tree, &["files", "place", "offset", "length", "at", "size", "sha256", "result"], rng);
                let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                serde_json::to_writer(&mut packed, &tree).unwrap();
                return [packed.finish().unwrap(), rest.clone()].concat();
            }
            let mut bytes = sound.clone();
            damage(&mut bytes, usize::MAX, &["\u{1f}", "\u{8}", "\0\0\0"], rng);
            bytes
        },
        |bytes| {
            fs::write(&path, bytes).unwrap();
            // Another store, which remembers no index.
            let store = Store::open(dir.path()).unwrap();
            let reading = store.records_of(&plan);
            let (_, _) = (store.read_plan(&plan.experiment), store.ids());
            // What is read is what was packed.
            assert!(
                reading.runs.iter().zip(&records).all(|(run, sound)| run.1.as_ref().is_none_or(|read| read == sound))
            );
            reading.refused.is_empty()
        },
    );
    assert!(good > 0 && good < inputs, "{good}");
}

#[test]
fn nesting_without_end_is_refused() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let path = store.record_path("a").unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for (open, key) in [("[", ""), ("{\"a\":", ""), ("[", "\"config\": "), ("{\"a\":", "\"config\": ")] {
        fs::write(&path, format!("{{\"schema\": 1, {key}{}", open.repeat(1_000_000))).unwrap();
        let error = store.read_record("a").unwrap_err();
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    }
}

/// The first gzip member of a file as it was, and what is behind it.
fn first_member(bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut decoder = flate2::bufread::GzDecoder::new(bytes);
    let mut member = Vec::new();
    decoder.read_to_end(&mut member).unwrap();
    (member, decoder.into_inner())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn damaged_archives() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let path = dir.path().join("x.archive");
    let mut writer = ArchiveWriter::new(&path).unwrap();
    let files =
        [(Part::Plan, "fig", &b"a plan"[..]), (Part::Record, "a", b"a record"), (Part::Snapshot, "b", &[7; 90])];
    for (part, name, bytes) in files {
        writer.add(part, name, bytes).unwrap();
    }
    writer.finish().unwrap();
    let sound = fs::read(&path).unwrap();
    let (index, rest) = first_member(&sound);
    let index: Value = serde_json::from_slice(&index).unwrap();
    let words =
        ["runs/a.json", "runs/../../a.json", "/a", "plans/.json", "snapshots/a.snapshot", "18446744073709551615", "-1"];
    let make = |rng: &mut Rng| match rng.below(3) {
        0 => {
            let mut bytes = sound.clone();
            damage(&mut bytes, usize::MAX, &["\u{1f}\u{8b}"], rng);
            bytes
        }
        _ => {
            let mut tree = index.clone();
            damage_tree(&mut tree, &words, rng);
            [&gzip(tree.to_string().as_bytes()), rest].concat()
        }
    };
    // The decoder has a window and tables; what is compressed may swell a thousandfold.
    let target = Target {
        name: "archive",
        corpus: &corpus("archive"),
        inputs: 3_000,
        percent: 5,
        base: 1 << 20,
        per_byte: 1_100,
    };
    let (inputs, good) = target.run(make, |bytes| {
        fs::write(&path, bytes).unwrap();
        let read = |archive: &Archive| archive.files().try_for_each(|(part, name)| archive.read(part, name).map(drop));
        match Archive::open(&path).and_then(|archive| read(&archive)) {
            Ok(()) => true,
            Err(error) => {
                assert!(error.hint().is_some(), "{error}");
                false
            }
        }
    });
    assert!(good > 0 && good < inputs / 2, "{good}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is written");
}
