//! Archives whose index is sound and whose content is damaged: what is collected is refused or sound, and lies in the store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Lab, TINY};
use np_data::{DataName, DataSet, Source};
use np_fuzz::{Meter, Rng, Target, damage, damage_tree, memory_folder};
use np_record::{ArchiveWriter, Part, Store};
use np_runner::{Error, News, Request, RunConfig, collect, plan, train};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

#[global_allocator]
static METER: Meter = Meter;

/// Keys of plans and records, and values that mean something to a file system.
const WORDS: [&str; 14] = [
    "id",
    "experiment",
    "scale",
    "spec",
    "runs",
    "config",
    "outcome",
    "failed",
    "..",
    "/",
    "paper",
    "plan_sha256",
    "record_sha256",
    "result_sha256",
];

/// The first run of the tiny experiment after its first epoch.
fn snapshot(lab: &Lab) -> (String, Vec<u8>) {
    let request = Request { file: lab.path("tiny.yaml"), ..Request::default() };
    let run = plan(&request, None).unwrap().plan.runs.remove(0);
    let config: RunConfig = serde_json::from_value(run.config.clone()).unwrap();
    let data = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap().into();
    let mut bytes = Vec::new();
    train(&config, &data, None, &mut |news| {
        if let News::Epoch(_, _, Some(state)) = news {
            bytes = state.snapshot(&run.id)?.to_bytes()?;
        }
        Ok(())
    })
    .unwrap();
    (run.id, bytes)
}

fn damaged(bytes: &[u8], rng: &mut Rng) -> Vec<u8> {
    match (serde_json::from_slice::<Value>(bytes), rng.below(3)) {
        (Ok(mut tree), 1..) => {
            damage_tree(&mut tree, &WORDS, rng);
            serde_json::to_vec_pretty(&tree).unwrap()
        }
        // A snapshot, with the digest made to fit.
        (Err(_), 1..) => {
            let end = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let mut rest = bytes[end..].to_vec();
            damage(&mut rest, 2_000, &WORDS, rng);
            let digest: String = Sha256::digest(&rest).iter().map(|byte| format!("{byte:02x}")).collect();
            [format!("np-snapshot 1 {digest}\n").as_bytes(), &rest].concat()
        }
        _ => {
            let mut bytes = bytes.to_vec();
            damage(&mut bytes, usize::MAX, &WORDS, rng);
            bytes
        }
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn damaged_contents() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "there"]);
    let there = Store::open(lab.path("there")).unwrap();
    let (begun, kept) = snapshot(&lab);
    let mut sound = vec![(Part::Plan, "tiny".to_owned(), there.give_plan("tiny").unwrap().unwrap())];
    sound.push((Part::Snapshot, begun.clone(), kept));
    for id in there.ids().unwrap().into_iter().filter(|id| *id != begun) {
        let bytes = there.give_loose(&id).unwrap().unwrap().1;
        sound.push((Part::Record, id, bytes));
    }
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let (path, home) = (dir.path().join("x.archive"), dir.path().join("home"));
    let make = |rng: &mut Rng| {
        let which = rng.below(sound.len());
        let mut writer = ArchiveWriter::new(&path).unwrap();
        for (at, (part, name, bytes)) in sound.iter().enumerate() {
            let bytes = if at == which { damaged(bytes, rng) } else { bytes.clone() };
            writer.add(*part, name, &bytes).unwrap();
        }
        writer.finish().unwrap();
        fs::read(&path).unwrap()
    };
    // All files of an archive are compressed, and the text of a plan is planned again.
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/collect");
    let target = Target { name: "collect", corpus: &corpus, inputs: 150, percent: 2, base: 64 << 20, per_byte: 4_096 };
    let (inputs, whole) = target.run(make, |bytes| {
        fs::write(&path, bytes).unwrap();
        let store = Store::open(&home).unwrap();
        let whole = match collect(std::slice::from_ref(&path), &store) {
            Ok(done) => done.iter().all(|one| one.refused.is_empty()),
            Err(Error::Record(_)) => false,
            Err(other) => panic!("{other}"),
        };
        for file in files(dir.path()).iter().filter(|file| **file != path) {
            let inside = file.strip_prefix(&home).unwrap();
            let known = ["plans/tiny.json", "runs", "snapshots"].iter().any(|folder| inside.starts_with(folder));
            assert!(known, "{}", file.display());
        }
        for id in store.ids().unwrap() {
            assert!(store.read_record(&id).unwrap().is_some(), "what is there is sound");
        }
        let _ = fs::remove_dir_all(&home);
        whole
    });
    // What is damaged in its times alone is accepted.
    assert!(whole < inputs, "{whole}");
}
