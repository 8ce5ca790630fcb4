//! The note that an import writes beside its files: the variant of the set, and its digest.
//!
//! The variant becomes part of the title, so that no figure presents re-encoded images as the published ones. The digest reveals files that have been
//! damaged since.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::error::Error;
use crate::regular;

/// What is known of imported files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// What a title puts in parentheses, `JPEG` for one; `None` where the pixels are the published ones.
    pub(crate) variant: Option<String>,
    /// The digest of the whole set.
    pub(crate) digest: String,
}

impl Note {
    /// Its file's name.
    pub(crate) const FILE: &str = "imported.txt";

    /// The note in a folder; `None` if there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(Self::FILE);
        let mut file = match regular::open(&path) {
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = String::new();
        match file.read_to_string(&mut text) {
            Ok(_) => Self::parse(&text, &path).map(Some),
            Err(source) => Err(Error::Io { path, source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let refuse = |expected, found: &str| {
            let found = found.chars().take(80).collect();
            Err(Error::Note { path: path.to_path_buf(), expected, found })
        };
        let (mut variant, mut digest) = (None, None);
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("variant", word)) if is_word(word) => variant = Some(word.to_owned()),
                Some(("digest", hex)) if is_digest(hex) => digest = Some(hex.to_owned()),
                _ => return refuse("lines `variant WORD` and `digest SHA-256`", line),
            }
        }
        match digest {
            Some(digest) => Ok(Self { variant, digest }),
            None => refuse("a line `digest SHA-256`", text),
        }
    }

    /// The text of its file.
    #[cfg(any(test, feature = "hub"))]
    pub(crate) fn text(&self) -> String {
        let variant = self.variant.as_ref().map(|word| format!("variant {word}\n")).unwrap_or_default();
        format!("{variant}digest {}\n", self.digest)
    }

    /// Whether the data of `folder` are those that were imported.
    pub(crate) fn check(&self, folder: &Path, digest: &str) -> Result<(), Error> {
        if self.digest == digest {
            return Ok(());
        }
        let (expected, found) = (self.digest.clone(), digest.to_owned());
        Err(Error::Damaged { folder: folder.to_path_buf(), expected, found, note: Self::FILE })
    }
}

/// Whether a text can name a variant.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_reads_back_and_anything_else_is_refused() {
        let path = Path::new("cifar10/imported.txt");
        for variant in [None, Some("JPEG".to_owned())] {
            let note = Note { variant, digest: "0123456789abcdef".repeat(4) };
            assert_eq!(Note::parse(&note.text(), path).unwrap(), note);
        }
        for text in ["", "variant JPEG\n", "digest 12\n", "variant \u{1b}[2J\n", "hello\n"] {
            let error = Note::parse(text, path).unwrap_err();
            assert!(error.to_string().starts_with("`cifar10/imported.txt`: expected "), "{error}");
            assert_eq!(error.hint().unwrap(), "import the set again, or remove this file");
        }
    }
}
