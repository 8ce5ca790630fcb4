//! Sums over the examples of an epoch, and the metrics that they make.

use std::collections::BTreeMap;

use np_core::AnyOptimizer;
use np_record::Epoch;

use super::{Score, TaskMetric};
use crate::error::{Error, Result};

/// Sums over examples.
#[derive(Debug, Clone, Default)]
pub(super) struct Total {
    pub(super) loss: f64,
    /// Of every number of the task's, in its order.
    pub(super) sums: Vec<f64>,
    pub(super) examples: usize,
}

impl Total {
    /// Adds a batch of so many examples.
    pub(super) fn add(&mut self, score: &Score, examples: usize) {
        self.loss += score.loss * examples as f64;
        self.sums.resize(score.sums.len().max(self.sums.len()), 0.0);
        for (sum, more) in self.sums.iter_mut().zip(&score.sums) {
            *sum += more;
        }
        self.examples += examples;
    }

    pub(super) fn loss(&self) -> f64 {
        self.loss / self.examples as f64
    }

    /// The mean of one of these numbers; none if the task does not have it.
    fn mean_of(&self, metrics: &[TaskMetric], metric: TaskMetric) -> Option<f64> {
        let place = metrics.iter().position(|other| *other == metric)?;
        Some(self.sums.get(place)? / self.examples as f64)
    }
}

/// Refuses a score that lacks a number that its task measures, or has one more.
pub(super) fn whole(task: &str, score: &Score, metrics: &[TaskMetric]) -> Result<()> {
    match (score.sums.len(), metrics.len()) {
        (sums, wanted) if sums == wanted => Ok(()),
        (sums, wanted) => {
            let text =
                format!("the task `{task}` gives {sums} sums with a loss, and measures {wanted} numbers besides");
            Err(Error::Task(text))
        }
    }
}

/// What an evaluation gives: of the test examples, and of the training examples that were held out.
#[derive(Debug, Clone)]
pub(super) struct Evaluated {
    pub(super) test: Total,
    pub(super) held_out: Option<Total>,
}

/// The metrics of an epoch that has ended after so many steps, of its training examples and its evaluation.
pub(super) fn completed(
    [epoch, steps]: [usize; 2],
    optimizer: &dyn AnyOptimizer,
    metrics: &[TaskMetric],
    train: &Total,
    evaluated: Option<&Evaluated>,
) -> Epoch {
    let test = evaluated.map(|evaluated| &evaluated.test);
    let held_out = evaluated.and_then(|evaluated| evaluated.held_out.as_ref());
    let accuracy = |total: &Total| total.mean_of(metrics, TaskMetric::ACCURACY);
    let splits = [("train", Some(train)), ("test", test), ("validation", held_out)];
    let own = metrics.iter().filter(|metric| **metric != TaskMetric::ACCURACY);
    let own = own.flat_map(|&metric| {
        splits.into_iter().filter_map(move |(split, total)| {
            Some((format!("{split}_{}", metric.name), total?.mean_of(metrics, metric)?))
        })
    });
    Epoch {
        epoch,
        steps,
        lr: optimizer.effective_lr(),
        train_loss: train.loss(),
        train_accuracy: accuracy(train),
        test_loss: test.map(Total::loss),
        test_accuracy: test.and_then(accuracy),
        validation: held_out.map(|total| np_record::Score { loss: total.loss(), accuracy: accuracy(total) }),
        metrics: own.collect::<BTreeMap<_, _>>(),
        diagnostics: optimizer.diagnostics().into_iter().filter(|(_, value)| value.is_finite()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_has_every_number_of_its_task_and_no_other() {
        let score = |sums: &[f64]| Score { loss: 1.0, sums: sums.to_vec() };
        let checked = |sums: &[f64], metrics: &[TaskMetric]| {
            whole("text", &score(sums), metrics).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&[], &[]), Ok(()));
        assert_eq!(checked(&[3.0], &[TaskMetric::ACCURACY]), Ok(()));
        let text = "the task `text` gives 0 sums with a loss, and measures 1 numbers besides";
        assert_eq!(checked(&[], &[TaskMetric::ACCURACY]), Err(text.into()));
        assert!(checked(&[3.0, 1.0], &[TaskMetric::ACCURACY]).is_err());
    }
}
