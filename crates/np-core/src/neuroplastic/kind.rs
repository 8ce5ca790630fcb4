//! Which tensors go through the passes together.

use candle_core::DType;

use crate::engine::param_state::State;
use crate::engine::param_step::ParamStep;

/// Tensors that go through the passes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    F32,
    F64,
    F16,
    BF16,
    Tensors32,
    Tensors64,
}

impl Kind {
    pub(super) const ALL: [Self; 6] = [Self::F32, Self::F64, Self::F16, Self::BF16, Self::Tensors32, Self::Tensors64];

    pub(super) fn of(w: &ParamStep<'_>) -> Self {
        match (&w.param.state, w.grad.dtype()) {
            (State::Tensors(_), DType::F64) => Self::Tensors64,
            (State::Tensors(_), _) => Self::Tensors32,
            (State::F64(_), _) => Self::F64,
            (State::F32(_), DType::F16) => Self::F16,
            (State::F32(_), DType::BF16) => Self::BF16,
            (State::F32(_), _) => Self::F32,
        }
    }
}
