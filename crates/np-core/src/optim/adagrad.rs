//! Adagrad: steps that shrink with the sum of squared gradients.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{not_negative, positive};
use np_trace::Number;

optimizer! {
    /// Adagrad: every element's step is divided by the root of the sum of its squared gradients.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// s ← s + g²
    /// θ ← θ − η / (1 + (t − 1) γ) · g / (√s + ε)
    /// ```
    ///
    /// γ is `lr_decay`. As `torch.optim.Adagrad`, with its defaults. Reference: Duchi, Hazan and Singer 2011.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AdagradConfig { lr: 0.5, ..Default::default() };
    /// let mut adagrad = np_core::Adagrad::from_named(vec![("w".into(), w.clone())], config)?;
    /// adagrad.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(w.to_vec1::<f32>()?, [0.5; 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adagrad = Driver<AdagradConfig>;

    /// Hyper-parameters of [`Adagrad`].
    pub struct AdagradConfig = "adagrad" {
        /// η, step size, ≥ 0. Default 10⁻² (PyTorch).
        pub lr: f64 = 1e-2, not_negative;
        /// γ, additional decay of η with the tensor's step count, ≥ 0. Default 0 (PyTorch).
        pub lr_decay: f64 = 0.0, not_negative;
        /// s before the first step, ≥ 0. Default 0 (PyTorch).
        pub initial_sum: f64 = 0.0, not_negative;
        /// ε, added to √s, > 0. Default 10⁻¹⁰ (PyTorch).
        pub eps: f64 = 1e-10, positive;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

impl Elementwise for AdagradConfig {
    const SQUARES: bool = true;
    const BUFFERS: &'static [&'static str] = &["squares"];
    /// ε.
    type Scalars<T: Number> = T;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn initial(&self) -> f64 {
        self.initial_sum
    }

    fn step_size(&self, at: &StepInfo<'_>) -> f64 {
        at.lr / (1.0 + at.t.saturating_sub(1) as f64 * self.lr_decay)
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> T {
        T::from_f64(self.eps)
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(eps: &T, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let s = state[0] + g * g;
        state[0] = s;
        (g / (s.sqrt() + *eps), state)
    }
}
