//! Yogi: Adam with additive updates of the second moment.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// Yogi: Adam whose second moment moves towards g² by a share of g² instead of a share of the difference, so that it decreases slowly when
    /// gradients become small.
    ///
    /// ```text
    /// m ← β₁ m + (1 − β₁) g                      m₀ = v₀ = a
    /// v ← v − (1 − β₂) sign(v − g²) g²
    /// u = [m / (1 − β₁ᵗ)] / (√v / √(1 − β₂ᵗ) + ε)
    /// θ ← (1 − η wd) θ − η u                     (coupled decay: g ← g + wd·θ instead)
    /// ```
    ///
    /// As `Yogi` of the package `pytorch_optimizer`, with its defaults. It departs from the paper in two ways: both moments are bias-corrected as if they had
    /// started from 0, and m starts from a as v does. Reference: Zaheer et al. 2018, *Adaptive Methods for Nonconvex Optimization*.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut yogi = np_core::Yogi::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// yogi.backward_step_report(&w.as_tensor().sqr()?.sum_all()?)?;
    /// assert!(w.to_vec1::<f32>()?[0] < 0.995);
    /// # Ok(())
    /// # }
    /// ```
    pub type Yogi = Driver<YogiConfig>;

    /// Hyper-parameters of [`Yogi`].
    pub struct YogiConfig = "yogi" {
        /// η, step size, ≥ 0. Default 10⁻² (paper).
        pub lr: f64 = 1e-2, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (paper).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, in [0, 1): the second moment moves by a share 1 − β₂ of g². Default 0.999 (paper).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v̂, > 0. Default 10⁻³ (paper).
        pub eps: f64 = 1e-3, positive;
        /// a, value of both moments before the first step, ≥ 0. Default 10⁻⁶ (`pytorch_optimizer`).
        pub initial: f64 = 1e-6, not_negative;
        /// wd, weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default decoupled (`pytorch_optimizer`).
        pub decay: DecayKind = DecayKind::Decoupled;
    }
}

impl Elementwise for YogiConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "second_moment"];
    /// The first average, 1 − β₂, 1/(1 − β₁ᵗ), 1/√(1 − β₂ᵗ), ε.
    type Scalars<T: Number> = (Average<T>, [T; 4]);

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn initial(&self) -> f64 {
        self.initial
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Self::Scalars<T> {
        let [c1, c2] = [self.beta1, self.beta2].map(|beta| correction(beta, at.exponent()));
        (Average::new(self.beta1), [1.0 - self.beta2, 1.0 / c1, 1.0 / c2.sqrt(), self.eps].map(T::from_f64))
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Self::Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (first, [share, scale, root, eps]) = *k;
        let (m, v, square) = (first.of(state[0], g), state[1], g * g);
        // Not v − sign(v − g²) (1 − β₂) g², which is no number where both are infinite.
        let v = T::select_lt(v, square, v + share * square, T::select_lt(square, v, v - share * square, v));
        (state[0], state[1]) = (m, v);
        (m * scale / (v.sqrt() * root + eps), state)
    }
}
