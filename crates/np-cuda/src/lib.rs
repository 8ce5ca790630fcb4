//! Kernels for CUDA devices beyond candle's own operations: compiled from their text at run time, and
//! launched over all tensors at once.
//!
//! A launch goes over a [table] of tensors, cut into pieces of a fixed length. However many tensors there
//! are, it is one launch, after one small copy of addresses and numbers to the device. Sums are taken in
//! fixed chunks, with the CPU's order of additions ([sums]). Functions that wait for the device say so.
//! Buffers grow to the size needed and are then reused.
//!
//! Layers of networks also need ([engine]) convolutions by cuDNN and matrix products by cuBLAS
//! (`Libraries`), memory that keeps its address (`Arena`), and launches that are captured once and
//! replayed (`Graph`). Steps that launch the same thing again are replayed too ([replay]).
//!
//! A [machine] copies, compiles and launches. With the feature `cuda` there is one on a stream of
//! candle's, `Queue`, and `device` says which devices there are. All `unsafe` code for devices is in
//! this crate. Without the feature there are tables and texts of kernels, which are tested on any
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
    /// cuDNN or cuBLAS refused.
    #[error("could not {what}: {why}")]
    Library {
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
