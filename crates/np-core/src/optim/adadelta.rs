//! Adadelta: steps of the size that the last steps had.

use serde::{Deserialize, Serialize};

use crate::config::decay::{Decay, DecayKind};
use crate::engine::buffer::Buffer;
use crate::engine::driver::Driver;
use crate::engine::elementwise::{Elementwise, StepInfo};
use crate::engine::number::Number;
use crate::error::{Result, fraction, not_negative, positive};
use crate::optim::average::Average;

optimizer! {
    /// Adadelta: gradients over their root mean square, times the root mean square of the steps so far.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// s ← ρ s + (1 − ρ) g²
    /// u = √(d + ε) / √(s + ε) · g
    /// d ← ρ d + (1 − ρ) u²
    /// θ ← θ − η u
    /// ```
    ///
    /// The first steps are of size √ε, and grow from there: ε is what a learning rate is elsewhere. As `torch.optim.Adadelta`, with its
    /// defaults. Reference: Zeiler 2012, which has no η.
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
}

hyper_parameters! {
    /// Hyper-parameters of [`Adadelta`].
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct AdadeltaConfig {
        /// η, what the step is scaled by, ≥ 0. Default 1 (PyTorch).
        pub lr: f64,
        /// ρ, decay of both averages, in [0, 1). Default 0.9 (PyTorch).
        pub rho: f64,
        /// ε, inside both roots, > 0. Default 10⁻⁶ (PyTorch).
        pub eps: f64,
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64,
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind,
    }
}

impl Default for AdadeltaConfig {
    fn default() -> Self {
        Self { lr: 1.0, rho: 0.9, eps: 1e-6, weight_decay: 0.0, decay: DecayKind::Coupled }
    }
}

/// What a tensor's step needs: the average, ε.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T>(Average<T>, T);

impl Elementwise for AdadeltaConfig {
    const KIND: &'static str = "adadelta";
    const COUNTS: [usize; 2] = [2, 2];
    type Scalars<T: Number> = Scalars<T>;

    fn validate(&self) -> Result<()> {
        not_negative("lr", self.lr)?;
        fraction("rho", self.rho)?;
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

    fn keeps_squares(&self) -> bool {
        true
    }

    fn buffers(&self) -> Vec<Buffer> {
        vec!["square_average".into(), "square_step_average".into()]
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> Scalars<T> {
        Scalars(Average::new(self.rho), T::from_f64(self.eps))
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        if N < 2 {
            return (g, state);
        }
        let Scalars(average, eps) = *k;
        let s = average.of(state[0], g * g);
        let u = (state[1] + eps).sqrt() / (s + eps).sqrt() * g;
        (state[0], state[1]) = (s, average.of(state[1], u * u));
        (u, state)
    }
}
