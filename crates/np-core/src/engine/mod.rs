//! The machinery that all optimizers share, from the bottom up: elements; a parameter's state; the ways to compute (`cpu`, `matrix`, and those of
//! [`np_trace`]); passes over elements; rules, and the driver that applies them. A module does not import those above it.

pub(crate) mod accumulate;
pub(crate) mod any;
pub(crate) mod any_rule;
pub(crate) mod apply;
pub(crate) mod backend;
pub(crate) mod buffer;
pub(crate) mod candle;
// Launches are made with the feature `cuda`, and in tests.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
pub(crate) mod chain;
pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
pub(crate) mod device_matrix;
pub(crate) mod driver;
pub(crate) mod element;
pub(crate) mod elementwise;
pub(crate) mod gradient_map;
pub(crate) mod gradients;
pub(crate) mod host;
pub(crate) mod input;
#[cfg(test)]
pub(crate) mod launch_tests;
pub(crate) mod matrix;
pub(crate) mod optimizer_state;
pub(crate) mod param_state;
pub(crate) mod param_step;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod places;
pub(crate) mod range;
pub(crate) mod rate;
pub(crate) mod report;
pub(crate) mod rounder;
pub(crate) mod rule;
pub(crate) mod saved;
pub(crate) mod weights;
