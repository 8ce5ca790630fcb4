//! What is written is what is read, and whatever is wrong with a file is said.

use std::fs;

use crate::common::{plan, record, run, sealed};
use np_record::{Kind, Outcome, Plan, PlannedRun, SCHEMA, SEMANTICS, Stale, Store, StoreError};
use serde_json::json;

#[test]
fn an_empty_store_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("not/there/yet")).unwrap();
    assert_eq!(store.read_record("0123456789abcdef").unwrap(), None);
    assert_eq!(store.read_plan("fig2-sanity").unwrap(), None);
    assert!(store.ids().unwrap().is_empty() && store.plans().unwrap().is_empty());
    assert!(!store.root().exists());
}

#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("quick")).unwrap();
    let (one, two) = (run("full", 41, &[]), run("gradient-only", 41, &[]));
    let plan = plan(vec![one.clone(), two.clone()]);
    let mut first = record(&one, 0.1_f64 + 0.2);
    first.epochs[0].test_loss = Some(f64::INFINITY);
    let first = sealed(first);
    store.write_plan(&plan).unwrap();
    store.write_record(&first).unwrap();

    assert_eq!(store.read_plan("fig2-sanity").unwrap(), Some(plan.clone()));
    assert_eq!(store.records_of(&plan).runs, [(one.clone(), Some(first.clone())), (two.clone(), None)]);
    assert!(store.is_done(&one.id).unwrap() && !store.is_done(&two.id).unwrap());
    assert_eq!(store.ids().unwrap(), std::slice::from_ref(&one.id));
    assert_eq!(store.plans().unwrap(), ["fig2-sanity"]);

    let text = fs::read_to_string(store.record_path(&one.id).unwrap()).unwrap();
    assert!(text.ends_with("}\n") && text.contains("\n  \"schema\": 1,\n"), "{text}");
    assert!(
        text.contains("\"test_loss\": \"inf\"") && text.contains("\"test_accuracy\": 0.30000000000000004"),
        "{text}"
    );
}

#[test]
fn a_failed_run_is_not_done_and_a_diverged_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let one = run("full", 41, &[]);
    for (outcome, done) in
        [(Outcome::Failed { reason: "killed".into() }, false), (Outcome::Diverged { epoch: 2, step: 14 }, true)]
    {
        let mut record = record(&one, 0.5);
        record.outcome = outcome;
        store.write_record(&sealed(record)).unwrap();
        assert_eq!(store.is_done(&one.id).unwrap(), done);
    }
}

#[test]
fn a_truncated_record_is_named_with_its_place_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let record = record(&run("full", 41, &[]), 0.5);
    store.write_record(&record).unwrap();
    let path = store.record_path(&record.id).unwrap();
    let bytes = fs::read(&path).unwrap();
    // Every length but the last two: without the newline, and the whole file, it is still a record.
    for length in (0..bytes.len() - 1).step_by(97).chain([bytes.len() - 2]) {
        fs::write(&path, &bytes[..length]).unwrap();
        let error = store.read_record(&record.id).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(message.contains("is not a whole record") && message.contains("line "), "{message}");
        assert_eq!(error.hint().unwrap(), "`np run` sets it aside and makes it anew");
    }
    fs::write(&path, [&bytes[..], b"{}"].concat()).unwrap();
    assert!(matches!(store.read_record(&record.id), Err(StoreError::Malformed { .. })));
}

#[test]
fn a_foreign_file_is_named_with_the_key_that_does_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let record = record(&run("full", 41, &[]), 0.5);
    let mut value = serde_json::to_value(&record).unwrap();
    value["epochs"][1]["train_loss"] = json!("much");
    let path = store.record_path(&record.id).unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, value.to_string()).unwrap();
    let message = store.read_record(&record.id).unwrap_err().to_string();
    assert!(message.contains("at `epochs[1].train_loss`: invalid value: string \"much\""), "{message}");

    fs::write(&path, serde_json::to_vec(&plan(Vec::new())).unwrap()).unwrap();
    assert!(matches!(store.read_record(&record.id), Err(StoreError::Malformed { .. })));
}

#[test]
fn a_newer_schema_is_not_called_malformed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let path = store.plan_path("later").unwrap();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, json!({ "schema": SCHEMA + 1, "something": "new" }).to_string()).unwrap();
    let error = store.read_plan("later").unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { got, .. } if got == SCHEMA + 1), "{error}");
    assert!(error.to_string().contains("this build reads up to `1`"), "{error}");
}

#[test]
fn a_renamed_or_edited_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let record = record(&run("full", 41, &[]), 0.5);
    store.write_record(&record).unwrap();
    let path = store.record_path(&record.id).unwrap();
    let other = "0123456789abcdef";
    fs::copy(&path, store.record_path(other).unwrap()).unwrap();
    let error = store.read_record(other).unwrap_err();
    assert!(matches!(&error, StoreError::WrongName { expected, got, .. } if expected == other && *got == record.id));
    // Its own name belongs to a sound record, which it would replace; then to nobody; then to one that says the other name again.
    assert!(error.hint().unwrap().starts_with("remove it: what has that name is sound; `np run` "), "{error}");
    let kept = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let error = store.read_record(other).unwrap_err();
    assert!(error.hint().unwrap().starts_with("give it its own name back; `np run` "), "{error}");
    let swapped = fs::read_to_string(store.record_path(other).unwrap()).unwrap().replace(&record.id, other);
    fs::write(&path, swapped).unwrap();
    let error = store.read_record(other).unwrap_err();
    assert!(error.hint().unwrap().starts_with("give it its own name back; `np run` "), "{error}");
    fs::write(&path, kept).unwrap();

    let edited = fs::read_to_string(&path).unwrap().replace("\"test_accuracy\": 0.5\n", "\"test_accuracy\": 0.9\n");
    let edited = edited.replace("\"test_accuracy\": 0.5,", "\"test_accuracy\": 0.9,");
    fs::write(&path, edited).unwrap();
    assert!(matches!(store.read_record(&record.id), Err(StoreError::Digest { .. })));

    let mut unsealed = record;
    unsealed.epochs.pop();
    assert!(matches!(store.write_record(&unsealed), Err(StoreError::Unsealed { .. })));
}

#[test]
fn timing_and_provenance_may_differ_without_touching_the_digest() {
    let mut record = record(&run("full", 41, &[]), 0.5);
    record.timing[0].backward = 9.0;
    record.provenance.threads = 1;
    assert_eq!(record.digest_result(), record.result_sha256);
}

#[test]
fn names_stay_inside_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for name in ["", "..", ".hidden", "a/b", "../x", "c:x", "é", "end."] {
        assert!(matches!(store.read_plan(name), Err(StoreError::BadName { .. })), "{name}");
    }
    assert!(store.read_plan("v1.2_final-3").unwrap().is_none());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(Store::open(&file), Err(StoreError::Io { .. })));
}

#[test]
fn an_id_is_of_the_values_and_not_of_their_order() {
    let a = json!({ "seed": 1, "optimizer": { "lr": 0.1, "name": "adam" } });
    let b = json!({ "optimizer": { "name": "adam", "lr": 0.1 }, "seed": 1 });
    let id = PlannedRun::id_of(&a, "d");
    assert_eq!(id, PlannedRun::id_of(&b, "d"));
    assert!(id != PlannedRun::id_of(&a, "e") && id != PlannedRun::id_of(&json!({ "seed": 1 }), "d"));
    // printf '{"optimizer":{"lr":0.1,"name":"adam"},"seed":1}\0d\0%s' 1 | sha256sum | cut -c-16
    assert!(SEMANTICS > 1 || id == "6ac168c65400d930");
}

#[test]
fn staleness() {
    // printf 'a: 1' | sha256sum
    let digest = "16c3c6d78678d53d39ab2c7a5a7bc4596567b46a1a57000a2d707334f779b824";
    let fresh = Plan { spec_sha256: digest.into(), ..plan(vec![run("full", 41, &[])]) };
    assert_eq!(fresh.stale(b"a: 2"), Some(Stale::Spec));
    assert_eq!(fresh.stale(b"a: 1"), None);
    let overridden = Plan { overrides: vec!["optimizer.lr=1".into()], ..fresh.clone() };
    assert_eq!(overridden.stale(b"a: 1"), Some(Stale::Overrides(vec!["optimizer.lr=1".into()])));
    let mut older = fresh;
    older.runs[0].id = "0000000000000000".into();
    assert_eq!(older.stale(b"a: 1"), Some(Stale::Id("0000000000000000".into())));
}

/// Writes a record as it stands, whatever its digests are.
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
fn put(store: &Store, id: &str, record: &impl serde::Serialize) {
    fs::write(store.record_path(id).unwrap(), serde_json::to_vec(record).unwrap()).unwrap();
}

#[test]
fn a_record_is_the_run_that_its_id_names() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (run("full", 41, &[]), run("full", 42, &[]));
    store.write_record(&record(&one, 0.5)).unwrap();
    // Digests fit, and the id is that of another run.
    let mut other = record(&two, 0.9);
    other.id.clone_from(&one.id);
    put(&store, &one.id, &sealed(other.clone()));
    let error = store.read_record(&one.id).unwrap_err();
    assert!(
        matches!(&error, StoreError::OtherRun { expected, got, .. } if *expected == one.id && *got == two.id),
        "{error}"
    );
    assert!(matches!(store.write_record(&other), Err(StoreError::Unsealed { field: "id", .. })));
    let mut older = record(&one, 0.5);
    older.semantics = SEMANTICS - 1;
    put(&store, &one.id, &sealed(older));
    assert!(matches!(store.read_record(&one.id), Err(StoreError::OtherRun { .. })));
    // A plan that asks for another configuration under the id of a record.
    store.write_record(&record(&one, 0.5)).unwrap();
    let edited = PlannedRun { config: two.config, ..one.clone() };
    let reading = store.records_of(&plan(vec![edited]));
    assert!(reading.runs[0].1.is_none());
    assert!(matches!(&reading.refused[..], [StoreError::OtherRun { .. }]), "{:?}", reading.refused);
}

#[test]
fn every_part_of_a_file_is_under_a_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let one = run("full", 41, &[]);
    store.write_record(&record(&one, 0.5)).unwrap();
    let sound = serde_json::to_value(store.read_record(&one.id).unwrap()).unwrap();
    for (pointer, value) in [
        ("/data/title", json!("Fashion-MNIST")),
        ("/timing/0/forward", json!(0.1)),
        ("/provenance/machine/cpu", json!("another")),
        ("/data/train_examples", json!(60_000)),
    ] {
        let mut edited = sound.clone();
        *edited.pointer_mut(pointer).unwrap() = value;
        put(&store, &one.id, &edited);
        let error = store.read_record(&one.id).unwrap_err();
        assert!(matches!(error, StoreError::Digest { field: "record_sha256", .. }) && error.is_damage(), "{error}");
        edited.as_object_mut().unwrap().shift_remove("record_sha256");
        put(&store, &one.id, &edited);
        let error = store.read_record(&one.id).unwrap_err();
        assert!(matches!(error, StoreError::NoDigest { field: "record_sha256", .. }), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.starts_with("made by an earlier version: its description is not under a digest"), "{hint}");
    }
    // Keys may stand in any order.
    let turned: serde_json::Map<_, _> = sound.as_object().unwrap().clone().into_iter().rev().collect();
    put(&store, &one.id, &turned);
    assert!(store.read_record(&one.id).unwrap().is_some());

    let asked = plan(vec![one.clone(), run("none", 41, &[])]);
    store.write_plan(&asked).unwrap();
    let path = store.plan_path("fig2-sanity").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"arm\": \"full\"", "\"arm\": \"half\"")).unwrap();
    assert!(matches!(store.read_plan("fig2-sanity"), Err(StoreError::Digest { field: "plan_sha256", .. })));
    let with_text = Plan { spec: Some("a: 2".into()), ..asked };
    store.write_plan(&with_text).unwrap();
    assert!(matches!(store.read_plan("fig2-sanity"), Err(StoreError::Digest { field: "spec_sha256", .. })));
}

#[test]
fn one_damaged_record_keeps_no_other_from_being_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (one, two) = (run("full", 41, &[]), run("full", 42, &[]));
    store.write_record(&record(&one, 0.5)).unwrap();
    store.write_record(&record(&two, 0.6)).unwrap();
    fs::write(store.record_path(&one.id).unwrap(), "{").unwrap();
    let reading = store.records_of(&plan(vec![one.clone(), two, run("other", 41, &[]), one.clone()]));
    let there: Vec<bool> = reading.runs.iter().map(|(_, record)| record.is_some()).collect();
    assert_eq!(there, [false, true, false, false]);
    assert!(matches!(&reading.refused[..], [StoreError::Malformed { .. }]), "named once: {:?}", reading.refused);
    for n in [1, 2] {
        let aside = store.set_aside(Kind::Record, &one.id).unwrap();
        assert!(aside.ends_with(format!("runs/{}.json.damaged-{n}", one.id)) && aside.is_file(), "{aside:?}");
        assert_eq!(store.read_record(&one.id).unwrap(), None);
        assert_eq!(store.ids().unwrap().len(), 1, "what is set aside is no record");
        fs::write(store.record_path(&one.id).unwrap(), "{").unwrap();
    }
}

/// Those of before files carried a digest of their whole: wherever they are copied to, they are what was published.
#[test]
fn published_files_are_read_as_they_are_and_not_edited() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/records/cpu");
    let (published, dir) = (Store::open(folder).unwrap(), tempfile::tempdir().unwrap());
    let copy = Store::open(dir.path()).unwrap();
    assert!(!published.plans().unwrap().is_empty());
    let loose = Store::open(dir.path().join("loose")).unwrap();
    crate::packs::copied(published.root(), loose.root());
    for name in published.plans().unwrap() {
        loose.unpack(&name).unwrap();
    }
    for name in published.plans().unwrap() {
        let plan = published.read_plan(&name).unwrap().unwrap();
        let reading = published.records_of(&plan);
        assert!(reading.refused.is_empty(), "{name}: {:?}", reading.refused);
        let Some((run, Some(_))) = reading.runs.first() else { panic!("{name}: no record") };
        fs::create_dir_all(dir.path().join("runs")).unwrap();
        let text = fs::read_to_string(loose.record_path(&run.id).unwrap()).unwrap();
        let path = copy.record_path(&run.id).unwrap();
        fs::write(&path, &text).unwrap();
        assert!(copy.read_record(&run.id).unwrap().is_some());
        let title = text.lines().find(|line| line.trim_start().starts_with("\"title\": ")).unwrap();
        fs::write(&path, text.replacen(title, "    \"title\": \"another\",", 1)).unwrap();
        assert!(copy.read_record(&run.id).unwrap_err().is_damage());
    }
}
