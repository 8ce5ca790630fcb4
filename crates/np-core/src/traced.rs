//! Formulas as expressions, as [`Rule::trace`](crate::Rule::trace) and [`OptimizerConfig::trace`](crate::OptimizerConfig::trace) record them. They are
//! those of the crate `np-trace`.

#[doc(inline)]
pub use np_trace::{Expression, Node, Outcome, Traced};

/// CUDA kernels that are generated from expressions.
pub mod cuda {
    #[doc(inline)]
    pub use np_trace::cuda::{NAME, Storage};
}
