//! Where kernels run: a device, or, in tests, the host.

use crate::Result;

/// Something that has memory with addresses, and runs kernels in the order in which they are asked for.
///
/// Buffers go by their numbers, begin empty, grow, and are kept: what is asked for step after step is not allocated again.
pub trait Machine {
    /// Copies `bytes` to the beginning of a buffer; gives its address. `bytes` may change once this has returned.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64>;

    /// Makes room for so many bytes in a buffer; gives its address. What was in it is lost where it grows.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64>;

    /// Runs `blocks` blocks of `threads` threads of the kernel of this text, whose function is `name` and whose parameters are of eight bytes each: `words`.
    ///
    /// The text is trusted as the text of this program is: it must not go beyond the memory that it is given.
    ///
    /// # Errors
    /// [`crate::Error::Compile`] with what the compiler says; [`crate::Error::Driver`].
    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()>;

    /// `count` numbers of double precision from the beginning of a buffer. This waits until everything that was asked for is done.
    ///
    /// # Errors
    /// [`crate::Error::Driver`]; [`crate::Error::Range`] where there are not as many.
    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>>;
}
