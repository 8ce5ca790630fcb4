//! The layers that models are built from: parameters and shape checks here, arithmetic in the crate's kernels.

mod activation;
mod batch_norm;
mod conv2d;
mod linear;
mod window;

pub use activation::{ReluDropout, relu};
pub use batch_norm::{Activation, BatchNorm2d};
pub use conv2d::Conv2d;
pub use linear::{Linear, MAX_PARAMETERS};
pub use window::Window;
