//! What a network's layers ask of a device beyond kernels of their own: convolutions and matrix products, which NVIDIA's libraries do better.
//!
//! These are descriptions: shapes, types of numbers, and which algorithms a convolution may take. With the feature `cuda`, `Libraries` carries them out; in tests
//! the host does, by plain loops.

use crate::Result;
use crate::machine::Machine;

/// What numbers are stored as, and what products may do with them. Sums are of single precision in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Math {
    /// `f32`, no factor rounded.
    Single,
    /// `f32`, factors rounded to TF32 where the device has it.
    Tf32,
    /// `bf16`.
    Bf16,
}

/// Which of a convolution's three passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// (x, w) → y.
    Forward,
    /// (dy, w) → dx.
    BackwardData,
    /// (x, dy) → dw.
    BackwardFilter,
}

/// A convolution without bias over channels-last images: x \[images, height, width, inputs\], w \[outputs, kernel, kernel, inputs\].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Images of the batch.
    pub images: usize,
    /// Rows of x.
    pub height: usize,
    /// Columns of x.
    pub width: usize,
    /// Channels of x.
    pub inputs: usize,
    /// Channels of y.
    pub outputs: usize,
    /// Rows and columns of w.
    pub kernel: usize,
    /// Pixels of x from one of y to the next.
    pub stride: usize,
    /// Rows and columns of zeros around x.
    pub padding: usize,
    /// Its numbers.
    pub math: Math,
}

impl Convolution {
    /// Rows of y.
    #[must_use]
    pub fn output_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Columns of y.
    #[must_use]
    pub fn output_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }

    /// Rows of y as a matrix of its channels: images × rows × columns.
    #[must_use]
    pub fn output_rows(&self) -> usize {
        self.images * self.output_height() * self.output_width()
    }

    /// Numbers of x.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.images * self.height * self.width * self.inputs
    }

    /// Numbers of y.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.output_rows() * self.outputs
    }

    /// Numbers of w.
    #[must_use]
    pub fn filter_len(&self) -> usize {
        self.outputs * self.kernel * self.kernel * self.inputs
    }
}

/// cuDNN's algorithms that a convolution may take: those that give the same bits every time, and know channels-last images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `IMPLICIT_PRECOMP_GEMM`.
    PrecomputedGemm,
    /// `IMPLICIT_GEMM`: slower, and without work memory.
    ImplicitGemm,
    /// `ALGO_1` of a backward pass; `ALGO_0` and `ALGO_3` add up in any order.
    One,
}

/// The algorithms of a pass, the first that the library has for a shape being taken. Nothing is measured: the choice depends on the library's version and the shape alone.
#[must_use]
pub fn algorithms(direction: Direction) -> &'static [Algorithm] {
    match direction {
        Direction::Forward => &[Algorithm::PrecomputedGemm, Algorithm::ImplicitGemm],
        Direction::BackwardData | Direction::BackwardFilter => &[Algorithm::One],
    }
}

/// c \[rows, columns\] = op(a) · op(b), all row after row; a and b are stored as [`Math`] says, c as `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Product {
    /// Rows of c.
    pub rows: usize,
    /// Columns of c.
    pub columns: usize,
    /// Columns of op(a), rows of op(b).
    pub inner: usize,
    /// Whether a is stored \[inner, rows\].
    pub transpose_a: bool,
    /// Whether b is stored \[columns, inner\].
    pub transpose_b: bool,
    /// The numbers of a and b.
    pub math: Math,
}

/// A machine that has convolutions and matrix products.
pub trait Engine: Machine {
    /// One pass of a convolution: two operands, then the result, which is overwritten, in the order that [`Direction`] has them.
    ///
    /// Addresses are trusted as a kernel's words are.
    ///
    /// # Errors
    /// [`crate::Error::Library`] with what cuDNN says.
    fn convolve(&mut self, shape: &Convolution, direction: Direction, operands: [u64; 3]) -> Result<()>;

    /// A matrix product: a, b, and c, which is overwritten.
    ///
    /// # Errors
    /// [`crate::Error::Library`] with what cuBLAS says.
    fn multiply(&mut self, product: &Product, operands: [u64; 3]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_window() {
        let shape = Convolution {
            images: 2,
            height: 9,
            width: 7,
            inputs: 3,
            outputs: 5,
            kernel: 3,
            stride: 2,
            padding: 1,
            math: Math::Single,
        };
        // (9 + 2 − 3) / 2 + 1 and (7 + 2 − 3) / 2 + 1.
        assert_eq!((shape.output_height(), shape.output_width()), (5, 4));
        assert_eq!((shape.input_len(), shape.output_len(), shape.filter_len()), (378, 200, 135));
    }
}
