//! The two-dimensional convolution.

use candle_core::{DType, Device, Tensor, Var};

use super::{MAX_PARAMETERS, Window};
use crate::kernels::{self, Kernels};
use crate::{Error, Initializer, Result};

/// A convolution without a bias, as PyTorch's `nn.Conv2d(…, bias=False)`: a cross-correlation with a weight W of shape
/// \[outputs, inputs, kernel, kernel\].
///
/// On a CPU in `f32` and `f64` it is one custom operation with its own backward pass. Its output is channels-last in memory: a \[n, c, h, w\]
/// view of numbers in the order n, h, w, c. Elsewhere it is candle's `conv2d`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Var,
    window: Window,
    kernels: Kernels,
}

/// For [`Tensor::apply`] and the like.
impl candle_core::Module for Conv2d {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(Self::forward(self, x)?)
    }
}

impl Conv2d {
    /// A layer with initial values as in torchvision's ResNets: normal, with mean 0 and variance 2 / (`outputs` · kernel²), PyTorch's
    /// `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a size is 0 or the layer has more than [`MAX_PARAMETERS`] parameters; errors of candle.
    pub fn new(
        inputs: usize,
        outputs: usize,
        window: Window,
        init: &mut Initializer,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        window.validate()?;
        for (field, size) in [("inputs", inputs), ("outputs", outputs)] {
            if size == 0 {
                return Err(Error::config(field, "at least 1", size));
            }
        }
        let sizes = [inputs, outputs, window.kernel, window.kernel];
        if sizes.into_iter().try_fold(1usize, usize::checked_mul).is_none_or(|count| count > MAX_PARAMETERS) {
            let expected = format!("a number that makes at most {MAX_PARAMETERS} parameters");
            return Err(Error::config("outputs", expected, outputs));
        }
        let fan_out = (outputs * window.kernel * window.kernel) as f64;
        let shape = (outputs, inputs, window.kernel, window.kernel);
        let weight = init.normal(shape, (2.0 / fan_out).sqrt(), dtype, device)?;
        Ok(Self { weight: Var::from_tensor(&weight)?, window, kernels: Kernels::of(device, dtype) })
    }

    /// Maps `x` of shape \[batch, inputs, height, width\] to \[batch, outputs, height′, width′\], where [`Window::outputs`] gives height′ and width′.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the shape or element type of `x` does not fit; errors of candle.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.check(x)?;
        Ok(kernels::conv2d(x, &self.weight, self.window, self.kernels)?)
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let fits = |size: usize| size > 0 && self.window.outputs(size).is_some();
        match x.dims() {
            &[n, inputs, h, w]
                if n > 0 && inputs == self.inputs() && fits(h) && fits(w) && x.dtype() == self.weight.dtype() =>
            {
                Ok(())
            }
            dims => {
                let Window { kernel, padding, .. } = self.window;
                let least = kernel.saturating_sub(padding.saturating_mul(2)).max(1);
                let (inputs, dtype) = (self.inputs(), self.weight.dtype());
                let expected =
                    format!("[batch, {inputs}, height, width] of {dtype:?}, batch at least 1, sides at least {least}");
                Err(Error::input("a convolution's input", expected, format!("{dims:?} of {:?}", x.dtype())))
            }
        }
    }

    /// Number of input channels.
    pub fn inputs(&self) -> usize {
        self.weight.dims()[1]
    }

    /// Number of output channels.
    pub fn outputs(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Kernel size, stride and padding.
    pub fn window(&self) -> Window {
        self.window
    }

    /// W, \[outputs, inputs, kernel, kernel\].
    pub fn weight(&self) -> &Var {
        &self.weight
    }
}
