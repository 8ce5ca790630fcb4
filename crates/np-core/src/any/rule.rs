//! Rules whose kind is chosen at run time.

use std::any::Any;

use candle_core::{Tensor, Var};
use np_engine::apply::Apply;
use np_engine::backend::Backend;
use np_engine::buffer::Buffer;
use np_engine::config::hyper::HyperParameters;
use np_engine::config::options::Options;
use np_engine::driver::Driver;
use np_engine::error::Result;
use np_engine::input::StepInput;
use np_engine::param_step::ParamStep;
use np_engine::rule::{Rule, StepContext};
use np_trace::{Outcome, Traced};

use crate::any::AnyOptimizer;

/// What a [`Rule`] does, behind one interface.
pub(crate) trait AnyRule {
    fn validate(&self) -> Result<()>;
    fn learning_rate(&self) -> f64;
    fn buffers(&self, shape: &[usize]) -> Vec<Buffer>;
    fn numbers(&self) -> &'static [(&'static str, f64)];
    fn scratch(&self) -> usize;
    fn momentum(&self) -> Option<&'static str>;
    fn portable(&self) -> bool;
    fn step_input(&self) -> StepInput;
    fn trace(&self, outcome: Outcome) -> Option<Traced>;
    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut AnyMemory) -> Result<Vec<Apply>>;
    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>>;
    fn shared(&self, memory: &AnyMemory) -> Result<Vec<(&'static str, f64)>>;
    fn load_shared(&self, memory: &mut AnyMemory, values: &[f64]);
    fn build(&self, params: Vec<(String, Var)>, options: Options, backend: Backend) -> Result<Box<dyn AnyOptimizer>>;
}

impl<R: Rule> AnyRule for R {
    fn validate(&self) -> Result<()> {
        self.check()
    }
    fn learning_rate(&self) -> f64 {
        HyperParameters::learning_rate(self)
    }
    fn buffers(&self, shape: &[usize]) -> Vec<Buffer> {
        Rule::buffers(self, shape)
    }
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        Rule::numbers(self)
    }
    fn scratch(&self) -> usize {
        Rule::scratch(self)
    }
    fn momentum(&self) -> Option<&'static str> {
        Rule::momentum(self)
    }
    fn portable(&self) -> bool {
        Rule::portable(self)
    }
    fn step_input(&self) -> StepInput {
        Rule::step_input(self)
    }
    fn trace(&self, outcome: Outcome) -> Option<Traced> {
        Rule::trace(self, outcome)
    }
    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut AnyMemory) -> Result<Vec<Apply>> {
        Rule::directions(self, cx, work, memory.of::<R>())
    }
    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Rule::average(self, theta, buffers)
    }
    fn shared(&self, memory: &AnyMemory) -> Result<Vec<(&'static str, f64)>> {
        match memory.0.as_ref().and_then(|held| held.downcast_ref()) {
            Some(memory) => Rule::shared(self, memory),
            None => Rule::shared(self, &R::Memory::default()),
        }
    }
    fn load_shared(&self, memory: &mut AnyMemory, values: &[f64]) {
        Rule::load_shared(self, memory.of::<R>(), values);
    }
    fn build(&self, params: Vec<(String, Var)>, options: Options, backend: Backend) -> Result<Box<dyn AnyOptimizer>> {
        Ok(Box::new(Driver::with_backend(params, self.clone(), backend)?.with_options(options)?))
    }
}

/// The memory of a rule whose kind is known at run time only.
#[derive(Default)]
pub(crate) struct AnyMemory(Option<Box<dyn Any + Send>>);

impl AnyMemory {
    /// That of `R`, fresh if there was none.
    fn of<R: Rule>(&mut self) -> &mut R::Memory {
        let held = self.0.get_or_insert_with(|| Box::<R::Memory>::default());
        if !held.is::<R::Memory>() {
            *held = Box::<R::Memory>::default();
        }
        match held.downcast_mut() {
            Some(memory) => memory,
            None => unreachable!("it has just been made one"),
        }
    }
}

impl std::fmt::Debug for AnyMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnyMemory")
    }
}
