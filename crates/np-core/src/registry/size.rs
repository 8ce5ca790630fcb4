//! The memory that an optimizer will need, from the shapes of its parameters.

use crate::registry::OptimizerConfig;

/// Numbers in single precision that one in double precision takes the place of.
const DOUBLE: usize = 2;

impl OptimizerConfig {
    /// How many numbers, in single precision or the parameter's if that is higher, the optimizer keeps for a parameter of shape `shape` in a training of `steps`
    /// steps: its state and its permanent scratch memory. Memory that is allocated only during a step is not counted. `None` if the number
    /// overflows a `usize`.
    ///
    /// ```
    /// use np_core::{AdamConfig, OptimizerConfig};
    ///
    /// let adam = OptimizerConfig::Adam(AdamConfig::default());
    /// assert_eq!(adam.numbers_held(&[10, 3], 100), Some(2 * 30), "two moments");
    /// assert_eq!(adam.numbers_held(&[usize::MAX, 3], 100), None);
    /// ```
    #[must_use]
    pub fn numbers_held(&self, shape: &[usize], steps: usize) -> Option<usize> {
        let size = |shape: &[usize]| shape.iter().try_fold(1_usize, |size, n| size.checked_mul(*n));
        let own = size(shape)?;
        // Buffers may have the square of a side, and a side of one more.
        size(&[own, 4])?;
        let buffers = self.rule().buffers(shape);
        let buffers = buffers.iter().map(|buffer| buffer.shape.as_deref().map_or(Some(own), size));
        let sum = buffers.into_iter().try_fold(0_usize, |sum, size| sum.checked_add(size?))?;
        let more = match self {
            // Parameters and gradients as they were, and two vectors a pair of the history, which is no longer than the training.
            Self::Lbfgs(config) => config.history.min(steps).checked_add(1)?.checked_mul(2 * DOUBLE)?,
            _ => self.rule().scratch(),
        };
        sum.checked_add(own.checked_mul(more)?)
    }
}
