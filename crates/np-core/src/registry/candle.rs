//! candle's `Optimizer` trait, for optimizers whose kind is chosen at run time.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};
use np_engine::candle::numbered;

use crate::any::AnyOptimizer;
use crate::registry::OptimizerConfig;

/// As for [`Driver`](crate::Driver).
impl candle_nn::Optimizer for Box<dyn AnyOptimizer> {
    type Config = OptimizerConfig;

    fn new(vars: Vec<Var>, config: OptimizerConfig) -> Result<Self> {
        Ok(config.build(numbered(vars))?)
    }

    fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.as_mut().step(grads)
    }

    fn learning_rate(&self) -> f64 {
        self.lr()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        if let Err(error) = self.try_set_learning_rate(lr) {
            self.refuse_next(error);
        }
    }
}

/// The methods of candle's trait, for a reference to an optimizer of unknown kind. A [`Driver`](crate::Driver) has them from candle's trait alone, so that code
/// written for candle's optimizers means the same whatever is imported.
impl dyn AnyOptimizer + '_ {
    /// One step with the gradients in `grads`. [`AnyOptimizer::step_report`] also reports what the step did.
    ///
    /// # Errors
    /// Those of [`Driver::step_report`](crate::Driver::step_report).
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        Ok(self.step_report(grads).map(drop)?)
    }

    /// Backpropagates from `loss` and steps. [`AnyOptimizer::backward_step_report`] also reports what the step did.
    ///
    /// # Errors
    /// Those of [`Driver::backward_step_report`](crate::Driver::backward_step_report).
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        Ok(self.backward_step_report(loss).map(drop)?)
    }
}
