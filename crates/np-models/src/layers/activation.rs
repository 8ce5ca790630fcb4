//! ReLU, alone and with dropout.

use candle_core::Tensor;

use crate::kernels::{self, DropoutMask};
use crate::{Error, Mode, Result};

/// max(x, 0), for any shape; NaN stays NaN.
///
/// The gradient at 0 is 0, as in PyTorch; candle's own `relu` has 1 there.
///
/// # Errors
///
/// Those of candle.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Ok(kernels::relu_dropout(x, None)?)
}

/// ReLU, then, in training, dropout.
///
/// ```text
/// y = max(x, 0) · k / (1 − p),   k ~ Bernoulli(1 − p) for each element
/// ```
///
/// Element i in row-major order is dropped where the i-th 16-bit word, little endian, of ChaCha8 is below 2¹⁶ p; the key is seed,
/// layer, step (64 bits each, little endian) and the eight bytes `dropout\0`. So p is rounded to a multiple of 2⁻¹⁶, and the scale
/// is that of the rounded p: the expectation of y is exact. The masks are the same on every device.
///
/// A departure from PyTorch: a dropped NaN becomes 0.
#[derive(Debug, Clone)]
pub struct ReluDropout {
    probability: f64,
    seed: u64,
    layer: u64,
}

impl ReluDropout {
    /// Dropout of `probability`, in [0, 1), with the masks of `layer` under `seed`.
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

    /// Any shape in, the same out.
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
