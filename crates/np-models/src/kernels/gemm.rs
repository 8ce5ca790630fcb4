//! A safe matrix product over the `gemm` crate: the only unsafe code of this crate.
#![allow(unsafe_code)]

use candle_core::{Result, bail};
use gemm::Parallelism;

use super::Real;

/// A matrix over a slice, row-major or the transpose of one.
///
/// Invariant, kept by the private fields: element (r, c) with r < rows, c < cols is `data[r · row_stride + c · col_stride]`, in
/// bounds.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// A row-major matrix of exactly `rows` × `cols` elements.
    pub(super) fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        if rows.checked_mul(cols) != Some(data.len()) {
            bail!("a matrix of {rows} × {cols} over {} elements", data.len());
        }
        Ok(Self { data, rows, cols, row_stride: cols, col_stride: 1 })
    }

    /// The transpose, of the same elements.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }
}

/// What becomes of the old elements of a product's destination.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// They are replaced.
    Overwrite,
    /// The product is added to them.
    Add,
}

/// `dst` (+)= `lhs` · `rhs`, with `dst` row-major, on at most as many threads as the current rayon pool has.
///
/// The bits of the result do not depend on the number of threads.
pub(super) fn matmul<T: Real>(dst: &mut [T], mode: Destination, lhs: Matrix<'_, T>, rhs: Matrix<'_, T>) -> Result<()> {
    let work = lhs.rows.saturating_mul(lhs.cols).saturating_mul(rhs.cols);
    let threads = (work / gemm::get_threading_threshold().max(1)).clamp(1, rayon::current_num_threads());
    matmul_on(dst, mode, lhs, rhs, threads)
}

/// As [`matmul`], on this thread alone: for products that are parts of a parallel loop.
pub(super) fn matmul_here<T: Real>(
    dst: &mut [T],
    mode: Destination,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
) -> Result<()> {
    matmul_on(dst, mode, lhs, rhs, 1)
}

fn matmul_on<T: Real>(
    dst: &mut [T],
    mode: Destination,
    lhs: Matrix<'_, T>,
    rhs: Matrix<'_, T>,
    threads: usize,
) -> Result<()> {
    let (m, k, n) = (lhs.rows, lhs.cols, rhs.cols);
    if rhs.rows != k || m.checked_mul(n) != Some(dst.len()) {
        bail!("a product of {m} × {k} and {} × {n} into {} elements", rhs.rows, dst.len());
    }
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: `gemm` reads element (r, c) of `lhs` for r < m, c < k and of `rhs` for r < k, c < n at its pointer plus
    // r · row_stride + c · col_stride, which the invariant of `Matrix` places inside the slices; it reads and writes `dst` at
    // r · n + c for r < m, c < n, inside the slice by the check above. All strides are at most the length of a slice, so they fit
    // in `isize`. `dst` is borrowed exclusively, so it overlaps neither operand. `T` is `f32` or `f64` (the only types that
    // implement `Real`), which `gemm` supports, plain numbers without invalid bit patterns.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            n as isize,
            mode == Destination::Add,
            lhs.data.as_ptr(),
            lhs.col_stride as isize,
            lhs.row_stride as isize,
            rhs.data.as_ptr(),
            rhs.col_stride as isize,
            rhs.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in [−1, 1) without a pattern, from a linear congruential generator (Knuth's MMIX constants).
    fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f64((state >> 40) as f64 / f64::from(1 << 23) - 1.0)
        };
        (0..n).map(|_| next()).collect()
    }

    /// [batch, inputs, outputs]: the protocol's layers, odd sizes, rows and columns of one, and two of ResNet-18's shapes.
    const SHAPES: [[usize; 3]; 14] = [
        [128, 784, 256],
        [128, 256, 256],
        [128, 256, 10],
        [96, 784, 256],
        [100, 784, 256],
        [127, 783, 255],
        [129, 301, 77],
        [37, 1030, 65],
        [65, 63, 63],
        [1, 784, 256],
        [1, 1, 1],
        [3, 5, 2],
        [64, 576, 1024],
        [512, 4608, 16],
    ];

    /// The three products of a linear layer: y = b + x Wᵀ, dx = dy W, dW = dyᵀ x.
    fn products<T: Real>([batch, inputs, outputs]: [usize; 3], threads: usize) -> [Vec<T>; 3] {
        let (x, w, dy) =
            (numbers::<T>(batch * inputs, 1), numbers::<T>(outputs * inputs, 2), numbers::<T>(batch * outputs, 3));
        let xm = Matrix::new(&x, batch, inputs).unwrap();
        let wm = Matrix::new(&w, outputs, inputs).unwrap();
        let dym = Matrix::new(&dy, batch, outputs).unwrap();
        let mut y = numbers::<T>(batch * outputs, 4);
        let (mut dx, mut dw) = (vec![T::ZERO; x.len()], vec![T::ZERO; w.len()]);
        matmul_on(&mut y, Destination::Add, xm, wm.t(), threads).unwrap();
        matmul_on(&mut dx, Destination::Overwrite, dym, wm, threads).unwrap();
        matmul_on(&mut dw, Destination::Overwrite, dym.t(), xm, threads).unwrap();
        [y, dx, dw]
    }

    fn bits<T: Real>(values: &[T]) -> Vec<u64> {
        values.iter().map(|v| v.to_f64().to_bits()).collect()
    }

    fn same_bits_on_any_number_of_threads<T: Real>() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        for shape in SHAPES {
            let one = products::<T>(shape, 1);
            for threads in [2, 3, 4, 7] {
                let many = pool.install(|| products::<T>(shape, threads));
                for (name, (one, many)) in ["y", "dx", "dw"].into_iter().zip(one.iter().zip(&many)) {
                    assert!(bits(one) == bits(many), "{name} of {shape:?} differs on {threads} threads");
                }
            }
        }
    }

    #[test]
    fn same_bits_on_any_number_of_threads_f32() {
        same_bits_on_any_number_of_threads::<f32>();
    }

    #[test]
    fn same_bits_on_any_number_of_threads_f64() {
        same_bits_on_any_number_of_threads::<f64>();
    }

    #[test]
    fn products_are_those_of_three_loops() {
        for shape @ [batch, inputs, outputs] in [[1, 1, 1], [3, 5, 2], [17, 33, 9], [65, 63, 66]] {
            let [y, dx, dw] = products::<f64>(shape, 1);
            let (x, w, dy, b) = (
                numbers::<f64>(batch * inputs, 1),
                numbers::<f64>(outputs * inputs, 2),
                numbers::<f64>(batch * outputs, 3),
                numbers::<f64>(batch * outputs, 4),
            );
            // Sums of at most 66 products below 1 in f64: errors below 66² · 2⁻⁵³ < 1e-12.
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b} {shape:?}");
            for r in 0..batch {
                for o in 0..outputs {
                    let sum: f64 = (0..inputs).map(|i| x[r * inputs + i] * w[o * inputs + i]).sum();
                    close(y[r * outputs + o], b[r * outputs + o] + sum);
                }
                for i in 0..inputs {
                    close(dx[r * inputs + i], (0..outputs).map(|o| dy[r * outputs + o] * w[o * inputs + i]).sum());
                }
            }
            for o in 0..outputs {
                for i in 0..inputs {
                    close(dw[o * inputs + i], (0..batch).map(|r| dy[r * outputs + o] * x[r * inputs + i]).sum());
                }
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let data = [1f32; 6];
        assert!(Matrix::new(&data, 2, 4).is_err());
        assert!(Matrix::new(&data, usize::MAX, 2).is_err());
        let m = Matrix::new(&data, 2, 3).unwrap();
        let mut dst = [0f32; 4];
        assert!(matmul(&mut dst, Destination::Overwrite, m, m).is_err());
        assert!(matmul(&mut dst[..3], Destination::Overwrite, m, m.t()).is_err());
        assert!(matmul(&mut dst, Destination::Overwrite, m, m.t()).is_ok());
        assert_eq!(dst, [3.0; 4]);
    }

    #[test]
    fn a_product_over_nothing_is_zero_or_the_old_value() {
        let nothing: [f64; 0] = [];
        let (a, b) = (Matrix::new(&nothing, 2, 0).unwrap(), Matrix::new(&nothing, 0, 3).unwrap());
        let mut dst = [5.0; 6];
        matmul(&mut dst, Destination::Add, a, b).unwrap();
        assert_eq!(dst, [5.0; 6]);
        matmul(&mut dst, Destination::Overwrite, a, b).unwrap();
        assert_eq!(dst, [0.0; 6]);
    }
}
