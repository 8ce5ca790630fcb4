//! Adan: Adam with an average of gradient differences.

use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// Adan: Nesterov momentum, rewritten with differences of successive gradients, divided by the root of a second moment of gradient and difference.
    ///
    /// ```text
    /// d = g − g′                               (first step of a tensor: 0)
    /// m ← β₁ m + (1 − β₁) g                    m̂ = m / (1 − β₁ᵗ)
    /// δ ← β₂ δ + (1 − β₂) d                    δ̂ = δ / (1 − β₂ᵗ)
    /// v ← β₃ v + (1 − β₃) (g + β₂ d)²          v̂ = v / (1 − β₃ᵗ)
    /// θ ← (θ − η (m̂ + β₂ δ̂) / (√v̂ + ε)) / (1 + η wd)
    /// g′ ← g
    /// ```
    ///
    /// Each β of the paper is 1 − the β here. As `Adan` of the package `pytorch_optimizer` (4.1), with its defaults. The paper's clipping of gradients is
    /// the option `clip`. Reference: Xie et al. 2022.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AdanConfig { lr: 0.5, ..Default::default() };
    /// let mut adan = np_core::Adan::from_named(vec![("w".into(), w.clone())], config)?;
    /// adan.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert!((w.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adan = Driver<AdanConfig>;

    /// Hyper-parameters of [`Adan`].
    pub struct AdanConfig = "adan" {
        /// η, step size, ≥ 0. Default 10⁻³ (paper).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the average of gradients, in [0, 1). Default 0.98 (paper).
        pub beta1: f64 = 0.98, fraction;
        /// β₂, decay of the average of differences, in [0, 1). Default 0.92 (paper).
        pub beta2: f64 = 0.92, fraction;
        /// β₃, decay of the second moment, in [0, 1). Default 0.99 (paper).
        pub beta3: f64 = 0.99, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻⁸ (paper).
        pub eps: f64 = 1e-8, positive;
        /// wd, proximal weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

/// What a tensor's step needs.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    gradients: Average<T>,
    differences: Average<T>,
    squares: Average<T>,
    beta2: T,
    /// 1 / (1 − β₁ᵗ)
    of_m: T,
    /// β₂ / (1 − β₂ᵗ)
    of_delta: T,
    /// 1 / √(1 − β₃ᵗ)
    root: T,
    eps: T,
    first: bool,
}

impl Elementwise for AdanConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] =
        &["first_moment", "difference_moment", "second_moment", "previous_gradient"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        Decay::Proximal(self.weight_decay)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let real = T::from_f64;
        let t = at.exponent();
        Scalars {
            gradients: Average::new(self.beta1),
            differences: Average::new(self.beta2),
            squares: Average::new(self.beta3),
            beta2: real(self.beta2),
            of_m: real(1.0 / correction(self.beta1, t)),
            of_delta: real(self.beta2 / correction(self.beta2, t)),
            root: real(1.0 / correction(self.beta3, t).sqrt()),
            eps: real(self.eps),
            first: at.t == 1,
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let d = if k.first { T::ZERO } else { g - state[3] };
        let (m, delta) = (k.gradients.of(state[0], g), k.differences.of(state[1], d));
        let ahead = g + k.beta2 * d;
        let v = k.squares.of(state[2], ahead * ahead);
        (state[0], state[1], state[2], state[3]) = (m, delta, v, g);
        ((k.of_m * m + k.of_delta * delta) / (v.sqrt() * k.root + k.eps), state)
    }
}
