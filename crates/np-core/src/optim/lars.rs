//! LARS: SGD with momentum whose gradients are scaled to a share of each tensor's norm.

use np_cuda::table::BUFFERS;
use np_engine::apply::Apply;
use np_engine::buffer::Buffer;
use np_engine::chain::memory::Memory;
use np_engine::chain::{self, Arithmetic, Block, Chain, Formula, Numbers, Of};
use np_engine::config::decay::Decay;
use np_engine::cpu::sums::square_sum;
use np_engine::driver::Driver;
use np_engine::error::{Result, check, not_negative, positive, unit};
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::pass::{Pass, Target};
use np_trace::{Float, Number, Outcome};

optimizer! {
    /// LARS: SGD with momentum, where the gradient of each weight matrix is first scaled to a share of the norm of the weights; for large batches.
    ///
    /// ```text
    /// r = κ ‖θ‖ / (‖g‖ + wd ‖θ‖)              (1 where ‖θ‖ or the denominator is 0)
    /// B ← μ B + (1 − τ) r (g + wd·θ)
    /// u = B,  or  r (g + wd·θ) + μ B with Nesterov
    /// θ ← θ − η u
    /// ```
    ///
    /// Tensors of one dimension (biases, scales) have r = 1 and no weight decay, even if their group sets one. As `LARS` of the package
    /// `pytorch_optimizer` (4.1), with its defaults. Unlike in [`Sgd`](crate::Sgd), dampening applies in the first step too. Reference: You, Gitman and
    /// Ginsburg 2017.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones((2, 2), DType::F32, &Device::Cpu)?;
    /// let config = np_core::LarsConfig { lr: 1.0, trust: 0.5, ..Default::default() };
    /// let mut lars = np_core::Lars::from_named(vec![("w".into(), w.clone())], config)?;
    /// lars.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(w.to_vec2::<f32>()?, [[0.5; 2]; 2]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Lars = Driver<LarsConfig>;

    /// Hyper-parameters of [`Lars`].
    pub struct LarsConfig = "lars" {
        /// η, step size, ≥ 0. Default 10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 1e-3, not_negative;
        /// μ, momentum, in [0, 1]. Default 0.9 (paper).
        pub momentum: f64 = 0.9, unit;
        /// τ, dampening, in [0, 1]: the gradient enters the momentum with weight 1 − τ. Default 0 (`pytorch_optimizer`).
        pub dampening: f64 = 0.0, unit;
        /// Nesterov's look-ahead; needs momentum above 0. Default off (`pytorch_optimizer`).
        pub nesterov: bool = false;
        /// κ, norm of the scaled gradient as a share of the norm of the weights, > 0. Default 10⁻³ (paper).
        pub trust: f64 = 1e-3, positive;
        /// wd, coupled weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
    }
    check |config| {
        let allowed = !config.nesterov || config.momentum > 0.0;
        check(allowed, "nesterov", "`false` unless `momentum` > 0", config.nesterov)
    }
}

/// A step of tensors with these weight decays; what is no matrix has none.
pub(super) struct Step<'a>(&'a LarsConfig, Vec<Option<f64>>, Vec<f64>);

/// Columns of a tensor's row: keep and factor, r, then the norms of θ and of g.
const RATIO_AT: usize = 2;
const NORMS_AT: usize = 3;

impl chain::Step for Step<'_> {
    const COLUMNS: usize = NORMS_AT + 6;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.pass(&Norms(self), NORMS_AT)?;
        chain.arithmetic(&Ratio { step: self, norm_columns: chain.norm_columns() })?;
        chain.finish(&Update(self), usize::from(self.0.momentum > 0.0), 0, None).map(drop)
    }
}

/// ‖θ‖ and ‖g‖ of matrices.
struct Norms<'a>(&'a Step<'a>);

impl Formula for Norms<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("lars_norms", 0)
    }

    fn takes(&self, tensor: usize) -> bool {
        self.0.1[tensor].is_some()
    }

    fn norms(&self) -> &'static [Of] {
        &[Of::Theta, Of::Gradient]
    }

    fn pass<N: Number>(&self, _: usize, _: N, _: N, _: [N; BUFFERS], _: &[N]) -> Pass<N> {
        Pass::writing(vec![])
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, block: Block<'_, T>, _: &[f64], sums: &mut [f64]) {
        sums[0] += square_sum(block.theta);
        sums[1] += square_sum(block.g);
    }
}

/// Keep, factor and r.
struct Ratio<'a> {
    step: &'a Step<'a>,
    norm_columns: usize,
}

impl Arithmetic for Ratio<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("lars", u32::from(self.step.1[tensor].is_some()))
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let (real, decay) = (N::from_f64, self.step.1[tensor]);
        let ratio = match decay {
            Some(wd) => {
                let [theta, g] = chain::norms(&numbers.own[NORMS_AT..], self.norm_columns);
                let below = g + real(wd) * theta;
                let ratio = real(self.step.0.trust) * theta / below;
                N::select_lt(N::ZERO, theta, N::select_lt(N::ZERO, below, ratio, N::ONE), N::ONE)
            }
            None => N::ONE,
        };
        let Apply { keep, factor } = Apply::new(self.step.2[tensor], Decay::Inside(decay.unwrap_or(0.0)));
        vec![(0, real(keep)), (1, real(factor)), (RATIO_AT, ratio)]
    }
}

/// Moves the momentum, if there is one, and writes u, which comes after it.
struct Update<'a>(&'a Step<'a>);

/// r, wd, μ and 1 − τ as numbers of a formula; and whether it looks ahead.
struct Scalars<N> {
    ratio: N,
    weight_decay: N,
    momentum: N,
    fresh: N,
    nesterov: bool,
}

impl Update<'_> {
    #[inline(always)]
    fn scalars<N: Number>(&self, tensor: usize, ratio: N) -> Scalars<N> {
        let (real, LarsConfig { momentum, dampening, nesterov, .. }) = (N::from_f64, self.0.0);
        let weight_decay = real(self.0.1[tensor].unwrap_or(0.0));
        let (momentum, fresh) = (real(*momentum), real(1.0 - dampening));
        Scalars { ratio, weight_decay, momentum, fresh, nesterov: *nesterov }
    }
}

impl<N: Number> Scalars<N> {
    /// r (g + wd·θ)
    #[inline(always)]
    fn gradient(&self, theta: N, g: N) -> N {
        self.ratio * (g + self.weight_decay * theta)
    }

    /// B and u.
    #[inline(always)]
    fn of(&self, theta: N, g: N, b: N) -> [N; 2] {
        let g = self.gradient(theta, g);
        let b = self.momentum * b + self.fresh * g;
        [b, if self.nesterov { g + self.momentum * b } else { b }]
    }
}

impl Formula for Update<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("lars", u32::from(self.0.0.momentum > 0.0) + u32::from(self.0.0.nesterov))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let k = self.scalars(tensor, numbers[RATIO_AT]);
        Pass::writing(match self.0.0.momentum > 0.0 {
            true => (0..).map(Target::State).zip(k.of(theta, g, state[0])).collect(),
            false => vec![(Target::State(0), k.gradient(theta, g))],
        })
    }

    #[inline(always)]
    fn block<T: Float>(&self, tensor: usize, block: Block<'_, T>, numbers: &[f64], _: &mut [f64]) {
        let k = self.scalars(tensor, T::from_f64(numbers[RATIO_AT]));
        let Block { theta, g, state: [first, second, ..], .. } = block;
        if self.0.0.momentum > 0.0 {
            for (((theta, g), b), u) in theta.iter().zip(g).zip(first.iter_mut()).zip(second.iter_mut()) {
                [*b, *u] = k.of(*theta, *g, *b);
            }
        } else {
            for ((theta, g), u) in theta.iter().zip(g).zip(first.iter_mut()) {
                *u = k.gradient(*theta, *g);
            }
        }
    }
}

impl LarsConfig {
    pub(super) fn plan<'a>(&'a self, work: &[ParamStep<'_>]) -> Step<'a> {
        let decay = |w: &ParamStep<'_>| (w.param.var.dims().len() > 1).then(|| w.weight_decay(self.weight_decay));
        Step(self, work.iter().map(decay).collect(), work.iter().map(|w| w.lr).collect())
    }
}

impl Rule for LarsConfig {
    type Memory = Memory;

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        Rule::momentum(self).map(Buffer::new).into_iter().collect()
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
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
