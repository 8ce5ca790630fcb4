//! Adadelta: step sizes from a running average of past steps.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::Average;

optimizer! {
    /// Adadelta: the gradient divided by its running root mean square, times the running root mean square of past steps.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// s ← ρ s + (1 − ρ) g²
    /// u = √(d + ε) / √(s + ε) · g
    /// d ← ρ d + (1 − ρ) u²
    /// θ ← θ − η u
    /// ```
    ///
    /// The first step has a size of about 3√ε with the default ρ, and later ones grow from there: ε takes the role of a learning rate. As
    /// `torch.optim.Adadelta`, with its defaults. Reference: Zeiler 2012, which has no η.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AdadeltaConfig { eps: 1e-3, ..Default::default() };
    /// let mut adadelta = np_core::Adadelta::from_named(vec![("w".into(), w.clone())], config)?;
    /// adadelta.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert!(w.to_vec1::<f32>()?[0] < 0.98);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adadelta = Driver<AdadeltaConfig>;

    /// Hyper-parameters of [`Adadelta`].
    pub struct AdadeltaConfig = "adadelta" {
        /// η, scale of the step, ≥ 0. Default 1 (PyTorch).
        pub lr: f64 = 1.0, not_negative;
        /// ρ, decay of both averages, in [0, 1). Default 0.9 (PyTorch).
        pub rho: f64 = 0.9, fraction;
        /// ε, inside both roots, > 0. Default 10⁻⁶ (PyTorch).
        pub eps: f64 = 1e-6, positive;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

impl Elementwise for AdadeltaConfig {
    const SQUARES: bool = true;
    const BUFFERS: &'static [&'static str] = &["square_average", "square_step_average"];
    /// The average, ε.
    type Scalars<T: Number> = (Average<T>, T);

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> Self::Scalars<T> {
        (Average::new(self.rho), T::from_f64(self.eps))
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Self::Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (average, eps) = *k;
        let s = average.of(state[0], g * g);
        let u = (state[1] + eps).sqrt() / (s + eps).sqrt() * g;
        (state[0], state[1]) = (s, average.of(state[1], u * u));
        (u, state)
    }
}
