//! AdaBelief: Adam with the variance of the gradient around its average in place of the second moment.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// AdaBelief: Adam with the squared deviation of the gradient from its average in place of g². Steps are large where gradients agree with
    /// their average, and small where they deviate from it.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g                    m̂ = m / (1 − β₁ᵗ)
    /// s ← β₂ s + (1 − β₂) (g − m)² + ε         ŝ = s / (1 − β₂ᵗ)
    /// θ ← (1 − η wd) θ − η m̂ / (√ŝ + ε)
    /// ```
    ///
    /// ε is added to s in every step, and so accumulates there, as in the paper's listing. As `AdaBelief` of the package `pytorch_optimizer` (4.1), with its
    /// defaults; its rectified and AMSGrad variants are not implemented. Reference: Zhuang et al. 2020.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AdaBeliefConfig::default();
    /// let mut adabelief = np_core::AdaBelief::from_named(vec![("w".into(), w.clone())], config)?;
    /// let report = adabelief.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub type AdaBelief = Driver<AdaBeliefConfig>;

    /// Hyper-parameters of [`AdaBelief`].
    pub struct AdaBeliefConfig = "adabelief" {
        /// η, step size, ≥ 0. Default 10⁻³ (paper).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (paper).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the squared deviation, in [0, 1). Default 0.999 (paper).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to s and to √ŝ, > 0. Default 10⁻¹⁶ (the authors' code).
        pub eps: f64 = 1e-16, positive;
        /// wd, weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default decoupled (`pytorch_optimizer`).
        pub decay: DecayKind = DecayKind::Decoupled;
    }
}

/// What a tensor's step needs.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    first: Average<T>,
    second: Average<T>,
    /// 1 / (1 − β₁ᵗ)
    scale: T,
    /// 1 / √(1 − β₂ᵗ)
    root: T,
    eps: T,
}

impl Elementwise for AdaBeliefConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "deviation"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let real = T::from_f64;
        Scalars {
            first: Average::new(self.beta1),
            second: Average::new(self.beta2),
            scale: real(1.0 / correction(self.beta1, at.exponent())),
            root: real(1.0 / correction(self.beta2, at.exponent()).sqrt()),
            eps: real(self.eps),
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let m = k.first.of(state[0], g);
        let stray = g - m;
        let s = k.second.of(state[1], stray * stray) + k.eps;
        (state[0], state[1]) = (m, s);
        (m * k.scale / (s.sqrt() * k.root + k.eps), state)
    }
}
