//! Damaged IDX and CIFAR files, plain and packed, and data folders: they may be refused, with no panic and with no more memory than
//! the bytes that are really there account for, and what is accepted keeps its promise.

#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use np_data::cifar::{self, RECORD};
use np_data::idx::{self, Kind};
use np_data::{DataName, DataSet, Source};
use np_fuzz::{Meter, Rng, Target, damage, memory_folder};

#[global_allocator]
static METER: Meter = Meter;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}

/// A buffer that doubles, while its last size is copied.
const GROWING: usize = 3;

/// Tables and buffers of the gzip decoder, which two bytes call for: 80,000, and some slack.
const DECODER: usize = 200_000;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn accepted(bytes: &[u8]) -> bool {
    let accepted = [Kind::Images, Kind::Labels].into_iter().filter(|&kind| {
        let Ok(idx) = idx::decode(bytes, Path::new("fuzz"), kind) else { return false };
        assert_eq!(idx.dims.len(), usize::from(kind.rank()));
        assert_eq!(idx.dims.iter().product::<usize>(), idx.data.len());
        true
    });
    accepted.count() > 0
}

/// Sound files: images and labels.
fn sound(rng: &mut Rng) -> Vec<u8> {
    match rng.below(2) {
        0 => idx::encode(&[3, 4, 4], &[9; 48]),
        _ => idx::encode(&[5], &[1, 2, 3, 4, 5]),
    }
}

#[test]
fn damaged_idx_files() {
    let target =
        Target { name: "idx", corpus: &corpus("idx"), inputs: 40_000, percent: 12, base: DECODER, per_byte: GROWING };
    let make = |rng: &mut Rng| {
        let mut bytes = sound(rng);
        damage(&mut bytes, 20, &[], rng); // most of it in the header
        bytes
    };
    let (inputs, good) = target.run(make, accepted);
    // some damage falls on pixels only: had nothing been accepted, the loop would test nothing but the first check
    assert!(good > inputs / 100 && good < inputs, "{good}");
}

#[test]
fn damaged_gzip_streams() {
    // Deflate packs at most 1,032 to 1.
    let per_byte = 1_100 * GROWING;
    let target = Target { name: "gzip", corpus: &corpus("gzip"), inputs: 4_000, percent: 5, base: DECODER, per_byte };
    let make = |rng: &mut Rng| {
        // damage inside of a sound stream, or to the stream itself, or both
        let (inside, outside) = (rng.below(3), rng.below(3));
        let mut bytes = if rng.below(50) == 0 { idx::encode(&[1 << 20], &vec![0; 1 << 20]) } else { sound(rng) };
        if inside > 0 {
            damage(&mut bytes, 20, &[], rng);
        }
        let mut stream = gzip(&bytes);
        if outside > 0 {
            damage(&mut stream, usize::MAX, &[], rng);
        }
        stream
    };
    let (inputs, good) = target.run(make, accepted);
    assert!(good > inputs / 100 && good < inputs, "{good}");
}

#[test]
fn damaged_cifar_files() {
    // Labels and images grow apart; a record is read at a time.
    let target = Target {
        name: "cifar",
        corpus: &corpus("cifar"),
        inputs: 4_000,
        percent: 10,
        base: 4 * RECORD,
        per_byte: GROWING + 1,
    };
    let make = |rng: &mut Rng| {
        let mut bytes: Vec<u8> =
            (0..1 + rng.below(3)).flat_map(|i| [vec![i as u8], vec![7; RECORD - 1]].concat()).collect();
        let reach = if rng.below(2) == 0 { 1 } else { usize::MAX };
        damage(&mut bytes, reach, &[], rng);
        bytes
    };
    let (inputs, good) = target.run(make, |bytes| {
        let Ok(split) = cifar::decode(bytes, Path::new("fuzz")) else { return false };
        assert_eq!(split.images.len(), split.labels.len() * split.image_len());
        assert!(split.labels.iter().all(|&label| label < 10));
        true
    });
    assert!(good > inputs / 100 && good < inputs, "{good}");
}

#[test]
fn damaged_notes_of_an_import() {
    let dir = tempfile::tempdir_in(memory_folder()).unwrap();
    let folder = dir.path().join("cifar10");
    fs::create_dir(&folder).unwrap();
    for file in cifar::TRAIN_FILES.iter().chain([&cifar::TEST_FILE]) {
        fs::write(folder.join(file), [vec![3], vec![7; RECORD - 1]].concat()).unwrap();
    }
    let digest = DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).unwrap().digest;
    let note = format!("variant JPEG\ndigest {digest}\n");
    let target = Target {
        name: "note",
        corpus: &corpus("note"),
        inputs: 1_000,
        percent: 2,
        base: 1 << 20,
        per_byte: 2 * GROWING,
    };
    let make = |rng: &mut Rng| {
        let mut bytes = note.clone().into_bytes();
        damage(&mut bytes, usize::MAX, &["variant ", "digest ", "\n", "\u{1b}[2J", "ß"], rng);
        bytes
    };
    let (inputs, good) = target.run(make, |bytes| {
        fs::write(folder.join("imported.txt"), bytes).unwrap();
        DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).is_ok()
    });
    assert!(good > 0 && good < inputs, "{good}");
}
