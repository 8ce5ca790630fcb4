//! The metrics of a run.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::own::OwnMetric;
use crate::{Direction, Epoch, PlannedRun, Record};

/// A number that finished runs can be compared by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Metric {
    /// Test accuracy after the last epoch. The default.
    #[default]
    FinalTestAccuracy,
    /// Test cross-entropy after the last epoch, in nats.
    FinalTestLoss,
    /// Mean training cross-entropy of the last epoch, in nats.
    FinalTrainLoss,
    /// Training accuracy of the last epoch.
    FinalTrainAccuracy,
    /// The highest test accuracy of all epochs. It is selected on the test split and therefore too high on average.
    BestTestAccuracy,
    /// The lowest test cross-entropy of all epochs, in nats. It is selected on the test split and therefore too low on average.
    BestTestLoss,
    /// Wall time of all phases of all epochs, in seconds.
    TrainingTime,
    /// A metric of a program's own task, after the last epoch.
    FinalOwn(OwnMetric),
}

/// The error of an unknown name of a [`Metric`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("no metric `{got}`")]
pub struct UnknownMetric {
    /// The unknown name.
    pub got: String,
}

impl UnknownMetric {
    /// The names that there are.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("one of {}", Metric::ALL.map(|m| format!("`{m}`")).join(", "))
    }
}

impl Metric {
    /// All metrics, except those of a program's own task.
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
            Metric::FinalOwn(own) => own.key(),
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
            Metric::FinalOwn(own) => own.title(),
        }
    }

    /// The name in a sentence, with the unit if it has one: `final test loss (nats)`.
    #[must_use]
    pub fn titled(self) -> String {
        with_unit(self.title(), self.unit())
    }

    /// The unit of a printed value; accuracies are printed in percent. Empty for metrics of a program's own task, whose names contain it.
    #[must_use]
    pub fn unit(self) -> &'static str {
        match self {
            Metric::FinalTestAccuracy | Metric::FinalTrainAccuracy | Metric::BestTestAccuracy => "%",
            Metric::FinalTestLoss | Metric::FinalTrainLoss | Metric::BestTestLoss => "nats",
            Metric::TrainingTime => "s",
            Metric::FinalOwn(_) => "",
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

    /// Whether higher values are better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        match self {
            Metric::FinalOwn(own) => own.direction() == Direction::Higher,
            _ => self.is_share(),
        }
    }

    /// Whether it is a share of 1, printed in percent.
    pub(crate) fn is_share(self) -> bool {
        self.unit() == "%"
    }

    /// Whether its value is selected on the test split.
    #[must_use]
    pub fn selects_on_test(self) -> bool {
        matches!(self, Metric::BestTestAccuracy | Metric::BestTestLoss)
    }

    /// The value after one epoch. The metric is the last or the best of these. `None` for a time, for a metric that the task does not measure, and for one on
    /// the test split if the epoch was not evaluated.
    #[must_use]
    pub fn of_epoch(self, epoch: &Epoch) -> Option<f64> {
        match self {
            Metric::FinalTestAccuracy | Metric::BestTestAccuracy => epoch.test_accuracy,
            Metric::FinalTestLoss | Metric::BestTestLoss => epoch.test_loss,
            Metric::FinalTrainLoss => Some(epoch.train_loss),
            Metric::FinalTrainAccuracy => epoch.train_accuracy,
            Metric::TrainingTime => None,
            Metric::FinalOwn(own) => epoch.metrics.get(own.name()).copied(),
        }
    }

    /// Whether the task of these runs measures it: `false` only if there are completed epochs and none of them has it.
    #[must_use]
    pub fn is_measured(self, runs: &[(PlannedRun, Option<Record>)]) -> bool {
        let mut epochs =
            runs.iter().filter_map(|(_, record)| record.as_ref()).flat_map(|record| &record.epochs).peekable();
        self == Metric::TrainingTime || epochs.peek().is_none() || epochs.any(|epoch| self.of_epoch(epoch).is_some())
    }

    /// A printed value, without its unit.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        let (factor, decimals) = self.print();
        format!("{:.decimals$}", value * factor)
    }

    /// The value of a record. `None` if it has no completed epoch, if its task does not measure it, or if its last epoch was not evaluated. The last
    /// epoch of a finished training is always evaluated.
    #[must_use]
    pub fn of(self, record: &Record) -> Option<f64> {
        // `f64::max` would pass over a NaN; here the run then counts as one whose value is not finite. Epochs that were not evaluated are passed over.
        let extreme = |choose: fn(f64, f64) -> f64| {
            let values = record.epochs.iter().filter_map(|epoch| self.of_epoch(epoch));
            values.reduce(|a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { choose(a, b) })
        };
        match self {
            Metric::BestTestAccuracy => extreme(f64::max),
            Metric::BestTestLoss => extreme(f64::min),
            Metric::TrainingTime => record.last().map(|_| record.timing.iter().map(crate::Phases::total).sum()),
            _ => record.last().and_then(|last| self.of_epoch(last)),
        }
    }
}

/// A title with its unit in parentheses, `final test loss (nats)`; the title alone if the unit is empty.
#[must_use]
pub fn with_unit(title: &str, unit: &str) -> String {
    if unit.is_empty() { title.to_owned() } else { format!("{title} ({unit})") }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.key())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(de::Error::custom)
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
