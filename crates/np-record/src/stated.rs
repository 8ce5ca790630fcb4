//! What an experiment fixes before its runs: the number that they are judged by, and the pairs of arms that are tested on it.
//!
//! Neither is part of a run or of its id. What is compared beyond them is exploratory, see [`crate::compare::Compared`].

use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use crate::compare::{Measure, Metric};

/// The primary outcome of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatedOutcome {
    /// What is measured.
    pub metric: EpochMetric,
    /// Over how many epochs at the end of a training it is averaged, at least 1.
    pub last_epochs: NonZeroUsize,
    /// Which values are better.
    pub direction: Direction,
}

/// A number that every epoch has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EpochMetric {
    /// Share of the test split that is classified rightly.
    TestAccuracy,
    /// Cross-entropy on the test split, in nats.
    TestLoss,
    /// Cross-entropy on the training examples as they were trained on, in nats.
    TrainLoss,
    /// Share of training examples that were classified rightly.
    TrainAccuracy,
}

/// Which values of a number are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The larger ones.
    Higher,
    /// The smaller ones.
    Lower,
}

/// A pair of arms that is tested on the primary outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypothesis {
    /// The arm in question, the minuend of every difference.
    pub arm: String,
    /// The arm that it is compared with.
    pub against: String,
    /// A name or a short sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl StatedOutcome {
    /// As a number that comparisons are made by.
    #[must_use]
    pub fn measure(self) -> Measure {
        Measure::late(self.metric, self.last_epochs)
    }
}

impl EpochMetric {
    /// The name in an experiment file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TestAccuracy => "test_accuracy",
            Self::TestLoss => "test_loss",
            Self::TrainLoss => "train_loss",
            Self::TrainAccuracy => "train_accuracy",
        }
    }

    /// The name in a sentence.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::TestAccuracy => "test accuracy",
            Self::TestLoss => "test loss",
            Self::TrainLoss => "training loss",
            Self::TrainAccuracy => "training accuracy",
        }
    }

    /// As the metric of a run's last epoch.
    #[must_use]
    pub fn at_the_end(self) -> Metric {
        match self {
            Self::TestAccuracy => Metric::FinalTestAccuracy,
            Self::TestLoss => Metric::FinalTestLoss,
            Self::TrainLoss => Metric::FinalTrainLoss,
            Self::TrainAccuracy => Metric::FinalTrainAccuracy,
        }
    }

    /// Which of its values are better.
    #[must_use]
    pub fn direction(self) -> Direction {
        if self.at_the_end().higher_is_better() { Direction::Higher } else { Direction::Lower }
    }
}

impl fmt::Display for EpochMetric {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Higher => "higher",
            Self::Lower => "lower",
        })
    }
}

impl Hypothesis {
    /// Whether it is about these two arms, in either order.
    #[must_use]
    pub fn pairs(&self, one: &str, other: &str) -> bool {
        [(one, other), (other, one)].contains(&(self.arm.as_str(), self.against.as_str()))
    }
}
