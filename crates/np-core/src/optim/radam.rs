//! RAdam: Adam that starts with momentum steps until the second moment has a bounded variance.

use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::{Average, correction};

optimizer! {
    /// RAdam: steps of momentum alone at first, then Adam's steps times a factor r that rises to 1 as more gradients enter the second moment.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// m ← β₁ m + (1 − β₁) g          m̂ = m / (1 − β₁ᵗ)
    /// v ← β₂ v + (1 − β₂) g²
    /// ρ∞ = 2/(1 − β₂) − 1            ρₜ = ρ∞ − 2 t β₂ᵗ / (1 − β₂ᵗ)
    /// ρₜ ≤ 5:  θ ← θ − η m̂
    /// ρₜ > 5:  θ ← θ − η r m̂ √(1 − β₂ᵗ) / (√v + ε)
    ///          r² = (ρₜ − 4)(ρₜ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρₜ)
    /// ```
    ///
    /// With the default β₂ the first 5 steps are steps of momentum. As `torch.optim.RAdam`, with its defaults; as there, ε is added to √v before the
    /// bias correction. Reference: Liu et al. 2020.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::RAdamConfig { lr: 0.25, ..Default::default() };
    /// let mut radam = np_core::RAdam::from_named(vec![("w".into(), w.clone())], config)?;
    /// radam.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert!((w.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6); // not yet adaptive: 1 − 0.25 · 2
    /// # Ok(())
    /// # }
    /// ```
    pub type RAdam = Driver<RAdamConfig>;

    /// Hyper-parameters of [`RAdam`].
    pub struct RAdamConfig = "radam" {
        /// η, step size, ≥ 0. Default 10⁻³ (PyTorch).
        pub lr: f64 = 1e-3, not_negative;
        /// β₁, decay of the first moment, in [0, 1). Default 0.9 (PyTorch).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the second moment, in [0, 1). Default 0.999 (PyTorch).
        pub beta2: f64 = 0.999, fraction;
        /// ε, added to √v, > 0. Default 10⁻⁸ (PyTorch).
        pub eps: f64 = 1e-8, positive;
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
    /// 1 / (1 − β₁ᵗ), with r √(1 − β₂ᵗ) where the step is adaptive.
    scale: T,
    /// The divisor is `root` √v + `floor`: √v + ε where the step is adaptive, 1 where it is not. Arithmetic, since a choice in its place keeps
    /// the loop from being vectorised.
    root: T,
    floor: T,
}

/// The largest finite number for ∞, whose product with 0 would be none.
#[inline(always)]
fn finite<T: Number>(x: T) -> T {
    T::select_lt(T::MAX, x, T::MAX, x)
}

impl Elementwise for RAdamConfig {
    const SQUARES: bool = true;
    const MOMENTUM: Option<&'static str> = Some("first_moment");
    const BUFFERS: &'static [&'static str] = &["first_moment", "second_moment"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let (c1, c2) = (correction(self.beta1, at.exponent()), correction(self.beta2, at.exponent()));
        let longest = 2.0 / (1.0 - self.beta2) - 1.0;
        let length = longest - 2.0 * at.t as f64 * (1.0 - c2) / c2;
        let adaptive = length > 5.0;
        let mut scale = 1.0 / c1;
        if adaptive {
            let over = (length - 4.0) * (length - 2.0) * longest;
            scale *= (over / ((longest - 4.0) * (longest - 2.0) * length)).sqrt() * c2.sqrt();
        }
        Scalars {
            first: Average::new(self.beta1),
            second: Average::new(self.beta2),
            scale: T::from_f64(scale),
            root: T::from_f64(f64::from(u8::from(adaptive))),
            floor: T::from_f64(if adaptive { self.eps } else { 1.0 }),
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let (m, v) = (k.first.of(state[0], g), k.second.of(state[1], g * g));
        (state[0], state[1]) = (m, v);
        (m * k.scale / (k.root * finite(v.sqrt()) + k.floor), state)
    }
}
