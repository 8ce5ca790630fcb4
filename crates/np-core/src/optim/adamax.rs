//! Adamax: Adam with a decaying maximum of |g| in place of the second moment.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// Adamax: the first moment divided by a decaying maximum of |g|.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// m ← β₁ m + (1 − β₁) g          m̂ = m / (1 − β₁ᵗ)
    /// s ← max(β₂ s, |g| + ε)
    /// θ ← θ − η m̂ / s
    /// ```
    ///
    /// As `torch.optim.Adamax`, with its defaults. Reference: Kingma and Ba 2015, section 7.1, whose maximum has no ε.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AdamaxConfig { lr: 0.5, ..Default::default() };
    /// let mut adamax = np_core::Adamax::from_named(vec![("w".into(), w.clone())], config)?;
    /// adamax.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert!((w.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adamax = Driver<AdamaxConfig>;

    /// Hyper-parameters of [`Adamax`].
    pub struct AdamaxConfig = "adamax" {
        /// η, step size, ≥ 0. Default 2·10⁻³ (PyTorch).
        pub lr: f64 = 2e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (PyTorch).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the maximum, in [0, 1). Default 0.999 (PyTorch).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to |g|, > 0. Default 10⁻⁸ (PyTorch).
        pub eps: f64 = 1e-8, positive;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

/// What a tensor's step needs.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    first: Average<T>,
    beta2: T,
    /// 1 / (1 − β₁ᵗ)
    scale: T,
    eps: T,
}

impl Elementwise for AdamaxConfig {
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "largest_gradient"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let real = T::from_f64;
        Scalars {
            first: Average::new(self.beta1),
            beta2: real(self.beta2),
            scale: real(1.0 / correction(self.beta1, at.exponent())),
            eps: real(self.eps),
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (m, s) = (k.first.of(state[0], g), (k.beta2 * state[1]).max(g.abs() + k.eps));
        (state[0], state[1]) = (m, s);
        (m * k.scale / s, state)
    }
}
