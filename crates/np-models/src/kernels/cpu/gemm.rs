//! Matrix products for the kernels: those of `np-gemm`, with candle's error type.

use candle_core::{Error, Result};
pub(super) use np_gemm::Destination;
pub(super) type Matrix<'a, T> = np_gemm::Matrix<'a, T>;

use super::Real;

/// A row-major matrix of exactly `rows` × `cols` elements.
pub(super) fn matrix<T: Real>(data: &[T], rows: usize, cols: usize) -> Result<Matrix<'_, T>> {
    Matrix::new(data, rows, cols).map_err(Error::wrap)
}

/// `dst` (+)= `lhs` · `rhs`, with `dst` row-major, on at most as many threads as the current rayon pool has.
pub(super) fn matmul<T: Real>(dst: &mut [T], mode: Destination, lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) -> Result<()> {
    np_gemm::matmul(dst, mode, T::one(), lhs, rhs).map_err(Error::wrap)
}

/// As [`matmul`], on this thread alone: for products that are parts of a parallel loop.
pub(super) fn matmul_here<T: Real>(
    dst: &mut [T],
    mode: Destination,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
) -> Result<()> {
    np_gemm::matmul_here(dst, mode, T::one(), lhs, rhs).map_err(Error::wrap)
}
