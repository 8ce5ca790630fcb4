//! The inputs and the sums of the passes of a step.

use np_trace::Number;

use super::coefficient::{Alpha, Means};

/// Sums over the elements of one tensor. Each pass has some of them.
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
    /// Σx² and Σx·g, of the x that the pass wrote.
    pub(super) out2: N,
    pub(super) out_g: N,
    /// Σδ², δ = (α − α_g) ⊙ g.
    pub(super) delta2: N,
    /// Σ log(max(α, ε)/max(α_g, ε)).
    pub(super) log_ratio: N,
    /// Σα, Σα², the least and the greatest α, and the numbers of elements near its lower and its upper bound.
    pub(super) alpha: [N; 6],
}

impl<N: Number> Sums<N> {
    /// The sums of `elements` elements before any pass.
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

    /// The number of elements, but at least 1.
    pub(super) fn count(&self) -> N {
        N::from_f64(self.elements.max(1) as f64)
    }

    pub(super) fn means(&self) -> Means<N> {
        let count = self.count();
        let [gradient, activity, memory] = self.signals.map(|sum| sum / count);
        Means { gradient, activity, memory }
    }
}

/// What the passes sum besides what the step needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watch {
    /// Nothing.
    Step,
    /// The diagnostics.
    Diagnostics,
}

/// What the modulation pass writes to x for each element.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape<N = f64> {
    /// α g + wd θ
    Direct { weight_decay: f64 },
    /// (α − 1) g
    Residual,
    /// (α − α_g) g
    Signal,
    /// (α − 1) (kb b + km B), B the buffer of the base's momentum.
    Base { kb: N, km: f64 },
}

/// A modulation of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modulation<N = f64> {
    pub(super) alpha: Alpha<N>,
    pub(super) shape: Shape<N>,
    /// α counts as near its lower bound up to the first value, and as near its upper bound from the second on.
    pub(super) near: [f64; 2],
    /// ε in the logarithms that the controller needs; `None` if they are not summed.
    pub(super) log_ratio: Option<f64>,
}

/// x ← `g`·g + `x`·x + `b`·b + `theta`·θ, where x on the right is what the pass before wrote.
#[derive(Debug, Clone, Copy)]
pub(super) struct Combination<N = f64> {
    pub(super) g: N,
    pub(super) x: N,
    pub(super) b: f64,
    pub(super) theta: f64,
    /// Whether elements that are not finite become 0.
    pub(super) finite: bool,
}
