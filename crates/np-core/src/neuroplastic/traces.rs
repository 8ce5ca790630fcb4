//! Traces: the running averages that NeuroPlastic keeps of each parameter's gradient.

use np_engine::error::fraction;
use np_trace::Number;

hyper_parameters! {
    /// The three running averages, none with a bias correction.
    ///
    /// ```text
    /// a ← λ a + (1 − λ) |g|          activity trace
    /// m ← β₁ m + (1 − β₁) g          momentum
    /// v ← β₂ v + (1 − β₂) g²         variance
    /// ```
    pub struct Traces {
        /// λ, decay of the activity trace, in [0, 1). Default 0.95 (published code).
        pub activity_decay: f64 = 0.95, fraction;
        /// β₁, decay of the momentum, in [0, 1). Default 0.9 (published code).
        pub beta1: f64 = 0.9, fraction;
        /// β₂, decay of the variance, in [0, 1). Default 0.99 (published code; Adam's is 0.999).
        pub beta2: f64 = 0.99, fraction;
    }
}

/// q = |m|/(√v + ε), the memory signal.
#[inline(always)]
pub(super) fn memory<T: Number>(m: T, v: T, eps: T) -> T {
    m.abs() / (v.sqrt() + eps)
}

/// The decays in the type of the computation, each with its complement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decays<T> {
    activity: [T; 2],
    momentum: [T; 2],
    variance: [T; 2],
}

impl<T: Number> Decays<T> {
    pub(super) fn new(traces: &Traces) -> Self {
        let pair = |x: f64| [T::from_f64(x), T::from_f64(1.0 - x)];
        Self { activity: pair(traces.activity_decay), momentum: pair(traces.beta1), variance: pair(traces.beta2) }
    }

    /// The new (a, m, v).
    #[inline(always)]
    pub(super) fn update(&self, g: T, a: T, m: T, v: T) -> (T, T, T) {
        (
            self.activity[0] * a + self.activity[1] * g.abs(),
            self.momentum[0] * m + self.momentum[1] * g,
            self.variance[0] * v + self.variance[1] * (g * g),
        )
    }
}
