//! What an optimizer has saved: tensors and numbers by name, as a safetensors file.

use std::collections::{BTreeMap, HashSet};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::engine::param_state::ParamState;
use crate::error::{Error, Result};

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

const FORMAT: &str = "np-core optimizer state";

pub(crate) fn bad(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::State { name: name.to_string(), expected: expected.into(), got: got.into() }
}

impl OptimizerState {
    /// The state as a safetensors file: the same bytes for the same state.
    ///
    /// # Errors
    /// Those of candle and of safetensors.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut metadata = self.numbers.clone();
        metadata.insert("format".to_string(), FORMAT.to_string());
        metadata.insert("version".to_string(), STATE_VERSION.to_string());
        metadata.insert("optimizer".to_string(), self.kind.clone());
        let views = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        let plain = safetensors::serialize(views, None).map_err(candle_core::Error::from)?;
        described(&plain, &metadata)
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

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T> {
        let text = self.numbers.get(name).ok_or_else(|| bad(name, "a number", "nothing"))?;
        text.parse().map_err(|_| bad(name, "a number", text.clone()))
    }
}

/// A safetensors file without metadata, with these put before all else in its header, in the order of their names. The crate takes them as a hash map, and
/// writes them in that map's order, which is another each time.
fn described(plain: &[u8], metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let taken_apart = || {
        let (length, rest) = plain.split_first_chunk()?;
        let (header, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        Some((header.trim_ascii_end().strip_prefix(b"{")?, data))
    };
    let no_header = || candle_core::Error::Msg("a safetensors file without a header".to_string());
    let (entries, data) = taken_apart().ok_or_else(no_header)?;
    let metadata = serde_json::to_vec(metadata).map_err(candle_core::Error::wrap)?;
    let comma: &[u8] = if entries == b"}" { b"" } else { b"," };
    let mut header = [b"{\"__metadata__\":", metadata.as_slice(), comma, entries].concat();
    // Data begin at a multiple of eight bytes, as the crate has it.
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok([&(header.len() as u64).to_le_bytes(), header.as_slice(), data].concat())
}

/// A parameter's piece of what a rule keeps over several parameters ([`Rule::pieces`](crate::Rule::pieces)).
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub(crate) parameter: usize,
    pub(crate) entry: String,
    pub(crate) values: Vec<f64>,
    pub(crate) number: bool,
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

/// Saved pieces, to be asked for by parameter and entry ([`Rule::load_pieces`](crate::Rule::load_pieces)). What is never asked for does not fit.
#[derive(Debug)]
pub struct Pieces<'a> {
    pub(crate) state: &'a OptimizerState,
    pub(crate) params: &'a [ParamState],
    pub(crate) known: &'a mut HashSet<String>,
}

impl Pieces<'_> {
    /// How many parameters there are.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.params.len()
    }

    fn entry(&mut self, parameter: usize, entry: &str) -> (Option<&Tensor>, String) {
        let name = format!("{}.{entry}", self.params[parameter].name);
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
        let dims = self.params[parameter].var.dims().to_vec();
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
        bad(&format!("{}.{entry}", self.params[parameter].name), expected, got)
    }
}

pub(crate) fn fits(name: &str, tensor: &Tensor, dims: &[usize], dtype: DType) -> Result<()> {
    let describe = |dims: &[usize], dtype: DType| format!("shape {dims:?} of {}", dtype.as_str());
    let (expected, got) = (describe(dims, dtype), describe(tensor.dims(), tensor.dtype()));
    if expected == got { Ok(()) } else { Err(bad(name, expected, got)) }
}
