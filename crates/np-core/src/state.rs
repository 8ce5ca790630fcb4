//! What an optimizer has to remember to go on as if it had never stopped.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;

use crate::slot::State;
use crate::{Driver, Error, Result, Rule};

/// Version of the layout of [`OptimizerState`]. One of another version is refused.
pub const STATE_VERSION: u32 = 1;

/// The state of an optimizer: N steps, saved, loaded and N more give the same bits as 2N.
///
/// Tensors are named `PARAMETER.BUFFER`, with the parameter's shape (`fc1.weight.first_moment`); `PARAMETER.steps` counts the parameter's own steps, and
/// `PARAMETER.accumulated` is there in the middle of an accumulation. Numbers that belong to no parameter (step, epoch, η, position of the
/// schedule) are in `numbers`. Hyper-parameters are not saved, but for η: the optimizer that loads must be configured like the
/// one that saved. Diagnostics are not either; they start again at the next epoch.
///
/// ```
/// # fn main() -> np_core::Result<()> {
/// use candle_core::{DType, Device, Var};
/// use np_core::{AdamW, AdamWConfig, OptimizerState};
///
/// let w = Var::ones(3, DType::F32, &Device::Cpu)?;
/// let mut adamw = AdamW::from_named(vec![("w".into(), w.clone())], AdamWConfig::default())?;
/// let _ = adamw.step(&w.as_tensor().sqr()?.sum_all()?.backward()?)?;
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

/// What the names of vectors begin with that belong to no parameter.
const SHARED: &str = "shared.";

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

impl<R: Rule> Driver<R> {
    /// What this optimizer has to remember; a copy, on the CPU.
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
        }
        for (name, vector) in self.rule.vectors(&self.memory) {
            tensors.insert(format!("{SHARED}{name}"), Tensor::new(vector, &Device::Cpu)?);
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

    /// Takes over what [`Driver::state`] gave for the same parameters and configuration.
    ///
    /// # Errors
    /// [`Error::State`] names what does not fit: the kind, an entry that is missing, of another shape or type, or unknown.
    /// [`Error::Parameter`] while averaged weights are selected. Nothing has changed then.
    pub fn load_state(&mut self, state: &OptimizerState) -> Result<()> {
        if state.kind != R::KIND {
            return Err(bad("optimizer", R::KIND, state.kind.clone()));
        }
        self.trains()?;
        let mut known = HashSet::new();
        let mut fresh = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let mut new = State::fresh(&slot.var, &slot.buffers, self.rule.scratch(), self.backend)?;
            let mut entry = |entry: &str| {
                let name = format!("{}.{entry}", slot.name);
                known.insert(name.clone());
                (state.tensors.get(&name), name)
            };
            let fits = |name: &str, tensor: &Tensor, dims: &[usize]| {
                let dtype = crate::slot::compute_dtype(slot.var.dtype());
                let describe =
                    |dims: &[usize], dtype: candle_core::DType| format!("shape {dims:?} of {}", dtype.as_str());
                let (expected, got) = (describe(dims, dtype), describe(tensor.dims(), tensor.dtype()));
                if expected == got { Ok(()) } else { Err(bad(name, expected, got)) }
            };
            for (k, buffer) in slot.buffers.iter().enumerate() {
                let (tensor, name) = entry(buffer.name());
                let dims = buffer.dims(slot.var.dims());
                let tensor = tensor.ok_or_else(|| bad(&name, format!("shape {dims:?}"), "nothing"))?;
                fits(&name, tensor, dims)?;
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
            let (accumulated, name) = entry("accumulated");
            let accumulated = match accumulated {
                None => None,
                Some(sum) => {
                    fits(&name, sum, slot.var.dims())?;
                    Some(sum.to_device(slot.var.device())?.copy()?)
                }
            };
            fresh.push((new, steps.unsigned_abs(), numbers, accumulated));
        }
        let is_vector = |name: &str| self.rule.searches() && name.starts_with(SHARED);
        if let Some(name) = state.tensors.keys().find(|name| !known.contains(*name) && !is_vector(name)) {
            return Err(bad(name, "no such entry", "one"));
        }
        let (lr, step, absent) = (state.number("lr")?, state.number("step")?, state.number("absent")?);
        let (skipped, calls, position) =
            (state.number("skipped")?, state.number::<usize>("calls")?, state.number::<Position>("position")?.0);
        let (epoch, epochs) = (state.number("epoch")?, state.number("epochs")?);

        let shared =
            self.rule.shared(&self.memory).iter().map(|(name, _)| state.number(name)).collect::<Result<Vec<_>>>()?;

        let mut rule = self.rule.clone();
        rule.set_learning_rate(lr);
        rule.validate()?;
        let most = self.options.accumulate.0.get();
        if calls >= most && calls > 0 {
            return Err(bad("calls", format!("less than `accumulate`, {most}"), calls.to_string()));
        }
        self.rule = rule;
        self.rule.set_shared(&mut self.memory, &shared);
        let vector = |name: &str| state.tensors.get(&format!("{SHARED}{name}"))?.to_vec1().ok();
        self.rule.set_vectors(&mut self.memory, vector);
        (self.step, self.absent, self.skipped, self.calls) = (step, absent, skipped, calls);
        (self.position, self.epoch) = (position, epoch);
        self.epochs = (epochs > 0).then_some(epochs);
        for (slot, (state, steps, numbers, accumulated)) in self.slots.iter_mut().zip(fresh) {
            (slot.state, slot.steps, slot.numbers) = (state, steps, numbers);
            (slot.has_gradient, slot.accumulated) = (accumulated.is_some(), accumulated);
        }
        Ok(())
    }
}
