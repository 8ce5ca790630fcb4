//! Prodigy: Adam that finds its own step size.

#[cfg(any(test, feature = "cuda"))]
mod launched;

use std::cell::RefCell;

use crate::config::decay::{Decay, DecayKind};
use crate::engine::apply::{Apply, Seeing, apply_all};
use crate::engine::buffer::Buffer;
use crate::engine::coupled::Launches;
use crate::engine::cpu::sums;
use crate::engine::driver::Driver;
use crate::engine::number::{Float, Number};
use crate::engine::param_step::ParamStep;
use crate::engine::pass;
use crate::engine::pass::{Block, Pass};
use crate::engine::rule::{Rule, StepContext};
use crate::error::{Result, fraction, not_negative, one_or_more, optional, positive};
use crate::optim::average::{Average, power};
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

/// What all parameters share, none before the first step, and what keeps it on a device: there it is the device's, until it is asked for.
#[derive(Debug, Default)]
pub struct Estimate {
    shared: Option<Shared<f64>>,
    /// Reading from the device changes nothing that shows.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code))]
    launches: RefCell<Launches>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Shared<N> {
    d: N,
    /// The largest estimate so far.
    largest: N,
    /// n
    numerator: N,
    /// k, updates so far.
    updates: N,
}

impl<N: Number> Shared<N> {
    fn of([d, largest, numerator, updates]: [N; 4]) -> Self {
        Self { d, largest, numerator, updates }
    }

    fn numbers(self) -> [N; 4] {
        [self.d, self.largest, self.numerator, self.updates]
    }

    /// This where x, which is not negative, is 0, else `other`.
    fn if_zero(self, x: N, other: Self) -> Self {
        let (ours, theirs) = (self.numbers(), other.numbers());
        Self::of(std::array::from_fn(|k| x.if_zero(ours[k], theirs[k])))
    }
}

/// What a step multiplies gradients with.
struct Weights<N> {
    /// b
    bias: N,
    /// (d/d₀) d η b
    of_n: N,
    /// The same in s.
    of_s: N,
}

/// How a parameter's step ends, from d b.
#[derive(Debug, Clone, Copy)]
struct End {
    lr: f64,
    /// Decoupled weight decay; none for coupled.
    decay: Option<f64>,
}

impl End {
    /// keep and factor; Σ|s| = 0 says that there is nothing to move by.
    fn apply<N: Number>(self, d: N, bias: N, lengths: N) -> [N; 2] {
        let step = d * N::from_f64(self.lr) * bias;
        let keep = match self.decay {
            Some(wd) => N::ONE - step * N::from_f64(wd),
            None => N::ONE,
        };
        [lengths.if_zero(N::ONE, keep), lengths.if_zero(N::ZERO, step)]
    }
}

impl ProdigyConfig {
    fn first(&self) -> Shared<f64> {
        Shared { d: self.d0, largest: self.d0, numerator: 0.0, updates: 0.0 }
    }

    /// # Errors
    /// Those of copying from a device.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps))]
    fn estimate(&self, memory: &Estimate) -> Result<Shared<f64>> {
        #[cfg(feature = "cuda")]
        if let Ok(mut launches) = memory.launches.try_borrow_mut()
            && let Some([d, largest, numerator, updates]) = launches.shared()?.as_deref()
        {
            return Ok(Shared::of([*d, *largest, *numerator, *updates]));
        }
        Ok(memory.shared.unwrap_or_else(|| self.first()))
    }

    fn beta3(&self) -> f64 {
        self.beta3.unwrap_or(self.beta2.sqrt())
    }

    /// η of the step: the largest that a group has.
    fn largest_lr(work: &[ParamStep<'_>]) -> f64 {
        work.iter().map(|w| w.lr).fold(0.0, f64::max)
    }

    fn weights<N: Number>(&self, shared: Shared<N>, lr: f64) -> Weights<N> {
        let (d, real) = (shared.d, N::from_f64);
        let mut bias = N::ONE;
        if self.bias_correction {
            let k = (shared.updates + N::ONE).min(real(i32::MAX.into()));
            let correction = |beta: f64| N::ONE - power(real(beta), k);
            bias = correction(self.beta2).sqrt() / correction(self.beta1);
        }
        let of_n = d / real(self.d0) * d * real(lr) * bias;
        let of_s = if self.safeguard_warmup { d / real(self.d0) * d } else { of_n };
        Weights { bias, of_n, of_s }
    }

    /// What is shared after a step whose sums over all parameters are Σ g (θ₀ − θ) and Σ|s|. Where that is 0, gradients have been zero so far: there is nothing to
    /// estimate from.
    fn next<N: Number>(&self, shared: Shared<N>, [dots, lengths]: [N; 2], lr: f64) -> Shared<N> {
        let Shared { d, largest, numerator, updates } = shared;
        let (real, weight) = (N::from_f64, self.weights(shared, lr).of_n);
        let numerator = real(self.beta3()) * numerator + weight * dots;
        let mut next = Shared { d, largest, numerator, updates: updates + N::ONE };
        if lr > 0.0 {
            let estimate = real(self.d_coef) * numerator / lengths;
            let d0 = real(self.d0);
            // In these orders what is no number is passed over.
            let d = N::select_lt(d, d0, d, N::select_lt(d0, d, d, estimate.max(d)));
            next.largest = estimate.max(largest);
            next.d = match self.growth_rate {
                Some(growth) => (d * real(growth)).min(next.largest),
                None => next.largest,
            };
        }
        shared.if_zero(lengths, next)
    }

    fn moments(&self, w: &ParamStep<'_>, [d, of_s]: [f64; 2]) -> Moments {
        let coupled = match self.decay {
            DecayKind::Coupled => w.weight_decay(self.weight_decay),
            DecayKind::Decoupled => 0.0,
        };
        let (beta1, beta2, beta3, first) = (self.beta1, self.beta2, self.beta3(), w.param.steps == 1);
        Moments { beta1, beta2, beta3, d, of_s, coupled, first }
    }

    fn end(&self, w: &ParamStep<'_>) -> End {
        let decay = match self.decay.of(w.weight_decay(self.weight_decay)) {
            Decay::Decoupled(wd) => Some(wd),
            _ => None,
        };
        End { lr: w.lr, decay }
    }
}

/// Moves m, v and s, and gives Σ g (θ₀ − θ) and Σ|s|.
#[derive(Debug, Clone, Copy)]
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

/// The same as numbers of a formula.
struct Scalars<N> {
    d: N,
    of_s: N,
    first: Average<N>,
    second: Average<N>,
    beta3: N,
    coupled: N,
}

impl Moments {
    /// d and what g is multiplied with in s come first: on a device, a stage gives them.
    #[inline(always)]
    fn scalars<N: Number>(&self) -> Scalars<N> {
        let real = N::from_f64;
        let (d, of_s) = (real(self.d), real(self.of_s));
        let (first, second) = (Average::new(self.beta1), Average::new(self.beta2));
        Scalars { d, of_s, first, second, beta3: real(self.beta3), coupled: real(self.coupled) }
    }
}

impl<N: Number> Scalars<N> {
    /// m, v, s and g (θ₀ − θ) of an element.
    #[inline(always)]
    fn of(&self, theta: N, g: N, [m, v, s, start]: [N; 4]) -> [N; 4] {
        let g = g + self.coupled * theta;
        let scaled = self.d * g;
        let (m, v) = (self.first.of(m, scaled), self.second.of(v, scaled * scaled));
        [m, v, self.beta3 * s + self.of_s * g, g * (start - theta)]
    }
}

impl Pass<2> for Moments {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 2] {
        let k = self.scalars::<T>();
        let Block { theta, g, state: [m, v, s, start, out, ..] } = block else { return [0.0; 2] };
        if self.first {
            start.copy_from_slice(theta);
        }
        let moments = m.iter_mut().zip(v.iter_mut()).zip(s.iter_mut());
        let places = theta.iter().zip(g).zip(start.iter()).zip(out.iter_mut());
        for ((((theta, g), start), out), ((m, v), s)) in places.zip(moments) {
            [*m, *v, *s, *out] = k.of(*theta, *g, [*m, *v, *s, *start]);
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

/// u of an element.
#[inline(always)]
fn direction<N: Number>(m: N, v: N, eps: N) -> N {
    m / (v.sqrt() + eps)
}

impl Pass<0> for Direction {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 0] {
        let eps = T::from_f64(self.eps);
        if let [m, v, _, _, u, ..] = block.state {
            u.iter_mut().zip(m.iter()).zip(v.iter()).for_each(|((u, m), v)| *u = direction(*m, *v, eps));
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

    fn clips_on_device(&self) -> bool {
        true
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Estimate) -> Result<Vec<Apply>> {
        let (shared, lr) = (self.estimate(memory)?, Self::largest_lr(work));
        let Weights { bias, of_s, .. } = self.weights(shared, lr);
        let sums = pass::for_each(work, |w| {
            let moments = self.moments(w, [shared.d, of_s]);
            pass::run(w, &moments)
        })?;
        let [dots, lengths] = sums.iter().fold([0.0; 2], |[a, b], [x, y]| [a + x, b + y]);
        let next = self.next(shared, [dots, lengths], lr);
        if next != shared {
            memory.set(next);
        }
        pass::for_each(work, |w| {
            pass::run(w, &Direction { eps: next.d * self.eps })?;
            let [keep, factor] = self.end(w).apply(shared.d, bias, lengths);
            Ok(Apply { keep, factor })
        })
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Estimate) -> Result<()> {
        #[cfg(feature = "cuda")]
        if crate::engine::coupled::takes(cx.backend, work) {
            let shared = memory.shared.unwrap_or_else(|| self.first());
            return memory.launches.get_mut().run(cx.backend, work, |run| self.launch(work, shared.numbers(), run));
        }
        let applies = self.directions(cx, work, memory)?;
        apply_all(work, &applies, Seeing::Nothing).map(|_| ())
    }

    fn shared(&self, memory: &Estimate) -> Result<Vec<(&'static str, f64)>> {
        let Shared { d, largest, numerator, updates } = self.estimate(memory)?;
        Ok(vec![("d", d), ("largest_d", largest), ("d_numerator", numerator), ("updates", updates)])
    }

    fn load_shared(&self, memory: &mut Estimate, values: &[f64]) {
        if let [d, largest, numerator, updates] = *values {
            memory.set(Shared { d, largest, numerator, updates });
        }
    }
}

impl Estimate {
    /// What is shared is the host's from here on.
    fn set(&mut self, shared: Shared<f64>) {
        self.shared = Some(shared);
        #[cfg(feature = "cuda")]
        self.launches.get_mut().unshare();
    }
}
