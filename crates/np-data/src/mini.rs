//! The embedded data: 2,000 training and 1,000 test images of each set, drawn by `examples/make_mini.rs`.

use crate::dataset::{DataName, Part};
use crate::idx::Kind;

macro_rules! embedded {
    ($folder:literal, $file:literal) => {
        include_bytes!(concat!("../mini/", $folder, "/", $file, "-ubyte.gz"))
    };
}

/// One embedded file, gzip IDX.
pub(crate) fn file(name: DataName, part: Part, kind: Kind) -> &'static [u8] {
    match (name, part, kind) {
        (DataName::Mnist, Part::Train, Kind::Images) => embedded!("mnist", "train-images-idx3"),
        (DataName::Mnist, Part::Train, Kind::Labels) => embedded!("mnist", "train-labels-idx1"),
        (DataName::Mnist, Part::Test, Kind::Images) => embedded!("mnist", "t10k-images-idx3"),
        (DataName::Mnist, Part::Test, Kind::Labels) => embedded!("mnist", "t10k-labels-idx1"),
        (DataName::FashionMnist, Part::Train, Kind::Images) => embedded!("fashion-mnist", "train-images-idx3"),
        (DataName::FashionMnist, Part::Train, Kind::Labels) => embedded!("fashion-mnist", "train-labels-idx1"),
        (DataName::FashionMnist, Part::Test, Kind::Images) => embedded!("fashion-mnist", "t10k-images-idx3"),
        (DataName::FashionMnist, Part::Test, Kind::Labels) => embedded!("fashion-mnist", "t10k-labels-idx1"),
    }
}
