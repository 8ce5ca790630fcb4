//! The saved state of an optimizer: tensors and numbers by name, as a safetensors file.

use std::collections::{BTreeMap, HashSet};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use crate::buffer::COMPENSATION;
use crate::error::{Error, Result, contract};
use crate::param_state::ParamState;

/// The key of the trained weights, which are saved while the parameters hold averaged ones.
pub(crate) const TRAINED: &str = "trained";

/// Entries of a parameter's state that the driver itself saves.
const OWN: [&str; 4] = ["steps", "accumulated", COMPENSATION, TRAINED];

/// `Ok` if the names of a parameter's buffers and numbers differ, from the driver's own as well.
pub(crate) fn names_differ<'a>(kind: &str, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = HashSet::from(OWN);
    for name in names {
        contract(seen.insert(name), kind, || {
            let own = OWN.map(|own| format!("`{own}`")).join(", ");
            (format!("names of buffers and numbers that differ, also from {own}"), format!("`{name}` again"))
        })?;
    }
    Ok(())
}

/// Version of the layout of [`OptimizerState`]. Files of another version are refused.
pub const STATE_VERSION: u32 = 1;

/// The state of an optimizer. After N steps, saving and loading, N more steps give the same bits as 2N steps without interruption.
///
/// | tensor | meaning |
/// |---|---|
/// | `PARAMETER.BUFFER` | a buffer, such as `fc1.weight.first_moment` |
/// | `PARAMETER.steps` | the parameter's own step count |
/// | `PARAMETER.accumulated` | accumulated gradients, during an accumulation only |
/// | `PARAMETER.compensation` | rounding errors, with [`crate::Rounding::Compensated`] only |
/// | `PARAMETER.trained` | the trained weights, while their average is selected ([`crate::Weights`]) only |
///
/// Some optimizers add scalars and vectors of their own. Tensors are found by name, whatever the order of the parameters. Numbers that belong to no
/// parameter (step, epoch, η, position of the schedule) are in `numbers`.
///
/// The parameters are not saved here: save them beside the state, and load them first. Hyper-parameters other than η are not saved either: configure
/// the optimizer that loads like the one that saved. Diagnostics are not saved; they start again from 0.
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
    /// Numbers by name, each as text that parses to the same bits.
    pub numbers: BTreeMap<String, String>,
}

// The name of the format, whichever crate writes it.
const FORMAT: &str = "np-core optimizer state";

pub(crate) fn bad(name: &str, expected: impl Into<String>, got: impl Into<String>) -> Error {
    Error::State { name: name.to_string(), expected: expected.into(), got: got.into() }
}

impl OptimizerState {
    /// The state as the bytes of a safetensors file. The same state gives the same bytes.
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

    /// The state from the bytes of a safetensors file.
    ///
    /// # Errors
    /// [`Error::State`] if the file was not written by [`OptimizerState::to_safetensors`] or has another version; errors of safetensors.
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

/// One parameter's piece of state that a rule keeps over several parameters, to be saved ([`Rule::pieces`](crate::Rule::pieces)).
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub(crate) parameter: usize,
    pub(crate) entry: String,
    pub(crate) values: Vec<f64>,
    pub(crate) number: bool,
}

impl Piece {
    /// A vector with a value for each element of parameter number `parameter` (from 0, in model order), saved as `PARAMETER.ENTRY`.
    pub fn vector(parameter: usize, entry: impl Into<String>, values: Vec<f64>) -> Self {
        Self { parameter, entry: entry.into(), values, number: false }
    }

    /// A number for parameter number `parameter` (from 0, in model order), saved as `PARAMETER.ENTRY`.
    pub fn number(parameter: usize, entry: impl Into<String>, value: f64) -> Self {
        Self { parameter, entry: entry.into(), values: vec![value], number: true }
    }
}

/// Saved pieces, to be read by parameter and entry ([`Rule::load_pieces`](crate::Rule::load_pieces)). Loading fails if an entry is left unread.
#[derive(Debug)]
pub struct Pieces<'a> {
    pub(crate) state: &'a OptimizerState,
    pub(crate) params: &'a [ParamState],
    pub(crate) known: &'a mut HashSet<String>,
}

impl Pieces<'_> {
    /// Number of parameters of the optimizer.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.params.len()
    }

    fn entry(&mut self, parameter: usize, entry: &str) -> (Option<&Tensor>, String) {
        let name = format!("{}.{entry}", self.params[parameter].name);
        self.known.insert(name.clone());
        (self.state.tensors.get(&name), name)
    }

    /// The number saved as `entry` of parameter number `parameter`; `None` if there is no such entry.
    ///
    /// # Errors
    /// [`Error::State`] if the entry is not a number.
    pub fn number(&mut self, parameter: usize, entry: &str) -> Result<Option<f64>> {
        let (tensor, name) = self.entry(parameter, entry);
        let Some(tensor) = tensor else { return Ok(None) };
        Ok(Some(tensor.to_scalar::<f64>().map_err(|_| bad(&name, "a number", format!("{tensor:?}")))?))
    }

    /// The vector saved as `entry` of parameter number `parameter`.
    ///
    /// # Errors
    /// [`Error::State`] if there is no such entry, or one of another shape or type.
    pub fn vector(&mut self, parameter: usize, entry: &str) -> Result<Vec<f64>> {
        let dims = self.params[parameter].var.dims().to_vec();
        let (tensor, name) = self.entry(parameter, entry);
        let tensor = tensor.ok_or_else(|| bad(&name, format!("shape {dims:?}"), "nothing"))?;
        fits(&name, tensor, &dims, DType::F64)?;
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    /// The error [`Error::State`] for an entry that is not as expected.
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
