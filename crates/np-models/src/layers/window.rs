//! How a convolution's kernel moves over an image.

use crate::{Error, Result};

/// A square kernel, its step and the border of zeros, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Height and width of the kernel, in pixels of at least 1.
    pub kernel: usize,
    /// Pixels from one output to the next, at least 1.
    pub stride: usize,
    /// Zeros on each side of the image; 0 or more.
    pub padding: usize,
}

impl Window {
    /// A 3 × 3 kernel that keeps the size of the image at stride 1 and halves it at stride 2.
    pub fn three(stride: usize) -> Self {
        Self { kernel: 3, stride, padding: 1 }
    }

    /// A 1 × 1 kernel without a border.
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

    /// Outputs along a side of `size` pixels; `None` where the kernel does not fit.
    pub fn outputs(&self, size: usize) -> Option<usize> {
        let padded = size.checked_add(self.padding.checked_mul(2)?)?;
        Some(padded.checked_sub(self.kernel)? / self.stride + 1)
    }
}
