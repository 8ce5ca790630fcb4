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
//! On the CPU a step updates the parameters in place. It uses a rayon pool of this crate with as many
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
mod config;
#[cfg(feature = "conform")]
pub mod conform;
mod engine;
mod error;
pub mod neuroplastic;
#[macro_use]
mod optim;
mod registry;
pub mod torch;
pub mod traced;

pub use config::decay::{Decay, DecayKind};
pub use config::hyper::HyperParameters;
pub use config::options::{Accumulate, Clip, DecayScope, Group, Matrix, NonFinite, Options, Training};
pub use config::plasticity::{Layer, NeuroPlasticGroup, Plasticity, Third};
pub use config::rounding::{Rounding, Stochastic};
pub use config::schedule::{self, Schedule};
pub use engine::any::AnyOptimizer;
pub use engine::apply::Apply;
pub use engine::backend::Backend;
pub use engine::buffer::Buffer;
pub use engine::driver::Driver;
pub use engine::elementwise::{Elementwise, StepInfo};
pub use engine::input::{Closure, LayerRecord, Search, Searched, StepInput};
pub use engine::optimizer_state::{OptimizerState, Piece, Pieces, STATE_VERSION};
pub use engine::param_state::ParamState;
pub use engine::param_step::ParamStep;
pub use engine::report::{StepOutcome, StepReport};
pub use engine::rule::{Rule, StepContext};
pub use engine::weights::Weights;
pub use error::{Error, Result};
pub use neuroplastic::{NeuroPlastic, NeuroPlasticConfig};
#[doc(inline)]
pub use np_trace::{Float, Number};
pub use optim::BaseConfig;
pub use optim::muon::{Fallback, MuonScale, Precision};
pub use registry::OptimizerConfig;

optimizers! { reexports! }
