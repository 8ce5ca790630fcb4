//! Which weights the parameters hold: those that are trained, or their average.

use crate::driver::Driver;
use crate::error::Result;
use crate::param_state::ParamState;
use crate::rule::Rule;

/// Which weights the parameters hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Weights {
    /// The weights that steps change. The default.
    #[default]
    Trained,
    /// Their average, for optimizers that keep one. Evaluate and ship these.
    Averaged,
}

impl<R: Rule> Driver<R> {
    /// Puts the averaged weights into the parameters, for evaluation, or the trained weights back, before the next step.
    ///
    /// Some optimizers (schedule-free AdamW and SGD, averaged SGD) keep an average of the weights for evaluation. For all others this does nothing. While the
    /// average is in the parameters, the trained weights are kept aside; they come back bit by bit, and [`Driver::state`] saves them. A step taken
    /// while the average is in the parameters is an error.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] if the parameters have been changed since [`Driver::load_state`] put the trained weights into them; errors of
    /// candle.
    pub fn use_weights(&mut self, weights: Weights) -> Result<()> {
        for param in &mut self.params {
            match weights {
                // Candle gives an empty tensor back as it is, and refuses to set a variable to itself.
                Weights::Averaged if param.set_aside.is_none() && param.steps > 0 && param.var.elem_count() > 0 => {
                    param.trains()?;
                    let theta = param.theta()?;
                    let buffers = param.state.tensors(&param.var, &param.buffers)?;
                    if let Some(average) = self.rule.average(&theta, &buffers)? {
                        param.set_aside = Some(param.var.as_tensor().copy()?);
                        param.var.set(&average.to_dtype(param.var.dtype())?)?;
                    }
                }
                Weights::Trained => {
                    if let Some(trained) = param.set_aside.as_ref().or(param.loaded.as_ref()) {
                        param.var.set(trained)?;
                        param.set_aside = None;
                    }
                }
                Weights::Averaged => {}
            }
        }
        Ok(())
    }

    /// Whether the parameters hold the weights that are trained.
    pub(crate) fn trains(&self) -> Result<()> {
        self.params.iter().try_for_each(ParamState::trains)
    }
}
