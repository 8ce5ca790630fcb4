//! candle's own trait, for optimizers whose kind is known when they are compiled.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

use crate::engine::any::AnyOptimizer;
use crate::engine::driver::Driver;
use crate::engine::rule::Rule;

/// The variables that candle's optimizers take, named by their number.
pub(crate) fn numbered(vars: Vec<Var>) -> Vec<(String, Var)> {
    let floats = vars.into_iter().filter(|v| v.dtype().is_float());
    floats.enumerate().map(|(i, v)| (i.to_string(), v)).collect()
}

/// Parameters are named by their number, and those of no floating-point type left out, as candle's own optimizers do. Prefer
/// [`Driver::from_named`] where names, layer groups or saved state matter: the order of `VarMap::all_vars` changes from run to run, and state saved
/// under numbers would be loaded into other tensors.
///
/// `step` and `backward_step` are candle's, and say nothing of what a step did: [`Driver::step_report`], [`Driver::backward_step_report`] and, after the
/// fact, [`Driver::last_report`] do. `set_learning_rate` cannot say that it was given no rate: the next step does, and the old rate stays
/// ([`Driver::try_set_learning_rate`] says so at once).
impl<R: Rule> candle_nn::Optimizer for Driver<R> {
    type Config = R;

    fn new(vars: Vec<Var>, config: R) -> Result<Self> {
        Ok(Self::from_named(numbered(vars), config)?)
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        Ok(self.step_report(grads).map(drop)?)
    }

    fn learning_rate(&self) -> f64 {
        self.config().learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        let set = self.try_set_learning_rate(lr);
        self.refuse(set);
    }
}

/// What candle's trait has, for those who have a reference. On a [`Driver`] itself only candle's trait has these names, so that code written for
/// candle's optimizers means the same whatever is imported.
impl dyn AnyOptimizer + '_ {
    /// One step with the gradients that `grads` holds. [`AnyOptimizer::step_report`] says what it did.
    ///
    /// # Errors
    /// Those of [`Driver::step_report`].
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        Ok(self.step_report(grads).map(drop)?)
    }

    /// Backpropagates from `loss` and steps. [`AnyOptimizer::backward_step_report`] says what the step did.
    ///
    /// # Errors
    /// Those of [`Driver::backward_step_report`].
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        Ok(self.backward_step_report(loss).map(drop)?)
    }
}
