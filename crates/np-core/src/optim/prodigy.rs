//! Prodigy: Adam with an estimated step size.

use np_cuda::table::BUFFERS;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::chain::{self, Arithmetic, Block, Chain, Formula, Numbers, To, Total};
use np_engine::config::decay::{Decay, DecayKind};
use np_engine::cpu::sums;
use np_engine::driver::Driver;
use np_engine::error::{Result, fraction, not_negative, one_or_more, optional, positive};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::pass::{Pass, Target, Term};
use np_trace::{Float, Number, Outcome};

use crate::optim::average::{Average, power};

optimizer! {
    /// Prodigy: Adam with a step size d η, where d estimates the distance from the initial parameters θ₀ to a solution.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) d g                  v ← β₂ v + (1 − β₂) d² g²
    /// s ← β₃ s + (d/d₀) d η b g                b = 1, or √(1 − β₂ᵏ)/(1 − β₁ᵏ) with bias correction
    /// n ← β₃ n + (d/d₀) d η b Σ g (θ₀ − θ)     over all parameters together
    /// d̂ = κ n / Σ|s|                           d⁺ = min(largest d̂ so far, γ d), never below d₀
    /// θ ← (1 − d η b wd) θ − d η b m / (√v + d⁺ ε)
    /// ```
    ///
    /// k counts the updates. Leave η at 1, with a schedule that falls to 0. θ₀ is a parameter's value at its first step. Nothing moves while all gradients
    /// have been 0. As the package `prodigyopt` of the paper's authors, with its defaults. Departures: groups may scale η, and the estimate of d uses the
    /// largest η of a group; with β₁ = 0 the gradient is scaled by d, not d⁺. Reference: Mishchenko and Defazio 2023.
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
        /// η, factor on the estimated step size d, ≥ 0. Default 1 (`prodigyopt`).
        pub lr: f64 = 1.0, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (`prodigyopt`).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (`prodigyopt`).
        pub beta2: f64 = 0.999, fraction;
        /// β₃, decay of the sums that estimate d, in [0, 1). Default `null`: √β₂ (`prodigyopt`).
        pub beta3: Option<f64> = None, optional(fraction);
        /// ε > 0; d⁺ ε is added to √v. Default 10⁻⁸ (`prodigyopt`).
        pub eps: f64 = 1e-8, positive;
        /// d₀, first estimate of the distance, > 0. Default 10⁻⁶ (`prodigyopt`).
        pub d0: f64 = 1e-6, positive;
        /// κ, factor on the estimate d̂, > 0. To change the step size, tune this rather than η. Default 1 (`prodigyopt`).
        pub d_coef: f64 = 1.0, positive;
        /// γ ≥ 1, largest factor by which d may grow in a step once it exceeds d₀; `null`: no limit. Default `null` (`prodigyopt`).
        pub growth_rate: Option<f64> = None, optional(one_or_more);
        /// Whether to apply Adam's bias correction b. Default off (`prodigyopt`).
        pub bias_correction: bool = false;
        /// Whether to leave η and b out of s, for schedules with a warm-up. Default off (`prodigyopt`).
        pub safeguard_warmup: bool = false;
        /// wd, weight decay, ≥ 0. Default 0 (`prodigyopt`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default decoupled (`prodigyopt`).
        pub decay: DecayKind = DecayKind::Decoupled;
    }
}

/// What all parameters share, kept from step to step.
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
    /// From what is kept: four numbers.
    fn of(kept: &[N]) -> Self {
        let [d, largest, numerator, updates] = std::array::from_fn(|k| kept[k]);
        Self { d, largest, numerator, updates }
    }

    fn numbers(self) -> [N; 4] {
        [self.d, self.largest, self.numerator, self.updates]
    }

    /// This where x, which is not negative, is 0, else `other`.
    fn if_zero(self, x: N, other: Self) -> Self {
        let (ours, theirs) = (self.numbers(), other.numbers());
        Self::of(&std::array::from_fn::<N, 4, _>(|k| x.if_zero(ours[k], theirs[k])))
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

impl ProdigyConfig {
    fn first(&self) -> Shared<f64> {
        Shared { d: self.d0, largest: self.d0, numerator: 0.0, updates: 0.0 }
    }

    fn beta3(&self) -> f64 {
        self.beta3.unwrap_or(self.beta2.sqrt())
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

    pub(super) fn plan<'a>(&'a self, work: &[ParamStep<'_>]) -> Step<'a> {
        let tensor = |w: &ParamStep<'_>| {
            let decay = self.decay.of(w.weight_decay(self.weight_decay));
            Tensor { lr: w.lr, decay, first: w.param.steps == 1 }
        };
        // η of the step is the largest that a group has.
        let lr = work.iter().map(|w| w.lr).fold(0.0, f64::max);
        Step { config: self, lr, tensors: work.iter().map(tensor).collect() }
    }
}

/// A step of these tensors.
pub(super) struct Step<'a> {
    config: &'a ProdigyConfig,
    lr: f64,
    tensors: Vec<Tensor>,
}

/// What a tensor's step depends on.
struct Tensor {
    lr: f64,
    decay: Decay,
    first: bool,
}

/// Columns of a tensor's row: d and what g is multiplied with in s; the sums of g (θ₀ − θ) and |s|, in the row that is no tensor's those of all; d⁺ ε; keep and factor.
const BEFORE_AT: usize = 0;
const SUMS_AT: usize = 2;
const EPS_AT: usize = 4;
const APPLY_AT: usize = 5;

impl chain::Step for Step<'_> {
    const COLUMNS: usize = APPLY_AT + 2;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.arithmetic(&Before(self))?;
        chain.pass(&Moments(self), SUMS_AT)?;
        chain.totals([(SUMS_AT, Total::Sum), (SUMS_AT + 1, Total::Sum)], To::Shared(SUMS_AT))?;
        chain.arithmetic(&After(self))?;
        chain.keep(&Next(self))?;
        chain.finish(&Direction, 4, APPLY_AT, None).map(drop)
    }
}

/// d and what g is multiplied with in s, before the moments move.
struct Before<'a>(&'a Step<'a>);

impl Arithmetic for Before<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("prodigy_before", 0)
    }

    fn of<N: Number>(&self, _: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let shared = Shared::of(numbers.kept);
        let Weights { of_s, .. } = self.0.config.weights(shared, self.0.lr);
        vec![(BEFORE_AT, shared.d), (BEFORE_AT + 1, of_s)]
    }
}

/// d⁺ ε, and how each parameter's step ends. Σ|s| = 0 says that there is nothing to move by.
struct After<'a>(&'a Step<'a>);

impl Arithmetic for After<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let decays = matches!(self.0.tensors[tensor].decay, Decay::Decoupled(_));
        ("prodigy_after", u32::from(self.0.lr > 0.0) << 1 | u32::from(decays))
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let (config, Tensor { lr, decay, .. }) = (self.0.config, &self.0.tensors[tensor]);
        let (shared, real, lengths) = (Shared::of(numbers.kept), N::from_f64, numbers.shared[SUMS_AT + 1]);
        let Weights { bias, .. } = config.weights(shared, self.0.lr);
        let step = shared.d * real(*lr) * bias;
        let keep = if let Decay::Decoupled(wd) = decay { N::ONE - step * real(*wd) } else { N::ONE };
        let apply = [lengths.if_zero(N::ONE, keep), lengths.if_zero(N::ZERO, step)];
        let next = self.0.next(numbers);
        (EPS_AT..).zip([next.d * real(config.eps)].into_iter().chain(apply)).collect()
    }
}

/// The estimate after the step.
struct Next<'a>(&'a Step<'a>);

impl Arithmetic for Next<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("prodigy_next", u32::from(self.0.lr > 0.0))
    }

    fn of<N: Number>(&self, _: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        (0..).zip(self.0.next(numbers).numbers()).collect()
    }
}

impl Step<'_> {
    fn next<N: Number>(&self, numbers: Numbers<'_, N>) -> Shared<N> {
        let sums = [numbers.shared[SUMS_AT], numbers.shared[SUMS_AT + 1]];
        self.config.next(Shared::of(numbers.kept), sums, self.lr)
    }
}

/// Moves m, v and s, and θ₀ in a tensor's first step; gives Σ g (θ₀ − θ) and Σ|s|.
struct Moments<'a>(&'a Step<'a>);

/// What it multiplies with.
struct Scalars<N> {
    d: N,
    of_s: N,
    first: Average<N>,
    second: Average<N>,
    beta3: N,
    coupled: N,
}

impl Moments<'_> {
    #[inline(always)]
    fn scalars<N: Number>(&self, tensor: usize, d: N, of_s: N) -> Scalars<N> {
        let (config, real) = (self.0.config, N::from_f64);
        let coupled = if let Decay::Coupled(wd) = self.0.tensors[tensor].decay { wd } else { 0.0 };
        let (first, second) = (Average::new(config.beta1), Average::new(config.beta2));
        Scalars { d, of_s, first, second, beta3: real(config.beta3()), coupled: real(coupled) }
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

impl Formula for Moments<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("prodigy", u32::from(self.0.tensors[tensor].first))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let [m, v, s, mut start, ..] = state;
        let k = self.scalars(tensor, numbers[BEFORE_AT], numbers[BEFORE_AT + 1]);
        let mut writes = vec![];
        if self.0.tensors[tensor].first {
            start = theta;
            writes.push((Target::State(3), start));
        }
        let [m, v, s, dot] = k.of(theta, g, [m, v, s, start]);
        writes.extend((0..).map(Target::State).zip([m, v, s]));
        Pass::summing(writes, vec![Term::Sum(dot), Term::Sum(s.abs())])
    }

    #[inline(always)]
    fn block<T: Float>(&self, tensor: usize, block: Block<'_, T>, numbers: &[f64], sums: &mut [f64]) {
        let [d, of_s] = [numbers[BEFORE_AT], numbers[BEFORE_AT + 1]].map(T::from_f64);
        let k = self.scalars(tensor, d, of_s);
        let Block { theta, g, state: [m, v, s, start, out, ..], .. } = block;
        if self.0.tensors[tensor].first {
            start.copy_from_slice(theta);
        }
        let moments = m.iter_mut().zip(v.iter_mut()).zip(s.iter_mut());
        let places = theta.iter().zip(g).zip(start.iter()).zip(out.iter_mut());
        for ((((theta, g), start), out), ((m, v), s)) in places.zip(moments) {
            [*m, *v, *s, *out] = k.of(*theta, *g, [*m, *v, *s, *start]);
        }
        sums[0] += sums::sum(out, |x| x);
        sums[1] += sums::sum(s, T::abs);
    }
}

/// Writes u = m / (√v + d⁺ ε).
struct Direction;

/// u of an element.
#[inline(always)]
fn direction<N: Number>(m: N, v: N, eps: N) -> N {
    m / (v.sqrt() + eps)
}

impl Formula for Direction {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("prodigy_direction", 0)
    }

    fn pass<N: Number>(&self, _: usize, _: N, _: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        Pass::writing(vec![(Target::State(4), direction(state[0], state[1], numbers[EPS_AT]))])
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, block: Block<'_, T>, numbers: &[f64], _: &mut [f64]) {
        let (eps, [m, v, _, _, u, ..]) = (T::from_f64(numbers[EPS_AT]), block.state);
        u.iter_mut().zip(m.iter()).zip(v.iter()).for_each(|((u, m), v)| *u = direction(*m, *v, eps));
    }
}

impl Rule for ProdigyConfig {
    type Memory = Memory;

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

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        memory.keep_first(|| self.first().numbers().to_vec());
        chain::take(&self.plan(work), cx, work, memory, Outcome::Direction)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        memory.keep_first(|| self.first().numbers().to_vec());
        chain::take(&self.plan(work), cx, work, memory, Outcome::Step).map(drop)
    }

    fn shared(&self, memory: &Memory) -> Result<Vec<(&'static str, f64)>> {
        let kept = memory.kept()?;
        let numbers = if kept.is_empty() { self.first().numbers().to_vec() } else { kept };
        Ok(["d", "largest_d", "d_numerator", "updates"].into_iter().zip(numbers).collect())
    }

    fn load_shared(&self, memory: &mut Memory, values: &[f64]) {
        memory.keep(values.to_vec());
    }
}
