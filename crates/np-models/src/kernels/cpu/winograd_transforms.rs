//! The transforms of Winograd's F(2 × 2, 3 × 3), and how images are cut into tiles and blocks of tiles.
//!
//! A transformed block is 16 planes, one a point, of \[tiles, channels\].

use rayon::prelude::*;

use super::conv2d::ConvShape;
use super::gemm::Destination;
use super::scratch::Buffer;
use super::{Real, vectorised};

/// Products for a tile.
pub(super) const POINTS: usize = 16;
/// Channels in a step of a transform: one register of AVX2 in `f32`, two in `f64`.
const LANES: usize = 8;

/// Tiles of 2 × 2 outputs over images of `h` × `w`.
#[derive(Clone, Copy)]
pub(super) struct Tiles {
    images: usize,
    h: usize,
    w: usize,
}

/// Whole rows of tiles: numbers `start..start + rows` of all rows of all images.
#[derive(Clone, Copy)]
pub(super) struct Block {
    start: usize,
    pub(super) rows: usize,
}

impl Tiles {
    pub(super) fn of(shape: &ConvShape) -> Self {
        Self { images: shape.images, h: shape.h, w: shape.w }
    }

    /// Tiles from left to right.
    pub(super) fn columns(self) -> usize {
        self.w.div_ceil(2)
    }

    fn rows_per_image(self) -> usize {
        self.h.div_ceil(2)
    }

    /// Blocks whose transforms stay in the second-level cache where the channels are few, and are worth a product of matrices
    /// where they are many. A function of the shape alone.
    pub(super) fn blocks(self, channels: usize) -> Vec<Block> {
        let tiles = (4096 / channels).clamp(64, 256);
        let rows = tiles.div_ceil(self.columns());
        let all = self.images * self.rows_per_image();
        (0..all).step_by(rows).map(|start| Block { start, rows: rows.min(all - start) }).collect()
    }

    /// Calls `f` with the number of each tile of a block, its image, its first output row and its first output column.
    #[inline(always)]
    fn each_tile(self, block: Block, mut f: impl FnMut(usize, usize, usize, usize)) {
        let (per_image, columns) = (self.rows_per_image(), self.columns());
        for i in 0..block.rows {
            let row = block.start + i;
            for column in 0..columns {
                f(i * columns + column, row / per_image, row % per_image * 2, column * 2);
            }
        }
    }

    /// Output pixels of a block.
    pub(super) fn pixels(self, block: Block) -> usize {
        let per_image = self.rows_per_image();
        let first_row = |row: usize| row / per_image * self.h + row % per_image * 2;
        (first_row(block.start + block.rows) - first_row(block.start)) * self.w
    }

    /// Cuts the outputs into the parts that the blocks write.
    pub(super) fn split<'a, T>(
        self,
        blocks: &[Block],
        mut y: &'a mut [T],
        channels: usize,
    ) -> Vec<(Block, &'a mut [T])> {
        let mut parts = Vec::with_capacity(blocks.len());
        for &block in blocks {
            let (part, rest) = y.split_at_mut(self.pixels(block) * channels);
            parts.push((block, part));
            y = rest;
        }
        parts
    }
}

/// From the start of a plane of `size` elements to that of the next. Sizes are mostly multiples of 4 KiB, at which all planes
/// would fall on the same few lines of the first-level cache; five lines more spread them out.
pub(super) fn padded(size: usize) -> usize {
    size + 80
}

/// Plane number `point` of planes of `size` elements.
#[inline(always)]
pub(super) fn plane<T>(planes: &[T], point: usize, size: usize) -> &[T] {
    &planes[point * padded(size)..][..size]
}

/// All planes of `size` elements.
fn planes<T>(planes: &[T], size: usize) -> [&[T]; POINTS] {
    std::array::from_fn(|point| plane(planes, point, size))
}

/// As [`planes`], to be written.
pub(super) fn planes_mut<T>(planes: &mut [T], size: usize) -> [&mut [T]; POINTS] {
    let mut planes = planes.chunks_exact_mut(padded(size));
    std::array::from_fn(|_| planes.next().map(|plane| &mut plane[..size]).unwrap_or_default())
}

/// \[outputs, inputs, 3, 3\] → G w Gᵀ at the 16 points, \[16, outputs, inputs\].
pub(super) fn transform_weights<T: Real>(weights: &[T], inputs: usize, outputs: usize) -> Buffer<T> {
    let size = inputs * outputs;
    let mut transformed = Buffer::scratch(POINTS * padded(size));
    let mut planes: Vec<_> = planes_mut(&mut transformed, size).map(|plane| plane.chunks_exact_mut(inputs)).into();
    let rows: Vec<Vec<&mut [T]>> =
        (0..outputs).map(|_| planes.iter_mut().filter_map(Iterator::next).collect()).collect();
    let half = T::from_f64(0.5);
    // G applied to a column of three.
    let g = |[a, b, c]: [T; 3]| {
        let (ends, middle) = ((a + c) * half, b * half);
        [a, ends + middle, ends - middle, c]
    };
    rows.into_par_iter().zip(weights.par_chunks_exact(inputs * 9)).with_min_len(8).for_each(|(mut row, weights)| {
        for (i, w) in weights.as_chunks::<9>().0.iter().enumerate() {
            let columns: [[T; 4]; 3] = std::array::from_fn(|c| g([w[c], w[3 + c], w[6 + c]]));
            for r in 0..4 {
                let values = g([columns[0][r], columns[1][r], columns[2][r]]);
                for (c, value) in values.into_iter().enumerate() {
                    row[4 * r + c][i] = value;
                }
            }
        }
    });
    transformed
}

/// Gᵀ (Σ groups) G → \[outputs, inputs, 3, 3\].
pub(super) fn transform_weight_gradients<T: Real>(sums: &[T], inputs: usize, outputs: usize, dw: &mut [T]) {
    let half = T::from_f64(0.5);
    // Gᵀ applied to a column of four.
    let g = |[a, b, c, d]: [T; 4]| [a + (b + c) * half, (b - c) * half, (b + c) * half + d];
    let size = inputs * outputs;
    dw.par_chunks_exact_mut(inputs * 9).with_min_len(8).enumerate().for_each(|(output, dw)| {
        let mut total = vec![T::ZERO; POINTS * inputs];
        for group in sums.chunks_exact(POINTS * padded(size)) {
            for (point, total) in total.chunks_exact_mut(inputs).enumerate() {
                for (t, &s) in total.iter_mut().zip(&plane(group, point, size)[output * inputs..]) {
                    *t += s;
                }
            }
        }
        for (i, dw) in dw.as_chunks_mut::<9>().0.iter_mut().enumerate() {
            let at = |r: usize, c: usize| total[(4 * r + c) * inputs + i];
            let columns: [[T; 3]; 4] = std::array::from_fn(|c| g([at(0, c), at(1, c), at(2, c), at(3, c)]));
            for r in 0..3 {
                let values = g([columns[0][r], columns[1][r], columns[2][r], columns[3][r]]);
                dw[3 * r..3 * r + 3].copy_from_slice(&values);
            }
        }
    });
}

/// Calls `f` with each of the channel numbers that start a step of [`LANES`], then with those of the remainder one by one.
macro_rules! over_channels {
    ($channels:expr, $f:ident::<$t:ty>($($argument:expr),*)) => {
        let whole = $channels / LANES * LANES;
        for c in (0..whole).step_by(LANES) {
            $f::<$t, LANES>($($argument,)* c);
        }
        for c in whole..$channels {
            $f::<$t, 1>($($argument,)* c);
        }
    };
}

/// Bᵀ d B of every tile of a block, \[16, tiles, channels\].
pub(super) fn transform_inputs<T: Real>(tiles: Tiles, block: Block, x: &[T], channels: usize, out: &mut [T]) {
    let mut out = planes_mut(out, block.rows * tiles.columns() * channels);
    let zeros = vec![T::ZERO; channels];
    vectorised(
        #[inline(always)]
        || {
            tiles.each_tile(
                block,
                #[inline(always)]
                |tile, image, y0, x0| {
                    let mut d = [&zeros[..]; POINTS];
                    for (i, d) in d.iter_mut().enumerate() {
                        // A border of one pixel: inputs start one above and one to the left.
                        let (y, x1) = (y0 + i / 4, x0 + i % 4);
                        if y >= 1 && y <= tiles.h && x1 >= 1 && x1 <= tiles.w {
                            *d = &x[((image * tiles.h + y - 1) * tiles.w + x1 - 1) * channels..][..channels];
                        }
                    }
                    let at = tile * channels;
                    over_channels!(channels, input_step::<T>(&d, &mut out, at));
                },
            );
        },
    );
}

#[inline(always)]
fn input_step<T: Real, const L: usize>(d: &[&[T]; POINTS], out: &mut [&mut [T]; POINTS], at: usize, c: usize) {
    let mut t = [[T::ZERO; L]; POINTS];
    for i in 0..4 {
        let (d0, d1) = (load(d[i], c), load(d[4 + i], c));
        let (d2, d3) = (load(d[8 + i], c), load(d[12 + i], c));
        t[i] = sub(d0, d2);
        t[4 + i] = add(d1, d2);
        t[8 + i] = sub(d2, d1);
        t[12 + i] = sub(d1, d3);
    }
    for i in (0..POINTS).step_by(4) {
        store(out[i], at + c, sub(t[i], t[i + 2]));
        store(out[i + 1], at + c, add(t[i + 1], t[i + 2]));
        store(out[i + 2], at + c, sub(t[i + 2], t[i + 1]));
        store(out[i + 3], at + c, sub(t[i + 1], t[i + 3]));
    }
}

/// Aᵀ m A of every tile of a block into its part of the outputs; tiles that stick out are cut.
pub(super) fn transform_outputs<T: Real>(
    tiles: Tiles,
    block: Block,
    m: &[T],
    channels: usize,
    y: &mut [T],
    destination: Destination,
) {
    let m = planes(m, block.rows * tiles.columns() * channels);
    let per_image = tiles.rows_per_image();
    let origin = block.start / per_image * tiles.h + block.start % per_image * 2;
    vectorised(
        #[inline(always)]
        || {
            tiles.each_tile(
                block,
                #[inline(always)]
                |tile, image, y0, x0| {
                    let first = ((image * tiles.h + y0 - origin) * tiles.w + x0) * channels;
                    let below = (y0 + 1 < tiles.h).then_some(first + tiles.w * channels);
                    let beside = (x0 + 1 < tiles.w).then_some(channels);
                    let to = [
                        Some(first),
                        beside.map(|beside| first + beside),
                        below,
                        below.zip(beside).map(|(below, beside)| below + beside),
                    ];
                    let at = tile * channels;
                    over_channels!(channels, output_step::<T>(&m, at, &mut *y, to, destination));
                },
            );
        },
    );
}

#[inline(always)]
fn output_step<T: Real, const L: usize>(
    m: &[&[T]; POINTS],
    at: usize,
    y: &mut [T],
    to: [Option<usize>; 4],
    destination: Destination,
    c: usize,
) {
    let mut t = [[T::ZERO; L]; 8];
    for i in 0..4 {
        let (m0, m1) = (load(m[i], at + c), load(m[4 + i], at + c));
        let (m2, m3) = (load(m[8 + i], at + c), load(m[12 + i], at + c));
        t[i] = add(add(m0, m1), m2);
        t[4 + i] = sub(sub(m1, m2), m3);
    }
    for i in 0..2 {
        let (left, right) =
            (add(add(t[4 * i], t[4 * i + 1]), t[4 * i + 2]), sub(sub(t[4 * i + 1], t[4 * i + 2]), t[4 * i + 3]));
        output(y, to[2 * i], c, left, destination);
        output(y, to[2 * i + 1], c, right, destination);
    }
}

#[inline(always)]
fn output<T: Real, const L: usize>(y: &mut [T], to: Option<usize>, c: usize, values: [T; L], destination: Destination) {
    if let Some(to) = to {
        let values = if destination == Destination::Add { add(load(y, to + c), values) } else { values };
        store(y, to + c, values);
    }
}

/// A dY Aᵀ of every tile of a block, \[16, tiles, channels\]; outside the image dY is 0.
pub(super) fn transform_output_gradients<T: Real>(
    tiles: Tiles,
    block: Block,
    dy: &[T],
    channels: usize,
    out: &mut [T],
) {
    let mut out = planes_mut(out, block.rows * tiles.columns() * channels);
    let zeros = vec![T::ZERO; channels];
    vectorised(
        #[inline(always)]
        || {
            tiles.each_tile(
                block,
                #[inline(always)]
                |tile, image, y0, x0| {
                    let mut d = [&zeros[..]; 4];
                    for (i, d) in d.iter_mut().enumerate() {
                        let (y, x) = (y0 + i / 2, x0 + i % 2);
                        if y < tiles.h && x < tiles.w {
                            *d = &dy[((image * tiles.h + y) * tiles.w + x) * channels..][..channels];
                        }
                    }
                    let at = tile * channels;
                    over_channels!(channels, gradient_step::<T>(&d, &mut out, at));
                },
            );
        },
    );
}

#[inline(always)]
fn gradient_step<T: Real, const L: usize>(d: &[&[T]; 4], out: &mut [&mut [T]; POINTS], at: usize, c: usize) {
    let (a, b): ([T; L], [T; L]) = (load(d[0], c), load(d[1], c));
    let (below_a, below_b): ([T; L], [T; L]) = (load(d[2], c), load(d[3], c));
    let zero = [T::ZERO; L];
    gradient_row(out, 0, at + c, a, b);
    gradient_row(out, 4, at + c, add(a, below_a), add(b, below_b));
    gradient_row(out, 8, at + c, sub(a, below_a), sub(b, below_b));
    gradient_row(out, 12, at + c, sub(zero, below_a), sub(zero, below_b));
}

#[inline(always)]
fn gradient_row<T: Real, const L: usize>(out: &mut [&mut [T]; POINTS], i: usize, at: usize, a: [T; L], b: [T; L]) {
    store(out[i], at, a);
    store(out[i + 1], at, add(a, b));
    store(out[i + 2], at, sub(a, b));
    store(out[i + 3], at, sub([T::ZERO; L], b));
}

/// Elements `at..at + L`; all positions are in bounds, and without a panic the loops stay tight.
#[inline(always)]
fn load<T: Real, const L: usize>(from: &[T], at: usize) -> [T; L] {
    from.get(at..).and_then(<[T]>::first_chunk).copied().unwrap_or([T::ZERO; L])
}

#[inline(always)]
fn store<T: Real, const L: usize>(to: &mut [T], at: usize, values: [T; L]) {
    if let Some(to) = to.get_mut(at..).and_then(<[T]>::first_chunk_mut) {
        *to = values;
    }
}

#[inline(always)]
fn add<T: Real, const L: usize>(mut a: [T; L], b: [T; L]) -> [T; L] {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
    a
}

#[inline(always)]
fn sub<T: Real, const L: usize>(mut a: [T; L], b: [T; L]) -> [T; L] {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= b;
    }
    a
}
