//! Matrix products whose bits depend only on the operands and their shapes.
//!
//! [`matmul()`] and [`matmul_here`] compute C ← s·A·B or C ← C + s·A·B with the `gemm` crate, in `f32` and `f64`. `gemm` splits the inner
//! dimension by the sizes of the CPU's caches, and sums products of some shapes in as many lanes as the instruction set has, so that the
//! same product has other bits on another machine. Here the inner dimension is split beforehand, into pieces that `gemm` does not split
//! (`matmul.rs`), and products of those shapes are summed in a fixed number of lanes (`dots.rs`).
//!
//! **Order of summation.** Products are added with fused multiply–add, unless stated otherwise. k is the inner dimension; an operand is
//! contiguous along k if its elements along k are adjacent in memory. An element of C is
//! - if both operands are contiguous along k and C has at most 256 elements: a sum in 8 lanes (`f64`: 4) for each block of 1024 along k, added
//!   to C one after another; if C has more elements, but a single row or column: one sum in 64 lanes (`f64`: 32);
//! - else, for k ≤ 2 (not fused) and for a single row or column of C: one sum along k that starts from C;
//! - else: a sum from zero for each piece of at most 512 along k, added to C in order.
//!
//! This holds on every x86-64 CPU with AVX2 and FMA, with or without AVX-512, whatever its caches. Tests compare with a plain loop in this
//! order. On other CPUs `gemm` does not fuse, or has other kernels, and the bits may differ.
//!
//! The only unsafe code is the call of `gemm`.

mod dots;
mod matmul;
mod matrix;

pub use matmul::{Destination, matmul, matmul_here};
pub use matrix::{Matrix, ShapeError};

/// The element types of products, `f32` and `f64`. The trait is sealed.
pub trait Real:
    sealed::Sealed + Copy + Default + From<u8> + Send + Sync + PartialEq + std::fmt::Debug + 'static
{
    /// Number of lanes in which [`matmul()`] sums if both operands are contiguous along the inner dimension: 8 for `f32`, 4 for `f64`.
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
