//! What an experiment leaves behind: a plan that lists its runs, one record for each run, and the statistics
//! that compare them.
//!
//! | here | what |
//! |---|---|
//! | [`Plan`], [`Record`] | the two files, as types |
//! | [`Store`] | reading and writing them: files are written whole or not at all, and checked when read |
//! | [`stats`] | mean, spread, bootstrap interval, exact sign-flip test, Holm |
//! | [`compare`] | two arms of a plan, paired by seed; all arms pooled, against a target, as profiles: `np compare` |
//! | [`StatedOutcome`], [`Hypothesis`] | what an experiment fixes before its runs |
//! | [`select`] | each arm's best configuration, at an equal budget |
//! | [`Table`] | what all of them print |
//! | [`yaml`] | values as an experiment file writes them |
//!
//! Nothing here trains or knows candle, so that a program that only reads results (`cargo xtask figures`)
//! builds in seconds. It is the interface between what trains and what draws.

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
