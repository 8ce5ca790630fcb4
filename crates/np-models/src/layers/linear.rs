//! The fully connected layer.

use candle_core::{DType, Device, Tensor, Var};

use crate::kernels::{self, Kernels};
use crate::recorder::Tap;
use crate::{Error, Initializer, Recorder, Result};

/// Largest number of trainable scalars of a layer or model: 2³⁰, which is 4 GiB in `f32`. With this limit a mistyped width is an error instead
/// of an aborted process.
pub const MAX_PARAMETERS: usize = 1 << 30;

/// A fully connected layer: y = x Wᵀ + b, with W of shape \[outputs, inputs\] and b of shape \[outputs\].
///
/// On a CPU in `f32` and `f64` it is one custom operation with its own backward pass. That computes no gradient for an input which does not
/// depend on a variable, as candle's does. Elsewhere it is candle's `matmul` and `broadcast_add`.
#[derive(Debug, Clone)]
pub struct Linear {
    weight: Var,
    bias: Var,
    kernels: Kernels,
}

/// For [`Tensor::apply`] and the like.
impl candle_core::Module for Linear {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, x)?)
    }
}

impl Linear {
    /// A layer with PyTorch's default initial values: weight, then bias, uniform in [−1/√`inputs`, 1/√`inputs`).
    ///
    /// In PyTorch the weight's are `kaiming_uniform_(a=√5)`, which is the same: the gain √(2/(1+5)) times √3 is 1.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a size is 0 or the weight has more than [`MAX_PARAMETERS`] elements; errors of candle.
    pub fn new(inputs: usize, outputs: usize, init: &mut Initializer, dtype: DType, device: &Device) -> Result<Self> {
        for (field, size) in [("inputs", inputs), ("outputs", outputs)] {
            if size == 0 {
                return Err(Error::config(field, "at least 1", size));
            }
        }
        if inputs.checked_mul(outputs).is_none_or(|count| count > MAX_PARAMETERS) {
            return Err(Error::config("outputs", format!("at most {}", MAX_PARAMETERS / inputs), outputs));
        }
        let bound = 1.0 / (inputs as f64).sqrt();
        let weight = init.uniform((outputs, inputs), bound, dtype, device)?;
        let bias = init.uniform(outputs, bound, dtype, device)?;
        let kernels = Kernels::of(device, dtype);
        Ok(Self { weight: Var::from_tensor(&weight)?, bias: Var::from_tensor(&bias)?, kernels })
    }

    /// Maps `x` of shape \[batch, inputs\] to \[batch, outputs\].
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the shape or element type of `x` does not fit; errors of candle.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        Ok(kernels::linear(x, &self.weight, &self.bias, None, self.kernels)?)
    }

    /// [`Self::forward`], with the same result. The backward pass stores `x` and the gradient of the result in `recorder`, under the layer name `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Unrecorded`] on other devices than the CPU and in half precision; those of [`Self::forward`].
    pub fn forward_recorded(&self, x: &Tensor, name: &str, recorder: &Recorder) -> Result<Tensor> {
        self.check(x)?;
        if self.kernels != Kernels::Cpu {
            return Err(Error::Unrecorded { what: format!("a linear layer on {:?}, in {:?},", x.device(), x.dtype()) });
        }
        Ok(kernels::linear(x, &self.weight, &self.bias, Some(Tap::new(recorder, name)), self.kernels)?)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        match x.dims() {
            &[_, inputs] if inputs == self.inputs() && x.dtype() == self.weight.dtype() => Ok(()),
            dims => {
                let expected = format!("[batch, {}] of {:?}", self.inputs(), self.weight.dtype());
                Err(Error::input("a linear layer's input", expected, format!("{dims:?} of {:?}", x.dtype())))
            }
        }
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// W, \[outputs, inputs\].
    pub fn weight(&self) -> &Var {
        &self.weight
    }

    /// b, \[outputs\].
    pub fn bias(&self) -> &Var {
        &self.bias
    }
}
