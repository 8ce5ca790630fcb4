//! A metric, together with the number of last epochs over which it is averaged.

use std::fmt;
use std::num::NonZeroUsize;

use serde::{Serialize, Serializer};

use super::{Metric, with_unit};
use crate::stated::EpochMetric;
use crate::{Epoch, Plan, PlannedRun, Record, stats};

/// The number that runs are compared by: a [`Metric`], or the mean of an [`EpochMetric`] over the last epochs of a run.
///
/// ```
/// use np_record::EpochMetric;
/// use np_record::compare::{Measure, Metric};
///
/// let late = Measure::late(EpochMetric::TestAccuracy, 5.try_into().unwrap());
/// assert_eq!(late.title(), "test accuracy, mean of the last 5 epochs");
/// // Of one epoch it is the metric itself.
/// assert_eq!(Measure::late(EpochMetric::TestLoss, 1.try_into().unwrap()), Metric::FinalTestLoss.into());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    metric: Metric,
    /// Above 1 together with a metric of the last epoch alone.
    last_epochs: usize,
}

impl From<Metric> for Measure {
    fn from(metric: Metric) -> Self {
        Self { metric, last_epochs: 1 }
    }
}

impl Default for Measure {
    fn default() -> Self {
        Metric::default().into()
    }
}

impl Measure {
    /// The mean of `metric` over the last `last_epochs` epochs.
    #[must_use]
    pub fn late(metric: EpochMetric, last_epochs: NonZeroUsize) -> Self {
        Self { metric: metric.at_the_end(), last_epochs: last_epochs.get() }
    }

    /// The default for a plan: its outcome, if it fixes one; else the final test accuracy, or the final test loss for runs without accuracy.
    #[must_use]
    pub fn usual(plan: &Plan, runs: &[(PlannedRun, Option<Record>)]) -> Self {
        let accuracy = Metric::FinalTestAccuracy;
        let otherwise = if accuracy.is_measured(runs) { accuracy } else { Metric::FinalTestLoss };
        plan.outcome.map_or(otherwise.into(), crate::StatedOutcome::measure)
    }

    /// The metric that is averaged.
    #[must_use]
    pub fn metric(self) -> Metric {
        self.metric
    }

    /// The name in JSON and CSV: the metric's, or `test-accuracy-last-5`.
    #[must_use]
    pub fn key(self) -> String {
        let key = self.metric.key();
        match self.last_epochs {
            1 => key.into(),
            n => format!("{}-last-{n}", key.trim_start_matches("final-")),
        }
    }

    /// The name in a sentence.
    #[must_use]
    pub fn title(self) -> String {
        let title = self.metric.title();
        match self.last_epochs {
            1 => title.into(),
            n => format!("{}, mean of the last {n} epochs", title.trim_start_matches("final ")),
        }
    }

    /// The name in a sentence, with the unit if it has one.
    #[must_use]
    pub fn titled(self) -> String {
        with_unit(&self.title(), self.unit())
    }

    /// The unit of a printed value, or an empty text. Accuracies are printed in percent.
    #[must_use]
    pub fn unit(self) -> &'static str {
        self.metric.unit()
    }

    pub(super) fn print(self) -> (f64, usize) {
        self.metric.print()
    }

    /// Whether higher values are better.
    #[must_use]
    pub fn higher_is_better(self) -> bool {
        self.metric.higher_is_better()
    }

    /// Whether its value is selected on the test split, such as the best test accuracy.
    #[must_use]
    pub fn selects_on_test(self) -> bool {
        self.metric.selects_on_test()
    }

    /// After how many of these epochs it has a value.
    pub(super) fn evaluations(self, epochs: &[Epoch]) -> usize {
        epochs.iter().filter(|epoch| self.metric.of_epoch(epoch).is_some()).count()
    }

    /// What a reader must know of two arms that were evaluated so often each, where the number is the best of all evaluations.
    pub(super) fn unequal(self, names: [&str; 2], evaluations: [Option<usize>; 2]) -> Option<String> {
        let ([Some(own), Some(rival)], true) = (evaluations, self.selects_on_test()) else { return None };
        let [arm, baseline] = names;
        (own != rival).then(|| {
            format!(
                "{} is the best of {own} evaluations for `{arm}`, and of {rival} for `{baseline}`: more of them are better on average",
                self.title()
            )
        })
    }

    /// A printed value, without its unit.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        self.metric.text(value)
    }

    /// The value of a record. `None` if it has fewer completed epochs than are averaged, or one of them was not evaluated.
    #[must_use]
    pub fn of(self, record: &Record) -> Option<f64> {
        if self.last_epochs == 1 {
            return self.metric.of(record);
        }
        let from = record.epochs.len().checked_sub(self.last_epochs)?;
        let values: Option<Vec<f64>> = record.epochs[from..].iter().map(|epoch| self.metric.of_epoch(epoch)).collect();
        stats::mean(&values?)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.key())
    }
}

impl Serialize for Measure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
