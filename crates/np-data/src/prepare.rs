//! From stored bytes to the input of a model: layout, augmentation and normalisation in one pass over the pixels.
//!
//! Each output pixel is a look-up of one stored byte, or black where the window extends beyond the image. So padded, shifted and mirrored
//! images cost no more than others and need no copy.

use std::iter::repeat_n;

use serde::{Deserialize, Serialize};

use crate::augment::{Augmentation, View, Views};
use crate::batch::{Normalization, Table};
use crate::dataset::Split;
use crate::error::Error;

/// The shape that images have as input of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The stored shape. The default.
    #[default]
    Stored,
    /// 3×32×32, so that a model made for CIFAR-10 can train on MNIST and Fashion-MNIST. Smaller images are padded with black on all sides, with
    /// one more row below and column on the right if the difference is odd. A grey plane is repeated three times.
    Rgb32,
}

impl Layout {
    /// Channels, height and width in this layout of images that are stored as `shape`: `[C, H, W]`.
    ///
    /// # Errors
    /// [`Error::Layout`] for [`Layout::Rgb32`] unless the images have 1 or 3 channels and between 1×1 and 32×32 pixels.
    pub fn shape(self, shape: [usize; 3]) -> Result<[usize; 3], Error> {
        match (self, shape) {
            (Self::Stored, _) => Ok(shape),
            (Self::Rgb32, [1 | 3, 1..=32, 1..=32]) => Ok([3, 32, 32]),
            (Self::Rgb32, _) => Err(Error::Layout { found: shape }),
        }
    }
}

/// The purpose that images are prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Evaluation, without augmentation.
    Evaluate,
    /// An epoch of training, with augmentation.
    Train {
        /// The run's seed.
        seed: u64,
        /// The epoch, from 0.
        epoch: u32,
    },
}

/// How stored images become batches.
#[derive(Clone, Debug, PartialEq)]
pub struct Preparation {
    /// Maps bytes to numbers. It has one channel, or as many as images in `layout`.
    pub normalization: Normalization,
    /// The shape of prepared images.
    pub layout: Layout,
    /// Augmentation of training images. Pixels outside of an image are 0 (black) before normalisation.
    pub augmentation: Augmentation,
}

impl From<Normalization> for Preparation {
    /// A preparation in the stored layout, without augmentation.
    fn from(normalization: Normalization) -> Self {
        Self { normalization, layout: Layout::Stored, augmentation: Augmentation::None }
    }
}

impl Preparation {
    /// Fills `pixels` with the prepared images at `indices`, `B×C×H×W`, and `labels` with their labels, `B`.
    ///
    /// Both buffers are cleared first and keep their capacity, so that later batches of the same size allocate nothing. `indices` are indices into `split`;
    /// an index may occur more than once. An image's augmentation depends on its index.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`]; [`Error::Layout`]; [`Error::ChannelMismatch`] if the normalisation has neither one channel nor as many as
    /// images in the layout. After an error the contents of both buffers are unspecified.
    pub fn fill(
        &self,
        split: &Split,
        indices: &[u32],
        pass: Pass,
        pixels: &mut Vec<f32>,
        labels: &mut Vec<u32>,
    ) -> Result<(), Error> {
        fill(&self.normalization, self.layout, self.views(pass), (split, indices), (pixels, labels))
    }

    /// How the images of a pass are looked at.
    pub(crate) fn views(&self, pass: Pass) -> Views {
        match pass {
            Pass::Evaluate => Augmentation::None.views(0, 0),
            Pass::Train { seed, epoch } => self.augmentation.views(seed, epoch),
        }
    }
}

/// What [`Preparation::fill`] does, from its parts.
pub(crate) fn fill(
    normalization: &Normalization,
    layout: Layout,
    mut views: Views,
    (split, indices): (&Split, &[u32]),
    (pixels, labels): (&mut Vec<f32>, &mut Vec<u32>),
) -> Result<(), Error> {
    let [stored, height, width] = split.shape;
    let [channels, rows, columns] = layout.shape(split.shape)?;
    let tables = normalization.tables();
    if tables.len() != 1 && tables.len() != channels {
        return Err(Error::ChannelMismatch { expected: channels, found: tables.len() });
    }
    pixels.clear();
    labels.clear();
    pixels.reserve(indices.len() * channels * rows * columns);
    labels.reserve(indices.len());

    let centred = |outer: usize, inner: usize| -((outer - inner) as i32 / 2);
    let (top, left) = (centred(rows, height), centred(columns, width));
    let plane_len = (height * width).max(1);
    for &index in indices {
        let at = index as usize;
        let (Some(image), Some(&label)) = (split.image(at), split.labels.get(at)) else {
            return Err(Error::IndexOutOfRange { expected: split.len(), found: index });
        };
        let View { down, right, mirrored } = views.of(index);
        let window = Window { down: top + down, right: left + right, mirrored, rows, columns };
        let planes = image.chunks_exact(plane_len).cycle().take(channels.max(stored));
        for (plane, table) in planes.zip(tables.iter().cycle()) {
            window.append(plane, [height, width], table, pixels);
        }
        labels.push(u32::from(label));
    }
    Ok(())
}

/// A window on a plane, in whole pixels.
struct Window {
    down: i32,
    right: i32,
    mirrored: bool,
    rows: usize,
    columns: usize,
}

impl Window {
    /// Appends what the window shows of `plane`, row by row, through `table`.
    fn append(&self, plane: &[u8], [height, width]: [usize; 2], table: &Table, pixels: &mut Vec<f32>) {
        let Self { down, right, mirrored, rows, columns } = *self;
        let look = |&pixel: &u8| table[usize::from(pixel)];
        if (down, right, mirrored) == (0, 0, false) && (rows, columns) == (height, width) {
            pixels.extend(plane.iter().map(look));
            return;
        }
        let black = table[0];
        // columns of black on the left, then those of the image, then black again
        let before = usize::try_from(-right).unwrap_or(0).min(columns);
        let from = usize::try_from(right).unwrap_or(0).min(width);
        let shown = (width - from).min(columns - before);
        let after = columns - before - shown;
        for row in 0..rows {
            let row = usize::try_from(row as i64 + i64::from(down)).ok().filter(|&row| row < height);
            let Some(row) = row else {
                pixels.extend(repeat_n(black, columns));
                continue;
            };
            let row = &plane[row * width + from..][..shown];
            if mirrored {
                pixels.extend(repeat_n(black, after).chain(row.iter().rev().map(look)));
                pixels.extend(repeat_n(black, before));
            } else {
                pixels.extend(repeat_n(black, before).chain(row.iter().map(look)));
                pixels.extend(repeat_n(black, after));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Through this normalisation a pixel is its byte over 255.
    fn plain() -> Normalization {
        Normalization::new(vec![0.0], vec![1.0]).unwrap()
    }

    fn shown(window: Window) -> Vec<u8> {
        // a plane of 2×3 pixels
        let mut pixels = Vec::new();
        window.append(&[1, 2, 3, 4, 5, 6], [2, 3], &plain().tables()[0], &mut pixels);
        pixels.into_iter().map(|pixel| (pixel * 255.0).round() as u8).collect()
    }

    #[test]
    fn windows_shift_mirror_and_pad() {
        let window = |down, right, mirrored| Window { down, right, mirrored, rows: 2, columns: 3 };
        assert_eq!(shown(window(0, 0, false)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(shown(window(0, 0, true)), [3, 2, 1, 6, 5, 4]);
        assert_eq!(shown(window(1, 0, false)), [4, 5, 6, 0, 0, 0]);
        assert_eq!(shown(window(-1, 1, false)), [0, 0, 0, 2, 3, 0]);
        assert_eq!(shown(window(-1, 1, true)), [0, 0, 0, 0, 3, 2], "cropped, then mirrored");
        assert_eq!(shown(window(0, -2, false)), [0, 0, 1, 0, 0, 4]);
        assert_eq!(shown(window(0, -2, true)), [1, 0, 0, 4, 0, 0]);
        for far in [-9, 9] {
            assert_eq!(shown(window(far, 0, false)), [0; 6]);
            assert_eq!(shown(window(0, far, true)), [0; 6]);
        }
        let wide = Window { down: -1, right: -1, mirrored: false, rows: 4, columns: 5 };
        assert_eq!(shown(wide), [0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 4, 5, 6, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn grey_images_become_rgb_with_black_around() {
        let split =
            Split { images: (0..28 * 28).map(|i| (i % 251) as u8).collect(), labels: vec![7], shape: [1, 28, 28] };
        let preparation = Preparation { layout: Layout::Rgb32, ..plain().into() };
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        preparation.fill(&split, &[0], Pass::Evaluate, &mut pixels, &mut labels).unwrap();
        assert_eq!(pixels.len(), 3 * 32 * 32);
        for plane in pixels.chunks_exact(32 * 32) {
            for (at, &pixel) in plane.iter().enumerate() {
                let (y, x) = (at / 32, at % 32);
                let inside = (2..30).contains(&y) && (2..30).contains(&x);
                let want = if inside { split.images[(y - 2) * 28 + x - 2] } else { 0 };
                assert_eq!((pixel * 255.0).round() as u8, want, "{y}, {x}");
            }
        }
        let five = Split { images: vec![0; 5], labels: vec![0], shape: [5, 1, 1] };
        let error = preparation.fill(&five, &[0], Pass::Evaluate, &mut pixels, &mut labels).unwrap_err().to_string();
        assert!(error.starts_with("layout: expected images of 1 or 3 channels") && error.ends_with("found 5×1×1"));
    }

    #[test]
    fn black_is_zero_before_normalisation() {
        let split = Split { images: vec![255; 3 * 32 * 32], labels: vec![1], shape: [3, 32, 32] };
        let preparation = Preparation { augmentation: Augmentation::CropFlip, ..Normalization::CIFAR10.into() };
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        // the image of this seed and epoch that is moved farthest down and right
        let (seed, epoch) = (
            1,
            (0..)
                .find(|&epoch| {
                    let view = Augmentation::CropFlip.views(1, epoch).of(0);
                    (view.down, view.right, view.mirrored) == (-4, -4, false)
                })
                .unwrap(),
        );
        preparation.fill(&split, &[0], Pass::Train { seed, epoch }, &mut pixels, &mut labels).unwrap();
        for (plane, (mean, std)) in pixels.chunks_exact(1024).zip([(0.491, 0.247), (0.482, 0.243), (0.447, 0.262)]) {
            let (black, white): (f32, f32) = ((0.0 - mean) / std, (1.0 - mean) / std);
            for (at, &pixel) in plane.iter().enumerate() {
                let inside = at / 32 >= 4 && at % 32 >= 4;
                assert_eq!(pixel, if inside { white } else { black });
            }
        }
        preparation.fill(&split, &[0], Pass::Evaluate, &mut pixels, &mut labels).unwrap();
        assert!(pixels.iter().all(|&pixel| pixel > 1.9), "evaluation sees the image as it is");
    }
}
