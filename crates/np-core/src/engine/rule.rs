//! What the driver asks of an optimizer, and what it tells it.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::config::hyper::HyperParameters;
use crate::engine::apply::{Apply, Seeing, apply_all};
use crate::engine::backend::Backend;
use crate::engine::buffer::Buffer;
use crate::engine::input::{Closure, LayerRecord, Search, Searched, StepInput};
use crate::engine::optimizer_state::{Piece, Pieces};
use crate::engine::param_state::{Kept, ParamState};
use crate::engine::param_step::ParamStep;
use crate::engine::traced::{Outcome, Traced};
use crate::error::Result;

/// The arithmetic of one optimizer: a struct of its hyper-parameters that can take a step.
///
/// The driver has done everything else by then: found the gradients, checked them, counted the step. An optimizer that treats every
/// element alike implements [`crate::Elementwise`] instead, in some forty lines, and gets this for nothing.
pub trait Rule: HyperParameters {
    /// What is kept from step to step beside the saved state: scratch memory, sums of diagnostics. Not saved.
    type Memory: Default + Send + 'static;

    /// [`HyperParameters::validate`], and whether the rule itself is sound.
    ///
    /// # Errors
    /// [`crate::Error::Config`] names the first setting that is out of range.
    fn check(&self) -> Result<()> {
        self.validate()
    }

    /// The tensors of state kept for a parameter of shape `shape`.
    fn buffers(&self, shape: &[usize]) -> Vec<Buffer>;

    /// Numbers of state kept for each parameter, by name, with what they are before the first step.
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// Whether the state holds squares of gradients. Those that overflow are then found with the numbers that are not finite, where
    /// [`crate::NonFinite`] has these looked for.
    fn keeps_squares(&self) -> bool {
        false
    }

    /// The same of a parameter of shape `shape`: [`Rule::keeps_squares`], where a rule does not treat parameters differently.
    fn keeps_squares_of(&self, _shape: &[usize]) -> bool {
        self.keeps_squares()
    }

    /// How many tensors of scratch memory a parameter needs in a step, beside its buffers. They are not saved.
    fn scratch(&self) -> usize {
        1
    }

    /// Updates the state of `work`'s parameters, which have a gradient and are in model order, and writes the direction u of each to its
    /// first scratch. Returns what to do with each: θ ← keep·θ − factor·u. The parameters themselves do not change.
    ///
    /// # Errors
    /// Those of candle's operations, and [`crate::Error::NoEpochs`] where a setting needs the number of epochs.
    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Self::Memory)
    -> Result<Vec<Apply>>;

    /// One step over `work`: [`Rule::directions`], then θ ← keep·θ − factor·u.
    ///
    /// # Errors
    /// Those of [`Rule::directions`].
    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Self::Memory) -> Result<()> {
        let applies = self.directions(cx, work, memory)?;
        apply_all(work, &applies, Seeing::Nothing).map(|_| ())
    }

    /// A parameter's first step as an [expression](crate::traced), for rules that treat every element alike; `None` for others.
    fn trace(&self, _outcome: Outcome) -> Option<Traced> {
        None
    }

    /// Whether steps on a CUDA device clip gradients by their norm themselves, there: the norm is then not known on the host, and not in the step's report.
    fn clips_on_device(&self) -> bool {
        false
    }

    /// The average that stands for the parameter in evaluation, from the parameter and its buffers; none for most optimizers.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn average(&self, _theta: &Tensor, _buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Name of the buffer that averages gradients: what a hybrid modulates whose target is the momentum. None if there is none.
    fn momentum(&self) -> Option<&'static str> {
        None
    }

    /// Numbers of state that belong to no parameter, by name.
    ///
    /// # Errors
    /// Those of copying from a device.
    fn shared(&self, _memory: &Self::Memory) -> Result<Vec<(&'static str, f64)>> {
        Ok(vec![])
    }

    /// Takes over what [`Rule::shared`] gave, in its order.
    fn load_shared(&self, _memory: &mut Self::Memory, _values: &[f64]) {}

    /// Vectors of state that run over several parameters, cut into one piece a parameter; `sizes` are the numbers of elements of all parameters.
    fn pieces(&self, _memory: &Self::Memory, _sizes: &[usize]) -> Vec<Piece> {
        vec![]
    }

    /// What is kept from step to step, with the vectors that [`Rule::pieces`] gave; none for rules that keep no such vectors.
    ///
    /// # Errors
    /// [`crate::Error::State`] names the piece that is missing or does not fit.
    fn load_pieces(&self, _pieces: &mut Pieces<'_>) -> Result<Option<Self::Memory>> {
        Ok(None)
    }

    /// Whether the step before found nothing left to do: a stopping criterion was met. Only optimizers that have some say so.
    fn converged(&self, _memory: &Self::Memory) -> bool {
        false
    }

    /// What a step needs: gradients, for most.
    fn step_input(&self) -> StepInput {
        StepInput::Gradients
    }

    /// A step that evaluates the loss as often as it wants to, for rules whose [`Rule::step_input`] is a closure; never called for others.
    ///
    /// # Errors
    /// Those of the closure, [`crate::Error::Config`] for options that a search cannot have, [`crate::Error::Gradient`] where there is no way down.
    fn search(
        &self,
        _from: &mut Search<'_>,
        _closure: &mut Closure<'_>,
        _memory: &mut Self::Memory,
    ) -> Result<Searched> {
        Err(candle_core::Error::Msg(format!("{} has no line search", Self::KIND)).into())
    }

    /// Whether a step on the CPU gives the same bits on every x86-64 CPU with AVX2 and FMA. Most do. Those that decompose matrices do not: the `faer` crate
    /// blocks decompositions by the caches it finds, and sums in as many lanes as the CPU has.
    fn portable(&self) -> bool {
        true
    }

    /// Takes records of what the layers saw of the batch whose gradients the next step will be given. Nothing, for most.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] for a record that fits no parameter.
    fn observe(&self, _params: &[ParamState], _records: &[LayerRecord], _memory: &mut Self::Memory) -> Result<()> {
        Ok(())
    }

    /// The gradients of this call were added to those of the calls before: so is what was observed with them.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn gradients_accumulated(_memory: &mut Self::Memory) -> Result<()> {
        Ok(())
    }

    /// The gradients of this call were refused or skipped, and with `all` those accumulated before it: what was observed with them is forgotten.
    fn gradients_refused(_memory: &mut Self::Memory, _all: bool) {}

    /// Forgets the diagnostics of the epoch before.
    fn reset_diagnostics(_memory: &mut Self::Memory) {}

    /// Diagnostics of the epoch so far, by name; empty for most optimizers.
    fn diagnostics(_memory: &Self::Memory) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// Where in the training a step is taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepContext {
    /// Epoch e, from 1.
    pub epoch: usize,
    /// Total number of epochs E, where it was said.
    pub epochs: Option<usize>,
    /// Number of parameter tensors of the model, with gradient or not: layer groups go by position among them.
    pub tensors: usize,
    /// Whether diagnostics are wanted.
    pub diagnostics: bool,
    /// How the step is computed.
    pub backend: Backend,
}

impl StepContext {
    /// p = e/E, the share of training done at the end of this epoch.
    ///
    /// # Errors
    /// [`crate::Error::NoEpochs`] for `key` where E is not known.
    pub fn progress(&self, key: &str) -> Result<f64> {
        match self.epochs {
            Some(epochs) if epochs > 0 => Ok(self.epoch as f64 / epochs as f64),
            _ => Err(crate::Error::NoEpochs { key: key.to_string() }),
        }
    }
}

/// What `rule` keeps of a parameter of shape `dims`.
pub(crate) fn kept<R: Rule>(rule: &R, dims: &[usize]) -> Kept {
    let numbers = rule.numbers().iter().map(|(_, initial)| *initial).collect();
    Kept { buffers: rule.buffers(dims), scratch: rule.scratch(), numbers }
}
