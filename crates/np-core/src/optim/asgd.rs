//! Averaged stochastic gradient descent.

use candle_core::Tensor;
use np_engine::config::decay::Decay;
use np_engine::driver::Driver;
use np_engine::elementwise::{Elementwise, StepInfo};
use np_engine::error::{Result, not_negative};
use np_trace::Number;

optimizer! {
    /// Averaged SGD: gradient descent with a falling step size, and an average of the weights from step t₀ on for evaluation.
    ///
    /// ```text
    /// g ← g + wd·θ
    /// ηₜ = η / (1 + λ η (t − 1))^α
    /// θ ← θ − ηₜ (g + λ θ)
    /// a ← a + (θ − a) / max(1, t − 1 − t₀)
    /// ```
    ///
    /// Evaluate with the average a in place of θ; up to step t₀ they are the same. As `torch.optim.ASGD`, with its defaults. Its t₀ is 10⁶
    /// steps: set `t0` to get an average earlier. Departures: PyTorch computes ηₜ from the η of the step before, and keeps it and the weight of
    /// the average in single precision even for double-precision parameters. Reference: Polyak and Juditsky 1992.
    ///
    /// ```
    /// # fn main() -> np_core::Result<()> {
    /// use candle_core::{DType, Device, Var};
    /// use np_core::Weights;
    /// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
    /// let config = np_core::AsgdConfig { lr: 0.4, t0: 1.0, ..Default::default() };
    /// let mut asgd = np_core::Asgd::from_named(vec![("w".into(), w.clone())], config)?;
    /// for _ in 0..10 {
    ///     asgd.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
    /// }
    /// let trained = w.to_vec1::<f32>()?;
    /// asgd.use_weights(Weights::Averaged)?;
    /// assert_ne!(w.to_vec1::<f32>()?, trained);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`Driver::use_weights`] puts the average into the parameters.
    pub type Asgd = Driver<AsgdConfig>;

    /// Hyper-parameters of [`Asgd`].
    pub struct AsgdConfig = "asgd" {
        /// η, size of the first step, ≥ 0. Default 10⁻² (PyTorch).
        pub lr: f64 = 1e-2, not_negative;
        /// λ, weight decay and rate of decay of the step size, ≥ 0. Default 10⁻⁴ (PyTorch).
        pub lambda: f64 = 1e-4, not_negative;
        /// α, exponent of the decay of the step size, ≥ 0. Default 0.75 (PyTorch).
        pub power: f64 = 0.75, not_negative;
        /// t₀, steps before averaging begins, ≥ 0. Default 10⁶ (PyTorch).
        pub t0: f64 = 1e6, not_negative;
        /// wd, coupled weight decay in addition to λ, ≥ 0. Default 0 (PyTorch).
        pub weight_decay: f64 = 0.0, not_negative;
    }
}

/// What a tensor's step needs: λ, ηₜ and the weight of the new θ in the average; and whether that is 1, so that the average starts anew, whatever it was.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Scalars<T> {
    numbers: [T; 3],
    anew: bool,
}

impl Elementwise for AsgdConfig {
    const BUFFERS: &'static [&'static str] = &["average"];
    type Scalars<T: Number> = Scalars<T>;

    fn weight_decay(&self) -> Decay {
        Decay::Coupled(self.weight_decay)
    }

    fn step_size(&self, at: &StepInfo<'_>) -> f64 {
        let done = at.t.saturating_sub(1) as f64;
        at.lr / (1.0 + self.lambda * at.lr * done).powf(self.power)
    }

    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Scalars<T> {
        let averaged = (at.t.saturating_sub(1) as f64 - self.t0).max(1.0);
        let numbers = [self.lambda, self.step_size(at), 1.0 / averaged].map(T::from_f64);
        Scalars { numbers, anew: averaged <= 1.0 }
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(k: &Scalars<T>, theta: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        let [lambda, step, weight] = k.numbers;
        let u = g + lambda * theta;
        let next = theta - step * u;
        state[0] = if k.anew { next } else { state[0] + weight * (next - state[0]) };
        (u, state)
    }

    fn average(&self, _: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(buffers.first().cloned())
    }
}
