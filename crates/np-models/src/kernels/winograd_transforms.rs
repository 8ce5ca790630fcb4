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

#[inline(always)]
pub(super) fn plane<T>(planes: &[T], point: usize, size: usize) -> &[T] {
    &planes[point * size..][..size]
}

/// \[outputs, inputs, 3, 3\] → G w Gᵀ at the 16 points, \[16, outputs, inputs\].
pub(super) fn transform_weights<T: Real>(weights: &[T], inputs: usize, outputs: usize) -> Buffer<T> {
    let mut transformed = Buffer::scratch(POINTS * inputs * outputs);
    let mut planes: Vec<_> =
        transformed.chunks_exact_mut(inputs * outputs).map(|p| p.chunks_exact_mut(inputs)).collect();
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
        for group in sums.chunks_exact(POINTS * size) {
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
    let size = out.len() / POINTS;
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
                    over_channels!(channels, input_step::<T>(&d, &mut *out, size, at));
                },
            );
        },
    );
}

#[inline(always)]
fn input_step<T: Real, const L: usize>(d: &[&[T]; POINTS], out: &mut [T], size: usize, at: usize, c: usize) {
    let mut t = [[T::ZERO; L]; POINTS];
    for column in 0..4 {
        let d: [[T; L]; 4] =
            [load(d[column], c), load(d[4 + column], c), load(d[8 + column], c), load(d[12 + column], c)];
        t[column] = sub(d[0], d[2]);
        t[4 + column] = add(d[1], d[2]);
        t[8 + column] = sub(d[2], d[1]);
        t[12 + column] = sub(d[1], d[3]);
    }
    for row in 0..4 {
        let t = [t[4 * row], t[4 * row + 1], t[4 * row + 2], t[4 * row + 3]];
        let v = [sub(t[0], t[2]), add(t[1], t[2]), sub(t[2], t[1]), sub(t[1], t[3])];
        for (column, v) in v.into_iter().enumerate() {
            store(out, (4 * row + column) * size + at + c, v);
        }
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
    let size = m.len() / POINTS;
    let per_image = tiles.rows_per_image();
    let origin = block.start / per_image * tiles.h + block.start % per_image * 2;
    vectorised(
        #[inline(always)]
        || {
            tiles.each_tile(
                block,
                #[inline(always)]
                |tile, image, y0, x0| {
                    let pixel = (image * tiles.h + y0 - origin) * tiles.w + x0;
                    let to = OutputTile {
                        at: pixel * channels,
                        below: (y0 + 1 < tiles.h).then_some(tiles.w * channels),
                        beside: (x0 + 1 < tiles.w).then_some(channels),
                    };
                    let from = tile * channels;
                    over_channels!(channels, output_step::<T>(m, size, from, &mut *y, to, destination));
                },
            );
        },
    );
}

/// Where the four outputs of a tile are: the first, and how far the others are, if they are part of the image.
#[derive(Clone, Copy)]
struct OutputTile {
    at: usize,
    below: Option<usize>,
    beside: Option<usize>,
}

impl OutputTile {
    #[inline(always)]
    fn position(self, row: usize, column: usize) -> Option<usize> {
        let below = if row == 0 { 0 } else { self.below? };
        let beside = if column == 0 { 0 } else { self.beside? };
        Some(self.at + below + beside)
    }
}

#[inline(always)]
fn output_step<T: Real, const L: usize>(
    m: &[T],
    size: usize,
    from: usize,
    y: &mut [T],
    to: OutputTile,
    destination: Destination,
    c: usize,
) {
    let mut t = [[[T::ZERO; L]; 4]; 2];
    let [upper, lower] = &mut t;
    for (column, (upper, lower)) in upper.iter_mut().zip(lower).enumerate() {
        let m: [[T; L]; 4] = [
            load(m, column * size + from + c),
            load(m, (4 + column) * size + from + c),
            load(m, (8 + column) * size + from + c),
            load(m, (12 + column) * size + from + c),
        ];
        *upper = add(add(m[0], m[1]), m[2]);
        *lower = sub(sub(m[1], m[2]), m[3]);
    }
    for (row, t) in t.into_iter().enumerate() {
        let outputs = [add(add(t[0], t[1]), t[2]), sub(sub(t[1], t[2]), t[3])];
        for (column, mut v) in outputs.into_iter().enumerate() {
            if let Some(position) = to.position(row, column) {
                if destination == Destination::Add {
                    v = add(load(y, position + c), v);
                }
                store(y, position + c, v);
            }
        }
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
    let size = out.len() / POINTS;
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
                    over_channels!(channels, gradient_step::<T>(&d, &mut *out, size, at));
                },
            );
        },
    );
}

#[inline(always)]
fn gradient_step<T: Real, const L: usize>(d: &[&[T]; 4], out: &mut [T], size: usize, at: usize, c: usize) {
    let mut t = [[[T::ZERO; L]; 2]; 4];
    for column in 0..2 {
        let (a, b): ([T; L], [T; L]) = (load(d[column], c), load(d[2 + column], c));
        t[0][column] = a;
        t[1][column] = add(a, b);
        t[2][column] = sub(a, b);
        t[3][column] = sub([T::ZERO; L], b);
    }
    for (row, [a, b]) in t.into_iter().enumerate() {
        for (column, v) in [a, add(a, b), sub(a, b), sub([T::ZERO; L], b)].into_iter().enumerate() {
            store(out, (4 * row + column) * size + at + c, v);
        }
    }
}

#[inline(always)]
fn load<T: Real, const L: usize>(from: &[T], at: usize) -> [T; L] {
    let mut values = [T::ZERO; L];
    values.copy_from_slice(&from[at..at + L]);
    values
}

#[inline(always)]
fn store<T: Real, const L: usize>(to: &mut [T], at: usize, values: [T; L]) {
    to[at..at + L].copy_from_slice(&values);
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
