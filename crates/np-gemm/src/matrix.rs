//! A matrix over a slice, and the error of sizes that do not fit.

use std::ops::Range;

/// Sizes that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// The length of the slice is not the number of elements of the matrix.
    #[error("a matrix of {rows} × {cols} over {len} elements")]
    Elements {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Elements of the slice.
        len: usize,
    },
    /// The sizes of operands and destination do not fit a product.
    #[error("a product of {} × {} and {} × {} into {len} elements", lhs.0, lhs.1, rhs.0, rhs.1)]
    Product {
        /// Rows and columns of the left operand.
        lhs: (usize, usize),
        /// Rows and columns of the right operand.
        rhs: (usize, usize),
        /// Elements of the destination.
        len: usize,
    },
    /// A range of rows that exceeds the matrix.
    #[error("rows {} to {} of a matrix of {rows} rows", range.start, range.end)]
    Rows {
        /// The requested rows.
        range: Range<usize>,
        /// Rows of the matrix.
        rows: usize,
    },
}

/// A view of a slice as a matrix: row-major, or the transpose of a row-major one.
///
/// Invariant: element (r, c) with r < rows and c < cols is `data[r · row_stride + c · col_stride]`, within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A row-major matrix of `rows` × `cols` elements.
    ///
    /// # Errors
    /// [`ShapeError::Elements`] if `data` has another number of elements.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self, ShapeError> {
        if rows.checked_mul(cols) != Some(data.len()) {
            return Err(ShapeError::Elements { rows, cols, len: data.len() });
        }
        Ok(Self { data, rows, cols, row_stride: cols, col_stride: 1 })
    }

    /// The transpose, as a view of the same elements.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            data: self.data,
        }
    }

    /// A range of rows, as a view of the same elements.
    ///
    /// # Errors
    /// [`ShapeError::Rows`] if the range exceeds the matrix.
    pub fn subrows(self, range: Range<usize>) -> Result<Self, ShapeError> {
        if range.start > range.end || range.end > self.rows {
            return Err(ShapeError::Rows { range, rows: self.rows });
        }
        // A matrix without elements keeps its (empty) slice.
        let from = (range.start * self.row_stride).min(self.data.len());
        Ok(Self { data: &self.data[from..], rows: range.len(), ..self })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Element (r, c).
    #[inline(always)]
    pub(crate) fn at(&self, r: usize, c: usize) -> T {
        self.data[r * self.row_stride + c * self.col_stride]
    }

    /// Row r, of a matrix whose rows lie in sequence.
    #[inline(always)]
    pub(crate) fn row(&self, r: usize) -> &'a [T] {
        debug_assert_eq!(self.col_stride, 1);
        &self.data[r * self.row_stride..][..self.cols]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let data = [1f32; 6];
        assert!(Matrix::new(&data, 2, 4).is_err());
        assert!(Matrix::new(&data, usize::MAX, 2).is_err());
        let m = Matrix::new(&data, 2, 3).unwrap();
        assert_eq!(m.subrows(1..3).unwrap_err().to_string(), "rows 1 to 3 of a matrix of 2 rows");
        assert_eq!((m.t().rows(), m.t().cols()), (3, 2));
    }

    #[test]
    fn rows_of_a_transpose_are_columns() {
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let t = Matrix::new(&data, 2, 3).unwrap().t().subrows(1..3).unwrap();
        assert_eq!([t.at(0, 0), t.at(0, 1), t.at(1, 0), t.at(1, 1)], [2.0, 5.0, 3.0, 6.0]);
        let nothing = Matrix::new(&data[..0], 0, 3).unwrap();
        assert_eq!(nothing.subrows(0..0).unwrap().rows(), 0);
    }
}
