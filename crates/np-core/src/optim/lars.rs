//! LARS: momentum SGD whose gradients are scaled to the weights, layer by layer.

use crate::config::decay::Decay;
use crate::engine::apply::{Apply, Seeing, apply_all};
use crate::engine::buffer::Buffer;
use crate::engine::coupled::Launches;
use crate::engine::cpu::sums;
use crate::engine::driver::Driver;
use crate::engine::number::{Float, Number};
use crate::engine::param_step::ParamStep;
use crate::engine::pass;
use crate::engine::pass::{Block, Of, Pass};
use crate::engine::rule::{Rule, StepContext};
use crate::error::{Result, check, not_negative, positive, unit};
use candle_core::Tensor;

optimizer! {
    /// LARS: the gradient of a weight matrix is scaled to a share of the weights' norm before it enters the momentum; for large batches.
    ///
    /// ```text
    /// r = κ ‖θ‖ / (‖g‖ + wd ‖θ‖)              (1 where ‖θ‖ or the denominator is 0)
    /// B ← μ B + (1 − τ) r (g + wd·θ)
    /// u = B,  or  r (g + wd·θ) + μ B with Nesterov
    /// θ ← θ − η u
    /// ```
    ///
    /// Tensors of one dimension (biases, scales) take r = 1 and no weight decay, that of a group neither. As `LARS` of the package
    /// `pytorch_optimizer` (4.1), with its defaults; unlike [`Sgd`](crate::Sgd), dampening holds in the first step too. Reference: You, Gitman and Ginsburg 2017.
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
        /// τ, dampening, in [0, 1]: how much less of the gradient enters the momentum. Default 0 (`pytorch_optimizer`).
        pub dampening: f64 = 0.0, unit;
        /// Nesterov's look-ahead; needs momentum above 0. Default off (`pytorch_optimizer`).
        pub nesterov: bool = false;
        /// κ, share of the weights' norm that the gradient is scaled to, > 0. Default 10⁻³ (paper).
        pub trust: f64 = 1e-3, positive;
        /// wd, coupled weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
    }
    check |config| {
        let allowed = !config.nesterov || config.momentum > 0.0;
        check(allowed, "nesterov", "`false` unless `momentum` > 0", config.nesterov)
    }
}

/// Σθ² and Σg².
struct Norms;

impl Pass<2> for Norms {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 2] {
        [sums::square_sum(block.theta), sums::square_sum(block.g)]
    }

    fn tensors(&self, theta: &Tensor, g: &Tensor, _: &mut [Tensor]) -> candle_core::Result<[Tensor; 2]> {
        Ok([theta.sqr()?.sum_all()?, g.sqr()?.sum_all()?])
    }
}

/// Moves the momentum, if there is one, and writes u, which is the last of the state.
#[derive(Clone, Copy)]
struct Update {
    ratio: f64,
    weight_decay: f64,
    momentum: f64,
    fresh: f64,
    nesterov: bool,
}

/// r, wd, μ and 1 − τ as numbers of a formula; and whether it looks ahead.
struct Scalars<N> {
    ratio: N,
    weight_decay: N,
    momentum: N,
    fresh: N,
    nesterov: bool,
}

impl Update {
    #[inline(always)]
    fn scalars<N: Number>(&self) -> Scalars<N> {
        let real = N::from_f64;
        let (ratio, weight_decay) = (real(self.ratio), real(self.weight_decay));
        let (momentum, fresh) = (real(self.momentum), real(self.fresh));
        Scalars { ratio, weight_decay, momentum, fresh, nesterov: self.nesterov }
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

impl Pass<0> for Update {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 0] {
        let k = self.scalars::<T>();
        let Block { theta, g, state } = block;
        match state {
            [b, u, ..] if self.momentum > 0.0 => {
                for (((theta, g), b), u) in theta.iter().zip(g).zip(b.iter_mut()).zip(u.iter_mut()) {
                    [*b, *u] = k.of(*theta, *g, *b);
                }
            }
            [u, ..] => {
                for ((theta, g), u) in theta.iter().zip(g).zip(u.iter_mut()) {
                    *u = k.gradient(*theta, *g);
                }
            }
            [] => {}
        }
        []
    }

    fn tensors(&self, theta: &Tensor, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; 0]> {
        let g = ((g + (theta * self.weight_decay)?)? * self.ratio)?;
        match state {
            [b, u, ..] => {
                *b = ((&*b * self.momentum)? + (&g * self.fresh)?)?;
                *u = if self.nesterov { (g + (&*b * self.momentum)?)? } else { b.clone() };
            }
            [u] => *u = g,
            [] => {}
        }
        Ok([])
    }
}

impl LarsConfig {
    /// r of a matrix, from ‖θ‖ and ‖g‖.
    fn ratio<N: Number>(&self, theta: N, g: N, weight_decay: f64) -> N {
        let below = g + N::from_f64(weight_decay) * theta;
        let ratio = N::from_f64(self.trust) * theta / below;
        N::select_lt(N::ZERO, theta, N::select_lt(N::ZERO, below, ratio, N::ONE), N::ONE)
    }

    /// wd of a matrix; what is none has none.
    fn decay(&self, w: &ParamStep<'_>) -> Option<f64> {
        (w.param.var.dims().len() > 1).then(|| w.weight_decay(self.weight_decay))
    }

    fn update(&self, ratio: f64, weight_decay: f64) -> Update {
        let (momentum, fresh, nesterov) = (self.momentum, 1.0 - self.dampening, self.nesterov);
        Update { ratio, weight_decay, momentum, fresh, nesterov }
    }
}

impl Rule for LarsConfig {
    type Memory = Launches;

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        Rule::momentum(self).map(Buffer::new).into_iter().collect()
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
    }

    fn clips_on_device(&self) -> bool {
        true
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], _: &mut Launches) -> Result<Vec<Apply>> {
        pass::for_each(work, |w| {
            let (mut ratio, mut weight_decay) = (1.0, 0.0);
            if let Some(wd) = self.decay(w) {
                weight_decay = wd;
                let [theta, g] = pass::run(w, &Norms)?;
                let (theta, g) = (pass::norm(w, theta, Of::Theta)?, pass::norm(w, g, Of::Gradient)?);
                ratio = self.ratio(theta, g, wd);
            }
            pass::run(w, &self.update(ratio, weight_decay))?;
            Ok(Apply::new(w.lr, Decay::Inside(weight_decay)))
        })
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Launches) -> Result<()> {
        #[cfg(feature = "cuda")]
        if crate::engine::coupled::takes(cx.backend, work) {
            return memory.run(cx.backend, work, |run| self.launch(work, run));
        }
        let applies = self.directions(cx, work, memory)?;
        apply_all(work, &applies, Seeing::Nothing).map(|_| ())
    }
}

/// The step as launches: the same formulas, recorded.
#[cfg(any(test, feature = "cuda"))]
mod launched {
    use np_cuda::machine::Machine;
    use np_cuda::table::BUFFERS;

    use super::{Apply, Decay, LarsConfig, Number, ParamStep, Result, Update};
    use crate::engine::places::Place;
    use crate::engine::scalar_stage::Stage;
    use crate::engine::summed::Formula;
    use crate::engine::summed::coupled::{Run, Sums, is_wide, norm, squares};
    use crate::engine::traced::pass::{Pass, Target};

    /// Σθ² and Σg².
    struct Norms<'a> {
        places: &'a [Place],
        wide: bool,
    }

    impl Formula for Norms<'_> {
        fn form(&self, _: usize) -> (&'static str, u32) {
            ("lars_norms", u32::from(self.wide))
        }

        fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, _: [N; BUFFERS]) -> Pass<N> {
            let of = |x| squares(x, &self.places[tensor], self.wide);
            Pass::summing(vec![], [of(theta), of(g)].concat())
        }
    }

    /// Moves B and θ; r is the first argument.
    struct Steps(Vec<(Update, Apply)>);

    impl Formula for Steps {
        fn form(&self, tensor: usize) -> (&'static str, u32) {
            let (update, _) = &self.0[tensor];
            ("lars", u32::from(update.momentum > 0.0) + u32::from(update.nesterov))
        }

        fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
            let (update, Apply { keep, factor }) = self.0[tensor];
            let k = update.scalars::<N>();
            let mut writes = vec![];
            let u = if update.momentum > 0.0 {
                let [b, u] = k.of(theta, g, state[0]);
                writes.push((Target::State(0), b));
                u
            } else {
                k.gradient(theta, g)
            };
            writes.push((Target::Theta, N::from_f64(keep) * theta - N::from_f64(factor) * u));
            Pass::writing(writes)
        }
    }

    /// r of each matrix, whose decay this is.
    struct Ratios<'a>(&'a LarsConfig, Vec<Option<f64>>);

    impl Stage for Ratios<'_> {
        fn form(&self) -> (&'static str, u32) {
            ("lars", 0)
        }

        fn given<N: Number>(&self, tensor: usize, sums: &[N], _: &[N]) -> Vec<N> {
            let (theta, g) = sums.split_at(sums.len() / 2);
            vec![self.0.ratio(norm(theta), norm(g), self.1[tensor].unwrap_or(0.0))]
        }
    }

    impl LarsConfig {
        pub(in crate::optim) fn launch(&self, work: &[ParamStep<'_>], mut run: Run<'_, impl Machine>) -> Result<()> {
            let decays: Vec<Option<f64>> = work.iter().map(|w| self.decay(w)).collect();
            let step = |(w, wd): (&ParamStep<'_>, &Option<f64>)| {
                let wd = wd.unwrap_or(0.0);
                (self.update(1.0, wd), Apply::new(w.lr, Decay::Inside(wd)))
            };
            let steps = Steps(work.iter().zip(&decays).map(step).collect());
            let places = run.places();
            let norms = run.pass(&Norms { places, wide: is_wide(places) }, |i| decays[i].is_some());
            let steps = run.pass(&steps, |_| true);
            let ratios = run.stage(&Ratios(self, decays), Sums::Own(norms), steps);
            run.upload(work.first().and_then(|w| w.map.norm), steps)?;
            run.launch(norms)?;
            run.scalars(ratios)?;
            run.launch(steps)
        }
    }
}
