//! Stochastic gradient descent with momentum.

use np_engine::buffer::Buffer;
use np_engine::config::decay::{Decay, DecayKind};
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{check, not_negative, unit};
use np_trace::Number;

optimizer! {
    /// Stochastic gradient descent, with momentum, dampening, Nesterov's look-ahead and weight decay.
    ///
    /// ```text
    /// g ← g + wd·θ          (decoupled decay: θ ← (1 − η wd) θ beside the step instead, with the η of the step)
    /// B ← μ B + (1 − τ) g          (first step of a tensor: B ← g)
    /// u = B,  or  g + μ B with Nesterov,  or  g without momentum
    /// θ ← θ − η u
    /// ```
    ///
    /// As `torch.optim.SGD`, with its defaults, except that η is 10⁻² here and 10⁻³ in PyTorch. References: Polyak 1964; Sutskever et al. 2013.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::SgdConfig { lr: 0.1, momentum: 0.9, ..Default::default() };
    /// let mut sgd = np_core::Sgd::from_named(vec![("w".into(), w.clone())], config)?;
    /// let report = sgd.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// assert_eq!(report.updated, 1);
    /// assert_eq!(w.to_vec1::<f32>()?, [0.8; 3]);
    /// # Ok(())
    /// # }
    /// ```
    pub type Sgd = Driver<SgdConfig>;

    /// Hyper-parameters of [`Sgd`].
    pub struct SgdConfig = "sgd" {
        /// η, step size, ≥ 0. Default 0.01 (the published baseline; PyTorch's is 10⁻³).
        pub lr: f64 = 0.01, not_negative;
        /// μ, momentum, in [0, 1]. Default 0 (PyTorch).
        pub momentum: f64 = 0.0, unit;
        /// τ, dampening, in [0, 1]: the gradient enters the momentum with weight 1 − τ. Default 0 (PyTorch).
        pub dampening: f64 = 0.0, unit;
        /// Nesterov's look-ahead; needs momentum above 0 and no dampening. Default off (PyTorch).
        pub nesterov: bool = false;
        /// wd, weight decay, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled (PyTorch).
        #[serde(skip_serializing_if = "DecayKind::is_coupled")]
        pub decay: DecayKind = DecayKind::Coupled;
    }
    check |config| {
        let allowed = !config.nesterov || (config.momentum > 0.0 && config.dampening == 0.0);
        check(allowed, "nesterov", "`false` unless `momentum` > 0 and `dampening` = 0", config.nesterov)
    }
}

/// What a tensor's step needs: μ, 1 − τ (1 in a tensor's first step), and whether to look ahead.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    momentum: T,
    fresh: T,
    nesterov: bool,
}

impl Scalars<f64> {
    /// The same in another type.
    #[inline(always)]
    pub(crate) fn cast<N: Number>(&self) -> Scalars<N> {
        let (momentum, fresh) = (N::from_f64(self.momentum), N::from_f64(self.fresh));
        Scalars { momentum, fresh, nesterov: self.nesterov }
    }
}

impl Elementwise for SgdConfig {
    const COUNTS: [usize; 2] = [0, 1];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        self.decay.of(self.weight_decay)
    }

    fn buffers(&self) -> Vec<Buffer> {
        if self.momentum == 0.0 { vec![] } else { vec!["momentum".into()] }
    }

    fn momentum(&self) -> Option<&'static str> {
        (self.momentum > 0.0).then_some("momentum")
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let fresh = if at.t == 1 { 1.0 } else { 1.0 - self.dampening };
        Scalars { momentum: T::from_f64(self.momentum), fresh: T::from_f64(fresh), nesterov: self.nesterov }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        if N == 0 {
            return (g, state);
        }
        let b = k.momentum * state[0] + k.fresh * g;
        state[0] = b;
        (if k.nesterov { g + k.momentum * b } else { b }, state)
    }
}
