//! QHAdam: Adam whose moments are mixed with the current gradient.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive, unit};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// QHAdam, quasi-hyperbolic Adam: Adam with m̂ replaced by a mixture of m̂ and the current g, and v̂ by a mixture of v̂ and g².
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead)
    /// m ← β₁ m + (1 − β₁) g      v ← β₂ v + (1 − β₂) g²      m̂ = m / (1 − β₁ᵗ)      v̂ = v / (1 − β₂ᵗ)
    /// u = [(1 − ν₁) g + ν₁ m̂] / (√((1 − ν₂) g² + ν₂ v̂) + ε)
    /// θ ← θ − η u
    /// ```
    ///
    /// With ν₁ = ν₂ = 1 it is Adam; with ν₁ = β₁ and ν₂ = 1 nearly NAdam. As `QHAdam` of the package `pytorch_optimizer` and the authors' `qhoptim`, except
    /// for the default of ν₁, which is 1 there. Reference: Ma and Yarats 2019, *Quasi-hyperbolic momentum and Adam for deep learning*.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut qhadam = np_core::QhAdam::from_named(vec![("w".into(), w.clone())], Default::default())?;
    /// qhadam.backward_step_report(&w.as_tensor().sqr()?.sum_all()?)?;
    /// assert!(w.to_vec1::<f32>()?[0] < 0.9995);
    /// # Ok(())
    /// # }
    /// ```
    pub type QhAdam = Driver<QhAdamConfig>;

    /// Hyper-parameters of [`QhAdam`].
    pub struct QhAdamConfig = "qhadam" {
        /// η, step size, ≥ 0. Default 10⁻³ (`pytorch_optimizer`).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (`pytorch_optimizer`).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (`pytorch_optimizer`).
        pub beta2: f64 = 0.999, fraction;
        /// ν₁, share of m̂ in the numerator, in [0, 1]. Default 0.7 (this crate; with `pytorch_optimizer`'s 1, QHAdam is Adam).
        pub nu1: f64 = 0.7, unit;
        /// ν₂, share of v̂ in the denominator, in [0, 1]. Default 1 (`pytorch_optimizer`).
        pub nu2: f64 = 1.0, unit;
        /// ε, added to the root, > 0. Default 10⁻⁸ (`pytorch_optimizer`).
        pub eps: f64 = 1e-8, positive;
        /// wd, weight decay, ≥ 0. Default 0 (`pytorch_optimizer`).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (`pytorch_optimizer`).
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

impl Elementwise for QhAdamConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "second_moment"];
    /// Both averages; 1 − ν₁, ν₁/(1 − β₁ᵗ), 1 − ν₂, ν₂/(1 − β₂ᵗ), ε.
    type Scalars<T: Number> = ([Average<T>; 2], [T; 5]);

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Self::Scalars<T> {
        let [c1, c2] = [self.beta1, self.beta2].map(|beta| correction(beta, at.exponent()));
        let shares = [1.0 - self.nu1, self.nu1 / c1, 1.0 - self.nu2, self.nu2 / c2, self.eps];
        ([self.beta1, self.beta2].map(Average::new), shares.map(T::from_f64))
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Self::Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let ([first, second], [fresh1, kept1, fresh2, kept2, eps]) = *k;
        let (m, v) = (first.of(state[0], g), second.of(state[1], g * g));
        (state[0], state[1]) = (m, v);
        // The share times g first: 0 of an infinite square is no number.
        let square = fresh2 * g * g + kept2 * v;
        ((fresh1 * g + kept1 * m) / (square.sqrt() + eps), state)
    }
}
