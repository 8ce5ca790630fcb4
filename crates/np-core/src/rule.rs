//! What the driver asks of an optimizer, and what it tells it.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::apply::{Apply, Seeing, apply_all};
use crate::state::{Piece, Pieces};
use crate::traced::{Outcome, Traced};
use crate::{Backend, Buffer, Closure, Driver, LayerRecord, Result, Work};

/// The arithmetic of one optimizer: a struct of its hyper-parameters that can take a step.
///
/// The driver has done everything else by then: found the gradients, checked them, counted the step. An optimizer that treats every
/// element alike implements [`crate::Elementwise`] instead, in some forty lines, and gets this for nothing.
pub trait Rule: Clone + Send + Sync + 'static {
    /// Name in configurations and saved state (`adamw`).
    const KIND: &'static str;

    /// What is kept from step to step beside the saved state: scratch memory, sums of diagnostics. Not saved.
    type Memory: Default + Send + 'static;

    /// Whether every hyper-parameter lies in its range.
    ///
    /// # Errors
    /// [`crate::Error::Config`] names the first that does not.
    fn validate(&self) -> Result<()>;

    /// η, the step size before schedules and controllers.
    fn learning_rate(&self) -> f64;

    /// Sets η.
    fn set_learning_rate(&mut self, lr: f64);

    /// The tensors of state kept for a parameter of shape `shape`.
    fn buffers(&self, shape: &[usize]) -> Vec<Buffer>;

    /// Numbers of state kept for each parameter, by name, with what they are before the first step.
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// Whether the state holds squares of gradients. Those that overflow are then found with the numbers that are not finite, where
    /// [`crate::NonFinite`] has these looked for.
    fn squares(&self) -> bool {
        false
    }

    /// The same of a parameter of shape `shape`: [`Rule::squares`], where a rule does not treat parameters differently.
    fn squares_of(&self, _shape: &[usize]) -> bool {
        self.squares()
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
    fn directions(&self, cx: &StepContext, work: &mut [Work<'_>], memory: &mut Self::Memory) -> Result<Vec<Apply>>;

    /// One step over `work`: [`Rule::directions`], then θ ← keep·θ − factor·u.
    ///
    /// # Errors
    /// Those of [`Rule::directions`].
    fn step(&self, cx: &StepContext, work: &mut [Work<'_>], memory: &mut Self::Memory) -> Result<()> {
        let applies = self.directions(cx, work, memory)?;
        apply_all(work, &applies, Seeing::Nothing).map(|_| ())
    }

    /// A parameter's first step as an [expression](crate::traced), for rules that treat every element alike; `None` for others.
    fn trace(&self, _outcome: Outcome) -> Option<Traced> {
        None
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
    fn shared(&self, _memory: &Self::Memory) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Takes over what [`Rule::shared`] gave, in its order.
    fn set_shared(&self, _memory: &mut Self::Memory, _values: &[f64]) {}

    /// Vectors of state that run over several parameters, cut into one piece a parameter; `sizes` are the numbers of elements of all parameters.
    fn pieces(&self, _memory: &Self::Memory, _sizes: &[usize]) -> Vec<Piece> {
        vec![]
    }

    /// What is kept from step to step, with the vectors that [`Rule::pieces`] gave; none for rules that keep no such vectors.
    ///
    /// # Errors
    /// [`crate::Error::State`] names the piece that is missing or does not fit.
    fn recall(&self, _pieces: &mut Pieces<'_>) -> Result<Option<Self::Memory>> {
        Ok(None)
    }

    /// Whether the step before found nothing left to do: a stopping criterion was met. Only optimizers that have some say so.
    fn converged(&self, _memory: &Self::Memory) -> bool {
        false
    }

    /// Whether a step wants to evaluate the loss more than once.
    fn searches(&self) -> bool {
        false
    }

    /// A step that evaluates the loss as often as it wants to: once, for most.
    ///
    /// # Errors
    /// Those of the closure and of [`Driver::step_report`].
    fn step_with(driver: &mut Driver<Self>, closure: &mut Closure<'_>) -> Result<StepReport> {
        let (_, grads) = closure()?;
        driver.step_report(&grads)
    }

    /// Whether a step on the CPU gives the same bits on every x86-64 CPU with AVX2 and FMA. Most do. Those that decompose matrices do not: the `faer` crate
    /// blocks decompositions by the caches it finds, and sums in as many lanes as the CPU has.
    fn portable(&self) -> bool {
        true
    }

    /// Whether steps want records of what the layers saw.
    fn observes(&self) -> bool {
        false
    }

    /// Takes records of what the layers saw of the batch whose gradients the next step will be given. Nothing, for most.
    ///
    /// # Errors
    /// [`crate::Error::Parameter`] for a record that fits no parameter.
    fn observe(_driver: &mut Driver<Self>, _records: &[LayerRecord]) -> Result<()> {
        Ok(())
    }

    /// The gradients of this call were added to those of the calls before: so is what was observed with them.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn accumulated(_memory: &mut Self::Memory) -> Result<()> {
        Ok(())
    }

    /// The gradients of this call were refused or skipped, and with `all` those accumulated before it: what was observed with them is forgotten.
    fn refused(_memory: &mut Self::Memory, _all: bool) {}

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

/// What a step did: what [`Driver::step_report`] and [`Driver::last_report`] give.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// What became of the gradients.
    pub outcome: StepOutcome,
    /// Parameters that were updated.
    pub updated: usize,
    /// Parameters that had no gradient and were left as they are, state and decay included. Not an error: a branch of a model may be
    /// unused. All of them, step after step, means a loss that does not depend on the parameters.
    pub absent: usize,
    /// ‖g‖ over all parameters together, before clipping; there if [`crate::Options`] clip by norm or look for non-finite numbers.
    pub gradient_norm: Option<f64>,
    /// Whether a stopping criterion was met, for optimizers that have some ([`crate::Lbfgs`]); `false` for all others.
    pub converged: bool,
}

/// What became of the gradients of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepOutcome {
    /// The parameters were updated.
    #[default]
    Updated,
    /// The gradients were added to those of the calls before; a later call updates.
    Accumulated,
    /// A gradient was not finite, and the policy is to skip: nothing changed.
    Skipped,
    /// There was nothing to update with: no parameter that is trained had a gradient, nothing had been accumulated, or the optimizer had converged
    /// before. No parameter changed.
    Unchanged,
    /// A line search found no better point: the parameters are where they were, although the optimizer has not converged.
    Stalled,
}

/// Weight decay: how strong, and where it enters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// wd·θ is added to the gradient (L2 regularisation).
    Coupled(f64),
    /// θ ← θ − η·wd·θ, apart from the gradient (AdamW).
    Decoupled(f64),
    /// θ ← (θ − η·u)/(1 + η·wd): decay after the step, implicit (Adan).
    Proximal(f64),
    /// The rule applies it itself.
    Inside(f64),
}

impl Decay {
    /// wd.
    #[must_use]
    pub fn strength(self) -> f64 {
        match self {
            Self::Coupled(wd) | Self::Decoupled(wd) | Self::Proximal(wd) | Self::Inside(wd) => wd,
        }
    }

    /// The same with another wd.
    #[must_use]
    pub fn of_strength(self, wd: f64) -> Self {
        match self {
            Self::Coupled(_) => Self::Coupled(wd),
            Self::Decoupled(_) => Self::Decoupled(wd),
            Self::Proximal(_) => Self::Proximal(wd),
            Self::Inside(_) => Self::Inside(wd),
        }
    }
}
