//! Tables that kernels read: which tensors there are, where each is, how they are cut into pieces, and numbers.
//!
//! What changes from step to step (addresses of gradients, numbers) is one small [`Table`] of bytes, written anew and copied to the device in every step. How tensors
//! are cut depends on their lengths alone: those [`pieces`] are copied once.

/// Elements of a chunk, in which sums are added up: the CPU's, whose bits depend on it.
pub const CHUNK: usize = 16 * 1024;

/// Elements of a piece where nothing is summed: short enough that all processors of a device end together.
pub const PIECE: usize = 4 * 1024;

/// Most buffers of state and scratch that a row has room for.
pub const BUFFERS: usize = 7;

/// `struct Tensor` and `struct Piece` of a kernel's text, with elements stored as `stored` and state as `real`: [`Row::push`] writes the first, [`pieces`] gives
/// the second.
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

/// The beginning of a kernel's function over pieces of `size` elements: `tensor`, where its part of it has its `start`, and the `length` of that.
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

/// A tensor's row: addresses on the device, 0 for what there is none of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Row {
    /// The parameter's first element.
    pub theta: u64,
    /// The gradient's.
    pub gradient: u64,
    /// The buffers', as many as there are.
    pub state: [u64; BUFFERS],
    /// Where directions go.
    pub direction: u64,
    /// How many elements.
    pub length: u64,
    /// Which block of arguments is the tensor's, from 0.
    pub arguments: u64,
    /// Numbers of the tensor that are on the device, of double precision.
    pub numbers: u64,
}

impl Row {
    /// Appends the row, as `struct Tensor` of [`declarations`] has it.
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

/// A part of a tensor: `number` pieces of the same length come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The tensor's row.
    pub tensor: u32,
    /// Which of its pieces.
    pub number: u32,
}

/// Tensors of `lengths` cut into pieces of `size`, in order. What is empty has none.
///
/// # Panics
/// If `size` is 0.
pub fn pieces(lengths: &[u64], size: usize) -> impl Iterator<Item = Piece> {
    (0..).zip(lengths).flat_map(move |(tensor, length)| {
        let count = u32::try_from(length.div_ceil(size as u64)).unwrap_or(u32::MAX);
        (0..count).map(move |number| Piece { tensor, number })
    })
}

/// Bytes for the device, in the order of its memory. Every [`Table::section`] begins where numbers of any type may.
#[derive(Debug, Default)]
pub struct Table {
    bytes: Vec<u8>,
}

/// Numbers of any type may begin at multiples of this.
const ALIGNMENT: usize = 16;

impl Table {
    /// Forgets everything; the memory is kept.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Begins a section, and says where.
    pub fn section(&mut self) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        self.bytes.len()
    }

    /// Appends an address or a count.
    pub fn u64(&mut self, x: u64) {
        self.bytes.extend(x.to_ne_bytes());
    }

    /// Appends a count.
    pub fn u32(&mut self, x: u32) {
        self.bytes.extend(x.to_ne_bytes());
    }

    /// Appends a number of single precision, the nearest.
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

    /// All of it.
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
