//! The inputs and results of the passes of a step.

use super::coefficient::{Alpha, Means};
use crate::engine::number::Number;

/// Sums over the elements of one tensor; each pass fills in its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums<N = f64> {
    /// Number of elements.
    pub(super) elements: usize,
    /// Σ|g|, Σa, Σ|m|/(√v + ε).
    pub(super) signals: [N; 3],
    /// Σg².
    pub(super) g2: N,
    /// Σθ².
    pub(super) theta2: N,
    /// Σb² of a hybrid's base update.
    pub(super) b2: N,
    /// What the modulation wrote: Σx² and Σx g.
    pub(super) out2: N,
    pub(super) out_g: N,
    /// Σδ², δ = (α − α_g) ⊙ g.
    pub(super) delta2: N,
    /// Σ log(max(α, ε)/max(α_g, ε)).
    pub(super) log_ratio: N,
    /// Σα, Σα², least and most α, and how often it is near its lower bound, and its upper.
    pub(super) alpha: [N; 6],
}

impl<N: Number> Sums<N> {
    /// Of so many elements, which nothing has been found of yet.
    pub(super) fn of(elements: usize) -> Self {
        let (zero, infinite) = (N::ZERO, N::ONE / N::ZERO);
        Self {
            elements,
            signals: [zero; 3],
            g2: zero,
            theta2: zero,
            b2: zero,
            out2: zero,
            out_g: zero,
            delta2: zero,
            log_ratio: zero,
            alpha: [zero, zero, infinite, -infinite, zero, zero],
        }
    }

    /// How many elements there are, or 1 where there are none.
    pub(super) fn count(&self) -> N {
        N::from_f64(self.elements.max(1) as f64)
    }

    pub(super) fn means(&self) -> Means<N> {
        let count = self.count();
        let [gradient, activity, memory] = self.signals.map(|sum| sum / count);
        Means { gradient, activity, memory }
    }
}

/// What a pass looks at beyond what the step itself needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing.
    Step,
    /// The diagnostics.
    Diagnostics,
}

/// What the modulation pass writes for each element, from α, α_g and g.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<N = f64> {
    /// α g + wd θ
    Direct { weight_decay: f64 },
    /// (α − 1) g
    Residual,
    /// (α − α_g) g
    Signal,
    /// (α − 1) (kb b + km μ), μ the buffer of the base's momentum.
    Base { kb: N, km: f64 },
}

/// A modulation of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modulation<N = f64> {
    pub(super) alpha: Alpha<N>,
    pub(super) shape: Shape<N>,
    /// Up to, and from, which value α counts as near a bound.
    pub(super) near: [f64; 2],
    /// Sum the logarithms that the controller needs, with this ε.
    pub(super) log_ratio: Option<f64>,
}

/// x ← kg g + kx x + kb b + kθ θ, where x is what the pass before wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Combination<N = f64> {
    pub(super) g: N,
    pub(super) x: N,
    pub(super) b: f64,
    pub(super) theta: f64,
    /// Elements that are not finite become 0.
    pub(super) finite: bool,
}
