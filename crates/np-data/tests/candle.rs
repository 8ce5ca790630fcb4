//! Our readers beside those of candle-datasets: the same files give the same tensors, but for CIFAR-10's parquet, whose images it transposes.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

mod hub_files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use candle_core::{DType, Tensor};
use candle_datasets::vision::{Dataset, cifar, mnist};
use hub_files::{Rows, grey, pngs, write};
use np_data::cifar::{IMAGE, RECORD, TEST_FILE, TRAIN_FILES};
use np_data::{DATA_DIR_ENV, DataName, DataSet, Source, hub, idx};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Shape, type and every bit; a thousand examples at a time, because CIFAR-10 has 600 MB of them.
fn same(ours: &Tensor, theirs: &Tensor) -> bool {
    assert_eq!((ours.dims(), ours.dtype()), (theirs.dims(), theirs.dtype()));
    let n = ours.dims()[0];
    (0..n).step_by(1_000).all(|from| {
        let part = |tensor: &Tensor| tensor.narrow(0, from, 1_000.min(n - from)).unwrap().flatten_all().unwrap();
        let (ours, theirs) = (part(ours), part(theirs));
        if ours.dtype() == DType::U8 {
            return ours.to_vec1::<u8>().unwrap() == theirs.to_vec1::<u8>().unwrap();
        }
        let (ours, theirs) = (ours.to_vec1::<f32>().unwrap(), theirs.to_vec1::<f32>().unwrap());
        ours.iter().zip(&theirs).all(|(ours, theirs)| ours.to_bits() == theirs.to_bits())
    })
}

fn assert_same(ours: &Dataset, theirs: &Dataset) {
    assert!(same(&ours.train_images, &theirs.train_images), "images of the training set");
    assert!(same(&ours.train_labels, &theirs.train_labels), "labels of the training set");
    assert!(same(&ours.test_images, &theirs.test_images), "images of the test set");
    assert!(same(&ours.test_labels, &theirs.test_labels), "labels of the test set");
    assert_eq!(ours.labels, theirs.labels);
}

fn random(count: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; count];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Writes the four files as candle-datasets wants them: by their published names, not compressed.
fn write_idx(folder: &Path, set: &DataSet) {
    fs::create_dir_all(folder).unwrap();
    for (part, split) in [("train", &set.train), ("t10k", &set.test)] {
        let (n, images, labels) = (split.len(), &split.images, &split.labels);
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), idx::encode(&[n, 28, 28], images)).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), idx::encode(&[n], labels)).unwrap();
    }
}

#[test]
fn idx_files_give_the_same_tensors() {
    // Every value that a pixel can have, and every label.
    let dir = tempfile::tempdir().unwrap();
    let mut set = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap();
    set.train.images = random(set.train.images.len(), 1);
    write_idx(&dir.path().join("mnist"), &set);
    let ours = DataSet::load(DataName::Mnist, Source::Full, Some(dir.path())).unwrap();
    assert_same(&ours.to_candle().unwrap(), &mnist::load_dir(dir.path().join("mnist")).unwrap());

    // The real sets, where `NP_DATA_DIR` has them.
    let Some(from) = std::env::var_os(DATA_DIR_ENV).map(PathBuf::from) else { return };
    for name in [DataName::Mnist, DataName::FashionMnist] {
        let Ok(real) = DataSet::load(name, Source::Full, Some(&from)) else { continue };
        write_idx(&dir.path().join("real"), &real);
        assert_same(&real.to_candle().unwrap(), &mnist::load_dir(dir.path().join("real")).unwrap());
    }
}

/// It reads files of exactly 10,000 records, so that these have as many.
#[test]
fn cifar_files_give_the_same_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("cifar10");
    fs::create_dir(&folder).unwrap();
    for (seed, file) in (0..).zip(TRAIN_FILES.iter().chain([&TEST_FILE])) {
        let mut bytes = random(10_000 * RECORD, seed);
        bytes.chunks_exact_mut(RECORD).for_each(|record| record[0] %= 10);
        fs::write(folder.join(file), bytes).unwrap();
    }
    let ours = DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).unwrap();
    assert_eq!(ours.train.images.len(), 50_000 * IMAGE);
    assert_same(&ours.to_candle().unwrap(), &cifar::load_dir(&folder).unwrap());

    fs::write(folder.join(TEST_FILE), vec![0; 9_999 * RECORD]).unwrap();
    assert!(cifar::load_dir(&folder).is_err());
}

/// Puts a set into a cache of the Hub, where candle-datasets looks for it.
fn cache(cache: &Path, repository: &str, folder: &str, [train, test]: [&Rows; 2]) {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = cache.join(repository);
    fs::create_dir_all(repository.join("refs/refs/convert")).unwrap();
    fs::write(repository.join("refs/refs/convert/parquet"), commit).unwrap();
    for (part, rows) in [("train", train), ("test", test)] {
        let place = repository.join("snapshots").join(commit).join(folder).join(part);
        fs::create_dir_all(&place).unwrap();
        write(&place.join("0000.parquet"), rows);
    }
}

/// What we make of the same rows.
fn imported(name: DataName, [train, test]: [&Rows; 2]) -> Dataset {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("train.parquet"), train);
    write(&dir.path().join("test.parquet"), test);
    hub::import(name, dir.path(), &dir.path().join("data")).unwrap().to_candle().unwrap()
}

/// `cifar::load` swaps rows and columns (it permutes 0, 3, 2, 1), and so gives other images than its own `load_dir`; `mnist::load` does not. Where
/// this fails because the two are the same now, the sentences about it in the documentation can go.
#[test]
fn cifar_parquet_is_transposed_there_and_not_here() {
    const CACHE: &str = "HF_HUB_CACHE";
    let (train, test) = (pngs(10), pngs(2));
    let digits = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap();
    let (images, labels) = (&digits.test.images[..784 * 20], &digits.test.labels[..20]);
    let grey = grey(images, labels);
    let child = "NP_TEST_OF_CANDLE_DATASETS";
    if std::env::var_os(child).is_none() {
        // The cache is named by the environment, and so by that of another process.
        let dir = tempfile::tempdir().unwrap();
        cache(dir.path(), "datasets--cifar10", "plain_text", [&train, &test]);
        cache(dir.path(), "datasets--ylecun--mnist", "mnist", [&grey, &grey]);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cifar_parquet_is_transposed_there_and_not_here"])
            .env(CACHE, dir.path())
            .env("HF_ENDPOINT", "http://127.0.0.1:1")
            .env(child, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (ours, theirs) = (imported(DataName::Cifar10, [&train, &test]), cifar::load().unwrap());
    assert!(same(&ours.train_labels, &theirs.train_labels));
    assert!(!same(&ours.train_images, &theirs.train_images));
    for (ours, theirs) in [(&ours.train_images, &theirs.train_images), (&ours.test_images, &theirs.test_images)] {
        assert!(same(&ours.transpose(2, 3).unwrap().contiguous().unwrap(), theirs));
    }
    // Red rises to the right, row by row, in ours.
    let row: Vec<f32> = ours.train_images.get(0).unwrap().get(0).unwrap().get(5).unwrap().to_vec1().unwrap();
    assert!(row.windows(2).all(|pair| pair[0] < pair[1]), "{row:?}");
    assert_same(&imported(DataName::Mnist, [&grey, &grey]), &mnist::load().unwrap());
}
