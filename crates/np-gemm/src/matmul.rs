//! Products with `gemm`, whose inner dimension is split beforehand.
#![allow(unsafe_code)]

use gemm::Parallelism;

use crate::{Matrix, Real, ShapeError, dots};

/// Whether a product replaces the elements of its destination or is added to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// They are replaced.
    Overwrite,
    /// The product is added to them.
    Add,
}

/// The longest inner dimension that `gemm` sums in one go, whatever the caches: it takes 512 for small products, and at least that, if there are as
/// many, for others. It is also what it chose on the machines whose first-level cache has 32 KiB.
const PIECE: usize = 512;

/// Rows and columns up to which `gemm` cuts the inner dimension into pieces of [`PIECE`] and a rest, instead of even ones.
const SMALL: usize = 64;

/// Elements of a destination up to which both operands in sequence along k are summed in lanes.
const FEW: usize = 256;

/// `dst` ← `scale` · `lhs` · `rhs`, or `dst` ← `dst` + `scale` · `lhs` · `rhs`, as `mode` says. `dst` is row-major. It uses at most as many threads as the
/// current rayon pool has.
///
/// # Errors
/// [`ShapeError::Product`] if the sizes do not fit.
pub fn matmul<T: Real>(
    dst: &mut [T],
    mode: Destination,
    scale: T,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
) -> Result<(), ShapeError> {
    let work = lhs.rows.saturating_mul(lhs.cols).saturating_mul(rhs.cols);
    let threads = (work / gemm::get_threading_threshold().max(1)).clamp(1, rayon::current_num_threads());
    matmul_on(dst, mode, scale, lhs, rhs, threads)
}

/// [`matmul()`] on the calling thread alone, for products within a parallel loop. It gives the same bits.
///
/// # Errors
/// Those of [`matmul()`].
pub fn matmul_here<T: Real>(
    dst: &mut [T],
    mode: Destination,
    scale: T,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
) -> Result<(), ShapeError> {
    matmul_on(dst, mode, scale, lhs, rhs, 1)
}

pub(crate) fn matmul_on<T: Real>(
    dst: &mut [T],
    mode: Destination,
    scale: T,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    threads: usize,
) -> Result<(), ShapeError> {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    if rhs.rows != k || m.checked_mul(n) != Some(dst.len()) {
        return Err(ShapeError::Product { lhs: (m, k), rhs: (rhs.rows, n), len: dst.len() });
    }
    if dst.is_empty() {
        return Ok(());
    }
    let add = mode == Destination::Add;
    // Both in sequence along k.
    if k > 0 && lhs.col_stride == 1 && rhs.row_stride == 1 {
        if m * n <= FEW {
            dots::blocks(dst, add, scale, lhs, rhs.t());
            return Ok(());
        }
        if k > 2 && ((n == 1 && lhs.row_stride != 1) || (n > 1 && m == 1 && rhs.col_stride != 1)) {
            dots::rows(dst, add, scale, lhs, rhs.t());
            return Ok(());
        }
    }
    let vector = k > 2 && is_vector(lhs, rhs);
    let piece = match k.div_ceil(PIECE) {
        // `gemm` goes along k without a cut.
        0 | 1 => k,
        _ if vector => k,
        _ if m <= SMALL && n <= SMALL => PIECE,
        pieces => k.div_ceil(pieces),
    };
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    let mut from = 0;
    loop {
        let depth = piece.min(k - from);
        let add = add || from > 0;
        if from > 0 && depth <= 2 {
            last(dst, scale, lhs, rhs, from);
        } else {
            call(dst, add, scale, lhs, rhs, from, depth, parallelism);
        }
        from += depth;
        if from >= k {
            return Ok(());
        }
    }
}

/// Whether `gemm` takes a product for one of a matrix and a vector along whose columns it goes.
fn is_vector<T>(lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) -> bool {
    (rhs.cols == 1 && lhs.row_stride == 1) || (rhs.cols > 1 && lhs.rows == 1 && rhs.col_stride == 1)
}

/// dst ← dst + scale · lhs · rhs over k from `from` on, one or two products: `gemm` by itself would add so few to `dst` term by term, not as a piece.
fn last<T: Real>(dst: &mut [T], scale: T, lhs: Matrix<'_, T>, rhs: Matrix<'_, T>, from: usize) {
    for (i, out) in dst.iter_mut().enumerate() {
        let (r, c) = (i / rhs.cols, i % rhs.cols);
        let first = lhs.at(r, from).mul(rhs.at(from, c));
        let sum = (from + 1..lhs.cols).fold(first, |sum, p| lhs.at(r, p).fma(rhs.at(p, c), sum));
        *out = scale.fma(sum, *out);
    }
}

#[allow(clippy::too_many_arguments)]
fn call<T: Real>(
    dst: &mut [T],
    add: bool,
    scale: T,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    from: usize,
    depth: usize,
    parallelism: Parallelism,
) {
    let (m, n) = (lhs.rows, rhs.cols);
    // Slices, so that an offset out of bounds would be a panic: without elements along k there is none to point at.
    let a = lhs.data.get(from * lhs.col_stride..).unwrap_or(&[]);
    let b = rhs.data.get(from * rhs.row_stride..).unwrap_or(&[]);
    // SAFETY: `gemm` reads element (r, c) of the left operand for r < m, c < depth and of the right one for r < depth, c < n, at its pointer plus
    // r · row_stride + c · col_stride. The invariant of `Matrix` places elements (r, from + c) and (from + r, c) inside the slices, as
    // from + depth ≤ k, and the pointers are `from` columns, or rows, behind their start. It reads and writes `dst` at r · n + c for r < m, c < n,
    // inside the slice, whose length the caller has checked. All strides are at most the length of a slice, so they fit in `isize`. `dst` is
    // borrowed exclusively, so it overlaps neither operand. `T` is `f32` or `f64` (`Real` is sealed), which `gemm` supports, plain numbers
    // without invalid bit patterns.
    unsafe {
        gemm::gemm(
            m,
            n,
            depth,
            dst.as_mut_ptr(),
            1,
            n as isize,
            add,
            a.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            b.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::from(1),
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests;
