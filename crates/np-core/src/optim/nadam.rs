//! NAdam: Adam with Nesterov momentum.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// NAdam: Adam with Nesterov momentum and a warm-up of the momentum.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// μₜ = β₁ (1 − ½ · 0.96^(t ψ))            Πₜ = μ₁ μ₂ … μₜ
    /// m ← β₁ m + (1 − β₁) g                   v ← β₂ v + (1 − β₂) g²
    /// m̄ = (1 − μₜ) g / (1 − Πₜ) + μₜ₊₁ m / (1 − Πₜ μₜ₊₁)
    /// θ ← θ − η m̄ / (√(v / (1 − β₂ᵗ)) + ε)
    /// ```
    ///
    /// ψ is `momentum_decay`. As `torch.optim.NAdam`, with its defaults. PyTorch keeps Πₜ in single precision even for double-precision
    /// parameters; here it is a double. Reference: Dozat 2016.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut nadam = np_core::NAdam::from_named(vec![("w".into(), w.clone())], np_core::NAdamConfig::default())?;
    /// let report = nadam.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub type NAdam = Driver<NAdamConfig>;

    /// Hyper-parameters of [`NAdam`].
    pub struct NAdamConfig = "nadam" {
        /// η, step size, ≥ 0. Default 2·10⁻³ (PyTorch).
        pub lr: f64 = 2e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (PyTorch).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (PyTorch).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻⁸ (PyTorch).
        pub eps: f64 = 1e-8, positive;
        /// ψ, how fast the momentum warms up from β₁/2 to β₁, ≥ 0. Default 4·10⁻³ (PyTorch).
        pub momentum_decay: f64 = 4e-3, not_negative;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

/// What a tensor's step needs.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    first: Average<T>,
    second: Average<T>,
    /// (1 − μₜ) / (1 − Πₜ)
    of_g: T,
    /// μₜ₊₁ / (1 − Πₜ μₜ₊₁)
    of_m: T,
    /// 1 / √(1 − β₂ᵗ)
    root: T,
    eps: T,
}

impl NAdamConfig {
    /// μₜ
    fn mu(&self, t: f64) -> f64 {
        self.beta1 * (1.0 - 0.5 * 0.96f64.powf(t * self.momentum_decay))
    }
}

impl Elementwise for NAdamConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "second_moment"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[("momentum_product", 1.0)]
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let t = at.t as f64;
        let (mu, next) = (self.mu(t), self.mu(t + 1.0));
        at.numbers[0] *= mu;
        let product = at.numbers[0];
        let real = T::from_f64;
        Scalars {
            first: Average::new(self.beta1),
            second: Average::new(self.beta2),
            of_g: real((1.0 - mu) / (1.0 - product)),
            of_m: real(next / (1.0 - product * next)),
            root: real(1.0 / correction(self.beta2, at.exponent()).sqrt()),
            eps: real(self.eps),
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (m, v) = (k.first.of(state[0], g), k.second.of(state[1], g * g));
        (state[0], state[1]) = (m, v);
        ((k.of_g * g + k.of_m * m) / (v.sqrt() * k.root + k.eps), state)
    }
}
