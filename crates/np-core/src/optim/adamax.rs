//! Adamax: Adam with the largest gradient in place of the second moment.

use serde::{Deserialize, Serialize};

use crate::config::decay::{Decay, DecayKind};
use crate::engine::buffer::Buffer;
use crate::engine::driver::Driver;
use crate::engine::elementwise::{Elementwise, StepInfo};
use crate::engine::number::Number;
use crate::error::{Result, fraction, not_negative, positive};
use crate::optim::average::{Average, correction};

optimizer! {
    /// Adamax: the first moment over a decaying maximum of |g|.
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
}

hyper_parameters! {
    /// Hyper-parameters of [`Adamax`].
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct AdamaxConfig {
        /// η, step size, ≥ 0. Default 2·10⁻³ (PyTorch).
        pub lr: f64,
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (PyTorch).
        pub beta1: f64,
        /// β₂, decay of the maximum, in [0, 1). Default 0.999 (PyTorch).
        pub beta2: f64,
        /// ε, added to |g|, > 0. Default 10⁻⁸ (PyTorch).
        pub eps: f64,
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64,
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind,
    }
}

impl Default for AdamaxConfig {
    fn default() -> Self {
        Self { lr: 2e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decay: DecayKind::Coupled }
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
    const KIND: &'static str = "adamax";
    const COUNTS: [usize; 2] = [2, 2];
    type Scalars<T: Number> = Scalars<T>;

    fn validate(&self) -> Result<()> {
        not_negative("lr", self.lr)?;
        fraction("beta1", self.beta1)?;
        fraction("beta2", self.beta2)?;
        positive("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn buffers(&self) -> Vec<Buffer> {
        vec!["first_moment".into(), "largest_gradient".into()]
    }

    fn momentum(&self) -> Option<&'static str> {
        Some("first_moment")
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
        if N < 2 {
            return (g, state);
        }
        let (m, s) = (k.first.of(state[0], g), (k.beta2 * state[1]).max(g.abs() + k.eps));
        (state[0], state[1]) = (m, s);
        (m * k.scale / s, state)
    }
}
