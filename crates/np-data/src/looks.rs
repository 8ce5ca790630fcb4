//! Recognises files in place of a data file by their first bytes: a web page, a Git LFS pointer, an archive.

use std::path::Path;

use crate::error::Error;

/// Bytes from the start of a file that are enough to tell.
pub(crate) const ENOUGH: u64 = 1024;

/// What begins like this, where it is something that people find in a data file's place.
pub(crate) fn like(start: &[u8]) -> Option<&'static str> {
    const SIGNS: [(&[u8], &str); 11] = [
        (b"\x1f\x8b", "a gzip stream"),
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"BZh", "a bzip2 stream"),
        (b"\xfd7zXZ\0", "an xz stream"),
        (b"\x28\xb5\x2f\xfd", "a zstd stream"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"PAR1", "a parquet file"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"\x80\x02}", "a Python pickle"),
    ];
    if let Some((_, what)) = SIGNS.iter().find(|(sign, _)| start.starts_with(sign)) {
        return Some(what);
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some("a tar archive");
    }
    // Text: a byte order mark and blanks do not count, nor does the case of a tag.
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let head = text.get(..text.len().min(400)).unwrap_or_default().to_ascii_lowercase();
    let begins = |sign: &str| head.starts_with(sign.as_bytes());
    let holds = |sign: &str| head.windows(sign.len()).any(|part| part == sign.as_bytes());
    if begins("version https://git-lfs.github.com") || begins("version https://hawser.github.com") {
        Some("a Git LFS pointer, not the file that it stands for")
    } else if begins("# xet version") || (begins("version ") && holds("oid sha256:")) {
        Some("a pointer of a version store, not the file that it stands for")
    } else if begins("<!doctype html") || begins("<html") || begins("<head") || (begins("<") && holds("<html")) {
        Some("an HTML page, perhaps of a log-in or an error")
    } else if begins("<?xml") {
        Some("an XML document, perhaps an error of a server")
    } else if begins("{") || begins("[") {
        Some("JSON, perhaps an error of a server")
    } else if start.len() > 3 && start.iter().all(|&byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        Some("text")
    } else {
        None
    }
}

/// The error about a file that begins like this in place of what is `expected`; `None` where it looks like nothing that is known. `packed` where it
/// was inside of a gzip stream, which is undone by itself.
pub(crate) fn foreign(path: &Path, expected: String, start: &[u8], packed: bool) -> Option<Error> {
    let what = like(start)?;
    let remedy = if what.contains("pointer") {
        "fetch the file itself, with `git lfs pull` where it was cloned, or from its download address"
    } else if what.contains("gzip") && packed {
        "it was compressed more than once: `gunzip` it until it is no gzip stream"
    } else if what.contains("archive") || what.contains("stream") {
        "unpack it, and put what it holds there"
    } else {
        "copy the data file itself there, or fetch it again"
    };
    let found = if packed { format!("{what}, inside of a gzip stream") } else { what.to_owned() };
    Some(Error::Foreign { path: path.to_path_buf(), expected, found, remedy })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_find_in_a_data_files_place_is_told_by_its_start() {
        let tar = [vec![b'd'; 257], b"ustar\x0000".to_vec()].concat();
        let table: [(&[u8], &str); 16] = [
            (b"<!DOCTYPE html><html lang=en>", "an HTML page"),
            (b"\xef\xbb\xbf\r\n  <HTML>", "an HTML page"),
            (b"<!-- saved --><html>", "an HTML page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code>", "an XML document"),
            (b"{\"error\":\"Repository not found\"}", "JSON"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n", "a Git LFS pointer"),
            (b"version https://example.org/spec/v2\noid sha256:4d\nsize 9\n", "a pointer of a version store"),
            (b"Not Found", "text"),
            (b"label,pixel1,pixel2\n2,0,0\n", "text"),
            (b"\x1f\x8b\x08\0", "a gzip stream"),
            (b"PK\x03\x04\x14\0", "a zip archive"),
            (b"BZh91AY", "a bzip2 stream"),
            (b"PAR1\x15\0", "a parquet file"),
            (&tar, "a tar archive"),
            (b"\x80\x02}q\x01", "a Python pickle"),
            (b"\x93NUMPY\x01", "a NumPy array"),
        ];
        for (start, what) in table {
            assert!(like(start).is_some_and(|found| found.starts_with(what)), "{what}: {:?}", like(start));
        }
        for start in [&b""[..], &[0, 0, 8, 3, 0, 0, 0, 1], &[7; 3073], &[0xff; 9], b"abc"] {
            assert_eq!(like(start), None, "{start:?}");
        }
    }
}
