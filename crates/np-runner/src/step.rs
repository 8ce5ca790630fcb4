//! What an optimizer may want of a step beyond a gradient: the loss somewhere else, or records of layers.

use candle_core::{Tensor, backprop::GradStore};
use np_core::{AnyOptimizer, LayerRecord};
use np_models::{Mode, Model, Recorder, Score, cross_entropy, loss_and_correct};

use crate::error::{Error, Result};

/// The examples of a step. Evaluated again, with the same mode, they have the same dropout.
pub(crate) struct Examples<'a> {
    pub(crate) images: &'a Tensor,
    pub(crate) labels: &'a Tensor,
    pub(crate) mode: Mode,
}

impl Examples<'_> {
    /// The loss of a model on them, to go backward from, and the score.
    pub(crate) fn loss(&self, model: &dyn Model, recorder: Option<&Recorder>) -> Result<(Tensor, Score)> {
        let logits = match recorder {
            Some(recorder) => model.forward_recorded(self.images, self.mode, recorder)?,
            None => model.forward(self.images, self.mode)?,
        };
        Ok((cross_entropy(&logits, self.labels)?, loss_and_correct(&logits, self.labels)?))
    }
}

/// Shows an optimizer what the layers have seen since the last time.
pub(crate) fn observe(optimizer: &mut dyn AnyOptimizer, recorder: &Recorder) -> Result<()> {
    let records = recorder.take().into_iter();
    let records = records.map(|trace| LayerRecord::linear(&trace.layer, &trace.inputs, &trace.output_gradients));
    Ok(optimizer.observe(&records.collect::<np_core::Result<Vec<_>>>()?)?)
}

/// A step of an optimizer that searches: `first`, loss and gradients where the parameters are, is known, and `again` finds them where
/// the optimizer has moved the parameters to.
pub(crate) fn search(
    optimizer: &mut dyn AnyOptimizer,
    first: (f64, GradStore),
    again: &mut dyn FnMut() -> Result<(f64, GradStore)>,
) -> Result<()> {
    let (mut first, mut failure) = (Some(first), None);
    let done = optimizer.step_with(&mut || match first.take() {
        Some(known) => Ok(known),
        // The optimizer can pass on candle's errors only.
        None => again().map_err(|error| {
            let told = candle_core::Error::Msg(error.to_string());
            failure = Some(error);
            told.into()
        }),
    });
    match failure {
        Some(error) => Err(error),
        None => done.map(drop).map_err(Error::from),
    }
}
