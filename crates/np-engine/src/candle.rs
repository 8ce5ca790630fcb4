//! candle's `Optimizer` trait, for optimizers whose kind is known at compile time.

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};

use crate::driver::Driver;
use crate::rule::Rule;

/// The variables that candle's optimizers take, named by their number.
pub fn numbered(vars: Vec<Var>) -> Vec<(String, Var)> {
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
