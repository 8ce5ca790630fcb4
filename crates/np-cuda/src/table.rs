//! Tables that kernels read: the tensors' addresses, their division into pieces, and numbers.
//!
//! What changes from step to step (addresses of gradients, numbers) is in one small [`Table`], which is written and copied to the device in every step. The
//! division into [`pieces`] depends only on the tensors' lengths and is copied once.

/// Elements of a chunk, the unit of sums. It is the same as on the CPU, because the bits of sums depend on it.
pub const CHUNK: usize = 16 * 1024;

/// Elements of a piece in kernels without sums. Pieces are short, so that all processors of a device finish at about the same time.
pub const PIECE: usize = 4 * 1024;

/// Largest number of buffers of state and scratch in a row.
pub const BUFFERS: usize = 7;

/// Source text that declares `struct Tensor` and `struct Piece`, with elements of the C type `stored` and state of the C type `real`. [`Row::push`] writes the
/// first, [`Table::pieces`] the second.
#[must_use]
pub fn declarations(stored: &str, real: &str) -> String {
    format!(
        "struct Tensor {{
    {stored} *theta;
    const {stored} *gradient;
    {real} *state[{BUFFERS}];
    {real} *direction;
    unsigned long long length;
    unsigned long long arguments;
    const double *numbers;
}};

struct Piece {{
    unsigned int tensor;
    unsigned int number;
}};
"
    )
}

/// Source text for the beginning of a kernel over pieces of `size` elements. It declares the block's `tensor`, and the `start` and `length` of its piece.
#[must_use]
pub fn beginning(size: usize) -> String {
    format!(
        "    const Piece piece = pieces[blockIdx.x];
    const Tensor tensor = tensors[piece.tensor];
    const unsigned long long start = {size}ull * piece.number;
    const unsigned long long left = tensor.length - start;
    const unsigned int length = left < {size}ull ? (unsigned int)left : {size}u;
"
    )
}

/// A tensor's row in the table. Addresses are on the device; 0 stands for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// Address of the parameter.
    pub theta: u64,
    /// Address of the gradient.
    pub gradient: u64,
    /// Addresses of the buffers.
    pub state: [u64; BUFFERS],
    /// Address that directions are written to.
    pub direction: u64,
    /// Number of elements.
    pub length: u64,
    /// Index of the tensor's block of arguments, from 0.
    pub arguments: u64,
    /// Address of the tensor's double-precision numbers on the device.
    pub numbers: u64,
}

impl Row {
    /// Appends the row to `table`, in the layout of `struct Tensor` of [`declarations`].
    pub fn push(&self, table: &mut Table) {
        table.u64(self.theta);
        table.u64(self.gradient);
        self.state.iter().for_each(|address| table.u64(*address));
        table.u64(self.direction);
        table.u64(self.length);
        table.u64(self.arguments);
        table.u64(self.numbers);
    }
}

/// A piece of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Index of the tensor's row.
    pub tensor: u32,
    /// Index of the piece in the tensor, from 0.
    pub number: u32,
}

/// The pieces of `size` elements that tensors of `lengths` elements are divided into, in order. An empty tensor has none.
///
/// # Panics
/// If `size` is 0.
pub fn pieces(lengths: &[u64], size: usize) -> impl Iterator<Item = Piece> {
    (0..).zip(lengths).flat_map(move |(tensor, length)| {
        let count = u32::try_from(length.div_ceil(size as u64)).unwrap_or(u32::MAX);
        (0..count).map(move |number| Piece { tensor, number })
    })
}

/// Bytes to be copied to a device. Every [`Table::section`] is aligned for numbers of any type.
#[derive(Debug, Default)]
pub struct Table {
    bytes: Vec<u8>,
}

/// Numbers of any type may begin at multiples of this.
const ALIGNMENT: usize = 16;

impl Table {
    /// Removes all bytes; the memory stays allocated.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Begins a section and returns its offset in bytes, a multiple of 16.
    pub fn section(&mut self) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.bytes.len()
    }

    /// Appends a 64-bit integer: an address or a count.
    pub fn u64(&mut self, x: u64) {
        self.bytes.extend(x.to_ne_bytes());
    }

    /// Appends a 32-bit integer.
    pub fn u32(&mut self, x: u32) {
        self.bytes.extend(x.to_ne_bytes());
    }

    /// Appends `x`, rounded to single precision.
    #[allow(clippy::cast_possible_truncation)]
    pub fn f32(&mut self, x: f64) {
        self.bytes.extend((x as f32).to_ne_bytes());
    }

    /// Appends a number of double precision.
    pub fn f64(&mut self, x: f64) {
        self.bytes.extend(x.to_ne_bytes());
    }

    /// Appends pieces.
    pub fn pieces(&mut self, pieces: impl Iterator<Item = Piece>) {
        for Piece { tensor, number } in pieces {
            self.u32(tensor);
            self.u32(number);
        }
    }

    /// The bytes of the table.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thirteen numbers of eight bytes, in the order of the declaration: what a compiler makes of it on a device of 64 bits.
    #[test]
    fn a_row_is_laid_out_as_its_declaration() {
        let state = [3, 4, 5, 6, 7, 8, 9];
        let row = Row { theta: 1, gradient: 2, state, direction: 10, length: 11, arguments: 12, numbers: 13 };
        let mut table = Table::default();
        table.u32(0xffff_ffff);
        assert_eq!(table.section(), 16);
        row.push(&mut table);
        let (words, rest) = table.bytes()[16..].as_chunks::<8>();
        assert_eq!(words.iter().map(|x| u64::from_ne_bytes(*x)).collect::<Vec<_>>(), (1..=13).collect::<Vec<_>>());
        assert!(rest.is_empty());
        assert_eq!(declarations("float", "float").matches(';').count(), 7 + 2 + 2);
    }

    #[test]
    fn pieces_cover_every_element_once() {
        let lengths = [5, 0, 4, 9];
        let got: Vec<(u32, u32)> = pieces(&lengths, 4).map(|p| (p.tensor, p.number)).collect();
        assert_eq!(got, [(0, 0), (0, 1), (2, 0), (3, 0), (3, 1), (3, 2)]);
    }

    #[test]
    fn numbers_of_single_precision_are_the_nearest() {
        let mut table = Table::default();
        table.f32(0.1);
        table.f64(0.1);
        assert_eq!(table.bytes()[..4], 0.1_f32.to_ne_bytes());
        assert_eq!(table.bytes()[4..], 0.1_f64.to_ne_bytes());
        table.clear();
        assert!(table.bytes().is_empty());
    }
}
