//! Named data sets: where their files are, what must hold of them, and how they lie in memory.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{digest, known_digest};
use crate::error::Error;
use crate::idx::{self, Idx, Kind};
use crate::mini;

/// The environment variable that names the data folder. This crate doesn't read it: whoever reads the command line does.
pub const DATA_DIR_ENV: &str = "NP_DATA_DIR";

const SIDE: usize = 28;
const CLASSES: usize = 10;

/// A data set, by the name it has in a spec and in the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataName {
    /// Handwritten digits, 28×28 grey (LeCun and Cortes).
    Mnist,
    /// Articles of clothing, 28×28 grey (Xiao, Rasul and Vollgraf, 2017).
    FashionMnist,
}

impl DataName {
    /// Every data set, in the order in which a list shows them.
    pub const ALL: [Self; 2] = [Self::Mnist, Self::FashionMnist];

    /// The name as written in a spec and as a folder: `mnist` or `fashion-mnist`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        }
    }

    /// The name that a figure shows: `MNIST`, `Fashion-MNIST`; with ` (mini)` appended for the embedded set.
    pub fn title(self, source: Source) -> &'static str {
        match (self, source) {
            (Self::Mnist, Source::Full) => "MNIST",
            (Self::Mnist, Source::Mini) => "MNIST (mini)",
            (Self::FashionMnist, Source::Full) => "Fashion-MNIST",
            (Self::FashionMnist, Source::Mini) => "Fashion-MNIST (mini)",
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for DataName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| Error::UnknownName {
            key: "data set",
            expected: "`mnist` or `fashion-mnist`",
            found: text.to_owned(),
        })
    }
}

/// Where the examples come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The 2,000 + 1,000 real images embedded in this crate.
    Mini,
    /// The IDX files of a data folder.
    Full,
}

impl Source {
    /// Both sources.
    pub const ALL: [Self; 2] = [Self::Mini, Self::Full];

    /// The name as written in a spec: `mini` or `full`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mini => "mini",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|source| source.as_str() == text).ok_or_else(|| Error::UnknownName {
            key: "data source",
            expected: "`mini` or `full`",
            found: text.to_owned(),
        })
    }
}

/// One of the two halves of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Test,
}

impl Part {
    fn file_name(self, kind: Kind) -> String {
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
    /// One class an example, `N`.
    pub labels: Vec<u8>,
    /// Channels, height and width of one image, in pixels: `[C, H, W]`.
    pub shape: [usize; 3],
}

impl Split {
    /// The number of examples, N.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no example at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of values in one image: C·H·W.
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

/// A data set in memory, checked: every image has its label, and every label names a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    /// Which data set.
    pub name: DataName,
    /// Where it was read from.
    pub source: Source,
    /// The name that a figure shows, for example `Fashion-MNIST (mini)`.
    pub title: String,
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
    /// [`Source::Mini`] is embedded and ignores `data_dir`. [`Source::Full`] reads
    /// `DIR/{mnist,fashion-mnist}/{train,t10k}-{images-idx3,labels-idx1}-ubyte`, with or without `.gz`, plain or gzip. It
    /// doesn't ask for all 60,000 + 10,000 examples, so that a folder may hold fewer: [`is_official`](Self::is_official) tells.
    ///
    /// # Errors
    /// [`Error::NoFolder`], [`Error::MissingFolder`] and [`Error::MissingFile`] if there is nothing to read; those of
    /// [`idx::read`]; [`Error::Empty`], [`Error::WrongImageSize`], [`Error::CountMismatch`] and [`Error::LabelOutOfRange`] if
    /// the contents are not what the name promises.
    pub fn load(name: DataName, source: Source, data_dir: Option<&Path>) -> Result<Self, Error> {
        let folder = match source {
            Source::Mini => None,
            Source::Full => Some(folder(name, data_dir)?),
        };
        let read = |part, kind| match &folder {
            None => embedded(name, part, kind),
            Some(folder) => on_disk(folder, part, kind),
        };
        let train = split(read(Part::Train, Kind::Images)?, read(Part::Train, Kind::Labels)?)?;
        let test = split(read(Part::Test, Kind::Images)?, read(Part::Test, Kind::Labels)?)?;
        let digest = digest(&train, &test);
        Ok(Self { name, source, title: name.title(source).to_owned(), train, test, classes: CLASSES, digest })
    }

    /// The digest alone, for those who plan: at once for the mini sets; the full ones are loaded, checked and dropped.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn digest_of(name: DataName, source: Source, data_dir: Option<&Path>) -> Result<String, Error> {
        match source {
            Source::Mini => Ok(known_digest(name, source).to_owned()),
            Source::Full => Self::load(name, source, data_dir).map(|set| set.digest),
        }
    }

    /// Whether these are exactly the published examples (or the embedded ones), in their order.
    pub fn is_official(&self) -> bool {
        self.digest == known_digest(self.name, self.source)
    }
}

/// One file with the name that errors give it.
struct Loaded {
    path: PathBuf,
    idx: Idx,
}

fn folder(name: DataName, data_dir: Option<&Path>) -> Result<PathBuf, Error> {
    let root = data_dir.ok_or(Error::NoFolder { name })?;
    let folder = root.join(name.as_str());
    for path in [root, &folder] {
        if !path.is_dir() {
            let found = if path.exists() { "a file" } else { "nothing" };
            return Err(Error::MissingFolder { path: path.to_path_buf(), found });
        }
    }
    Ok(folder)
}

fn on_disk(folder: &Path, part: Part, kind: Kind) -> Result<Loaded, Error> {
    let plain = part.file_name(kind);
    let looked_for = vec![format!("{plain}.gz"), plain];
    match looked_for.iter().map(|file| folder.join(file)).find(|path| path.exists()) {
        Some(path) => idx::read(&path, kind).map(|idx| Loaded { path, idx }),
        None => Err(Error::MissingFile { folder: folder.to_path_buf(), looked_for }),
    }
}

fn embedded(name: DataName, part: Part, kind: Kind) -> Result<Loaded, Error> {
    let path = PathBuf::from(format!("mini/{name}/{}.gz", part.file_name(kind)));
    let idx = idx::decode(mini::file(name, part, kind), &path, kind)?;
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
    fn names_read_back_as_written() {
        for name in DataName::ALL {
            assert_eq!(name.to_string().parse::<DataName>().unwrap(), name);
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{name}\""));
        }
        for source in Source::ALL {
            assert_eq!(source.to_string().parse::<Source>().unwrap(), source);
            assert_eq!(serde_json::to_string(&source).unwrap(), format!("\"{source}\""));
        }
        let error = "cifar".parse::<DataName>().unwrap_err().to_string();
        assert_eq!(error, "data set: expected `mnist` or `fashion-mnist`, found `cifar`");
    }

    #[test]
    fn images_lie_one_behind_the_other() {
        let split = Split { images: (0..8).collect(), labels: vec![0, 1], shape: [1, 2, 2] };
        assert_eq!((split.len(), split.image_len(), split.is_empty()), (2, 4, false));
        assert_eq!(split.image(1), Some([4, 5, 6, 7].as_slice()));
        assert_eq!(split.image(2), None);
        assert_eq!(split.image(usize::MAX), None);
    }
}
