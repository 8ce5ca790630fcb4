//! The numbers that a run can be judged by.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Epoch, Record};

/// A number that a finished run is judged by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Test accuracy after the last epoch.
    #[default]
    FinalTestAccuracy,
    /// Test cross-entropy after the last epoch, in nats.
    FinalTestLoss,
    /// Mean training cross-entropy of the last epoch, in nats.
    FinalTrainLoss,
    /// Training accuracy of the last epoch.
    FinalTrainAccuracy,
    /// The highest test accuracy of any epoch. It is selected on the test split, and so too good on average.
    BestTestAccuracy,
    /// The lowest test cross-entropy of any epoch, in nats. Selected like `BestTestAccuracy`.
    BestTestLoss,
    /// Wall time of all phases of all epochs, in seconds.
    TrainingTime,
}

/// A name that no [`Metric`] has.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no metric `{got}`\nhint: one of {}", Metric::ALL.map(|m| format!("`{m}`")).join(", "))]
pub struct UnknownMetric {
    /// The name given.
    pub got: String,
}

impl Metric {
    /// All of them.
    pub const ALL: [Metric; 7] = [
        Metric::FinalTestAccuracy,
        Metric::FinalTestLoss,
        Metric::FinalTrainLoss,
        Metric::FinalTrainAccuracy,
        Metric::BestTestAccuracy,
        Metric::BestTestLoss,
        Metric::TrainingTime,
    ];

    /// The name on a command line and in JSON (`final-test-accuracy`).
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Metric::FinalTestAccuracy => "final-test-accuracy",
            Metric::FinalTestLoss => "final-test-loss",
            Metric::FinalTrainLoss => "final-train-loss",
            Metric::FinalTrainAccuracy => "final-train-accuracy",
            Metric::BestTestAccuracy => "best-test-accuracy",
            Metric::BestTestLoss => "best-test-loss",
            Metric::TrainingTime => "training-time",
        }
    }

    /// The name in a sentence.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Metric::FinalTestAccuracy => "final test accuracy",
            Metric::FinalTestLoss => "final test loss",
            Metric::FinalTrainLoss => "final training loss",
            Metric::FinalTrainAccuracy => "final training accuracy",
            Metric::BestTestAccuracy => "best test accuracy",
            Metric::BestTestLoss => "best test loss",
            Metric::TrainingTime => "training time",
        }
    }

    /// The unit of a printed value; shares are printed in percent.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Metric::FinalTestAccuracy | Metric::FinalTrainAccuracy | Metric::BestTestAccuracy => "%",
            Metric::FinalTestLoss | Metric::FinalTrainLoss | Metric::BestTestLoss => "nats",
            Metric::TrainingTime => "s",
        }
    }

    /// What a value is multiplied by for print, and its number of decimals.
    pub(crate) fn print(self) -> (f64, usize) {
        match self.unit() {
            "%" => (100.0, 2),
            "s" => (1.0, 1),
            _ => (1.0, 4),
        }
    }

    /// Whether more is better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        self.unit() == "%"
    }

    /// Whether the number itself is a choice made on the test split.
    #[must_use]
    pub fn selects_on_test(self) -> bool {
        matches!(self, Metric::BestTestAccuracy | Metric::BestTestLoss)
    }

    /// The value after an epoch, of which the metric is the last or the best one; `None` for a time.
    #[must_use]
    pub fn of_epoch(self, epoch: &Epoch) -> Option<f64> {
        match self {
            Metric::FinalTestAccuracy | Metric::BestTestAccuracy => Some(epoch.test_accuracy),
            Metric::FinalTestLoss | Metric::BestTestLoss => Some(epoch.test_loss),
            Metric::FinalTrainLoss => Some(epoch.train_loss),
            Metric::FinalTrainAccuracy => Some(epoch.train_accuracy),
            Metric::TrainingTime => None,
        }
    }

    /// The value as print has it, without its unit.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        let (factor, decimals) = self.print();
        format!("{:.decimals$}", value * factor)
    }

    /// The value of `record`; `None` if it has no completed epoch.
    #[must_use]
    pub fn of(self, record: &Record) -> Option<f64> {
        let last = |field: fn(&Epoch) -> f64| record.last().map(field);
        // `f64::max` would pass over a NaN; here the run then counts as one whose value is not finite.
        let extreme = |field: fn(&Epoch) -> f64, choose: fn(f64, f64) -> f64| {
            let values = record.epochs.iter().map(field);
            values.reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { choose(a, b) })
        };
        match self {
            Metric::FinalTestAccuracy => last(|e| e.test_accuracy),
            Metric::FinalTestLoss => last(|e| e.test_loss),
            Metric::FinalTrainLoss => last(|e| e.train_loss),
            Metric::FinalTrainAccuracy => last(|e| e.train_accuracy),
            Metric::BestTestAccuracy => extreme(|e| e.test_accuracy, f64::max),
            Metric::BestTestLoss => extreme(|e| e.test_loss, f64::min),
            Metric::TrainingTime => last(|_| 0.0).map(|_| record.timing.iter().map(crate::Phases::total).sum()),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        Metric::ALL.into_iter().find(|m| m.key() == name).ok_or_else(|| UnknownMetric { got: name.into() })
    }
}
