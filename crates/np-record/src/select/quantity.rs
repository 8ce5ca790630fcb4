//! The quantity that configurations are selected by: the accuracy, or the loss for a task without accuracy.

use serde::Serialize;

use crate::compare::Metric;
use crate::{PlannedRun, Record};

/// The quantity that configurations are selected by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The accuracy; higher is better. The default.
    #[default]
    Accuracy,
    /// The loss, for runs without accuracy; lower is better.
    Loss,
}

impl Quantity {
    /// That of some runs.
    pub(super) fn of(runs: &[(PlannedRun, Option<Record>)]) -> Self {
        if Metric::FinalTestAccuracy.is_measured(runs) { Self::Accuracy } else { Self::Loss }
    }

    /// The name in a sentence.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Loss => "loss",
        }
    }

    /// Serde asks by reference.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    pub(super) fn is_accuracy(&self) -> bool {
        *self == Self::Accuracy
    }
}
