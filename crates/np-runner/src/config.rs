//! The settings of one run, typed, with every default in one place.
//!
//! What is here decides the numbers that a run gives, and all of it goes into the run's id; nothing else does.

use std::num::NonZeroUsize;

use candle_core::{DType, Device, Var};
use np_core::{Backend, OptimizerConfig, Options, StepInput};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::IgnoredAny, ser::SerializeMap as _};
use serde_json::Value;

use crate::{
    device::{Device as On, Precision},
    task::{self, TaskConfig},
};

/// One run: what is learned and by which model, how long, by which rule, from which seed.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// The task with its settings: `data` and `model` of images, or `task` of a program's own.
    pub task: TaskConfig,
    /// The length of the training and its batches.
    pub train: TrainConfig,
    /// The optimizer; there is no default.
    pub optimizer: OptimizerConfig,
    /// What surrounds the optimizer's rule: parameter groups, clipping, accumulation, the schedule of the learning rate.
    pub options: Options,
    /// Seed of everything random: the subset, the initialisation, the order of examples, augmentation, dropout.
    pub seed: u64,
}

/// What every run has, whatever its task: the configuration without the task's parts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Frame {
    #[serde(default, rename = "task")]
    _task: IgnoredAny,
    #[serde(default, rename = "data")]
    _data: IgnoredAny,
    #[serde(default, rename = "model")]
    _model: IgnoredAny,
    #[serde(default)]
    train: TrainConfig,
    optimizer: OptimizerConfig,
    #[serde(default)]
    options: Options,
    seed: u64,
}

impl Frame {
    /// The whole configuration.
    pub(crate) fn with(self, task: TaskConfig) -> RunConfig {
        let Self { train, optimizer, options, seed, .. } = self;
        RunConfig { task, train, optimizer, options, seed }
    }
}

/// The task's parts come first.
impl Serialize for RunConfig {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        let Self { task, train, optimizer, options, seed } = self;
        let mut map = out.serialize_map(None)?;
        for (key, value) in task.chosen().parts() {
            map.serialize_entry(&key, &value)?;
        }
        map.serialize_entry("train", train)?;
        map.serialize_entry("optimizer", optimizer)?;
        map.serialize_entry("options", options)?;
        map.serialize_entry("seed", seed)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for RunConfig {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(input)?;
        let task = task::of_config(&whole).map_err(de::Error::custom)?;
        let frame: Frame = serde_json::from_value(whole).map_err(de::Error::custom)?;
        Ok(frame.with(task))
    }
}

/// The length of a training and its batches, and what computes it.
///
/// The CPU, and an evaluation after every epoch, are not written, so that the ids of their runs are those of before there was a choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training examples, 1 or more. Default 10 (the published protocol).
    pub epochs: u32,
    /// Examples a step, 1 or more; the last batch of an epoch may be smaller. Default 128 (the published protocol).
    pub batch_size: usize,
    /// Examples a forward pass of the evaluation, 1 or more: memory and speed only, up to rounding. Default 1000.
    pub eval_batch_size: usize,
    /// Every how many epochs the model is evaluated, 1 or more; after the last one it always is. Default 1: after every epoch.
    #[serde(skip_serializing_if = "is_one")]
    pub eval_every: u32,
    /// What computes: `cpu`, or `cuda`, a GPU. Default `cpu`.
    #[serde(skip_serializing_if = "On::is_cpu")]
    pub device: On,
    /// How exactly a GPU multiplies matrices: `fp32`, `tf32` or `bf16`; see [`Precision`]. Default on a GPU: `tf32`; the CPU has no choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self { epochs: 10, batch_size: 128, eval_batch_size: 1000, eval_every: 1, device: On::Cpu, precision: None }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

impl TrainConfig {
    /// Whether the model is evaluated after this epoch, counted from 1.
    pub(crate) fn evaluates(&self, epoch: u32) -> bool {
        epoch.is_multiple_of(self.eval_every) || epoch == self.epochs
    }

    /// Whether it is after each of so many epochs at the end.
    pub(crate) fn evaluates_last(&self, count: usize) -> bool {
        (1..=self.epochs).rev().take(count).all(|epoch| self.evaluates(epoch))
    }
}

/// A setting with a value out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfRange {
    /// Dotted path in the configuration; of a task, in its settings.
    pub key: String,
    /// The range, in words.
    pub expected: String,
    /// The value.
    pub got: String,
}

impl OutOfRange {
    /// Whether `ok` holds, else the setting with its range and value.
    ///
    /// # Errors
    /// The setting.
    pub fn check(ok: bool, key: &str, expected: &str, got: &dyn std::fmt::Display) -> Result<(), Self> {
        match ok {
            true => Ok(()),
            false => Err(Self { key: key.into(), expected: expected.into(), got: got.to_string() }),
        }
    }
}

impl RunConfig {
    /// The configuration with its precision spelled out.
    pub(crate) fn resolved(mut self) -> Self {
        self.train.precision = self.train.device.precision(self.train.precision);
        self
    }

    /// Checks what types cannot: every range.
    pub(crate) fn validate(&self) -> Result<(), OutOfRange> {
        let check = OutOfRange::check;
        let Self { task, train, optimizer, options, .. } = self;
        let task = task.chosen();
        check(train.epochs > 0, "train.epochs", "1 or more", &train.epochs)?;
        check(train.batch_size > 0, "train.batch_size", "1 or more", &train.batch_size)?;
        check(train.eval_batch_size > 0, "train.eval_batch_size", "1 or more", &train.eval_batch_size)?;
        check(train.eval_every > 0, "train.eval_every", "1 or more", &train.eval_every)?;
        train.device.has(train.precision)?;
        let device = train.device;
        let here = device.is_cpu() || task.trains_on_gpu();
        let on_cpu = format!("`cpu`, on which the task `{}` trains alone", task.name());
        check(here, "train.device", &on_cpu, &device.key())?;
        task.validate()?;
        let out_of_range = |part: &str, error: np_core::Error| match error {
            np_core::Error::Config { key, expected, got } => OutOfRange { key: format!("{part}.{key}"), expected, got },
            other => OutOfRange { key: part.into(), expected: "valid settings".into(), got: other.to_string() },
        };
        let in_optimizer = |error| out_of_range(&format!("optimizer.{}", optimizer.kind()), error);
        optimizer.validate().map_err(in_optimizer)?;
        let input = optimizer.build(vec![]).map_err(in_optimizer)?.step_input();
        let kind = optimizer.kind();
        let records = input != StepInput::LayerStatistics || task.records_layers();
        let lacks = "which keeps no records of its layers, as";
        let other = format!("another optimizer for {}, {lacks} `{kind}` wants them", task.model_in_words());
        check(records, &format!("optimizer.{kind}"), &other, &kind)?;
        train.device.steps(optimizer, input)?;
        options.validate().map_err(|error| out_of_range("options", error))?;
        input.suits(options).map_err(|error| out_of_range("options", error))?;
        self.fit_groups().map_err(|error| out_of_range("options", error))
    }

    /// Lets the optimizer look whether its groups match parameters: it takes names alone, here with a number each.
    fn fit_groups(&self) -> np_core::Result<()> {
        let Some(names) = self.task.chosen().parameter_names().filter(|_| !self.options.groups.is_empty()) else {
            return Ok(());
        };
        let number = || Var::zeros(1, DType::F32, &Device::Cpu);
        let named = names.into_iter().map(|name| Ok((name, number()?)));
        let named = named.collect::<candle_core::Result<_>>()?;
        self.optimizer.build_with(named, self.options.clone(), Backend::Auto).map(drop)
    }

    /// Examples a step, as the data crate wants it.
    pub(crate) fn batch_size(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.train.batch_size).unwrap_or(NonZeroUsize::MIN)
    }

    /// Examples a forward pass of the evaluation.
    pub(crate) fn eval_batch_size(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.train.eval_batch_size).unwrap_or(NonZeroUsize::MIN)
    }
}
