//! The embedded data: 2,000 training and 1,000 test images of each set, drawn by `examples/make_mini.rs`.

use crate::dataset::Part;
use crate::idx::Kind;
use crate::name::DataName;

macro_rules! embedded {
    ($folder:literal, $file:literal) => {
        include_bytes!(concat!("../mini/", $folder, "/", $file, "-ubyte.gz"))
    };
}

/// One embedded file, gzip IDX; `None` for a set that is not embedded.
pub(crate) fn file(name: DataName, part: Part, kind: Kind) -> Option<&'static [u8]> {
    Some(match (name, part, kind) {
        (DataName::Mnist, Part::Train, Kind::Images) => embedded!("mnist", "train-images-idx3"),
        (DataName::Mnist, Part::Train, Kind::Labels) => embedded!("mnist", "train-labels-idx1"),
        (DataName::Mnist, Part::Test, Kind::Images) => embedded!("mnist", "t10k-images-idx3"),
        (DataName::Mnist, Part::Test, Kind::Labels) => embedded!("mnist", "t10k-labels-idx1"),
        (DataName::FashionMnist, Part::Train, Kind::Images) => embedded!("fashion-mnist", "train-images-idx3"),
        (DataName::FashionMnist, Part::Train, Kind::Labels) => embedded!("fashion-mnist", "train-labels-idx1"),
        (DataName::FashionMnist, Part::Test, Kind::Images) => embedded!("fashion-mnist", "t10k-images-idx3"),
        (DataName::FashionMnist, Part::Test, Kind::Labels) => embedded!("fashion-mnist", "t10k-labels-idx1"),
        (DataName::Cifar10, ..) => return None,
    })
}
