//! Matrices as row-major slices: products by `np-gemm`, roots and eigenvectors by the `faer` crate.
//!
//! All results have the same bits for any number of threads: products are divided into fixed blocks of rows, and all else runs on one thread. Products
//! also have the same bits on every CPU. Decompositions do not, because the blocks and sums of `faer` depend on the CPU's caches and instruction set. So
//! optimizers that need them are not [`Rule::portable`](crate::Rule::portable).

use candle_core::{DType, Error};
use faer::{MatRef, Side};
#[doc(inline)]
pub use np_gemm::{Destination, Matrix};
use np_trace::Float;
use rayon::prelude::*;

use crate::cpu;
use crate::error::Result;

/// A number that matrices are made of: `f32` or `f64`.
pub trait Real: Float + np_gemm::Real + std::ops::MulAssign + std::ops::DivAssign {
    /// candle's name of it.
    const DTYPE: DType;
}
impl Real for f32 {
    const DTYPE: DType = DType::F32;
}
impl Real for f64 {
    const DTYPE: DType = DType::F64;
}

/// Rows of a product that one task works out.
const ROWS: usize = 128;

/// Multiplications below which one thread is as fast.
const WORTH_THREADS: usize = 1 << 18;

/// A matrix in a row-major slice.
///
/// # Errors
/// Where it has another number of elements.
pub fn view<T: Real>(data: &[T], rows: usize, cols: usize) -> Result<Matrix<'_, T>> {
    Ok(Matrix::new(data, rows, cols).map_err(Error::wrap)?)
}

/// out ← scale · a b, row-major, or out ← out + scale · a b.
///
/// # Errors
/// Where the sizes do not fit.
pub fn product<T: Real>(out: &mut [T], onto: Destination, scale: T, a: Matrix<'_, T>, b: Matrix<'_, T>) -> Result<()> {
    let cols = b.cols();
    if out.is_empty() {
        return Ok(());
    }
    let block = |(i, out): (usize, &mut [T])| {
        let from = i * ROWS;
        let a = a.subrows(from..from + out.len() / cols)?;
        np_gemm::matmul_here(out, onto, scale, a, b)
    };
    let done = if a.rows() * a.cols() * cols > WORTH_THREADS && cpu::parallel() {
        out.par_chunks_mut(ROWS * cols).enumerate().try_for_each(block)
    } else {
        out.chunks_mut(ROWS * cols).enumerate().try_for_each(block)
    };
    Ok(done.map_err(Error::wrap)?)
}

/// A tensor's dimension k between what comes before and after it: each of `before` slices is a matrix of `size` rows and `after` columns.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Product of the dimensions before it.
    pub before: usize,
    /// Its length.
    pub size: usize,
    /// Product of the dimensions after it.
    pub after: usize,
}

impl Mode {
    /// All dimensions of a tensor of shape `dims`.
    pub fn all(dims: &[usize]) -> impl Iterator<Item = Self> + '_ {
        dims.iter().enumerate().map(|(k, size)| Self {
            before: dims[..k].iter().product(),
            size: *size,
            after: dims[k + 1..].iter().product(),
        })
    }

    fn slice(self) -> usize {
        self.size * self.after
    }

    /// out ← out + scale · Σ X Xᵀ, X the tensor's matrices along this dimension; `out` is size × size.
    ///
    /// # Errors
    /// Where the sizes do not fit.
    pub fn gram<T: Real>(self, out: &mut [T], scale: T, x: &[T]) -> Result<()> {
        if self.after == 1 {
            // One product of all slices, which are single columns, not one for each.
            let x = view(x, self.before, self.size)?;
            return product(out, Destination::Add, scale, x.t(), x);
        }
        for x in x.chunks(self.slice().max(1)) {
            let x = view(x, self.size, self.after)?;
            product(out, Destination::Add, scale, x, x.t())?;
        }
        Ok(())
    }

    /// out ← the tensor x with every vector along this dimension multiplied with `m`, or with its transpose.
    ///
    /// # Errors
    /// Where the sizes do not fit.
    pub fn multiply<T: Real>(self, out: &mut [T], m: Matrix<'_, T>, x: &[T]) -> Result<()> {
        if self.after == 1 {
            // Rows times a single column, for every slice: one product of all of them is faster.
            return product(out, Destination::Overwrite, T::ONE, view(x, self.before, self.size)?, m.t());
        }
        let slice = self.slice().max(1);
        for (out, x) in out.chunks_mut(slice).zip(x.chunks(slice)) {
            product(out, Destination::Overwrite, T::ONE, m, view(x, self.size, self.after)?)?;
        }
        Ok(())
    }
}

/// In double precision: decompositions are found in it whatever the type, which halves what there is to compile and costs little beside them.
fn wide<T: Real>(m: &[T]) -> Vec<f64> {
    m.iter().map(|x| x.to_f64()).collect()
}

/// Eigenvalues in ascending order and, as columns of a row-major matrix, eigenvectors of a symmetric matrix.
///
/// # Errors
/// Where the decomposition does not converge, as for numbers that are not finite.
pub fn eigen<T: Real>(m: &[T], n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let failed = || Error::Msg(format!("the eigenvalues of a {n} × {n} matrix were not found: is it finite?"));
    if !m.iter().all(|x| Float::is_finite(*x)) {
        return Err(failed().into());
    }
    let found = MatRef::from_row_major_slice(&wide(m), n, n).self_adjoint_eigen(Side::Lower).map_err(|_| failed())?;
    let values = (0..n).map(|i| found.S()[i]).collect();
    let vectors = (0..n * n).map(|k| found.U()[(k / n, k % n)]).collect();
    Ok((values, vectors))
}

/// m^exponent of a symmetric matrix that is positive semidefinite up to rounding. An eigenvalue λ is replaced by |λ| and raised to `floor`, or to the rounding error
/// of the largest eigenvalue if that is more. Smaller eigenvalues are rounding errors, which a negative power would make the largest.
///
/// # Errors
/// Those of [`eigen`]; an element of the result that overflows T.
pub fn power<T: Real>(m: &[T], n: usize, exponent: f64, floor: f64) -> Result<Vec<T>> {
    let (values, vectors) = eigen(m, n)?;
    let largest = values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let floor = floor.max(n as f64 * T::EPSILON.to_f64() * largest);
    let powers: Vec<f64> = values.iter().map(|x| x.abs().max(floor).powf(exponent)).collect();
    let scaled: Vec<f64> = vectors.iter().enumerate().map(|(k, x)| *x * powers[k % n]).collect();
    let mut out = vec![0.0; n * n];
    product(&mut out, Destination::Overwrite, 1.0, view(&scaled, n, n)?, view(&vectors, n, n)?.t())?;
    let out: Vec<T> = out.into_iter().map(T::from_f64).collect();
    match out.iter().all(|x| Float::is_finite(*x)) {
        true => Ok(out),
        false => {
            Err(Error::Msg(format!("a power of a {n} × {n} matrix is beyond what {} holds", T::DTYPE.as_str())).into())
        }
    }
}

/// Indices of `values`, the largest value first.
pub fn falling(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*b].total_cmp(&values[*a]));
    order
}

/// Q of a QR decomposition, row-major.
pub fn orthonormal<T: Real>(m: &[T], n: usize) -> Vec<T> {
    let q = MatRef::from_row_major_slice(&wide(m), n, n).qr().compute_Q();
    (0..n * n).map(|k| T::from_f64(q[(k / n, k % n)])).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// [[2, 1], [1, 2]] has eigenvalues 1 and 3.
    const M: [f64; 4] = [2.0, 1.0, 1.0, 2.0];

    fn close(a: &[f64], b: &[f64]) {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).for_each(|(x, y)| assert!((x - y).abs() < 1e-12, "{a:?} against {b:?}"));
    }

    #[test]
    fn powers_of_a_symmetric_matrix() {
        close(&power(&M, 2, 1.0, 0.0).unwrap(), &M);
        // The inverse of [[2, 1], [1, 2]] is [[2, −1], [−1, 2]]/3.
        close(&power(&M, 2, -1.0, 0.0).unwrap(), &[2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0]);
        let root = power(&M, 2, -0.25, 0.0).unwrap();
        let mut fourth = root.clone();
        for _ in 0..3 {
            let before = fourth.clone();
            product(&mut fourth, Destination::Overwrite, 1.0, view(&before, 2, 2).unwrap(), view(&root, 2, 2).unwrap())
                .unwrap();
        }
        close(&fourth, &[2.0 / 3.0, -1.0 / 3.0, -1.0 / 3.0, 2.0 / 3.0]);
        assert!(power(&[f64::NAN; 4], 2, -1.0, 0.0).is_err());
    }

    #[test]
    fn products_along_each_dimension() {
        // A 2 × 3 × 2 tensor: multiplied along dimension k by the matrix that reverses it, it is reversed along k.
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let dims = [2, 3, 2];
        for (k, mode) in Mode::all(&dims).enumerate() {
            let n = mode.size;
            let reverse: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n + i % n == n - 1))).collect();
            let mut out = vec![0.0; 12];
            mode.multiply(&mut out, view(&reverse, n, n).unwrap(), &x).unwrap();
            let strides = [6, 2, 1];
            for (i, out) in out.iter().enumerate() {
                let at = i / strides[k] % dims[k];
                let from = i - at * strides[k] + (n - 1 - at) * strides[k];
                assert_eq!(*out, x[from], "dimension {k}, element {i}");
            }
            let mut gram = vec![0.0; n * n];
            mode.gram(&mut gram, 1.0, &x).unwrap();
            let trace: f64 = (0..n).map(|i| gram[i * n + i]).sum();
            close(&[trace], &[x.iter().map(|x| x * x).sum()]);
        }
    }

    #[test]
    fn a_basis_is_orthonormal() {
        let q = orthonormal(&[1.0, 2.0, 3.0, 4.0], 2);
        let mut unit = vec![0.0; 4];
        let q = view(&q, 2, 2).unwrap();
        product(&mut unit, Destination::Overwrite, 1.0, q, q.t()).unwrap();
        close(&unit, &[1.0, 0.0, 0.0, 1.0]);
    }
}
