//! The plasticity coefficient α.

use np_engine::error::{check, not_negative, positive};
use np_engine::rule::StepContext;
use np_trace::{Float, Number};
use serde::{Deserialize, Serialize};

use super::signals::Signals;

hyper_parameters! {
    /// How the signals become the coefficient α.
    ///
    /// ```text
    /// α_g = clip(ĝ, α_min, α_max)                           gradient-only
    /// α_f = clip(w_a â + w_g ĝ + w_m m̂, α_min, α_max)       full
    /// α   = α_g + ρ_e · s · (α_f − α_g)                     used; not clipped again
    /// ρ_e = clip((e − 1) / W, 0, 1)                          warm-up in epoch e; 1 if W = 0, 0 with `gradient_only`
    /// ```
    ///
    /// With s above 1, α may leave its bounds. The published results were made this way.
    pub struct Coefficient {
        /// Which coefficient is used: `full`, from all three signals, or `gradient_only`, α = α_g. Default `full`.
        pub rule: RuleKind = RuleKind::Full;
        /// α_min > 0. Default 0.2 (paper).
        pub min: f64 = 0.2, positive;
        /// α_max ≥ α_min. Default 2 (paper).
        pub max: f64 = 2.0;
        /// s ≥ 0, plasticity scale. Default 1 (published code; its tuned value is 2).
        pub scale: f64 = 1.0, not_negative;
        /// W, epochs over which the full rule is faded in. Default 0 (published code; its tuned value is 2).
        pub warmup_epochs: f64 = 0.0, not_negative;
        /// Whether each `element` has its own coefficient, or a whole `tensor` shares one. Default `element` (paper).
        pub granularity: Granularity = Granularity::Element;
        /// Distance from a bound within which the diagnostics count α as near it, as a share of α_max − α_min, in [0, 0.5]. Does not affect the
        /// update. Default 0.05 (published code).
        pub saturation_threshold: f64 = 0.05;
    }
    check |config| {
        check(config.max >= config.min && config.max.is_finite(), "max", "a number ≥ `coefficient.min`", config.max)?;
        let threshold = config.saturation_threshold;
        check((0.0..=0.5).contains(&threshold), "saturation_threshold", "a number in [0, 0.5]", threshold)
    }
}

/// Which signals the coefficient is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RuleKind {
    /// All three signals. The default.
    #[default]
    Full,
    /// The gradient signal alone: α = α_g.
    GradientOnly,
}

/// Whether each element has a coefficient of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Granularity {
    /// Each element has its own. The default.
    #[default]
    Element,
    /// All elements of a tensor share one, from the means of the signals over the tensor ("scalar modulation").
    Tensor,
}

impl Coefficient {
    /// ρ_e, the warm-up factor of the full rule in the context's epoch, in [0, 1].
    #[must_use]
    pub fn gate(&self, cx: &StepContext) -> f64 {
        match self.rule {
            RuleKind::GradientOnly => 0.0,
            RuleKind::Full if self.warmup_epochs == 0.0 => 1.0,
            RuleKind::Full => ((cx.epoch as f64 - 1.0) / self.warmup_epochs).clamp(0.0, 1.0),
        }
    }

    /// The values of α up to which, and from which, it counts as near a bound.
    pub(super) fn near(&self) -> [f64; 2] {
        let margin = self.saturation_threshold * (self.max - self.min);
        [self.min + margin, self.max - margin]
    }
}

/// Means of |g|, a and |m|/(√v + ε) over a tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means<N> {
    pub(super) gradient: N,
    pub(super) activity: N,
    pub(super) memory: N,
}

/// α of one tensor in one step, as a function of its elements. Each clipped sum is a constant (with one coefficient for the tensor) plus multiples of the
/// signals (with one for each element).
#[derive(Debug, Clone, Copy)]
pub(super) struct Alpha<T> {
    gradient_only: [T; 2],
    full: [T; 4],
    blend: T,
    bounds: [T; 2],
}

/// The number of values that [`Alpha`] consists of.
pub(super) const ALPHA: usize = 9;

impl<T: Number> Alpha<T> {
    /// α = α_g = 1 everywhere: plasticity switched off.
    pub(super) fn one() -> Self {
        let (one, zero) = (T::ONE, T::ZERO);
        Self { gradient_only: [one, zero], full: [one, zero, zero, zero], blend: zero, bounds: [one, one] }
    }

    pub(super) fn new(coefficient: &Coefficient, signals: &Signals, means: Means<T>, gate: f64) -> Self {
        let (real, zero) = (T::from_f64, T::ZERO);
        let [g, a, m] = [means.gradient, means.activity, means.memory].map(|mean| signals.scale(mean));
        let element = [real(signals.activity) * a, real(signals.gradient) * g, real(signals.memory) * m];
        let (gradient_only, full) = match coefficient.granularity {
            Granularity::Element => ([zero, g], [zero, element[0], element[1], element[2]]),
            Granularity::Tensor => {
                let mean = element[0] * means.activity + element[1] * means.gradient + element[2] * means.memory;
                ([g * means.gradient, zero], [mean, zero, zero, zero])
            }
        };
        let bounds = [real(coefficient.min), real(coefficient.max)];
        Self { gradient_only, full, blend: real(gate * coefficient.scale), bounds }
    }

    /// Its values, in the order of [`Alpha::of_numbers`].
    pub(super) fn numbers(&self) -> [T; ALPHA] {
        let ([c, k], [constant, a, g, m], [lo, hi]) = (self.gradient_only, self.full, self.bounds);
        [c, k, constant, a, g, m, self.blend, lo, hi]
    }

    /// The inverse of [`Alpha::numbers`].
    pub(super) fn of_numbers([c, k, constant, a, g, m, blend, lo, hi]: [T; ALPHA]) -> Self {
        Self { gradient_only: [c, k], full: [constant, a, g, m], blend, bounds: [lo, hi] }
    }

    /// (α_g, α) of an element with |g|, a, and q = |m|/(√v + ε).
    #[inline(always)]
    pub(super) fn at(&self, g_abs: T, a: T, q: T) -> (T, T) {
        let [lo, hi] = self.bounds;
        let [constant, k] = self.gradient_only;
        let alpha_g = (constant + k * g_abs).clip(lo, hi);
        let [constant, ka, kg, km] = self.full;
        let alpha_f = (constant + ka * a + kg * g_abs + km * q).clip(lo, hi);
        (alpha_g, alpha_g + self.blend * (alpha_f - alpha_g))
    }
}

impl<T: Float> Alpha<T> {
    /// The same function in another number type.
    pub(super) fn cast<U: Number>(&self) -> Alpha<U> {
        let cast = |x: T| U::from_f64(x.to_f64());
        Alpha {
            gradient_only: self.gradient_only.map(cast),
            full: self.full.map(cast),
            blend: cast(self.blend),
            bounds: self.bounds.map(cast),
        }
    }
}
