//! Golden trajectories: replays recorded gradients through an optimizer and compares parameters, state and diagnostics.
//!
//! A golden file is safetensors:
//!
//! | tensor | meaning |
//! |---|---|
//! | `init.NAME` | parameter NAME before the first step |
//! | `grad.T.NAME` | its gradient at step T, from 0; if absent, the parameter has no gradient in that step |
//! | `param.T.NAME` | the parameter after step T |
//! | `state.KIND.NAME` | state after the last step |
//! | `eval.NAME` | the averaged weights for evaluation, after the last step |
//!
//! with metadata `spec` (JSON: the configuration under PyTorch's names, `params` in model order, and for NeuroPlastic `steps_per_epoch`,
//! `epochs`, `lr_decay_per_epoch`) and, for NeuroPlastic, `diagnostics` (JSON: one object an epoch).
//!
//! The tolerance is |Δ| ≤ 1e-10 + 1e-9·|x| in `f64` and |Δ| ≤ 2e-6 + 2e-5·|x| in `f32`.

mod replay;
mod spec;

pub use replay::{Report, Worst, replay, replay_on};

/// Why a file could not be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConformError {
    /// Not a safetensors file.
    #[error("expected a safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    /// An entry of the metadata is absent or cannot be parsed.
    #[error("metadata `{key}`: {reason}")]
    Metadata {
        /// Name of the entry.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The file is of an optimizer that this crate does not have.
    #[error("optimizer: expected one of this crate's, got `{0}`")]
    UnknownOptimizer(String),
    /// A tensor that the metadata require is absent.
    #[error("tensor `{0}`: expected, but not in the file")]
    MissingTensor(String),
    /// An error of the replay itself.
    #[error(transparent)]
    Core(#[from] np_engine::Error),
}

impl From<candle_core::Error> for ConformError {
    fn from(e: candle_core::Error) -> Self {
        Self::Core(e.into())
    }
}
