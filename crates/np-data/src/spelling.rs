//! The spellings of the four IDX files' names: as published, and as other sites have them.
//!
//! Kaggle has `train-images.idx3-ubyte`, and a folder `train-images-idx3-ubyte` that contains a file of that name; torchvision has a folder `raw`. A
//! dot, an underscore or a blank may replace a hyphen, `test` may replace `t10k`, and case does not matter. Published names take precedence.

use std::fs;
use std::path::{Path, PathBuf};

use crate::dataset::Part;
use crate::idx::Kind;

/// The file of a part in a set's folder.
pub(crate) fn find(folder: &Path, part: Part, kind: Kind) -> Option<PathBuf> {
    let plain = part.file_name(kind);
    let published = [format!("{plain}.gz"), plain.clone()].map(|file| folder.join(file));
    if let Some(path) = published.iter().find(|path| path.is_file()) {
        return Some(path.clone());
    }
    let spelled = |name: &str| {
        let name = spelling(name);
        name == plain || part == Part::Test && name == plain.replacen("t10k", "test", 1)
    };
    // The folder itself, and the folders in it that may hold the file; a folder with a part's name holds its file under that name or another.
    let mut folders = vec![folder.to_path_buf()];
    let inner = entries(folder).into_iter().filter(|(name, path)| path.is_dir() && (name == "raw" || spelled(name)));
    folders.extend(inner.map(|(_, path)| path));
    let files = folders.iter().flat_map(|folder| entries(folder));
    let found = files.into_iter().find(|(name, path)| spelled(name) && path.is_file()).map(|(_, path)| path);
    // What is there and no file: opening it will tell.
    found.or_else(|| published.into_iter().find(|path| path.exists()))
}

/// Whether a folder has any of the four files.
pub(crate) fn any(folder: &Path) -> bool {
    let kinds = [Kind::Images, Kind::Labels];
    [Part::Train, Part::Test].into_iter().any(|part| kinds.into_iter().any(|kind| find(folder, part, kind).is_some()))
}

/// A name in the published spelling, without `.gz`.
fn spelling(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(".gz").unwrap_or(&name).replace(['.', '_', ' '], "-")
}

/// What a folder holds, by name.
pub(crate) fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut entries: Vec<_> =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect();
    entries.sort();
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_file() {
        for name in [
            "train-images-idx3-ubyte",
            "train-images.idx3-ubyte",
            "train-images.idx3-ubyte.gz",
            "train_images_idx3_ubyte",
            "Train-Images-idx3-ubyte.GZ",
            "train-images-idx3.ubyte",
        ] {
            assert_eq!(spelling(name), "train-images-idx3-ubyte", "{name}");
        }
        assert_ne!(spelling("train-images-idx3-ubyte.zip"), "train-images-idx3-ubyte");
    }
}
