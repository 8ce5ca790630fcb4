//! Batches: slices of an epoch's order, and their normalised pixels and labels.
//!
//! A pixel has only 256 values, so that a normalisation is a table of 256 numbers for each channel. A batch of 128 MNIST images takes
//! 100,352 look-ups and reuses its buffers.

use std::borrow::Cow;
use std::num::NonZeroUsize;

use crate::augment::Augmentation;
use crate::dataset::Split;
use crate::error::Error;
use crate::prepare::{self, Layout};

pub(crate) type Table = [f32; 256];

/// Maps a pixel p of channel c to (p/255 − mean\[c\])/std\[c\], in f32 and in that order, as torchvision's `ToTensor` and
/// `Normalize` do.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalization {
    mean: Cow<'static, [f32]>,
    std: Cow<'static, [f32]>,
    tables: Cow<'static, [Table]>,
}

static HALF_TABLE: [Table; 1] = [table(0.5, 0.5)];

const CIFAR10_MEAN: [f32; 3] = [0.491, 0.482, 0.447];
const CIFAR10_STD: [f32; 3] = [0.247, 0.243, 0.262];
static CIFAR10_TABLES: [Table; 3] = [
    table(CIFAR10_MEAN[0], CIFAR10_STD[0]),
    table(CIFAR10_MEAN[1], CIFAR10_STD[1]),
    table(CIFAR10_MEAN[2], CIFAR10_STD[2]),
];

impl Normalization {
    /// Mean 0.5 and standard deviation 0.5 for every channel, so that pixels run from −1 to 1: the published protocol for
    /// MNIST and Fashion-MNIST.
    pub const HALF: Self =
        Self { mean: Cow::Borrowed(&[0.5]), std: Cow::Borrowed(&[0.5]), tables: Cow::Borrowed(&HALF_TABLE) };

    /// Means (0.491, 0.482, 0.447) and standard deviations (0.247, 0.243, 0.262) of red, green and blue, those of CIFAR-10's
    /// training set: the published protocol.
    pub const CIFAR10: Self = Self {
        mean: Cow::Borrowed(&CIFAR10_MEAN),
        std: Cow::Borrowed(&CIFAR10_STD),
        tables: Cow::Borrowed(&CIFAR10_TABLES),
    };

    /// A normalisation with a mean and a standard deviation for each channel, or with one of each for all channels. Both are in units of the
    /// pixel range (0 to 1).
    ///
    /// # Errors
    /// [`Error::Normalization`] unless there are as many means as deviations, at least one of each, all finite, and every deviation
    /// is above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self, Error> {
        if mean.is_empty() || mean.len() != std.len() {
            let found = format!("{} means, {} deviations", mean.len(), std.len());
            return Err(Error::Normalization { expected: "one mean and one deviation a channel", found });
        }
        if let Some(bad) = mean.iter().find(|mean| !mean.is_finite()) {
            return Err(Error::Normalization { expected: "finite means", found: bad.to_string() });
        }
        if let Some(bad) = std.iter().find(|&&std| !(std.is_finite() && std > 0.0)) {
            return Err(Error::Normalization { expected: "finite deviations above 0", found: bad.to_string() });
        }
        let tables = mean.iter().zip(&std).map(|(&mean, &std)| table(mean, std)).collect();
        Ok(Self { mean: Cow::Owned(mean), std: Cow::Owned(std), tables })
    }

    /// The mean of each channel, in units of the pixel range (0 to 1).
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The standard deviation of each channel, in units of the pixel range (0 to 1).
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// The table of each channel, or the one of all.
    pub(crate) fn tables(&self) -> &[Table] {
        &self.tables
    }

    /// Fills `pixels` with the normalised images at `indices`, `B×C×H×W`, and `labels` with their labels, `B`.
    ///
    /// Both buffers are cleared first and keep their capacity, so that later batches of the same size allocate nothing. An index may
    /// occur more than once.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`]; [`Error::ChannelMismatch`] if the normalisation has neither one channel nor as many as the images. After an
    /// error the contents of both buffers are unspecified.
    pub fn fill(
        &self,
        split: &Split,
        indices: &[u32],
        pixels: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), Error> {
        prepare::fill(self, Layout::Stored, Augmentation::None.views(0, 0), (split, indices), (pixels, labels))
    }
}

const fn table(mean: f32, std: f32) -> Table {
    let mut table = [0.0; 256];
    let mut pixel = 0;
    while pixel < 256 {
        table[pixel] = (pixel as f32 / 255.0 - mean) / std;
        pixel += 1;
    }
    table
}

/// Splits an epoch's order into batches of `batch_size` examples. The last one is smaller if the number of examples is not a multiple.
pub fn batches(order: &[u32], batch_size: NonZeroUsize) -> impl ExactSizeIterator<Item = &[u32]> {
    order.chunks(batch_size.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours() -> Split {
        // two images of three channels and 1×2 pixels
        Split { images: vec![0, 255, 0, 255, 0, 255, 51, 51, 102, 102, 153, 153], labels: vec![4, 9], shape: [3, 1, 2] }
    }

    #[test]
    fn half_maps_the_pixel_range_to_minus_one_and_one() {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        Normalization::HALF.fill(&colours(), &[0], &mut pixels, &mut labels).unwrap();
        assert_eq!(pixels, [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
        assert_eq!(labels, [4]);
        assert_eq!(Normalization::new(vec![0.5], vec![0.5]).unwrap(), Normalization::HALF);
    }

    #[test]
    fn every_channel_has_its_own_table() {
        let normalization = Normalization::new(vec![0.0, 0.4, 1.0], vec![1.0, 0.5, 2.0]).unwrap();
        let (mut pixels, mut labels) = (vec![7.0; 3], vec![1]);
        normalization.fill(&colours(), &[1, 0, 1], &mut pixels, &mut labels).unwrap();
        assert_eq!(labels, [9, 4, 9]);
        let second = [0.2, 0.2, 0.0, 0.0, -0.2, -0.2];
        for (got, want) in pixels.iter().zip(second) {
            assert!((got - want).abs() < 1e-6, "{pixels:?}"); // a few roundings of f32
        }
        assert_eq!(pixels[12..], pixels[..6]);
    }

    #[test]
    fn the_second_batch_allocates_nothing() {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        Normalization::HALF.fill(&colours(), &[0, 1], &mut pixels, &mut labels).unwrap();
        let before = (pixels.as_ptr(), labels.as_ptr());
        Normalization::HALF.fill(&colours(), &[1, 0], &mut pixels, &mut labels).unwrap();
        assert_eq!((pixels.as_ptr(), labels.as_ptr()), before);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        let error = Normalization::HALF.fill(&colours(), &[0, 2], &mut pixels, &mut labels).unwrap_err();
        assert_eq!(error.to_string(), "batch: expected indices below 2, found 2");
        let two = Normalization::new(vec![0.0; 2], vec![1.0; 2]).unwrap();
        let error = two.fill(&colours(), &[0], &mut pixels, &mut labels).unwrap_err();
        assert_eq!(error.to_string(), "normalisation: expected 3 channels, as the images have, found 2");
        for (mean, std) in
            [(vec![], vec![]), (vec![0.0], vec![0.0]), (vec![f32::NAN], vec![1.0]), (vec![0.0; 2], vec![1.0])]
        {
            assert!(matches!(Normalization::new(mean, std), Err(Error::Normalization { .. })));
        }
    }

    #[test]
    fn the_last_batch_is_short() {
        let order = [5, 6, 7, 8, 9];
        let sizes: Vec<usize> = batches(&order, NonZeroUsize::new(2).unwrap()).map(<[u32]>::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert_eq!(batches(&[], NonZeroUsize::MIN).len(), 0);
    }
}
