//! A convolution of any kernel, stride and padding as a product with the matrix of its patches, a block of outputs at a time.
//!
//! A row of the patches is the kernel·kernel·inputs numbers that one output sees, in the order of memory (channels last), so
//! that it is copied in runs. Weights are brought to the same order first.

use candle_core::Result;
use rayon::prelude::*;

use super::Real;
use super::conv2d::{ConvShape, Finished};
use super::gemm::{Destination, matmul_here, matrix};
use super::scratch::Buffer;

/// Elements of a block of patches.
const BLOCK: usize = 1 << 18;
/// Elements of all partial sums of a weight's gradient, as long as two partial sums are left.
const PARTIAL_SUMS: usize = 1 << 21;

/// Numbers in a patch.
fn patch(shape: &ConvShape) -> usize {
    shape.window.kernel * shape.window.kernel * shape.inputs
}

/// Outputs of a block: a function of the shape alone.
fn block(shape: &ConvShape) -> usize {
    (BLOCK / patch(shape)).clamp(64, 512)
}

/// y \[images, oh, ow, outputs\], each block of it handed to `finish`, of x \[images, h, w, inputs\] and `weights` as [`pack_weights`] leaves them.
pub(super) fn forward<T: Real>(
    shape: &ConvShape,
    x: &[T],
    weights: &[T],
    y: &mut [T],
    finish: impl Fn(Finished<'_, T>) + Sync,
) -> Result<()> {
    let (size, patch) = (block(shape), patch(shape));
    y.par_chunks_mut(size * shape.outputs).enumerate().try_for_each(|(number, y)| {
        let n = y.len() / shape.outputs;
        let mut patches = Buffer::scratch(n * patch);
        gather(shape, x, number * size, &mut patches);
        let weights = matrix(weights, shape.outputs, patch)?;
        matmul_here(y, Destination::Overwrite, matrix(&patches, n, patch)?, weights.t())?;
        finish(Finished { number, y });
        Ok(())
    })
}

/// The rows of y in each block of [`forward`].
pub(super) fn block_rows(shape: &ConvShape) -> Vec<usize> {
    let (size, all) = (block(shape), shape.images * shape.outputs_per_image());
    (0..all).step_by(size).map(|start| size.min(all - start)).collect()
}

/// dx (+)= what the patches' gradients add up to, image by image.
pub(super) fn backward_data<T: Real>(
    shape: &ConvShape,
    weights: &[T],
    dy: &[T],
    dx: &mut [T],
    destination: Destination,
) -> Result<()> {
    let (size, patch) = (block(shape), patch(shape));
    let per_image = shape.outputs_per_image();
    // Small images together, so that a product has some rows; an image's outputs stay on one thread, since they overlap.
    let images = 64usize.div_ceil(per_image);
    dx.par_chunks_mut(images * shape.inputs_per_image() * shape.inputs)
        .zip(dy.par_chunks(images * per_image * shape.outputs))
        .try_for_each(|(dx, dy)| {
            if destination == Destination::Overwrite {
                dx.fill(T::ZERO);
            }
            for (number, dy) in dy.chunks(size * shape.outputs).enumerate() {
                let n = dy.len() / shape.outputs;
                let mut patches = Buffer::scratch(n * patch);
                let lhs = matrix(dy, n, shape.outputs)?;
                matmul_here(&mut patches, Destination::Overwrite, lhs, matrix(weights, shape.outputs, patch)?)?;
                scatter(shape, &patches, number * size, dx);
            }
            Ok(())
        })
}

/// dw \[outputs, inputs, kernel, kernel\].
///
/// The blocks are added up in groups, the groups' sums in order: their number depends on the shape alone.
pub(super) fn backward_weights<T: Real>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    let (size, patch) = (block(shape), patch(shape));
    let blocks = (dy.len() / shape.outputs).div_ceil(size);
    let groups = (PARTIAL_SUMS / dw.len()).clamp(2, 16).min(blocks);
    let per_group = blocks.div_ceil(groups);
    let groups = blocks.div_ceil(per_group);
    let mut sums = Buffer::scratch(groups * dw.len());
    sums.par_chunks_mut(dw.len()).zip(dy.par_chunks(per_group * size * shape.outputs)).enumerate().try_for_each(
        |(group, (sum, dy))| {
            let mut destination = Destination::Overwrite;
            for (number, dy) in dy.chunks(size * shape.outputs).enumerate() {
                let n = dy.len() / shape.outputs;
                let mut patches = Buffer::scratch(n * patch);
                gather(shape, x, (group * per_group + number) * size, &mut patches);
                let lhs = matrix(dy, n, shape.outputs)?.t();
                matmul_here(sum, destination, lhs, matrix(&patches, n, patch)?)?;
                destination = Destination::Add;
            }
            Ok::<(), candle_core::Error>(())
        },
    )?;
    let (first, others) = sums.split_at_mut(dw.len());
    for other in others.chunks_exact(dw.len()) {
        for (sum, &s) in first.iter_mut().zip(other) {
            *sum += s;
        }
    }
    let taps = shape.window.kernel * shape.window.kernel;
    for (dw, sum) in dw.chunks_exact_mut(patch).zip(first.chunks_exact(patch)) {
        for (i, dw) in dw.chunks_exact_mut(taps).enumerate() {
            for (tap, dw) in dw.iter_mut().enumerate() {
                *dw = sum[tap * shape.inputs + i];
            }
        }
    }
    Ok(())
}

/// \[outputs, inputs, kernel, kernel\] → \[outputs, kernel, kernel, inputs\], the order of a patch.
pub(super) fn pack_weights<T: Real>(shape: &ConvShape, weights: &[T]) -> Buffer<T> {
    let taps = shape.window.kernel * shape.window.kernel;
    let mut packed = Buffer::scratch(weights.len());
    packed.par_chunks_exact_mut(patch(shape)).zip(weights.par_chunks_exact(patch(shape))).with_min_len(8).for_each(
        |(packed, weights)| {
            for (tap, packed) in packed.chunks_exact_mut(shape.inputs).enumerate() {
                for (p, w) in packed.iter_mut().zip(weights.chunks_exact(taps)) {
                    *p = w[tap];
                }
            }
        },
    );
    packed
}

/// A run of a patch and where it comes from: elements `to..to + len` of the patch are those from `from` on of the images;
/// `from` is `None` where the run lies in the border.
struct Run {
    to: usize,
    from: Option<usize>,
    len: usize,
}

/// Calls `f` with the runs of the patch of output number `output`, counted over all images.
#[inline(always)]
fn runs(shape: &ConvShape, output: usize, mut f: impl FnMut(Run)) {
    let (kernel, stride, padding) = (shape.window.kernel, shape.window.stride, shape.window.padding);
    let image = output / shape.outputs_per_image();
    let within = output % shape.outputs_per_image();
    let (y0, x0) = (within / shape.ow * stride, within % shape.ow * stride); // of the image with its border
    // Columns of the kernel that are left of, in and right of the image.
    let left = padding.saturating_sub(x0).min(kernel);
    let inside_end = (padding + shape.w).saturating_sub(x0).clamp(left, kernel);
    for ky in 0..kernel {
        let row = ky * kernel * shape.inputs;
        let y = y0 + ky;
        if !(padding..padding + shape.h).contains(&y) {
            f(Run { to: row, from: None, len: kernel * shape.inputs });
            continue;
        }
        let start = (image * shape.h + y - padding) * shape.w;
        let columns = [(0, left, false), (left, inside_end, true), (inside_end, kernel, false)];
        for (from, to, inside) in columns.into_iter().filter(|(from, to, _)| to > from) {
            let source = inside.then(|| (start + x0 + from - padding) * shape.inputs);
            f(Run { to: row + from * shape.inputs, from: source, len: (to - from) * shape.inputs });
        }
    }
}

/// The patches of as many outputs as fit, from number `first` on.
fn gather<T: Real>(shape: &ConvShape, x: &[T], first: usize, patches: &mut [T]) {
    for (output, patch) in patches.chunks_exact_mut(patch(shape)).enumerate() {
        runs(shape, first + output, |run| {
            let to = &mut patch[run.to..run.to + run.len];
            match run.from {
                Some(from) => to.copy_from_slice(&x[from..from + run.len]),
                None => to.fill(T::ZERO),
            }
        });
    }
}

/// Adds patches to the images they come from.
fn scatter<T: Real>(shape: &ConvShape, patches: &[T], first: usize, x: &mut [T]) {
    for (output, patch) in patches.chunks_exact(patch(shape)).enumerate() {
        runs(shape, first + output, |run| {
            if let Some(from) = run.from {
                for (x, &p) in x[from..from + run.len].iter_mut().zip(&patch[run.to..run.to + run.len]) {
                    *x += p;
                }
            }
        });
    }
}
