//! What layers saw of a batch, for optimizers that want more than gradients.
//!
//! A [`Recorder`] goes along a forward pass ([`Model::forward_recorded`](crate::Model::forward_recorded)); the backward pass leaves an entry a layer in
//! it. What the entries are good for is not known here. A pass without a recorder pays nothing.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

/// What one linear layer saw of one batch.
#[derive(Debug, Clone)]
pub struct LayerTrace {
    /// The part of the layer's parameter names before `.weight`: `fc1`.
    pub layer: String,
    /// Its inputs, \[batch, inputs\].
    pub inputs: Tensor,
    /// The gradient of the loss in its outputs, \[batch, outputs\].
    pub output_gradients: Tensor,
}

/// Keeps what the backward pass of a recorded forward pass leaves, until it is taken.
///
/// A handle: clones share what is kept.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<LayerTrace>>>);

impl Recorder {
    /// One that has kept nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything kept since the last call, in the order of the backward pass: the last layer first.
    #[must_use]
    pub fn take(&self) -> Vec<LayerTrace> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A recorder at a layer.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    recorder: Recorder,
    layer: String,
}

impl Tap {
    pub(crate) fn new(recorder: &Recorder, layer: &str) -> Self {
        Self { recorder: recorder.clone(), layer: layer.to_owned() }
    }

    /// Keeps both without the graphs that they came from.
    pub(crate) fn keep(&self, inputs: &Tensor, output_gradients: &Tensor) {
        let (inputs, output_gradients) = (inputs.detach(), output_gradients.detach());
        let trace = LayerTrace { layer: self.layer.clone(), inputs, output_gradients };
        self.recorder.0.lock().unwrap_or_else(PoisonError::into_inner).push(trace);
    }
}
