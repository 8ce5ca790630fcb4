//! Rprop: step sizes that adapt to changes of the gradient's sign.

use np_engine::buffer::Buffer;
use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{check, not_negative, open_fraction, positive};
use np_trace::Number;

optimizer! {
    /// Rprop: every element has its own step size, which grows while the sign of its gradient stays the same and shrinks when it changes.
    ///
    /// ```text
    /// sign(g)·sign(g′) > 0:  δ ← min(δ η₊, δmax)
    /// sign(g)·sign(g′) < 0:  δ ← max(δ η₋, δmin),  g ← 0
    /// θ ← θ − η δ sign(g)
    /// g′ ← g
    /// ```
    ///
    /// For full-batch gradients only, because the noise of mini-batches changes signs. As `torch.optim.Rprop`, with its defaults. Departures: δ,
    /// initially 1, and its bounds are multiples of η, so that a schedule scales all steps, while PyTorch reads η only in a tensor's first step. And
    /// the signs are multiplied instead of the gradients, whose product can underflow to 0. There is no weight decay, unless a group sets one, which is
    /// added to the gradient. Reference: Riedmiller and Braun 1993, in the form without backtracking.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::RpropConfig { lr: 0.25, ..Default::default() };
    /// let mut rprop = np_core::Rprop::from_named(vec![("w".into(), w.clone())], config)?;
    /// rprop.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(w.to_vec1::<f32>()?, [0.75; 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Rprop = Driver<RpropConfig>;

    /// Hyper-parameters of [`Rprop`].
    pub struct RpropConfig = "rprop" {
        /// η, size of the first step, ≥ 0. Default 10⁻² (PyTorch).
        pub lr: f64 = 1e-2, not_negative;
        /// η₋, factor on δ where the sign has changed, in (0, 1). Default 0.5 (PyTorch).
        pub shrink: f64 = 0.5, open_fraction;
        /// η₊, factor on δ where the sign has stayed the same, above 1. Default 1.2 (PyTorch).
        pub grow: f64 = 1.2;
        /// δmin, smallest step as a multiple of η, > 0. Default 10⁻⁴ (PyTorch: 10⁻⁶ at its η).
        pub min_step: f64 = 1e-4, positive;
        /// δmax, largest step as a multiple of η, ≥ `min_step`. Default 5000 (PyTorch: 50 at its η).
        pub max_step: f64 = 5e3;
    }
    check |config| {
        check(config.grow.is_finite() && config.grow > 1.0, "grow", "a number > 1", config.grow)?;
        let fits = config.max_step.is_finite() && config.max_step >= config.min_step;
        check(fits, "max_step", "a number ≥ `min_step`", config.max_step)
    }
}

impl Elementwise for RpropConfig {
    const COUNTS: [usize; 2] = [2, 2];
    /// η₋, η₊, δmin, δmax.
    type Scalars<T: Number> = [T; 4];

    fn weight_decay(&self) -> Decay {
        Decay::Coupled(0.0)
    }

    fn buffers(&self) -> Vec<Buffer> {
        vec!["previous_gradient".into(), Buffer::new("step_size").filled(1.0)]
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> [T; 4] {
        [self.shrink, self.grow, self.min_step, self.max_step].map(T::from_f64)
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &[T; 4], _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let [shrink, grow, least, most] = *k;
        let turn = g.sign() * state[0].sign();
        let turned = T::select_lt(turn, T::ZERO, shrink, T::ONE);
        let factor = T::select_lt(T::ZERO, turn, grow, turned);
        let g = T::select_lt(turn, T::ZERO, T::ZERO, g);
        let step = (state[1] * factor).clip(least, most);
        (state[0], state[1]) = (g, step);
        (step * g.sign(), state)
    }
}
