//! A table of broken data folders: every error names the file, what was expected and what was found.

#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use np_data::{DataName, DataSet, Error, Identity, Source, idx};

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

fn images(count: usize) -> Vec<u8> {
    idx::encode(&[count, 28, 28], &vec![7; count * 28 * 28])
}

fn labels(count: u8) -> Vec<u8> {
    idx::encode(&[count.into()], &(0..count).map(|i| i % 10).collect::<Vec<u8>>())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with three training and two test examples, all in order.
fn healthy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mnist = dir.path().join("mnist");
    fs::create_dir(&mnist).unwrap();
    fs::write(mnist.join(IMAGES), images(3)).unwrap();
    fs::write(mnist.join(LABELS), labels(3)).unwrap();
    fs::write(mnist.join("t10k-images-idx3-ubyte"), images(2)).unwrap();
    fs::write(mnist.join("t10k-labels-idx1-ubyte.gz"), gzip(&labels(2))).unwrap();
    dir
}

fn load(dir: &Path) -> Result<DataSet, Error> {
    DataSet::load(DataName::Mnist, Source::Full, Some(dir))
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
fn a_small_folder_loads_plain_and_gzip_alike() {
    let dir = healthy();
    let plain = load(dir.path()).unwrap();
    assert_eq!((plain.train.len(), plain.test.len()), (3, 2));
    assert_eq!(plain.train.labels, [0, 1, 2]);
    assert_eq!((plain.train.shape, plain.classes), ([1, 28, 28], 10));
    let title = format!("custom data in mnist (digest {})", &plain.digest[..12]);
    assert_eq!((plain.title.as_str(), plain.identity), (title.as_str(), Identity::Custom));
    assert!(!plain.is_official());

    // the bytes decide, not the name
    fs::write(dir.path().join("mnist").join(IMAGES), gzip(&images(3))).unwrap();
    assert_eq!(load(dir.path()).unwrap(), plain);
}

#[test]
fn every_broken_file_is_named_with_what_was_expected_and_found() {
    let with_label = |label| idx::encode(&[3], &[0, label, 2]);
    let cut = |mut bytes: Vec<u8>, by: usize| {
        bytes.truncate(bytes.len() - by);
        bytes
    };
    let flip = |mut bytes: Vec<u8>, at: usize| {
        bytes[at] ^= 0xff;
        bytes
    };
    let sum_at = gzip(&images(3)).len() - 8;
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        (IMAGES, vec![], "an IDX file of images (magic `0x00000803`)", "`0 bytes`"),
        (IMAGES, vec![0, 0], "an IDX file of images", "`2 bytes`"),
        (
            IMAGES,
            b"<html>not found</html>".to_vec(),
            "an IDX file of images (magic `0x00000803`)",
            "found an HTML page",
        ),
        (
            LABELS,
            gzip(b"<html>not found</html>"),
            "an IDX file of labels",
            "an HTML page, perhaps of a log-in or an error, inside",
        ),
        (IMAGES, flip(images(3), 0), "an IDX file of images (magic `0x00000803`)", "`0xff000803`"),
        (IMAGES, [&[0, 0, 0x0d], &images(3)[3..]].concat(), "unsigned bytes (IDX type `0x08`)", "IDX type `0x0d`"),
        (IMAGES, idx::encode(&[3, 784], &[0; 3 * 784]), "images, 3-dimensional", "2 dimensions"),
        (LABELS, idx::encode(&[], &[]), "labels, 1-dimensional", "0 dimensions"),
        (LABELS, idx::encode(&[1; 255], &[0]), "labels, 1-dimensional", "255 dimensions"),
        (LABELS, images(3), "labels", "images"),
        (IMAGES, labels(3), "images", "labels"),
        (IMAGES, gzip(&labels(3)), "images", "labels"),
        (IMAGES, idx::encode(&[usize::MAX; 3], &[]), "at most 2147483648 bytes", "79228162458924105385300197375"),
        (IMAGES, images(3)[..9].to_vec(), "16 bytes", "found 9"),
        (IMAGES, cut(images(3), 1), "2368 bytes", "found 2367"),
        (IMAGES, gzip(&cut(images(3), 1)), "2368 bytes", "found 2367"),
        (IMAGES, images(3)[..16].to_vec(), "2368 bytes", "found 16"),
        (IMAGES, [images(3), vec![0]].concat(), "2368 bytes", "found more"),
        (LABELS, gzip(&[labels(3), vec![0; 1 << 20]].concat()), "11 bytes", "found more"),
        (IMAGES, cut(gzip(&images(3)), 4), "a whole gzip stream", "found `"),
        (IMAGES, gzip(&images(3))[..2].to_vec(), "a whole gzip stream", "found `"),
        (IMAGES, flip(gzip(&images(3)), sum_at), "a whole gzip stream", "checksum"),
        (IMAGES, [gzip(&images(3)), b"tail".to_vec()].concat(), "a whole gzip stream", "found `"),
        (IMAGES, idx::encode(&[0, 28, 28], &[]), "at least 1 example", "found 0"),
        (IMAGES, idx::encode(&[3, 32, 32], &[0; 3 * 32 * 32]), "images of 28×28 pixels", "found 32×32"),
        (IMAGES, idx::encode(&[3, 28, 0], &[]), "images of 28×28 pixels", "found 28×0"),
        (LABELS, labels(4), "3 labels, one for each image of", "found 4"),
        (LABELS, idx::encode(&[0], &[]), "3 labels, one for each image of", "found 0"),
        (LABELS, with_label(10), "labels from 0 to 9", "found 10 at example 1"),
        (LABELS, with_label(255), "labels from 0 to 9", "found 255 at example 1"),
    ];
    for (file, bytes, expected, found) in table {
        let dir = healthy();
        fs::write(dir.path().join("mnist").join(file), bytes).unwrap();
        let message = message(dir.path());
        for part in [file, &format!("expected {expected}"), found] {
            assert!(message.contains(part), "`{message}` lacks `{part}`");
        }
    }
}

#[test]
fn missing_folders_and_files_say_where_to_put_them() {
    let error = told(&DataSet::load(DataName::FashionMnist, Source::Full, None).unwrap_err());
    for part in ["`fashion-mnist`: expected a data folder", "found none", "hint: ", "`--data-dir DIR`", "`NP_DATA_DIR`"]
    {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }

    let dir = healthy();
    let error = message(&dir.path().join("nowhere"));
    assert!(error.contains("nowhere`: expected a folder, found nothing\nhint: "), "{error}");
    assert!(error.contains("`NP_DATA_DIR`"), "{error}");

    let error = told(&DataSet::load(DataName::FashionMnist, Source::Full, Some(dir.path())).unwrap_err());
    assert!(error.contains("fashion-mnist`: expected a folder, found nothing\nhint: "), "{error}");

    let error = message(&dir.path().join("mnist").join(IMAGES));
    assert!(error.contains("expected a folder, found a file\nhint: "), "{error}");

    fs::remove_file(dir.path().join("mnist").join(LABELS)).unwrap();
    let error = message(dir.path());
    for part in ["mnist`", &format!("`{LABELS}.gz` or `{LABELS}`"), "found neither", "hint: ", "`NP_DATA_DIR`"] {
        assert!(error.contains(part), "`{error}` lacks `{part}`");
    }

    fs::create_dir(dir.path().join("mnist").join(LABELS)).unwrap();
    let error = message(dir.path());
    assert!(error.contains(&format!("{LABELS}`: expected a regular file, found a folder\nhint: ")), "{error}");
}

/// Whoever opens a pipe to read waits until somebody writes.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_opened() {
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    for file in [IMAGES.to_owned(), LABELS.to_owned(), "t10k-labels-idx1-ubyte.gz".to_owned()] {
        let dir = healthy();
        pipe(&dir.path().join("mnist").join(&file));
        let error = message(dir.path());
        assert!(error.contains(&format!("{file}`: expected a regular file, found a pipe\nhint: ")), "{error}");
        assert!(!load(dir.path()).unwrap_err().is_absence(), "nothing else stands in for it");
    }
    // A whole file under another of its names goes before it.
    let dir = healthy();
    pipe(&dir.path().join("mnist").join(format!("{IMAGES}.gz")));
    load(dir.path()).unwrap();
    // What a link leads to counts.
    let dir = healthy();
    let labels = dir.path().join("mnist").join(LABELS);
    fs::remove_file(&labels).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &labels).unwrap();
    let error = message(dir.path());
    assert!(error.contains("expected a regular file, found a device"), "{error}");

    let dir = tempfile::tempdir().unwrap();
    let cifar = dir.path().join("cifar10");
    fs::create_dir(&cifar).unwrap();
    for file in ["imported.txt", "data_batch_1.bin"] {
        pipe(&cifar.join(file));
        let error = told(&DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).unwrap_err());
        assert!(error.contains(&format!("{file}`: expected a regular file, found a pipe\nhint: ")), "{error}");
        fs::remove_file(cifar.join(file)).unwrap();
    }
}

/// What a browser, a clone without its large files, or a download tool leaves in a data file's place is called by its name.
#[test]
fn what_is_no_data_file_is_told_by_what_it_looks_like() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9912422\n";
    let table: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"\n<!DOCTYPE html>\n<html lang=\"en\">".to_vec(), "an HTML page", "hint: copy the data file itself there"),
        (pointer.into(), "a Git LFS pointer", "hint: fetch the file itself, with `git lfs pull`"),
        (gzip(pointer.as_bytes()), "a Git LFS pointer", "hint: fetch the file itself, with `git lfs pull`"),
        (
            gzip(&gzip(&images(3))),
            "a gzip stream, inside of a gzip stream",
            "hint: it was compressed more than once: `gunzip` it until it is no gzip stream",
        ),
        (b"PK\x03\x04\x14\0\0\0".to_vec(), "a zip archive", "hint: unpack it"),
        (gzip(&[&[b'x'; 257][..], b"ustar  \0"].concat()), "a tar archive, inside of a gzip stream", "hint: unpack it"),
        (b"\xfd7zXZ\0\0\x04".to_vec(), "an xz stream", "hint: unpack it"),
        (b"label,pixel1,pixel2\n5,0,0\n".to_vec(), "text", "hint: copy the data file itself there"),
        (b"PAR1\x15\x04".to_vec(), "a parquet file", "hint: "),
    ];
    for file in [IMAGES.to_owned(), format!("{LABELS}.gz")] {
        for (bytes, found, hint) in &table {
            let dir = healthy();
            fs::write(dir.path().join("mnist").join(&file), bytes).unwrap();
            let message = message(dir.path());
            for part in [&*file, "expected an IDX file of ", &format!("found {found}"), hint] {
                assert!(message.contains(part), "`{message}` lacks `{part}`");
            }
        }
    }
}

/// Kaggle spells the names with a dot, and has folders with the files' names besides; torchvision has a folder `raw`.
#[test]
fn other_spellings_of_the_names_are_the_same_files() {
    const NAMES: [&str; 4] = [IMAGES, LABELS, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];
    let reference = load(healthy().path()).unwrap();
    let bytes = [images(3), labels(3), images(2), labels(2)];
    let spellings: [fn(&str) -> String; 8] = [
        |name| name.replace("-idx", ".idx"),
        |name| name.replace("-idx", ".idx") + ".gz",
        |name| name.replace('-', "_"),
        |name| name.replace("-ubyte", ".ubyte"),
        |name| name.replace("t10k", "test"),
        |name| name.to_uppercase(),
        |name| format!("raw/{name}"),
        |name| format!("{name}/{}", name.replace("-idx", ".idx")),
    ];
    for spelled in spellings {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in NAMES.iter().zip(&bytes) {
            let path = dir.path().join("mnist").join(spelled(name));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // With `.gz` or without, the bytes decide.
            fs::write(path, if spelled(name).len() % 2 == 0 { gzip(bytes) } else { bytes.clone() }).unwrap();
        }
        assert_eq!(load(dir.path()).unwrap(), reference, "{}", spelled(IMAGES));
        // Where a file has its published name, that goes first.
        fs::write(dir.path().join("mnist").join(format!("{LABELS}.gz")), idx::encode(&[3], &[9, 9, 9])).unwrap();
        assert_eq!(load(dir.path()).unwrap().train.labels, [9; 3]);
    }
    // torchvision's own tree, `MNIST/raw/…`, and other spellings of the set's folder.
    for folder in ["MNIST/raw", "Mnist", "mnist_"] {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        for (name, bytes) in NAMES.iter().zip(&bytes) {
            fs::write(dir.path().join(folder).join(name), bytes).unwrap();
        }
        assert_eq!(load(dir.path()).unwrap(), reference, "{folder}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (folder, name) in [("FashionMNIST", DataName::FashionMnist), ("fashion_mnist", DataName::FashionMnist)] {
        let path = dir.path().join(folder);
        fs::create_dir(&path).unwrap();
        assert_eq!(np_data::folder_of(name, dir.path()), path);
        fs::remove_dir(&path).unwrap();
    }
    assert_eq!(np_data::folder_of(DataName::Mnist, dir.path()), dir.path().join("mnist"), "where there is none");
    // An archive is not the file that it holds.
    let dir = healthy();
    fs::rename(dir.path().join("mnist").join(IMAGES), dir.path().join("mnist").join(format!("{IMAGES}.zip"))).unwrap();
    assert!(matches!(load(dir.path()), Err(Error::MissingFile { .. })));
}

/// What is known of a published set stands in for one of which there is nothing, and for no other.
#[test]
fn a_set_with_one_file_is_not_absent() {
    let dir = healthy();
    let folder = dir.path().join("mnist");
    fs::remove_file(folder.join(IMAGES)).unwrap();
    let error = load(dir.path()).unwrap_err();
    assert!(!error.is_absence() && error.to_string().contains(IMAGES), "{error}");
    for file in fs::read_dir(&folder).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    assert!(load(dir.path()).unwrap_err().is_absence());
    let cifar = dir.path().join("cifar10");
    fs::create_dir(&cifar).unwrap();
    let load = || DataSet::load(DataName::Cifar10, Source::Full, Some(dir.path())).unwrap_err();
    assert!(load().is_absence());
    fs::write(cifar.join("test_batch.bin"), [0; 3073]).unwrap();
    assert!(!load().is_absence());
}
