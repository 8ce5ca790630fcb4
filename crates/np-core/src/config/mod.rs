//! Settings: options that all optimizers share, schedules, weight decay, rounding, and the documentation of settings.

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
