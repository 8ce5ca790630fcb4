//! Experiments, from a YAML file to records: the library behind the `np` command.
//!
//! ```text
//! FILE.yaml ─ document, tree, spec ─► Plan ─ launch ─► worker processes ─ train ─► one Record a run
//! ```
//!
//! A file is read into a [tree that knows its lines](document). Its scale, arms, swept values and overrides
//! are [laid over one another](tree), and each run's tree becomes a typed, checked [`RunConfig`]: nothing
//! downstream parses or applies defaults again. [`plan()`] gives every run its id, a hash of that
//! configuration and of the data, so that a run is trained only once.
//!
//! [`Launch`] trains what has no record yet, each run in a process of its own ([`exec`]); [`Submission`]
//! submits it to a cluster. [`train()`] is the loop. From a [`Snapshot`] an interrupted run continues, to
//! the same bits.
//!
//! What a run learns is a [`Task`]: settings, data, model, batches, loss. That of the experiments here is [`Images`]. A program with tasks of its own
//! calls [`cli::main_with`] and is `np` with these tasks: it plans, trains, resumes, compares, reports, exports, and runs on clusters.
//!
//! Optimizers, models, data sets and the layout of records belong to the sister crates; drawing to `xtask`.

mod arithmetic;
mod axes;
mod bundle;
mod bytes;
mod choices;
pub mod cli;
mod config;
mod costs;
mod data;
mod device;
mod document;
mod elsewhere;
mod error;
mod event;
mod explain;
mod export;
mod fingerprint;
mod golden;
mod gpu;
mod gpu_times;
mod images;
mod keeper;
mod launch;
mod layers;
mod limit;
mod lock;
mod memory;
mod merge;
mod model;
mod origin;
mod planning;
mod provenance;
mod rebuild;
mod report;
mod say;
mod screen;
mod search;
mod seeds;
mod shell;
mod snapshot;
mod spec;
mod stated;
mod status;
mod step;
mod stop;
mod summary;
mod table;
mod task;
mod threads;
mod train;
mod tree;
mod watch;
mod worker;

pub use bundle::{Collection, collect};
pub use config::{RunConfig, TrainConfig};
pub use data::DataConfig;
pub use device::{Device, Precision};
pub use error::{Error, Fault, Place, Problem, Result};
pub use golden::replay;
pub use gpu::GpuError;
pub use images::{ImageBatch, ImageSettings, Images};
pub use keeper::Every;
pub use launch::{
    Array, Ending, Gpus, Launch, Launcher, LauncherConfig, OnFailure, OtherGpu, Share, SlurmConfig, Submission,
    Submitted, Tally,
};
pub use limit::Limit;
pub use memory::Memory;
pub use model::ModelConfig;
pub use planning::{Assumed, Planned, UNKNOWN, asked, missing, plan, plan_assuming};
pub use provenance::{Caller, cores};
pub use screen::Screen;
pub use snapshot::{Snapshot, State};
pub use spec::{DEFAULT_SCALE, Request, default_store};
pub use summary::{Costs, results};
pub use task::{
    AboutData, Counts, Estimate, Examples, Half, Loss, NamedVars, OutOfRange, Picked, Score, Task, TaskConfig,
    TaskData, TaskError, TaskMetric, TaskResult, Tasks, Trainable, VarModel,
};
pub use train::{News, OnGpu, Trained, train};
pub use worker::{Job, Supervision, exec};

/// SHA-256 in hex: the digest of a task's data, see [`AboutData::digest`].
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
