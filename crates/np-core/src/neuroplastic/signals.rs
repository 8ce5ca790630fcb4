//! Signals: what the plasticity coefficient is made of, and how much of each.

use serde::{Deserialize, Serialize};

use crate::engine::number::Number;
use crate::error::{Result, check, positive};

hyper_parameters! {
    /// Weights of the three signals, and their normalisation.
    ///
    /// ```text
    /// N(x) = x / (mean(x) + ε)                      mean over the tensor
    /// ĝ = N(|g|)     â = N(a)     m̂ = N(|m| / (√v + ε))
    /// ```
    ///
    /// With weight 0 a signal is switched off: `activity: 0` is the paper's "no activity", `memory: 0` its "no memory".
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct Signals {
        /// w_a, weight of the activity trace, ≥ 0. Default 0.4 (paper).
        pub activity: f64,
        /// w_g, weight of the gradient, ≥ 0. Default 0.4 (paper).
        pub gradient: f64,
        /// w_m, weight of the Adam-like memory, ≥ 0. Default 0.2 (paper). The three weights sum to 1.
        pub memory: f64,
        /// What each signal is divided by: its `mean` over the tensor, or `none`. Default `mean` (paper).
        pub normalization: Normalization,
        /// ε in the means and under the memory's division, > 0. Default 10⁻⁸ (published code).
        pub eps: f64,
    }
}

/// What a signal is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalization {
    /// Its own mean over the tensor, plus ε.
    #[default]
    Mean,
    /// Nothing: an ablation. |g| and a are then of the gradient's own size, mostly far below α_min.
    None,
}

impl Default for Signals {
    fn default() -> Self {
        Self { activity: 0.4, gradient: 0.4, memory: 0.2, normalization: Normalization::Mean, eps: 1e-8 }
    }
}

impl Signals {
    pub(super) fn validate(&self) -> Result<()> {
        let weights =
            [("signals.activity", self.activity), ("signals.gradient", self.gradient), ("signals.memory", self.memory)];
        weights.iter().try_for_each(|(key, w)| check(*w >= 0.0, key, "a number ≥ 0", w))?;
        let sum = self.activity + self.gradient + self.memory;
        check((sum - 1.0).abs() < 1e-6, "signals", "weights `activity`, `gradient`, `memory` that sum to 1", sum)?;
        positive("signals.eps", self.eps)
    }

    /// 1/(mean + ε), or 1 without normalisation.
    pub(super) fn scale<N: Number>(&self, mean: N) -> N {
        match self.normalization {
            Normalization::Mean => N::ONE / (mean + N::from_f64(self.eps)),
            Normalization::None => N::ONE,
        }
    }
}
