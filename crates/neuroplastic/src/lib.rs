//! NeuroPlastic and 27 other optimizers for candle, from one crate.
//!
//! All items of np-core are re-exported here: [`NeuroPlastic`], [`AdamW`], [`Options`], [`OptimizerConfig`] and the others. The other crates of the project are
//! modules behind features of the same name: `models`, `data`, `records`, `runner`.

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
