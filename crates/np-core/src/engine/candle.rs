//! candle's `Optimizer` trait, for optimizers whose kind is known at compile time.

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

/// `new` names the parameters by their number and leaves out variables that are not of a floating-point type, as candle's own optimizers do. Prefer
/// [`Driver::from_named`] where names, layer groups or saved state matter: the order of `VarMap::all_vars` changes from run to run, and state
/// saved under numbers would be loaded into other tensors.
///
/// `step` and `backward_step` do not report what a step did. [`Driver::step_report`] and [`Driver::backward_step_report`] do, and so does
/// [`Driver::last_report`] afterwards. `set_learning_rate` cannot return an error: a rate out of range leaves the old one, and the next step returns the
/// error. [`Driver::try_set_learning_rate`] returns it at once.
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

/// The methods of candle's trait, for a reference to an optimizer of unknown kind. A [`Driver`] has them from candle's trait alone, so that code
/// written for candle's optimizers means the same whatever is imported.
impl dyn AnyOptimizer + '_ {
    /// One step with the gradients in `grads`. [`AnyOptimizer::step_report`] also reports what the step did.
    ///
    /// # Errors
    /// Those of [`Driver::step_report`].
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        Ok(self.step_report(grads).map(drop)?)
    }

    /// Backpropagates from `loss` and steps. [`AnyOptimizer::backward_step_report`] also reports what the step did.
    ///
    /// # Errors
    /// Those of [`Driver::backward_step_report`].
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<()> {
        Ok(self.backward_step_report(loss).map(drop)?)
    }
}
