//! Pieces that many optimizers share: exponential averages with their bias correction, and ranges of hyper-parameters.

use candle_core::Tensor;

use crate::error::check;
use crate::{Float, Result};

/// a ← β a + (1 − β) x.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Average<T> {
    keep: T,
    add: T,
}

impl<T: Float> Average<T> {
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

/// `Ok` if `x` is finite and ≥ 0.
pub(crate) fn non_negative(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x >= 0.0, key, "a number ≥ 0", x)
}

/// `Ok` if `x` is finite and > 0.
pub(crate) fn positive(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x > 0.0, key, "a number > 0", x)
}

/// `Ok` if `x` lies in [0, 1).
pub(crate) fn fraction(key: &str, x: f64) -> Result<()> {
    check((0.0..1.0).contains(&x), key, "a number in [0, 1)", x)
}
