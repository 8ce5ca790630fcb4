//! What a run computes on, and how exactly: `train.device` and `train.precision`.
//!
//! Both decide bits, so both are part of a run's id, but for the CPU's, whose ids are those of before there was a choice. Which devices there are is
//! [`crate::gpu`]'s to say.

use np_core::{OptimizerConfig, StepInput};
pub use np_models::cuda::Precision;
use serde::{Deserialize, Serialize};

use crate::config::OutOfRange;

/// What computes a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The CPU, in single precision: the reference
    #[default]
    Cpu,
    /// A CUDA GPU, for an `np` that was built with the feature `cuda`
    #[serde(alias = "gpu")]
    #[value(alias = "gpu")]
    Cuda,
}

impl Device {
    /// The name in a configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(crate) fn is_cpu(&self) -> bool {
        *self == Self::Cpu
    }

    /// The precision that a run has, of the one that is written: on a GPU [`Precision::Tf32`] if none is. On the CPU there is no choice.
    #[must_use]
    pub fn precision(self, written: Option<Precision>) -> Option<Precision> {
        match self {
            Self::Cpu => written,
            Self::Cuda => Some(written.unwrap_or(Precision::Tf32)),
        }
    }

    /// Whether the device has this precision.
    pub(crate) fn has(self, precision: Option<Precision>) -> Result<(), OutOfRange> {
        match (self, precision) {
            (Self::Cpu, Some(precision)) => Err(OutOfRange {
                key: "train.precision".into(),
                expected: "none (`null`) on the CPU, which has single precision alone, or `train.device: cuda`".into(),
                got: precision.name().into(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether an optimizer can have on it what its steps need.
    pub(crate) fn steps(self, optimizer: &OptimizerConfig, input: StepInput) -> Result<(), OutOfRange> {
        let lacks = match (self, input) {
            (Self::Cpu, _) | (_, StepInput::Gradients) => return Ok(()),
            (_, StepInput::LayerStatistics) => "keeps no records of its layers",
            _ => "evaluates a batch once",
        };
        let kind = optimizer.kind();
        Err(OutOfRange {
            key: format!("optimizer.{kind}"),
            expected: format!(
                "another optimizer on `{}`, where a model {lacks} and `{kind}` wants more, or `train.device: cpu`",
                self.key()
            ),
            got: kind.into(),
        })
    }
}
