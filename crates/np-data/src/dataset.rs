//! Data sets in memory: where their files are found, how they are checked, and their layout.

use std::path::{Path, PathBuf};

use crate::cifar;
use crate::digest::{digest, known_digest};
use crate::error::Error;
use crate::identity::Identity;
use crate::idx::{self, Idx, Kind};
use crate::mini;
use crate::name::{DataName, Source};
use crate::note::Note;
use crate::spelling;

/// The environment variable that names the data folder. This crate does not read it; the program does.
pub const DATA_DIR_ENV: &str = "NP_DATA_DIR";

const SIDE: usize = 28;
pub(crate) const CLASSES: usize = 10;

/// One of the two halves of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Test,
}

impl Part {
    pub(crate) fn file_name(self, kind: Kind) -> String {
        let part = match self {
            Self::Train => "train",
            Self::Test => "t10k",
        };
        format!("{part}-{kind}-idx{}-ubyte", kind.rank())
    }
}

/// Images with their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Pixels from 0 to 255, row-major `N×C×H×W`.
    pub images: Vec<u8>,
    /// The class of each example, `N`.
    pub labels: Vec<u8>,
    /// Channels, height and width of one image, in pixels: `[C, H, W]`.
    pub shape: [usize; 3],
}

impl Split {
    /// Number of examples, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no examples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of values in one image: C·H·W.
    pub fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The pixels of example `i`, `C×H×W`; `None` past the end.
    pub fn image(&self, i: usize) -> Option<&[u8]> {
        let size = self.image_len();
        let start = i.checked_mul(size)?;
        self.images.get(start..start.checked_add(size)?)
    }
}

/// A data set in memory. It has been checked: every image has a label, and every label is a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// Which data set.
    pub name: DataName,
    /// Where it was read from.
    pub source: Source,
    /// The name for figures, for example `Fashion-MNIST (mini)`. The published name is used only for the published examples; see [`Identity::title`].
    pub title: String,
    /// Whether it is the published set of its name.
    pub identity: Identity,
    /// The training examples.
    pub train: Split,
    /// The test examples.
    pub test: Split,
    /// The number of classes; labels run from 0 to `classes` − 1.
    pub classes: usize,
    /// SHA-256 of the contents, as [`digest`](mod@crate::digest) defines it.
    pub digest: String,
}

impl DataSet {
    /// Loads and checks one data set.
    ///
    /// [`Source::Mini`] is embedded and ignores `data_dir`. [`Source::Full`] reads a folder of the data folder `DIR`:
    ///
    /// - `DIR/{mnist,fashion-mnist}/{train,t10k}-{images-idx3,labels-idx1}-ubyte`, plain or gzip, with or without `.gz`. A dot or an
    ///   underscore may replace a hyphen, as on Kaggle. The files may lie in a folder `raw`, or in a folder of the file's own name.
    /// - `DIR/cifar10/{data_batch_1,…,data_batch_5,test_batch}.bin`, or these files in `DIR/cifar10/cifar-10-batches-bin/`.
    ///
    /// [`folder_of`] says how else the set's folder may be spelled. The folder may hold fewer or other examples than the published ones;
    /// [`identity`](Self::identity) and the title tell.
    ///
    /// # Errors
    /// [`Error::NotEmbedded`] if the set has no such source; [`Error::NoFolder`], [`Error::MissingFolder`] and
    /// [`Error::MissingFile`] if there is nothing to read; those of [`idx::read`] and [`cifar::read`]; [`Error::Empty`],
    /// [`Error::WrongImageSize`], [`Error::CountMismatch`], [`Error::UnequalBatches`] and [`Error::LabelOutOfRange`] for contents
    /// that are not of this set; [`Error::Note`] and [`Error::Damaged`] for files that have changed since they were imported.
    pub fn load(name: DataName, source: Source, data_dir: Option<&Path>) -> Result<Self, Error> {
        let (train, test, note) = match (source, name) {
            (Source::Mini, DataName::Cifar10) => return Err(Error::NotEmbedded { name }),
            (Source::Mini, _) => {
                let (train, test) = idx_splits(|part, kind| embedded(name, part, kind))?;
                (train, test, None)
            }
            (Source::Full, DataName::Mnist | DataName::FashionMnist) => {
                let folder = folder(name, data_dir)?;
                let (train, test) = idx_splits(|part, kind| on_disk(name, &folder, part, kind))?;
                (train, test, None)
            }
            (Source::Full, DataName::Cifar10) => {
                let folder = folder(name, data_dir)?;
                let note = Note::read(&folder)?;
                let (train, test) = cifar::load(&folder)?;
                (train, test, note.map(|note| (folder, note)))
            }
        };
        let digest = digest(&train, &test);
        let mut variant = None;
        if let Some((folder, note)) = note {
            note.check(&folder, &digest)?;
            variant = note.variant;
        }
        let identity = Identity::of(name, source, &digest, Some([train.len(), test.len()]));
        let title = identity.title(name, source, variant.as_deref(), &digest);
        Ok(Self { name, source, title, identity, train, test, classes: CLASSES, digest })
    }

    /// The digest of a data set alone, for planning. It is known for the mini sets; full sets are loaded and checked for it.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn digest_of(name: DataName, source: Source, data_dir: Option<&Path>) -> Result<String, Error> {
        match (source, known_digest(name, source)) {
            (Source::Mini, Some(known)) => Ok(known.to_owned()),
            _ => Self::load(name, source, data_dir).map(|set| set.digest),
        }
    }

    /// Whether these are exactly the published examples in their order, or the embedded ones, or the known JPEG copies of CIFAR-10
    /// ([`Identity::Published`]).
    pub fn is_official(&self) -> bool {
        self.identity == Identity::Published
    }
}

impl Error {
    /// Whether the error only says that no file of the set is present, while the data folder itself, if one was given, exists. A program that plans may
    /// then use what is known of the published set.
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NoFolder { .. } => true,
            Self::MissingFolder { path, found, example } => {
                let set = example.split('/').next().unwrap_or_default();
                *found == "nothing" && path.ends_with(set) && path.parent().is_some_and(Path::is_dir)
            }
            Self::MissingFile { folder, looked_for, .. } => {
                let first = DataName::ALL.map(DataName::example_file);
                // One file of a set is something of it.
                let there = spelling::any(folder) || cifar::any(folder);
                looked_for.iter().any(|file| first.contains(&file.as_str())) && !there
            }
            _ => false,
        }
    }
}

/// One file with the name that errors give it.
struct Loaded {
    path: PathBuf,
    idx: Idx,
}

/// The folder of a set in a data folder. It has the set's name, or that name in another spelling, such as torchvision's `FashionMNIST`: case,
/// hyphens and underscores do not matter. If there is no such folder, the path with the set's name.
pub fn folder_of(name: DataName, data_dir: &Path) -> PathBuf {
    let plain = data_dir.join(name.as_str());
    if plain.exists() {
        return plain;
    }
    let spelled = |other: &str| folder_name(other) == folder_name(name.as_str());
    let found = spelling::entries(data_dir).into_iter().find(|(other, path)| spelled(other) && path.is_dir());
    found.map_or(plain, |(_, path)| path)
}

/// The sets whose files lie directly in `folder`, as they should in the folder of a set. The files of MNIST and Fashion-MNIST have the same names, so
/// that both sets are returned for them, unless the folder has the name of one.
pub fn sets_right_in(folder: &Path) -> Vec<DataName> {
    let is_there = |name: &DataName| match name {
        DataName::Cifar10 => cifar::any(folder),
        DataName::Mnist | DataName::FashionMnist => spelling::any(folder),
    };
    let there: Vec<DataName> = DataName::ALL.into_iter().filter(is_there).collect();
    let own = std::path::absolute(folder).ok().and_then(|folder| Some(folder_name(folder.file_name()?.to_str()?)));
    match there.iter().find(|name| own.as_deref() == Some(&folder_name(name.as_str()))) {
        Some(name) => vec![*name],
        None => there,
    }
}

/// A folder's name, however it is spelled.
fn folder_name(name: &str) -> String {
    name.to_ascii_lowercase().replace(['-', '_'], "")
}

/// The folder of a set, which is there.
pub(crate) fn folder(name: DataName, data_dir: Option<&Path>) -> Result<PathBuf, Error> {
    let root = data_dir.ok_or(Error::NoFolder { name })?;
    let folder = folder_of(name, root);
    for path in [root, &folder] {
        if !path.is_dir() {
            let found = if path.exists() { "a file" } else { "nothing" };
            let example = format!("{name}/{}", name.example_file());
            return Err(Error::MissingFolder { path: path.to_path_buf(), found, example });
        }
    }
    Ok(folder)
}

/// The training and the test set of the four files that `read` reads.
fn idx_splits(read: impl Fn(Part, Kind) -> Result<Loaded, Error>) -> Result<(Split, Split), Error> {
    let train = split(read(Part::Train, Kind::Images)?, read(Part::Train, Kind::Labels)?)?;
    let test = split(read(Part::Test, Kind::Images)?, read(Part::Test, Kind::Labels)?)?;
    Ok((train, test))
}

fn on_disk(name: DataName, folder: &Path, part: Part, kind: Kind) -> Result<Loaded, Error> {
    let path = idx_file(name, folder, part, kind)?;
    idx::read(&path, kind).map(|idx| Loaded { path, idx })
}

/// The IDX file of a part in a set's folder.
pub(crate) fn idx_file(name: DataName, folder: &Path, part: Part, kind: Kind) -> Result<PathBuf, Error> {
    let plain = part.file_name(kind);
    let found = spelling::find(folder, part, kind);
    let looked_for = vec![format!("{plain}.gz"), plain];
    found.ok_or_else(|| Error::MissingFile { folder: folder.to_path_buf(), looked_for, remedy: name.remedy() })
}

fn embedded(name: DataName, part: Part, kind: Kind) -> Result<Loaded, Error> {
    let path = PathBuf::from(format!("mini/{name}/{}.gz", part.file_name(kind)));
    let bytes = mini::file(name, part, kind).ok_or(Error::NotEmbedded { name })?;
    let idx = idx::decode(bytes, &path, kind)?;
    Ok(Loaded { path, idx })
}

fn split(images: Loaded, labels: Loaded) -> Result<Split, Error> {
    let expected = [SIDE, SIDE];
    let (count, found) = match *images.idx.dims.as_slice() {
        [count, height, width] => (count, [height, width]),
        _ => (0, [0, 0]),
    };
    if count == 0 {
        return Err(Error::Empty { path: images.path });
    }
    if found != expected {
        return Err(Error::WrongImageSize { path: images.path, expected, found });
    }
    let labels_found = labels.idx.data.len();
    if labels_found != count {
        return Err(Error::CountMismatch {
            path: labels.path,
            images: images.path,
            expected: count,
            found: labels_found,
        });
    }
    if let Some((index, &found)) = labels.idx.data.iter().enumerate().find(|&(_, &label)| usize::from(label) >= CLASSES)
    {
        return Err(Error::LabelOutOfRange { path: labels.path, expected: CLASSES, found, index });
    }
    Ok(Split { images: images.idx.data, labels: labels.idx.data, shape: [1, SIDE, SIDE] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_lie_one_behind_the_other() {
        let split = Split { images: (0..8).collect(), labels: vec![0, 1], shape: [1, 2, 2] };
        assert_eq!((split.len(), split.image_len(), split.is_empty()), (2, 4, false));
        assert_eq!(split.image(1), Some([4, 5, 6, 7].as_slice()));
        assert_eq!(split.image(2), None);
        assert_eq!(split.image(usize::MAX), None);
    }
}
