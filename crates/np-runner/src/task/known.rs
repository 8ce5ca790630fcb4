//! The tasks that a program has: fixed when it starts, before anything asks for one.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, OnceLock},
};

use np_record::OwnMetric;
use serde_json::Value;

use super::{Task, TaskConfig, TaskMetric};

/// Names that are no task's of a program's own.
const TAKEN: &str = "images";

/// The splits that metrics are measured on.
pub(crate) const SPLITS: [&str; 3] = ["train", "test", "validation"];

/// The tasks of a program: the one of images, which needs no name, and its own.
#[derive(Default)]
pub struct Tasks {
    own: Vec<Box<dyn Kind>>,
    versions: Vec<(&'static str, &'static str)>,
}

/// Why a program cannot have such tasks: a mistake in its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// A task has a name that it cannot have.
    #[error("no task can be called `{name}`")]
    Name {
        /// The name.
        name: String,
    },
    /// Two tasks have one name.
    #[error("two tasks are called `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A metric has a name that it cannot have.
    #[error("the task `{task}` cannot measure `{name}`")]
    Metric {
        /// The task.
        task: String,
        /// The metric.
        name: String,
    },
    /// The tasks of this process are fixed already.
    #[error("the tasks of this program are fixed already")]
    Late,
}

impl TaskError {
    /// What mends it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Name { .. } => "its name is of letters, digits, `-` and `_`, and not `images`",
            Self::Twice { .. } => "give one of them another name",
            Self::Metric { .. } => {
                "the name of a metric is of small letters, digits and `_`, 48 of them at most, is not `loss`, and is given once"
            }
            Self::Late => "call `main_with` once, before anything else",
        }
    }
}

/// What an error of deserialisation names: the value, and where it is.
pub(crate) type ReadError = serde_path_to_error::Error<serde_json::Error>;

/// A task without settings yet.
trait Kind: Send + Sync {
    fn name(&self) -> &'static str;
    fn metrics(&self) -> Vec<TaskMetric>;
    fn read(&self, settings: Value) -> Result<TaskConfig, ReadError>;
}

struct Of<T>(Arc<T>);

impl<T: Task> Kind for Of<T> {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn metrics(&self) -> Vec<TaskMetric> {
        self.0.metrics()
    }

    fn read(&self, settings: Value) -> Result<TaskConfig, ReadError> {
        Ok(TaskConfig::own(Arc::clone(&self.0), serde_path_to_error::deserialize(settings)?))
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Tasks {
    /// The task of images alone: what `np` has.
    #[must_use]
    pub fn builtin() -> Self {
        Self::default()
    }

    /// With another task.
    #[must_use]
    pub fn with<T: Task>(mut self, task: T) -> Self {
        self.own.push(Box::new(Of(Arc::new(task))));
        self
    }

    /// With a version of something that the numbers of runs depend on, for their records: a program's own, `env!("CARGO_PKG_VERSION")`, or a
    /// commit.
    #[must_use]
    pub fn version(mut self, name: &'static str, version: &'static str) -> Self {
        self.versions.push((name, version));
        self
    }

    /// What [`Tasks::version`] was given.
    pub(crate) fn versions(&self) -> &[(&'static str, &'static str)] {
        &self.versions
    }

    /// The name of the program: `np`, if it has no tasks of its own, else its file's.
    pub(crate) fn program(&self) -> String {
        let file = std::env::current_exe().ok().filter(|_| !self.own.is_empty());
        let stem = file.and_then(|file| Some(file.file_stem()?.to_string_lossy().into_owned()));
        stem.unwrap_or_else(|| "np".to_owned())
    }

    /// Names of the program's own.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.own.iter().map(|task| task.name()).collect()
    }

    /// A task with the settings that are written; `None` if there is no task of that name.
    pub(crate) fn read(&self, name: &str, settings: Value) -> Option<Result<TaskConfig, ReadError>> {
        self.own.iter().find(|task| task.name() == name).map(|task| task.read(settings))
    }

    /// Every number that a task of the program's own measures, with the splits that it is measured on.
    pub(crate) fn metrics(&self) -> Vec<OwnMetric> {
        self.own.iter().flat_map(|task| own_metrics(&task.metrics())).collect()
    }

    fn check(&self) -> Result<(), TaskError> {
        let mut seen = BTreeSet::new();
        for task in &self.own {
            let name = task.name().to_owned();
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) || name == TAKEN {
                return Err(TaskError::Name { name });
            }
            for metric in task.metrics().into_iter().filter(|metric| *metric != TaskMetric::ACCURACY) {
                let refuse = || TaskError::Metric { task: name.clone(), name: metric.name.to_owned() };
                let taken = metric.name.len() > 48 || ["", "loss", "accuracy"].contains(&metric.name);
                let names = SPLITS.map(|split| OwnMetric::new(&format!("{split}_{}", metric.name), metric.direction));
                let twice = task.metrics().iter().filter(|other| other.name == metric.name).count() > 1;
                if taken || twice || names.contains(&None) {
                    return Err(refuse());
                }
            }
            if !seen.insert(name.clone()) {
                return Err(TaskError::Twice { name });
            }
        }
        Ok(())
    }
}

/// What a record has of these numbers, but for the accuracy, which has fields of its own.
pub(crate) fn own_metrics(metrics: &[TaskMetric]) -> Vec<OwnMetric> {
    let own = metrics.iter().filter(|metric| **metric != TaskMetric::ACCURACY);
    let named = own.flat_map(|metric| {
        SPLITS.into_iter().filter_map(|split| OwnMetric::new(&format!("{split}_{}", metric.name), metric.direction))
    });
    named.collect()
}

static KNOWN: OnceLock<Tasks> = OnceLock::new();

/// Fixes the tasks of this process.
///
/// # Errors
/// If they cannot be, or are already.
pub(crate) fn install(tasks: Tasks) -> Result<(), TaskError> {
    tasks.check()?;
    KNOWN.set(tasks).map_err(|_| TaskError::Late)
}

/// The tasks of this process.
pub(crate) fn known() -> &'static Tasks {
    KNOWN.get_or_init(Tasks::builtin)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::{DType, Device, Tensor};
    use np_models::Mode;

    use super::*;
    use crate::{AboutData, Examples, Loss, NamedVars, Picked, TaskResult, VarModel};

    /// A task that is only named.
    struct Called(&'static str, Vec<TaskMetric>);

    impl Task for Called {
        type Settings = ();
        type Data = ();
        type Model = VarModel<Tensor>;
        type Batch = ();

        fn name(&self) -> &'static str {
            self.0
        }

        fn metrics(&self) -> Vec<TaskMetric> {
            self.1.clone()
        }

        fn data(&self, (): &(), _: Option<&Path>) -> TaskResult<()> {
            Ok(())
        }

        fn about(&self, (): &(), (): &()) -> AboutData {
            AboutData::new("none", "none", "")
        }

        fn examples(&self, (): &(), (): &(), _: u64) -> TaskResult<Examples> {
            Ok(Examples { train: vec![0], validation: vec![], test: 1 })
        }

        fn model(&self, (): &(), (): &(), seed: u64, device: &Device) -> TaskResult<VarModel<Tensor>> {
            let vars = NamedVars::new(seed);
            let weight = vars.builder(DType::F32, device).get(1, "weight")?;
            Ok(vars.model("one", weight))
        }

        fn batch(&self, (): &(), (): &(), _: Picked<'_>, _: &Device) -> TaskResult<()> {
            Ok(())
        }

        fn loss(&self, model: &VarModel<Tensor>, (): &(), _: Mode) -> TaskResult<Loss> {
            Ok(Loss::new(model.sqr()?.sum_all()?)?)
        }
    }

    #[test]
    fn tasks_and_metrics_have_names_that_files_can_say() {
        let checked = |tasks: Tasks| tasks.check().map_err(|error| error.to_string());
        let one = |name, metrics: &[TaskMetric]| checked(Tasks::builtin().with(Called(name, metrics.to_vec())));
        let good = [TaskMetric::ACCURACY, TaskMetric::lower("bits_per_character")];
        assert_eq!(one("text-2", &good), Ok(()));
        for name in ["", "images", "a b", "ä", "a.b"] {
            assert!(one(name, &[]).unwrap_err().starts_with("no task can be called "), "{name}");
        }
        for metrics in [
            &[TaskMetric::lower("loss")][..],
            &[TaskMetric::lower("Bits")],
            &[TaskMetric::lower("accuracy")],
            &[TaskMetric::lower("bits"), TaskMetric::higher("bits")],
        ] {
            assert!(one("text", metrics).unwrap_err().starts_with("the task `text` cannot measure "), "{metrics:?}");
        }
        let twice = Tasks::builtin().with(Called("text", vec![])).with(Called("text", vec![]));
        assert!(checked(twice).unwrap_err().starts_with("two tasks are called `text`"));
    }

    #[test]
    fn a_record_has_each_number_of_each_split_but_not_the_accuracy() {
        let metrics = [TaskMetric::ACCURACY, TaskMetric::lower("bits")];
        let names: Vec<&str> = own_metrics(&metrics).into_iter().map(OwnMetric::name).collect();
        assert_eq!(names, ["train_bits", "test_bits", "validation_bits"]);
    }
}
