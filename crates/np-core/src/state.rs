//! What an optimizer has to remember to go on as if it had never stopped.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::rate::placed;
use crate::rounding::COMPENSATION;
use crate::slot::{Slot, State, compute_dtype};
use crate::{Buffer, Driver, Error, Result, Rule};

/// Version of the layout of [`OptimizerState`]. One of another version is refused.
pub const STATE_VERSION: u32 = 1;

/// The state of an optimizer: N steps, saved, loaded and N more give the same bits as 2N.
///
/// Tensors are named `PARAMETER.BUFFER`, with the parameter's shape (`fc1.weight.first_moment`); `PARAMETER.steps` counts the parameter's own steps,
/// `PARAMETER.accumulated` is there in the middle of an accumulation, and `PARAMETER.trained`, the weights that are trained, while their average is selected
/// ([`crate::Weights`]). They are found by name: the order of the parameters may be another. Numbers that belong to no parameter (step, epoch, η, position of the
/// schedule) are in `numbers`. Parameters are not saved: whoever saves a training saves them beside this, and loads them first. Hyper-parameters are not saved, but for η: the optimizer that loads must be configured like the
/// one that saved. Diagnostics are not either; they start again at the next epoch.
///
/// ```
/// # fn main() -> np_core::Result<()> {
/// use candle_core::{DType, Device, Var};
/// use np_core::{AdamW, AdamWConfig, OptimizerState};
///
/// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
/// let mut adamw = AdamW::from_named(vec![("w".into(), w.clone())], AdamWConfig::default())?;
/// let _ = adamw.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
/// let bytes = adamw.state()?.to_safetensors()?;
///
/// let mut later = AdamW::from_named(vec![("w".into(), w)], AdamWConfig::default())?;
/// later.load_state(&OptimizerState::from_safetensors(&bytes)?)?;
/// assert_eq!(later.steps(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OptimizerState {
    /// The optimizer's kind (`adamw`).
    pub kind: String,
    /// Tensors by name, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// Numbers by name, each as text that reads back to the same bits.
    pub numbers: BTreeMap<String, String>,
}

/// A position as it is saved.
struct Position(Option<f64>);

impl std::str::FromStr for Position {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|x| Self(Some(x))) }
    }
}

/// What belongs to no parameter, and is saved of every optimizer.
const NUMBERS: [&str; 8] = ["lr", "step", "absent", "skipped", "calls", "position", "epoch", "epochs"];

/// Name of the weights that are trained, while averaged ones stand in the parameters.
const TRAINED: &str = "trained";

const FORMAT: &str = "np-core optimizer state";

fn bad(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::State { name: name.to_string(), expected: expected.into(), got: got.into() }
}

impl OptimizerState {
    /// The state as a safetensors file.
    ///
    /// # Errors
    /// Those of candle and of safetensors.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut metadata: HashMap<String, String> = self.numbers.clone().into_iter().collect();
        metadata.insert("format".to_string(), FORMAT.to_string());
        metadata.insert("version".to_string(), STATE_VERSION.to_string());
        metadata.insert("optimizer".to_string(), self.kind.clone());
        let views = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Ok(safetensors::serialize(views, Some(metadata)).map_err(candle_core::Error::from)?)
    }

    /// The state in the safetensors file `bytes`.
    ///
    /// # Errors
    /// [`Error::State`] where the file is not one of [`OptimizerState::to_safetensors`] or has another version; errors of safetensors.
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(candle_core::Error::from)?;
        let mut numbers: BTreeMap<String, String> = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let mut take = |key: &str, expected: &str| {
            numbers.remove(key).ok_or_else(|| bad(key, format!("metadata `{expected}`"), "nothing"))
        };
        let format = take("format", FORMAT)?;
        if format != FORMAT {
            return Err(bad("format", FORMAT, format));
        }
        let version = take("version", "1")?;
        if version != STATE_VERSION.to_string() {
            return Err(bad("version", STATE_VERSION.to_string(), version));
        }
        let kind = take("optimizer", "a kind")?;
        let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?.into_iter().collect();
        Ok(Self { kind, tensors, numbers })
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let text = self.numbers.get(name).ok_or_else(|| bad(name, "a number", "nothing"))?;
        text.parse().map_err(|_| bad(name, "a number", text.clone()))
    }
}

/// A parameter's piece of what a rule keeps over several parameters ([`Rule::pieces`]).
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    parameter: usize,
    entry: String,
    values: Vec<f64>,
    number: bool,
}

impl Piece {
    /// A value for each element of parameter number `parameter`, in model order.
    pub fn vector(parameter: usize, entry: impl Into<String>, values: Vec<f64>) -> Self {
        Self { parameter, entry: entry.into(), values, number: false }
    }

    /// One number.
    pub fn number(parameter: usize, entry: impl Into<String>, value: f64) -> Self {
        Self { parameter, entry: entry.into(), values: vec![value], number: true }
    }
}

/// Saved pieces, to be asked for by parameter and entry ([`Rule::recall`]). What is never asked for does not fit.
#[derive(Debug)]
pub struct Pieces<'a> {
    state: &'a OptimizerState,
    slots: &'a [Slot],
    known: &'a mut HashSet<String>,
}

impl Pieces<'_> {
    /// How many parameters there are.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.slots.len()
    }

    fn entry(&mut self, parameter: usize, entry: &str) -> (Option<&Tensor>, String) {
        let name = format!("{}.{entry}", self.slots[parameter].name);
        self.known.insert(name.clone());
        (self.state.tensors.get(&name), name)
    }

    /// The number of an entry, if there is one.
    ///
    /// # Errors
    /// [`Error::State`] where it is something else.
    pub fn number(&mut self, parameter: usize, entry: &str) -> Result<Option<f64>> {
        let (tensor, name) = self.entry(parameter, entry);
        let Some(tensor) = tensor else { return Ok(None) };
        Ok(Some(tensor.to_scalar::<f64>().map_err(|_| bad(&name, "a number", format!("{tensor:?}")))?))
    }

    /// The vector of an entry.
    ///
    /// # Errors
    /// [`Error::State`] where there is none, or one of another shape or type.
    pub fn vector(&mut self, parameter: usize, entry: &str) -> Result<Vec<f64>> {
        let dims = self.slots[parameter].var.dims().to_vec();
        let (tensor, name) = self.entry(parameter, entry);
        let tensor = tensor.ok_or_else(|| bad(&name, format!("shape {dims:?}"), "nothing"))?;
        fits(&name, tensor, &dims, DType::F64)?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    /// The error of an entry that is not as expected.
    #[must_use]
    pub fn mismatch(
        &self,
        parameter: usize,
        entry: &str,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Error {
        bad(&format!("{}.{entry}", self.slots[parameter].name), expected, got)
    }
}

fn fits(name: &str, tensor: &Tensor, dims: &[usize], dtype: DType) -> Result<()> {
    let describe = |dims: &[usize], dtype: DType| format!("shape {dims:?} of {}", dtype.as_str());
    let (expected, got) = (describe(dims, dtype), describe(tensor.dims(), tensor.dtype()));
    if expected == got { Ok(()) } else { Err(bad(name, expected, got)) }
}

/// What is loaded of one parameter, once it is known to fit.
struct Loaded {
    state: State,
    steps: u64,
    numbers: Vec<f64>,
    accumulated: Option<Tensor>,
    compensation: Option<State>,
    trained: Option<Tensor>,
}

impl<R: Rule> Driver<R> {
    /// What this optimizer has to remember; a copy, on the CPU. While averaged weights are selected the trained ones are in it as well.
    ///
    /// # Errors
    /// Those of candle.
    pub fn state(&self) -> Result<OptimizerState> {
        let mut tensors = BTreeMap::new();
        for slot in &self.slots {
            let mut put = |entry: &str, tensor: Tensor| tensors.insert(format!("{}.{entry}", slot.name), tensor);
            for (buffer, tensor) in slot.buffers.iter().zip(slot.state.tensors(&slot.var, &slot.buffers)?) {
                put(buffer.name(), tensor.to_device(&Device::Cpu)?);
            }
            for ((name, _), x) in self.rule.numbers().iter().zip(&slot.numbers) {
                put(name, Tensor::new(*x, &Device::Cpu)?);
            }
            put("steps", Tensor::new(slot.steps.cast_signed(), &Device::Cpu)?);
            if let Some(sum) = slot.accumulated.as_ref().filter(|_| slot.has_gradient) {
                put("accumulated", sum.to_device(&Device::Cpu)?.copy()?);
            }
            if let Some(left) = &slot.compensation {
                let left = left.tensors(&slot.var, &[Buffer::new(COMPENSATION)])?;
                left.into_iter().try_for_each(|x| x.to_device(&Device::Cpu).map(|x| drop(put(COMPENSATION, x))))?;
            }
            if let Some(trained) = slot.set_aside.as_ref().or(slot.loaded.as_ref()) {
                put(TRAINED, trained.to_device(&Device::Cpu)?.copy()?);
            }
        }
        for Piece { parameter, entry, values, number } in self.rule.pieces(&self.memory, &self.sizes()) {
            let slot = &self.slots[parameter];
            let shape = if number { candle_core::Shape::from(()) } else { slot.var.shape().clone() };
            tensors.insert(format!("{}.{entry}", slot.name), Tensor::from_vec(values, shape, &Device::Cpu)?);
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
        for (name, x) in self.rule.shared(&self.memory) {
            put(name, x.to_string());
        }
        Ok(OptimizerState { kind: R::KIND.to_string(), tensors, numbers })
    }

    fn sizes(&self) -> Vec<usize> {
        self.slots.iter().map(|slot| slot.var.elem_count()).collect()
    }

    /// Takes over what [`Driver::state`] gave for parameters of the same names and configuration. If that was while averaged weights were selected, the trained
    /// ones are put into the parameters: load the parameters first. If others have taken their place by the next step, that step is an error.
    ///
    /// # Errors
    /// [`Error::State`] names what does not fit: the kind, an entry that is missing, of another shape or type, out of range, or unknown.
    /// [`Error::Parameter`] while averaged weights are selected. Nothing has changed then.
    pub fn load_state(&mut self, state: &OptimizerState) -> Result<()> {
        if state.kind != R::KIND {
            return Err(bad("optimizer", R::KIND, state.kind.clone()));
        }
        self.slots.iter().find(|slot| slot.set_aside.is_some()).map_or(Ok(()), |slot| Err(slot.averaged()))?;
        let mut known = HashSet::new();
        let mut fresh = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut new = State::fresh(&slot.var, &slot.buffers, self.rule.scratch(), self.backend)?;
            let mut entry = |entry: &str| {
                let name = format!("{}.{entry}", slot.name);
                known.insert(name.clone());
                (state.tensors.get(&name), name)
            };
            let dtype = compute_dtype(slot.var.dtype());
            for (k, buffer) in slot.buffers.iter().enumerate() {
                let (tensor, name) = entry(buffer.name());
                let dims = buffer.dims(slot.var.dims());
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
                fits(name, tensor, slot.var.dims(), dtype)?;
                Ok::<_, Error>(Some(tensor.to_device(slot.var.device())?.copy()?))
            };
            let accumulated = here(&name, accumulated, dtype)?;
            let (trained, name) = entry(TRAINED);
            let trained = here(&name, trained, slot.var.dtype())?;
            let mut compensation = None;
            if slot.compensation.is_some() {
                let (left, name) = entry(COMPENSATION);
                let left = left.ok_or_else(|| bad(&name, format!("shape {:?}", slot.var.dims()), "nothing"))?;
                fits(&name, left, slot.var.dims(), dtype)?;
                let mut new = State::fresh(&slot.var, &[Buffer::new(COMPENSATION)], 0, self.backend)?;
                new.set(0, left)?;
                compensation = Some(new);
            }
            fresh.push(Loaded { state: new, steps, numbers, accumulated, compensation, trained });
        }
        let memory = self.rule.recall(&mut Pieces { state, slots: &self.slots, known: &mut known })?;
        if let Some(name) = state.tensors.keys().find(|name| !known.contains(*name)) {
            return Err(bad(name, "no such entry", "one"));
        }
        let shared_names: Vec<&str> = self.rule.shared(&self.memory).iter().map(|(name, _)| *name).collect();
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
        self.rule.set_shared(&mut self.memory, &shared);
        (self.report, self.refused) = (None, None);
        (self.step, self.absent, self.skipped, self.calls) = (step, absent, skipped, calls);
        (self.position, self.epoch) = (position, epoch);
        self.epochs = (epochs > 0).then_some(epochs);
        for (slot, Loaded { state, steps, numbers, accumulated, compensation, trained }) in
            self.slots.iter_mut().zip(fresh)
        {
            (slot.state, slot.steps, slot.numbers, slot.compensation) = (state, steps, numbers, compensation);
            (slot.has_gradient, slot.accumulated) = (accumulated.is_some(), accumulated);
            slot.loaded = trained.filter(|t| t.elem_count() > 0);
            if let Some(trained) = &slot.loaded {
                slot.var.set(trained)?;
            }
        }
        Ok(())
    }
}
