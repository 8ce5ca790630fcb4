//! Kernels for CUDA devices beyond candle's own operations: compiled from their text at run time, and
//! launched over all tensors at once.
//!
//! A launch goes over a [table] of tensors, cut into pieces of a fixed length. However many tensors there
//! are, it is one launch, after one small copy of addresses and numbers to the device. Sums are taken in
//! fixed chunks, with the CPU's order of additions ([sums]). Functions that wait for the device say so.
//! Buffers grow to the size needed and are then reused.
//!
//! A [machine] copies, compiles and launches. With the feature `cuda` there is one on a stream of
//! candle's, `Queue`: the one place with `unsafe` code for the device. Without the feature there are
//! tables and texts of kernels, which are tested on any machine.

#[cfg(feature = "cuda")]
mod launch;
pub mod machine;
pub mod sums;
pub mod table;

#[cfg(feature = "cuda")]
pub use launch::{Kept, Queue, address};

/// What a device, its driver or its compiler has refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a kernel does not compile.
    #[error("the kernel `{name}` does not compile: {log}")]
    Compile {
        /// Its function.
        name: String,
        /// What the compiler says.
        log: String,
    },
    /// The driver refused.
    #[error("the CUDA driver refused to {what}: {why}")]
    Driver {
        /// What it was asked for.
        what: &'static str,
        /// What it says.
        why: String,
    },
    /// Elements that a tensor does not have.
    #[error("elements {start} to {end} of a tensor of {len}")]
    Range {
        /// First element asked for.
        start: usize,
        /// One past the last.
        end: usize,
        /// How many there are.
        len: usize,
    },
}

/// What gives an [`Error`] if it fails.
pub type Result<T> = std::result::Result<T, Error>;
