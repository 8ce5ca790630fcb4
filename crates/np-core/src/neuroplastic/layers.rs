//! Layer groups: which part of the network a tensor belongs to, by its position in the model's order, as in the paper.

use serde::{Deserialize, Serialize};

/// The part of the network that a hybrid modulates.
///
/// With n tensors in model order, the last two (weight and bias of the final layer) are the classifier, and c = n − 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every tensor.
    #[default]
    All,
    /// Tensors with four dimensions.
    ConvOnly,
    /// Index ≥ c.
    ClassifierOnly,
    /// Index < ⌈c/2⌉.
    EarlyBlocks,
    /// ⌊c/2⌋ ≤ index < c. With an odd c the middle tensor is in both halves.
    LateBlocks,
}

/// Groups of the layerwise controller. The first of classifier, early and late blocks that a tensor is in; the stem is what is left
/// (nothing, in practice: early and late blocks cover all that is before the classifier).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Stem,
    EarlyBlocks,
    LateBlocks,
    Classifier,
}

impl Group {
    pub(super) const ALL: [Self; 4] = [Self::Stem, Self::EarlyBlocks, Self::LateBlocks, Self::Classifier];

    pub(super) fn of(at: Position) -> Self {
        let is_in = |scope: Scope| scope.contains(at);
        if is_in(Scope::ClassifierOnly) {
            Self::Classifier
        } else if is_in(Scope::EarlyBlocks) {
            Self::EarlyBlocks
        } else if is_in(Scope::LateBlocks) {
            Self::LateBlocks
        } else {
            Self::Stem
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stem => "stem",
            Self::EarlyBlocks => "early_blocks",
            Self::LateBlocks => "late_blocks",
            Self::Classifier => "classifier",
        }
    }
}

/// Where a tensor stands in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// From 0.
    pub(super) index: usize,
    /// Number of tensors n.
    pub(super) of: usize,
    /// Number of dimensions of the tensor.
    pub(super) rank: usize,
}

impl Position {
    /// 0, 1 or 2: early (index < ⌈n/3⌉), middle (< ⌈2n/3⌉) or late third.
    pub(super) fn third(self) -> usize {
        if self.index < self.of.div_ceil(3) {
            0
        } else if self.index < (2 * self.of).div_ceil(3) {
            1
        } else {
            2
        }
    }
}

impl Scope {
    pub(super) fn contains(self, at: Position) -> bool {
        let c = at.of.saturating_sub(2);
        match self {
            Self::All => true,
            Self::ConvOnly => at.rank == 4,
            Self::ClassifierOnly => at.index >= c,
            Self::EarlyBlocks => at.index < c.div_ceil(2),
            Self::LateBlocks => (c / 2..c).contains(&at.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(scope: Scope, n: usize) -> Vec<usize> {
        (0..n).filter(|&index| scope.contains(Position { index, of: n, rank: 2 })).collect()
    }

    #[test]
    fn halves_overlap_when_odd() {
        assert_eq!(members(Scope::EarlyBlocks, 8), [0, 1, 2]);
        assert_eq!(members(Scope::LateBlocks, 8), [3, 4, 5]);
        assert_eq!(members(Scope::ClassifierOnly, 8), [6, 7]);
        assert_eq!(members(Scope::EarlyBlocks, 7), [0, 1, 2]);
        assert_eq!(members(Scope::LateBlocks, 7), [2, 3, 4]);
        assert_eq!(members(Scope::ClassifierOnly, 1), [0]);
    }

    #[test]
    fn thirds() {
        let third = |index| Position { index, of: 8, rank: 2 }.third();
        assert_eq!((0..8).map(third).collect::<Vec<_>>(), [0, 0, 0, 1, 1, 1, 2, 2]);
    }
}
