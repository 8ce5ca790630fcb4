//! Augmentation: random crops and mirroring of training images.
//!
//! A view depends only on seed, epoch and the image's index in its split: each image has a ChaCha8 block of its own in the epoch's
//! stream. So it is the same for every batch size and number of threads, and in a resumed run.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::sample::{Purpose, below, stream};

/// The augmentation of training images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augmentation {
    /// None. The default.
    #[default]
    None,
    /// A random crop of the image's size after padding it with 4 black pixels on every side, then mirrored left to right with probability ½,
    /// as is usual for CIFAR-10. Black is pixel value 0 before normalisation, as in torchvision's `RandomCrop(32, padding=4)`.
    CropFlip,
}

/// The crop of an image, and whether it is mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Rows from the image's top edge down to the window's; negative if the window's is above.
    pub down: i32,
    /// Columns from the image's left edge to the window's; negative if the window's is to the left.
    pub right: i32,
    /// Whether the window is then mirrored left to right.
    pub mirrored: bool,
}

/// The views of all images in one epoch.
#[derive(Clone, Debug)]
pub struct Views {
    augmentation: Augmentation,
    rng: ChaCha8Rng,
}

/// Pixels of black around an image.
const PADDING: i32 = 4;

/// Words of a ChaCha block, more than a view ever draws.
const BLOCK: u128 = 16;

impl Augmentation {
    /// The views of an epoch of the run with this seed.
    pub fn views(self, seed: u64, epoch: u32) -> Views {
        Views { augmentation: self, rng: stream(seed, Purpose::Augmentation, epoch) }
    }
}

impl Views {
    /// The view of the image at `index`. It does not depend on earlier calls.
    pub fn of(&mut self, index: u32) -> View {
        match self.augmentation {
            Augmentation::None => View::default(),
            Augmentation::CropFlip => {
                self.rng.set_word_pos(BLOCK * u128::from(index));
                let mut offset = || below(&mut self.rng, 2 * PADDING as u32 + 1) as i32 - PADDING;
                let (down, right) = (offset(), offset());
                View { down, right, mirrored: self.rng.next_u32() >> 31 == 1 }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values come from `tests/golden_orders.py`: a change of them changes every run with augmentation.
    #[test]
    fn golden_views() {
        let mut views = Augmentation::CropFlip.views(41, 2);
        let drawn = [0, 1, 2, 49_999].map(|index| views.of(index)).map(|view| (view.down, view.right, view.mirrored));
        assert_eq!(drawn, [(-3, 1, false), (-3, -3, false), (3, 4, true), (2, -1, true)]);
    }

    #[test]
    fn offsets_are_uniform_and_half_the_images_are_mirrored() {
        const IMAGES: u32 = 81_000;
        let mut windows = [[0u32; 9]; 9];
        let mut mirrored = 0;
        let mut views = Augmentation::CropFlip.views(41, 3);
        for index in 0..IMAGES {
            let view = views.of(index);
            windows[(view.down + 4) as usize][(view.right + 4) as usize] += 1;
            mirrored += u32::from(view.mirrored);
        }
        // 81 windows of 1,000 expected: χ² with 80 degrees of freedom stays below 124.8 with probability 0.999; fixed seed
        let chi2: f64 = windows.iter().flatten().map(|&n| (f64::from(n) - 1_000.0).powi(2) / 1_000.0).sum();
        assert!(chi2 < 124.8, "{chi2}: {windows:?}");
        // one standard deviation is 142
        assert!((f64::from(mirrored) - 40_500.0).abs() < 3.0 * 142.0, "{mirrored}");
    }

    #[test]
    fn a_view_depends_on_seed_epoch_and_image_alone() {
        let all = |seed, epoch| {
            let mut views = Augmentation::CropFlip.views(seed, epoch);
            (0..64).map(|index| views.of(index)).collect::<Vec<View>>()
        };
        let reference = all(41, 0);
        let mut views = Augmentation::CropFlip.views(41, 0);
        for index in (0..64).rev() {
            assert_eq!(views.of(index), reference[index as usize], "asked in another order");
        }
        for other in [all(42, 0), all(41, 1)] {
            let same = reference.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 8, "{same} of 64 alike, 0.4 expected");
        }
        assert_eq!(Augmentation::None.views(41, 0).of(7), View::default());
    }
}
