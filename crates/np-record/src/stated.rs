//! What an experiment fixes before its runs: its primary outcome, and its hypotheses, the pairs of arms that are tested on this outcome.
//!
//! Neither is part of a run's id. All other comparisons are exploratory, see [`crate::compare::Compared`].

use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize, Serializer, de};

use crate::compare::{Measure, Metric};
use crate::own::OwnMetric;

/// The primary outcome of an experiment: the number that its runs are judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct StatedOutcome {
    /// The metric.
    pub metric: EpochMetric,
    /// Number of epochs at the end of a run over which it is averaged.
    pub last_epochs: NonZeroUsize,
    /// Whether higher or lower values are better.
    pub direction: Direction,
}

/// An outcome as it is written: a metric of a task's own is known by its name, and the direction beside it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    metric: String,
    last_epochs: NonZeroUsize,
    direction: Direction,
}

impl TryFrom<Written> for StatedOutcome {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { metric, last_epochs, direction } = written;
        let own = || OwnMetric::new(&metric, direction).map(EpochMetric::Own);
        let metric = EpochMetric::named(&metric).or_else(own).ok_or_else(|| format!("no metric can be `{metric}`"))?;
        Ok(Self { metric, last_epochs, direction })
    }
}

/// A metric that is measured in every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpochMetric {
    /// Accuracy on the test split, 0 to 1.
    TestAccuracy,
    /// Loss on the test split (cross-entropy in nats).
    TestLoss,
    /// Mean loss of the training batches, with dropout and before each update (cross-entropy in nats).
    TrainLoss,
    /// Accuracy on the training batches, 0 to 1, measured like `TrainLoss`.
    TrainAccuracy,
    /// A metric of a program's own task.
    Own(OwnMetric),
}

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Higher ones.
    Higher,
    /// Lower ones.
    Lower,
}

/// A pair of arms that is tested on the primary outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hypothesis {
    /// The arm in question; differences are `arm` − `against`.
    pub arm: String,
    /// The arm that it is compared with.
    pub against: String,
    /// A name or short sentence, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl StatedOutcome {
    /// The measure that comparisons by this outcome use.
    #[must_use]
    pub fn measure(self) -> Measure {
        Measure::late(self.metric, self.last_epochs)
    }
}

impl EpochMetric {
    /// The metrics of all tasks, without those of a program's own.
    pub const ALL: [Self; 4] = [Self::TestAccuracy, Self::TestLoss, Self::TrainLoss, Self::TrainAccuracy];

    /// The metric of [`EpochMetric::ALL`] with this name; `None` if there is none.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.key() == name)
    }

    /// The name in an experiment file.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::TestAccuracy => "test_accuracy",
            Self::TestLoss => "test_loss",
            Self::TrainLoss => "train_loss",
            Self::TrainAccuracy => "train_accuracy",
            Self::Own(own) => own.name(),
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
            Self::Own(own) => own.title().trim_start_matches("final "),
        }
    }

    /// Its value in the last epoch of a run, as a [`Metric`].
    #[must_use]
    pub fn at_the_end(self) -> Metric {
        match self {
            Self::TestAccuracy => Metric::FinalTestAccuracy,
            Self::TestLoss => Metric::FinalTestLoss,
            Self::TrainLoss => Metric::FinalTrainLoss,
            Self::TrainAccuracy => Metric::FinalTrainAccuracy,
            Self::Own(own) => Metric::FinalOwn(own),
        }
    }

    /// Whether higher or lower values are better.
    #[must_use]
    pub fn direction(self) -> Direction {
        if self.at_the_end().higher_is_better() { Direction::Higher } else { Direction::Lower }
    }
}

impl Serialize for EpochMetric {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.key())
    }
}

/// Deserialised from its name. A metric of a program's own task needs a direction and can only be read as part of a [`StatedOutcome`].
impl<'de> Deserialize<'de> for EpochMetric {
    fn deserialize<D: de::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        const NAMES: [&str; 4] = ["test_accuracy", "test_loss", "train_loss", "train_accuracy"];
        let name = String::deserialize(input)?;
        Self::named(&name).ok_or_else(|| de::Error::unknown_variant(&name, &NAMES))
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
    /// Whether it compares these two arms, in either order.
    #[must_use]
    pub fn pairs(&self, one: &str, other: &str) -> bool {
        [(one, other), (other, one)].contains(&(self.arm.as_str(), self.against.as_str()))
    }
}
