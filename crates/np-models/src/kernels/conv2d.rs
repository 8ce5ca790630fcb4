//! The convolution.

use candle_core::{Result, Tensor};

use crate::layers::Window;

/// x \[n, inputs, h, w\], `weight` \[outputs, inputs, kernel, kernel\] → \[n, outputs, h′, w′\].
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, window: Window) -> Result<Tensor> {
    x.conv2d(weight, window.padding, window.stride, 1, 1)
}
