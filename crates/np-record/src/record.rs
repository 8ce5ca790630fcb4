//! A record: everything that one run leaves behind.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::PlannedRun;
use crate::plan::{canonical, digest_without};
use crate::text::hex;

/// One finished, diverged or failed run.
///
/// `config`, `data`, `outcome` and `epochs` are decided by the plan, the data and the machine's arithmetic; they are the same, bit for
/// bit, however often and on however many threads the run is made, and [`Record::result_sha256`] is their digest. `timing`, `optimizer`
/// and `provenance` say how this one was made, and at what cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`crate::SCHEMA`] of the writer.
    pub schema: u32,
    /// The run's id, see [`crate::PlannedRun::id_of`].
    pub id: String,
    /// What [`crate::semantics_of`] gave for `config` when it was written.
    pub semantics: u32,
    /// The resolved configuration.
    pub config: Value,
    /// The data that it was trained and tested on.
    pub data: DataInfo,
    /// The model that was trained.
    pub model: ModelInfo,
    /// How the run ended.
    pub outcome: Outcome,
    /// Metrics, an entry a completed epoch.
    pub epochs: Vec<Epoch>,
    /// Digest of the deterministic part, see [`Record::digest_result`].
    pub result_sha256: String,
    /// Wall time of each completed epoch by phase; as long as `epochs`.
    pub timing: Vec<Phases>,
    /// What the optimizer kept at the end; not in records of before it was measured, nor of failed runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerInfo>,
    /// Who, where, with what.
    pub provenance: Provenance,
    /// Digest of all of the above, see [`Record::digest`]; the store writes it. Not in records of before there was one.
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
    /// Name as a caption prints it (`Fashion-MNIST (mini, embedded)`).
    pub title: String,
    /// SHA-256 over pixels and labels of both splits, in hex.
    pub digest: String,
    /// Whether it is the published set of that name; not written where it is.
    #[serde(default, skip_serializing_if = "Standing::is_published")]
    pub standing: Standing,
    /// Training examples used, after the fraction was taken.
    pub train_examples: usize,
    /// Test examples used.
    pub test_examples: usize,
    /// Training examples held out for validation; not written where there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub validation_examples: usize,
}

/// Whether a data set is the published one of its name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is: its digest is known. So are the sets of all records of before this was looked at.
    #[default]
    Published,
    /// It has the right numbers of examples, and a digest that nobody knows.
    Unverified,
    /// It is another set, in the published form.
    Custom,
}

impl Standing {
    /// Whether there is nothing to be said.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
    fn is_published(&self) -> bool {
        *self == Self::Published
    }

    /// What a reader must know, of a set with this title; nothing of a published one.
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
    /// As a caption prints it (`MLP 784-256-256-10`).
    pub title: String,
    /// Number of trainable parameters.
    pub parameters: usize,
}

/// The optimizer of a run, after its last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerInfo {
    /// Bytes of the state that it would have to save. Memory that it needs within a step only is not in it.
    pub state_bytes: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Every epoch was trained.
    Finished,
    /// The training loss stopped being a finite number. A result, not an error.
    Diverged {
        /// Epoch (from 1) in which it happened.
        epoch: usize,
        /// Optimizer step (from 1, over the whole run) whose loss was not finite.
        step: usize,
    },
    /// The run could not go on, for a reason that is not its configuration's arithmetic. Planned again, it is tried again.
    Failed {
        /// What went wrong.
        reason: String,
    },
}

/// Metrics of one completed epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Optimizer steps taken so far, over the whole run.
    pub steps: usize,
    /// Learning rate in the epoch's last step, before any controller.
    #[serde(with = "crate::float")]
    pub lr: f64,
    /// Mean loss (cross-entropy in nats) over the training examples as they were trained on: with dropout, before each one's update.
    #[serde(with = "crate::float")]
    pub train_loss: f64,
    /// Share of training examples classified rightly, measured like `train_loss`; 0 to 1. Not written by a task that classifies nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub train_accuracy: Option<f64>,
    /// Mean loss (cross-entropy in nats) on the test split at the end of the epoch, without dropout; not written after an epoch that was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub test_loss: Option<f64>,
    /// Share of the test split classified rightly at the end of the epoch; 0 to 1. Not written by a task that classifies nothing, nor after an epoch that was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub test_accuracy: Option<f64>,
    /// On the training examples that were held out, measured like the test split; not written where none were, nor after an epoch that was not evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Score>,
    /// What a program's own task measures besides, by split and name (`test_bits_per_character`); not written where there is nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", with = "crate::float::map")]
    pub metrics: BTreeMap<String, f64>,
    /// The optimizer's own account of the epoch (`alpha_mean`, `effective_update_norm`, …); empty for optimizers that give none.
    #[serde(with = "crate::float::map")]
    pub diagnostics: BTreeMap<String, f64>,
}

/// How well a model does on some examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Mean loss (cross-entropy in nats).
    #[serde(with = "crate::float")]
    pub loss: f64,
    /// Share classified rightly; 0 to 1. Not written by a task that classifies nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::float::option")]
    pub accuracy: Option<f64>,
}

/// Wall time in seconds, by phase.
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
    /// Whole training steps, where a device takes them in one and nobody can tell their parts apart; not written where there are none.
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
    /// Commit whose code `np` was built from (not that of the folder it ran in); `None` where the source tree is gone, has other code by now,
    /// or is in no repository.
    pub commit: Option<String>,
    /// Whether the code had changes that were not committed.
    pub dirty: Option<bool>,
    /// Versions of what the numbers depend on (`np`, `candle`, `rustc`).
    pub versions: BTreeMap<String, String>,
    /// The command that asked for the run, without paths of the machine.
    pub command: String,
    /// Start, RFC 3339 in UTC.
    pub started: String,
    /// The most physical memory that the worker held, all of it together; not in records of before it was measured, of a worker that died, nor
    /// of systems that do not say. Of a run that was resumed, its last process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// For a run whose bits depend on the CPU: what they depend on, of each kind of CPU that it was trained on, in order. Empty for all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arithmetic: Vec<String>,
}

/// The machine of a run. No host name: records are published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Processor model, as the system names it.
    pub cpu: String,
    /// Logical cores.
    pub cores: usize,
    /// Operating system and architecture (`linux x86_64`).
    pub os: String,
    /// The GPU that computed, of a run on one; of a run that was resumed, its last process's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
}

/// A GPU, with the libraries that its bits depend on. Prints as `NVIDIA H200, driver 580.95.05, CUDA 13.0, cuDNN 9.13.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gpu {
    /// Its model, as the driver names it.
    pub name: String,
    /// Version of the driver, where the system says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Version of CUDA's compiler at run time.
    pub cuda: String,
    /// Version of cuDNN; none of a run without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cudnn: Option<String>,
}

impl Gpu {
    /// Whether the same program gives the same bits on both: same model, same libraries. Drivers may differ.
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
    /// SHA-256, in hex, of what must not depend on threads or on the day: configuration, data, model, outcome and epochs.
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

    /// SHA-256, in hex, of everything but `record_sha256`, keys in order.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_without(self, "record_sha256")
    }

    /// The id that configuration, data and semantics of this record give.
    #[must_use]
    pub fn own_id(&self) -> String {
        PlannedRun::id_under(&self.config, &self.data.digest, self.semantics)
    }

    /// The last completed epoch, if there is one.
    #[must_use]
    pub fn last(&self) -> Option<&Epoch> {
        self.epochs.last()
    }

    /// Whether a plan that holds this run need not train it again: finished or diverged, not failed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !matches!(self.outcome, Outcome::Failed { .. })
    }
}

impl Phases {
    /// All phases together.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.data + self.forward + self.backward + self.optimizer + self.evaluation + self.steps
    }
}
