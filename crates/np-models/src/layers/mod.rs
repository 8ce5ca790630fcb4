//! The layers that models are built from: parameters and shape checks here, arithmetic in the crate's kernels.

mod activation;
mod linear;

pub use activation::{ReluDropout, relu};
pub use linear::{Linear, MAX_PARAMETERS};
