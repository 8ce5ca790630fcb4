//! Files whose digests all fit, and that are not what was written; and what is no file at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use crate::common::{plan, record, run, sealed};
use np_record::{Kind, Outcome, Plan, Record, Store, StoreError};

fn published() -> Store {
    published_at("cpu")
}

fn published_at(scale: &str) -> Store {
    Store::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/records").join(scale)).unwrap()
}

#[test]
fn a_plan_with_a_digest_has_its_text() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    // One of before, and one under the name of a published plan; resealed without their text.
    let mut asked = published().read_plan("fig8-stability").unwrap().unwrap();
    asked.runs.truncate(6);
    for plan in [Plan { spec: None, ..plan(vec![run("full", 41, &[])]) }, asked] {
        let path = store.plan_path(&plan.experiment).unwrap();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, serde_json::to_vec(&plan.clone().sealed()).unwrap()).unwrap();
        let error = store.read_plan(&plan.experiment).unwrap_err();
        assert!(matches!(error, StoreError::NoDigest { field: "spec", .. }) && error.is_damage(), "{error}");
        assert!(matches!(store.write_plan(&plan), Err(StoreError::NoDigest { field: "spec", .. })));
        fs::write(&path, serde_json::to_vec(&Plan { plan_sha256: None, ..plan.clone() }).unwrap()).unwrap();
        assert!(matches!(store.read_plan(&plan.experiment), Err(StoreError::Digest { .. })), "{}", plan.experiment);
    }
}

#[test]
fn a_published_run_has_the_published_results() {
    let dir = tempfile::tempdir().unwrap();
    let (published, store) = (published(), Store::open(dir.path()).unwrap());
    let plan = published.read_plan("fig2-sanity").unwrap().unwrap();
    let original = published.read_record(&plan.runs[0].id).unwrap().unwrap();
    let mut forged = original.clone();
    forged.epochs.iter_mut().for_each(|epoch| epoch.test_accuracy = Some(0.9999));
    store.write_record(&sealed(forged)).unwrap();
    let error = store.read_record(&original.id).unwrap_err();
    assert!(
        matches!(&error, StoreError::OtherResult { expected, .. } if *expected == original.result_sha256),
        "{error}"
    );
    assert!(error.is_damage() && error.to_string().contains("has other results than were published for the run"));
    // Made again it has another day, and the same results; that it failed is no result.
    let mut again = original.clone();
    again.provenance.started = "2026-11-26T00:00:00Z".into();
    store.write_record(&again).unwrap();
    assert!(store.read_record(&original.id).unwrap().is_some_and(|record| record.is_done()));
    let failed =
        Record { outcome: Outcome::Failed { reason: "killed".into() }, epochs: Vec::new(), ..original.clone() };
    store.write_record(&sealed(failed)).unwrap();
    assert!(!store.read_record(&original.id).unwrap().unwrap().is_done());
}

#[test]
fn every_published_record_has_its_result_listed() {
    let listed = include_str!("../../src/store/results.sha256");
    let mut seen = std::collections::BTreeSet::new();
    for store in [published(), published_at("paper")] {
        for id in store.ids().unwrap() {
            let record = store.read_record(&id).unwrap().unwrap();
            assert!(listed.contains(&format!("{}  {id}\n", record.result_sha256)), "{id}");
            // Those of before some configurations got a version of their own keep their ids.
            assert_eq!(np_record::PlannedRun::id_of(&record.config, &record.data.digest), id);
            seen.insert(id);
        }
    }
    assert_eq!(listed.lines().count(), seen.len(), "`cargo xtask results` brings the list up to date");
}

/// A pipe that nobody writes into would be waited for without end.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_named_and_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (run("full", 41, &[]), run("full", 42, &[]));
    let (path, plan_path) = (store.record_path(&one.id).unwrap(), store.plan_path("fig2-sanity").unwrap());
    let folder = |path: &Path| fs::create_dir_all(path).unwrap();
    let pipe = |path: &Path| {
        folder(path.parent().unwrap());
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let circle = |path: &Path| std::os::unix::fs::symlink(path, path).unwrap();
    store.write_record(&record(&two, 0.5)).unwrap();
    let ways: [&dyn Fn(&Path); 3] = [&folder, &pipe, &circle];
    for (made, way) in ways.into_iter().enumerate() {
        way(&path);
        way(&plan_path);
        let reading = store.records_of(&plan(vec![one.clone(), two.clone()]));
        assert!(matches!(&reading.refused[..], [StoreError::NotRegular { .. }]), "{:?}", reading.refused);
        assert!(reading.refused[0].is_damage() && reading.runs[1].1.is_some());
        assert!(matches!(store.read_plan("fig2-sanity"), Err(StoreError::NotRegular { .. })));
        for (kind, name) in [(Kind::Record, one.id.as_str()), (Kind::Plan, "fig2-sanity")] {
            let aside = store.set_aside(kind, name).unwrap();
            assert!(aside.to_string_lossy().ends_with(&format!("damaged-{}", made + 1)), "{aside:?}");
        }
        assert_eq!(store.read_record(&one.id).unwrap(), None);
    }
    // A link to a file is the file.
    fs::rename(store.record_path(&two.id).unwrap(), dir.path().join("two")).unwrap();
    std::os::unix::fs::symlink("../two", store.record_path(&two.id).unwrap()).unwrap();
    assert!(store.read_record(&two.id).unwrap().is_some());
}
