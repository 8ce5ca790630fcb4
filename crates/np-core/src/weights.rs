//! Which weights the parameters hold: those that are trained, or their average.

use crate::slot::Slot;
use crate::{Driver, Result, Rule};

/// Which weights the parameters hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// Those that steps change.
    #[default]
    Trained,
    /// Their average, for optimizers that keep one: what is evaluated and shipped.
    Averaged,
}

impl<R: Rule> Driver<R> {
    /// Puts what is to be evaluated, or what is to be trained, into the parameters.
    ///
    /// Some optimizers (schedule-free, averaged SGD) evaluate an average of the weights that they train with. For all others this does
    /// nothing. The weights that are trained are kept aside meanwhile, and come back to the bit; [`Driver::state`] has them as well.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] where other weights have taken the place of the trained ones that [`Driver::load_state`] put there; errors of candle.
    pub fn select(&mut self, weights: Weights) -> Result<()> {
        for slot in &mut self.slots {
            match weights {
                // Candle gives an empty tensor back as it is, and refuses to set a variable to itself.
                Weights::Averaged if slot.set_aside.is_none() && slot.steps > 0 && slot.var.elem_count() > 0 => {
                    slot.trains()?;
                    let theta = slot.theta()?;
                    let buffers = slot.state.tensors(&slot.var, &slot.buffers)?;
                    if let Some(average) = self.rule.average(&theta, &buffers)? {
                        slot.set_aside = Some(slot.var.as_tensor().copy()?);
                        slot.var.set(&average.to_dtype(slot.var.dtype())?)?;
                    }
                }
                Weights::Trained => {
                    if let Some(trained) = slot.set_aside.as_ref().or(slot.loaded.as_ref()) {
                        slot.var.set(trained)?;
                        slot.set_aside = None;
                    }
                }
                Weights::Averaged => {}
            }
        }
        Ok(())
    }

    /// Whether the parameters hold the weights that are trained.
    pub(crate) fn trains(&self) -> Result<()> {
        self.slots.iter().try_for_each(Slot::trains)
    }
}
