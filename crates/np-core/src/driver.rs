//! The driver: the one place that touches variables, gradients, names and saved state.

use std::collections::{BTreeMap, HashSet};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};

use crate::slot::{Slot, State};
use crate::{Backend, Error, Result, Rule, StepContext, StepReport, Work};

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
    rule: R,
    backend: Backend,
    slots: Vec<Slot>,
    memory: R::Memory,
    step: u64,
    absent: u64,
    epoch: usize,
    epochs: Option<usize>,
    watch: bool,
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

    /// Like [`Driver::from_named`], with the choice of how steps are computed.
    ///
    /// # Errors
    /// Those of [`Driver::from_named`].
    pub fn with_backend(params: Vec<(String, Var)>, rule: R, backend: Backend) -> Result<Self> {
        rule.validate()?;
        let (mut names, mut ids) = (HashSet::new(), HashSet::new());
        let buffers = rule.buffers().len() + rule.scratch();
        let mut slots = Vec::with_capacity(params.len());
        for (index, (name, var)) in params.into_iter().enumerate() {
            if !names.insert(name.clone()) || !ids.insert(var.as_tensor().id()) {
                let expected = "each parameter once".to_string();
                return Err(Error::Parameter { name, expected, got: "a second one".to_string() });
            }
            slots.push(Slot::new(name, var, index, buffers, backend)?);
        }
        let memory = R::Memory::default();
        Ok(Self { rule, backend, slots, memory, step: 0, absent: 0, epoch: 1, epochs: None, watch: true })
    }

    /// One step with the gradients that `grads` holds. A parameter without one is left untouched: no update, no decay, no change of state.
    ///
    /// # Errors
    /// [`Error::Gradient`] where a gradient's shape or type is not its parameter's, before anything has changed; errors of candle.
    pub fn step(&mut self, grads: &GradStore) -> Result<StepReport> {
        let cx =
            StepContext { epoch: self.epoch, epochs: self.epochs, tensors: self.slots.len(), diagnostics: self.watch };
        let found: Vec<Option<Tensor>> = self
            .slots
            .iter()
            .map(|slot| grads.get(slot.var.as_tensor()).map(|g| slot.checked_grad(g)).transpose())
            .collect::<Result<_>>()?;
        let lr = self.rule.learning_rate();
        let mut work: Vec<Work<'_>> = self
            .slots
            .iter_mut()
            .zip(found)
            .filter_map(|(slot, grad)| grad.map(|grad| Work { slot, grad, lr }))
            .collect();
        for w in &mut work {
            w.slot.steps += 1;
        }
        let updated = work.len();
        self.rule.step(&cx, &mut work, &mut self.memory)?;
        let report = StepReport { updated, absent: self.slots.len() - updated };
        self.step += 1;
        self.absent += report.absent as u64;
        Ok(report)
    }

    /// Says that epoch `epoch` (from 1) of `epochs` begins, and resets the diagnostics. Warm-up, phases and the schedules of
    /// formulations go by it; a training that never calls this stays in epoch 1.
    pub fn begin_epoch(&mut self, epoch: usize, epochs: usize) {
        (self.epoch, self.epochs) = (epoch, Some(epochs));
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

    /// Diagnostics since [`Driver::begin_epoch`], by name; empty for optimizers that keep none.
    pub fn diagnostics(&self) -> BTreeMap<String, f64> {
        R::diagnostics(&self.memory)
    }

    /// Whether steps gather diagnostics (they do, at first). Without, those that cost time are absent or stale.
    pub fn watch(&mut self, watch: bool) {
        self.watch = watch;
    }

    /// State tensors by `NAME.BUFFER`, copies of what is there now.
    ///
    /// # Errors
    /// Those of candle's tensor creation.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for slot in &self.slots {
            for (buffer, tensor) in self.rule.buffers().iter().zip(slot.state.tensors(&slot.var)?) {
                state.insert(format!("{}.{buffer}", slot.name), tensor);
            }
            state.insert(format!("{}.steps", slot.name), Tensor::new(slot.steps as i64, &candle_core::Device::Cpu)?);
        }
        Ok(state)
    }

    /// Takes over what [`Driver::state`] gave for the same parameters and configuration.
    ///
    /// # Errors
    /// [`Error::State`] names an entry that is missing, of another shape, or unknown; then nothing has changed.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let buffers = self.rule.buffers();
        let bad = |name: &str, expected: String, got: String| Error::State { name: name.to_string(), expected, got };
        let mut known = HashSet::new();
        let mut fresh = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut new = State::zeros(&slot.var, buffers.len() + self.rule.scratch(), self.backend)?;
            for (k, buffer) in buffers.iter().enumerate() {
                let name = format!("{}.{buffer}", slot.name);
                let shape = format!("shape {:?}", slot.var.dims());
                let tensor = state.get(&name).ok_or_else(|| bad(&name, shape.clone(), "nothing".to_string()))?;
                if tensor.dims() != slot.var.dims() {
                    return Err(bad(&name, shape, format!("shape {:?}", tensor.dims())));
                }
                new.set(k, tensor)?;
                known.insert(name);
            }
            let name = format!("{}.steps", slot.name);
            let steps = state.get(&name).ok_or_else(|| bad(&name, "a step count".into(), "nothing".into()))?;
            fresh.push((new, steps.to_scalar::<i64>()?.unsigned_abs()));
            known.insert(name);
        }
        if let Some(name) = state.keys().find(|name| !known.contains(*name)) {
            return Err(bad(name, "no such entry".to_string(), "one".to_string()));
        }
        for (slot, (state, steps)) in self.slots.iter_mut().zip(fresh) {
            (slot.state, slot.steps) = (state, steps);
        }
        Ok(())
    }
}

impl<R: Rule> std::fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({} parameters, step {})", R::KIND, self.slots.len(), self.step)
    }
}

/// Parameters are named by their number, and those of no floating-point type left out, as candle's own optimizers do. Prefer
/// [`Driver::from_named`] where names or layer groups matter: the order of `VarMap::all_vars` changes from run to run.
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
