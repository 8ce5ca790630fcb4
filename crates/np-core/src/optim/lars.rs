//! LARS: momentum SGD whose gradients are scaled to the weights, layer by layer.

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
struct Update {
    ratio: f64,
    weight_decay: f64,
    momentum: f64,
    fresh: f64,
    nesterov: bool,
}

impl Pass<0> for Update {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 0] {
        let real = T::from_f64;
        let (ratio, wd, momentum, fresh) =
            (real(self.ratio), real(self.weight_decay), real(self.momentum), real(self.fresh));
        let Block { theta, g, state } = block;
        match state {
            [b, u, ..] if self.momentum > 0.0 => {
                for (((theta, g), b), u) in theta.iter().zip(g).zip(b.iter_mut()).zip(u.iter_mut()) {
                    let g = ratio * (*g + wd * *theta);
                    *b = momentum * *b + fresh * g;
                    *u = if self.nesterov { g + momentum * *b } else { *b };
                }
            }
            [u, ..] => {
                for ((theta, g), u) in theta.iter().zip(g).zip(u.iter_mut()) {
                    *u = ratio * (*g + wd * *theta);
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

impl Rule for LarsConfig {
    type Memory = ();

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        Rule::momentum(self).map(Buffer::new).into_iter().collect()
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
    }

    fn directions(&self, _: &StepContext, work: &mut [ParamStep<'_>], (): &mut ()) -> Result<Vec<Apply>> {
        pass::for_each(work, |w| {
            let (mut ratio, mut weight_decay) = (1.0, 0.0);
            if w.param.var.dims().len() > 1 {
                weight_decay = w.weight_decay(self.weight_decay);
                let [theta, g] = pass::run(w, &Norms)?;
                let (theta, g) = (pass::norm(w, theta, Of::Theta)?, pass::norm(w, g, Of::Gradient)?);
                let below = g + weight_decay * theta;
                if theta > 0.0 && below > 0.0 {
                    ratio = self.trust * theta / below;
                }
            }
            let (momentum, fresh, nesterov) = (self.momentum, 1.0 - self.dampening, self.nesterov);
            pass::run(w, &Update { ratio, weight_decay, momentum, fresh, nesterov })?;
            Ok(Apply::new(w.lr, Decay::Inside(weight_decay)))
        })
    }
}
