//! ReLU, alone and with dropout.

use candle_core::Tensor;

use crate::kernels::{self, DropoutMask};
use crate::{Error, Mode, Result};

/// max(x, 0), for any shape; NaN stays NaN.
///
/// The gradient at 0 is 0, as in PyTorch; that of candle's `relu` is 1.
///
/// # Errors
///
/// Those of candle.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(kernels::relu_dropout(x, None)?)
}

/// ReLU, followed by dropout in training.
///
/// ```text
/// y = max(x, 0) · k / (1 − p),   k ~ Bernoulli(1 − p) for each element
/// ```
///
/// Element i in row-major order is dropped if the i-th 16-bit word (little endian) of ChaCha8 is below 2¹⁶ p. The key is seed,
/// layer and step (64 bits each, little endian) and the eight bytes `dropout\0`. So p is rounded to a multiple of 2⁻¹⁶; the scale
/// uses the rounded p, so that the expectation of y is exact. The masks are the same on every device.
///
/// Departure from PyTorch: a dropped NaN becomes 0.
#[derive(Debug, Clone)]
pub struct ReluDropout {
    probability: f64,
    seed: u64,
    layer: u64,
}

impl ReluDropout {
    /// A layer with dropout probability `probability` in [0, 1). `seed` and `layer` determine its masks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `probability` is out of range.
    pub fn new(probability: f64, seed: u64, layer: u64) -> Result<Self> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::config("dropout", "at least 0 and below 1", probability));
        }
        Ok(Self { probability, seed, layer })
    }

    /// Applies it to a tensor of any shape; the result has the same shape.
    ///
    /// # Errors
    ///
    /// Those of candle.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mask = match mode {
            Mode::Train { step } => DropoutMask::new(self.probability, self.seed, self.layer, step),
            Mode::Eval => None,
        };
        Ok(kernels::relu_dropout(x, mask)?)
    }
}
