//! candle's `Optimizer` trait, for optimizers whose kind is chosen at run time.

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};

use crate::engine::any::AnyOptimizer;
use crate::engine::candle::numbered;
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
