//! Adam and AdamW: the same formula with two kinds of weight decay.

use np_engine::buffer::Buffer;
use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

optimizer! {
    /// Adam, with coupled weight decay (L2 regularisation).
    ///
    /// ```text
    /// g ← g + wd·θ
    /// m ← β₁ m + (1 − β₁) g          m̂ = m / (1 − β₁ᵗ)
    /// v ← β₂ v + (1 − β₂) g²         v̂ = v / (1 − β₂ᵗ)          (AMSGrad: the largest v so far)
    /// θ ← θ − η m̂ / (√v̂ + ε)
    /// ```
    ///
    /// t counts the steps in which the tensor had a gradient. As `torch.optim.Adam`, with its defaults. References: Kingma and Ba 2015; Reddi et al. 2018 (AMSGrad).
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut adam = np_core::Adam::from_named(vec![("w".into(), w.clone())], np_core::AdamConfig::default())?;
    /// let report = adam.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.absent, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub type Adam = Driver<AdamConfig>;
}

optimizer! {
    /// Adam with decoupled weight decay: θ ← θ − η·wd·θ beside Adam's step, not inside its moments.
    ///
    /// ```text
    /// θ ← (1 − η wd) θ − η m̂ / (√v̂ + ε)          m̂, v̂ as in Adam
    /// ```
    ///
    /// As `torch.optim.AdamW`, with its defaults (weight decay 0.01). Reference: Loshchilov and Hutter 2019.
    ///
    /// ```
    /// # fn main() -> candle_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// use candle_nn::Optimizer;
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let mut adamw = np_core::AdamW::new(vec![w.clone()], np_core::AdamWConfig { lr: 0.01, ..Default::default() })?;
    /// adamw.backward_step(&w.as_tensor().sqr()?.sum_all()?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub type AdamW = Driver<AdamWConfig>;
}

/// What both need for a tensor's step.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    beta1: T,
    beta2: T,
    one_minus_beta1: T,
    one_minus_beta2: T,
    /// 1 / (1 − β₁ᵗ)
    correction1: T,
    /// 1 / √(1 − β₂ᵗ)
    correction2: T,
    eps: T,
}

impl<T: Number> Scalars<T> {
    pub(crate) fn new(beta1: f64, beta2: f64, eps: f64, t: u64) -> Self {
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        let wide = Scalars {
            beta1,
            beta2,
            one_minus_beta1: 1.0 - beta1,
            one_minus_beta2: 1.0 - beta2,
            correction1: 1.0 / (1.0 - beta1.powi(t)),
            correction2: 1.0 / (1.0 - beta2.powi(t)).sqrt(),
            eps,
        };
        wide.cast()
    }

    /// 1 / (1 − β₁ᵗ), what the first moment is multiplied with to give m̂.
    pub(crate) fn correction1(&self) -> T {
        self.correction1
    }

    /// m̂ / (√v̂ + ε) and the new moments; the third buffer, if there is one, holds AMSGrad's largest v.
    #[inline(always)]
    pub(crate) fn direction<const N: usize>(&self, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let m = self.beta1 * state[0] + self.one_minus_beta1 * g;
        let v = self.beta2 * state[1] + self.one_minus_beta2 * (g * g);
        (state[0], state[1]) = (m, v);
        let mut top = v;
        if N > 2 {
            top = state[2].max(v);
            state[2] = top;
        }
        (m * self.correction1 / (top.sqrt() * self.correction2 + self.eps), state)
    }
}

impl Scalars<f64> {
    /// The same in another type.
    #[inline(always)]
    pub(crate) fn cast<N: Number>(&self) -> Scalars<N> {
        let real = N::from_f64;
        Scalars {
            beta1: real(self.beta1),
            beta2: real(self.beta2),
            one_minus_beta1: real(self.one_minus_beta1),
            one_minus_beta2: real(self.one_minus_beta2),
            correction1: real(self.correction1),
            correction2: real(self.correction2),
            eps: real(self.eps),
        }
    }
}

macro_rules! adam_config {
    ($(#[$doc:meta])* $config:ident, $kind:literal, $decay:ident, $weight_decay:literal, $decay_doc:literal) => {
        hyper_parameters! {
            $(#[$doc])*
            pub struct $config = $kind {
                /// η, step size, ≥ 0. Default 10⁻³ (PyTorch).
                pub lr: f64 = 1e-3, not_negative;
                /// β₁, decay of the first moment, in [0, 1). Default 0.9 (PyTorch).
                pub beta1: f64 = 0.9, fraction;
                /// β₂, decay of the second moment, in [0, 1). Default 0.999 (PyTorch).
                pub beta2: f64 = 0.999, fraction;
                /// ε, added to √v̂, > 0. Default 10⁻⁸ (PyTorch).
                pub eps: f64 = 1e-8, positive;
                #[doc = $decay_doc]
                pub weight_decay: f64 = $weight_decay, not_negative;
                /// Divide by the largest second moment so far. Default off (PyTorch).
                pub amsgrad: bool = false;
            }
        }

        impl Elementwise for $config {
            const COUNTS: [usize; 2] = [2, 3];
            const SQUARES: bool = true;
            const MOMENTUM: Option<&'static str> = Some("first_moment");
            type Scalars<T: Number> = Scalars<T>;

            fn weight_decay(&self) -> Decay {
                Decay::$decay(self.weight_decay)
            }

            fn buffers(&self) -> Vec<Buffer> {
                let all = ["first_moment", "second_moment", "largest_second_moment"];
                all[..if self.amsgrad { 3 } else { 2 }].iter().map(|name| Buffer::new(*name)).collect()
            }

            fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
                Scalars::new(self.beta1, self.beta2, self.eps, at.t)
            }

            #[inline(always)]
            fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, state: [T; N]) -> (T, [T; N]) {
                k.direction(g, state)
            }
        }
    };
}

adam_config!(
    /// Hyper-parameters of [`Adam`].
    AdamConfig, "adam", Coupled, 0.0,
    "wd, coupled weight decay, ≥ 0. Default 0 (PyTorch)."
);
adam_config!(
    /// Hyper-parameters of [`AdamW`].
    AdamWConfig, "adamw", Decoupled, 0.01,
    "wd, decoupled weight decay, ≥ 0. Default 0.01 (PyTorch)."
);
