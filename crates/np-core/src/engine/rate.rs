//! The learning rate, and where in the training an optimizer stands: what a schedule makes of both.
//!
//! Some of these methods have no way to say that they were given no number that they can use: candle's, and those that are called before every step. They
//! leave everything as it was, and the next step says so.

use std::collections::BTreeMap;

use crate::engine::driver::Driver;
use crate::engine::rule::Rule;
use crate::error::{Result, check};

impl<R: Rule> Driver<R> {
    /// Sets η, from the next step on.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for one that the optimizer would not have been built with; the old one stays then.
    pub fn try_set_learning_rate(&mut self, lr: f64) -> Result<()> {
        let mut rule = self.rule.clone();
        rule.set_learning_rate(lr);
        rule.validate()?;
        self.rule = rule;
        Ok(())
    }

    /// η with the schedule's factor: what the next step takes, before groups and controller.
    pub fn effective_lr(&self) -> f64 {
        let epochs = self.epochs.map_or(f64::INFINITY, |n| n as f64);
        self.rule.learning_rate() * self.options.schedule.factor(self.position.unwrap_or(0.0), epochs)
    }

    /// Moves the schedule to `position`: epochs done, fractions allowed. [`Driver::begin_epoch`] moves it to the epoch's start; a schedule by
    /// steps calls this before each.
    ///
    /// One that is negative or no finite number changes nothing, and is an error of the next step.
    pub fn set_position(&mut self, position: f64) {
        let known = placed("position", position);
        if known.is_ok() {
            self.position = Some(position);
        }
        self.refuse(known);
    }

    /// Says that epoch `epoch` (from 1) of `epochs` begins, and resets the diagnostics. Warm-up, phases and the schedules of
    /// formulations go by it; a training that never calls this stays in epoch 1. Where gradients are accumulated, call [`Driver::flush`] first.
    ///
    /// An epoch 0, one beyond the last, or one of 0, changes nothing, and is an error of the next step.
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

    /// Diagnostics since [`Driver::begin_epoch`], by name; empty for optimizers that keep none.
    pub fn diagnostics(&self) -> BTreeMap<String, f64> {
        R::diagnostics(&self.memory)
    }

    /// Keeps an error for the next step to give, if this is one and there is none yet.
    pub(crate) fn refuse(&mut self, result: Result<()>) {
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
