//! Layer groups: which part of the network a tensor belongs to. Its position in model order decides, as in the paper, unless a parameter group
//! names the part.

use np_engine::config::plasticity::{Layer, Third};
use serde::{Deserialize, Serialize};

/// The part of the network that a hybrid modulates.
///
/// Of n tensors in model order, indexed from 0, the last two (weight and bias of the output layer) are the classifier, and c = n − 2. A tensor
/// whose [`Layer`] is set by a parameter group belongs to that layer only, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Scope {
    /// Every tensor. The default.
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

/// A tensor's position in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Index in model order, from 0.
    pub(super) index: usize,
    /// Number of tensors n.
    pub(super) of: usize,
    /// Number of dimensions of the tensor.
    pub(super) rank: usize,
    /// The layer that a parameter group sets, if any.
    pub(super) layer: Option<Layer>,
    pub(super) third: Option<Third>,
}

impl Position {
    /// The first of classifier, early and late blocks that the tensor is in; the stem is what is left.
    pub(super) fn layer(self) -> Layer {
        let is_in = |scope: Scope| scope.contains(self);
        if let Some(layer) = self.layer {
            layer
        } else if is_in(Scope::ClassifierOnly) {
            Layer::Classifier
        } else if is_in(Scope::EarlyBlocks) {
            Layer::EarlyBlocks
        } else if is_in(Scope::LateBlocks) {
            Layer::LateBlocks
        } else {
            Layer::Stem
        }
    }

    pub(super) fn third(self) -> Third {
        if let Some(third) = self.third {
            third
        } else if self.index < self.of.div_ceil(3) {
            Third::Early
        } else if self.index < (2 * self.of).div_ceil(3) {
            Third::Middle
        } else {
            Third::Late
        }
    }
}

impl Scope {
    pub(super) fn contains(self, at: Position) -> bool {
        let c = at.of.saturating_sub(2);
        match (self, at.layer) {
            (Self::All, _) => true,
            (Self::ConvOnly, _) => at.rank == 4,
            (Self::ClassifierOnly, Some(layer)) => layer == Layer::Classifier,
            (Self::EarlyBlocks, Some(layer)) => layer == Layer::EarlyBlocks,
            (Self::LateBlocks, Some(layer)) => layer == Layer::LateBlocks,
            (Self::ClassifierOnly, None) => at.index >= c,
            (Self::EarlyBlocks, None) => at.index < c.div_ceil(2),
            (Self::LateBlocks, None) => (c / 2..c).contains(&at.index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: usize, of: usize) -> Position {
        Position { index, of, rank: 2, layer: None, third: None }
    }

    fn members(scope: Scope, n: usize) -> Vec<usize> {
        (0..n).filter(|&index| scope.contains(at(index, n))).collect()
    }

    #[test]
    fn a_named_layer_comes_before_position() {
        let named = Position { layer: Some(Layer::Stem), third: Some(Third::Late), ..at(0, 8) };
        assert_eq!((named.layer(), named.third()), (Layer::Stem, Third::Late));
        assert!(!Scope::EarlyBlocks.contains(named) && Scope::All.contains(named));
        let named = Position { layer: Some(Layer::Classifier), ..at(0, 8) };
        assert!(Scope::ClassifierOnly.contains(named) && !Scope::EarlyBlocks.contains(named));
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
        use Third::{Early, Late, Middle};
        let third = |index| at(index, 8).third();
        let expected = [Early, Early, Early, Middle, Middle, Middle, Late, Late];
        assert_eq!((0..8).map(third).collect::<Vec<_>>(), expected);
    }
}
