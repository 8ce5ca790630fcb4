//! What can be wrong with data, or with a request for it.
//!
//! Every message names the file or the value, what was expected and what was found. Where there is something to do about it,
//! [`Error::hint`] says that: it is no part of the message.

use std::io;
use std::path::PathBuf;

use crate::idx::Kind;
use crate::name::DataName;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The full set was requested without a data folder.
    #[error("`{name}`: expected a data folder for the full set, found none")]
    NoFolder {
        /// The requested data set.
        name: DataName,
    },
    /// The data folder, or the data set's folder in it, does not exist.
    #[error("`{path}`: expected a folder, found {found}")]
    MissingFolder {
        /// The folder looked for.
        path: PathBuf,
        /// What is there instead.
        found: &'static str,
        /// Path of a file of the set, relative to the data folder.
        example: String,
    },
    /// A data file is missing under each of the names it may have.
    #[error("`{folder}`: expected a file `{}`, found neither", looked_for.join("` or `"))]
    MissingFile {
        /// The data set's folder.
        folder: PathBuf,
        /// The names looked for, in that order.
        looked_for: Vec<String>,
        /// How to get the file.
        remedy: &'static str,
    },
    /// A file could not be opened or read.
    #[error("`{path}`: could not be read")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes do not start like an IDX file.
    #[error("`{path}`: expected an IDX file of {expected} (magic `{}`), found `{found}`", expected.magic())]
    NotIdx {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        expected: Kind,
        /// The first bytes, in hexadecimal, or how few there are.
        found: String,
    },
    /// Something else in place of a data file: not a regular file, or another format, recognised by its first bytes.
    #[error("`{path}`: expected {expected}, found {found}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What it looks like: a pipe, an HTML page, a Git LFS pointer, an archive.
        found: String,
        /// How to get the file.
        remedy: &'static str,
    },
    /// An IDX file, but its values are not unsigned bytes.
    #[error("`{path}`: expected unsigned bytes (IDX type `0x08`), found IDX type `{found:#04x}`")]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The type code in the header.
        found: u8,
    },
    /// An IDX file whose number of dimensions is neither that of images nor that of labels.
    #[error("`{path}`: expected {expected}, {}-dimensional, found {found} dimensions", expected.rank())]
    WrongRank {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        expected: Kind,
        /// The number of dimensions in the header.
        found: u8,
    },
    /// Images where labels belong, or labels where images belong.
    #[error("`{path}`: expected {expected}, found {found}")]
    Mislabelled {
        /// The file.
        path: PathBuf,
        /// What the file should hold.
        expected: Kind,
        /// What it does hold.
        found: Kind,
    },
    /// The header announces more bytes than this crate accepts.
    #[error("`{path}`: expected at most {expected} bytes, found a header that promises {found}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        expected: u64,
        /// The number of bytes that the header announces.
        found: u128,
    },
    /// Fewer bytes than the header announces, counted after decompression.
    #[error("`{path}`: expected {expected} bytes, found {found}")]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Header and payload in bytes.
        expected: u64,
        /// The bytes that were there.
        found: u64,
    },
    /// More bytes than the header announces, counted after decompression.
    #[error("`{path}`: expected {expected} bytes, found more")]
    Trailing {
        /// The file.
        path: PathBuf,
        /// Header and payload in bytes.
        expected: u64,
    },
    /// A gzip stream that ends early or fails its checksum.
    #[error("`{path}`: expected a whole gzip stream, found `{found}`")]
    CorruptGzip {
        /// The file.
        path: PathBuf,
        /// What the decompressor said.
        found: String,
    },
    /// A file of the binary version that ends in the middle of a record, or is something else.
    #[error("`{path}`: expected whole records of {expected} bytes, found {found} bytes")]
    PartialRecord {
        /// The file.
        path: PathBuf,
        /// Bytes of a record.
        expected: usize,
        /// The bytes that were there.
        found: u64,
    },
    /// A file of the binary version with more records than this crate accepts.
    #[error("`{path}`: expected at most {expected} examples, found more")]
    TooManyRecords {
        /// The file.
        path: PathBuf,
        /// The limit.
        expected: usize,
    },
    /// A file of the training set with fewer or more records than the first.
    #[error("`{path}`: expected {expected} examples, as in `{first}`, found {found}")]
    UnequalBatches {
        /// The file.
        path: PathBuf,
        /// The first file.
        first: &'static str,
        /// The examples of the first file.
        expected: usize,
        /// Those of this one.
        found: usize,
    },
    /// A parquet file that cannot be read.
    #[error("`{path}`: expected a parquet file, found `{found}`")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        found: String,
    },
    /// A row of a parquet file that is not a valid example.
    #[error("`{path}`: expected {expected}, found `{found}` in row {row}")]
    Row {
        /// The file.
        path: PathBuf,
        /// Which row, from 0.
        row: usize,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A training set that cannot be divided evenly among the five files of the binary version.
    #[error("`{path}`: expected a multiple of {expected} training examples, found {found}")]
    TrainCount {
        /// The folder.
        path: PathBuf,
        /// The number of files.
        expected: usize,
        /// The number of examples.
        found: usize,
    },
    /// An imported set that is hidden by other files of the same set, which take precedence.
    #[error("`{folder}`: expected the imported set ({expected}), found another ({found})")]
    Covered {
        /// The folder.
        folder: PathBuf,
        /// Digest of what was imported.
        expected: String,
        /// Digest of what is read.
        found: String,
    },
    /// A set could not be fetched from the Hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Fetch(#[from] crate::fetch::FetchError),
    /// A file could not be written.
    #[error("`{path}`: could not be written")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The note that an import writes beside its files cannot be parsed.
    #[error("`{path}`: expected {expected}, found `{found}`")]
    Note {
        /// The note.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// The files have changed since they were imported.
    #[error("`{folder}`: expected data with the digest `{expected}`, as imported, found `{found}`")]
    Damaged {
        /// The data set's folder.
        folder: PathBuf,
        /// The digest in the note.
        expected: String,
        /// That of the files.
        found: String,
        /// The name of the note.
        note: &'static str,
    },
    /// The embedded set was requested of a data set that has none.
    #[error("`{name}`: expected the source `full`, found `mini`")]
    NotEmbedded {
        /// The data set asked for.
        name: DataName,
    },
    /// A file without a single example.
    #[error("`{path}`: expected at least 1 example, found 0")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Images of another height or width.
    #[error("`{path}`: expected images of {}×{} pixels, found {}×{}", expected[0], expected[1], found[0], found[1])]
    WrongImageSize {
        /// The file.
        path: PathBuf,
        /// Height and width in pixels.
        expected: [usize; 2],
        /// Height and width in the header.
        found: [usize; 2],
    },
    /// The two files of a split disagree about the number of examples.
    #[error("`{path}`: expected {expected} labels, one for each image of `{images}`, found {found}")]
    CountMismatch {
        /// The labels file.
        path: PathBuf,
        /// The images file.
        images: PathBuf,
        /// The number of images.
        expected: usize,
        /// The number of labels.
        found: usize,
    },
    /// A label that is not a class.
    #[error("`{path}`: expected labels from 0 to {}, found {found} at example {index}", expected.saturating_sub(1))]
    LabelOutOfRange {
        /// The labels file.
        path: PathBuf,
        /// The number of classes.
        expected: usize,
        /// The label.
        found: u8,
        /// Where it is, from 0.
        index: usize,
    },
    /// An unknown name of a data set or source.
    #[error("{key}: expected {expected}, found `{found}`")]
    UnknownName {
        /// What the name is of.
        key: &'static str,
        /// The known names.
        expected: &'static str,
        /// The word as given.
        found: String,
    },
    /// A fraction of a data set outside of its range.
    #[error("fraction: expected {expected}, found `{found}`")]
    Fraction {
        /// The range.
        expected: &'static str,
        /// The fraction as given.
        found: f64,
    },
    /// A subset without examples.
    #[error("fraction: expected at least 1 example, found 0 (`{fraction}` of {len})")]
    EmptySubset {
        /// The fraction as given.
        fraction: f64,
        /// The number of examples that the subset is taken from.
        len: usize,
    },
    /// A class with fewer examples than requested.
    #[error("class {class}: expected at least {expected} examples, found {found}")]
    ClassTooSmall {
        /// The class.
        class: u8,
        /// The requested number of examples.
        expected: usize,
        /// The number it has.
        found: usize,
    },
    /// More examples than a 32-bit index can address.
    #[error("data set: expected at most {} examples, found {found}", u32::MAX)]
    TooManyExamples {
        /// The number of examples.
        found: usize,
    },
    /// A requested number of examples that is 0 or exceeds the size of the set.
    #[error("count: expected 1 to {expected}, found `{found}`")]
    Count {
        /// The number of examples in the set.
        expected: usize,
        /// The number as given.
        found: usize,
    },
    /// Images that do not fit the requested layout.
    #[error("layout: expected images of 1 or 3 channels and at most 32×32 pixels, found {}×{}×{}", found[0], found[1], found[2])]
    Layout {
        /// Channels, height and width of the images.
        found: [usize; 3],
    },
    /// An index past the end of a split.
    #[error("batch: expected indices below {expected}, found {found}")]
    IndexOutOfRange {
        /// The number of examples in the split.
        expected: usize,
        /// The index.
        found: u32,
    },
    /// A normalisation for another number of channels.
    #[error("normalisation: expected {expected} channels, as the images have, found {found}")]
    ChannelMismatch {
        /// The channels of the images.
        expected: usize,
        /// The channels of the normalisation.
        found: usize,
    },
    /// Invalid means or standard deviations.
    #[error("normalisation: expected {expected}, found `{found}`")]
    Normalization {
        /// What a valid one looks like.
        expected: &'static str,
        /// The values as given.
        found: String,
    },
}
