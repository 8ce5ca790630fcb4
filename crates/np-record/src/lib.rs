//! Plans and records of experiments, and statistics that compare them.
//!
//! An experiment has **arms** (configurations to compare). Each arm is run with several seeds, at every
//! combination of the **axes** (swept settings such as data set or learning rate). A plan lists the runs; each
//! run has one record of its results.
//!
//! | item | contents |
//! |---|---|
//! | [`Plan`], [`Record`] | the two kinds of files, as types |
//! | [`Store`] | reads and writes them: files are written whole or not at all, and checked when read |
//! | [`stats`] | mean, standard deviation, bootstrap interval, exact sign-flip test, Holm's adjustment |
//! | [`compare`] | comparisons of arms (`np compare`): in pairs by seed, pooled, time to a target, profiles |
//! | [`StatedOutcome`], [`Hypothesis`] | what an experiment fixes before its runs |
//! | [`select`] | selection of each arm's best configuration, with equal budgets if wanted |
//! | [`Table`] | a table of results, printed as text, Markdown, CSV or JSON |
//! | [`yaml`] | values in the form of an experiment file |
//!
//! The crate trains nothing and does not depend on candle, so that a program that only reads results
//! (`cargo xtask figures`) builds in seconds.

mod atomic;
pub mod compare;
mod float;
mod output;
mod own;
mod plan;
mod record;
pub mod select;
mod semantics;
mod stated;
pub mod stats;
mod store;
mod table;
mod text;
pub mod yaml;

pub use atomic::{write_atomic, write_output, write_program};
pub use output::{OutputError, OutputKind, check_output};
pub use own::OwnMetric;
pub use plan::{Plan, PlannedRun, Stale};
pub use record::{
    DataInfo, Epoch, Gpu, Machine, ModelInfo, OptimizerInfo, Outcome, Phases, Provenance, Record, Score, Standing,
};
pub use semantics::{SEMANTICS, semantics_of};
pub use stated::{Direction, EpochMetric, Hypothesis, StatedOutcome};
pub use store::{Archive, ArchiveWriter, Kind, Packed, Part, Reading, Store, StoreError, Taken, read_regular};
pub use table::{Cell, Column, Edge, Shown, Table, words};
pub use text::{can_name, csv_field, hex, is_hidden, visible, visible_json, visible_lines};

/// Version of the JSON layout of plans and records. A reader refuses a newer one.
pub const SCHEMA: u32 = 1;
