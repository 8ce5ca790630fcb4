//! Results as tables for other programs: runs, epochs and comparisons, a file each, in forms that polars, pandas, R and TensorBoard read.

mod frame;
mod parquet;
mod tables;
mod tensorboard;

pub(crate) use frame::{Cell, Frame};
pub(crate) use parquet::parquet;
pub(crate) use tables::{Exported, comparisons, epochs, runs};
pub(crate) use tensorboard::{events, folder_of};
