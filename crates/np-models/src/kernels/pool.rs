//! Global average pooling.

use candle_core::{Result, Tensor};

/// x \[n, channels, h, w\] → \[n, channels\].
pub(crate) fn global_average(x: &Tensor) -> Result<Tensor> {
    x.mean((2, 3))
}
