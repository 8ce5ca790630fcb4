//! Saving and loading the state of an optimizer.

use std::collections::{BTreeMap, HashSet};

use candle_core::{DType, Device, Tensor};

use crate::buffer::{Buffer, COMPENSATION};
use crate::driver::Driver;
use crate::error::{Error, Result, contract};
use crate::optimizer_state::{OptimizerState, Piece, Pieces, TRAINED, bad, fits};
use crate::rate::placed;
use crate::rule::Rule;
use crate::state::{State, compute_dtype};

/// A schedule's position in its saved form: a number, or `none`.
struct Position(Option<f64>);

impl std::str::FromStr for Position {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|x| Self(Some(x))) }
    }
}

/// The saved numbers of every optimizer that belong to no parameter.
const NUMBERS: [&str; 8] = ["lr", "step", "absent", "skipped", "calls", "position", "epoch", "epochs"];

/// What is loaded for one parameter, after it has been checked.
struct Loaded {
    state: State,
    steps: u64,
    numbers: Vec<f64>,
    accumulated: Option<Tensor>,
    compensation: Option<State>,
    trained: Option<Tensor>,
}

impl<R: Rule> Driver<R> {
    /// A copy of the optimizer's state on the CPU. While averaged weights are selected, it contains the trained weights as well.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<OptimizerState> {
        let mut tensors = BTreeMap::new();
        for param in &self.params {
            let mut put = |entry: &str, tensor: Tensor| tensors.insert(format!("{}.{entry}", param.name), tensor);
            for (buffer, tensor) in param.buffers.iter().zip(param.state.tensors(&param.var, &param.buffers)?) {
                put(buffer.name(), tensor.to_device(&Device::Cpu)?);
            }
            for ((name, _), x) in self.rule.numbers().iter().zip(&param.numbers) {
                put(name, Tensor::new(*x, &Device::Cpu)?);
            }
            put("steps", Tensor::new(param.steps.cast_signed(), &Device::Cpu)?);
            if let Some(sum) = param.accumulated.as_ref().filter(|_| param.has_gradient) {
                put("accumulated", sum.to_device(&Device::Cpu)?.copy()?);
            }
            if let Some(left) = &param.compensation {
                let left = left.tensors(&param.var, &[Buffer::new(COMPENSATION)])?;
                left.into_iter().try_for_each(|x| x.to_device(&Device::Cpu).map(|x| drop(put(COMPENSATION, x))))?;
            }
            if let Some(trained) = param.set_aside.as_ref().or(param.loaded.as_ref()) {
                put(TRAINED, trained.to_device(&Device::Cpu)?.copy()?);
            }
        }
        for Piece { parameter, entry, values, number } in self.rule.pieces(&self.memory, &self.sizes()) {
            let param = &self.params[parameter];
            let shape = if number { candle_core::Shape::from(()) } else { param.var.shape().clone() };
            tensors.insert(format!("{}.{entry}", param.name), Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        let mut numbers = BTreeMap::new();
        let mut put = |name: &str, text: String| numbers.insert(name.to_string(), text);
        put("lr", self.rule.learning_rate().to_string());
        put("step", self.step.to_string());
        put("absent", self.absent.to_string());
        put("skipped", self.skipped.to_string());
        put("calls", self.calls.to_string());
        put("position", self.position.map_or("none".to_string(), |x| x.to_string()));
        put("epoch", self.epoch.to_string());
        put("epochs", self.epochs.unwrap_or(0).to_string());
        for (name, x) in self.rule.shared(&self.memory)? {
            let first = put(name, x.to_string()).is_none();
            let file = ["format", "version", "optimizer"].contains(&name);
            contract(first && !file, R::KIND, || {
                ("names of shared numbers that are free".to_string(), format!("`{name}`"))
            })?;
        }
        Ok(OptimizerState { kind: R::KIND.to_string(), tensors, numbers })
    }

    fn sizes(&self) -> Vec<usize> {
        self.params.iter().map(|param| param.var.elem_count()).collect()
    }

    /// Loads `state`, which [`Driver::state`] returned for parameters of the same names and the same configuration. Load the parameters first: if
    /// the state was saved while averaged weights were selected, this puts the trained weights into the parameters. The next step returns an error
    /// if the parameters hold other weights by then.
    ///
    /// # Errors
    /// [`Error::State`] for another kind of optimizer, or for an entry that is missing, unknown, out of range, or of another shape or type.
    /// [`Error::Parameter`] while averaged weights are selected. After an error nothing has changed.
    pub fn load_state(&mut self, state: &OptimizerState) -> Result<()> {
        if state.kind != R::KIND {
            return Err(bad("optimizer", R::KIND, state.kind.clone()));
        }
        self.params.iter().find(|param| param.set_aside.is_some()).map_or(Ok(()), |param| Err(param.averaged()))?;
        let mut known = HashSet::new();
        let mut fresh = Vec::with_capacity(self.params.len());
        for param in &self.params {
            let mut new = State::fresh(&param.var, &param.buffers, self.rule.scratch(), self.backend)?;
            let mut entry = |entry: &str| {
                let name = format!("{}.{entry}", param.name);
                known.insert(name.clone());
                (state.tensors.get(&name), name)
            };
            let dtype = compute_dtype(param.var.dtype());
            for (k, buffer) in param.buffers.iter().enumerate() {
                let (tensor, name) = entry(buffer.name());
                let dims = buffer.dims(param.var.dims());
                let tensor = tensor.ok_or_else(|| bad(&name, format!("shape {dims:?}"), "nothing"))?;
                fits(&name, tensor, dims, dtype)?;
                new.set(k, tensor)?;
            }
            let mut numbers = Vec::new();
            for (number, _) in self.rule.numbers() {
                let (tensor, name) = entry(number);
                let tensor = tensor.ok_or_else(|| bad(&name, "a number", "nothing"))?;
                numbers.push(tensor.to_scalar::<f64>().map_err(|_| bad(&name, "a number", format!("{tensor:?}")))?);
            }
            let (steps, name) = entry("steps");
            let steps = steps.ok_or_else(|| bad(&name, "a step count", "nothing"))?;
            let steps = steps.to_scalar::<i64>().map_err(|_| bad(&name, "a step count", format!("{steps:?}")))?;
            let steps = u64::try_from(steps).map_err(|_| bad(&name, "a step count", steps.to_string()))?;
            let (accumulated, name) = entry("accumulated");
            let here = |name: &str, tensor: Option<&Tensor>, dtype: DType| {
                let Some(tensor) = tensor else { return Ok(None) };
                fits(name, tensor, param.var.dims(), dtype)?;
                Ok::<_, Error>(Some(tensor.to_device(param.var.device())?.copy()?))
            };
            let accumulated = here(&name, accumulated, dtype)?;
            let (trained, name) = entry(TRAINED);
            let trained = here(&name, trained, param.var.dtype())?;
            let mut compensation = None;
            if param.compensation.is_some() {
                let (left, name) = entry(COMPENSATION);
                let left = left.ok_or_else(|| bad(&name, format!("shape {:?}", param.var.dims()), "nothing"))?;
                fits(&name, left, param.var.dims(), dtype)?;
                let mut new = State::fresh(&param.var, &[Buffer::new(COMPENSATION)], 0, self.backend)?;
                new.set(0, left)?;
                compensation = Some(new);
            }
            fresh.push(Loaded { state: new, steps, numbers, accumulated, compensation, trained });
        }
        let memory = self.rule.load_pieces(&mut Pieces { state, params: &self.params, known: &mut known })?;
        if let Some(name) = state.tensors.keys().find(|name| !known.contains(*name)) {
            return Err(bad(name, "no such entry", "one"));
        }
        let shared_names: Vec<&str> = self.rule.shared(&self.memory)?.iter().map(|(name, _)| *name).collect();
        if let Some(name) =
            state.numbers.keys().find(|n| !NUMBERS.contains(&n.as_str()) && !shared_names.contains(&n.as_str()))
        {
            return Err(bad(name, "no such number", "one"));
        }
        let (lr, step, absent) = (state.number("lr")?, state.number("step")?, state.number("absent")?);
        let (skipped, calls, position) =
            (state.number("skipped")?, state.number::<usize>("calls")?, state.number::<Position>("position")?.0);
        let (epoch, epochs) = (state.number("epoch")?, state.number("epochs")?);

        let shared = shared_names.iter().map(|name| state.number(name)).collect::<Result<Vec<_>>>()?;
        if let Some(x) = position {
            placed("position", x).map_err(|_| bad("position", "a number of epochs ≥ 0", x.to_string()))?;
        }
        if epoch == 0 {
            return Err(bad("epoch", "a number ≥ 1", "0"));
        }

        let mut rule = self.rule.clone();
        rule.set_learning_rate(lr);
        rule.validate().map_err(|_| bad("lr", "a learning rate that the optimizer can have", lr.to_string()))?;
        let most = self.options.accumulate.0.get();
        if calls >= most && calls > 0 {
            return Err(bad("calls", format!("less than `accumulate`, {most}"), calls.to_string()));
        }
        self.rule = rule;
        // What is not saved (diagnostics, records that no step has used) is of a training that this one no longer is.
        self.memory = memory.unwrap_or_default();
        self.rule.load_shared(&mut self.memory, &shared);
        (self.report, self.refused) = (None, None);
        (self.step, self.absent, self.skipped, self.calls) = (step, absent, skipped, calls);
        (self.position, self.epoch) = (position, epoch);
        self.epochs = (epochs > 0).then_some(epochs);
        for (param, Loaded { state, steps, numbers, accumulated, compensation, trained }) in
            self.params.iter_mut().zip(fresh)
        {
            (param.state, param.steps, param.numbers, param.compensation) = (state, steps, numbers, compensation);
            (param.has_gradient, param.accumulated) = (accumulated.is_some(), accumulated);
            param.loaded = trained.filter(|t| t.elem_count() > 0);
            if let Some(trained) = &param.loaded {
                param.var.set(trained)?;
            }
        }
        Ok(())
    }
}
