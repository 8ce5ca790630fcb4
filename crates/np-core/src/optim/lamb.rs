//! LAMB: Adam's direction at the length of the weights, layer by layer.

use crate::config::decay::Decay;
use crate::engine::apply::Apply;
use crate::engine::buffer::Buffer;
use crate::engine::cpu::sums;
use crate::engine::driver::Driver;
use crate::engine::number::Float;
use crate::engine::param_step::ParamStep;
use crate::engine::pass;
use crate::engine::pass::{Block, Of, Pass};
use crate::engine::rule::{Rule, StepContext};
use crate::error::{Result, fraction, not_negative, positive};
use crate::optim::average::{Average, correction};
use candle_core::Tensor;

optimizer! {
    /// LAMB: each tensor's step has the length of the tensor itself, times η; for large batches.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²          u = m / (√v + ε)
    /// θ ← (1 − η wd) θ
    /// r = min(‖θ‖, φ) / (‖u‖ + ε)    (1 where a norm is 0)
    /// θ ← θ − η r u / (1 − β₁ᵗ)
    /// ```
    ///
    /// As `Lamb` of the package `pytorch_optimizer` (4.1), with its defaults and its departures from the paper: u itself has no bias correction (its
    /// length does not matter, ε in it does), yet the first moment's correction multiplies the step, so that the first step is 10 times as long as
    /// the rest with the default β₁; weight decay stands beside u, not in it; φ = 10 cuts the norm of the weights. Without its options.
    /// Reference: You et al. 2020.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut lamb = np_core::Lamb::from_named(vec![("w".into(), w.clone())], np_core::LambConfig::default())?;
    /// let report = lamb.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub type Lamb = Driver<LambConfig>;

    /// Hyper-parameters of [`Lamb`].
    pub struct LambConfig = "lamb" {
        /// η, length of a step as a share of the weights', ≥ 0. Default 10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (paper).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (paper).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v and to ‖u‖, > 0. Default 10⁻⁶ (paper).
        pub eps: f64 = 1e-6, positive;
        /// φ, most that ‖θ‖ counts for, > 0. Default 10 (`pytorch_optimizer`).
        pub max_weight_norm: f64 = 10.0, positive;
        /// wd, decoupled weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

/// Moves the moments, writes u, and gives Σθ² and Σu².
struct Moments {
    beta1: f64,
    beta2: f64,
    eps: f64,
}

impl Pass<2> for Moments {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 2] {
        let (first, second, eps) = (Average::new(self.beta1), Average::new(self.beta2), T::from_f64(self.eps));
        let Block { theta, g, state: [m, v, u, ..] } = block else { return [0.0; 2] };
        for (((g, m), v), u) in g.iter().zip(m.iter_mut()).zip(v.iter_mut()).zip(u.iter_mut()) {
            *m = first.of(*m, *g);
            *v = second.of(*v, *g * *g);
            *u = *m / (v.sqrt() + eps);
        }
        [sums::square_sum(theta), sums::square_sum(u)]
    }

    fn tensors(&self, theta: &Tensor, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; 2]> {
        if let [m, v, u, ..] = state {
            *m = Average::new(self.beta1).of_tensors(m, g)?;
            *v = Average::new(self.beta2).of_tensors(v, &g.sqr()?)?;
            *u = (&*m / (v.sqrt()? + self.eps)?)?;
        }
        Ok([theta.sqr()?.sum_all()?, state[2].sqr()?.sum_all()?])
    }
}

impl Rule for LambConfig {
    type Memory = ();

    fn keeps_squares(&self) -> bool {
        true
    }

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec!["first_moment".into(), "second_moment".into()]
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("first_moment")
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], (): &mut ()) -> Result<Vec<Apply>> {
        let moments = Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps };
        pass::for_each(work, |w| {
            let Apply { keep, factor } = Apply::new(w.lr, Decay::Decoupled(w.weight_decay(self.weight_decay)));
            let [theta, u] = pass::run(w, &moments)?;
            let (theta, u) = (pass::norm(w, theta, Of::Theta)?, pass::norm(w, u, Of::State(2))?);
            let theta = (keep.abs() * theta).min(self.max_weight_norm);
            let ratio = if theta == 0.0 || u == 0.0 { 1.0 } else { theta / (u + self.eps) };
            let t = i32::try_from(w.param.steps).unwrap_or(i32::MAX);
            Ok(Apply { keep, factor: factor * ratio / correction(self.beta1, t) })
        })
    }
}
