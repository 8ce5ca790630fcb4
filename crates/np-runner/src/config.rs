//! The settings of one run, typed, with every default in one place.
//!
//! What is here decides the numbers that a run gives, and all of it goes into the run's id; nothing else does.

use std::num::NonZeroUsize;

use candle_core::{DType, Device, Var};
use np_core::{Backend, OptimizerConfig, Options, StepInput};
use serde::{Deserialize, Serialize};

use crate::{
    data::DataConfig,
    device::{Device as On, Precision},
    model::ModelConfig,
};

/// One run: what it learns from, what learns, how long, by which rule, from which seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The data set, and how much of it.
    #[serde(default)]
    pub data: DataConfig,
    /// The model.
    #[serde(default)]
    pub model: ModelConfig,
    /// The length of the training and its batches.
    #[serde(default)]
    pub train: TrainConfig,
    /// The optimizer; there is no default.
    pub optimizer: OptimizerConfig,
    /// What surrounds the optimizer's rule: parameter groups, clipping, accumulation, the schedule of the learning rate.
    #[serde(default)]
    pub options: Options,
    /// Seed of everything random: the subset, the initialisation, the order of examples, augmentation, dropout.
    pub seed: u64,
}

/// The length of a training and its batches, and what computes it.
///
/// The CPU is not written, so that the ids of its runs are those of before there was another device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training examples, 1 or more. Default 10 (the published protocol).
    pub epochs: u32,
    /// Examples a step, 1 or more; the last batch of an epoch may be smaller. Default 128 (the published protocol).
    pub batch_size: usize,
    /// Examples a forward pass of the evaluation, 1 or more: memory and speed only, up to rounding. Default 1000.
    pub eval_batch_size: usize,
    /// What computes: `cpu`, or `cuda`, a GPU. Default `cpu`.
    #[serde(skip_serializing_if = "On::is_cpu")]
    pub device: On,
    /// How exactly a GPU multiplies matrices: `fp32`, `tf32` or `bf16`; see [`Precision`]. Default on a GPU: `tf32`; the CPU has no choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self { epochs: 10, batch_size: 128, eval_batch_size: 1000, device: On::Cpu, precision: None }
    }
}

/// A setting with a value out of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutOfRange {
    /// Dotted path in the configuration.
    pub(crate) key: String,
    /// The range, in words.
    pub(crate) expected: String,
    /// The value.
    pub(crate) got: String,
}

impl RunConfig {
    /// The configuration with its precision spelled out.
    pub(crate) fn resolved(mut self) -> Self {
        self.train.precision = self.train.device.precision(self.train.precision);
        self
    }

    /// Checks what types cannot: every range.
    pub(crate) fn validate(&self) -> Result<(), OutOfRange> {
        let check = |ok: bool, key: &str, expected: &str, got: &dyn std::fmt::Display| match ok {
            true => Ok(()),
            false => Err(OutOfRange { key: key.into(), expected: expected.into(), got: got.to_string() }),
        };
        let Self { data, model, train, optimizer, options, .. } = self;
        data.validate()?;
        check(train.epochs > 0, "train.epochs", "1 or more", &train.epochs)?;
        check(train.batch_size > 0, "train.batch_size", "1 or more", &train.batch_size)?;
        check(train.eval_batch_size > 0, "train.eval_batch_size", "1 or more", &train.eval_batch_size)?;
        train.device.has(train.precision)?;
        model.validate()?;
        model.takes(data.shape()?)?;
        let out_of_range = |part: &str, error: np_core::Error| match error {
            np_core::Error::Config { key, expected, got } => OutOfRange { key: format!("{part}.{key}"), expected, got },
            other => OutOfRange { key: part.into(), expected: "valid settings".into(), got: other.to_string() },
        };
        let in_optimizer = |error| out_of_range(&format!("optimizer.{}", optimizer.kind()), error);
        optimizer.validate().map_err(in_optimizer)?;
        let input = optimizer.build(vec![]).map_err(in_optimizer)?.step_input();
        if input == StepInput::LayerStatistics {
            model.records(optimizer.kind())?;
        }
        train.device.steps(optimizer, input)?;
        options.validate().map_err(|error| out_of_range("options", error))?;
        input.suits(options).map_err(|error| out_of_range("options", error))?;
        self.fit_groups().map_err(|error| out_of_range("options", error))
    }

    /// Lets the optimizer look whether its groups match parameters: it takes names alone, here with a number each.
    fn fit_groups(&self) -> np_core::Result<()> {
        if self.options.groups.is_empty() {
            return Ok(());
        }
        let number = || Var::zeros(1, DType::F32, &Device::Cpu);
        let named = self.model.parameter_names().into_iter().map(|name| Ok((name, number()?)));
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
