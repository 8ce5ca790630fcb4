//! The Hub's parquet files, on a small scale.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;

/// The Hub's schema.
const SCHEMA: &str = "message schema { optional group img { optional binary bytes; optional binary path (UTF8); } optional int64 label; }";

pub(crate) type Rows = Vec<(Vec<u8>, i64)>;

pub(crate) fn write(path: &Path, rows: &Rows) {
    std::fs::write(path, parquet(rows)).unwrap();
}

/// A parquet file in memory.
pub(crate) fn parquet(rows: &Rows) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
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
    writer.into_inner().unwrap()
}

/// No row equals a column in it: red rises to the right, green downwards, blue is the seed.
pub(crate) fn picture(seed: u8) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| image::Rgb([8 * x as u8, 4 * y as u8, seed]))
}

pub(crate) fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

pub(crate) fn pngs(count: u8) -> Rows {
    (0..count).map(|i| (encoded(picture(i), ImageFormat::Png), i64::from(i % 10))).collect()
}

/// As many grey images of 28×28 as labels.
pub(crate) fn grey(images: &[u8], labels: &[u8]) -> Rows {
    let image = |pixels: &[u8]| image::GrayImage::from_raw(28, 28, pixels.to_vec()).unwrap();
    let rows = images.chunks_exact(784).zip(labels);
    rows.map(|(pixels, label)| (encoded(image(pixels), ImageFormat::Png), i64::from(*label))).collect()
}
