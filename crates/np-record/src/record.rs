//! A record: the results of one run, and how they were made.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::PlannedRun;
use crate::plan::{canonical, digest_without};
use crate::text::hex;

/// A finished, diverged or failed run.
///
/// `config`, `data`, `model`, `outcome` and `epochs` are the results. They have the same bits whenever the run is made again, on any number
/// of threads, and [`Record::result_sha256`] is their digest. `timing`, `optimizer` and `provenance` say how this record was made, and at what
/// cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`crate::SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// The run's id, see [`crate::PlannedRun::id_of`].
    pub id: String,
    /// [`crate::semantics_of`] `config` when it was written.
    pub semantics: u32,
    /// The resolved configuration: every setting has a value.
    pub config: Value,
    /// The data that the model was trained and tested on.
    pub data: DataInfo,
    /// The model that was trained.
    pub model: ModelInfo,
    /// How the run ended.
    pub outcome: Outcome,
    /// Metrics of each completed epoch.
    pub epochs: Vec<Epoch>,
    /// Digest of the results, see [`Record::digest_result`].
    pub result_sha256: String,
    /// Wall time of each completed epoch by phase; as long as `epochs`.
    pub timing: Vec<Phases>,
    /// The optimizer after the last step; `None` in records of early versions and of failed runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerInfo>,
    /// Machine, threads, commit, versions and command.
    pub provenance: Provenance,
    /// Digest of all other fields, see [`Record::digest`]. The store writes it; `None` in records of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_sha256: Option<String>,
}

/// Serde asks by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Serde asks by reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_nothing(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// The data set of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataInfo {
    /// Name as in the configuration (`mnist`, `fashion-mnist`).
    pub name: String,
    /// Name in captions (`Fashion-MNIST (mini)`).
    pub title: String,
    /// SHA-256 of the contents of both splits, in hex.
    pub digest: String,
    /// Whether it is the published set of that name; not written if it is.
    #[serde(default, skip_serializing_if = "Standing::is_published")]
    pub standing: Standing,
    /// Number of training examples used, after a subset was drawn.
    pub train_examples: usize,
    /// Number of test examples used.
    pub test_examples: usize,
    /// Number of training examples held out for validation; not written if it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_examples: usize,
}

/// Whether a data set is the published one of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is: its digest is that of the published set. The default, also for records of versions that did not check it.
    #[default]
    Published,
    /// It has the right numbers of examples, and the digest of the published set is not known.
    Unverified,
    /// It is another set, in the published format.
    Custom,
}

impl Standing {
    /// Whether there is nothing to be said.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    fn is_published(&self) -> bool {
        *self == Self::Published
    }

    /// A remark for readers about a set with this title; `None` for a published one.
    #[must_use]
    pub fn remark(self, title: &str) -> Option<String> {
        match self {
            Self::Published => None,
            Self::Unverified => Some(format!("{title}: the right numbers of examples, and a digest that is not known")),
            Self::Custom => Some(format!("{title}: not the published data set of that name")),
        }
    }
}

/// The model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelInfo {
    /// Name in captions (`MLP 784-256-256-10`).
    pub title: String,
    /// Number of trainable parameters.
    pub parameters: usize,
}

/// The optimizer of a run, after its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerInfo {
    /// Bytes of its saved state. Memory that is used only within a step does not count.
    pub state_bytes: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// All epochs were trained.
    Finished,
    /// The training loss became infinite or NaN. This is a result, not an error.
    Diverged {
        /// Epoch, from 1, in which it happened.
        epoch: usize,
        /// Optimizer step, from 1 over the whole run, whose loss was not finite.
        step: usize,
    },
    /// The run ended by an error, such as a crash of its process. It is tried again the next time that it is planned.
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// Metrics of one completed epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Optimizer steps so far, over the whole run.
    pub steps: usize,
    /// Learning rate in the epoch's last step, before any controller.
    #[serde(with = "crate::float")]
    pub lr: f64,
    /// Mean loss (cross-entropy in nats) over the training batches: with dropout, each batch before its update.
    #[serde(with = "crate::float")]
    pub train_loss: f64,
    /// Training accuracy, 0 to 1, measured like `train_loss`. `None` for a task without accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub train_accuracy: Option<f64>,
    /// Mean loss (cross-entropy in nats) on the test split at the end of the epoch, without dropout. `None` for an epoch without evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub test_loss: Option<f64>,
    /// Test accuracy at the end of the epoch, 0 to 1. `None` for a task without accuracy or an epoch without evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub test_accuracy: Option<f64>,
    /// Score on the held-out training examples, measured like the test split. `None` if none are held out, or for an epoch without evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Score>,
    /// Further metrics of a program's own task, by split and name (`test_bits_per_character`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "crate::float::map")]
    pub metrics: BTreeMap<String, f64>,
    /// The optimizer's diagnostics of the epoch (`alpha_mean`, `effective_update_norm`, …); empty for optimizers without any.
    #[serde(with = "crate::float::map")]
    pub diagnostics: BTreeMap<String, f64>,
}

/// Loss and accuracy of a model on some examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Mean loss (cross-entropy in nats).
    #[serde(with = "crate::float")]
    pub loss: f64,
    /// Accuracy, 0 to 1. `None` for a task without accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub accuracy: Option<f64>,
}

/// Wall time of an epoch in seconds, by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// Preparing batches.
    pub data: f64,
    /// Forward passes of training.
    pub forward: f64,
    /// Backward passes.
    pub backward: f64,
    /// Optimizer steps.
    pub optimizer: f64,
    /// Evaluation on the test split.
    pub evaluation: f64,
    /// Whole training steps on a device that runs forward, backward and optimizer in one piece; not written if it is 0.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub steps: f64,
}

/// How a record was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The machine.
    pub machine: Machine,
    /// Threads that the run computed on.
    pub threads: usize,
    /// Commit that `np` was built from (not that of the working folder). `None` if the source tree is gone, has changed since, or is in no
    /// repository.
    pub commit: Option<String>,
    /// Whether that source tree had uncommitted changes.
    pub dirty: Option<bool>,
    /// Versions of `np`, `candle` and `rustc`.
    pub versions: BTreeMap<String, String>,
    /// The command that started the run, without paths of the machine.
    pub command: String,
    /// Start of the run, RFC 3339 in UTC.
    pub started: String,
    /// Peak physical memory of the worker process in bytes; of a resumed run, of its last process. `None` in records of early versions, of a
    /// worker that died, and on systems that do not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// For runs whose bits depend on the CPU: the properties that matter, of each kind of CPU that the run was trained on, in order. Else empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arithmetic: Vec<String>,
}

/// The machine of a run. It has no host name, because records are published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor model, as the system names it.
    pub cpu: String,
    /// Logical cores.
    pub cores: usize,
    /// Operating system and architecture (`linux x86_64`).
    pub os: String,
    /// The GPU that computed the run, if any; of a resumed run, that of its last process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
}

/// A GPU, with the libraries that its bits depend on. Prints as `NVIDIA H200, driver 580.95.05, CUDA 13.0, cuDNN 9.13.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// The driver's name of the model.
    pub name: String,
    /// Version of the driver; `None` if the system does not report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Version of CUDA's run-time compiler.
    pub cuda: String,
    /// Version of cuDNN; `None` for a run that does not use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cudnn: Option<String>,
}

impl Gpu {
    /// Whether the same program gives the same bits on both: they have the same model and libraries. Drivers may differ.
    #[must_use]
    pub fn computes_like(&self, other: &Self) -> bool {
        (&self.name, &self.cuda, &self.cudnn) == (&other.name, &other.cuda, &other.cudnn)
    }
}

impl fmt::Display for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(driver) = &self.driver {
            write!(f, ", driver {driver}")?;
        }
        write!(f, ", CUDA {}", self.cuda)?;
        match &self.cudnn {
            Some(cudnn) => write!(f, ", cuDNN {cudnn}"),
            None => Ok(()),
        }
    }
}

impl Record {
    /// SHA-256, in hex, of the results: configuration, the data's digest, the model's title, outcome and epochs.
    #[must_use]
    pub fn digest_result(&self) -> String {
        let part = serde_json::json!({
            "config": canonical(&self.config),
            "data": self.data.digest,
            "model": self.model.title,
            "outcome": self.outcome,
            "epochs": self.epochs,
        });
        hex(&Sha256::digest(part.to_string()))
    }

    /// SHA-256, in hex, of all fields but `record_sha256`, with keys in order.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_without(self, "record_sha256")
    }

    /// The id that follows from the record's configuration, data and semantics.
    #[must_use]
    pub fn own_id(&self) -> String {
        PlannedRun::id_under(&self.config, &self.data.digest, self.semantics)
    }

    /// The last completed epoch; `None` if there is none.
    #[must_use]
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// Whether the run need not be trained again: it has finished or diverged, not failed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed { .. })
    }
}

impl Phases {
    /// Sum over all phases, in seconds.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.data + self.forward + self.backward + self.optimizer + self.evaluation + self.steps
    }
}
