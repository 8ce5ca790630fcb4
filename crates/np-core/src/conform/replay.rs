//! The replay of one golden file.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_engine::backend::Backend;
use np_engine::weights::Weights;
use safetensors::SafeTensors;

use super::ConformError;
use super::spec::Spec;
use crate::any::AnyOptimizer;
use crate::registry::OptimizerConfig;

/// The result of a replay.
#[derive(Debug, Clone)]
pub struct Report {
    /// The optimizer's kind.
    pub optimizer: &'static str,
    /// Steps replayed.
    pub steps: usize,
    /// Numbers compared.
    pub compared: usize,
    /// The number with the largest deviation in relation to its tolerance; `None` if nothing was compared.
    pub worst: Option<Worst>,
    /// Parameters whose trajectory in the reference depends on rounding, with the largest deviation among them. They do not count for
    /// [`Report::passed`].
    pub undetermined: Option<(Vec<String>, Worst)>,
}

/// The largest deviation of a replay, in relation to its tolerance.
#[derive(Debug, Clone)]
pub struct Worst {
    /// The number's place: `param.3.fc1.weight[17]`, `state.momentum.fc1.weight[2]`, `diagnostics.2.alpha_mean`.
    pub place: String,
    /// The number in the file.
    pub expected: f64,
    /// The number of the replay.
    pub got: f64,
    /// |Δ| divided by the tolerance; the replay fails if it is above 1.
    pub share: f64,
}

impl Report {
    /// Whether every number lies within its tolerance.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.worst.as_ref().is_none_or(|w| w.share <= 1.0)
    }
}

impl fmt::Display for Worst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of tolerance at `{}`", 100.0 * self.share, self.place)?;
        if self.share > 1.0 {
            write!(f, ": expected {:e}, got {:e}", self.expected, self.got)?;
        }
        Ok(())
    }
}

/// |Δ| ≤ absolute + relative·|x|
#[derive(Clone, Copy)]
struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    fn of(dtype: DType) -> Self {
        match dtype {
            DType::F64 => Self { absolute: 1e-10, relative: 1e-9 },
            _ => Self { absolute: 2e-6, relative: 2e-5 },
        }
    }
}

struct Comparison {
    tolerance: Tolerance,
    compared: usize,
    worst: Option<Worst>,
}

impl Comparison {
    fn number(&mut self, place: impl FnOnce() -> String, expected: f64, got: f64) {
        let allowed = self.tolerance.absolute + self.tolerance.relative * expected.abs();
        let delta = (expected - got).abs();
        let share = if delta.is_nan() { f64::INFINITY } else { delta / allowed };
        self.compared += 1;
        if self.worst.as_ref().is_none_or(|w| share > w.share) {
            self.worst = Some(Worst { place: place(), expected, got, share });
        }
    }

    fn tensor(&mut self, place: &str, expected: &Tensor, got: &Tensor) -> Result<(), ConformError> {
        let numbers = |t: &Tensor| t.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
        let (expected, got) = (numbers(expected)?, numbers(got)?);
        if expected.len() != got.len() {
            let name = format!("{place} with {} elements", got.len());
            return Err(ConformError::MissingTensor(name));
        }
        for (i, (x, y)) in expected.iter().zip(&got).enumerate() {
            self.number(|| format!("{place}[{i}]"), *x, *y);
        }
        Ok(())
    }
}

/// Replays the golden file with the contents `bytes` on the CPU. Compares every parameter after every step, the final state, the averaged
/// weights and the diagnostics.
///
/// # Errors
/// [`ConformError`] if the bytes are not a golden file or its optimizer is unknown. A deviation is not an error: see [`Report::passed`].
pub fn replay(bytes: &[u8], backend: Backend) -> Result<Report, ConformError> {
    replay_on(bytes, backend, &Device::Cpu)
}

/// [`replay`] on `device`.
///
/// # Errors
/// Those of [`replay`].
pub fn replay_on(bytes: &[u8], backend: Backend, device: &Device) -> Result<Report, ConformError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let spec = Spec::parse(metadata.metadata().as_ref().unwrap_or(&Default::default()))?;
    let tensors = candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?;
    let get = |name: String| tensors.get(&name).ok_or(ConformError::MissingTensor(name));

    let mut params = Vec::with_capacity(spec.params.len());
    for name in &spec.params {
        params.push((name.clone(), Var::from_tensor(&get(format!("init.{name}"))?.to_device(device)?)?));
    }
    let dtype = params.first().map_or(DType::F32, |(_, var)| var.dtype());
    let mut optimizer = spec.config.build_on(params.clone(), backend)?;
    let mut comparison = Comparison { tolerance: Tolerance::of(dtype), compared: 0, worst: None };
    let mut aside = Comparison { tolerance: Tolerance::of(dtype), compared: 0, worst: None };
    let loose: Vec<&str> = params
        .iter()
        .filter(|(_, var)| undetermined(&spec.config, var.dims()))
        .map(|(name, _)| name.as_str())
        .collect();

    let mut step = 0;
    for epoch in 1..=spec.schedule.epochs {
        optimizer.begin_epoch(epoch, spec.schedule.epochs);
        let decay = spec.schedule.lr_decay_per_epoch.powi(i32::try_from(epoch - 1).unwrap_or(i32::MAX));
        optimizer.try_set_learning_rate(spec.config.learning_rate() * decay)?;
        for _ in 0..spec.schedule.steps_per_epoch {
            let mut grads = GradStore::default();
            for (name, var) in &params {
                if let Some(grad) = tensors.get(&format!("grad.{step}.{name}")) {
                    grads.insert(var.as_tensor(), grad.to_device(device)?);
                }
            }
            optimizer.step_report(&grads)?;
            for (name, var) in &params {
                let place = format!("param.{step}.{name}");
                let to = if loose.contains(&name.as_str()) { &mut aside } else { &mut comparison };
                to.tensor(&place, get(place.clone())?, var.as_tensor())?;
            }
            step += 1;
        }
        if let Some(expected) = spec.diagnostics.get(epoch - 1) {
            compare_diagnostics(&mut comparison, epoch, expected, &optimizer.diagnostics());
        }
    }
    compare_state(&mut comparison, optimizer.as_ref(), &tensors)?;
    compare_average(&mut comparison, optimizer.as_mut(), &params, &tensors)?;
    let Comparison { compared, worst, .. } = comparison;
    let undetermined = aside.worst.map(|worst| (loose.iter().map(|name| (*name).to_string()).collect(), worst));
    Ok(Report { optimizer: optimizer.kind(), steps: step, compared, worst, undetermined })
}

/// Whether the reference leaves a parameter of shape `dims` to rounding.
///
/// SOAP does where a dimension is longer than all others together: the first gradient's covariance along it is singular, and which basis of its null space an
/// eigensolver gives is no function of the matrix.
fn undetermined(config: &OptimizerConfig, dims: &[usize]) -> bool {
    let elements: usize = dims.iter().product();
    matches!(config, OptimizerConfig::Soap(_)) && dims.len() > 1 && dims.iter().any(|n| n * n > elements)
}

/// Compares all diagnostics but the median, which the published code only estimates.
///
/// Ours leave out what a configuration does not have; the published code then says 0, or 1 for a multiplier.
fn compare_diagnostics(
    comparison: &mut Comparison,
    epoch: usize,
    expected: &BTreeMap<String, f64>,
    got: &BTreeMap<String, f64>,
) {
    for (name, expected) in expected.iter().filter(|(name, _)| *name != "alpha_median") {
        let neutral = if name.contains("multiplier") { 1.0 } else { 0.0 };
        let got = got.get(name).copied().unwrap_or(neutral);
        comparison.number(|| format!("diagnostics.{epoch}.{name}"), *expected, got);
    }
}

fn compare_state(
    comparison: &mut Comparison,
    optimizer: &dyn AnyOptimizer,
    tensors: &HashMap<String, Tensor>,
) -> Result<(), ConformError> {
    let state = optimizer.state()?;
    for (place, expected) in tensors {
        let Some((kind, name)) = place.strip_prefix("state.").and_then(|rest| rest.split_once('.')) else { continue };
        let ours = format!("{name}.{kind}");
        let got =
            state.tensors.get(&ours).ok_or_else(|| ConformError::MissingTensor(format!("{ours} in our state")))?;
        comparison.tensor(place, expected, got)?;
    }
    Ok(())
}

/// Compares what is evaluated, and whether what is trained comes back to the bit.
fn compare_average(
    comparison: &mut Comparison,
    optimizer: &mut dyn AnyOptimizer,
    params: &[(String, Var)],
    tensors: &HashMap<String, Tensor>,
) -> Result<(), ConformError> {
    let mut trained = Vec::with_capacity(params.len());
    for (_, var) in params {
        trained.push(var.as_tensor().copy()?);
    }
    optimizer.use_weights(Weights::Averaged)?;
    for (name, var) in params {
        let place = format!("eval.{name}");
        if let Some(expected) = tensors.get(&place) {
            comparison.tensor(&place, expected, var.as_tensor())?;
        }
    }
    optimizer.use_weights(Weights::Trained)?;
    for ((name, var), trained) in params.iter().zip(&trained) {
        let differ = trained.ne(var.as_tensor())?.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        // One that does not come back fails, whatever the tolerance.
        let got = if differ > 0.0 { f64::INFINITY } else { 0.0 };
        comparison.number(|| format!("`{name}` after its evaluation"), 0.0, got);
    }
    Ok(())
}
