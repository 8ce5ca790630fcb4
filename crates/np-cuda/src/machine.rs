//! The interface of what kernels run on: a device or, in tests, the host.

use crate::Result;

/// Something that has addressable memory and runs kernels in the order of the calls.
///
/// Its buffers are numbered from 0. They are empty at first, grow to the size needed, and are kept for later calls.
pub trait Machine {
    /// Copies `bytes` to the beginning of a buffer and returns the buffer's address. `bytes` may change after the call.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    fn upload(&mut self, buffer: usize, bytes: &[u8]) -> Result<u64>;

    /// Makes a buffer at least `bytes` bytes large and returns its address. Its contents are lost if it grows.
    ///
    /// # Errors
    /// [`crate::Error::Driver`].
    fn reserve(&mut self, buffer: usize, bytes: usize) -> Result<u64>;

    /// Runs the kernel with source `text` and function `name` on `blocks` blocks of `threads` threads. `words` are its parameters, of eight bytes each.
    ///
    /// The kernel is trusted: it must access only memory that its parameters allow.
    ///
    /// # Errors
    /// [`crate::Error::Compile`]; [`crate::Error::Driver`].
    fn launch(&mut self, text: &str, name: &str, blocks: usize, threads: u32, words: &[u64]) -> Result<()>;

    /// The first `count` double-precision numbers of a buffer. Waits until all queued work is done.
    ///
    /// # Errors
    /// [`crate::Error::Driver`]; [`crate::Error::Range`] if the buffer is smaller.
    fn numbers(&mut self, buffer: usize, count: usize) -> Result<Vec<f64>>;
}
