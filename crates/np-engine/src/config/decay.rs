//! Weight decay: how strong, and where it enters.

use serde::{Deserialize, Serialize};

/// Weight decay: how strong, and where it enters.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Decay {
    /// wd·θ is added to the gradient (L2 regularisation).
    Coupled(f64),
    /// θ ← θ − η·wd·θ, apart from the gradient (AdamW).
    Decoupled(f64),
    /// θ ← (θ − η·u)/(1 + η·wd): decay after the step, implicit (Adan).
    Proximal(f64),
    /// The optimizer applies it in its own formula.
    Inside(f64),
}

impl Decay {
    /// wd, the strength.
    #[must_use]
    pub fn strength(self) -> f64 {
        match self {
            Self::Coupled(wd) | Self::Decoupled(wd) | Self::Proximal(wd) | Self::Inside(wd) => wd,
        }
    }

    /// The same kind of decay with strength `wd`.
    #[must_use]
    pub fn of_strength(self, wd: f64) -> Self {
        match self {
            Self::Coupled(_) => Self::Coupled(wd),
            Self::Decoupled(_) => Self::Decoupled(wd),
            Self::Proximal(_) => Self::Proximal(wd),
            Self::Inside(_) => Self::Inside(wd),
        }
    }
}

/// Where weight decay enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DecayKind {
    /// g ← g + wd·θ (L2 regularisation); in NeuroPlastic u ← u + wd·θ, before the stabiliser. The default.
    #[default]
    Coupled,
    /// θ ← θ − η·wd·θ, apart from the gradient, with the η that the step itself takes (AdamW).
    Decoupled,
}

impl DecayKind {
    /// Whether it is the default, which some configurations leave out when they are serialised.
    pub fn is_coupled(&self) -> bool {
        *self == Self::Coupled
    }

    /// A decay of strength `wd`.
    pub fn of(self, wd: f64) -> Decay {
        match self {
            Self::Coupled => Decay::Coupled(wd),
            Self::Decoupled => Decay::Decoupled(wd),
        }
    }
}
