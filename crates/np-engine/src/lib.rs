//! What the optimizers of [`np-core`](https://github.com/neuroplastic-rs/neuroplastic/tree/main/crates/np-core) share, and what an optimizer of your
//! own needs.
//!
//! A [`Rule`] is the arithmetic of one optimizer, implemented for the struct of its settings ([`HyperParameters`]). The [`Driver`] does everything
//! else: it finds and checks gradients, clips, accumulates, applies groups and schedules, counts steps, and saves and loads state. Most optimizers
//! treat every element alike and implement [`Elementwise`], in about forty lines:
//!
//! ```
//! use candle_core::{DType, Device, Var};
//! use np_engine::error::not_negative;
//! use np_engine::{Decay, Driver, Elementwise, Number, StepInfo, hyper_parameters};
//!
//! hyper_parameters! {
//!     /// Sign descent: θ ← θ − η sign(g).
//!     pub struct SignConfig = "sign" {
//!         /// η, the length of a step, ≥ 0. Default 10⁻³.
//!         pub lr: f64 = 1e-3, not_negative;
//!     }
//! }
//!
//! pub type Sign = Driver<SignConfig>;
//!
//! impl Elementwise for SignConfig {
//!     type Scalars<T: Number> = ();
//!
//!     fn weight_decay(&self) -> Decay {
//!         Decay::Coupled(0.0) // none, unless a group sets some: then wd·θ is added to g
//!     }
//!
//!     fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) {}
//!
//!     #[inline(always)] // it becomes the body of a vectorised loop
//!     fn direction<T: Number, const N: usize>(_: &(), _: T, g: T, state: [T; N]) -> (T, [T; N]) {
//!         (g.sign(), state)
//!     }
//! }
//!
//! # fn main() -> np_engine::Result<()> {
//! let w = Var::ones(3, DType::F32, &Device::Cpu)?;
//! let mut optimizer = Sign::from_named(vec![("w".into(), w.clone())], SignConfig { lr: 0.5 })?;
//! optimizer.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
//! assert_eq!(w.to_vec1::<f32>()?, [0.5; 3]);
//! # Ok(())
//! # }
//! ```
//!
//! Optimizers whose elements are coupled through sums are steps of a [`chain`]; those of whole matrices work on slices of the host's memory or on
//! tensors of a device ([`host`]). From the bottom up: settings; a parameter's state; elements and the ways to compute (`cpu`, `matrix`, and those of
//! [`np_trace`]); updates; rules; the driver, and passes over elements. No modules at the root import each other in a circle. What is at the root, and the ranges in
//! [`error`], are for every author of an optimizer. Authors of rules with norms also need [`chain`] and [`cpu::sums`]; authors of rules of whole matrices, [`host`]
//! and [`matrix`]. These and the other modules may change more often.

#[macro_use]
pub mod config;
pub mod error;

mod accumulate;
pub mod apply;
pub mod backend;
pub mod buffer;
#[doc(hidden)]
pub mod candle;
pub mod chain;
pub mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
pub mod device_matrix;
pub mod driver;
mod element;
pub mod elementwise;
pub mod gradient_map;
pub mod gradients;
pub mod host;
pub mod input;
mod inspect;
pub mod matrix;
pub mod optimizer_state;
mod pages;
pub mod param_state;
pub mod param_step;
#[doc(hidden)]
pub mod places;
pub mod range;
mod rate;
pub mod report;
mod rounded;
mod rounder;
pub mod rule;
mod saved;
pub mod state;
pub mod weights;

pub use apply::Apply;
pub use backend::Backend;
pub use buffer::Buffer;
pub use config::decay::{Decay, DecayKind};
pub use config::hyper::HyperParameters;
pub use config::options::{Accumulate, Clip, DecayScope, Group, Matrix, NonFinite, Options, Training};
pub use config::plasticity::{Layer, NeuroPlasticGroup, Plasticity, Third};
pub use config::rounding::{Rounding, Stochastic};
pub use config::schedule::{self, Schedule};
pub use driver::Driver;
pub use elementwise::{Elementwise, StepInfo};
pub use error::{Error, Result};
pub use input::{Closure, LayerRecord, Search, Searched, StepInput};
#[doc(inline)]
pub use np_trace::{Float, Number, Outcome, Traced};
pub use optimizer_state::{OptimizerState, Piece, Pieces, STATE_VERSION};
pub use param_state::ParamState;
pub use param_step::ParamStep;
pub use report::{StepOutcome, StepReport};
pub use rule::{Rule, StepContext};
pub use weights::Weights;
