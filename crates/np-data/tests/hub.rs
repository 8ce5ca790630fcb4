//! The Hub's parquet, written here on a small scale: orientation, formats, and what is refused in which words.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

mod hub_files;

use std::fs;
use std::path::Path;

use hub_files::{Rows, encoded, picture, pngs, write};
use image::{DynamicImage, ImageFormat, RgbImage};
use np_data::hub::import as import_set;
use np_data::{DATA_DIR_ENV, DataName, DataSet, Error, Identity, Source};

/// A folder with these rows, and the import of it into another.
fn import(train: &Rows, test: &Rows) -> (tempfile::TempDir, Result<DataSet, Error>) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("train-00000-of-00001.parquet"), train);
    write(&dir.path().join("test.parquet"), test);
    let result = import_set(DataName::Cifar10, dir.path(), &dir.path().join("data"));
    (dir, result)
}

#[test]
fn rows_stay_rows_and_columns_columns() {
    let (dir, set) = import(&pngs(10), &pngs(2));
    let set = set.unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.identity), (10, 2, Identity::Custom));
    assert_eq!(set.train.labels, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for (seed, image) in (0..).zip(set.train.images.chunks_exact(3072)) {
        for (at, &pixel) in image.iter().enumerate() {
            let (y, x) = (at / 32 % 32, at % 32);
            assert_eq!(pixel, [8 * x as u8, 4 * y as u8, seed][at / 1024], "plane {}, row {y}, column {x}", at / 1024);
        }
    }
    assert_eq!(DataSet::load(DataName::Cifar10, Source::Full, Some(&dir.path().join("data"))).unwrap(), set);
    let left: Vec<_> =
        fs::read_dir(dir.path().join("data/cifar10")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left.len(), 7, "six files and the note: {left:?}");
    // once more, over what is there
    assert_eq!(import_set(DataName::Cifar10, dir.path(), &dir.path().join("data")).unwrap(), set);
}

#[cfg(unix)]
#[test]
fn a_link_that_was_planted_is_not_written_through() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("train.parquet"), &pngs(10));
    write(&dir.path().join("test.parquet"), &pngs(2));
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let folder = dir.path().join("data/cifar10");
    fs::create_dir_all(&folder).unwrap();
    for name in ["data_batch_1.partial", "test_batch.partial", "data_batch_2.bin"] {
        std::os::unix::fs::symlink(&victim, folder.join(name)).unwrap();
    }
    import_set(DataName::Cifar10, dir.path(), &dir.path().join("data")).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(fs::symlink_metadata(folder.join("data_batch_2.bin")).unwrap().is_file(), "replaced, not followed");
}

#[test]
fn a_jpeg_makes_the_set_a_variant() {
    let mut rows = pngs(5);
    rows[3].0 = encoded(picture(3), ImageFormat::Jpeg);
    let (_dir, set) = import(&rows, &pngs(1));
    let set = set.unwrap();
    assert_eq!(set.title, format!("custom data in cifar10 (JPEG, digest {})", &set.digest[..12]));
    // quality 75 of a smooth ramp: a few grey levels in the mean, and red still rises to the right, green downwards
    let image = set.train.image(3).unwrap();
    let wrong: i32 = (0..1024).map(|at| (i32::from(image[at]) - 8 * (at as i32 % 32)).abs()).sum();
    assert!(wrong < 8 * 1024, "{wrong}");
    let wrong: i32 = (0..1024).map(|at| (i32::from(image[1024 + at]) - 4 * (at as i32 / 32)).abs()).sum();
    assert!(wrong < 8 * 1024, "{wrong}");
}

#[test]
fn what_is_no_example_is_refused_with_its_row() {
    let grey = DynamicImage::ImageLuma8(
        picture(0)
            .into_raw()
            .first_chunk::<1024>()
            .map(|pixels| image::GrayImage::from_raw(32, 32, pixels.to_vec()).unwrap())
            .unwrap(),
    );
    let table = [
        (encoded(picture(0), ImageFormat::Png), 10, "expected a label from 0 to 9, found `10` in row 2"),
        (encoded(picture(0), ImageFormat::Png), -1, "expected a label from 0 to 9, found `-1` in row 2"),
        (b"nothing".to_vec(), 1, "expected a PNG or JPEG image, found `7 bytes of something else` in row 2"),
        (encoded(picture(0), ImageFormat::Png)[..60].to_vec(), 1, "expected a PNG or JPEG image, found `"),
        (
            encoded(RgbImage::new(28, 32), ImageFormat::Png),
            1,
            "expected 32×32 pixels of Rgb8, found `28×32 pixels of Rgb8`",
        ),
        (encoded(grey, ImageFormat::Png), 1, "expected 32×32 pixels of Rgb8, found `32×32 pixels of L8`"),
        (encoded(RgbImage::new(2000, 2000), ImageFormat::Png), 1, "expected a PNG or JPEG image, found `"),
    ];
    for (bytes, label, expected) in table {
        let mut rows = pngs(5);
        rows[2] = (bytes, label);
        let error = import(&rows, &pngs(1)).1.unwrap_err().to_string();
        assert!(error.contains("train-00000-of-00001.parquet`: ") && error.contains(expected), "{error}");
    }
    let error = import(&pngs(6), &pngs(1)).1.unwrap_err().to_string();
    assert!(error.ends_with("expected a multiple of 5 training examples, found 6"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    for (bytes, found) in [
        (&b"version https://git-lfs.github.com/spec/v1\noid sha256:8428\nsize 119705255\n"[..], "a Git LFS pointer"),
        (b"<!doctype html>", "an HTML page"),
        (b"PK\x03\x04", "a zip archive"),
    ] {
        fs::write(dir.path().join("train.parquet"), bytes).unwrap();
        let error = import_set(DataName::Cifar10, dir.path(), &dir.path().join("data")).unwrap_err();
        let expected = format!("train.parquet`: expected a parquet file, found {found}");
        assert!(error.to_string().contains(&expected) && error.hint().is_some(), "{error}");
    }
    let nothing = tempfile::tempdir().unwrap();
    let error = import_set(DataName::Cifar10, nothing.path(), Path::new("nowhere")).unwrap_err();
    assert!(error.to_string().contains("`train.parquet`") && error.hint().is_some(), "{error}");
}

/// The real files where `NP_DATA_DIR` has them: complete, balanced, and of the colours that everybody quotes.
#[test]
fn the_real_files_are_cifar10() {
    let Some(from) = std::env::var_os(DATA_DIR_ENV).map(|dir| Path::new(&dir).join("cifar10")) else { return };
    if !from.join("train.parquet").is_file() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let set = import_set(DataName::Cifar10, &from, dir.path()).unwrap();
    for (split, per_class) in [(&set.train, 5_000), (&set.test, 1_000)] {
        for class in 0..10 {
            assert_eq!(split.labels.iter().filter(|&&label| label == class).count(), per_class);
        }
    }
    // means and deviations of the original training set; recoding as JPEG moves them by less than 0.002
    for (channel, (mean, std)) in [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)].into_iter().enumerate() {
        let planes = set.train.images.chunks_exact(1024).skip(channel).step_by(3);
        let (mut sum, mut squares) = (0.0, 0.0);
        for &pixel in planes.flatten() {
            let pixel = f64::from(pixel) / 255.0;
            sum += pixel;
            squares += pixel * pixel;
        }
        let n = 50_000.0 * 1024.0;
        let (found, deviation) = (sum / n, (squares / n - (sum / n).powi(2)).sqrt());
        assert!((found - mean).abs() < 0.002 && (deviation - std).abs() < 0.004, "{channel}: {found}, {deviation}");
    }
}
