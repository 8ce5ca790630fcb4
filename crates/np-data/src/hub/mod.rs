//! Imports the Hugging Face Hub's form of the data sets (parquet, with a PNG or JPEG in each row) and writes the published form.
//!
//! Decoded images are height × width × channel and become channel × height × width; rows stay rows and columns stay columns. candle-datasets
//! swaps rows and columns when it reads CIFAR-10's parquet files; a test checks both orders. JPEG is lossy, so that a set with JPEG images is
//! noted as the variant `JPEG`, which appears in its title.

mod pages;

use std::fs;
use std::io::{Cursor, Read as _, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::{Field, Row};

use crate::cifar::{IMAGE, MAX_EXAMPLES, TEST_FILE, TRAIN_FILES, encode};
use crate::dataset::{CLASSES, DataSet, Part, Split};
use crate::digest::digest;
use crate::error::Error;
use crate::idx::{self, Kind};
use crate::looks;
use crate::name::{DataName, Source};
use crate::note::Note;
use crate::regular;

/// The most bytes that decoding one image may take; a 32×32 image takes some thousands.
const MAX_DECODED: u64 = 1 << 20;

/// Converts the parquet files `train*.parquet` and `test*.parquet` in the folder `from` to the published form of the data set `name`, in its folder in
/// `data_dir`, and loads the result.
///
/// Files are read in the order of their names. Each row has an image (`img` or `image`: a struct with `bytes`) and a `label` from 0 to 9. CIFAR-10's
/// images are RGB PNG or JPEG of 32×32 pixels and become the binary version; those of MNIST and Fashion-MNIST are grey PNG of 28×28 pixels and
/// become IDX files. Each file is written under another name and renamed, so that an interrupted import leaves no incomplete file under its
/// final name.
///
/// # Errors
/// [`Error::MissingFile`], [`Error::Io`], [`Error::Foreign`], [`Error::Parquet`], [`Error::Row`] and [`Error::TrainCount`] for the input;
/// [`Error::Write`] and those of [`DataSet::load`] for the output; [`Error::Covered`] if other files of the set in its folder take precedence.
pub fn import(name: DataName, from: &Path, data_dir: &Path) -> Result<DataSet, Error> {
    let (train, test) = (read_part(name, from, "train")?, read_part(name, from, "test")?);
    convert(name, from, train, test, data_dir)
}

/// The same, of one file for each part: train, test.
pub(crate) fn import_files(name: DataName, [train, test]: [&Path; 2], data_dir: &Path) -> Result<DataSet, Error> {
    let read = |path: &Path| read_files(name, &[path.to_path_buf()], path);
    convert(name, train, read(train)?, read(test)?, data_dir)
}

fn convert(name: DataName, from: &Path, train: Read, test: Read, data_dir: &Path) -> Result<DataSet, Error> {
    let folder = data_dir.join(name.as_str());
    fs::create_dir_all(&folder).map_err(|source| Error::Write { path: folder.clone(), source })?;
    match name {
        DataName::Cifar10 => write_cifar(from, &folder, &train, &test)?,
        DataName::Mnist | DataName::FashionMnist => {
            write_idx(&folder, Part::Train, &train.split)?;
            write_idx(&folder, Part::Test, &test.split)?;
        }
    }
    let set = DataSet::load(name, Source::Full, Some(data_dir))?;
    let (expected, found) = (digest(&train.split, &test.split), set.digest.clone());
    // What was there before may go before what was made: published files are compressed, and are looked for first.
    if found != expected {
        return Err(Error::Covered { folder, expected, found });
    }
    Ok(set)
}

fn write_cifar(from: &Path, folder: &Path, train: &Read, test: &Read) -> Result<(), Error> {
    let batches = TRAIN_FILES.len();
    if !train.split.len().is_multiple_of(batches) {
        let path = from.to_path_buf();
        return Err(Error::TrainCount { path, expected: batches, found: train.split.len() });
    }
    let count = train.split.len() / batches;
    // The note first: where an import is broken off, files of it and older ones do not have its digest, and nobody trains on the mixture.
    let variant = (train.lossy || test.lossy).then(|| "JPEG".to_owned());
    let note = Note { variant, digest: digest(&train.split, &test.split) };
    write(&folder.join(Note::FILE), note.text().as_bytes())?;
    let Split { labels, images, .. } = &train.split;
    let parts = TRAIN_FILES.iter().zip(labels.chunks(count).zip(images.chunks(count * IMAGE)));
    for (file, (labels, images)) in parts {
        write(&folder.join(file), &encode(labels, images))?;
    }
    write(&folder.join(TEST_FILE), &encode(&test.split.labels, &test.split.images))
}

fn write_idx(folder: &Path, part: Part, split: &Split) -> Result<(), Error> {
    let [_, height, width] = split.shape;
    let images = idx::encode(&[split.len(), height, width], &split.images);
    write(&folder.join(part.file_name(Kind::Images)), &images)?;
    write(&folder.join(part.file_name(Kind::Labels)), &idx::encode(&[split.len()], &split.labels))
}

struct Read {
    split: Split,
    /// Whether any image was a JPEG.
    lossy: bool,
}

/// All rows of the files of a part.
fn read_part(name: DataName, folder: &Path, part: &str) -> Result<Read, Error> {
    read_files(name, &files(folder, part)?, &folder.join(format!("{part}*.parquet")))
}

/// All rows of these files, which errors call `all` together.
fn read_files(name: DataName, paths: &[PathBuf], all: &Path) -> Result<Read, Error> {
    let shape = name.shape();
    let mut read = Read { split: Split { images: Vec::new(), labels: Vec::new(), shape }, lossy: false };
    for path in paths {
        // The parquet crate has been known to panic on a damaged file; what it was reading is dropped with it.
        let result = catch_unwind(AssertUnwindSafe(|| read_file(path, &mut read)));
        let stopped = "damage that stopped the reader".to_owned();
        result.unwrap_or_else(|_| Err(Error::Parquet { path: path.clone(), found: stopped }))?;
    }
    if read.split.is_empty() {
        return Err(Error::Empty { path: all.to_path_buf() });
    }
    Ok(read)
}

fn files(folder: &Path, part: &str) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Io { path: folder.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with(part) && name.ends_with(".parquet") {
            files.push(path);
        }
    }
    if files.is_empty() {
        let looked_for = vec![format!("{part}.parquet"), format!("{part}-00000-of-00001.parquet")];
        let remedy = "copy the Hub's parquet files there";
        return Err(Error::MissingFile { folder: folder.to_path_buf(), looked_for, remedy });
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, read: &mut Read) -> Result<(), Error> {
    let broken = |error: parquet::errors::ParquetError| {
        let found = error.to_string();
        Error::Parquet { path: path.to_path_buf(), found }
    };
    let open = || regular::open(path);
    let mut start = Vec::new();
    let io = |source| Error::Io { path: path.to_path_buf(), source };
    open()?.take(looks::ENOUGH).read_to_end(&mut start).map_err(io)?;
    if !start.starts_with(b"PAR1")
        && let Some(error) = looks::foreign(path, "a parquet file".to_owned(), &start, false)
    {
        return Err(error);
    }
    let rows = SerializedFileReader::new(open()?).map_err(broken)?;
    let mut file = open()?;
    for column in rows.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let (start, length) = column.byte_range();
        let refused = |found| Error::Parquet { path: path.to_path_buf(), found };
        pages::check(&mut file, start, length).map_err(refused)?;
    }
    for (index, row) in rows.into_iter().enumerate() {
        let row = row.map_err(broken)?;
        if read.split.len() == MAX_EXAMPLES {
            return Err(Error::TooManyRecords { path: path.to_path_buf(), expected: MAX_EXAMPLES });
        }
        let refused = |(expected, found)| Error::Row { path: path.to_path_buf(), row: index, expected, found };
        let label = label(&row).map_err(refused)?;
        let lossy = append(&row, read.split.shape, &mut read.split.images).map_err(refused)?;
        read.split.labels.push(label);
        read.lossy |= lossy;
    }
    Ok(())
}

/// What was expected of a row, and what was found.
type Refusal = (&'static str, String);

fn column<'a>(row: &'a Row, names: &[&str]) -> Option<&'a Field> {
    row.get_column_iter().find(|(name, _)| names.contains(&name.as_str())).map(|(_, field)| field)
}

fn label(row: &Row) -> Result<u8, Refusal> {
    let found = match column(row, &["label"]) {
        Some(Field::Long(label)) => Some(*label),
        Some(Field::Int(label)) => Some(i64::from(*label)),
        _ => None,
    };
    let found = found.ok_or_else(|| ("a column `label` of integers", "another schema".to_owned()))?;
    let label = u8::try_from(found).ok().filter(|&label| usize::from(label) < CLASSES);
    label.ok_or_else(|| ("a label from 0 to 9", found.to_string()))
}

/// Appends the row's image, plane by plane; whether it was a JPEG.
fn append(row: &Row, shape: [usize; 3], images: &mut Vec<u8>) -> Result<bool, Refusal> {
    let bytes = match column(row, &["img", "image"]) {
        Some(Field::Group(image)) => match column(image, &["bytes"]) {
            Some(Field::Bytes(bytes)) => Some(bytes.data()),
            _ => None,
        },
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| ("a column `img` with the field `bytes`", "another schema".to_owned()))?;
    let (format, pixels) = decode(bytes, shape)?;
    // height × width × channel, interleaved, to planes
    images.extend((0..shape[0]).flat_map(|channel| pixels.iter().skip(channel).step_by(shape[0])));
    Ok(format == ImageFormat::Jpeg)
}

/// The pixels of a PNG or JPEG of 32×32 pixels in colour, or of a PNG of 28×28 in grey: row by row, the channels of each pixel.
fn decode(bytes: &[u8], shape: [usize; 3]) -> Result<(ImageFormat, Vec<u8>), Refusal> {
    let expected = "a PNG or JPEG image";
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| (expected, error.to_string()))?;
    let format = reader.format().ok_or_else(|| (expected, format!("{} bytes of something else", bytes.len())))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODED);
    reader.limits(limits);
    match (shape[0], format, reader.decode().map_err(|error| (expected, error.to_string()))?) {
        (3, _, DynamicImage::ImageRgb8(image)) if image.dimensions() == (32, 32) => Ok((format, image.into_raw())),
        // Re-encoded grey images would go unnoticed: IDX files have no note.
        (1, ImageFormat::Png, DynamicImage::ImageLuma8(image)) if image.dimensions() == (28, 28) => {
            Ok((format, image.into_raw()))
        }
        (channels, format, other) => {
            let size = format!("{}×{} pixels of {:?}", other.width(), other.height(), other.color());
            let found = if channels == 1 { format!("{format:?} of {size}") } else { size };
            Err((if channels == 1 { "a PNG of 28×28 pixels of L8" } else { "32×32 pixels of Rgb8" }, found))
        }
    }
}

/// Writes a file under another name, then gives it its own. The other name is one that nobody can guess, of a file that is created anew: a link that was
/// planted there is not followed.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_path_buf(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".np-").suffix(".partial");
    // For all that the mask lets in, as any file; a temporary one is its owner's alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    file.persist(path).map(drop).map_err(|error| failed(error.error))
}
