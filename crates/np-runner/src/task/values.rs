//! What a task and the harness hand each other: examples, batches, scores, sizes.

use std::{any::Any, fmt};

use candle_core::Tensor;
use np_data::Pass;
use np_record::{Direction, Standing};

use crate::memory::Memory;

/// A number that a task measures of every batch, as the mean over examples. In a record it is `train_NAME`, `test_NAME` and `validation_NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskMetric {
    /// Its name: small letters, digits, `_`.
    pub name: &'static str,
    /// Which values are better.
    pub direction: Direction,
}

impl TaskMetric {
    /// The share of examples that are classified rightly: the one with a place of its own in records and tables.
    pub const ACCURACY: Self = Self { name: "accuracy", direction: Direction::Higher };

    /// A number of which less is better.
    #[must_use]
    pub const fn lower(name: &'static str) -> Self {
        Self { name, direction: Direction::Lower }
    }

    /// A number of which more is better.
    #[must_use]
    pub const fn higher(name: &'static str) -> Self {
        Self { name, direction: Direction::Higher }
    }
}

/// What data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AboutData {
    /// A short name.
    pub name: String,
    /// The name that a table prints.
    pub title: String,
    /// SHA-256 over its content, in hex: see [`sha256`](crate::sha256).
    pub digest: String,
    /// Whether it is the published data of that name.
    pub standing: Standing,
}

impl AboutData {
    /// Data that is what its name says.
    #[must_use]
    pub fn new(name: &str, title: &str, digest: &str) -> Self {
        let (name, title, digest) = (name.to_owned(), title.to_owned(), digest.to_owned());
        Self { name, title, digest, standing: Standing::Published }
    }
}

/// Which examples a run uses, as numbers that [`super::Task::batch`] understands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examples {
    /// Of the training part, those that are trained on, each once an epoch in an order of its own.
    pub train: Vec<u32>,
    /// Of the training part, those that are held out for validation; may be empty.
    pub validation: Vec<u32>,
    /// Of the test part, those that are tested on: the first so many.
    pub test: usize,
}

impl Examples {
    /// The numbers of those that are tested on.
    pub(crate) fn tested(&self) -> Vec<u32> {
        (0..).take(self.test).collect()
    }

    /// How many they are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            train: self.train.len(),
            evaluated: self.validation.len() + self.test,
            evaluated_at_once: self.validation.len().max(self.test),
        }
    }
}

/// The parts of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// The training part.
    Train,
    /// The test part.
    Test,
}

/// The examples of a batch.
#[derive(Debug, Clone, Copy)]
pub struct Picked<'a> {
    /// The part that they are of.
    pub half: Half,
    /// Their numbers.
    pub examples: &'a [u32],
    /// Whether they are trained on, in which epoch and by which seed, or evaluated: for augmentation.
    pub pass: Pass,
}

/// What is measured of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Mean loss over its examples.
    pub loss: f64,
    /// The sum over its examples of every number of [`super::Task::metrics`].
    pub sums: Vec<f64>,
}

/// The loss of a batch, and what is measured of it.
#[derive(Debug, Clone)]
pub struct Loss {
    /// The mean loss over its examples, a scalar.
    pub tensor: Tensor,
    /// The same as a number, and the others.
    pub score: Score,
}

impl Loss {
    /// A loss of which nothing else is measured.
    ///
    /// # Errors
    /// Candle's, if it is no scalar.
    pub fn new(tensor: Tensor) -> candle_core::Result<Self> {
        let loss = tensor.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()?;
        Ok(Self { tensor, score: Score { loss, sums: Vec::new() } })
    }

    /// With the sums over the batch's examples of every number of [`super::Task::metrics`], of which some follow from the mean loss.
    #[must_use]
    pub fn with_sums(mut self, sums: impl FnOnce(f64) -> Vec<f64>) -> Self {
        self.score.sums = sums(self.score.loss);
        self
    }
}

/// How many examples a run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Those that it is trained on.
    pub train: usize,
    /// Those that it is evaluated on, in an epoch.
    pub evaluated: usize,
    /// Those that it is evaluated on at the most at once.
    pub evaluated_at_once: usize,
}

/// What a run holds and computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Memory.
    pub memory: Memory,
    /// Multiplications with an addition in the forward pass of one example.
    pub multiply_adds: u64,
}

/// Data of a task, read.
pub struct TaskData(Box<dyn Any + Send + Sync>);

impl TaskData {
    /// The data of a task whose [`super::Task::Data`] this is.
    pub fn new<D: Any + Send + Sync>(data: D) -> Self {
        Self(Box::new(data))
    }

    pub(crate) fn any(&self) -> &dyn Any {
        self.0.as_ref()
    }
}

impl fmt::Debug for TaskData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskData")
    }
}

impl From<np_data::DataSet> for TaskData {
    fn from(set: np_data::DataSet) -> Self {
        Self::new(set)
    }
}
