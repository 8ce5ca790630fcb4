//! The binary version of CIFAR-10: records of one label byte and 3×32×32 pixel bytes, plane by plane, row by row.
//!
//! The format has no header, so that only length and labels can be checked. Everything is read into memory, 184 MB for the whole set. A
//! memory map would save nothing, because the digest reads every byte anyway.

use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::dataset::{CLASSES, Split};
use crate::error::Error;
use crate::looks;
use crate::name::DataName;
use crate::regular;

/// Channels, height and width of an image.
pub const SHAPE: [usize; 3] = [3, 32, 32];

/// Bytes of an image.
pub const IMAGE: usize = SHAPE[0] * SHAPE[1] * SHAPE[2];

/// Bytes of a record: a label and an image.
pub const RECORD: usize = 1 + IMAGE;

/// Largest number of examples in a file that is accepted; the published files have 10,000.
pub const MAX_EXAMPLES: usize = 100_000;

/// The files of the training set, in order.
pub const TRAIN_FILES: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// The file of the test set.
pub const TEST_FILE: &str = "test_batch.bin";

/// The folder that the published archive unpacks to.
const ARCHIVE_FOLDER: &str = "cifar-10-batches-bin";

/// Reads one file of the binary version.
///
/// # Errors
/// [`Error::Foreign`] if it is not a regular file; [`Error::Io`] if it cannot be opened or read; those of [`decode`].
pub fn read(path: &Path) -> Result<Split, Error> {
    decode(BufReader::with_capacity(64 * RECORD, regular::open(path)?), path)
}

/// Reads records to the end of a stream. `origin` is its name in errors.
///
/// # Errors
/// [`Error::Empty`], [`Error::Foreign`], [`Error::PartialRecord`], [`Error::TooManyRecords`], [`Error::LabelOutOfRange`], and [`Error::Io`] if the
/// reader fails.
pub fn decode(mut reader: impl Read, origin: &Path) -> Result<Split, Error> {
    let path = || origin.to_path_buf();
    let (mut labels, mut images) = (Vec::new(), Vec::new());
    let mut record = [0; RECORD];
    loop {
        let found = fill(&mut reader, &mut record).map_err(|source| Error::Io { path: path(), source })?;
        if found == 0 {
            break;
        }
        // A label is below 10, and what people find in its place begins above.
        if labels.is_empty() && usize::from(record[0]) >= CLASSES {
            let expected = format!("records of {RECORD} bytes that begin with a label from 0 to 9");
            let start = &record[..found.min(looks::ENOUGH as usize)];
            if let Some(error) = looks::foreign(origin, expected, start, false) {
                return Err(error);
            }
        }
        if labels.len() == MAX_EXAMPLES {
            return Err(Error::TooManyRecords { path: path(), expected: MAX_EXAMPLES });
        }
        if found < RECORD {
            let found = (labels.len() * RECORD + found) as u64;
            return Err(Error::PartialRecord { path: path(), expected: RECORD, found });
        }
        let label = record[0];
        if usize::from(label) >= CLASSES {
            let index = labels.len();
            return Err(Error::LabelOutOfRange { path: path(), expected: CLASSES, found: label, index });
        }
        labels.push(label);
        images.extend_from_slice(&record[1..]);
    }
    if labels.is_empty() {
        return Err(Error::Empty { path: path() });
    }
    Ok(Split { images, labels, shape: SHAPE })
}

/// The bytes of a file with these examples; the inverse of [`decode`]. `images` has [`IMAGE`] bytes for each label; labels beyond them are
/// left out.
pub fn encode(labels: &[u8], images: &[u8]) -> Vec<u8> {
    let (images, _) = images.as_chunks::<IMAGE>();
    let records = labels.iter().zip(images);
    records.flat_map(|(label, image)| std::iter::once(label).chain(image)).copied().collect()
}

/// Reads until `buffer` is full or the stream ends; how many bytes that were.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut found = 0;
    while found < buffer.len() {
        match reader.read(&mut buffer[found..]) {
            Ok(0) => break,
            Ok(count) => found += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The training and the test set of a folder, from its files or those of the archive's folder in it.
pub(crate) fn load(folder: &Path) -> Result<(Split, Split), Error> {
    let mut train = read(&find(folder, TRAIN_FILES[0])?)?;
    let expected = train.len();
    train.images.reserve_exact(expected * IMAGE * (TRAIN_FILES.len() - 1));
    for file in &TRAIN_FILES[1..] {
        let path = find(folder, file)?;
        let batch = read(&path)?;
        if batch.len() != expected {
            // a file cut at the end of a record looks sound by itself
            return Err(Error::UnequalBatches { path, first: TRAIN_FILES[0], expected, found: batch.len() });
        }
        train.images.extend_from_slice(&batch.images);
        train.labels.extend_from_slice(&batch.labels);
    }
    let test = read(&find(folder, TEST_FILE)?)?;
    Ok((train, test))
}

/// Whether a folder has any of the six files.
pub(crate) fn any(folder: &Path) -> bool {
    let there = |file: &&str| folder.join(file).exists() || folder.join(ARCHIVE_FOLDER).join(file).exists();
    TRAIN_FILES.iter().chain([&TEST_FILE]).any(there)
}

/// The file of this name in a folder, or in the archive's folder in it.
pub(crate) fn find(folder: &Path, file: &str) -> Result<PathBuf, Error> {
    let looked_for = vec![file.to_owned(), format!("{ARCHIVE_FOLDER}/{file}")];
    match looked_for.iter().map(|name| folder.join(name)).find(|path| path.exists()) {
        Some(path) => Ok(path),
        None => {
            let pickled = ["data_batch_1", "cifar-10-batches-py"].iter().any(|name| folder.join(name).exists());
            let remedy = if pickled {
                "this is the Python version; unpack the binary one there, `cifar-10-binary.tar.gz`"
            } else {
                DataName::Cifar10.remedy()
            };
            Err(Error::MissingFile { folder: folder.to_path_buf(), looked_for, remedy })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planes_stay_where_they_are() {
        let images: Vec<u8> = (0..2 * IMAGE).map(|i| (i / 1024 * 40 + i % 32) as u8).collect();
        let bytes = encode(&[3, 9], &images);
        assert_eq!((bytes.len(), bytes[0], bytes[RECORD]), (2 * RECORD, 3, 9));
        let split = decode(bytes.as_slice(), Path::new("x")).unwrap();
        assert_eq!(split, Split { images, labels: vec![3, 9], shape: [3, 32, 32] });
        // red, green and blue of the second pixel of the first row
        assert_eq!([0, 1, 2].map(|plane| split.image(0).unwrap()[plane * 1024 + 1]), [1, 41, 81]);
    }

    #[test]
    fn an_endless_stream_is_left() {
        let error = decode(std::io::repeat(7), Path::new("x")).unwrap_err();
        assert!(matches!(error, Error::TooManyRecords { expected: MAX_EXAMPLES, .. }), "{error}");
    }
}
