//! The driver: the one place that touches variables, gradients, names and saved state.

use std::collections::{HashMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::backend::Backend;
use crate::config::options::{NonFinite, Options, Training};
use crate::error::{Error, Result, check};
use crate::gradient_map::GradientMap;
use crate::gradients::{Clips, GradientCheck};
use crate::input::{Closure, LayerRecord, Search, StepInput};
use crate::optimizer_state::names_differ;
use crate::param_state::ParamState;
use crate::param_step::ParamStep;
use crate::report::{StepOutcome, StepReport};
use crate::rule::{Rule, StepContext, kept};
use crate::{accumulate, cpu, gradients};

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
    pub(crate) params: Vec<ParamState>,
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
    pub(crate) collect_diagnostics: bool,
    /// What the last step did.
    pub(crate) report: Option<StepReport>,
    /// What was refused since, by methods that cannot say so.
    pub(crate) refused: Option<Error>,
}

impl<R: Rule> Driver<R> {
    /// An optimizer of `params`, in the order in which the model defines them: NeuroPlastic's layer groups go by position. Leave out tensors
    /// that are not trained, such as running statistics.
    ///
    /// # Errors
    /// [`Error::Config`] for a hyper-parameter out of range; [`Error::Parameter`] for a parameter that is not `f32`, `f64`, `f16` or `bf16`, is not
    /// contiguous, is given twice (by name or by variable), or is on another device than the first; errors of candle.
    pub fn from_named(params: Vec<(String, Var)>, rule: R) -> Result<Self> {
        Self::with_backend(params, rule, Backend::Auto)
    }

    /// An optimizer of all variables of `variables`, in alphabetical order of their names.
    ///
    /// This order is the same in every run, so that saved state fits. It is not the model's order: layer groups by position are meaningless; set them in
    /// [`Options::groups`]. A `VarMap` also holds the running statistics of batch norms; they have no gradients and stay as they are.
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

    /// [`Driver::from_named`], with a choice of how steps are computed.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`].
    pub fn with_backend(params: Vec<(String, Var)>, rule: R, backend: Backend) -> Result<Self> {
        rule.check()?;
        let fixed: Vec<_> = rule.numbers().iter().map(|(name, _)| *name).collect();
        let (mut names, mut ids) = (HashSet::new(), HashMap::new());
        let mut states: Vec<ParamState> = Vec::with_capacity(params.len());
        for (index, (name, var)) in params.into_iter().enumerate() {
            let (expected, same) = ("each parameter once".to_string(), ids.insert(var.as_tensor().id(), name.clone()));
            if let Some(first) = same {
                let got = format!("the variable of `{first}` again; hint: give tied weights under one name");
                return Err(Error::Parameter { name, expected, got });
            }
            if !names.insert(name.clone()) {
                return Err(Error::Parameter { name, expected, got: "another variable of this name".to_string() });
            }
            let first = states.first().map_or_else(|| var.device().clone(), |s| s.var.device().clone());
            if !first.same_device(var.device()) {
                let (expected, got) =
                    (format!("the device of the others, {:?}", first.location()), var.device().location());
                return Err(Error::Parameter { name, expected, got: format!("{got:?}") });
            }
            let state = ParamState::new(name, var, index, backend, |dims| kept(&rule, dims))?;
            names_differ(R::KIND, state.buffers.iter().map(crate::buffer::Buffer::name).chain(fixed.iter().copied()))?;
            states.push(state);
        }
        Ok(Self {
            rule,
            backend,
            params: states,
            memory: R::Memory::default(),
            options: Options::default(),
            step: 0,
            absent: 0,
            skipped: 0,
            calls: 0,
            position: None,
            epoch: 1,
            epochs: None,
            collect_diagnostics: true,
            report: None,
            refused: None,
        })
    }

    /// The same optimizer with `options`: groups, clipping, accumulation, schedule, rounding.
    ///
    /// # Errors
    /// Those of [`Driver::set_options`].
    pub fn with_options(mut self, options: Options) -> Result<Self> {
        self.set_options(options)?;
        Ok(self)
    }

    /// Sets `options` from the next step on. State and counts stay, but start anew for a parameter whose [`Matrix`](crate::Matrix) setting changes.
    ///
    /// # Errors
    /// [`Error::Config`] for a setting out of range, for a group that matches no parameter, or for another `accumulate` while an accumulation
    /// is under way. [`Error::Parameter`] if a parameter needs fresh state while averaged weights are selected. After an error nothing has changed.
    pub fn set_options(&mut self, options: Options) -> Result<()> {
        options.validate()?;
        let (old, new) = (self.options.accumulate.0, options.accumulate.0);
        let expected = format!("{old} until the step under way is complete");
        check(self.calls == 0 || old == new, "options.accumulate", &expected, new)?;
        options.fits(&self.names().collect::<Vec<_>>())?;
        let settled = |param: &ParamState| {
            let settings = options.of(&param.name, param.var.dims().len());
            param.settled(settings, self.backend, |dims| kept(&self.rule, dims))
        };
        let settled = self.params.iter().map(settled).collect::<Result<Vec<_>>>()?;
        self.params.iter_mut().zip(settled).for_each(|(param, settled)| param.settle(settled));
        self.options = options;
        Ok(())
    }

    /// One step with the gradients in `grads`; returns what it did. A parameter without a gradient is left untouched: no update, no decay, no
    /// change of state. candle's `step` ([`candle_nn::Optimizer`]) is this without the report, which [`Driver::last_report`] returns afterwards.
    ///
    /// # Errors
    /// [`Error::Gradient`] for a gradient whose shape or type is not its parameter's, or that [`NonFinite`] refuses; nothing has changed then, and gradients
    /// accumulated before are kept, unless their mean was refused. [`Error::Config`] for a rate, position or epoch out of range set since the last step;
    /// [`Error::Parameter`] while averaged weights are selected; [`Error::NoEpochs`] or [`Error::NoPosition`] where these are needed; errors of candle.
    pub fn step_report(&mut self, grads: &GradStore) -> Result<StepReport> {
        let report = self.step_on(grads);
        self.told(report)
    }

    /// Tells the rule what became of the batch whose gradients it was given.
    fn told(&mut self, report: Result<StepReport>) -> Result<StepReport> {
        match report.as_ref().map(|report| report.outcome) {
            Ok(StepOutcome::Accumulated) => R::gradients_accumulated(&mut self.memory)?,
            Ok(StepOutcome::Skipped) | Err(_) => R::gradients_refused(&mut self.memory, self.calls == 0),
            Ok(_) => {}
        }
        report
    }

    fn step_on(&mut self, grads: &GradStore) -> Result<StepReport> {
        self.ready()?;
        let mut found = gradients::find(&self.params, grads)?;
        let calls = self.options.accumulate.0.get();
        if calls > 1 {
            // Each call by itself: what was accumulated before a bad one stays.
            if self.options.non_finite != NonFinite::Propagate
                && let GradientCheck::Skip { norm } = self.judge(&found)?
            {
                return Ok(self.skip(Some(norm)));
            }
            accumulate::accumulate(&mut self.params, &found, calls)?;
            self.calls += 1;
            if self.calls < calls {
                return Ok(self.done(StepReport { outcome: StepOutcome::Accumulated, ..StepReport::default() }));
            }
            found = accumulate::accumulated(&self.params, 1.0)?;
        }
        self.step_found(found)
    }

    /// Updates with the mean of the gradients accumulated since the last update, even after fewer calls of `step` than [`Options::accumulate`]: for the
    /// end of an epoch whose number of batches is not a multiple of that. Does nothing if no gradients have been accumulated.
    ///
    /// # Errors
    /// Those of [`Driver::step_report`].
    pub fn flush(&mut self) -> Result<StepReport> {
        if self.calls == 0 {
            return Ok(StepReport { outcome: StepOutcome::Unchanged, ..StepReport::default() });
        }
        self.ready()?;
        let share = self.calls as f64 / self.options.accumulate.0.get() as f64;
        let found = accumulate::accumulated(&self.params, share)?;
        let report = self.step_found(found);
        self.told(report)
    }

    /// One step with gradients that are complete.
    fn step_found(&mut self, found: Vec<Option<Tensor>>) -> Result<StepReport> {
        let report = match self.judge(&found) {
            Ok(GradientCheck::Use { map, norm }) => self.update(found, map, norm),
            Ok(GradientCheck::Skip { norm }) => Ok(self.skip(Some(norm))),
            Err(e) => Err(e),
        };
        if self.calls > 0 {
            self.calls = 0;
            accumulate::settle(&mut self.params)?;
        }
        report.map(|report| self.done(report))
    }

    fn judge(&self, found: &[Option<Tensor>]) -> Result<GradientCheck> {
        let clips = Clips::of(self.rule.clips_on_device(), &self.params, self.backend);
        let squares = |shape: &[usize]| self.rule.keeps_squares_of(shape);
        gradients::check_gradients(&self.params, found, &self.options, squares, clips)
    }

    /// Counts gradients that are not used.
    fn skip(&mut self, gradient_norm: Option<f64>) -> StepReport {
        self.skipped += 1;
        self.done(StepReport { outcome: StepOutcome::Skipped, gradient_norm, ..StepReport::default() })
    }

    /// Keeps the report of a step.
    fn done(&mut self, report: StepReport) -> StepReport {
        self.report = Some(report);
        report
    }

    /// One step with `closure`, which returns the loss and its gradients at the current parameters. It is called once, or several times by
    /// optimizers with a line search (`Lbfgs` of np-core), which move the parameters between the calls.
    ///
    /// # Errors
    /// Those of the closure, after which nothing has changed, and of [`Driver::step_report`]; [`Error::Config`] for a line search with clipping or accumulation.
    pub fn step_with(&mut self, closure: &mut Closure<'_>) -> Result<StepReport> {
        if self.rule.step_input() != StepInput::Closure {
            let (_, grads) = closure()?;
            return self.step_report(&grads);
        }
        self.ready()?;
        let lr = self.effective_lr();
        let mut from = Search { params: &mut self.params, options: &self.options, lr };
        let found = self.rule.search(&mut from, closure, &mut self.memory)?;
        let gradient_norm = Some(found.gradient_norm);
        if found.outcome == StepOutcome::Skipped {
            return Ok(self.skip(gradient_norm));
        }
        let mut report = self.finished(&found.moved, gradient_norm);
        (report.outcome, report.converged) = (found.outcome, found.converged);
        if report.outcome != StepOutcome::Updated {
            report.updated = 0;
        }
        Ok(self.done(report))
    }

    /// Stores the layers' records of a batch, before the step with the gradients of that batch. `Kfac` of np-core needs them; others ignore them.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a record whose layer has no weight among the parameters, or a weight of another size.
    pub fn observe(&mut self, records: &[LayerRecord]) -> Result<()> {
        self.rule.observe(&self.params, records, &mut self.memory)
    }

    /// Whether a step may be taken now: nothing refused since the last one, schedule and position known, the trained weights in place.
    fn ready(&mut self) -> Result<()> {
        self.refusal()?;
        self.trains()?;
        self.params.iter_mut().for_each(|param| param.loaded = None);
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

    /// Counts a step of these params that was not taken by way of [`Driver::step_report`].
    fn finished(&mut self, moved: &[usize], norm: Option<f64>) -> StepReport {
        self.step += 1;
        moved.iter().for_each(|&i| self.params[i].steps += 1);
        let trained = self.params.iter().filter(|s| s.settings.training == Training::Trained).count();
        let absent = trained - moved.len();
        self.absent += absent as u64;
        StepReport { updated: moved.len(), absent, gradient_norm: norm, ..StepReport::default() }
    }

    /// Backpropagates from `loss` and steps; returns what the step did. candle's `backward_step` is this without the report.
    ///
    /// # Errors
    /// Those of backpropagation and of [`Driver::step_report`].
    pub fn backward_step_report(&mut self, loss: &Tensor) -> Result<StepReport> {
        self.step_report(&loss.backward()?)
    }

    fn update(&mut self, found: Vec<Option<Tensor>>, map: GradientMap, norm: Option<f64>) -> Result<StepReport> {
        let cx = StepContext {
            epoch: self.epoch,
            epochs: self.epochs,
            tensors: self.params.len(),
            diagnostics: self.collect_diagnostics,
            backend: self.backend,
        };
        let lr = self.effective_lr();
        let mut work: Vec<ParamStep<'_>> = self
            .params
            .iter_mut()
            .zip(found)
            .filter_map(|(param, grad)| {
                grad.map(|grad| ParamStep { lr: lr * param.settings.lr_scale, param, grad, map })
            })
            .collect();
        for w in &mut work {
            w.param.steps += 1;
        }
        let updated = work.len();
        let (rule, memory, elements) = (&self.rule, &mut self.memory, cpu::elements(work.iter().map(|w| &w.grad)));
        if let Err(e) = cpu::on_threads_if_worth(elements, || rule.step(&cx, &mut work, memory)) {
            // Bias corrections go by a tensor's steps: one that was refused is none.
            work.iter_mut().for_each(|w| w.param.steps -= 1);
            if matches!(e, Error::Gradient { .. }) && self.options.non_finite == NonFinite::Skip {
                return Ok(self.skip(norm));
            }
            return Err(e);
        }
        let frozen = self.params.iter().filter(|s| s.settings.training == Training::Frozen).count();
        let absent = self.params.len() - updated - frozen;
        self.step += 1;
        self.absent += absent as u64;
        let outcome = if updated > 0 { StepOutcome::Updated } else { StepOutcome::Unchanged };
        let converged = updated > 0 && self.rule.converged(&self.memory);
        Ok(StepReport { outcome, updated, absent, gradient_norm: norm, converged })
    }
}
