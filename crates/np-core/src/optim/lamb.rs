//! LAMB: Adam's direction at the length of the weights, layer by layer.

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
#[derive(Clone, Copy)]
struct Moments {
    beta1: f64,
    beta2: f64,
    eps: f64,
}

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

impl Moments {
    #[inline(always)]
    fn scalars<N: Number>(&self) -> Scalars<N> {
        Scalars(Average::new(self.beta1), Average::new(self.beta2), N::from_f64(self.eps))
    }
}

/// What a tensor's step depends on beside its norms.
#[derive(Clone, Copy)]
struct Trust {
    keep: f64,
    factor: f64,
    max_weight_norm: f64,
    eps: f64,
    correction: f64,
}

impl Trust {
    /// What u is multiplied with, from ‖θ‖ and ‖u‖.
    fn factor<N: Number>(&self, theta: N, u: N) -> N {
        let real = N::from_f64;
        let theta = (real(self.keep.abs()) * theta).min(real(self.max_weight_norm));
        let ratio = theta.if_zero(N::ONE, u.if_zero(N::ONE, theta / (u + real(self.eps))));
        real(self.factor) * ratio / real(self.correction)
    }
}

impl Pass<2> for Moments {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 2] {
        let scalars = self.scalars::<T>();
        let Block { theta, g, state: [m, v, u, ..] } = block else { return [0.0; 2] };
        for (((g, m), v), u) in g.iter().zip(m.iter_mut()).zip(v.iter_mut()).zip(u.iter_mut()) {
            [*m, *v, *u] = scalars.of(*g, *m, *v);
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

impl LambConfig {
    fn moments(&self) -> Moments {
        Moments { beta1: self.beta1, beta2: self.beta2, eps: self.eps }
    }

    fn trust(&self, w: &ParamStep<'_>) -> Trust {
        let Apply { keep, factor } = Apply::new(w.lr, Decay::Decoupled(w.weight_decay(self.weight_decay)));
        let t = i32::try_from(w.param.steps).unwrap_or(i32::MAX);
        let correction = correction(self.beta1, t);
        Trust { keep, factor, max_weight_norm: self.max_weight_norm, eps: self.eps, correction }
    }
}

impl Rule for LambConfig {
    type Memory = Launches;

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

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], _: &mut Launches) -> Result<Vec<Apply>> {
        let moments = self.moments();
        pass::for_each(work, |w| {
            let trust = self.trust(w);
            let [theta, u] = pass::run(w, &moments)?;
            let (theta, u) = (pass::norm(w, theta, Of::Theta)?, pass::norm(w, u, Of::State(2))?);
            Ok(Apply { keep: trust.keep, factor: trust.factor(theta, u) })
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

    use super::{LambConfig, Moments, Number, ParamStep, Result, Trust};
    use crate::engine::places::Place;
    use crate::engine::scalar_stage::Stage;
    use crate::engine::summed::Formula;
    use crate::engine::summed::coupled::{Finish, Run, Sums, is_wide, norm, squares};
    use crate::engine::traced::pass::{Pass, Target};

    struct Launched<'a> {
        moments: Moments,
        places: &'a [Place],
        wide: bool,
    }

    impl Formula for Launched<'_> {
        fn form(&self, _: usize) -> (&'static str, u32) {
            ("lamb", u32::from(self.wide))
        }

        fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
            let [m, v, u] = self.moments.scalars().of(g, state[0], state[1]);
            let writes = [m, v, u].into_iter().enumerate().map(|(k, x)| (Target::State(k), x)).collect();
            let of = |x| squares(x, &self.places[tensor], self.wide);
            Pass::summing(writes, [of(theta), of(u)].concat())
        }
    }

    impl Stage for Vec<Trust> {
        fn form(&self) -> (&'static str, u32) {
            ("lamb", 0)
        }

        fn given<N: Number>(&self, tensor: usize, sums: &[N], _: &[N]) -> Vec<N> {
            let (theta, u) = sums.split_at(sums.len() / 2);
            vec![self[tensor].factor(norm(theta), norm(u))]
        }
    }

    impl LambConfig {
        pub(in crate::optim) fn launch(&self, work: &[ParamStep<'_>], mut run: Run<'_, impl Machine>) -> Result<()> {
            let trust: Vec<Trust> = work.iter().map(|w| self.trust(w)).collect();
            let keep: Vec<f64> = trust.iter().map(|trust| trust.keep).collect();
            let places = run.places();
            let moments = Launched { moments: self.moments(), places, wide: is_wide(places) };
            let (moments, finish) =
                (run.pass(&moments, |_| true), run.pass(&Finish { keep: &keep, factor: None, u: 2 }, |_| true));
            let factor = run.stage(&trust, Sums::Own(moments), finish);
            run.upload(work.first().and_then(|w| w.map.norm), moments)?;
            run.launch(moments)?;
            run.scalars(factor)?;
            run.launch(finish)
        }
    }
}
