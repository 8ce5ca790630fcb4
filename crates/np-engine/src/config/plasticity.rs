//! Settings of a parameter group that only NeuroPlastic reads.

use serde::{Deserialize, Serialize};

/// A parameter group's settings for NeuroPlastic; other optimizers ignore them. The field `neuroplastic` of [`Group`](crate::Group).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeuroPlasticGroup {
    /// Whether the plasticity coefficient acts on the parameters; with `off`, α = 1. `None`: unchanged; on if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plasticity: Option<Plasticity>,
    /// The layer group that the parameters belong to, for a hybrid's scope and for the controller. `None`: unchanged; by position in the
    /// model if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// The third of the model that the parameters belong to, for the stabiliser's layer scales. `None`: unchanged; by position in the
    /// model if no group sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub third: Option<Third>,
}

impl NeuroPlasticGroup {
    pub(crate) fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The settings of `later`, and where it has none, these.
    pub(crate) fn or(self, later: Self) -> Self {
        Self {
            plasticity: later.plasticity.or(self.plasticity),
            layer: later.layer.or(self.layer),
            third: later.third.or(self.third),
        }
    }
}

/// A layer group. A hybrid's scope selects one, and a layerwise controller has one learning-rate multiplier for each.
///
/// By position, as in the paper: of n tensors in model order, the last two are the classifier. Of the c = n − 2 tensors before them, the
/// first ⌈c/2⌉ are the early blocks and the rest the late blocks. The stem is empty then; only [`NeuroPlasticGroup::layer`] puts tensors there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The layers before the blocks.
    Stem,
    /// The first half of the tensors before the classifier.
    EarlyBlocks,
    /// The second half of the tensors before the classifier.
    LateBlocks,
    /// The output layer.
    Classifier,
}

impl Layer {
    /// All of them, in model order.
    pub const ALL: [Self; 4] = [Self::Stem, Self::EarlyBlocks, Self::LateBlocks, Self::Classifier];

    /// Its name in files (`early_blocks`).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stem => "stem",
            Self::EarlyBlocks => "early_blocks",
            Self::LateBlocks => "late_blocks",
            Self::Classifier => "classifier",
        }
    }
}

/// A third of the model's n tensors, by index from 0 in model order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Third {
    /// Index < ⌈n/3⌉.
    Early,
    /// ⌈n/3⌉ ≤ index < ⌈2n/3⌉.
    Middle,
    /// Index ≥ ⌈2n/3⌉.
    Late,
}

/// Whether the plasticity coefficient acts on a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plasticity {
    /// It acts. The default.
    #[default]
    On,
    /// α = 1: the update is the stabilised gradient or, in a hybrid, the stabilised direction of the base optimizer.
    Off,
}
