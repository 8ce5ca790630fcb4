//! What an optimizer may want of a step beyond a gradient: the loss somewhere else, or records of layers.

use candle_core::backprop::GradStore;
use np_core::{AnyOptimizer, LayerRecord};
use np_models::Recorder;

use crate::error::{Error, Result};

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
