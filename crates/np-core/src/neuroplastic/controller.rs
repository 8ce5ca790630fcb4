//! The learning-rate controller: multiplies η of all tensors, or of a layer group, by a factor that depends on the coefficients.

use np_engine::config::plasticity::Layer;
use np_engine::error::{check, not_negative, positive};
use np_trace::Number;
use serde::{Deserialize, Serialize};

hyper_parameters! {
    /// A controller of the learning rate: η is multiplied by c.
    ///
    /// ```text
    /// ζ = mean( log( max(α, ε) / max(α_g, ε) ) )       signal of a tensor; 0 if not finite, 0 with `gradient_only`
    /// c = clip(1 + k ζ̄, low, high)                     ζ̄: unweighted mean of ζ over the group's tensors with a gradient
    /// η_eff = η · c
    /// ```
    ///
    /// ε is [`Signals::eps`](super::Signals::eps).
    pub struct Controller {
        /// Which tensors share a multiplier c: all (`global`), those of each layer group (`layerwise`), or those of the classifier, while all
        /// others have c = 1 (`classifier_only`). Default `global`.
        pub mode: ControllerMode = ControllerMode::Global;
        /// k ≥ 0, how strongly the signal acts. Default 0.1 (published code).
        pub strength: f64 = 0.1, not_negative;
        /// Smallest multiplier, > 0. Default 0.8 (published code).
        pub low: f64 = 0.8, positive;
        /// Largest multiplier, ≥ `low`. Default 1.2 (published code).
        pub high: f64 = 1.2;
    }
    check |config| { check(config.high.is_finite() && config.high >= config.low, "high", "a number ≥ `controller.low`", config.high) }
}

/// Which tensors share a multiplier of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ControllerMode {
    /// All tensors. The default.
    #[default]
    Global,
    /// The tensors of each layer group: stem, early blocks, late blocks, classifier.
    Layerwise,
    /// The tensors of the classifier; the multiplier of all others is 1.
    ClassifierOnly,
}

impl Controller {
    /// The index of the sum of signals that steers the tensors of a layer group; `None` if their multiplier is 1. There are as many sums as [`Layer::ALL`] has groups.
    pub(super) fn sum_for(&self, group: Layer) -> Option<usize> {
        match self.mode {
            ControllerMode::Global => Some(0),
            ControllerMode::ClassifierOnly if group != Layer::Classifier => None,
            ControllerMode::Layerwise | ControllerMode::ClassifierOnly => Some(group as usize),
        }
    }

    /// Signal and multiplier of a tensor, from that sum over `count` tensors.
    pub(super) fn steer<N: Number>(&self, sum: N, count: usize) -> Steered<N> {
        let (real, signal) = (N::from_f64, sum / N::from_f64(count.max(1) as f64));
        let multiplier = (N::ONE + real(self.strength) * signal).clip(real(self.low), real(self.high));
        Steered { signal, multiplier }
    }
}

/// The controller's result for a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steered<N> {
    /// ζ̄ of its group.
    pub(super) signal: N,
    /// c.
    pub(super) multiplier: N,
}
