//! The names of data sets and of their sources, and the facts about each published set.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::batch::Normalization;
use crate::error::Error;

/// The name of a data set, as in experiment files and in the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataName {
    /// Handwritten digits, 28×28 grey (LeCun and Cortes).
    Mnist,
    /// Articles of clothing, 28×28 grey (Xiao, Rasul and Vollgraf, 2017).
    FashionMnist,
    /// Animals and vehicles, 32×32 RGB (Krizhevsky, 2009). It has no embedded set.
    Cifar10,
}

impl DataName {
    /// All data sets, in the order of lists.
    pub const ALL: [Self; 3] = [Self::Mnist, Self::FashionMnist, Self::Cifar10];

    /// The name in experiment files and of the folder: `mnist`, `fashion-mnist` or `cifar10`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar10",
        }
    }

    /// Whether the set has this source. All do, except that CIFAR-10 has no mini set.
    pub fn has(self, source: Source) -> bool {
        !matches!((self, source), (Self::Cifar10, Source::Mini))
    }

    /// Channels, height and width of its images: `[C, H, W]`.
    pub fn shape(self) -> [usize; 3] {
        match self {
            Self::Mnist | Self::FashionMnist => [1, 28, 28],
            Self::Cifar10 => [3, 32, 32],
        }
    }

    /// Numbers of published examples: training, test.
    pub fn examples(self) -> [usize; 2] {
        match self {
            Self::Mnist | Self::FashionMnist => [60_000, 10_000],
            Self::Cifar10 => [50_000, 10_000],
        }
    }

    /// The normalisation of the published protocol: [`Normalization::HALF`] for MNIST and Fashion-MNIST,
    /// [`Normalization::CIFAR10`] for CIFAR-10.
    pub fn normalization(self) -> Normalization {
        match self {
            Self::Mnist | Self::FashionMnist => Normalization::HALF,
            Self::Cifar10 => Normalization::CIFAR10,
        }
    }

    /// A file that the set's folder holds, as an example of the layout.
    pub(crate) fn example_file(self) -> &'static str {
        match self {
            Self::Mnist | Self::FashionMnist => "train-images-idx3-ubyte.gz",
            Self::Cifar10 => "data_batch_1.bin",
        }
    }

    /// How to come by a file that is missing, with what this build has: fetching needs the feature `hub`.
    pub(crate) fn remedy(self) -> &'static str {
        match (self, cfg!(feature = "hub")) {
            (Self::Mnist | Self::FashionMnist, true) => "copy it there, or fetch the set with `np data fetch`",
            (Self::Mnist, false) => {
                "copy it there, or fetch the set with `cargo run --bin np --features neuroplastic-runner/hub -- data fetch mnist --data-dir DIR`"
            }
            (Self::FashionMnist, false) => {
                "copy it there, or fetch the set with `cargo run --bin np --features neuroplastic-runner/hub -- data fetch fashion-mnist --data-dir DIR`"
            }
            (Self::Cifar10, true) => {
                "unpack `cifar-10-binary.tar.gz` there, or fetch the set with `np data fetch`, or make it of the Hub's parquet files with `np data import`"
            }
            (Self::Cifar10, false) => {
                "unpack `cifar-10-binary.tar.gz` there, or fetch the set with `cargo run --bin np --features neuroplastic-runner/hub -- data fetch cifar10 --data-dir DIR`"
            }
        }
    }

    /// The name of the published set (`MNIST`, `Fashion-MNIST`, `CIFAR-10`), with ` (mini)` appended for the embedded one. The title of a loaded set, which may
    /// have other examples, is [`Identity::title`](crate::Identity::title).
    pub fn title(self, source: Source) -> &'static str {
        match (self, source) {
            (Self::Mnist, Source::Full) => "MNIST",
            (Self::Mnist, Source::Mini) => "MNIST (mini)",
            (Self::FashionMnist, Source::Full) => "Fashion-MNIST",
            (Self::FashionMnist, Source::Mini) => "Fashion-MNIST (mini)",
            (Self::Cifar10, _) => "CIFAR-10",
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
            expected: "`mnist`, `fashion-mnist` or `cifar10`",
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
    /// The published files, in a data folder.
    Full,
}

impl Source {
    /// Both sources.
    pub const ALL: [Self; 2] = [Self::Mini, Self::Full];

    /// The name in experiment files: `mini` or `full`.
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
        assert_eq!(error, "data set: expected `mnist`, `fashion-mnist` or `cifar10`, found `cifar`");
    }

    #[test]
    fn a_remedy_names_what_this_build_has() {
        for name in DataName::ALL {
            let remedy = name.remedy();
            assert_eq!(remedy.contains("`np data "), cfg!(feature = "hub"), "{remedy}");
            assert_eq!(
                remedy.contains("--features neuroplastic-runner/hub -- data fetch "),
                cfg!(not(feature = "hub")),
                "{remedy}"
            );
        }
    }
}
