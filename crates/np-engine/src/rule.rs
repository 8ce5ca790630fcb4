//! The interface between the driver and the arithmetic of an optimizer.

use std::collections::BTreeMap;

use candle_core::Tensor;
use np_trace::{Outcome, Traced};

use crate::apply::{Apply, Seeing, apply_all};
use crate::backend::Backend;
use crate::buffer::Buffer;
use crate::config::hyper::HyperParameters;
use crate::error::{Error, Result};
use crate::input::{Closure, LayerRecord, Search, Searched, StepInput};
use crate::optimizer_state::{Piece, Pieces};
use crate::param_state::{Kept, ParamState};
use crate::param_step::ParamStep;

/// The arithmetic of one optimizer: a struct of its hyper-parameters that can take a step.
///
/// Before it calls a rule, the driver finds, checks and clips the gradients and counts the step. An optimizer that treats every element alike
/// implements [`crate::Elementwise`] instead, in about forty lines; this trait is then implemented for it.
pub trait Rule: HyperParameters {
    /// What is kept from step to step beside buffers and numbers, such as sums of diagnostics. Saved only as far as [`Rule::shared`] and
    /// [`Rule::pieces`] return it.
    type Memory: Default + Send + 'static;

    /// `Ok` if [`HyperParameters::validate`] is, and if the rule itself is consistent.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the first setting out of range.
    fn check(&self) -> Result<()> {
        self.validate()
    }

    /// The tensors of state kept for a parameter. `shape` is its shape, or one dimension where a group sets `matrix: off`; in a step
    /// [`ParamState::dims`] is the same. Their names and those of [`Rule::numbers`] must differ, and must not be `steps`,
    /// `accumulated`, `compensation` or `trained`.
    fn buffers(&self, shape: &[usize]) -> Vec<Buffer>;

    /// Numbers of state kept for each parameter beside the buffers: name, and value before the first step.
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// Whether the state holds squares of gradients. If so, and if [`crate::NonFinite`] is `Error` or `Skip`, gradients whose squares overflow are
    /// treated as gradients that are not finite.
    fn keeps_squares(&self) -> bool {
        false
    }

    /// Whether the state of a parameter of shape `shape` holds squares of its gradients. [`Rule::keeps_squares`] by default.
    fn keeps_squares_of(&self, _shape: &[usize]) -> bool {
        self.keeps_squares()
    }

    /// Number of scratch tensors of the parameter's shape that a step needs beside its buffers. They are kept from step to step and not saved. The
    /// first is for the direction, so that a rule that sets directions has at least one.
    fn scratch(&self) -> usize {
        1
    }

    /// Updates the state of the parameters in `work`, which have a gradient and are in model order, and sets the direction u of each
    /// ([`ParamStep::set_direction`]). Returns the scalars of each update, θ ← keep·θ − factor·u. The parameters themselves do not change.
    ///
    /// # Errors
    /// Those of candle's operations, and [`crate::Error::NoEpochs`] where a setting needs the number of epochs.
    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Self::Memory)
    -> Result<Vec<Apply>>;

    /// One step over `work`. By default it calls [`Rule::directions`] and then applies θ ← keep·θ − factor·u. Implement it to do both at once, as rules with
    /// a chain do: on CUDA devices the default has to wait for keep and factor.
    ///
    /// # Errors
    /// Those of [`Rule::directions`].
    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Self::Memory) -> Result<()> {
        let applies = self.directions(cx, work, memory)?;
        apply_all(work, &applies, Seeing::Nothing).map(|_| ())
    }

    /// A parameter's first step as an [expression](np_trace), for [`crate::Elementwise`] optimizers; `None` for others.
    fn trace(&self, _outcome: Outcome) -> Option<Traced> {
        None
    }

    /// Whether steps that are kernel launches on a CUDA device compute the gradient norm and clip by it on the device. The host, and so the step's report, does
    /// not know the norm then.
    fn clips_on_device(&self) -> bool {
        false
    }

    /// The averaged weights for evaluation, from the parameter `theta` and its buffers. `None` for optimizers without an average, as by default.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn average(&self, _theta: &Tensor, _buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Name of the buffer that averages gradients, which a hybrid with target `momentum` modulates. `None` if there is none, as by default.
    fn momentum(&self) -> Option<&'static str> {
        None
    }

    /// Numbers of state that all parameters share, by name, to be saved.
    ///
    /// # Errors
    /// Those of copying from a device.
    fn shared(&self, _memory: &Self::Memory) -> Result<Vec<(&'static str, f64)>> {
        Ok(vec![])
    }

    /// Loads the numbers that [`Rule::shared`] returned, in the same order.
    fn load_shared(&self, _memory: &mut Self::Memory, _values: &[f64]) {}

    /// Vectors of state over several parameters, to be saved: cut into one piece for each parameter. `sizes` are the numbers of elements of all
    /// parameters, in model order.
    fn pieces(&self, _memory: &Self::Memory, _sizes: &[usize]) -> Vec<Piece> {
        vec![]
    }

    /// A memory with the vectors that [`Rule::pieces`] returned; `None` for rules without such vectors, as by default.
    ///
    /// # Errors
    /// [`crate::Error::State`] for a piece that is missing or does not fit.
    fn load_pieces(&self, _pieces: &mut Pieces<'_>) -> Result<Option<Self::Memory>> {
        Ok(None)
    }

    /// Whether the last step met a stopping criterion. `false` for optimizers that have none, as by default.
    fn converged(&self, _memory: &Self::Memory) -> bool {
        false
    }

    /// What a step needs; gradients by default.
    fn step_input(&self) -> StepInput {
        StepInput::Gradients
    }

    /// A step that evaluates `closure` as often as it needs. Called only for rules whose [`Rule::step_input`] is [`StepInput::Closure`].
    ///
    /// # Errors
    /// Those of the closure; [`crate::Error::Config`] for options that a search cannot be used with; [`crate::Error::Gradient`] for a loss or
    /// gradients that are not finite.
    fn search(
        &self,
        _from: &mut Search<'_>,
        _closure: &mut Closure<'_>,
        _memory: &mut Self::Memory,
    ) -> Result<Searched> {
        Err(candle_core::Error::Msg(format!("{} has no line search", Self::KIND)).into())
    }

    /// Whether a step on the CPU gives the same bits on every x86-64 CPU with AVX2 and FMA, as it does by default. Rules that decompose matrices are not
    /// portable: the blocks and sums of the `faer` crate depend on the CPU's caches and instruction set.
    fn portable(&self) -> bool {
        true
    }

    /// Stores the layers' records of the batch whose gradients the next step will be given. Does nothing by default.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] for a record that fits no parameter.
    fn observe(&self, _params: &[ParamState], _records: &[LayerRecord], _memory: &mut Self::Memory) -> Result<()> {
        Ok(())
    }

    /// Called when the gradients of a call have been accumulated: the records observed with them are to be accumulated too.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn gradients_accumulated(_memory: &mut Self::Memory) -> Result<()> {
        Ok(())
    }

    /// Called when the gradients of a call, and with `all` those accumulated before it, were refused or skipped: the records observed with them are
    /// to be discarded.
    fn gradients_refused(_memory: &mut Self::Memory, _all: bool) {}

    /// Resets the diagnostics at the start of an epoch.
    fn reset_diagnostics(_memory: &mut Self::Memory) {}

    /// Diagnostics of the epoch so far, by name; empty for most optimizers.
    fn diagnostics(_memory: &Self::Memory) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }
}

/// The position of a step in the training, and how it is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepContext {
    /// Epoch e, from 1.
    pub epoch: usize,
    /// Total number of epochs E; `None` before [`Driver::begin_epoch`](crate::Driver::begin_epoch).
    pub epochs: Option<usize>,
    /// Number of the optimizer's parameters, whether they have a gradient or not. Layer groups go by position among them.
    pub tensors: usize,
    /// Whether diagnostics are to be collected.
    pub diagnostics: bool,
    /// How the step is computed.
    pub backend: Backend,
}

impl StepContext {
    /// p = e/E, the share of the training done at the end of this epoch. `key` is the setting that needs it, for the error.
    ///
    /// # Errors
    /// [`crate::Error::NoEpochs`] with `key` if E is not known.
    pub fn progress(&self, key: &str) -> Result<f64> {
        match self.epochs {
            Some(epochs) if epochs > 0 => Ok(self.epoch as f64 / epochs as f64),
            _ => Err(Error::NoEpochs { key: key.to_string() }),
        }
    }
}

/// What `rule` keeps of a parameter of shape `dims`.
pub(crate) fn kept<R: Rule>(rule: &R, dims: &[usize]) -> Kept {
    let numbers = rule.numbers().iter().map(|(_, initial)| *initial).collect();
    Kept { buffers: rule.buffers(dims), scratch: rule.scratch(), numbers }
}
