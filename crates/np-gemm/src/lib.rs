//! Matrix products whose bits are a function of the operands and their shapes alone.
//!
//! [`matmul()`] and [`matmul_here`] compute C ← s·A·B or C ← C + s·A·B over the `gemm` crate, in `f32` and `f64`. `gemm` cuts the inner
//! dimension by the sizes of the caches that it finds, and sums a few shapes in as many lanes as the instruction set has, so that the
//! same product has other bits on another machine. Here the inner dimension is cut first, into pieces that `gemm` never cuts again
//! (`matmul.rs`), and the few shapes are summed in a fixed number of lanes (`dots.rs`).
//!
//! **The order.** A product is fused into its sum, with one rounding. An element of C is
//! - where both operands lie in sequence along the inner dimension k and C has at most 256 elements: sums in 8 lanes (`f64`: 4), blocks of 1024
//!   along k added to C one after another; where C has more elements, but a single row or column: one sum in 64 lanes (`f64`: 32);
//! - else, for k ≤ 2 (not fused) and for a single row or column of C, one sum along k that starts from C;
//! - else pieces of at most 512 along k, each one sum from zero, added to C in order.
//!
//! It holds on every x86-64 CPU with AVX2 and FMA, whether or not it has AVX-512, whatever its caches. Tests hold it to a plain loop that follows
//! this text. On other CPUs `gemm` does not fuse, or has other kernels: the bits are theirs.
//!
//! The only unsafe code is the call of `gemm`.

mod dots;
mod matmul;
mod matrix;

pub use matmul::{Destination, matmul, matmul_here};
pub use matrix::{Matrix, ShapeError};

/// The element types of products: `f32` and `f64`.
pub trait Real:
    sealed::Sealed + Copy + Default + From<u8> + Send + Sync + PartialEq + std::fmt::Debug + 'static
{
    /// Lanes in which [`matmul()`] sums where both operands lie in sequence along the inner dimension.
    const LANES: usize;

    /// a·b + c, rounded once.
    fn fma(self, b: Self, c: Self) -> Self;
    /// a·b.
    fn mul(self, b: Self) -> Self;
    /// a + b.
    fn add(self, b: Self) -> Self;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

macro_rules! real {
    ($t:ident, $lanes:literal) => {
        impl Real for $t {
            const LANES: usize = $lanes;

            #[inline(always)]
            fn fma(self, b: Self, c: Self) -> Self {
                self.mul_add(b, c)
            }

            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self * b
            }

            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self + b
            }
        }
    };
}
real!(f32, 8);
real!(f64, 4);
