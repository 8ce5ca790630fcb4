//! Clipping as a function of an element of the gradient, applied wherever gradients are read.

use candle_core::Tensor;
use np_trace::{Float, Number, tensor_ops};

/// g ← clip(scale · g, ±limit), applied wherever a gradient is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GradientMap {
    /// Factor on the gradient.
    pub scale: f64,
    /// Bound of its size after that.
    pub limit: f64,
    /// What the device is to bring the norm of all gradients down to, where that is left to the step: `scale` is 1 then.
    pub norm: Option<f64>,
}

impl GradientMap {
    /// g ← g.
    pub const IDENTITY: Self = Self { scale: 1.0, limit: f64::INFINITY, norm: None };

    /// On one number.
    #[inline(always)]
    pub(crate) fn of<T: Number>(self, g: T) -> T {
        let (scale, limit) = (T::from_f64(self.scale), T::from_f64(self.limit));
        (scale * g).clip(-limit, limit)
    }

    /// On a block that is computed with.
    #[inline(always)]
    pub(crate) fn apply<T: Float>(self, block: &mut [T]) {
        if self == Self::IDENTITY {
            return;
        }
        for x in block {
            *x = self.of(*x);
        }
    }

    /// On a tensor.
    pub(crate) fn apply_tensor(self, g: Tensor) -> candle_core::Result<Tensor> {
        let g = if self.scale == 1.0 { g } else { (g * self.scale)? };
        tensor_ops::clip(&g, -self.limit, self.limit)
    }
}
