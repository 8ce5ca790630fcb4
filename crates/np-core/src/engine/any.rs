//! Optimizers of any kind behind one interface.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;

use candle_core::Tensor;
use candle_core::backprop::GradStore;

use crate::config::options::Options;
use crate::engine::driver::Driver;
use crate::engine::input::{Closure, LayerRecord, StepInput};
use crate::engine::optimizer_state::OptimizerState;
use crate::engine::report::StepReport;
use crate::engine::rule::Rule;
use crate::engine::weights::Weights;
use crate::error::{Error, Result};

/// An optimizer whose kind is known at run time only: what [`Driver`] can do, under the same names, where the documentation is.
///
/// A `Box<dyn AnyOptimizer>` is a [`candle_nn::Optimizer`] as well. No method here has a name of that trait's, so that importing both makes no call ambiguous.
pub trait AnyOptimizer: Send + Debug {
    /// Name of the optimizer's kind (`adamw`).
    fn kind(&self) -> &'static str;
    /// The rule with its hyper-parameters, to be downcast to its type (`AdamWConfig`); on a [`Driver`], [`Driver::config`].
    fn any_config(&self) -> &dyn Any;
    /// See [`Driver::names`].
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;
    /// η, before the schedule.
    fn lr(&self) -> f64;
    /// What a step needs: gradients, a closure for [`Driver::step_with`], or records for [`Driver::observe`] before it.
    fn step_input(&self) -> StepInput;
    /// See [`Driver::step_report`].
    ///
    /// # Errors
    /// Those of [`Driver::step_report`].
    fn step_report(&mut self, grads: &GradStore) -> Result<StepReport>;
    /// See [`Driver::backward_step_report`].
    ///
    /// # Errors
    /// Those of [`Driver::backward_step_report`].
    fn backward_step_report(&mut self, loss: &Tensor) -> Result<StepReport>;
    /// See [`Driver::step_with`].
    ///
    /// # Errors
    /// Those of [`Driver::step_with`].
    fn step_with(&mut self, closure: &mut Closure<'_>) -> Result<StepReport>;
    /// See [`Driver::flush`].
    ///
    /// # Errors
    /// Those of [`Driver::flush`].
    fn flush(&mut self) -> Result<StepReport>;
    /// See [`Driver::last_report`].
    fn last_report(&self) -> Option<StepReport>;
    /// See [`Driver::observe`].
    ///
    /// # Errors
    /// Those of [`Driver::observe`].
    fn observe(&mut self, records: &[LayerRecord]) -> Result<()>;
    /// See [`Driver::set_options`].
    ///
    /// # Errors
    /// Those of [`Driver::set_options`].
    fn set_options(&mut self, options: Options) -> Result<()>;
    /// See [`Driver::options`].
    fn options(&self) -> &Options;
    /// See [`Driver::try_set_learning_rate`].
    ///
    /// # Errors
    /// Those of [`Driver::try_set_learning_rate`].
    fn try_set_learning_rate(&mut self, lr: f64) -> Result<()>;
    /// See [`Driver::effective_lr`].
    fn effective_lr(&self) -> f64;
    /// See [`Driver::set_position`].
    fn set_position(&mut self, position: f64);
    /// See [`Driver::begin_epoch`].
    fn begin_epoch(&mut self, epoch: usize, epochs: usize);
    /// See [`Driver::use_weights`].
    ///
    /// # Errors
    /// Those of [`Driver::use_weights`].
    fn use_weights(&mut self, weights: Weights) -> Result<()>;
    /// See [`Driver::state`].
    ///
    /// # Errors
    /// Those of [`Driver::state`].
    fn state(&self) -> Result<OptimizerState>;
    /// See [`Driver::load_state`].
    ///
    /// # Errors
    /// Those of [`Driver::load_state`].
    fn load_state(&mut self, state: &OptimizerState) -> Result<()>;
    /// See [`Driver::steps`].
    fn steps(&self) -> u64;
    /// See [`Driver::absent_gradients`].
    fn absent_gradients(&self) -> u64;
    /// See [`Driver::skipped_steps`].
    fn skipped_steps(&self) -> u64;
    /// See [`Driver::diagnostics`].
    fn diagnostics(&self) -> BTreeMap<String, f64>;
    /// See [`Driver::collect_diagnostics`].
    fn collect_diagnostics(&mut self, collect: bool);
    /// Keeps an error for the next step to give: that of candle's `set_learning_rate`, which has none.
    #[doc(hidden)]
    fn refuse_next(&mut self, error: Error);
}

impl<R: Rule> AnyOptimizer for Driver<R> {
    fn kind(&self) -> &'static str {
        R::KIND
    }

    fn any_config(&self) -> &dyn Any {
        self.config()
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(Self::names(self))
    }

    fn lr(&self) -> f64 {
        self.config().learning_rate()
    }

    fn step_input(&self) -> StepInput {
        self.config().step_input()
    }

    fn step_report(&mut self, grads: &GradStore) -> Result<StepReport> {
        Self::step_report(self, grads)
    }

    fn backward_step_report(&mut self, loss: &Tensor) -> Result<StepReport> {
        Self::backward_step_report(self, loss)
    }

    fn step_with(&mut self, closure: &mut Closure<'_>) -> Result<StepReport> {
        Self::step_with(self, closure)
    }

    fn flush(&mut self) -> Result<StepReport> {
        Self::flush(self)
    }

    fn last_report(&self) -> Option<StepReport> {
        Self::last_report(self)
    }

    fn observe(&mut self, records: &[LayerRecord]) -> Result<()> {
        Self::observe(self, records)
    }

    fn set_options(&mut self, options: Options) -> Result<()> {
        Self::set_options(self, options)
    }

    fn options(&self) -> &Options {
        Self::options(self)
    }

    fn try_set_learning_rate(&mut self, lr: f64) -> Result<()> {
        Self::try_set_learning_rate(self, lr)
    }

    fn effective_lr(&self) -> f64 {
        Self::effective_lr(self)
    }

    fn set_position(&mut self, position: f64) {
        Self::set_position(self, position);
    }

    fn begin_epoch(&mut self, epoch: usize, epochs: usize) {
        Self::begin_epoch(self, epoch, epochs);
    }

    fn use_weights(&mut self, weights: Weights) -> Result<()> {
        Self::use_weights(self, weights)
    }

    fn state(&self) -> Result<OptimizerState> {
        Self::state(self)
    }

    fn load_state(&mut self, state: &OptimizerState) -> Result<()> {
        Self::load_state(self, state)
    }

    fn steps(&self) -> u64 {
        Self::steps(self)
    }

    fn absent_gradients(&self) -> u64 {
        Self::absent_gradients(self)
    }

    fn skipped_steps(&self) -> u64 {
        Self::skipped_steps(self)
    }

    fn diagnostics(&self) -> BTreeMap<String, f64> {
        Self::diagnostics(self)
    }

    fn collect_diagnostics(&mut self, collect: bool) {
        Self::collect_diagnostics(self, collect);
    }

    fn refuse_next(&mut self, error: Error) {
        self.refuse(Err(error));
    }
}
