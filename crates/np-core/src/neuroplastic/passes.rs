//! The passes that a step consists of, over all tensors at once: what a backend has to be able to do. The scalar arithmetic between them is
//! in `scalars`, once for all backends.

use super::coefficient::{Alpha, Means};
use crate::engine::number::Number;
use crate::error::Result;

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
    /// Statistics of α.
    pub(super) alpha: AlphaSums<N>,
}

/// Statistics of α over elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlphaSums<N = f64> {
    pub(super) sum: N,
    pub(super) squares: N,
    pub(super) min: N,
    pub(super) max: N,
    pub(super) near_min: N,
    pub(super) near_max: N,
}

impl<N: Number> Default for AlphaSums<N> {
    fn default() -> Self {
        let (sum, infinite) = (N::ZERO, N::ONE / N::ZERO);
        Self { sum, squares: sum, min: infinite, max: -infinite, near_min: sum, near_max: sum }
    }
}

impl<N: Number> Default for Sums<N> {
    fn default() -> Self {
        let zero = N::ZERO;
        let (signals, alpha) = ([zero; 3], AlphaSums::default());
        let (g2, theta2, b2, out2, out_g, delta2, log_ratio) = (zero, zero, zero, zero, zero, zero, zero);
        Self { elements: 0, signals, g2, theta2, b2, out2, out_g, delta2, log_ratio, alpha }
    }
}

impl AlphaSums {
    /// Σα and Σα² of `count` values, from the sums of how far they are from `pivot`, one of them, and of the squares of that: a constant α has deviation 0, not what
    /// rounding makes of it.
    pub(super) fn about(count: f64, pivot: f64, [off, off2]: [f64; 2]) -> [f64; 2] {
        [count * pivot + off, count * pivot * pivot + 2.0 * pivot * off + off2]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.near_min += other.near_min;
        self.near_max += other.near_max;
    }
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        for (x, y) in self.signals.iter_mut().zip(other.signals) {
            *x += y;
        }
        self.g2 += other.g2;
        self.theta2 += other.theta2;
        self.b2 += other.b2;
        self.out2 += other.out2;
        self.out_g += other.out_g;
        self.delta2 += other.delta2;
        self.log_ratio += other.log_ratio;
        self.alpha.add(&other.alpha);
    }
}

impl<N: Number> Sums<N> {
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
    /// (α − 1) (kb b + km μ), μ the base's momentum
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

/// The tensors of a step on some backend. Every pass goes over all of them and returns or takes an entry for each.
pub(super) trait Passes {
    /// Updates traces (and the base optimizer's state), writes q = |m|/(√v + ε) to scratch; sums signals, g², b², and θ² if asked.
    fn traces(&mut self) -> Result<Vec<Sums>>;
    /// Writes each tensor's modulation over q.
    fn modulate(&mut self, each: &[Modulation]) -> Result<Vec<Sums>>;
    /// Writes each tensor's combination over what was there; sums `out2`, `out_g`.
    fn combine(&mut self, each: &[Combination]) -> Result<Vec<Sums>>;
}
