//! Exponential averages, and their bias correction.

use candle_core::Tensor;

use crate::engine::number::Number;

/// a ← β a + (1 − β) x.
#[derive(Debug, Clone, Copy)]
pub struct Average<T> {
    keep: T,
    add: T,
}

impl<T: Number> Average<T> {
    pub(crate) fn new(beta: f64) -> Self {
        Self { keep: T::from_f64(beta), add: T::from_f64(1.0 - beta) }
    }

    /// The average `a` with `x` in it.
    #[inline(always)]
    pub(crate) fn of(self, a: T, x: T) -> T {
        self.keep * a + self.add * x
    }
}

impl Average<f64> {
    /// The same on tensors.
    pub(crate) fn of_tensors(self, a: &Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
        (a * self.keep)? + (x * self.add)?
    }
}

/// 1 − βᵗ: what an average that started from zero is divided by.
pub(crate) fn correction(beta: f64, t: i32) -> f64 {
    1.0 - beta.powi(t)
}
