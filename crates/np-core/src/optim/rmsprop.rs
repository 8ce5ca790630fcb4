//! RMSprop: gradients divided by their running root mean square.

use np_engine::buffer::Buffer;
use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{fraction, not_negative, positive};
use np_trace::Number;

use crate::optim::average::Average;

optimizer! {
    /// RMSprop: the gradient divided by its running root mean square, optionally centred and with momentum.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// v ← ρ v + (1 − ρ) g²
    /// centred:  a ← ρ a + (1 − ρ) g,   r = √max(v − a², 0)          else r = √v
    /// u = g / (r + ε)
    /// momentum: B ← μ B + u,   u = B
    /// θ ← θ − η u
    /// ```
    ///
    /// As `torch.optim.RMSprop`, with its defaults. Departure: PyTorch does not bound v − a² by 0, and its root is NaN where rounding makes the
    /// difference negative (gradients that hardly vary). References: Tieleman and Hinton 2012; Graves 2013 (centred).
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::RmsPropConfig { centered: true, momentum: 0.9, ..Default::default() };
    /// let mut rmsprop = np_core::RmsProp::from_named(vec![("w".into(), w.clone())], config)?;
    /// let report = rmsprop.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub type RmsProp = Driver<RmsPropConfig>;

    /// Hyper-parameters of [`RmsProp`].
    pub struct RmsPropConfig = "rmsprop" {
        /// η, step size, ≥ 0. Default 10⁻² (PyTorch).
        pub lr: f64 = 1e-2, not_negative;
        /// ρ, decay of the averages, in [0, 1). Default 0.99 (PyTorch, which calls it alpha).
        pub rho: f64 = 0.99, fraction;
        /// ε, added to the root, > 0. Default 10⁻⁸ (PyTorch).
        pub eps: f64 = 1e-8, positive;
        /// μ, momentum of the steps, in [0, 1). Default 0 (PyTorch).
        pub momentum: f64 = 0.0, fraction;
        /// Whether to divide by an estimate of the gradient's standard deviation instead of its root mean square. Default off (PyTorch).
        pub centered: bool = false;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

/// What a tensor's step needs, and which buffers there are: v, then a if centred, then B with momentum.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    average: Average<T>,
    eps: T,
    momentum: T,
    centered: bool,
    with_momentum: bool,
}

impl Elementwise for RmsPropConfig {
    const SQUARES: bool = true;
    const COUNTS: [usize; 2] = [1, 3];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn buffers(&self) -> Vec<Buffer> {
        let mut all = vec!["square_average".into()];
        all.extend(self.centered.then(|| "gradient_average".into()));
        all.extend(self.momentum().map(Buffer::new));
        all
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> Scalars<T> {
        Scalars {
            average: Average::new(self.rho),
            eps: T::from_f64(self.eps),
            momentum: T::from_f64(self.momentum),
            centered: self.centered,
            with_momentum: self.momentum > 0.0,
        }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let v = k.average.of(state[0], g * g);
        state[0] = v;
        let mut square = v;
        // One buffer is neither, three are both: only two leave something to ask.
        if N == 3 || (N == 2 && k.centered) {
            let a = k.average.of(state[1], g);
            state[1] = a;
            // In this order a difference that is not a number stays so.
            square = T::ZERO.max(v - a * a);
        }
        let mut u = g / (square.sqrt() + k.eps);
        if N == 3 || (N == 2 && k.with_momentum) {
            u = k.momentum * state[N - 1] + u;
            state[N - 1] = u;
        }
        (u, state)
    }
}
