//! Optimizers for [candle](candle_core): NeuroPlastic, its formulations, and the baselines that an ablation is worth.
//!
//! Every optimizer is a plain struct of hyper-parameters (its [`Rule`]) on one shared [`Driver`], which alone touches
//! variables, gradients, names and saved state. Each is a [`candle_nn::Optimizer`], so it drops into any candle training loop:
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
//! | optimizer | configuration | state a parameter |
//! |---|---|---|
//! | [`NeuroPlastic`] | [`NeuroPlasticConfig`] | 3 numbers, and 1 of scratch (hybrid: its base's state and scratch more) |
//! | [`Sgd`] | [`SgdConfig`] | none, or 1 with momentum |
//! | [`Adam`] | [`AdamConfig`] | 2, or 3 with AMSGrad |
//! | [`AdamW`] | [`AdamWConfig`] | 2, or 3 with AMSGrad |
//! | [`Lion`] | [`LionConfig`] | 1 |
//! | [`Adafactor`] | [`AdafactorConfig`] | a row and a column a matrix, and 1 of scratch |
//! | [`Muon`] | [`MuonConfig`] | 1 a matrix, 2 a vector, and 1 of scratch |
//! | [`Shampoo`] | [`ShampooConfig`] | two squares a dimension, and 2 of scratch |
//! | [`Kfac`] | [`KfacConfig`] | 1, and four squares a layer |
//! | [`Lbfgs`] | [`LbfgsConfig`] | 2 for each of 10 pairs and 2 more, in double precision |
//! | [`Soap`] | [`SoapConfig`] | 2, two squares a dimension, and 3 of scratch |
//! | [`NAdam`] | [`NAdamConfig`] | 2, and a number a tensor |
//! | [`RAdam`] | [`RAdamConfig`] | 2 |
//! | [`Adamax`] | [`AdamaxConfig`] | 2 |
//! | [`Adagrad`] | [`AdagradConfig`] | 1 |
//! | [`Adadelta`] | [`AdadeltaConfig`] | 2 |
//! | [`RmsProp`] | [`RmsPropConfig`] | 1 to 3: 1 more if centred, 1 more with momentum |
//! | [`Rprop`] | [`RpropConfig`] | 2 |
//! | [`Asgd`] | [`AsgdConfig`] | 1 |
//! | [`AdaBelief`] | [`AdaBeliefConfig`] | 2 |
//! | [`Adan`] | [`AdanConfig`] | 4 |
//! | [`ScheduleFreeAdamW`] | [`ScheduleFreeAdamWConfig`] | 2, and two numbers a tensor |
//! | [`ScheduleFreeSgd`] | [`ScheduleFreeSgdConfig`] | 1, and two numbers a tensor |
//! | [`Lamb`] | [`LambConfig`] | 2, and 1 of scratch |
//! | [`Lars`] | [`LarsConfig`] | 1, or none without momentum, and 1 of scratch |
//! | [`Prodigy`] | [`ProdigyConfig`] | 4, and 1 of scratch |
//!
//! Whoever chooses the optimizer at run time takes [`OptimizerConfig`], which deserialises from any self-describing format and builds a
//! boxed [`AnyOptimizer`].
//!
//! On the CPU a step works in place, block by block, vectorised, on a rayon pool of this crate's own with as many threads as the caller's has, and gives
//! the same bits whatever their number. It may be called from tasks of rayon, behind a lock or on shared parameters: whoever calls it waits without
//! taking up other tasks. candle's own products do take them up, with locks held, so that a forward pass over parameters that another task steps may
//! still wait for ever. On CUDA and Metal the same rule runs as tensor operations. Parameters may be `f32`, `f64`, `f16` or `bf16`; the state of the half-precision
//! ones is kept in `f32`. What is added to one in half precision is lost where it is less than half of its last bit: [`Rounding`] says what can be done.

#[macro_use]
mod documented;

mod accumulate;
mod adabelief;
mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod adan;
mod any;
mod apply;
mod asgd;
mod average;
mod candle;
#[cfg(feature = "conform")]
pub mod conform;
mod cpu;
mod driver;
mod elementwise;
mod error;
mod float;
mod gradients;
mod host;
mod kfac;
mod lamb;
mod lars;
mod lbfgs;
mod line_search;
mod lion;
mod matrix;
mod muon;
mod nadam;
pub mod neuroplastic;
mod options;
mod pass;
mod prodigy;
mod radam;
mod range;
mod rate;
mod registry;
mod rmsprop;
mod rounding;
mod rprop;
mod rule;
pub mod schedule;
mod schedule_free;
mod sgd;
mod shampoo;
mod size;
mod slot;
mod soap;
mod state;
mod tagged;
mod tensor_ops;
pub mod torch;
pub mod traced;
mod weights;

pub use adabelief::{AdaBelief, AdaBeliefConfig};
pub use adadelta::{Adadelta, AdadeltaConfig};
pub use adafactor::{Adafactor, AdafactorConfig};
pub use adagrad::{Adagrad, AdagradConfig};
pub use adam::{Adam, AdamConfig, AdamW, AdamWConfig};
pub use adamax::{Adamax, AdamaxConfig};
pub use adan::{Adan, AdanConfig};
pub use any::AnyOptimizer;
pub use apply::Apply;
pub use asgd::{Asgd, AsgdConfig};
pub use driver::Driver;
pub use elementwise::{At, Elementwise};
pub use error::{Error, Result};
pub use float::{Float, Number};
pub use kfac::{Kfac, KfacConfig, LayerRecord};
pub use lamb::{Lamb, LambConfig};
pub use lars::{Lars, LarsConfig};
pub use lbfgs::{Closure, Lbfgs, LbfgsConfig};
pub use lion::{Lion, LionConfig};
pub use muon::{Fallback, Muon, MuonConfig, MuonScale, Precision};
pub use nadam::{NAdam, NAdamConfig};
pub use neuroplastic::{DecayKind, NeuroPlastic, NeuroPlasticConfig};
pub use options::{
    Accumulate, Clip, DecayScope, Group, Layer, Matrix, NonFinite, Options, Plasticity, Third, Training,
};
pub use prodigy::{Prodigy, ProdigyConfig};
pub use radam::{RAdam, RAdamConfig};
pub use registry::OptimizerConfig;
pub use rmsprop::{RmsProp, RmsPropConfig};
pub use rounding::{Rounding, Stochastic};
pub use rprop::{Rprop, RpropConfig};
pub use rule::{Decay, Rule, StepContext, StepOutcome, StepReport};
pub use schedule::Schedule;
pub use schedule_free::{ScheduleFreeAdamW, ScheduleFreeAdamWConfig, ScheduleFreeSgd, ScheduleFreeSgdConfig};
pub use sgd::{Sgd, SgdConfig};
pub use shampoo::{Shampoo, ShampooConfig};
pub use slot::{Backend, Buffer, Work};
pub use soap::{Soap, SoapConfig};
pub use state::{OptimizerState, Piece, Pieces, STATE_VERSION};
pub use weights::Weights;
