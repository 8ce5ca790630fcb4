//! Formulations: how the coefficient α enters the update u.

use np_engine::config::decay::DecayKind;
use np_engine::error::{Result, check, not_negative, positive};
use np_engine::rule::StepContext;
use serde::{Deserialize, Serialize};

use super::base::{Base, BaseAdamw};
use super::layers::Scope;
use crate::optim::BaseConfig;

tagged! {
    /// How the coefficient enters the update.
    ///
    /// | formulation | update |
    /// |---|---|
    /// | direct | u = α ⊙ g |
    /// | bounded residual | u = g + d, where d = (α − 1) ⊙ g, scaled so that ‖d‖ ≤ r‖g‖ |
    /// | orthogonal residual | u = g + d, where d is along the part of (α − α_g) ⊙ g that is orthogonal to g |
    /// | hybrid | u = b + d, where b is the direction of a base optimizer and d its modulation by α − 1 |
    ///
    /// The strength of weight decay is [`super::NeuroPlasticConfig::weight_decay`]. The first three formulations apply it as their field `decay`
    /// says, a hybrid as its base does.
    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub enum Formulation {
        /// u = α ⊙ g. The default.
        Direct(Direct),
        /// The gradient plus a bounded residual.
        BoundedResidual(BoundedResidual),
        /// The gradient plus a residual orthogonal to it.
        OrthogonalResidual(OrthogonalResidual),
        /// The direction of a base optimizer plus its modulation.
        Hybrid(Hybrid),
    }
}

hyper_parameters! {
    /// The gradient scaled by the coefficient.
    ///
    /// ```text
    /// u = α ⊙ g
    /// ```
    pub struct Direct {
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled.
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

hyper_parameters! {
    /// The gradient plus a residual whose norm is bounded by a share r of the gradient's.
    ///
    /// ```text
    /// d = (α − 1) ⊙ g;  if ‖d‖ > r‖g‖:  d ← d · r‖g‖/(‖d‖ + 10⁻¹²);  u = g + d
    /// ```
    pub struct BoundedResidual {
        /// r > 0, largest ‖d‖/‖g‖. Default 0.5 (published code).
        pub max_ratio: f64 = 0.5, positive;
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled.
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

hyper_parameters! {
    /// The gradient plus a residual orthogonal to it, whose norm is bounded by a share r of the gradient's.
    ///
    /// ```text
    /// q = (α − α_g) ⊙ g;   if Σg² ≤ ε:  d = 0
    /// o = q − [Σ(q⊙g)/(Σg² + ε)] g;   matched norm, and ‖o‖ > ε:  o ← o · ‖g‖/(‖o‖ + ε)
    /// d = λ κ o;   if ‖d‖ > r‖g‖:  d ← d · r‖g‖/(‖d‖ + ε);   u = g + d
    /// ```
    ///
    /// ε is [`Signals::eps`](super::Signals::eps). Elements of q and o that are not finite become 0.
    pub struct OrthogonalResidual {
        /// λ ≥ 0, scale of the residual. Default 0.1 (published code).
        pub strength: f64 = 0.1, not_negative;
        /// r > 0, largest ‖d‖/‖g‖. Default 0.5 (published code).
        pub max_ratio: f64 = 0.5, positive;
        /// The norm that o has before λ and κ: its own (`raw`) or the gradient's (`match_gradient`). Default `raw`.
        pub norm: ResidualNorm = ResidualNorm::default();
        /// κ as a function of the share of the training done: `constant`, `{late: p₀}` or `cosine`. Default `constant`.
        pub schedule: ResidualSchedule = ResidualSchedule::default();
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled.
        pub decay: DecayKind = DecayKind::Coupled;
    }
    check |config| {
        let ResidualSchedule::Late(start) = config.schedule else { return Ok(()) };
        check((0.0..1.0).contains(&start), "schedule.late", "a number in [0, 1)", start)
    }
}

/// The norm that the orthogonal residual is scaled to before λ and κ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResidualNorm {
    /// Its own: no scaling. The default.
    #[default]
    Raw,
    /// The gradient's norm.
    MatchGradient,
}

/// κ as a function of the share of the training done, p = e/E in epoch e of E. All but `Constant` need the number of epochs
/// ([`Driver::begin_epoch`](crate::Driver::begin_epoch)).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResidualSchedule {
    /// κ = 1. The default.
    #[default]
    Constant,
    /// κ = 0 up to p₀, then linear to 1: κ = min((p − p₀)/(1 − p₀), 1). The published code's default for p₀ is 0.3.
    Late(
        /// p₀, in [0, 1).
        f64,
    ),
    /// κ = ½ (1 − cos(π p)).
    Cosine,
}

hyper_parameters! {
    /// The direction b of a base optimizer plus its modulation by the coefficient, whose norm is bounded by a share r of ‖b‖.
    ///
    /// ```text
    /// z = α − 1;  γ = strength in the tensors of `scope` and the epochs of `phase`, else 0
    /// gain:         d = γ z ⊙ b
    /// momentum:     d = γ z ⊙ μ                                              μ: the base's average of gradients
    /// trust ratio:  d = γ z ⊙ (clip(‖θ‖/(‖b‖ + 10⁻¹²), 0.5, 1.5) − 1) b
    /// if ‖d‖ > r‖b‖:  d ← d · r‖b‖/(‖d‖ + 10⁻¹²);   u = b + d
    /// ```
    ///
    /// The stabilizer comes after this. With its defaults ‖u‖ is at most 1 for each tensor, which is less than most bases' ‖b‖.
    /// [`NeuroPlasticConfig::hybrid`](super::NeuroPlasticConfig::hybrid) configures a hybrid without it.
    pub struct Hybrid {
        /// The optimizer that gives b and μ: `adamw`, `sgd_momentum`, or another one by name. It uses the hybrid's learning rate. Default `adamw`.
        pub base: Base = Base::Adamw(BaseAdamw::default());
        /// What is modulated: `gain`, `momentum` or `trust_ratio`. Default `gain`.
        pub target: Target = Target::default();
        /// The tensors that are modulated: `all`, `conv_only`, `classifier_only`, `early_blocks` or `late_blocks`. Default `all`.
        pub scope: Scope = Scope::default();
        /// The part of the training with modulation: `full`, `early`, `middle` or `late`. Default `full`.
        pub phase: Phase = Phase::default();
        /// Strength of the modulation, ≥ 0; with 0, u = b. Default 0.15 (published code).
        pub strength: f64 = 0.15, not_negative;
        /// r ≥ 0, largest ‖d‖/‖b‖. Default 0.25 (published code).
        pub max_ratio: f64 = 0.25, not_negative;
    }
    check |config| {
        let target = config.target != Target::Momentum || config.base.momentum().is_some();
        let named = config.base.other().map_or("", BaseConfig::kind);
        check(target, "base", "a base with an average of gradients for target `momentum`", named)?;
        config.base.validate()
    }
}

/// What a hybrid modulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Target {
    /// The base's direction b. The default.
    #[default]
    Gain,
    /// The base's average of gradients, μ. An error for a base that keeps none.
    Momentum,
    /// b, times the difference of its clipped trust ratio ‖θ‖/‖b‖ from 1.
    TrustRatio,
}

/// When a hybrid modulates, by the share of the training done, p = e/E in epoch e of E. All but `Full` need the number of epochs
/// ([`Driver::begin_epoch`](crate::Driver::begin_epoch)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Always. The default.
    #[default]
    Full,
    /// p ≤ 0.3.
    Early,
    /// 0.3 < p < 0.7.
    Middle,
    /// p ≥ 0.7.
    Late,
}

impl Default for Formulation {
    fn default() -> Self {
        Self::Direct(Direct::default())
    }
}

impl ResidualSchedule {
    /// κ in this epoch.
    pub(super) fn at(self, cx: &StepContext) -> Result<f64> {
        let progress = || cx.progress("formulation.orthogonal_residual.schedule");
        Ok(match self {
            Self::Constant => 1.0,
            Self::Late(start) => {
                let p = progress()?;
                if p <= start { 0.0 } else { ((p - start) / (1.0 - start).max(1e-12)).min(1.0) }
            }
            Self::Cosine => 0.5 * (1.0 - (std::f64::consts::PI * progress()?.clamp(0.0, 1.0)).cos()),
        })
    }
}

impl Phase {
    /// Whether the phase holds in this epoch.
    pub(super) fn at(self, cx: &StepContext) -> Result<bool> {
        let progress = || cx.progress("formulation.hybrid.phase");
        Ok(match self {
            Self::Full => true,
            Self::Early => progress()? <= 0.3,
            Self::Middle => (0.3 + f64::EPSILON..0.7).contains(&progress()?),
            Self::Late => progress()? >= 0.7,
        })
    }
}

impl Formulation {
    /// Where NeuroPlastic itself applies weight decay. [`DecayKind::Coupled`] for a hybrid with any base but `adamw`, whose base applies it.
    #[must_use]
    pub fn decay(&self) -> DecayKind {
        match self {
            Self::Direct(Direct { decay })
            | Self::BoundedResidual(BoundedResidual { decay, .. })
            | Self::OrthogonalResidual(OrthogonalResidual { decay, .. }) => *decay,
            Self::Hybrid(Hybrid { base: Base::Adamw(_), .. }) => DecayKind::Decoupled,
            // Inside the base's direction, or in what the base leaves of θ.
            Self::Hybrid(_) => DecayKind::Coupled,
        }
    }

    /// A hybrid's base, if it is not one of the two that the kernels compute.
    pub(super) fn other(&self) -> Option<&BaseConfig> {
        if let Self::Hybrid(hybrid) = self { hybrid.base.other() } else { None }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let (name, checked) = match self {
            Self::Direct(x) => ("direct", x.in_range()),
            Self::BoundedResidual(x) => ("bounded_residual", x.in_range()),
            Self::OrthogonalResidual(x) => ("orthogonal_residual", x.in_range()),
            Self::Hybrid(x) => ("hybrid", x.in_range()),
        };
        checked.map_err(|e| e.below(name))
    }
}
