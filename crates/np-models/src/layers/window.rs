//! Kernel size, stride and padding of a convolution.

use crate::{Error, Result};

/// Kernel size, stride and padding of a convolution, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the kernel in pixels, at least 1.
    pub kernel: usize,
    /// Distance between outputs in pixels, at least 1.
    pub stride: usize,
    /// Pixels of zeros added on each side of the image.
    pub padding: usize,
}

impl Window {
    /// A 3 × 3 kernel with a padding of 1: keeps the size of the image with stride 1, and halves it with stride 2.
    pub fn three(stride: usize) -> Self {
        Self { kernel: 3, stride, padding: 1 }
    }

    /// A 1 × 1 kernel without padding.
    pub fn one(stride: usize) -> Self {
        Self { kernel: 1, stride, padding: 0 }
    }

    /// Checks every field.
    pub(crate) fn validate(&self) -> Result<()> {
        for (field, size) in [("kernel", self.kernel), ("stride", self.stride)] {
            if size == 0 {
                return Err(Error::config(field, "at least 1", size));
            }
        }
        Ok(())
    }

    /// Number of outputs along a side of `size` pixels; `None` if the kernel is larger than the padded side.
    pub fn outputs(&self, size: usize) -> Option<usize> {
        let padded = size.checked_add(self.padding.checked_mul(2)?)?;
        Some(padded.checked_sub(self.kernel)? / self.stride + 1)
    }
}
