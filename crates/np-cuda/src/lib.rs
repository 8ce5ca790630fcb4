//! Kernels for CUDA devices: compiled from source text at run time (NVRTC), and launched once for all
//! tensors of a model.
//!
//! A launch works on a [table] of tensors, which are divided into pieces of a fixed length. Whatever the
//! number of tensors, it is one launch, after one small copy of addresses and numbers to the device. Sums
//! are computed in fixed chunks, in the CPU's order of additions ([sums]). Functions that wait for the
//! device say so. Buffers grow to the size needed and are then reused.
//!
//! For the layers of networks there are also convolutions by cuDNN and matrix products by cuBLAS
//! ([engine], `Libraries`), memory at a fixed address (`Arena`), and launches that are captured once and
//! replayed (`Graph`). An optimizer's steps that repeat their launches are replayed too ([replay]).
//!
//! A [machine] copies data, compiles kernels and launches them. With the feature `cuda`, `Queue` is one on
//! a stream of candle's, and `device` lists the devices. All `unsafe` code for devices is in this crate.
//! Without the feature there are only the tables and the source text of kernels, which are tested on any
//! machine.

#[cfg(feature = "cuda")]
mod arena;
#[cfg(feature = "cuda")]
mod descriptors;
#[cfg(feature = "cuda")]
pub mod device;
pub mod engine;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(feature = "cuda")]
mod launch;
#[cfg(feature = "cuda")]
mod libraries;
pub mod machine;
pub mod replay;
pub mod sums;
pub mod table;

#[cfg(feature = "cuda")]
pub use arena::{Arena, memory};
#[cfg(feature = "cuda")]
pub use graph::Graph;
#[cfg(feature = "cuda")]
pub use launch::{Graphs, Kept, Queue, address};
#[cfg(feature = "cuda")]
pub use libraries::{CONVOLUTION_WORKSPACE, Libraries, PRODUCT_WORKSPACE};
pub use replay::Launching;

/// An error of a device, its driver, its libraries or its compiler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel does not compile.
    #[error("the kernel `{name}` does not compile: {log}")]
    Compile {
        /// Name of the kernel's function.
        name: String,
        /// The compiler's output.
        log: String,
    },
    /// An error of the CUDA driver.
    #[error("the CUDA driver refused to {what}: {why}")]
    Driver {
        /// The requested action.
        what: &'static str,
        /// The driver's message.
        why: String,
    },
    /// An error of cuDNN or cuBLAS.
    #[error("could not {what}: {why}")]
    Library {
        /// The requested action.
        what: &'static str,
        /// The library's message.
        why: String,
    },
    /// A range that exceeds a tensor or a buffer.
    #[error("elements {start} to {end} of a tensor of {len}")]
    Range {
        /// First element of the range.
        start: usize,
        /// End of the range, not included.
        end: usize,
        /// Number of elements.
        len: usize,
    },
}

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;
