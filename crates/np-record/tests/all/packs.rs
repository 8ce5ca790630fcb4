//! Packs: they hold what was loose, to the byte; what is wrong with one is named and keeps nothing else from being read.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::common::{plan, record, run, sealed};
use np_record::{Kind, Outcome, Plan, Record, Store, StoreError};
use serde_json::json;
use tempfile::TempDir;

/// A store with a plan of this name and a record for each seed.
fn store(name: &str, seeds: &[u64]) -> (TempDir, Store, Plan) {
    let dir = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
    let store = Store::open(dir.path()).unwrap_or_else(|error| panic!("{error}"));
    let plan = fill(&store, name, seeds);
    (dir, store, plan)
}

fn fill(store: &Store, name: &str, seeds: &[u64]) -> Plan {
    let runs: Vec<_> = seeds.iter().map(|seed| run("full", *seed, &[("k", json!(1))])).collect();
    let plan = Plan { experiment: name.into(), ..plan(runs) }.sealed();
    let written = store.write_plan(&plan).and_then(|()| {
        plan.runs.iter().try_for_each(|run| store.write_record(&record(run, 0.9 + 0.001 * run.seed as f64)))
    });
    written.unwrap_or_else(|error| panic!("{error}"));
    plan
}

/// Every file below a folder, by its name, and what is in it.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for part in ["plans", "runs", "packs"] {
        for entry in fs::read_dir(root.join(part)).into_iter().flatten().flatten() {
            files.insert(Path::new(part).join(entry.file_name()), fs::read(entry.path()).unwrap_or_default());
        }
    }
    files
}

/// Copies plans, records and packs, as whoever merges stores does.
pub(crate) fn copied(from: &Path, to: &Path) {
    for part in ["plans", "runs", "packs"] {
        for entry in fs::read_dir(from.join(part)).into_iter().flatten().flatten() {
            fs::create_dir_all(to.join(part)).unwrap_or_default();
            fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap_or_default();
        }
    }
}

fn only_pack(store: &Store) -> PathBuf {
    let all: Vec<PathBuf> = files(store.root()).into_keys().filter(|path| path.starts_with("packs")).collect();
    let [path] = &all[..] else { panic!("{all:?}") };
    store.root().join(path)
}

#[test]
fn what_is_packed_is_read_and_comes_back_to_the_byte() {
    let (_dir, store, mut plan) = store("one", &[41, 42]);
    plan.runs.push(run("full", 43, &[("k", json!(1))]));
    plan.runs.push(run("full", 44, &[("k", json!(1))]));
    store.write_plan(&plan).unwrap();
    let mut failed = record(&plan.runs[2], 0.5);
    failed.outcome = Outcome::Failed { reason: "killed".into() };
    store.write_record(&sealed(failed)).unwrap();
    let (loose, reading) = (files(store.root()), store.records_of(&plan).runs);

    let packed = store.pack("one").unwrap().unwrap();
    assert_eq!(
        (packed.files, packed.moved, packed.left),
        (3, 3, 2),
        "the plan and two records; one failed, one is missing"
    );
    let path = only_pack(&store);
    assert_eq!(packed.path.as_ref(), Some(&path));
    assert_eq!(packed.packed_bytes, fs::metadata(&path).unwrap().len());
    let left: Vec<PathBuf> = files(store.root()).into_keys().filter(|path| !path.starts_with("packs")).collect();
    assert_eq!(left, [Path::new("runs").join(format!("{}.json", plan.runs[2].id))], "what failed stays loose");

    for store in [&store, &Store::open(store.root()).unwrap()] {
        assert_eq!(store.records_of(&plan).runs, reading);
        assert!(store.is_done(&plan.runs[0].id).unwrap() && !store.is_done(&plan.runs[2].id).unwrap());
        assert!(store.read_plan("one").unwrap().unwrap().agrees_with(&plan));
        assert_eq!((store.plans().unwrap(), store.ids().unwrap().len()), (vec!["one".into()], 3));
        assert_eq!(store.some_ids(2).unwrap().len(), 2);
    }
    // Whoever has no `np` reads it by `zcat`: the index, the plan, the records.
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(&path).unwrap()).read_to_end(&mut text).unwrap();
    let (head, rest) = text.split_at(text.iter().position(|byte| *byte == b'\n').unwrap() + 1);
    let index: serde_json::Value = serde_json::from_slice(head).unwrap();
    assert_eq!((&index["pack"], index["files"].as_array().unwrap().len()), (&json!("one"), 3));
    let kept = |path: &&PathBuf| !left.contains(path);
    let all: Vec<u8> = loose.keys().filter(kept).flat_map(|path| loose[path].clone()).collect();
    assert!(rest == all, "the files as they were, in the order of their places");

    let packs = files(store.root());
    assert_eq!(store.pack("one").unwrap().unwrap().moved, 0);
    assert_eq!(files(store.root()), packs, "packed again, it is the same file");
    assert_eq!(store.unpack("one").unwrap().moved, 3);
    assert_eq!(files(store.root()), loose, "to the byte");
    store.pack("one").unwrap();
    assert_eq!(files(store.root()), packs, "and the same bytes once more");
    assert!(store.pack("none").unwrap().is_none());
}

#[test]
fn what_is_trained_later_is_packed_with_the_rest() {
    let (_dir, store, plan) = store("one", &[41, 42]);
    store.pack("one").unwrap();
    let first = only_pack(&store);
    let more = fill(&store, "one", &[41, 42, 43]);
    // Records of the first two are loose again, and the same.
    let packed = store.pack("one").unwrap().unwrap();
    assert_eq!((packed.files, packed.moved), (4, 4));
    assert!(!first.exists() && only_pack(&store) != first, "one pack a plan");
    assert_eq!(store.records_of(&more).runs.iter().filter(|(_, record)| record.is_some()).count(), 3);
    // A run that the plan no longer has is not lost.
    store.write_plan(&plan).unwrap();
    store.pack("one").unwrap();
    assert!(store.read_record(&more.runs[2].id).unwrap().is_some());
    // Another plan with the same runs does not hold them twice.
    fill(&store, "two", &[42]);
    let packed = store.pack("two").unwrap().unwrap();
    assert_eq!((packed.files, packed.moved, packed.left), (1, 2, 0));
    assert!(store.read_record(&more.runs[1].id).unwrap().is_some());
}

#[test]
fn stores_merge_by_copying_files() {
    let (_dir, store, _) = store("one", &[41, 42]);
    let (_other_dir, other, _) = self::store("one", &[42, 43]);
    // The same run of another day: other times, the same results.
    let id = run("full", 42, &[("k", json!(1))]).id;
    let mut again = other.read_record(&id).unwrap().unwrap();
    again.provenance.started = "2026-11-26T00:00:00Z".into();
    other.write_record(&again).unwrap();
    store.pack("one").unwrap();
    other.pack("one").unwrap();
    copied(other.root(), store.root());
    let packs = || files(store.root()).into_keys().collect::<Vec<_>>();
    assert_eq!(packs().len(), 2, "neither replaces the other: {:?}", packs());
    assert_eq!(store.ids().unwrap().len(), 3);
    assert!(store.ids().unwrap().iter().all(|id| store.is_done(id).unwrap()));
    assert_eq!(store.pack("one").unwrap().unwrap().files, 4);
    assert_eq!((packs().len(), store.ids().unwrap().len()), (1, 3));
}

#[test]
fn a_run_has_one_result() {
    let (_dir, store, plan) = store("one", &[41, 42]);
    let id = &plan.runs[0].id;
    let mut loose = store.read_record(id).unwrap().unwrap();
    store.pack("one").unwrap();
    // Made again it has another day, and comes first.
    loose.provenance.started = "2026-11-26T00:00:00Z".into();
    store.write_record(&loose).unwrap();
    assert_eq!(store.read_record(id).unwrap().unwrap().provenance.started, loose.provenance.started);
    // That it failed here is no result beside one.
    let failed = Record { outcome: Outcome::Failed { reason: "killed".into() }, ..loose.clone() };
    store.write_record(&sealed(failed)).unwrap();
    assert!(store.is_done(id).unwrap());
    // Other results, under digests that fit.
    loose.epochs[1].test_accuracy = Some(0.99);
    store.write_record(&sealed(loose)).unwrap();
    let error = store.read_record(id).unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }) && error.is_damage(), "{error}");
    let said = error.to_string();
    for part in [&format!("runs/{id}.json` has other results of the run `{id}` than `"), "packs/one."] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(error.hint().unwrap().starts_with("a run has one result"));
    assert_eq!(store.records_of(&plan).refused.len(), 1, "and no other run is concerned");
    let before = files(store.root());
    assert!(store.pack("one").is_err() && files(store.root()) == before, "nothing is removed");
    assert!(store.unpack("one").is_err() && before.keys().all(|path| store.root().join(path).exists()));
    for other in &plan.runs[1..] {
        fs::remove_file(store.record_path(&other.id).unwrap()).unwrap();
    }
    let aside = store.set_aside(Kind::Record, id).unwrap();
    assert!(aside.ends_with(format!("runs/{id}.json.damaged-1")), "{aside:?}");
    assert!(store.is_done(id).unwrap(), "the packed one counts");
}

#[test]
fn a_damaged_pack_is_named_and_set_aside_and_blocks_no_other() {
    let (_dir, store, plan) = store("one", &[41, 42]);
    let other = fill(&store, "two", &[50]);
    store.pack("one").unwrap();
    store.pack("two").unwrap();
    let path = files(store.root()).into_keys().find(|path| path.to_string_lossy().contains("packs/one.")).unwrap();
    let path = store.root().join(path);
    let (sound, records) = (fs::read(&path).unwrap(), store.records_of(&plan).runs);
    // Whatever is damaged is told or without meaning (a gzip member's time, or its system), and never a run that is silently missing or another.
    let check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let store = Store::open(store.root()).unwrap();
        let reading = store.records_of(&plan);
        for (read, sound) in reading.runs.iter().zip(&records) {
            assert!(read.1 == sound.1 || (read.1.is_none() && !reading.refused.is_empty()), "{what}");
        }
        assert!(
            reading.refused.iter().all(|error| error.is_damage() && error.to_string().contains("packs/one.")),
            "{what}"
        );
        assert!(
            store.read_plan("one").is_ok_and(|plan| plan.is_some()) || store.read_plan("one").unwrap_err().is_damage(),
            "{what}"
        );
        assert!(store.is_done(&other.runs[0].id).unwrap(), "{what}: the other pack is read");
        reading.refused.len()
    };
    let mut told = 0;
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        told += usize::from(check(&bytes, &format!("byte {at}")) > 0);
        assert!(check(&sound[..at], &format!("cut at {at}")) > 0);
    }
    // Of the bytes three quarters and more are of records or of the index.
    assert!(told > sound.len() / 7 / 2, "{told} of {}", sound.len() / 7);

    // The index: the whole pack is set aside, and named once for all of its runs.
    assert_eq!(check(&sound[..20], "cut"), 1);
    let store = Store::open(store.root()).unwrap();
    let aside = store.set_aside_packs().unwrap();
    let [(name, error)] = &aside[..] else { panic!("{aside:?}") };
    assert!(name.to_string_lossy().ends_with(".json.gz.damaged-1"), "{name:?}");
    assert!(
        matches!(error, StoreError::DamagedPack { .. }) && error.hint().unwrap().starts_with("copy it there again"),
        "{error}"
    );
    let reading = store.records_of(&plan);
    assert!(reading.refused.is_empty() && reading.runs.iter().all(|(_, record)| record.is_none()), "to be made anew");

    // One record, the last in the file: the others stay where they are.
    let last = plan.runs.iter().map(|run| &run.id).max().unwrap();
    let mut bytes = sound.clone();
    let end = bytes.len() - 100;
    bytes[end] ^= 0xff;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(store.records_of(&plan).refused.len(), 1);
    let error = store.read_record(last).unwrap_err();
    assert!(error.is_damage() && error.to_string().contains(&format!("json.gz/runs/{last}.json` ")), "{error}");
    let aside = store.set_aside(Kind::Record, last).unwrap();
    assert_eq!(fs::read(aside).unwrap(), bytes, "what it held is not lost");
    assert_eq!(store.read_record(last).unwrap(), None);
    let kept = store.records_of(&plan);
    assert!(kept.refused.is_empty() && kept.runs.iter().filter(|(_, record)| record.is_some()).count() == 1);
}

#[test]
fn what_is_in_the_place_of_a_pack_is_named() {
    let (_dir, store, plan) = store("one", &[41]);
    store.pack("one").unwrap();
    let path = only_pack(&store);
    let bytes = fs::read(&path).unwrap();
    let renamed = path.with_file_name("other.01234567.json.gz");
    fs::rename(&path, &renamed).unwrap();
    assert!(matches!(store.read_record(&plan.runs[0].id), Err(StoreError::WrongName { field: "pack", .. })));
    fs::remove_file(&renamed).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(store.read_record(&plan.runs[0].id), Err(StoreError::NotRegular { .. })));
    assert_eq!(store.set_aside_packs().unwrap().len(), 1);
    assert_eq!(store.read_record(&plan.runs[0].id).unwrap(), None);
    // Nobody takes a half-written file or another's for a pack.
    fs::write(path.with_file_name(".one.tmp"), &bytes).unwrap();
    fs::write(path.with_file_name("one.json.gz"), &bytes).unwrap();
    assert_eq!(store.read_record(&plan.runs[0].id).unwrap(), None);
    fs::write(&path, &bytes).unwrap();
    assert!(store.read_record(&plan.runs[0].id).unwrap().is_some());
}

#[test]
fn published_records_are_checked_in_a_pack_as_they_are_loose() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/records/cpu");
    let (dir, name) = (tempfile::tempdir().unwrap(), "fig6-dynamics");
    let store = Store::open(dir.path()).unwrap();
    copied(&folder, store.root());
    for name in store.plans().unwrap() {
        let plan = store.read_plan(&name).unwrap().unwrap();
        let reading = store.records_of(&plan);
        assert!(reading.refused.is_empty() && reading.runs.iter().all(|(_, record)| record.is_some()), "{name}");
    }
    // Figure 6 reads runs of figure 2.
    for name in ["fig2-sanity", name] {
        store.unpack(name).unwrap();
    }
    let plan = store.read_plan(name).unwrap().unwrap();
    let (loose, reading) = (files(store.root()), store.records_of(&plan));
    assert!(reading.refused.is_empty() && reading.runs.iter().all(|(_, record)| record.is_some()));
    let packed = store.pack(name).unwrap().unwrap();
    assert!(packed.moved > 10 && 2 * packed.packed_bytes < packed.loose_bytes, "{packed:?}");
    assert_eq!(store.records_of(&plan).runs, reading.runs);
    store.unpack(name).unwrap();
    assert!(files(store.root()) == loose);
    // One that carries no digest of its whole is held to the published one.
    let old = plan.runs.iter().find(|run| {
        let text = fs::read_to_string(store.record_path(&run.id).unwrap()).unwrap();
        !text.contains("\"record_sha256\"")
    });
    if let Some(run) = old {
        let path = store.record_path(&run.id).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"cores\": ", "\"cores\": 1", 1)).unwrap();
        assert!(matches!(store.pack(name), Err(StoreError::Digest { field: "the published SHA-256", .. })));
    }
}
