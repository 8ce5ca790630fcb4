//! The IDX format of the MNIST family: a big-endian header, then unsigned bytes.
//!
//! Whether a file is gzip is decided by its first bytes, not by its name. A header is not trusted: memory is allocated for bytes that have been
//! read, and decompression stops one byte after the announced size.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::Error;
use crate::{looks, regular};

/// The largest payload that [`read`] accepts, in bytes (2 GiB; full MNIST has 47 MB).
pub const MAX_PAYLOAD: u64 = 1 << 31;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const UNSIGNED_BYTE: u8 = 0x08;

/// The contents of an IDX file of the MNIST family. The number of dimensions distinguishes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One byte for each example: `[N]`.
    Labels,
    /// One image for each example: `[N, H, W]`.
    Images,
}

impl Kind {
    /// The number of dimensions: 1 or 3.
    pub fn rank(self) -> u8 {
        match self {
            Kind::Labels => 1,
            Kind::Images => 3,
        }
    }

    /// The first four bytes of such a file, in hexadecimal: `0x00000801` or `0x00000803`.
    pub fn magic(self) -> String {
        hex(&[0, 0, UNSIGNED_BYTE, self.rank()])
    }

    fn of_rank(rank: u8) -> Option<Self> {
        [Kind::Labels, Kind::Images].into_iter().find(|kind| kind.rank() == rank)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Labels => "labels",
            Kind::Images => "images",
        })
    }
}

/// One IDX file in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idx {
    /// `[N]` for labels, `[N, H, W]` for images.
    pub dims: Vec<usize>,
    /// The values in row-major order; as many as the product of [`dims`](Self::dims).
    pub data: Vec<u8>,
}

/// Reads one IDX file, plain or gzip.
///
/// # Errors
/// [`Error::Foreign`] if it is not a regular file; [`Error::Io`] if it cannot be opened or read; those of [`decode`].
pub fn read(path: &Path, kind: Kind) -> Result<Idx, Error> {
    decode(regular::open(path)?, path, kind)
}

/// Reads one IDX stream, plain or gzip, to its end. `origin` is its name in errors.
///
/// # Errors
/// [`Error::NotIdx`], [`Error::Foreign`], [`Error::WrongType`], [`Error::WrongRank`], [`Error::Mislabelled`], [`Error::TooLarge`],
/// [`Error::Truncated`], [`Error::Trailing`], [`Error::CorruptGzip`], and [`Error::Io`] if the reader fails.
pub fn decode(mut reader: impl Read, origin: &Path, kind: Kind) -> Result<Idx, Error> {
    let plain = Stream { origin, kind, encoding: Encoding::Plain };
    let start = plain.up_to(&mut reader, GZIP_MAGIC.len() as u64)?;
    let reader = start.as_slice().chain(reader);
    if start == GZIP_MAGIC {
        Stream { encoding: Encoding::Gzip, ..plain }.decode(MultiGzDecoder::new(reader))
    } else {
        plain.decode(reader)
    }
}

/// The bytes of a plain IDX file with this shape and these values; the inverse of [`decode`].
///
/// The header has 32 bits for each dimension and 8 bits for their number. Larger values are replaced by the largest that fits, and
/// [`decode`] then reports a truncated file.
pub fn encode(dims: &[usize], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, UNSIGNED_BYTE, u8::try_from(dims.len()).unwrap_or(u8::MAX)];
    for &dim in dims {
        bytes.extend(u32::try_from(dim).unwrap_or(u32::MAX).to_be_bytes());
    }
    bytes.extend_from_slice(data);
    bytes
}

#[derive(Clone, Copy)]
enum Encoding {
    Plain,
    Gzip,
}

/// What an error has to say about the bytes being read.
struct Stream<'a> {
    origin: &'a Path,
    kind: Kind,
    encoding: Encoding,
}

impl Stream<'_> {
    fn decode(&self, mut reader: impl Read) -> Result<Idx, Error> {
        let path = || self.origin.to_path_buf();

        // Enough to tell what it is, if it is something else.
        let start = self.up_to(&mut reader, looks::ENOUGH)?;
        let (magic, rest) = start.split_at(start.len().min(4));
        let mut reader = rest.chain(reader);
        let rank = match *magic {
            [0, 0, UNSIGNED_BYTE, rank] => rank,
            [0, 0, found @ (0x09 | 0x0b..=0x0e), _] => return Err(Error::WrongType { path: path(), found }),
            _ => {
                let expected = format!("an IDX file of {} (magic `{}`)", self.kind, self.kind.magic());
                let packed = matches!(self.encoding, Encoding::Gzip);
                return Err(looks::foreign(self.origin, expected, &start, packed).unwrap_or_else(|| {
                    let found = if magic.len() < 4 { format!("{} bytes", magic.len()) } else { hex(magic) };
                    Error::NotIdx { path: path(), expected: self.kind, found }
                }));
            }
        };
        if rank != self.kind.rank() {
            return Err(match Kind::of_rank(rank) {
                Some(found) => Error::Mislabelled { path: path(), expected: self.kind, found },
                None => Error::WrongRank { path: path(), expected: self.kind, found: rank },
            });
        }

        let sizes = 4 * u64::from(rank);
        let header = 4 + sizes;
        let bytes = self.up_to(&mut reader, sizes)?;
        let found = bytes.len() as u64;
        if found < sizes {
            return Err(Error::Truncated { path: path(), expected: header, found: 4 + found });
        }
        let (words, _) = bytes.as_chunks::<4>();
        let dims: Vec<u32> = words.iter().map(|&word| u32::from_be_bytes(word)).collect();
        let promised = dims.iter().map(|&dim| u128::from(dim)).product(); // three factors below 2³²: no overflow
        if promised > u128::from(MAX_PAYLOAD) {
            return Err(Error::TooLarge { path: path(), expected: MAX_PAYLOAD, found: promised });
        }
        let promised = promised as u64;

        // One byte more than promised: it shows what trails, and on a whole file it makes gzip check its sum.
        let data = self.up_to(&mut reader, promised + 1)?;
        let found = data.len() as u64;
        if found < promised {
            return Err(Error::Truncated { path: path(), expected: header + promised, found: header + found });
        }
        if found > promised {
            return Err(Error::Trailing { path: path(), expected: header + promised });
        }
        Ok(Idx { dims: dims.into_iter().map(|dim| dim as usize).collect(), data })
    }

    /// The next `count` bytes, or all that are left if those are fewer.
    fn up_to(&self, reader: &mut impl Read, count: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        match reader.take(count).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(source) => Err(self.failed(source)),
        }
    }

    fn failed(&self, source: io::Error) -> Error {
        let path = self.origin.to_path_buf();
        let damaged = [io::ErrorKind::InvalidInput, io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
        match self.encoding {
            Encoding::Gzip if damaged.contains(&source.kind()) => {
                Error::CorruptGzip { path, found: source.to_string() }
            }
            _ => Error::Io { path, source },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("0x{}", crate::digest::hex(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_decodes() {
        let bytes = encode(&[2, 1, 3], &[1, 2, 3, 4, 5, 6]);
        assert_eq!(bytes[..8], [0, 0, 8, 3, 0, 0, 0, 2]);
        let idx = decode(bytes.as_slice(), Path::new("x"), Kind::Images).unwrap();
        assert_eq!(idx, Idx { dims: vec![2, 1, 3], data: vec![1, 2, 3, 4, 5, 6] });
    }

    #[test]
    fn a_header_that_promises_the_world_costs_nothing() {
        let bytes = encode(&[usize::MAX, usize::MAX, usize::MAX], &[0; 8]);
        let error = decode(bytes.as_slice(), Path::new("x"), Kind::Images).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");

        let bytes = encode(&[1 << 21, 32, 32], &[0; 8]); // exactly the limit: 2 GiB promised, 8 bytes there
        let error = decode(bytes.as_slice(), Path::new("x"), Kind::Images).unwrap_err();
        assert!(matches!(error, Error::Truncated { found: 24, .. }), "{error}");
    }

    #[test]
    fn an_endless_stream_is_left_after_one_byte_too_many() {
        let endless = encode(&[3], &[]);
        let reader = endless.as_slice().chain(io::repeat(7));
        let error = decode(reader, Path::new("x"), Kind::Labels).unwrap_err();
        assert!(matches!(error, Error::Trailing { expected: 11, .. }), "{error}");
    }
}
