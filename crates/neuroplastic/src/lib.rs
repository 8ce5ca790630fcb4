//! NeuroPlastic and 27 other optimizers for candle, from one crate.
//!
//! Everything of np-core is here under its own name: [`NeuroPlastic`], [`AdamW`], [`Options`], [`OptimizerConfig`]. The other crates of the family are
//! modules behind features: `models`, `data`, `records`, `runner`.

pub use np_core::*;

#[cfg(feature = "data")]
#[doc(inline)]
pub use np_data as data;
#[cfg(feature = "models")]
#[doc(inline)]
pub use np_models as models;
#[cfg(feature = "records")]
#[doc(inline)]
pub use np_record as records;
#[cfg(feature = "runner")]
#[doc(inline)]
pub use np_runner as runner;
