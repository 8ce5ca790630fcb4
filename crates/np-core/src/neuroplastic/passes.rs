//! The passes that a step consists of, over all tensors at once: what a backend has to be able to do. The scalar arithmetic between them is
//! in `step`, once for all backends.

use super::coefficient::{Alpha, Means};
use crate::error::Result;

/// Sums over the elements of one tensor; each pass fills in its own.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Number of elements.
    pub(super) elements: usize,
    /// Σ|g|, Σa, Σ|m|/(√v + ε).
    pub(super) signals: [f64; 3],
    /// Σg².
    pub(super) g2: f64,
    /// Σθ².
    pub(super) theta2: f64,
    /// Σb² of a hybrid's base update.
    pub(super) b2: f64,
    /// What the modulation wrote: Σx² and Σx g.
    pub(super) out2: f64,
    pub(super) out_g: f64,
    /// Σδ², δ = (α − α_g) ⊙ g.
    pub(super) delta2: f64,
    /// Σ log(max(α, ε)/max(α_g, ε)).
    pub(super) log_ratio: f64,
    /// Statistics of α.
    pub(super) alpha: AlphaSums,
}

/// Statistics of α over elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct AlphaSums {
    pub(super) sum: f64,
    pub(super) squares: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) near_min: f64,
    pub(super) near_max: f64,
}

impl Default for AlphaSums {
    fn default() -> Self {
        let (min, max) = (f64::INFINITY, f64::NEG_INFINITY);
        Self { sum: 0.0, squares: 0.0, min, max, near_min: 0.0, near_max: 0.0 }
    }
}

impl AlphaSums {
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

    pub(super) fn means(&self) -> Means {
        let [gradient, activity, memory] = self.signals.map(|sum| sum / self.elements.max(1) as f64);
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
pub(super) enum Shape {
    /// α g + wd θ
    Direct { weight_decay: f64 },
    /// (α − 1) g
    Residual,
    /// (α − α_g) g
    Signal,
    /// (α − 1) (kb b + km μ), μ the base's momentum
    Base { kb: f64, km: f64 },
}

/// A modulation of one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modulation {
    pub(super) alpha: Alpha<f64>,
    pub(super) shape: Shape,
    /// Up to, and from, which value α counts as near a bound.
    pub(super) near: [f64; 2],
    /// Sum the logarithms that the controller needs, with this ε.
    pub(super) log_ratio: Option<f64>,
}

/// x ← kg g + kx x + kb b + kθ θ, where x is what the pass before wrote.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Combination {
    pub(super) g: f64,
    pub(super) x: f64,
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
