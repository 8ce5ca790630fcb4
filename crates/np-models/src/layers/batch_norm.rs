//! Batch normalisation over the channels of images.

use candle_core::{DType, Device, Tensor, Var};

use super::MAX_PARAMETERS;
use crate::kernels::{self, Kernels};
use crate::{Error, Mode, Result};

/// The activation after a normalisation, in the same pass over memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(y, 0), with gradient 0 at 0.
    Relu,
}

/// Batch normalisation, as PyTorch's `nn.BatchNorm2d` with its defaults.
///
/// ```text
/// training:    y = γ (x − μ) / √(σ² + ε) + β,   μ and σ² (biased) over batch, height and width
///              running ← 0.9 · running + 0.1 · (μ, σ² · m / (m − 1)),   m = batch · height · width
/// evaluation:  the same with the running mean and variance
/// ```
///
/// ε is 10⁻⁵. γ and β are parameters; the running mean and variance are buffers, which are saved but not trained. In half precision the
/// statistics are computed in `f32`.
///
/// On a CPU in `f32` and `f64` normalisation and activation are one custom operation; elsewhere they are candle's operations.
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    weight: Var,
    bias: Var,
    running_mean: Var,
    running_var: Var,
    kernels: Kernels,
}

impl BatchNorm2d {
    /// Weight of a batch's statistics in the running ones: 0.1 (PyTorch's default).
    pub const MOMENTUM: f64 = 0.1;
    /// ε, added to the variance: 10⁻⁵ (PyTorch's default).
    pub const EPSILON: f64 = 1e-5;

    /// A layer with γ = 1, β = 0, running mean 0 and running variance 1.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `channels` is 0 or exceeds [`MAX_PARAMETERS`]; errors of candle.
    pub fn new(channels: usize, dtype: DType, device: &Device) -> Result<Self> {
        if channels == 0 || channels > MAX_PARAMETERS {
            return Err(Error::config("channels", format!("1 to {MAX_PARAMETERS}"), channels));
        }
        let ones = || Var::ones(channels, dtype, device);
        let zeros = || Var::zeros(channels, dtype, device);
        let kernels = Kernels::of(device, dtype);
        Ok(Self { weight: ones()?, bias: zeros()?, running_mean: zeros()?, running_var: ones()?, kernels })
    }

    /// Normalises `x` of shape \[batch, channels, height, width\]; the result has the same shape. In training it updates the running statistics.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the shape or element type of `x` does not fit or, in training, if a channel has fewer than two
    /// values; errors of candle.
    pub fn forward(&self, x: &Tensor, mode: Mode, activation: Activation) -> Result<Tensor> {
        self.check(x, mode)?;
        let norm = kernels::Norm { weight: &self.weight, bias: &self.bias, activation, kernels: self.kernels };
        match mode {
            Mode::Train { .. } => {
                let (y, statistics) = kernels::batch_norm_train(x, norm, Self::EPSILON)?;
                self.record(&statistics.mean, &statistics.unbiased_var)?;
                Ok(y)
            }
            Mode::Eval => Ok(kernels::batch_norm_eval(x, norm, &self.running_mean, &self.running_var, Self::EPSILON)?),
        }
    }

    fn check(&self, x: &Tensor, mode: Mode) -> Result<()> {
        let least = if mode == Mode::Eval { 1 } else { 2 };
        match x.dims() {
            &[n, channels, h, w]
                if channels == self.channels() && n * h * w >= least && x.dtype() == self.weight.dtype() =>
            {
                Ok(())
            }
            dims => {
                let expected = format!(
                    "[batch, {}, height, width] of {:?} with at least {least} values a channel",
                    self.channels(),
                    self.weight.dtype()
                );
                Err(Error::input("a batch norm's input", expected, format!("{dims:?} of {:?}", x.dtype())))
            }
        }
    }

    /// Moves the running statistics a tenth of the way to those of a batch.
    pub(crate) fn record(&self, mean: &Tensor, unbiased_var: &Tensor) -> Result<()> {
        for (running, new) in [(&self.running_mean, mean), (&self.running_var, unbiased_var)] {
            let new = new.detach().to_dtype(running.dtype())?;
            let old = running.as_tensor().affine(1.0 - Self::MOMENTUM, 0.0)?;
            running.set(&(old + new.affine(Self::MOMENTUM, 0.0)?)?)?;
        }
        Ok(())
    }

    /// The running mean and variance, as tensors.
    pub(crate) fn running(&self) -> [Tensor; 2] {
        [self.running_mean.as_tensor().clone(), self.running_var.as_tensor().clone()]
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.weight.dims()[0]
    }

    /// γ, \[channels\].
    pub fn weight(&self) -> &Var {
        &self.weight
    }

    /// β, \[channels\].
    pub fn bias(&self) -> &Var {
        &self.bias
    }

    /// The running mean, \[channels\].
    pub fn running_mean(&self) -> &Var {
        &self.running_mean
    }

    /// The running mean of the unbiased variances, \[channels\].
    pub fn running_var(&self) -> &Var {
        &self.running_var
    }
}
