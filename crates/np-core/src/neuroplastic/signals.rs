//! Signals: the inputs of the plasticity coefficient, their weights and normalisation.

use np_engine::error::{check, not_negative, positive};
use np_trace::Number;
use serde::{Deserialize, Serialize};

hyper_parameters! {
    /// Weights of the three signals, and their normalisation.
    ///
    /// ```text
    /// N(x) = x / (mean(x) + ε)                      mean over the tensor
    /// ĝ = N(|g|)     â = N(a)     m̂ = N(|m| / (√v + ε))
    /// ```
    ///
    /// g is the gradient; a, m and v are the [`Traces`](super::Traces). Weight 0 disables a signal: `activity: 0` is the paper's ablation "no
    /// activity", `memory: 0` its "no memory". The weights must sum to 1.
    pub struct Signals {
        /// w_a, weight of the activity trace, ≥ 0. Default 0.4 (paper).
        pub activity: f64 = 0.4, not_negative;
        /// w_g, weight of the gradient, ≥ 0. Default 0.4 (paper).
        pub gradient: f64 = 0.4, not_negative;
        /// w_m, weight of the memory signal |m|/(√v + ε), ≥ 0. Default 0.2 (paper).
        pub memory: f64 = 0.2, not_negative;
        /// Whether each signal is divided by its `mean` over the tensor, or not (`none`). Default `mean` (paper).
        pub normalization: Normalization = Normalization::Mean;
        /// ε, added to the means and to √v, > 0. Default 10⁻⁸ (published code).
        pub eps: f64 = 1e-8, positive;
    }
    check |signals| {
        let sum = signals.activity + signals.gradient + signals.memory;
        check((sum - 1.0).abs() < 1e-6, "", "weights `activity`, `gradient`, `memory` that sum to 1", sum)
    }
}

/// What a signal is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Normalization {
    /// Its own mean over the tensor, plus ε. The default.
    #[default]
    Mean,
    /// Nothing (an ablation). |g| and a then have the gradient's magnitude, which is usually far below α_min.
    None,
}

impl Signals {
    /// 1/(mean + ε), or 1 without normalisation.
    pub(super) fn scale<N: Number>(&self, mean: N) -> N {
        match self.normalization {
            Normalization::Mean => N::ONE / (mean + N::from_f64(self.eps)),
            Normalization::None => N::ONE,
        }
    }
}
