//! The driver: the one place that touches variables, gradients, names and saved state.

use std::collections::{BTreeMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::error::check;
use crate::gradients::{self, Verdict};
use crate::slot::{GradientMap, Slot};
use crate::{
    Backend, Closure, Error, LayerRecord, NonFinite, Options, Result, Rule, StepContext, StepOutcome, StepReport,
    Training, Work,
};

/// Which weights the parameters hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Weights {
    /// Those that steps change.
    #[default]
    Trained,
    /// Their average, for optimizers that keep one: what is evaluated and shipped.
    Averaged,
}

/// An optimizer: a [`Rule`] applied to named parameters in model order.
///
/// ```
/// use candle_core::{DType, Device, Var};
/// use np_core::{AdamW, AdamWConfig};
///
/// # fn main() -> np_core::Result<()> {
/// let weight = Var::zeros((2, 3), DType::F32, &Device::Cpu)?;
/// let bias = Var::zeros(2, DType::F32, &Device::Cpu)?;
/// let named = vec![("fc.weight".to_string(), weight), ("fc.bias".to_string(), bias)];
/// let optimizer = AdamW::from_named(named, AdamWConfig::default())?;
/// assert_eq!(optimizer.names().collect::<Vec<_>>(), ["fc.weight", "fc.bias"]);
/// # Ok(())
/// # }
/// ```
pub struct Driver<R: Rule> {
    pub(crate) rule: R,
    pub(crate) backend: Backend,
    pub(crate) slots: Vec<Slot>,
    pub(crate) memory: R::Memory,
    pub(crate) options: Options,
    pub(crate) step: u64,
    pub(crate) absent: u64,
    pub(crate) skipped: u64,
    /// Calls of `step` since the last update, where gradients are accumulated.
    pub(crate) calls: usize,
    /// Epochs done, as the schedule counts them; none until it has been said.
    pub(crate) position: Option<f64>,
    pub(crate) epoch: usize,
    pub(crate) epochs: Option<usize>,
    pub(crate) watch: bool,
}

impl<R: Rule> Driver<R> {
    /// An optimizer of `params`, given in the order in which the model defines them: layer groups go by position. Buffers that are not
    /// trained (running statistics) do not belong among them.
    ///
    /// # Errors
    /// [`Error::Config`] for a hyper-parameter out of range, [`Error::Parameter`] for a parameter that is not of a floating-point type, is
    /// not contiguous, or is given twice (by name or by variable).
    pub fn from_named(params: Vec<(String, Var)>, rule: R) -> Result<Self> {
        Self::with_backend(params, rule, Backend::Auto)
    }

    /// An optimizer of all variables of `variables`, by their names in alphabetical order.
    ///
    /// That order is the same in every run, so saved state fits; it is not the model's, so layer groups by position mean nothing: name them in
    /// [`Options`]. A `VarMap` holds a batch norm's running statistics too; with gradients for none of them they stay as they are.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`].
    pub fn from_varmap(variables: &candle_nn::VarMap, rule: R) -> Result<Self> {
        let held = variables.data().lock().map_err(|e| candle_core::Error::Msg(format!("variables: {e}")))?;
        let mut named: Vec<(String, Var)> = held.iter().map(|(name, var)| (name.clone(), var.clone())).collect();
        drop(held);
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        Self::from_named(named, rule)
    }

    /// Like [`Driver::from_named`], with the choice of how steps are computed.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`].
    pub fn with_backend(params: Vec<(String, Var)>, rule: R, backend: Backend) -> Result<Self> {
        rule.validate()?;
        let (mut names, mut ids) = (HashSet::new(), HashSet::new());
        let mut slots = Vec::with_capacity(params.len());
        for (index, (name, var)) in params.into_iter().enumerate() {
            if !names.insert(name.clone()) || !ids.insert(var.as_tensor().id()) {
                let expected = "each parameter once".to_string();
                return Err(Error::Parameter { name, expected, got: "a second one".to_string() });
            }
            let first = slots.first().map_or_else(|| var.device().clone(), |s: &Slot| s.var.device().clone());
            if !first.same_device(var.device()) {
                let (expected, got) =
                    (format!("the device of the others, {:?}", first.location()), var.device().location());
                return Err(Error::Parameter { name, expected, got: format!("{got:?}") });
            }
            slots.push(Slot::new(name, var, index, &rule, backend)?);
        }
        Ok(Self {
            rule,
            backend,
            slots,
            memory: R::Memory::default(),
            options: Options::default(),
            step: 0,
            absent: 0,
            skipped: 0,
            calls: 0,
            position: None,
            epoch: 1,
            epochs: None,
            watch: true,
        })
    }

    /// Takes `options` from here on: groups, clipping, accumulation, schedule.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range, a group that matches no parameter, or another number of calls to accumulate while some
    /// have been.
    pub fn with_options(mut self, options: Options) -> Result<Self> {
        options.validate()?;
        let (old, new) = (self.options.accumulate.0, options.accumulate.0);
        let expected = format!("{old} until the step under way is complete");
        check(self.calls == 0 || old == new, "options.accumulate", &expected, new)?;
        options.fits(&self.names().collect::<Vec<_>>())?;
        for slot in &mut self.slots {
            slot.settle(options.of(&slot.name, slot.var.dims().len()), &self.rule, self.backend)?;
        }
        self.options = options;
        Ok(self)
    }

    /// One step with the gradients that `grads` holds. A parameter without one is left untouched: no update, no decay, no change of state.
    ///
    /// # Errors
    /// [`Error::Gradient`] where a gradient's shape or type is not its parameter's, or, if [`NonFinite::Error`](crate::NonFinite) asks for it, where one
    /// is not finite; nothing has changed then, and what was accumulated is kept. [`Error::NoEpochs`] where a setting needs the number of
    /// epochs. Errors of candle.
    pub fn step(&mut self, grads: &GradStore) -> Result<StepReport> {
        self.ready()?;
        let mut found = gradients::find(&self.slots, grads)?;
        let calls = self.options.accumulate.0.get();
        if calls > 1 {
            if self.options.non_finite == NonFinite::Error {
                gradients::judge(&self.slots, &found, &self.options)?;
            }
            gradients::accumulate(&mut self.slots, &found, calls)?;
            self.calls += 1;
            if self.calls < calls {
                return Ok(StepReport { outcome: StepOutcome::Accumulated, ..StepReport::default() });
            }
            found = gradients::accumulated(&self.slots)?;
        }
        let report = match gradients::judge(&self.slots, &found, &self.options) {
            Ok(Verdict::Use { map, norm }) => self.update(found, map, norm),
            Ok(Verdict::Skip { norm }) => {
                self.skipped += 1;
                Ok(StepReport { outcome: StepOutcome::Skipped, gradient_norm: Some(norm), ..StepReport::default() })
            }
            Err(e) => Err(e),
        };
        if calls > 1 {
            self.calls = 0;
            gradients::settle(&mut self.slots)?;
        }
        report
    }

    /// One step with the loss and gradients that `closure` evaluates at the parameters as they are: once, but for optimizers with a line search
    /// ([`crate::Lbfgs`]), which move the parameters and ask again.
    ///
    /// # Errors
    /// Those of the closure, and of [`Driver::step`]. After an error of the closure nothing has changed.
    pub fn step_with(&mut self, closure: &mut Closure<'_>) -> Result<StepReport> {
        R::step_with(self, closure)
    }

    /// Takes records of what the layers saw of the batch whose gradients the next step will be given; [`crate::Kfac`] wants them.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a layer of which there is no weight, or whose record is of another size.
    pub fn observe(&mut self, records: &[LayerRecord]) -> Result<()> {
        R::observe(self, records)
    }

    /// Whether the parameters hold the weights that are trained.
    pub(crate) fn trains(&self) -> Result<()> {
        if let Some(slot) = self.slots.iter().find(|s| s.set_aside.is_some()) {
            let expected = "the weights that are trained".to_string();
            let got = "their average; hint: call `select(Weights::Trained)`".to_string();
            return Err(Error::Parameter { name: slot.name.clone(), expected, got });
        }
        Ok(())
    }

    /// Whether a step may be taken now: schedule and position known, the trained weights in place.
    pub(crate) fn ready(&self) -> Result<()> {
        self.trains()?;
        let key = || "options.schedule".to_string();
        if self.epochs.is_none() && self.options.schedule.needs_epochs() {
            return Err(Error::NoEpochs { key: key() });
        }
        if self.position.is_none() && self.options.schedule.warmup() > 0.0 {
            // The factor at the start of a warm-up is 0: a training that never says where it is would never move.
            return Err(Error::NoPosition { key: key() });
        }
        Ok(())
    }

    /// Counts a step of these slots that was not taken by way of [`Driver::step`].
    pub(crate) fn finished(&mut self, moved: &[usize], norm: Option<f64>) -> StepReport {
        self.step += 1;
        moved.iter().for_each(|&i| self.slots[i].steps += 1);
        let trained = self.slots.iter().filter(|s| s.settings.training == Training::Trained).count();
        let absent = trained - moved.len();
        self.absent += absent as u64;
        StepReport { updated: moved.len(), absent, gradient_norm: norm, ..StepReport::default() }
    }

    /// Backpropagates from `loss` and steps. candle's method of this name says nothing of what the step did.
    ///
    /// # Errors
    /// Those of backpropagation and of [`Driver::step`].
    pub fn backward_step(&mut self, loss: &Tensor) -> Result<StepReport> {
        self.step(&loss.backward()?)
    }

    fn update(&mut self, found: Vec<Option<Tensor>>, map: GradientMap, norm: Option<f64>) -> Result<StepReport> {
        let cx =
            StepContext { epoch: self.epoch, epochs: self.epochs, tensors: self.slots.len(), diagnostics: self.watch };
        let lr = self.effective_lr();
        let mut work: Vec<Work<'_>> = self
            .slots
            .iter_mut()
            .zip(found)
            .filter_map(|(slot, grad)| grad.map(|grad| Work { lr: lr * slot.settings.lr_scale, slot, grad, map }))
            .collect();
        for w in &mut work {
            w.slot.steps += 1;
        }
        let updated = work.len();
        if let Err(e) = self.rule.step(&cx, &mut work, &mut self.memory) {
            // Bias corrections go by a tensor's steps: one that was refused is none.
            work.iter_mut().for_each(|w| w.slot.steps -= 1);
            return Err(e);
        }
        let frozen = self.slots.iter().filter(|s| s.settings.training == Training::Frozen).count();
        let absent = self.slots.len() - updated - frozen;
        self.step += 1;
        self.absent += absent as u64;
        Ok(StepReport { outcome: StepOutcome::Updated, updated, absent, gradient_norm: norm })
    }

    /// Puts what is to be evaluated, or what is to be trained, into the parameters.
    ///
    /// Some optimizers (schedule-free, averaged SGD) evaluate an average of the weights that they train with. For all others this does
    /// nothing. The weights that are trained are kept aside meanwhile, and come back to the bit.
    ///
    /// # Errors
    /// Those of candle.
    pub fn select(&mut self, weights: Weights) -> Result<()> {
        for slot in &mut self.slots {
            match weights {
                // Candle gives an empty tensor back as it is, and refuses to set a variable to itself.
                Weights::Averaged if slot.set_aside.is_none() && slot.steps > 0 && slot.var.elem_count() > 0 => {
                    let dtype = crate::slot::compute_dtype(slot.var.dtype());
                    let theta = slot.var.as_detached_tensor().to_dtype(dtype)?;
                    let buffers = slot.state.tensors(&slot.var, &slot.buffers)?;
                    if let Some(average) = self.rule.average(&theta, &buffers)? {
                        slot.set_aside = Some(slot.var.as_tensor().copy()?);
                        slot.var.set(&average.to_dtype(slot.var.dtype())?)?;
                    }
                }
                Weights::Trained => {
                    if let Some(trained) = slot.set_aside.take() {
                        slot.var.set(&trained)?;
                    }
                }
                Weights::Averaged => {}
            }
        }
        Ok(())
    }

    /// η with the schedule's factor: what the next step takes, before groups and controller.
    pub fn effective_lr(&self) -> f64 {
        let epochs = self.epochs.map_or(f64::INFINITY, |n| n as f64);
        self.rule.learning_rate() * self.options.schedule.factor(self.position.unwrap_or(0.0), epochs)
    }

    /// Moves the schedule to `position`: epochs done, fractions allowed. [`Driver::begin_epoch`] moves it to the epoch's start; a schedule by
    /// steps calls this before each.
    pub fn at(&mut self, position: f64) {
        self.position = Some(position);
    }

    /// Says that epoch `epoch` (from 1) of `epochs` begins, and resets the diagnostics. Warm-up, phases and the schedules of
    /// formulations go by it; a training that never calls this stays in epoch 1.
    pub fn begin_epoch(&mut self, epoch: usize, epochs: usize) {
        (self.epoch, self.epochs) = (epoch, Some(epochs));
        self.position = Some(epoch.saturating_sub(1) as f64);
        R::reset_diagnostics(&mut self.memory);
    }

    /// The rule with its hyper-parameters.
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// Names of the parameters, in model order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|s| s.name.as_str())
    }

    /// Steps taken so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// How often, over all steps so far, a parameter had no gradient.
    pub fn absent_gradients(&self) -> u64 {
        self.absent
    }

    /// How many steps were skipped because a gradient was not finite.
    pub fn skipped_steps(&self) -> u64 {
        self.skipped
    }

    /// Diagnostics since [`Driver::begin_epoch`], by name; empty for optimizers that keep none.
    pub fn diagnostics(&self) -> BTreeMap<String, f64> {
        R::diagnostics(&self.memory)
    }

    /// Whether steps gather diagnostics (they do, at first). Without, those that cost time are absent or stale.
    pub fn watch(&mut self, watch: bool) {
        self.watch = watch;
    }
}

impl<R: Rule> std::fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({} parameters, step {})", R::KIND, self.slots.len(), self.step)
    }
}

/// Parameters are named by their number, and those of no floating-point type left out, as candle's own optimizers do. Prefer
/// [`Driver::from_named`] where names, layer groups or saved state matter: the order of `VarMap::all_vars` changes from run to run, and state saved
/// under numbers would be loaded into other tensors.
impl<R: Rule> candle_nn::Optimizer for Driver<R> {
    type Config = R;

    fn new(vars: Vec<Var>, config: R) -> candle_core::Result<Self> {
        let named = vars.into_iter().filter(|v| v.dtype().is_float()).enumerate();
        Ok(Self::from_named(named.map(|(i, v)| (i.to_string(), v)).collect(), config)?)
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        Self::step(self, grads).map(|_| ()).map_err(Into::into)
    }

    fn learning_rate(&self) -> f64 {
        self.rule.learning_rate()
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.rule.set_learning_rate(lr);
    }
}
