//! The files that a data set consists of, for copying it.

use std::path::{Path, PathBuf};

use crate::cifar::{self, TEST_FILE, TRAIN_FILES};
use crate::dataset::{Part, folder, folder_of, idx_file};
use crate::error::Error;
use crate::idx::Kind;
use crate::name::DataName;
use crate::note::Note;
use crate::spelling;

/// The files that [`DataSet::load`](crate::DataSet::load) reads for [`Source::Full`](crate::Source::Full), all below [`folder_of`]. Copied with the same
/// relative paths, they are the same set elsewhere. Their contents are not checked.
///
/// # Errors
/// [`Error::MissingFolder`] and [`Error::MissingFile`] if the set is not there.
pub fn files_of(name: DataName, data_dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let folder = folder(name, Some(data_dir))?;
    match name {
        DataName::Mnist | DataName::FashionMnist => {
            let parts = [Part::Train, Part::Test].into_iter();
            let files = parts.flat_map(|part| [(part, Kind::Images), (part, Kind::Labels)]);
            files.map(|(part, kind)| idx_file(name, &folder, part, kind)).collect()
        }
        DataName::Cifar10 => {
            let files = TRAIN_FILES.iter().chain([&TEST_FILE]).map(|file| cifar::find(&folder, file));
            let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>()?;
            files.extend(Some(folder.join(Note::FILE)).filter(|note| note.is_file()));
            Ok(files)
        }
    }
}

/// The parquet files of the Hugging Face Hub (`train*.parquet`, `test*.parquet`) in a set's folder, from which the set can be imported. `None` unless both parts are
/// there.
pub fn parquet_of(name: DataName, data_dir: &Path) -> Option<Vec<PathBuf>> {
    let entries = spelling::entries(&folder_of(name, data_dir));
    let of = |part: &str| -> Vec<PathBuf> {
        let named = |file: &str| file.starts_with(part) && file.ends_with(".parquet");
        entries.iter().filter(|(file, path)| named(file) && path.is_file()).map(|(_, path)| path.clone()).collect()
    };
    let (train, test) = (of("train"), of("test"));
    (!train.is_empty() && !test.is_empty()).then(|| [train, test].concat())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_files_that_are_read_are_named_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        };
        let names = |set| {
            let files = files_of(set, dir.path()).unwrap();
            let name = |path: &PathBuf| path.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_owned();
            files.iter().map(name).collect::<Vec<_>>()
        };
        assert!(matches!(files_of(DataName::Mnist, dir.path()), Err(Error::MissingFolder { .. })));
        let idx = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images.idx3-ubyte"];
        idx.iter().for_each(|file| write(&format!("MNIST/raw/{file}")));
        assert!(matches!(files_of(DataName::Mnist, dir.path()), Err(Error::MissingFile { .. })));
        write("MNIST/raw/t10k-labels-idx1-ubyte.gz");
        write("MNIST/raw/notes.txt");
        let expected = ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "t10k-images.idx3-ubyte"];
        let expected = expected.into_iter().chain(["t10k-labels-idx1-ubyte.gz"]);
        assert_eq!(names(DataName::Mnist), expected.map(|file| format!("MNIST/raw/{file}")).collect::<Vec<_>>());

        TRAIN_FILES.iter().chain([&TEST_FILE]).for_each(|file| write(&format!("cifar10/{file}")));
        write("cifar10/train.parquet");
        assert_eq!(names(DataName::Cifar10).len(), 6);
        assert_eq!(parquet_of(DataName::Cifar10, dir.path()), None, "a half");
        write("cifar10/imported.txt");
        write("cifar10/test.parquet");
        assert_eq!(names(DataName::Cifar10).last().unwrap(), "cifar10/imported.txt");
        assert_eq!(parquet_of(DataName::Cifar10, dir.path()).unwrap().len(), 2);
    }
}
