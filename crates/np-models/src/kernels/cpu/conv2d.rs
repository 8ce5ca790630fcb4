//! The convolution over channels-last images: the choice of an algorithm, the custom operation, and candle's own for the rest.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

use super::batch_norm_rows::{BatchMoments, merge_moments, part_moments};
use super::gemm::Destination;
use super::scratch::Buffer;
use super::{Kernels, Real, dispatch, im2col, slice, winograd, with_slice};
use crate::layers::Window;

/// Channels below which Winograd's transforms cost more than they save.
const FEW: usize = 8;

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConvShape {
    pub(super) images: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) inputs: usize,
    pub(super) oh: usize,
    pub(super) ow: usize,
    pub(super) outputs: usize,
    pub(super) window: Window,
}

impl ConvShape {
    /// x \[images, h, w, inputs\], weight \[outputs, inputs, kernel, kernel\].
    pub(super) fn new(x: &[usize], weight: &[usize], window: Window) -> Result<Self> {
        let (&[images, h, w, inputs], &[outputs, weight_inputs, kh, kw]) = (x, weight) else {
            bail!("a convolution of {x:?} with {weight:?}");
        };
        let (Some(oh), Some(ow)) = (window.outputs(h), window.outputs(w)) else {
            bail!("a convolution of {h} × {w} pixels with {window:?}");
        };
        if inputs != weight_inputs || [kh, kw] != [window.kernel; 2] || [images, h, w, inputs, outputs].contains(&0) {
            bail!("a convolution of {x:?} with {weight:?} and {window:?}");
        }
        for [h, w, channels] in [[h, w, inputs], [oh, ow, outputs]] {
            if [h, w, channels].into_iter().try_fold(images, usize::checked_mul).is_none() {
                bail!("a convolution of {x:?} with {weight:?} and {window:?}: more elements than can be counted");
            }
        }
        Ok(Self { images, h, w, inputs, oh, ow, outputs, window })
    }

    pub(super) fn inputs_per_image(&self) -> usize {
        self.h * self.w
    }

    pub(super) fn outputs_per_image(&self) -> usize {
        self.oh * self.ow
    }

    /// The elements of x.
    pub(super) fn input_len(&self) -> usize {
        self.images * self.inputs_per_image() * self.inputs
    }

    /// The elements of y.
    pub(super) fn output_len(&self) -> usize {
        self.images * self.outputs_per_image() * self.outputs
    }

    fn suits_winograd(&self) -> bool {
        self.window == Window::three(1) && self.inputs.min(self.outputs) >= FEW
    }
}

/// x \[images, h, w, inputs\] → y \[images, oh, ow, outputs\].
pub(super) fn forward<T: Real>(shape: &ConvShape, x: &[T], weight: &[T], y: &mut [T]) -> Result<()> {
    if shape.suits_winograd() {
        let weight = winograd::transform_weights(weight, shape.inputs, shape.outputs);
        winograd::forward(shape, x, &weight, y, |_| {})
    } else {
        im2col::forward(shape, x, &im2col::pack_weights(shape, weight), y, |_| {})
    }
}

/// As [`forward`], and the mean and variance of each channel of y, taken while it is in the cache.
pub(super) fn forward_with_moments<T: Real>(
    shape: &ConvShape,
    x: &[T],
    weight: &[T],
    y: &mut [T],
) -> Result<BatchMoments> {
    let channels = shape.outputs;
    let blocks = if shape.suits_winograd() { winograd::block_rows(shape) } else { im2col::block_rows(shape) };
    let mut moments = Buffer::scratch(blocks.len() * 2 * channels);
    let parts = moments.chunks_exact_mut(2 * channels).map(Mutex::new).collect::<Vec<_>>();
    let finish = |block: Finished<'_, T>| {
        part_moments(block.y, &mut parts[block.number].lock().unwrap_or_else(PoisonError::into_inner));
    };
    if shape.suits_winograd() {
        let weight = winograd::transform_weights(weight, shape.inputs, shape.outputs);
        winograd::forward(shape, x, &weight, y, finish)?;
    } else {
        im2col::forward(shape, x, &im2col::pack_weights(shape, weight), y, finish)?;
    }
    drop(parts);
    Ok(merge_moments(&moments, channels, blocks.into_iter()))
}

/// A block of outputs that is done.
pub(super) struct Finished<'a, T> {
    pub(super) number: usize,
    pub(super) y: &'a [T],
}

/// dx (+)= the gradient of x.
pub(super) fn backward_data<T: Real>(
    shape: &ConvShape,
    weight: &[T],
    dy: &[T],
    dx: &mut [T],
    destination: Destination,
) -> Result<()> {
    if shape.suits_winograd() {
        let weight = winograd::transform_weights(weight, shape.inputs, shape.outputs);
        winograd::backward_data(shape, &weight, dy, dx, destination)
    } else {
        im2col::backward_data(shape, &im2col::pack_weights(shape, weight), dy, dx, destination)
    }
}

/// dw = the gradient of the weight.
pub(super) fn backward_weights<T: Real>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    if shape.suits_winograd() {
        winograd::backward_weights(shape, x, dy, dw)
    } else {
        im2col::backward_weights(shape, x, dy, dw)
    }
}

/// x \[n, inputs, h, w\], `weight` \[outputs, inputs, kernel, kernel\] → \[n, outputs, h′, w′\].
pub(crate) fn conv2d(x: &Tensor, weight: &Tensor, window: Window, kernels: Kernels) -> Result<Tensor> {
    if kernels == Kernels::Cpu {
        let x = x.permute((0, 2, 3, 1))?.contiguous()?;
        x.apply_op2(&weight.contiguous()?, ConvOp { window })?.permute((0, 3, 1, 2))
    } else {
        x.conv2d(weight, window.padding, window.stride, 1, 1)
    }
}

/// Over channels-last images.
struct ConvOp {
    window: Window,
}

impl CustomOp2 for ConvOp {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = ConvShape::new(x_layout.dims(), weight_layout.dims(), self.window)?;
        let y = dispatch!(self.name(), x.dtype(), T => {
            let mut y = vec![T::ZERO; shape.output_len()];
            forward(&shape, slice::<T>(x, x_layout)?, slice::<T>(weight, weight_layout)?, &mut y)?;
            T::to_cpu_storage_owned(y)
        });
        Ok((y, Shape::from((shape.images, shape.oh, shape.ow, shape.outputs))))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let shape = ConvShape::new(x.dims(), weight.dims(), self.window)?;
        dispatch!(self.name(), dy.dtype(), T => with_slice::<T, _>(&dy, |dy| {
            let dx = || {
                let mut dx = vec![T::ZERO; shape.input_len()];
                with_slice::<T, _>(weight, |weight| {
                    backward_data(&shape, weight, dy, &mut dx, Destination::Overwrite)
                })?;
                Tensor::from_vec(dx, x.shape(), x.device())
            };
            let dw = || {
                let mut dw = vec![T::ZERO; weight.elem_count()];
                with_slice::<T, _>(x, |x| backward_weights(&shape, x, dy, &mut dw))?;
                Tensor::from_vec(dw, weight.shape(), weight.device())
            };
            Ok((x.track_op().then(dx).transpose()?, weight.track_op().then(dw).transpose()?))
        }))
    }
}
