//! The Hub's parquet, written here on a small scale: orientation, formats, and what is refused in which words.
#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use np_data::hub::import_cifar10;
use np_data::{DATA_DIR_ENV, DataName, DataSet, Error, Source};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The Hub's schema.
const SCHEMA: &str = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } optional int64 label; }";

type Rows = Vec<(Vec<u8>, i64)>;

fn write(path: &Path, rows: &Rows) {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let n = rows.len();
    let images: Vec<ByteArray> = rows.iter().map(|(bytes, _)| bytes.clone().into()).collect();
    let labels: Vec<i64> = rows.iter().map(|&(_, label)| label).collect();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&images, Some(&vec![2; n]), None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![1; n]), None).unwrap(); // no path
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&labels, Some(&vec![1; n]), None).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

/// No row equals a column in it: red rises to the right, green downwards, blue is the seed.
fn picture(seed: u8) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 4 * y as u8, seed]))
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn pngs(count: u8) -> Rows {
    (0..count).map(|i| (encoded(picture(i), ImageFormat::Png), i64::from(i % 10))).collect()
}

/// A folder with these rows, and the import of it into another.
fn import(train: &Rows, test: &Rows) -> (tempfile::TempDir, Result<DataSet, Error>) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("train-00000-of-00001.parquet"), train);
    write(&dir.path().join("test.parquet"), test);
    let result = import_cifar10(dir.path(), &dir.path().join("data"));
    (dir, result)
}

#[test]
fn rows_stay_rows_and_columns_columns() {
    let (dir, set) = import(&pngs(10), &pngs(2));
    let set = set.unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.title.as_str()), (10, 2, "CIFAR-10"));
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
    assert_eq!(import_cifar10(dir.path(), &dir.path().join("data")).unwrap(), set);
}

#[test]
fn a_jpeg_makes_the_set_a_variant() {
    let mut rows = pngs(5);
    rows[3].0 = encoded(picture(3), ImageFormat::Jpeg);
    let (_dir, set) = import(&rows, &pngs(1));
    let set = set.unwrap();
    assert_eq!(set.title, "CIFAR-10 (JPEG)");
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
    let error = import_cifar10(tempfile::tempdir().unwrap().path(), Path::new("nowhere")).unwrap_err().to_string();
    assert!(error.contains("`train.parquet`") && error.contains("hint: "), "{error}");
}

#[test]
fn damaged_parquet_never_panics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.parquet");
    write(&path, &pngs(3));
    let base = fs::read(&path).unwrap();
    write(&dir.path().join("train.parquet"), &pngs(5));
    let mut state = 11_u64;
    let mut pick = move |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound.max(1)
    };
    let mut refused = 0;
    for round in 0..400 {
        let mut bytes = base.clone();
        match round % 4 {
            0 => bytes.truncate(pick(base.len())),
            1 => bytes[pick(base.len())] ^= 1 << pick(8),
            // the footer, where sizes and offsets are
            _ => {
                let at = base.len() - 1 - pick(base.len().min(600));
                bytes[at] = [0, 1, 0x7f, 0x80, 0xff][pick(5)];
            }
        }
        fs::write(&path, bytes).unwrap();
        refused += usize::from(np_data::hub::import_cifar10(dir.path(), &dir.path().join("data")).is_err());
    }
    assert!(refused > 200, "{refused}");
}

/// The real files where `NP_DATA_DIR` has them: complete, balanced, and of the colours that everybody quotes.
#[test]
fn the_real_files_are_cifar10() {
    let Some(from) = std::env::var_os(DATA_DIR_ENV).map(|dir| Path::new(&dir).join("cifar10")) else { return };
    if !from.join("train.parquet").is_file() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let set = import_cifar10(&from, dir.path()).unwrap();
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
