//! CIFAR-10's binary version: what is read, what is refused and in which words, and that no bytes can break the reader.

#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::fs;
use std::path::Path;

use np_data::cifar::{self, IMAGE, RECORD, TEST_FILE, TRAIN_FILES};
use np_data::{DataName, DataSet, Error, Source};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Three examples; the pixels tell file, example, plane and place.
fn batch(file: u8) -> Vec<u8> {
    let images: Vec<u8> = (0..3 * IMAGE).map(|i| (i % 241) as u8 ^ file).collect();
    cifar::encode(&[file, (file + 1) % 10, 9], &images)
}

/// A folder with 15 training and 3 test examples.
fn healthy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar10");
    fs::create_dir(&folder).unwrap();
    for (file, name) in (0..).zip(TRAIN_FILES.iter().chain([&TEST_FILE])) {
        fs::write(folder.join(name), batch(file)).unwrap();
    }
    dir
}

fn load(dir: &Path) -> Result<DataSet, Error> {
    DataSet::load(DataName::Cifar10, Source::Full, Some(dir))
}

/// A message with its hint on a second line.
fn told(error: &Error) -> String {
    error.hint().map_or_else(|| error.to_string(), |hint| format!("{error}\nhint: {hint}"))
}

fn message(dir: &Path) -> String {
    let message = told(&load(dir).unwrap_err());
    assert!(!message.ends_with('.'), "{message}");
    message
}

#[test]
fn a_folder_loads_in_the_order_of_its_files() {
    let dir = healthy();
    let set = load(dir.path()).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.classes), (15, 3, 10));
    assert_eq!(set.train.labels, [0, 1, 9, 1, 2, 9, 2, 3, 9, 3, 4, 9, 4, 5, 9]);
    assert_eq!(set.test.labels, [5, 6, 9]);
    // Fifteen images are not CIFAR-10.
    let title = format!("custom data in cifar10 (digest {})", &set.digest[..12]);
    assert_eq!((set.train.shape, set.title.as_str()), ([3, 32, 32], title.as_str()));
    assert_eq!(set.train.image(4).unwrap(), &batch(1)[RECORD + 1..2 * RECORD]);
    assert!(!set.is_official());

    // the archive's folder does as well
    let unpacked = tempfile::tempdir().unwrap();
    fs::create_dir(unpacked.path().join("cifar10")).unwrap();
    fs::rename(dir.path().join("cifar10"), unpacked.path().join("cifar10/cifar-10-batches-bin")).unwrap();
    assert_eq!(load(unpacked.path()).unwrap(), set);
}

#[test]
fn every_broken_file_is_named_with_what_was_expected_and_found() {
    let labelled = |label| [&batch(1)[..RECORD], &[label], &batch(1)[RECORD + 1..]].concat();
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (TRAIN_FILES[0], vec![], "at least 1 example", "found 0"),
        (TEST_FILE, batch(5)[..RECORD - 1].to_vec(), "whole records of 3073 bytes", "found 3072 bytes\nhint: "),
        (TRAIN_FILES[4], batch(4)[..2 * RECORD + 1].to_vec(), "whole records of 3073 bytes", "found 6147 bytes"),
        (TRAIN_FILES[1], vec![3; 22], "whole records of 3073 bytes", "found 22 bytes"),
        (TRAIN_FILES[1], b"<html>not found</html>".to_vec(), "records of 3073 bytes that begin", "found an HTML page"),
        (
            TEST_FILE,
            b"version https://git-lfs.github.com/spec/v1\n".repeat(99),
            "records of 3073",
            "found a Git LFS pointer",
        ),
        (TRAIN_FILES[0], [b"\x1f\x8b\x08\0", &batch(0)[..]].concat(), "records", "a gzip stream\nhint: unpack it"),
        (TRAIN_FILES[0], b"\x80\x02}q\x01(U".to_vec(), "records of 3073", "found a Python pickle"),
        (TRAIN_FILES[3], batch(3)[..2 * RECORD].to_vec(), "3 examples, as in `data_batch_1.bin`", "found 2\nhint: "),
        (TRAIN_FILES[2], batch(2).repeat(2), "3 examples, as in `data_batch_1.bin`", "found 6"),
        (TRAIN_FILES[1], labelled(10), "labels from 0 to 9", "found 10 at example 1"),
        (TEST_FILE, labelled(255), "labels from 0 to 9", "found 255 at example 1"),
        ("imported.txt", b"variant JPEG\n".to_vec(), "a line `digest SHA-256`", "hint: import the set again"),
        ("imported.txt", vec![0xff], "could not be read", ""),
    ];
    for (file, bytes, expected, found) in table {
        let dir = healthy();
        fs::write(dir.path().join("cifar10").join(file), bytes).unwrap();
        let message = message(dir.path());
        for part in [file, expected, found] {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    }
}

#[test]
fn what_is_missing_says_where_to_get_it() {
    let error = told(&DataSet::load(DataName::Cifar10, Source::Mini, None).unwrap_err());
    assert!(error.contains("`cifar10`: expected the source `full`, found `mini`\nhint: "), "{error}");
    let error = told(&DataSet::load(DataName::Cifar10, Source::Full, None).unwrap_err());
    assert!(error.contains("`--data-dir DIR`") && !error.contains("mini"), "{error}");

    let dir = healthy();
    let error = message(&dir.path().join("nowhere"));
    assert!(error.contains("found nothing\nhint: the layout is `DIR/cifar10/data_batch_1.bin`"), "{error}");

    fs::remove_file(dir.path().join("cifar10").join(TRAIN_FILES[2])).unwrap();
    let error = message(dir.path());
    // What a build without the network can do.
    let way = if cfg!(feature = "hub") { "np data import" } else { "--features neuroplastic-runner/hub" };
    for part in ["`data_batch_3.bin` or `cifar-10-batches-bin/data_batch_3.bin`", "`cifar-10-binary.tar.gz`", way] {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
    fs::write(dir.path().join("cifar10/data_batch_1"), b"\x80\x02}q\x01(U").unwrap();
    let error = message(dir.path());
    assert!(error.contains("hint: this is the Python version; unpack the binary one"), "{error}");
}

#[test]
fn a_note_names_the_variant_and_shows_damage() {
    let dir = healthy();
    let note = dir.path().join("cifar10/imported.txt");
    let digest = load(dir.path()).unwrap().digest;
    fs::write(&note, format!("variant JPEG\ndigest {digest}\n")).unwrap();
    let title = format!("custom data in cifar10 (JPEG, digest {})", &digest[..12]);
    assert_eq!(load(dir.path()).unwrap().title, title);

    let mut damaged = batch(2);
    damaged[100] ^= 1; // one bit of one pixel
    fs::write(dir.path().join("cifar10").join(TRAIN_FILES[2]), damaged).unwrap();
    let error = message(dir.path());
    for part in ["cifar10`: expected data with the digest", &digest, "as imported, found `", "hint: import it again"] {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }
}

fn pick(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    (rng.next_u64() % bound.max(1) as u64) as usize
}

#[test]
fn damaged_files_never_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(10);
    let base = batch(1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = base.clone();
        for _ in 0..1 + pick(&mut rng, 4) {
            // every other time a label, whose place matters most
            let at = if pick(&mut rng, 2) == 0 { pick(&mut rng, 3) * RECORD } else { pick(&mut rng, bytes.len()) };
            match (pick(&mut rng, 8), bytes.get_mut(at)) {
                (0..=2, Some(byte)) => *byte ^= 1 << pick(&mut rng, 8),
                (3..=5, Some(byte)) => *byte = [0, 1, 9, 10, 0x7f, 0xff][pick(&mut rng, 6)],
                (6, _) => bytes.truncate(at),
                _ => bytes.extend_from_within(at.min(bytes.len())..),
            }
        }
        match cifar::decode(bytes.as_slice(), Path::new("fuzz")) {
            Ok(split) => {
                assert_eq!(cifar::encode(&split.labels, &split.images), bytes, "nothing is lost, nothing invented");
                assert!(split.labels.iter().all(|&label| label < 10));
                accepted += 1;
            }
            Err(error) => {
                assert!(error.to_string().starts_with("`fuzz`: expected "), "{error}");
                refused += 1;
            }
        }
    }
    // of both a good part: else the loop would test one path only
    assert!(accepted > 1_000 && refused > 1_000, "{accepted} accepted, {refused} refused");
}
