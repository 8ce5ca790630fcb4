//! What configurations are judged by: the accuracy, or where a task has none, the loss.

use serde::Serialize;

use crate::compare::Metric;
use crate::{PlannedRun, Record};

/// What configurations are judged by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// The accuracy: the highest is the best.
    #[default]
    Accuracy,
    /// The loss, of runs that have no accuracy: the lowest is the best.
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
