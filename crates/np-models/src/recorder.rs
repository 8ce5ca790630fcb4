//! Records of the layers' inputs and output gradients, for optimizers such as K-FAC.
//!
//! A [`Recorder`] is passed to [`Model::forward_recorded`](crate::Model::forward_recorded); the backward pass adds an entry for each layer. A forward
//! pass without a recorder has no extra cost.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;

/// The record of a linear layer for one batch.
#[derive(Debug, Clone)]
pub struct LayerTrace {
    /// The part of the layer's parameter names before `.weight`: `fc1`.
    pub layer: String,
    /// The layer's inputs, \[batch, inputs\].
    pub inputs: Tensor,
    /// The gradients of the loss with respect to the layer's outputs, \[batch, outputs\].
    pub output_gradients: Tensor,
}

/// Collects the records of backward passes until they are taken. Clones share the records.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<LayerTrace>>>);

impl Recorder {
    /// A recorder without records.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes and returns all records, in the order of the backward pass: the last layer first.
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
