//! Winograd's F(2 × 2, 3 × 3): a 3 × 3 convolution of stride 1 with 16 products for four outputs instead of 36.
//!
//! ```text
//! Y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ d B)] A      d: 4 × 4 inputs, Y: 2 × 2 outputs; ⊙ summed over input channels
//! ```
//!
//! For each of the 16 points the sum over channels is a matrix product over many tiles. The gradient of the input is the same
//! convolution with turned weights; that of the weights is dw = Gᵀ [(A dY Aᵀ) ⊗ (Bᵀ d B)] G. The transforms are sums and halves,
//! and the result is as exact as that of a direct convolution to about a factor of two. Images are channels-last, so that every
//! transform runs over vectors of channels.
//!
//! Lavin, Gray: *Fast algorithms for convolutional neural networks*, 2016.

use candle_core::Result;
use rayon::prelude::*;

use super::Real;
use super::conv2d::{ConvShape, Finished};
use super::gemm::{Destination, Matrix, matmul_here, matrix};
use super::scratch::Buffer;
pub(super) use super::winograd_transforms::transform_weights;
use super::winograd_transforms::{
    POINTS, Tiles, padded, plane, planes_mut, transform_inputs, transform_output_gradients, transform_outputs,
    transform_weight_gradients,
};

/// Multiplications in one point's product above which the points of a block are work for several threads.
const LARGE_PRODUCT: usize = 1 << 20;
/// Elements of all partial sums of a weight's gradient, as long as two partial sums are left.
const PARTIAL_SUMS: usize = 1 << 21;

/// y = the convolution of x \[images, h, w, inputs\] with the transformed `weights` of [`transform_weights`]; each block of it is
/// handed to `finish`.
pub(super) fn forward<T: Real>(
    shape: &ConvShape,
    x: &[T],
    weights: &[T],
    y: &mut [T],
    finish: impl Fn(Finished<'_, T>) + Sync,
) -> Result<()> {
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let weight = |point| Ok(matrix(plane(weights, point, outputs * inputs), outputs, inputs)?.t());
    convolve(Tiles::of(shape), x, inputs, weight, (y, Destination::Overwrite), outputs, finish)
}

/// The rows of y in each block of [`forward`].
pub(super) fn block_rows(shape: &ConvShape) -> Vec<usize> {
    let tiles = Tiles::of(shape);
    let blocks = tiles.blocks(shape.inputs.max(shape.outputs));
    blocks.into_iter().map(|block| tiles.pixels(block)).collect()
}

/// dx (+)= the convolution of dy with the turned weights: at the points' mirror images, since turning a kernel exchanges the
/// first and the last row of G w Gᵀ, and its first and last column.
pub(super) fn backward_data<T: Real>(
    shape: &ConvShape,
    weights: &[T],
    dy: &[T],
    dx: &mut [T],
    destination: Destination,
) -> Result<()> {
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let mirror = |i: usize| [3, 1, 2, 0][i];
    let weight = |point: usize| {
        let point = mirror(point / 4) * 4 + mirror(point % 4);
        matrix(plane(weights, point, outputs * inputs), outputs, inputs)
    };
    convolve(Tiles::of(shape), dy, outputs, weight, (dx, destination), inputs, |_| {})
}

fn convolve<'a, T: Real>(
    tiles: Tiles,
    x: &[T],
    inputs: usize,
    weight: impl Fn(usize) -> Result<Matrix<'a, T>> + Sync,
    (y, destination): (&mut [T], Destination),
    outputs: usize,
    finish: impl Fn(Finished<'_, T>) + Sync,
) -> Result<()> {
    let blocks = tiles.blocks(inputs.max(outputs));
    tiles.split(&blocks, y, outputs).into_par_iter().enumerate().try_for_each(|(number, (block, y))| {
        let n = block.rows * tiles.columns();
        let mut transformed = Buffer::scratch(POINTS * padded(n * inputs));
        let mut products = Buffer::scratch(POINTS * padded(n * outputs));
        transform_inputs(tiles, block, x, inputs, &mut transformed);
        let product = |point, dst: &mut [T]| {
            let lhs = matrix(plane(&transformed, point, n * inputs), n, inputs)?;
            matmul_here(dst, Destination::Overwrite, lhs, weight(point)?)
        };
        each_point((&mut products, n * outputs), n * inputs * outputs, product)?;
        transform_outputs(tiles, block, &products, outputs, y, destination);
        finish(Finished { number, y });
        Ok(())
    })
}

/// dw \[outputs, inputs, 3, 3\] = Σ over tiles.
///
/// The blocks are added up in groups, the groups' sums in order: their number depends on the shape alone.
pub(super) fn backward_weights<T: Real>(shape: &ConvShape, x: &[T], dy: &[T], dw: &mut [T]) -> Result<()> {
    let (inputs, outputs) = (shape.inputs, shape.outputs);
    let tiles = Tiles::of(shape);
    let blocks = tiles.blocks(inputs.max(outputs));
    let size = POINTS * padded(inputs * outputs);
    let groups = (PARTIAL_SUMS / size).clamp(2, 16).min(blocks.len());
    let per_group = blocks.len().div_ceil(groups);
    let groups = blocks.len().div_ceil(per_group);
    let mut sums = Buffer::scratch(groups * size);
    sums.par_chunks_mut(size).zip(blocks.par_chunks(per_group)).try_for_each(|(sum, blocks)| {
        let mut destination = Destination::Overwrite;
        for &block in blocks {
            let n = block.rows * tiles.columns();
            let mut transformed = Buffer::scratch(POINTS * padded(n * inputs));
            let mut gradients = Buffer::scratch(POINTS * padded(n * outputs));
            transform_inputs(tiles, block, x, inputs, &mut transformed);
            transform_output_gradients(tiles, block, dy, outputs, &mut gradients);
            let product = |point, dst: &mut [T]| {
                let lhs = matrix(plane(&gradients, point, n * outputs), n, outputs)?.t();
                matmul_here(dst, destination, lhs, matrix(plane(&transformed, point, n * inputs), n, inputs)?)
            };
            each_point((sum, inputs * outputs), n * inputs * outputs, product)?;
            destination = Destination::Add;
        }
        Ok::<(), candle_core::Error>(())
    })?;
    transform_weight_gradients(&sums, inputs, outputs, dw);
    Ok(())
}

/// Calls `f` with each point and its plane of `dst`, on several threads where a product of `work` is large.
fn each_point<T: Real>(
    (dst, size): (&mut [T], usize),
    work: usize,
    f: impl Fn(usize, &mut [T]) -> Result<()> + Sync,
) -> Result<()> {
    let mut planes = planes_mut(dst, size);
    if work >= LARGE_PRODUCT {
        planes.par_iter_mut().enumerate().try_for_each(|(point, dst)| f(point, dst))
    } else {
        planes.iter_mut().enumerate().try_for_each(|(point, dst)| f(point, dst))
    }
}
