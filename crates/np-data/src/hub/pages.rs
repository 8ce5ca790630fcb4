//! Checks the headers of a parquet file's pages before the pages are read. A header states the unpacked size of its page and its number of values, and
//! the parquet reader allocates memory for them without a check.
//!
//! A header is a struct in Thrift's compact protocol. Only the sizes and the number of values are used here.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use crate::cifar::MAX_EXAMPLES;

/// Snappy packs at most 64 bytes into 3; small pages have more slack.
const UNPACKED: u64 = 32;
const SLACK: u64 = 1 << 16;

/// The longest header; the published files' have some hundred bytes.
const HEADER: u64 = 1 << 16;

/// Structs and lists within one another; a page's header has four.
const DEEPEST: usize = 8;

/// Refuses a column chunk, so many bytes of `file` from `start` on, whose pages promise more than their bytes can hold.
pub(super) fn check(file: &mut File, start: u64, length: u64) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let whole = file.metadata().map_err(failed)?.len();
    let end = start.checked_add(length).filter(|&end| end <= whole).ok_or("a column beyond the end of the file")?;
    let mut at = start;
    let mut bytes = Vec::new();
    while at < end {
        bytes.clear();
        file.seek(SeekFrom::Start(at)).map_err(failed)?;
        file.take(HEADER.min(end - at)).read_to_end(&mut bytes).map_err(failed)?;
        let mut header = Header::new(&bytes);
        header.fields(0, 0).ok_or("a broken page header")?;
        let read = (bytes.len() - header.rest.len()) as u64;
        let size = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok()).ok_or("a page without a size");
        let (unpacked, packed) = (size(header.sizes[0])?, size(header.sizes[1])?);
        if unpacked > packed.saturating_mul(UNPACKED).saturating_add(SLACK) {
            return Err(format!("a page of {packed} bytes that promises {unpacked}"));
        }
        if header.values.is_some_and(|values| !(0..=MAX_EXAMPLES as i64).contains(&values)) {
            return Err(format!("a page that does not promise 0 to {MAX_EXAMPLES} values"));
        }
        at = at.saturating_add(read).saturating_add(packed);
    }
    Ok(())
}

/// A header being read.
struct Header<'a> {
    rest: &'a [u8],
    /// Fields 2 and 3 of the outermost struct: the sizes of the page, unpacked and packed.
    sizes: [Option<i64>; 2],
    /// Field 1 of the struct in field 5, 7 or 8: the number of values of a data page, of a dictionary, of a data page of version 2.
    values: Option<i64>,
}

/// `None` where the bytes are no such header.
impl<'a> Header<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, sizes: [None; 2], values: None }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn pass(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// Negative numbers lie between the others.
    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    fn fields(&mut self, depth: usize, parent: i64) -> Option<()> {
        let mut id = 0_i64;
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            id = if head >> 4 == 0 { self.signed()? } else { id.checked_add(i64::from(head >> 4))? };
            match (depth, parent, id, head & 0xf) {
                (0, _, 2 | 3, 5) => self.sizes[usize::from(id == 3)] = Some(self.signed()?),
                (1, 5 | 7 | 8, 1, 5) => self.values = self.values.max(Some(self.signed()?)),
                (.., kind) => self.skip(kind, depth, id)?,
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize, id: i64) -> Option<()> {
        match kind {
            // Truth values are in the kind.
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.number().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.number()?;
                self.pass(length)
            }
            9 | 10 if depth < DEEPEST => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                (0..count).try_for_each(|_| match head & 0xf {
                    1 | 2 => self.pass(1),
                    kind => self.skip(kind, depth + 1, 0),
                })
            }
            12 if depth < DEEPEST => self.fields(depth + 1, id),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Type 0, 100 bytes unpacked, 50 packed, and a struct with a count, an encoding, a text and a list.
    const SOUND: [u8; 21] =
        [0x15, 0, 0x15, 200, 1, 0x15, 100, 0x2c, 0x15, 6, 0x15, 0, 0x18, 2, b'a', b'b', 0x19, 0x15, 4, 0, 0];

    #[test]
    fn the_sizes_are_found_and_the_rest_passed_over() {
        let mut header = Header::new(&SOUND);
        assert!(header.fields(0, 0).is_some() && header.rest.is_empty());
        assert_eq!((header.sizes, header.values), ([Some(100), Some(50)], Some(3)));
        for length in 0..SOUND.len() {
            assert!(Header::new(&SOUND[..length]).fields(0, 0).is_none());
        }
        // structs without end; a list of more than there is
        assert!(Header::new(&[0x1c; 1000]).fields(0, 0).is_none());
        assert!(Header::new(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x0f]).fields(0, 0).is_none());
        // lists of lists
        assert!(Header::new(&[0x19; 100_000]).fields(0, 0).is_none());
    }
}
