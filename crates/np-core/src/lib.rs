//! Optimizers for [candle](candle_core): NeuroPlastic, its formulations, and 27 others to compare it with.
//!
//! Every optimizer is a plain struct of hyper-parameters (its [`Rule`]) in one shared [`Driver`]. The driver
//! alone handles variables, gradients, names and saved state. Each optimizer is a
//! [`candle_nn::Optimizer`], so it fits into any candle training loop:
//!
//! ```
//! use candle_core::{DType, Device, Tensor, Var};
//! use candle_nn::Optimizer;
//! use np_core::{NeuroPlastic, NeuroPlasticConfig};
//!
//! # fn main() -> candle_core::Result<()> {
//! let w = Var::from_tensor(&Tensor::new(&[3f32, -2.0], &Device::Cpu)?)?;
//! let mut optimizer = NeuroPlastic::new(vec![w.clone()], NeuroPlasticConfig { lr: 0.1, ..Default::default() })?;
//! for _ in 0..100 {
//!     let loss = w.as_tensor().sqr()?.sum_all()?;
//!     optimizer.backward_step(&loss)?;
//! }
//! assert!(w.as_tensor().abs()?.max_all()?.to_scalar::<f32>()? < 0.1);
//! # Ok(())
//! # }
//! ```
//!
//! [`OptimizerConfig`] has a table of all optimizers, with the memory that each needs and when to use it.
//! The optimizer `Name` is configured by the struct `NameConfig`. To choose the optimizer at run time, use
//! [`OptimizerConfig`]: it deserialises from any self-describing format (JSON, YAML, TOML) and builds a
//! boxed [`AnyOptimizer`].
//!
//! [`Options`] holds what all optimizers share: parameter groups, clipping, accumulation, a schedule,
//! rounding. [`Driver::state`] and [`Driver::load_state`] save and resume an optimizer bit by bit.
//!
//! On the CPU a step updates the parameters in place. It uses a rayon pool of its own with as many
//! threads as the caller's pool, and its results do not depend on the number of threads. It may be called
//! from rayon tasks, behind a lock or on shared parameters: the caller waits without running other tasks.
//! candle's own matrix products do run other tasks while they hold locks. So a forward pass may deadlock
//! if another task steps the same parameters meanwhile.
//!
//! On CUDA (feature `cuda`) most optimizers run as a few kernel launches for all tensors; on Metal, and
//! where there is no kernel, the same rule runs as tensor operations.
//!
//! Parameters may be `f32`, `f64`, `f16` or `bf16`; state of half-precision parameters is kept in `f32`.
//! By default, an update smaller than half of the last bit of a half-precision parameter is lost;
//! [`Rounding`] has alternatives.

#[macro_use]
extern crate np_engine as _;

mod any;
#[cfg(feature = "conform")]
pub mod conform;
#[cfg(test)]
mod launched_tests;
pub mod neuroplastic;
#[macro_use]
mod optim;
mod registry;
pub mod torch;
pub mod traced;

pub use any::AnyOptimizer;
pub use neuroplastic::{NeuroPlastic, NeuroPlasticConfig};
/// What all optimizers share, for authors of optimizers.
pub use np_engine as engine;
pub use np_engine::hyper_parameters;
#[doc(inline)]
pub use np_engine::{
    Accumulate, Apply, Backend, Buffer, Clip, Closure, Decay, DecayKind, DecayScope, Driver, Elementwise, Error, Float,
    Group, HyperParameters, Layer, LayerRecord, Matrix, NeuroPlasticGroup, NonFinite, Number, OptimizerState, Options,
    ParamState, ParamStep, Piece, Pieces, Plasticity, Result, Rounding, Rule, STATE_VERSION, Schedule, Search,
    Searched, StepContext, StepInfo, StepInput, StepOutcome, StepReport, Stochastic, Third, Training, Weights,
    schedule,
};
pub use optim::BaseConfig;
pub use optim::muon::{Fallback, MuonScale, Precision};
pub use registry::OptimizerConfig;

optimizers! { reexports! }
