//! What an optimizer is told: options around its rule, schedules, weight decay, and the documentation of settings.

#[macro_use]
pub(crate) mod documented;
#[macro_use]
pub(crate) mod tagged;
pub(crate) mod decay;
pub(crate) mod hyper;
pub(crate) mod options;
pub(crate) mod plasticity;
pub(crate) mod rounding;
pub mod schedule;
