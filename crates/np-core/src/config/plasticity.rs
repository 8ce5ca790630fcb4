//! What a group of parameters says to NeuroPlastic alone.

use serde::{Deserialize, Serialize};

/// A group's settings for NeuroPlastic; other optimizers have no use for them. Part of [`Group`](crate::Group), as `neuroplastic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeuroPlasticGroup {
    /// Whether the coefficient acts; `off` is α = 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plasticity: Option<Plasticity>,
    /// The layer group of scopes and controller, in place of the one by position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// The third of the model of the layer scales, in place of the one by position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub third: Option<Third>,
}

impl NeuroPlasticGroup {
    pub(crate) fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What `later` says, else what this does.
    pub(crate) fn or(self, later: Self) -> Self {
        Self {
            plasticity: later.plasticity.or(self.plasticity),
            layer: later.layer.or(self.layer),
            third: later.third.or(self.third),
        }
    }
}

/// A layer group: what NeuroPlastic's scopes choose among, and what a layerwise controller steers together.
///
/// By position, as in the paper: with n tensors in model order the last two are the classifier, and of the c = n − 2 before it the first
/// ⌈c/2⌉ are the early blocks, the rest the late blocks. Nothing is left for the stem then; name it in a group to have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// What comes before the blocks.
    Stem,
    /// The first half.
    EarlyBlocks,
    /// The second half.
    LateBlocks,
    /// What gives the classes.
    Classifier,
}

/// A third of the model's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Third {
    /// By position: index < ⌈n/3⌉ of n tensors.
    Early,
    /// Index < ⌈2n/3⌉.
    Middle,
    /// The rest.
    Late,
}

/// Whether the plasticity coefficient acts on a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plasticity {
    /// It does.
    #[default]
    On,
    /// α = 1: the update is the gradient, or the hybrid's base, stabilised.
    Off,
}
