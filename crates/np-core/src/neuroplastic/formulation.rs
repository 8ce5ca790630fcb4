//! Formulations: how the coefficient α enters the update u.

use serde::{Deserialize, Serialize};

use super::base::{Base, BaseAdamw};
use super::layers::Scope;
use crate::config::decay::DecayKind;
use crate::engine::rule::StepContext;
use crate::error::{Result, check, not_negative, positive};
use crate::optim::BaseConfig;

tagged! {
    /// How the coefficient enters the update.
    ///
    /// | formulation | update |
    /// |---|---|
    /// | direct | u = α ⊙ g |
    /// | bounded residual | u = g + d, d = (α − 1) ⊙ g, held to ‖d‖ ≤ r‖g‖ |
    /// | orthogonal residual | u = g + d, d along the part of (α − α_g) ⊙ g orthogonal to g |
    /// | hybrid | u = b + d, b the direction of a base optimizer, any of this crate, d its modulation by α − 1 |
    ///
    /// The first three take weight decay as `decay` says, with the strength of [`super::NeuroPlasticConfig::weight_decay`]; a hybrid takes it as its base does.
    #[derive(Debug, Clone, PartialEq)]
    #[non_exhaustive]
    pub enum Formulation {
        /// u = α ⊙ g. The default.
        Direct(Direct),
        /// The gradient, and a bounded residual.
        BoundedResidual(BoundedResidual),
        /// The gradient, and a residual orthogonal to it.
        OrthogonalResidual(OrthogonalResidual),
        /// A base optimizer, modulated.
        Hybrid(Hybrid),
    }
}

hyper_parameters! {
    /// u = α ⊙ g.
    pub struct Direct {
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled.
        pub decay: DecayKind = DecayKind::Coupled;
    }
}

hyper_parameters! {
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
    /// ```text
    /// q = (α − α_g) ⊙ g;   if Σg² ≤ ε:  d = 0
    /// o = q − [Σ(q⊙g)/(Σg² + ε)] g;   matched norm, and ‖o‖ > ε:  o ← o · ‖g‖/(‖o‖ + ε)
    /// d = λ κ o;   if ‖d‖ > r‖g‖:  d ← d · r‖g‖/(‖d‖ + ε);   u = g + d
    /// ```
    ///
    /// Elements of q and o that are not finite become 0.
    pub struct OrthogonalResidual {
        /// λ ≥ 0. Default 0.1 (published code).
        pub strength: f64 = 0.1, not_negative;
        /// r > 0, largest ‖d‖/‖g‖. Default 0.5 (published code).
        pub max_ratio: f64 = 0.5, positive;
        /// What o is scaled to: its own norm (`raw`) or the gradient's (`match_gradient`). Default `raw`.
        pub norm: ResidualNorm = ResidualNorm::default();
        /// κ over the training: `constant`, `{late: p₀}` or `cosine`. Default `constant`.
        pub schedule: ResidualSchedule = ResidualSchedule::default();
        /// Where weight decay enters, `coupled` or `decoupled`. Default coupled.
        pub decay: DecayKind = DecayKind::Coupled;
    }
    check |config| {
        let ResidualSchedule::Late(start) = config.schedule else { return Ok(()) };
        check((0.0..1.0).contains(&start), "schedule.late", "a number in [0, 1)", start)
    }
}

/// The norm that the orthogonal residual is brought to before λ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResidualNorm {
    /// Its own.
    #[default]
    Raw,
    /// The gradient's.
    MatchGradient,
}

/// κ as a function of the share of training done, p = e/E.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ResidualSchedule {
    /// κ = 1.
    #[default]
    Constant,
    /// κ = 0 up to p₀ (default of the published code: 0.3), then rising to 1: min((p − p₀)/(1 − p₀), 1).
    Late(
        /// p₀, in [0, 1).
        f64,
    ),
    /// κ = ½ (1 − cos(π p)).
    Cosine,
}

hyper_parameters! {
    /// ```text
    /// z = α − 1;  γ = strength · phase · scope
    /// d = γ z ⊙ t,   t = b  |  μ  |  (clip(‖θ‖/(‖b‖ + 10⁻¹²), 0.5, 1.5) − 1) b
    /// if ‖d‖ > r‖b‖:  d ← d · r‖b‖/(‖d‖ + 10⁻¹²);   u = b + d
    /// ```
    ///
    /// The stabilizer comes after: with its defaults ‖u‖ is 1 at most a tensor, and so smaller than b of most bases. See
    /// [`NeuroPlasticConfig::hybrid`](super::NeuroPlasticConfig::hybrid).
    pub struct Hybrid {
        /// The optimizer that gives b and μ: `adamw`, `sgd_momentum`, or another by name, whose learning rate is the hybrid's. Default AdamW.
        pub base: Base = Base::Adamw(BaseAdamw::default());
        /// What is modulated: `gain`, `momentum` or `trust_ratio`. Default `gain`.
        pub target: Target = Target::default();
        /// The tensors that are modulated: `all`, `conv_only`, `classifier_only`, `early_blocks` or `late_blocks`. Default all.
        pub scope: Scope = Scope::default();
        /// The part of the training in which they are: `full`, `early`, `middle` or `late`. Default full.
        pub phase: Phase = Phase::default();
        /// Strength ≥ 0; with 0 the hybrid is its base optimizer, stabilised. Default 0.15 (published code).
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
    /// The base update b.
    #[default]
    Gain,
    /// The base's momentum μ.
    Momentum,
    /// b by how far its trust ratio is from 1.
    TrustRatio,
}

/// When a hybrid modulates, by p = e/E.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Always.
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
    /// Where weight decay enters.
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
