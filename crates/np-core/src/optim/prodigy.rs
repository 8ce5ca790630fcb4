//! Prodigy: Adam that finds its own step size.

use crate::config::decay::DecayKind;
use crate::engine::apply::Apply;
use crate::engine::buffer::Buffer;
use crate::engine::cpu::sums;
use crate::engine::driver::Driver;
use crate::engine::number::Float;
use crate::engine::param_step::ParamStep;
use crate::engine::pass;
use crate::engine::pass::{Block, Pass};
use crate::engine::rule::{Rule, StepContext};
use crate::error::{Result, fraction, not_negative, one_or_more, optional, positive};
use crate::optim::average::{Average, correction};
use candle_core::Tensor;

optimizer! {
    /// Prodigy: Adam with a step size d η, where d estimates how far the start θ₀ is from a solution.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) d g                  v ← β₂ v + (1 − β₂) d² g²
    /// s ← β₃ s + (d/d₀) d η b g                b = 1, or √(1 − β₂ᵏ)/(1 − β₁ᵏ) with bias correction
    /// n ← β₃ n + (d/d₀) d η b Σ g (θ₀ − θ)     over all parameters together
    /// d̂ = κ n / Σ|s|                           d⁺ = min(largest d̂ so far, γ d), never below d₀
    /// θ ← (1 − d η b wd) θ − d η b m / (√v + d⁺ ε)
    /// ```
    ///
    /// Leave η at 1, with a schedule that falls to 0. A parameter's θ₀ is what it was at its first step. Where every gradient has been 0, nothing moves.
    /// As the package `prodigyopt` (Mishchenko and Defazio's own), with its defaults; k counts the updates. Departures: groups may scale η, and the
    /// estimate goes by the largest; with β₁ = 0 the gradient is scaled by d, not d⁺. Reference: Mishchenko and Defazio 2023.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut prodigy = np_core::Prodigy::from_named(vec![("w".into(), w.clone())], np_core::ProdigyConfig::default())?;
    /// for _ in 0..200 {
    ///     prodigy.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// }
    /// assert!(w.to_vec1::<f32>()?[0].abs() < 0.5); // no learning rate was given
    /// # Ok(())
    /// # }
    /// ```
    pub type Prodigy = Driver<ProdigyConfig>;

    /// Hyper-parameters of [`Prodigy`].
    pub struct ProdigyConfig = "prodigy" {
        /// η, what the estimated step size is multiplied with, ≥ 0. Default 1 (`prodigyopt`).
        pub lr: f64 = 1.0, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (`prodigyopt`).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (`prodigyopt`).
        pub beta2: f64 = 0.999, fraction;
        /// β₃, decay of the sums that estimate d, in [0, 1). Default `null`: √β₂ (`prodigyopt`).
        pub beta3: Option<f64> = None, optional(fraction);
        /// ε, added to √v times d, > 0. Default 10⁻⁸ (`prodigyopt`).
        pub eps: f64 = 1e-8, positive;
        /// d₀, first estimate of the distance, > 0. Default 10⁻⁶ (`prodigyopt`).
        pub d0: f64 = 1e-6, positive;
        /// κ, what the estimate is multiplied with, > 0: the way to tune. Default 1 (`prodigyopt`).
        pub d_coef: f64 = 1.0, positive;
        /// γ, most that d is multiplied with in a step, ≥ 1, once it has left d₀. Default `null`: as it will (`prodigyopt`).
        pub growth_rate: Option<f64> = None, optional(one_or_more);
        /// Adam's bias correction. Default off (`prodigyopt`).
        pub bias_correction: bool = false;
        /// Leave η and b out of s: for schedules that begin with a warm-up. Default off (`prodigyopt`).
        pub safeguard_warmup: bool = false;
        /// wd, weight decay, ≥ 0. Default 0 (`prodigyopt`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default decoupled (`prodigyopt`).
        pub decay: DecayKind = DecayKind::Decoupled;
    }
}

/// What all parameters share; none before the first step.
#[derive(Debug, Clone, Copy, Default)]
pub struct Estimate(Option<Shared>);

#[derive(Debug, Clone, Copy)]
struct Shared {
    d: f64,
    /// The largest estimate so far.
    largest: f64,
    /// n
    numerator: f64,
    /// k, updates so far.
    updates: f64,
}

impl ProdigyConfig {
    fn estimate(&self, memory: &Estimate) -> Shared {
        memory.0.unwrap_or(Shared { d: self.d0, largest: self.d0, numerator: 0.0, updates: 0.0 })
    }
}

/// Moves m, v and s, and gives Σ g (θ₀ − θ) and Σ|s|.
struct Moments {
    beta1: f64,
    beta2: f64,
    beta3: f64,
    d: f64,
    /// What g is multiplied with in s.
    of_s: f64,
    coupled: f64,
    first: bool,
}

impl Pass<2> for Moments {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 2] {
        let real = T::from_f64;
        let (first, second) = (Average::new(self.beta1), Average::new(self.beta2));
        let (beta3, d, of_s, coupled) = (real(self.beta3), real(self.d), real(self.of_s), real(self.coupled));
        let Block { theta, g, state: [m, v, s, start, out, ..] } = block else { return [0.0; 2] };
        if self.first {
            start.copy_from_slice(theta);
        }
        let moments = m.iter_mut().zip(v.iter_mut()).zip(s.iter_mut());
        let places = theta.iter().zip(g).zip(start.iter()).zip(out.iter_mut());
        for ((((theta, g), start), out), ((m, v), s)) in places.zip(moments) {
            let g = *g + coupled * *theta;
            let scaled = d * g;
            *m = first.of(*m, scaled);
            *v = second.of(*v, scaled * scaled);
            *s = beta3 * *s + of_s * g;
            *out = g * (*start - *theta);
        }
        [sums::sum(out, |x| x), sums::sum(s, T::abs)]
    }

    fn tensors(&self, theta: &Tensor, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; 2]> {
        let [m, v, s, start, ..] = state else { candle_core::bail!("expected four buffers") };
        if self.first {
            *start = theta.copy()?;
        }
        let g = (g + (theta * self.coupled)?)?;
        let scaled = (&g * self.d)?;
        *m = Average::new(self.beta1).of_tensors(m, &scaled)?;
        *v = Average::new(self.beta2).of_tensors(v, &scaled.sqr()?)?;
        *s = ((&*s * self.beta3)? + (&g * self.of_s)?)?;
        Ok([(g * (&*start - theta)?)?.sum_all()?, s.abs()?.sum_all()?])
    }
}

/// Writes u = m / (√v + d⁺ ε).
struct Direction {
    eps: f64,
}

impl Pass<0> for Direction {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 0] {
        let eps = T::from_f64(self.eps);
        if let [m, v, _, _, u, ..] = block.state {
            u.iter_mut().zip(m.iter()).zip(v.iter()).for_each(|((u, m), v)| *u = *m / (v.sqrt() + eps));
        }
        []
    }

    fn tensors(&self, _: &Tensor, _: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; 0]> {
        if let [m, v, _, _, u, ..] = state {
            *u = (&*m / (v.sqrt()? + self.eps)?)?;
        }
        Ok([])
    }
}

impl Rule for ProdigyConfig {
    type Memory = Estimate;

    fn keeps_squares(&self) -> bool {
        true
    }

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec!["first_moment".into(), "second_moment".into(), "s".into(), "start".into()]
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("first_moment")
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Estimate) -> Result<Vec<Apply>> {
        let Shared { d, largest, numerator, updates } = self.estimate(memory);
        let lr = work.iter().map(|w| w.lr).fold(0.0, f64::max);
        let mut bias = 1.0;
        if self.bias_correction {
            let k = (updates + 1.0).min(f64::from(i32::MAX)) as i32;
            bias = correction(self.beta2, k).sqrt() / correction(self.beta1, k);
        }
        let beta3 = self.beta3.unwrap_or(self.beta2.sqrt());
        let weight = d / self.d0 * d * lr * bias;
        let of_s = if self.safeguard_warmup { d / self.d0 * d } else { weight };
        let sums = pass::for_each(work, |w| {
            let coupled = match self.decay {
                DecayKind::Coupled => w.weight_decay(self.weight_decay),
                DecayKind::Decoupled => 0.0,
            };
            let first = w.param.steps == 1;
            let moments = Moments { beta1: self.beta1, beta2: self.beta2, beta3, d, of_s, coupled, first };
            pass::run(w, &moments)
        })?;
        let [dots, lengths] = sums.iter().fold([0.0; 2], |[a, b], [x, y]| [a + x, b + y]);
        if lengths == 0.0 {
            // Gradients of zero so far: there is nothing to estimate from, nor anything to move by.
            return pass::for_each(work, |w| {
                pass::run(w, &Direction { eps: d * self.eps })?;
                Ok(Apply { keep: 1.0, factor: 0.0 })
            });
        }
        let mut next = Shared { d, largest, numerator: beta3 * numerator + weight * dots, updates: updates + 1.0 };
        if lr > 0.0 {
            let estimate = self.d_coef * next.numerator / lengths;
            if d == self.d0 {
                next.d = d.max(estimate);
            }
            next.largest = largest.max(estimate);
            next.d = next.largest.min(next.d * self.growth_rate.unwrap_or(f64::INFINITY));
        }
        memory.0 = Some(next);
        pass::for_each(work, |w| {
            pass::run(w, &Direction { eps: next.d * self.eps })?;
            let wd = w.weight_decay(self.weight_decay);
            Ok(Apply::new(d * w.lr * bias, self.decay.of(wd)))
        })
    }

    fn shared(&self, memory: &Estimate) -> Vec<(&'static str, f64)> {
        let Shared { d, largest, numerator, updates } = self.estimate(memory);
        vec![("d", d), ("largest_d", largest), ("d_numerator", numerator), ("updates", updates)]
    }

    fn load_shared(&self, memory: &mut Estimate, values: &[f64]) {
        if let [d, largest, numerator, updates] = *values {
            memory.0 = Some(Shared { d, largest, numerator, updates });
        }
    }
}
