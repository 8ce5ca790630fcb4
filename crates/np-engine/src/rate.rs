//! The learning rate, and where in the training an optimizer stands: what a schedule makes of both.
//!
//! Some of these methods have no way to say that they were given no number that they can use: candle's, and those that are called before every step. They
//! leave everything as it was, and the next step says so.

use std::collections::BTreeMap;

use crate::driver::Driver;
use crate::error::{Result, check};
use crate::rule::Rule;

impl<R: Rule> Driver<R> {
    /// Sets η from the next step on.
    ///
    /// # Errors
    /// [`crate::Error::Config`] if it is out of range; η is unchanged then.
    pub fn try_set_learning_rate(&mut self, lr: f64) -> Result<()> {
        let mut rule = self.rule.clone();
        rule.set_learning_rate(lr);
        rule.validate()?;
        self.rule = rule;
        Ok(())
    }

    /// η times the schedule's factor: the η of the next step, before the factors of groups and controller.
    pub fn effective_lr(&self) -> f64 {
        let epochs = self.epochs.map_or(f64::INFINITY, |n| n as f64);
        self.rule.learning_rate() * self.options.schedule.factor(self.position.unwrap_or(0.0), epochs)
    }

    /// Sets the schedule's position: the number of epochs done, fractions allowed. [`Driver::begin_epoch`] sets it to the start of the epoch. For
    /// a schedule that changes with every step, call this before each step.
    ///
    /// A position that is negative or not finite changes nothing, and the next step returns the error.
    pub fn set_position(&mut self, position: f64) {
        let known = placed("position", position);
        if known.is_ok() {
            self.position = Some(position);
        }
        self.refuse(known);
    }

    /// Declares that epoch `epoch` (from 1) of `epochs` begins: sets the position to its start and resets the diagnostics. NeuroPlastic's
    /// warm-up, phases and residual schedules depend on the epoch; a training that never calls this stays in epoch 1. Call [`Driver::flush`] first if
    /// gradients are accumulated.
    ///
    /// Unless 1 ≤ `epoch` ≤ `epochs`, nothing changes, and the next step returns the error.
    pub fn begin_epoch(&mut self, epoch: usize, epochs: usize) {
        let known = check(epoch > 0, "epoch", "a number ≥ 1", epoch);
        let known = known.and_then(|()| check(epochs > 0, "epochs", "a number ≥ 1", epochs));
        let last = || format!("at most the number of epochs, {epochs}");
        let known = known.and_then(|()| check(epoch <= epochs, "epoch", &last(), epoch));
        if known.is_ok() {
            (self.epoch, self.epochs) = (epoch, Some(epochs));
            self.position = Some((epoch - 1) as f64);
            R::reset_diagnostics(&mut self.memory);
        }
        self.refuse(known);
    }

    /// Diagnostics since the last [`Driver::begin_epoch`], by name. Of the optimizers of np-core only NeuroPlastic has any.
    pub fn diagnostics(&self) -> BTreeMap<String, f64> {
        R::diagnostics(&self.memory)
    }

    /// Keeps an error for the next step to give, if this is one and there is none yet.
    #[doc(hidden)]
    pub fn refuse(&mut self, result: Result<()>) {
        if let Err(e) = result {
            self.refused.get_or_insert(e);
        }
    }

    /// What has been refused since the last step.
    pub(crate) fn refusal(&mut self) -> Result<()> {
        self.refused.take().map_or(Ok(()), Err)
    }
}

/// `Ok` if `x` can be where a training stands.
pub(crate) fn placed(key: &str, x: f64) -> Result<()> {
    check(x.is_finite() && x >= 0.0, key, "a number of epochs ≥ 0", x)
}
