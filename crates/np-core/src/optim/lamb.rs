//! LAMB: Adam's direction, scaled to a share of each tensor's norm.

use np_cuda::table::BUFFERS;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::chain::{self, Arithmetic, Block, Chain, Formula, Given, Numbers, Of};
use np_engine::config::decay::Decay;
use np_engine::cpu::sums::square_sum;
use np_engine::driver::Driver;
use np_engine::error::{Result, fraction, not_negative, positive};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::pass::{Pass, Target};
use np_trace::{Float, Number, Outcome};

use crate::optim::average::{Average, correction};

optimizer! {
    /// LAMB: Adam's direction, scaled so that the norm of each tensor's step is η times the norm of the tensor; for large batches.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g          v ← β₂ v + (1 − β₂) g²          u = m / (√v + ε)
    /// θ ← (1 − η wd) θ
    /// r = min(‖θ‖, φ) / (‖u‖ + ε)    (1 where a norm is 0)
    /// θ ← θ − η r u / (1 − β₁ᵗ)
    /// ```
    ///
    /// As `Lamb` of the package `pytorch_optimizer` (4.1), with its defaults; its optional variants are not implemented. It departs from the paper, which
    /// corrects the bias of both moments and adds wd·θ to u: here u has no bias correction, yet the step is divided by 1 − β₁ᵗ, so that with the
    /// default β₁ the first step is 10 times as long as later ones; weight decay is applied apart from u; and ‖θ‖ counts for at most φ.
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
        /// η, norm of a step as a share of the norm of the weights, ≥ 0. Default 10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (paper).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (paper).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v and to ‖u‖, > 0. Default 10⁻⁶ (paper).
        pub eps: f64 = 1e-6, positive;
        /// φ, upper bound of ‖θ‖ in the ratio r, > 0. Default 10 (`pytorch_optimizer`).
        pub max_weight_norm: f64 = 10.0, positive;
        /// wd, decoupled weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

/// A step of these tensors, by what each depends on beside its norms.
pub(super) struct Step<'a>(&'a LambConfig, Vec<Trust>);

#[derive(Clone, Copy)]
struct Trust {
    keep: f64,
    factor: f64,
    correction: f64,
}

/// Columns of a tensor's row: keep and factor, then the norms of θ and of u.
const NORMS_AT: usize = 2;

impl chain::Step for Step<'_> {
    const COLUMNS: usize = NORMS_AT + 6;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.pass(&Moments(self.0), NORMS_AT)?;
        chain.arithmetic(&Ratio { step: self, norm_columns: chain.norm_columns() })?;
        chain.finish(&Given, 2, 0, None).map(drop)
    }
}

/// Moves the moments and writes u; gives ‖θ‖ and ‖u‖.
struct Moments<'a>(&'a LambConfig);

/// β₁, β₂ and ε as numbers of a formula.
struct Scalars<N>(Average<N>, Average<N>, N);

impl<N: Number> Scalars<N> {
    /// m, v and u of an element.
    #[inline(always)]
    fn of(&self, g: N, m: N, v: N) -> [N; 3] {
        let (m, v) = (self.0.of(m, g), self.1.of(v, g * g));
        [m, v, m / (v.sqrt() + self.2)]
    }
}

impl Moments<'_> {
    #[inline(always)]
    fn scalars<N: Number>(&self) -> Scalars<N> {
        Scalars(Average::new(self.0.beta1), Average::new(self.0.beta2), N::from_f64(self.0.eps))
    }
}

impl Formula for Moments<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("lamb", 0)
    }

    fn norms(&self) -> &'static [Of] {
        &[Of::Theta, Of::State(2)]
    }

    fn pass<N: Number>(&self, _: usize, _: N, g: N, state: [N; BUFFERS], _: &[N]) -> Pass<N> {
        let all = self.scalars().of(g, state[0], state[1]);
        Pass::writing(all.into_iter().enumerate().map(|(k, x)| (Target::State(k), x)).collect())
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, block: Block<'_, T>, _: &[f64], sums: &mut [f64]) {
        let k = self.scalars::<T>();
        let Block { theta, g, state: [m, v, u, ..], .. } = block;
        for (((g, m), v), u) in g.iter().zip(m.iter_mut()).zip(v.iter_mut()).zip(u.iter_mut()) {
            [*m, *v, *u] = k.of(*g, *m, *v);
        }
        sums[0] += square_sum(theta);
        sums[1] += square_sum(u);
    }
}

/// Keep, and what u is multiplied with.
struct Ratio<'a> {
    step: &'a Step<'a>,
    norm_columns: usize,
}

impl Arithmetic for Ratio<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("lamb", 0)
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let (config, Trust { keep, factor, correction }) = (self.step.0, self.step.1[tensor]);
        let [theta, u] = chain::norms(&numbers.own[NORMS_AT..], self.norm_columns);
        let real = N::from_f64;
        let theta = (real(keep.abs()) * theta).min(real(config.max_weight_norm));
        let ratio = theta.if_zero(N::ONE, u.if_zero(N::ONE, theta / (u + real(config.eps))));
        vec![(0, real(keep)), (1, real(factor) * ratio / real(correction))]
    }
}

impl LambConfig {
    pub(super) fn plan<'a>(&'a self, work: &[ParamStep<'_>]) -> Step<'a> {
        let trust = |w: &ParamStep<'_>| {
            let Apply { keep, factor } = Apply::new(w.lr, Decay::Decoupled(w.weight_decay(self.weight_decay)));
            let t = i32::try_from(w.param.steps).unwrap_or(i32::MAX);
            Trust { keep, factor, correction: correction(self.beta1, t) }
        };
        Step(self, work.iter().map(trust).collect())
    }
}

impl Rule for LambConfig {
    type Memory = Memory;

    fn keeps_squares(&self) -> bool {
        true
    }

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec!["first_moment".into(), "second_moment".into()]
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("first_moment")
    }

    fn clips_on_device(&self) -> bool {
        true
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        chain::take_each(|work| self.plan(work), cx, work, memory, Outcome::Direction)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        chain::take_each(|work| self.plan(work), cx, work, memory, Outcome::Step).map(drop)
    }
}
