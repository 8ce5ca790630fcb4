//! What mends an error of this crate: no part of its message, because a program has its own place for it.

use crate::dataset::DATA_DIR_ENV;
use crate::error::Error;
use crate::name::Source;

impl Error {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoFolder { name } => {
                let mini = if name.has(Source::Mini) { "; the mini set needs no folder" } else { "" };
                return Some(format!("pass `--data-dir DIR` or set `{DATA_DIR_ENV}`{mini}"));
            }
            Self::MissingFolder { example, .. } => {
                return Some(format!("the layout is `DIR/{example}`; name `DIR` by `--data-dir` or `{DATA_DIR_ENV}`"));
            }
            Self::MissingFile { remedy, .. } => {
                return Some(format!("{remedy}, or name another folder by `--data-dir` or `{DATA_DIR_ENV}`"));
            }
            Self::Damaged { note, .. } => {
                return Some(format!("import it again; if you have replaced the files, remove `{note}`"));
            }
            Self::Foreign { remedy, .. } => remedy,
            Self::Mislabelled { .. } => "the images and labels files may have been swapped",
            Self::Truncated { .. } => "the file is cut short; copy it again",
            Self::CorruptGzip { .. } => "the file is damaged; copy it again",
            Self::PartialRecord { .. } => "the file is cut short, or not of the binary version; copy it again",
            Self::UnequalBatches { .. } => "one of the two is cut short; copy it again",
            Self::Parquet { .. } => "the file is damaged or of another format; copy it again",
            Self::Covered { .. } => {
                "the folder had files of the set, which are looked for first; import into another folder, or remove them"
            }
            Self::Note { .. } => "import the set again, or remove this file",
            Self::NotEmbedded { .. } => "this set is not embedded; read it from a folder with `source: full`",
            #[cfg(feature = "hub")]
            Self::Fetch(error) => error.hint(),
            _ => return None,
        };
        Some(hint.to_owned())
    }
}
