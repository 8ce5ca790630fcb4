//! Global average pooling: the mean of each channel over the pixels of an image.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};

use super::{Real, dispatch, runs_here, slice, with_slice};

/// x \[n, channels, h, w\] → \[n, channels\].
pub(crate) fn global_average(x: &Tensor) -> Result<Tensor> {
    if runs_here(x) { x.permute((0, 2, 3, 1))?.contiguous()?.apply_op1(AverageOp) } else { x.mean((2, 3)) }
}

/// The mean over the rows of each image of `pixels` × `channels`, summed in order.
pub(super) fn forward<T: Real>(x: &[T], pixels: usize, channels: usize, y: &mut [T]) {
    let share = T::from_f64(1.0 / pixels as f64);
    for (x, y) in x.chunks_exact(pixels * channels).zip(y.chunks_exact_mut(channels)) {
        y.fill(T::ZERO);
        for x in x.chunks_exact(channels) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y += x;
            }
        }
        for y in y {
            *y *= share;
        }
    }
}

/// Every pixel's share of dy.
pub(super) fn backward<T: Real>(dy: &[T], pixels: usize, channels: usize, dx: &mut [T]) {
    let share = T::from_f64(1.0 / pixels as f64);
    for (dx, dy) in dx.chunks_exact_mut(pixels * channels).zip(dy.chunks_exact(channels)) {
        for dx in dx.chunks_exact_mut(channels) {
            for (dx, &dy) in dx.iter_mut().zip(dy) {
                *dx = dy * share;
            }
        }
    }
}

/// Over channels-last images.
struct AverageOp;

impl AverageOp {
    fn sizes(dims: &[usize]) -> Result<(usize, usize, usize)> {
        match dims {
            &[n, h, w, channels] if h * w * channels > 0 => Ok((n, h * w, channels)),
            _ => bail!("an average over the pixels of {dims:?}"),
        }
    }
}

impl CustomOp1 for AverageOp {
    fn name(&self) -> &'static str {
        "global-average"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (n, pixels, channels) = Self::sizes(layout.dims())?;
        let y = dispatch!(self.name(), x.dtype(), T => {
            let mut y = vec![T::ZERO; n * channels];
            forward(slice::<T>(x, layout)?, pixels, channels, &mut y);
            T::to_cpu_storage_owned(y)
        });
        Ok((y, Shape::from((n, channels))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (_, pixels, channels) = Self::sizes(x.dims())?;
        let dx = dispatch!(self.name(), dy.dtype(), T => with_slice::<T, _>(&dy.contiguous()?, |dy| {
            let mut dx = vec![T::ZERO; x.elem_count()];
            backward(dy, pixels, channels, &mut dx);
            Tensor::from_vec(dx, x.shape(), x.device())
        })?);
        Ok(Some(dx))
    }
}
