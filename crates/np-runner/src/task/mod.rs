//! What a run learns: the seam between the harness and models, data and losses.
//!
//! A [`Task`] says which settings an experiment file may have, reads data, builds the model, makes batches and computes the loss. Everything
//! else is done once, for all tasks: order and seeds, the loop, snapshots, records, comparisons. A program with tasks of its own is
//! [`crate::cli::main_with`] and a list of them ([`Tasks`]); the experiments of this repository are the task [`Images`](crate::Images).
//!
//! Nothing random keeps a generator's state: a task is told seed, epoch and examples, and gives the same batch for the same ones. That is what lets
//! a run go on after an interruption to the same bits.

mod chosen;
mod known;
mod named;
mod parts;
mod values;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use candle_core::{Device, Var};
use np_models::{Mode, Recorder};
use serde::{Serialize, de::DeserializeOwned};

pub use chosen::TaskConfig;
pub use known::{TaskError, Tasks};
pub(crate) use known::{install, known, own_metrics};
pub use named::{NamedVars, VarModel};
pub(crate) use parts::{of_config, read};

pub use values::{AboutData, Counts, Estimate, Examples, Half, Loss, Picked, Score, TaskData, TaskMetric};

pub use crate::config::OutOfRange;
use crate::{
    config::RunConfig,
    error::{Error, Result},
    train::{OnGpu, Trained},
};

/// What a task's own code returns: any error will do, `?` takes them all.
pub type TaskResult<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// One kind of run: its settings, its data, its model, its loss.
///
/// The methods without a default are what every task must say. The example
/// [`characters`](https://github.com/neuroplastic-rs/neuroplastic/blob/main/examples/characters/src/main.rs) is a whole one.
pub trait Task: Send + Sync + 'static {
    /// What an experiment file may say under `task: {NAME: {…}}`. It should refuse unknown keys and have a default for every other
    /// (`#[serde(default, deny_unknown_fields)]`); every value, defaults included, goes into the plan and the run's id.
    type Settings: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// The examples, as they are kept in memory.
    type Data: Send + Sync + 'static;
    /// The model.
    type Model: Trainable;
    /// A batch, ready for the model.
    type Batch;

    /// The name in an experiment file: letters, digits, `-` and `_`.
    fn name(&self) -> &'static str;

    /// What is measured besides the loss, in the order of [`Score::sums`].
    fn metrics(&self) -> Vec<TaskMetric> {
        Vec::new()
    }

    /// Checks what types cannot: every range. Keys are those of the settings.
    ///
    /// # Errors
    /// The setting that is out of range.
    fn validate(&self, _settings: &Self::Settings) -> Result<(), OutOfRange> {
        Ok(())
    }

    /// Reads the data. `folder` is that of `--data-dir` or `NP_DATA_DIR`.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    fn data(&self, settings: &Self::Settings, folder: Option<&Path>) -> TaskResult<Self::Data>;

    /// The settings that decide which data is read: runs with the same key share it. All of them, if nothing else is said.
    fn data_key(&self, settings: &Self::Settings) -> String {
        serde_json::to_string(settings).unwrap_or_default()
    }

    /// What the data is, and its digest: part of every run's id.
    fn about(&self, settings: &Self::Settings, data: &Self::Data) -> AboutData;

    /// Which examples are trained on, held out and tested on.
    ///
    /// # Errors
    /// If there are none of those that the settings ask for.
    fn examples(&self, settings: &Self::Settings, data: &Self::Data, seed: u64) -> TaskResult<Examples>;

    /// A model with the initial values of this seed.
    ///
    /// # Errors
    /// Those of its constructor.
    fn model(
        &self,
        settings: &Self::Settings,
        data: &Self::Data,
        seed: u64,
        device: &Device,
    ) -> TaskResult<Self::Model>;

    /// The batch of these examples: a function of what it is given.
    ///
    /// # Errors
    /// If it cannot be made.
    fn batch(
        &self,
        settings: &Self::Settings,
        data: &Self::Data,
        picked: Picked<'_>,
        device: &Device,
    ) -> TaskResult<Self::Batch>;

    /// The mean loss over a batch, to go backward from, and what is measured of it.
    ///
    /// # Errors
    /// Those of the model.
    fn loss(&self, model: &Self::Model, batch: &Self::Batch, mode: Mode) -> TaskResult<Loss>;

    /// What is measured of a batch in evaluation. By default that of [`Task::loss`].
    ///
    /// # Errors
    /// Those of the model.
    fn score(&self, model: &Self::Model, batch: &Self::Batch) -> TaskResult<Score> {
        Ok(self.loss(model, batch, Mode::Eval)?.score)
    }

    /// As [`Task::loss`], leaving in `recorder` what each layer saw, for K-FAC; see [`Task::records_layers`].
    ///
    /// # Errors
    /// Those of the model; by default that it keeps no such records.
    fn loss_recorded(
        &self,
        model: &Self::Model,
        _batch: &Self::Batch,
        _mode: Mode,
        _recorder: &Recorder,
    ) -> TaskResult<Loss> {
        Err(np_models::Error::Unrecorded { what: model.title() }.into())
    }

    /// Whether [`Task::loss_recorded`] works. By default it does not.
    fn records_layers(&self, _settings: &Self::Settings) -> bool {
        false
    }

    /// What stands for the model in a message.
    fn model_in_words(&self, _settings: &Self::Settings) -> String {
        format!("the task `{}`", self.name())
    }

    /// Names of the model's parameters, where they can be told without data. Groups of `options` that match none are then found by `np plan`, else
    /// when the run starts.
    fn parameter_names(&self, _settings: &Self::Settings) -> Option<Vec<String>> {
        None
    }

    /// The files in the data folder that [`Task::data`] reads, relative to it: `np bundle` takes them along.
    fn files(&self, _settings: &Self::Settings) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What a run holds and computes, where that can be told. By default nothing is known.
    ///
    /// # Errors
    /// The setting that makes it more than any machine has.
    fn estimate(
        &self,
        _settings: &Self::Settings,
        _data: &Self::Data,
        _run: &RunConfig,
        _counts: Counts,
    ) -> Result<Option<Estimate>, OutOfRange> {
        Ok(None)
    }

    /// What stands in for data that is not at hand, so that a plan can be made: `earlier` is the digest that an earlier plan has, and with `unknown`
    /// data of which nothing is known may be planned for. By default nothing does.
    fn stand_in(&self, _settings: &Self::Settings, _earlier: Option<&str>, _unknown: bool) -> Option<Self::Data> {
        None
    }

    /// What a record says of data and model of a run that failed before they were there.
    fn told(&self, _settings: &Self::Settings, digest: &str) -> (AboutData, String) {
        (AboutData::new(self.name(), self.name(), digest), self.name().to_owned())
    }

    /// Whether there is a training on a GPU, [`Task::train_on_gpu`]. By default there is none.
    fn trains_on_gpu(&self) -> bool {
        false
    }

    /// Trains a run on a GPU.
    ///
    /// # Errors
    /// Those of the training; by default that there is none.
    fn train_on_gpu(&self, _settings: &Self::Settings, _data: &Self::Data, _run: OnGpu<'_>) -> Result<Trained> {
        Err(Error::Task(format!("the task `{}` has no training on a GPU", self.name())))
    }
}

/// What is trained: variables with names, the same in every run, in the order of definition.
///
/// Every [`np_models::Model`] is one; [`NamedVars`] makes one of any model that candle-nn builds.
pub trait Trainable {
    /// The parameters.
    fn parameters(&self) -> Vec<(String, Var)>;

    /// What is kept besides and must be saved with them (running statistics).
    fn buffers(&self) -> Vec<(String, Var)> {
        Vec::new()
    }

    /// A short name with the sizes: `GRU 64`.
    fn title(&self) -> String;
}

impl<M: np_models::Model> Trainable for M {
    fn parameters(&self) -> Vec<(String, Var)> {
        np_models::Model::parameters(self)
    }

    fn buffers(&self) -> Vec<(String, Var)> {
        np_models::Model::buffers(self)
    }

    fn title(&self) -> String {
        np_models::Model::title(self)
    }
}
