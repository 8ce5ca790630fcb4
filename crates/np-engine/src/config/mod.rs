//! Settings: options that all optimizers share, schedules, weight decay, rounding, and the documentation of settings.

#[macro_use]
#[doc(hidden)]
pub mod documented;
#[macro_use]
#[doc(hidden)]
pub mod tagged;
pub mod decay;
pub mod hyper;
pub mod options;
pub mod plasticity;
pub mod rounding;
pub mod schedule;
