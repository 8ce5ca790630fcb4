//! A task with its settings, as a part of a configuration: whichever task it is.

use std::{
    any::Any,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Map, Value};

use super::{AboutData, Counts, Estimate, Examples, Task, TaskData, TaskMetric};
use crate::{
    config::{OutOfRange, RunConfig},
    error::{Error, Result},
    images::{ImageSettings, Images},
    snapshot::Snapshot,
    train::{self, News, Trained},
};

/// The task of a run, with its settings.
#[derive(Clone)]
pub struct TaskConfig(Arc<dyn Chosen>);

impl TaskConfig {
    /// A task of this program's own, whose settings are under `task: {NAME: {…}}`.
    pub(crate) fn own<T: Task>(task: Arc<T>, settings: T::Settings) -> Self {
        Self(Arc::new(Held { task, settings, is_builtin: false }))
    }

    /// The task of the experiments of this repository, whose settings are `data` and `model`.
    #[must_use]
    pub fn images(settings: ImageSettings) -> Self {
        Self(Arc::new(Held { task: Arc::new(Images), settings, is_builtin: true }))
    }

    /// The settings of [`TaskConfig::images`], if it is that one.
    #[must_use]
    pub fn as_images(&self) -> Option<&ImageSettings> {
        self.0.settings_any().downcast_ref()
    }

    /// What the harness asks of it.
    pub(crate) fn chosen(&self) -> &dyn Chosen {
        self.0.as_ref()
    }
}

impl fmt::Debug for TaskConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq for TaskConfig {
    fn eq(&self, other: &Self) -> bool {
        self.0.parts() == other.0.parts()
    }
}

/// What the harness asks of a task with its settings. Data is that of [`Chosen::load`] or [`Chosen::stand_in`].
pub(crate) trait Chosen: fmt::Debug + Send + Sync {
    /// The name in an experiment file.
    fn name(&self) -> &'static str;
    /// Where its settings are in a configuration; empty for `data` and `model`.
    fn section(&self) -> Vec<String>;
    /// The settings, as keys of a configuration.
    fn parts(&self) -> Map<String, Value>;
    /// The settings, as they are.
    fn settings_any(&self) -> &dyn Any;
    /// See [`Task::metrics`].
    fn metrics(&self) -> Vec<TaskMetric>;
    /// See [`Task::validate`].
    fn validate(&self) -> Result<(), OutOfRange>;
    /// See [`Task::parameter_names`].
    fn parameter_names(&self) -> Option<Vec<String>>;
    /// See [`Task::records_layers`].
    fn records_layers(&self) -> bool;
    /// See [`Task::model_in_words`].
    fn model_in_words(&self) -> String;
    /// See [`Task::trains_on_gpu`].
    fn trains_on_gpu(&self) -> bool;
    /// See [`Task::data_key`]; with the task's name before it.
    fn data_key(&self) -> String;
    /// See [`Task::files`].
    fn files(&self) -> Vec<PathBuf>;
    /// See [`Task::data`].
    fn load(&self, folder: Option<&Path>) -> Result<TaskData>;
    /// See [`Task::stand_in`].
    fn stand_in(&self, earlier: Option<&str>, unknown: bool) -> Option<TaskData>;
    /// See [`Task::about`].
    fn about(&self, data: &dyn Any) -> Result<AboutData>;
    /// See [`Task::told`].
    fn told(&self, digest: &str) -> (AboutData, String);
    /// See [`Task::examples`].
    fn examples(&self, data: &dyn Any, seed: u64) -> Result<Examples>;
    /// See [`Task::estimate`].
    fn estimate(&self, data: &dyn Any, run: &RunConfig, counts: Counts) -> Result<Option<Estimate>, OutOfRange>;
    /// Trains a run of it.
    fn train(
        &self,
        run: &RunConfig,
        data: &dyn Any,
        from: Option<&Snapshot>,
        watch: &mut dyn FnMut(News<'_>) -> Result<()>,
    ) -> Result<Trained>;
}

/// A task and its settings.
struct Held<T: Task> {
    task: Arc<T>,
    settings: T::Settings,
    /// Whether its settings are at the top of a configuration.
    is_builtin: bool,
}

impl<T: Task> fmt::Debug for Held<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.task.name(), self.settings)
    }
}

impl<T: Task> Held<T> {
    fn own<'a>(&self, data: &'a dyn Any) -> Result<&'a T::Data> {
        let other = || Error::Task(format!("the data is not that of the task `{}`", self.task.name()));
        data.downcast_ref().ok_or_else(other)
    }

    /// With the key of the whole configuration.
    fn placed(&self, error: OutOfRange) -> OutOfRange {
        let mut path = self.section();
        path.extend((!error.key.is_empty()).then_some(error.key));
        OutOfRange { key: path.join("."), ..error }
    }
}

impl<T: Task> Chosen for Held<T> {
    fn name(&self) -> &'static str {
        self.task.name()
    }

    fn section(&self) -> Vec<String> {
        match self.is_builtin {
            true => Vec::new(),
            false => vec!["task".to_owned(), self.task.name().to_owned()],
        }
    }

    fn parts(&self) -> Map<String, Value> {
        let settings = serde_json::to_value(&self.settings).unwrap_or_default();
        match (settings, self.is_builtin) {
            (Value::Object(parts), true) => parts,
            (settings, _) => {
                let named = Map::from_iter([(self.task.name().to_owned(), settings)]);
                Map::from_iter([("task".to_owned(), Value::Object(named))])
            }
        }
    }

    fn settings_any(&self) -> &dyn Any {
        &self.settings
    }

    fn metrics(&self) -> Vec<TaskMetric> {
        self.task.metrics()
    }

    fn validate(&self) -> Result<(), OutOfRange> {
        self.task.validate(&self.settings).map_err(|error| self.placed(error))
    }

    fn parameter_names(&self) -> Option<Vec<String>> {
        self.task.parameter_names(&self.settings)
    }

    fn records_layers(&self) -> bool {
        self.task.records_layers(&self.settings)
    }

    fn model_in_words(&self) -> String {
        self.task.model_in_words(&self.settings)
    }

    fn trains_on_gpu(&self) -> bool {
        self.task.trains_on_gpu()
    }

    fn data_key(&self) -> String {
        format!("{} {}", self.task.name(), self.task.data_key(&self.settings))
    }

    fn files(&self) -> Vec<PathBuf> {
        self.task.files(&self.settings)
    }

    fn load(&self, folder: Option<&Path>) -> Result<TaskData> {
        Ok(TaskData::new(self.task.data(&self.settings, folder)?))
    }

    fn stand_in(&self, earlier: Option<&str>, unknown: bool) -> Option<TaskData> {
        self.task.stand_in(&self.settings, earlier, unknown).map(TaskData::new)
    }

    fn about(&self, data: &dyn Any) -> Result<AboutData> {
        Ok(self.task.about(&self.settings, self.own(data)?))
    }

    fn told(&self, digest: &str) -> (AboutData, String) {
        self.task.told(&self.settings, digest)
    }

    fn examples(&self, data: &dyn Any, seed: u64) -> Result<Examples> {
        Ok(self.task.examples(&self.settings, self.own(data)?, seed)?)
    }

    fn estimate(&self, data: &dyn Any, run: &RunConfig, counts: Counts) -> Result<Option<Estimate>, OutOfRange> {
        let Ok(data) = self.own(data) else { return Ok(None) };
        self.task.estimate(&self.settings, data, run, counts)
    }

    fn train(
        &self,
        run: &RunConfig,
        data: &dyn Any,
        from: Option<&Snapshot>,
        watch: &mut dyn FnMut(News<'_>) -> Result<()>,
    ) -> Result<Trained> {
        train::of_task(self.task.as_ref(), &self.settings, self.own(data)?, run, from, watch)
    }
}
