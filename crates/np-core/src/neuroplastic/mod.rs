//! NeuroPlastic: traces → signals → coefficient → formulation → controller → stabiliser. Each stage is a struct of settings in a file of its own.
//!
//! A step (`step`) is a few passes over the elements of all tensors (`formulas`), with scalar arithmetic between them (`scalars`). It is
//! written once, for the CPU, for tensor operations and for CUDA kernels.

pub(crate) mod base;
pub(crate) mod coefficient;
pub(crate) mod controller;
pub(crate) mod diagnostics;
mod formulas;
pub(crate) mod formulation;
mod kernels;
#[cfg(test)]
mod launched_tests;
pub(crate) mod layers;
mod passes;
mod scalars;
pub(crate) mod signals;
pub(crate) mod stabilizer;
mod step;
pub(crate) mod traces;

use std::collections::BTreeMap;

use candle_core::Tensor;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain;
use np_engine::driver::Driver;
use np_engine::error::{Result, not_negative};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::Outcome;

use crate::any::rule::AnyMemory;
pub use base::{Base, BaseAdamw, BaseSgd};
pub use coefficient::{Coefficient, Granularity, RuleKind};
pub use controller::{Controller, ControllerMode};
pub use diagnostics::Diagnostics;
pub use formulation::{
    BoundedResidual, Direct, Formulation, Hybrid, OrthogonalResidual, Phase, ResidualNorm, ResidualSchedule, Target,
};
pub use layers::Scope;
pub use np_engine::config::decay::DecayKind;
pub use signals::{Normalization, Signals};
pub use stabilizer::{LayerScale, RmsGain, Stabilizer};
pub use traces::Traces;

optimizer! {
    /// NeuroPlastic: a gradient step that is scaled element by element by a plasticity coefficient α, computed from three normalised signals,
    /// and whose size a homeostatic stabiliser bounds.
    ///
    /// ```text
    /// a ← 0.95 a + 0.05 |g|     m ← 0.9 m + 0.1 g     v ← 0.99 v + 0.01 g²
    /// α_g = clip(ĝ, α_min, α_max)     α_f = clip(w_a â + w_g ĝ + w_m m̂, α_min, α_max)     x̂ = x / (mean(x) + ε)
    /// α = α_g + ρ s (α_f − α_g)              ρ: warm-up, see `coefficient`
    /// u = α ⊙ g                              (direct; see `formulation` for the others)
    /// u ← u · min(1, U/‖u‖)                  norm clip
    /// θ ← θ − η G u                          G: a gain near 1, see `stabilizer`
    /// ```
    ///
    /// The norm clip is on by default, with U = 1. The direction of a hybrid's base may be far longer (AdamW's is about √n for n elements), so
    /// that a hybrid takes smaller steps than its base at the same η. With `stabilizer: off` its steps are as large as the base's.
    ///
    /// Where this departs from the paper, it follows the published code and reproduces its trajectories: the momentum and variance have no
    /// bias correction, α may leave its bounds when s exceeds 1, and the warm-up ρ is counted in epochs.
    /// Signals, norms and means are computed for each tensor separately. A tensor without a gradient is left untouched.
    ///
    /// Reference: *NeuroPlastic: A Plasticity-Modulated Optimizer for Biologically Inspired Learning Dynamics*, 2026.
    ///
    /// ```
    /// use candle_core::{DType, Device, Var};
    /// use np_core::neuroplastic::{Coefficient, RuleKind};
    /// use np_core::{NeuroPlastic, NeuroPlasticConfig};
    ///
    /// # fn main() -> np_core::Result<()> {
    /// // The gradient-only ablation with the bounds of the published runs.
    /// let coefficient = Coefficient { rule: RuleKind::GradientOnly, min: 0.5, max: 1.5, ..Default::default() };
    /// let config = NeuroPlasticConfig { coefficient, ..Default::default() };
    /// let w = Var::ones((4, 4), DType::F32, &Device::Cpu)?;
    /// let mut optimizer = NeuroPlastic::from_named(vec![("w".into(), w.clone())], config)?;
    /// optimizer.begin_epoch(1, 10);
    /// optimizer.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(optimizer.diagnostics()["alpha_mean"], 1.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Call [`Driver::begin_epoch`] at the start of every epoch if warm-up, phases or schedules are set. [`NeuroPlasticConfig::hybrid`] configures
    /// a hybrid whose steps are as large as its base's.
    pub type NeuroPlastic = Driver<NeuroPlasticConfig>;
    "traces" => Traces;
    "signals" => Signals;
    "coefficient" => Coefficient;
    "formulation.direct" => Direct;
    "formulation.bounded_residual" => BoundedResidual;
    "formulation.orthogonal_residual" => OrthogonalResidual;
    "formulation.hybrid" => Hybrid;
    "controller" => Controller;
    "stabilizer" => Stabilizer;
    "stabilizer.rms_gain" => RmsGain;
    "stabilizer.rms_gain.layer_scale" => LayerScale;
}

hyper_parameters! {
    /// Hyper-parameters of [`NeuroPlastic`], part by part.
    pub struct NeuroPlasticConfig = "neuroplastic" {
        /// η, step size, ≥ 0. Default 0.1 (the tuned value of the published MNIST runs).
        pub lr: f64 = 0.1, not_negative;
        /// wd, strength of weight decay, ≥ 0; the formulation says where it enters. Default 0 (published code).
        pub weight_decay: f64 = 0.0, not_negative;
        /// The running averages that the signals are computed from.
        pub traces: Traces = Traces::default();
        /// Weights and normalisation of the three signals that α is computed from.
        pub signals: Signals = Signals::default();
        /// How the signals become α: bounds, scale, warm-up.
        pub coefficient: Coefficient = Coefficient::default();
        /// How α enters the update: `direct`, `bounded_residual`, `orthogonal_residual`, or `hybrid` with another optimizer as its base. Default
        /// `direct`. The stabilizer's norm clip also limits a hybrid's steps; with `stabilizer: off` they are as large as the base's.
        pub formulation: Formulation = Formulation::default();
        /// A controller that multiplies the learning rate, `{mode: global}`, `{mode: layerwise}` or `{mode: classifier_only}`. Default `null`: none.
        pub controller: Option<Controller> = None;
        /// Limits on the size of an update: norm clip and RMS gain.
        pub stabilizer: Stabilizer = Stabilizer::default();
    }
    check |config| {
        config.traces.in_range().map_err(|e| e.below("traces"))?;
        config.signals.in_range().map_err(|e| e.below("signals"))?;
        config.coefficient.in_range().map_err(|e| e.below("coefficient"))?;
        config.formulation.validate().map_err(|e| e.below("formulation"))?;
        config.controller.as_ref().map_or(Ok(()), Controller::in_range).map_err(|e| e.below("controller"))?;
        config.stabilizer.validate().map_err(|e| e.below("stabilizer"))
    }
}

impl NeuroPlasticConfig {
    /// A hybrid of `base` whose steps are as large as the base's own: without norm clip and gain, and with the base's default η. Weight decay
    /// is 0, also where the base's default is not. With `strength` 0 the steps are those of the base, bit by bit.
    ///
    /// ```
    /// use np_core::neuroplastic::Base;
    /// use np_core::{BaseConfig, LionConfig, NeuroPlasticConfig};
    /// let config = NeuroPlasticConfig::hybrid(Base::Other(Box::new(BaseConfig::Lion(LionConfig::default()))));
    /// assert_eq!((config.lr, config.stabilizer.max_update_norm), (1e-4, None));
    /// ```
    #[must_use]
    pub fn hybrid(base: Base) -> Self {
        let lr = base.learning_rate();
        let formulation = Formulation::Hybrid(Hybrid { base, ..Hybrid::default() });
        Self { lr, formulation, stabilizer: Stabilizer::off(), ..Self::default() }
    }
}

/// What NeuroPlastic keeps from step to step beside its saved state.
#[derive(Debug, Default)]
pub struct Memory {
    /// The totals of the diagnostics, and what launches keep.
    chain: chain::memory::Memory,
    /// That of a hybrid's base.
    base: AnyMemory,
}

impl Rule for NeuroPlasticConfig {
    type Memory = Memory;

    fn portable(&self) -> bool {
        self.formulation.other().is_none_or(|c| c.rule().portable())
    }

    fn keeps_squares(&self) -> bool {
        true
    }

    fn clips_on_device(&self) -> bool {
        self.formulation.other().is_none()
    }

    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        let mut all: Vec<Buffer> = vec!["activity_trace".into(), "momentum".into(), "variance".into()];
        if let Formulation::Hybrid(hybrid) = &self.formulation {
            all.extend(hybrid.base.buffers(shape));
        }
        all
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        self.formulation.other().map_or(&[], |c| c.rule().numbers())
    }

    fn scratch(&self) -> usize {
        match &self.formulation {
            Formulation::Hybrid(hybrid) => 1 + hybrid.base.other().map_or(1, |c| c.rule().scratch().max(1)),
            _ => 1,
        }
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        step::take(self, cx, work, memory, Outcome::Direction)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        step::take(self, cx, work, memory, Outcome::Step).map(drop)
    }

    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        self.formulation.other().map_or(Ok(None), |config| config.rule().average(theta, &buffers[base::TRACES..]))
    }

    fn shared(&self, memory: &Memory) -> Result<Vec<(&'static str, f64)>> {
        self.formulation.other().map_or(Ok(vec![]), |config| config.rule().shared(&memory.base))
    }

    fn load_shared(&self, memory: &mut Memory, values: &[f64]) {
        if let Some(config) = self.formulation.other() {
            config.rule().load_shared(&mut memory.base, values);
        }
    }

    fn reset_diagnostics(memory: &mut Memory) {
        memory.chain.keep(vec![]);
    }

    fn diagnostics(memory: &Memory) -> BTreeMap<String, f64> {
        // A device that gives nothing back refuses the next step, and says why.
        Diagnostics::of(memory.chain.kept().unwrap_or_default()).report()
    }
}
