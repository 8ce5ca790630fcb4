//! A run in the middle: all that it needs to go on after a completed epoch as if it had never stopped, as a file.
//!
//! Everything random is a function of seed and position, so parameters, buffers, the optimizer's state, the position and the metrics so far
//! are all. A file is a line with the digest of the rest, and a safetensors file: tensors of the model by name, the optimizer's own
//! file as bytes, and the progress as JSON in the metadata. When and where they are written is for [`crate::keeper`].

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use candle_core::{Device, Tensor, Var};
use np_core::{AnyOptimizer, OptimizerState};
use np_record::{Epoch, Gpu, Phases};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    gpu::GpuError,
    task::Trainable,
};

/// Version of the file's layout. One of another version is no snapshot.
const VERSION: u32 = 1;

const MAGIC: &str = "np-snapshot";

/// Longest header of a safetensors file that is read: what the format allows.
const LONGEST_HEADER: u64 = 100_000_000;

/// Name of the entry that holds the optimizer's state; no parameter has a slash in its name.
const OPTIMIZER: &str = "optimizer/state";

/// A run after a completed epoch.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) progress: Progress,
    /// Parameters and buffers, by name.
    pub(crate) model: BTreeMap<String, Tensor>,
    pub(crate) optimizer: OptimizerState,
}

/// Where a run stands, and what it has shown so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Progress {
    /// Id of the run.
    pub(crate) id: String,
    /// Optimizer steps taken.
    pub(crate) steps: usize,
    /// Metrics of every completed epoch.
    pub(crate) epochs: Vec<Epoch>,
    /// Wall time of each.
    pub(crate) timing: Vec<Phases>,
    /// See [`np_record::Provenance::arithmetic`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) arithmetic: Vec<String>,
    /// The GPU that it was trained on, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gpu: Option<Gpu>,
}

impl Progress {
    /// Refuses to go on where the bits are others: on another kind of GPU.
    pub(crate) fn goes_on(&self, here: Option<&Gpu>) -> Result<(), GpuError> {
        match (&self.gpu, here) {
            (Some(then), Some(now)) if !then.computes_like(now) => {
                let (then, now) = (then.to_string(), now.to_string());
                Err(GpuError::Elsewhere { epoch: self.epochs.len(), then, now })
            }
            _ => Ok(()),
        }
    }
}

/// A training after a completed epoch, to take a [`Snapshot`] of.
pub struct State<'a> {
    pub(crate) model: &'a dyn Trainable,
    pub(crate) optimizer: &'a dyn AnyOptimizer,
    pub(crate) steps: usize,
    pub(crate) epochs: &'a [Epoch],
    pub(crate) timing: &'a [Phases],
}

impl std::fmt::Debug for State<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} after step {}", self.model.title(), self.steps)
    }
}

impl State<'_> {
    /// Copies all of it, as a snapshot of run `id`.
    ///
    /// # Errors
    /// Those of candle and of the optimizer.
    pub fn snapshot(&self, id: &str) -> Result<Snapshot> {
        let tensor = |(name, var): (String, Var)| Ok((name, var.to_device(&Device::Cpu)?.copy()?));
        let progress = Progress {
            id: id.to_owned(),
            steps: self.steps,
            epochs: self.epochs.to_vec(),
            timing: self.timing.to_vec(),
            arithmetic: Vec::new(),
            gpu: None,
        };
        let model = variables(self.model).into_iter().map(tensor).collect::<Result<_>>()?;
        Ok(Snapshot { progress, model, optimizer: self.optimizer.state()? })
    }
}

fn variables(model: &dyn Trainable) -> Vec<(String, Var)> {
    [model.parameters(), model.buffers()].concat()
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::Snapshot(what.to_string())
}

impl Snapshot {
    /// Completed epochs.
    #[must_use]
    pub fn epochs(&self) -> usize {
        self.progress.epochs.len()
    }

    /// Gives a model and its optimizer the state of this snapshot.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if it is one of another model or optimizer; some of the model may have changed then.
    pub fn restore(&self, model: &dyn Trainable, optimizer: &mut dyn AnyOptimizer) -> Result<()> {
        let variables = variables(model);
        if variables.len() != self.model.len() {
            return Err(bad(format!("expected {} tensors of the model, got {}", variables.len(), self.model.len())));
        }
        for (name, var) in variables {
            let tensor = self.model.get(&name).ok_or_else(|| bad(format!("`{name}` is missing")))?;
            let (expected, got) = ((var.dims(), var.dtype()), (tensor.dims(), tensor.dtype()));
            if expected != got {
                return Err(bad(format!("`{name}`: expected {expected:?}, got {got:?}")));
            }
            var.set(&tensor.to_device(var.device())?)?;
        }
        optimizer.load_state(&self.optimizer).map_err(bad)
    }

    /// The snapshot as a file.
    ///
    /// # Errors
    /// Those of the optimizer's own format; [`Error::Snapshot`].
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let state = self.optimizer.to_safetensors()?;
        let length = state.len();
        let state = Tensor::from_vec(state, length, &Device::Cpu)?;
        let progress = serde_json::to_string(&self.progress).map_err(bad)?;
        let metadata = HashMap::from([("progress".to_owned(), progress)]);
        let views = self.model.iter().map(|(name, tensor)| (name.as_str(), tensor)).chain([(OPTIMIZER, &state)]);
        let rest = safetensors::serialize(views, Some(metadata)).map_err(bad)?;
        let mut bytes = header(&rest).into_bytes();
        bytes.extend(rest);
        Ok(bytes)
    }

    /// Completed epochs of run `id` in the file at `path`, from its beginning alone: its digest is not checked.
    pub(crate) fn peek(path: &Path, id: &str) -> Option<Vec<Epoch>> {
        // A pipe would be waited for.
        std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let mut file = BufReader::new(File::open(path).ok()?);
        let mut first = Vec::new();
        // A damaged file may have no end of a line at all.
        file.by_ref().take(200).read_until(b'\n', &mut first).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(LONGEST_HEADER)).read_to_end(&mut header).ok()?;
        let progress = progress(&header).ok()?;
        (first.starts_with(MAGIC.as_bytes()) && progress.id == id).then_some(progress.epochs)
    }

    /// The snapshot of run `id` in a file.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if the file is cut short, changed, or one of another run or version.
    pub fn from_bytes(bytes: &[u8], id: &str) -> Result<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| bad("it has no first line"))?;
        let (head, rest) = bytes.split_at(end + 1);
        if header(rest).as_bytes() != head {
            return Err(bad("its digest is not that of its content"));
        }
        let (_, metadata) = SafeTensors::read_metadata(rest).map_err(bad)?;
        let progress = metadata.metadata().as_ref().and_then(|map| map.get("progress"));
        let progress: Progress = serde_json::from_str(progress.map_or("", String::as_str)).map_err(bad)?;
        if progress.id != id {
            return Err(bad(format!("it is of run `{}`", progress.id)));
        }
        let tensors = candle_core::safetensors::load_buffer(rest, &Device::Cpu)?;
        let mut model: BTreeMap<String, Tensor> = tensors.into_iter().collect();
        let state = model.remove(OPTIMIZER).ok_or_else(|| bad("it has no optimizer"))?.to_vec1::<u8>()?;
        let optimizer = OptimizerState::from_safetensors(&state).map_err(bad)?;
        Ok(Self { progress, model, optimizer })
    }
}

fn progress(header: &[u8]) -> Result<Progress> {
    let metadata: serde_json::Value = serde_json::from_slice(header).map_err(bad)?;
    let text = metadata.pointer("/__metadata__/progress").and_then(serde_json::Value::as_str);
    serde_json::from_str(text.unwrap_or_default()).map_err(bad)
}

fn header(rest: &[u8]) -> String {
    format!("{MAGIC} {VERSION} {}\n", np_record::hex(&Sha256::digest(rest)))
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use np_core::{AdamWConfig, Backend, OptimizerConfig, Options};
    use np_models::{Mlp, MlpConfig};

    use super::*;

    fn parts(seed: u64) -> (Mlp, Box<dyn AnyOptimizer>) {
        let config = MlpConfig { hidden: vec![3], ..MlpConfig::default() };
        let model = Mlp::new(4, 2, &config, seed, &Device::Cpu).unwrap();
        let optimizer = OptimizerConfig::AdamW(AdamWConfig::default());
        let optimizer = optimizer.build_with(model.parameters(), Options::default(), Backend::Auto).unwrap();
        (model, optimizer)
    }

    fn values(model: &Mlp) -> Vec<Vec<f32>> {
        let flat = |var: Var| var.flatten_all().unwrap().to_vec1().unwrap();
        model.parameters().into_iter().map(|(_, var)| flat(var)).collect()
    }

    fn taken() -> (Mlp, Snapshot) {
        let (model, mut optimizer) = parts(1);
        let x = Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap();
        let loss =
            np_models::Model::forward(&model, &x, np_models::Mode::Eval).unwrap().sqr().unwrap().sum_all().unwrap();
        optimizer.step_report(&loss.backward().unwrap()).unwrap();
        let state = State { model: &model, optimizer: optimizer.as_ref(), steps: 7, epochs: &[], timing: &[] };
        let snapshot = state.snapshot("id").unwrap();
        (model, snapshot)
    }

    #[test]
    fn what_is_written_is_read_and_restored() {
        let (model, snapshot) = taken();
        let bytes = snapshot.to_bytes().unwrap();
        (0..10).for_each(|_| assert!(snapshot.to_bytes().unwrap() == bytes, "the same state, the same bytes"));
        let read = Snapshot::from_bytes(&bytes, "id").unwrap();
        assert_eq!(read.progress, snapshot.progress);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), snapshot.to_bytes().unwrap()).unwrap();
        assert_eq!((Snapshot::peek(file.path(), "id"), Snapshot::peek(file.path(), "other")), (Some(Vec::new()), None));
        std::fs::write(file.path(), &snapshot.to_bytes().unwrap()[..300]).unwrap();
        assert_eq!(Snapshot::peek(file.path(), "id"), None, "cut short");
        let (other, mut optimizer) = parts(2);
        assert_ne!(values(&other), values(&model));
        read.restore(&other, optimizer.as_mut()).unwrap();
        assert_eq!(values(&other), values(&model));
        assert_eq!(optimizer.state().unwrap().numbers["step"], "1");
    }

    #[test]
    fn a_damaged_file_is_never_read() {
        let bytes = taken().1.to_bytes().unwrap();
        let refused = |bytes: &[u8], id: &str| match Snapshot::from_bytes(bytes, id) {
            Err(Error::Snapshot(why)) => why,
            other => panic!("{other:?}"),
        };
        for length in (0..bytes.len()).step_by(61) {
            refused(&bytes[..length], "id");
        }
        for at in (0..bytes.len()).step_by(53) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            refused(&changed, "id");
        }
        assert_eq!(refused(&bytes, "other"), "it is of run `id`");
    }

    #[test]
    fn a_snapshot_of_another_kind_of_gpu_is_refused() {
        let gpu = |name: &str, driver: &str, cudnn: &str| Gpu {
            name: name.into(),
            driver: Some(driver.into()),
            cuda: "13.0".into(),
            cudnn: Some(cudnn.into()),
        };
        let mut snapshot = taken().1;
        snapshot.progress.gpu = Some(gpu("NVIDIA H200", "580.95.05", "9.13.0"));
        let read = Snapshot::from_bytes(&snapshot.to_bytes().unwrap(), "id").unwrap();
        assert_eq!(read.progress, snapshot.progress, "it says which it was");
        let on = |gpu: Gpu| read.progress.goes_on(Some(&gpu)).map_err(|error| Error::from(error).told());
        assert_eq!(on(gpu("NVIDIA H200", "580.95.05", "9.13.0")), Ok(()));
        assert_eq!(on(gpu("NVIDIA H200", "590.10", "9.13.0")), Ok(()), "a driver decides no bits");
        let refused = on(gpu("NVIDIA H100 80GB HBM3", "580.95.05", "9.13.0")).unwrap_err();
        let said = "its snapshot, after epoch 0, is of another GPU (NVIDIA H200, driver 580.95.05, CUDA 13.0, cuDNN 9.13.0; this is NVIDIA H100";
        assert!(refused.starts_with(said) && refused.contains("hint: go on where it was begun, or "), "{refused}");
        on(gpu("NVIDIA H200", "580.95.05", "9.14.0")).unwrap_err();
        // Runs of the CPU name none.
        taken().1.progress.goes_on(None).unwrap();
        assert!(!String::from_utf8_lossy(&taken().1.to_bytes().unwrap()).contains("gpu"));
    }

    #[test]
    fn a_snapshot_of_another_model_is_refused() {
        let (_, snapshot) = taken();
        let model = Mlp::new(4, 2, &MlpConfig { hidden: vec![5], ..MlpConfig::default() }, 1, &Device::Cpu).unwrap();
        let (_, mut optimizer) = parts(1);
        let error = snapshot.restore(&model, optimizer.as_mut()).unwrap_err();
        assert!(error.to_string().contains("`fc1.weight`: expected ([5, 4], F32), got ([3, 4], F32)"), "{error}");
    }
}
