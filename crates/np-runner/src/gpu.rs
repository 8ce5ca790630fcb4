//! The GPUs of this machine: which there are, what they are, and what is wrong where a run cannot have one.
//!
//! Which ones a process may use, `CUDA_VISIBLE_DEVICES` says; where it is not set, the driver does, or for an `np` that was built without CUDA, `nvidia-smi`.

use std::process::Command;

use np_record::{Gpu, PlannedRun};

#[cfg(any(feature = "cuda", test))]
use crate::error::Error;
use crate::{
    device::Device,
    memory::{Memory, human},
    say::count,
};

/// The variable that says which GPUs a process may use.
pub(crate) const VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// Why a run cannot have a GPU.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// This program knows none.
    #[error("this `np` was built without CUDA, and `train.device` is `cuda`")]
    NotBuilt,
    /// There is none that this process may use.
    #[error("no GPU is in reach: {why}")]
    None {
        /// Who says so.
        why: String,
        /// What would mend it.
        hint: &'static str,
    },
    /// The driver cannot load what the compiler makes.
    #[error("the driver of this machine is of CUDA {driver}, and kernels are compiled by CUDA {compiler}")]
    OldDriver {
        /// The newest that the driver knows.
        driver: String,
        /// What this program has.
        compiler: String,
    },
    /// A GPU has less than is wanted.
    #[error("{}", out_of(*jobs, *wanted, name, *memory))]
    Memory {
        /// The GPU.
        name: String,
        /// What it has, in bytes.
        memory: u64,
        /// What a run wants.
        wanted: Memory,
        /// Runs on it at a time.
        jobs: usize,
    },
    /// A snapshot was made where the bits are others.
    #[error("its snapshot, after epoch {epoch}, is of another GPU ({then}; this is {now}), where the bits are others")]
    Elsewhere {
        /// Completed epochs.
        epoch: usize,
        /// Where it was trained so far.
        then: String,
        /// Where it would go on.
        now: String,
    },
    /// The driver or the compiler refused.
    #[error("{0}")]
    Refused(String),
}

/// A sentence about memory, with what takes the most of it.
fn out_of(jobs: usize, wanted: Memory, name: &str, memory: u64) -> String {
    let who =
        if jobs == 1 { "a run wants".to_owned() } else { format!("each of {} at a time wants", count(jobs, "run")) };
    let (all, has) = (wanted.in_words(), human(memory));
    let fits = wanted.total().saturating_mul(jobs as u64) <= memory;
    let others = if fits { ", of which others have a part" } else { "" };
    format!("{who} {all}, and `{name}` has {has}{others}")
}

impl GpuError {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotBuilt => {
                "build it where CUDA's compiler is, with `cargo run --bin np --features neuroplastic-runner/cuda --` in place of every `cargo np`, which builds it without, or train on the CPU: `--device cpu`"
            }
            Self::None { hint, .. } => return Some(format!("{hint}, or train on the CPU: `--device cpu`")),
            Self::OldDriver { driver, compiler } => {
                return Some(format!(
                    "install a driver of CUDA {compiler} or newer, or an `np` that was built with CUDA {driver} or older"
                ));
            }
            Self::Memory { memory, wanted, jobs, .. } if *jobs > 1 && wanted.total() <= *memory => {
                "fewer runs at a time: `--jobs-per-gpu`"
            }
            Self::Memory { wanted, .. } => wanted.relief(),
            Self::Elsewhere { .. } => "go on where it was begun, or begin it anew with `np run --restart`",
            Self::Refused(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// None in reach, for all that a list says.
    pub(crate) fn none(why: impl Into<String>) -> Self {
        Self::None { why: why.into(), hint: "`nvidia-smi -L` lists those that the driver knows" }
    }
}

/// Whether this program knows GPUs at all.
///
/// # Errors
/// [`GpuError::NotBuilt`].
pub(crate) fn built() -> Result<(), GpuError> {
    if cfg!(feature = "cuda") { Ok(()) } else { Err(GpuError::NotBuilt) }
}

/// Whether a planned run wants a GPU.
pub(crate) fn wants(run: &PlannedRun) -> bool {
    run.config.pointer("/train/device").and_then(serde_json::Value::as_str) == Some(Device::Cuda.key())
}

/// The GPUs that this process may use, each by what a worker has as its `CUDA_VISIBLE_DEVICES`.
///
/// # Errors
/// [`GpuError::None`] where there is none.
pub(crate) fn visible() -> Result<Vec<String>, GpuError> {
    match std::env::var(VISIBLE) {
        Ok(text) => {
            let why = format!("`{VISIBLE}` is `{text}`");
            some(chosen(&text)).ok_or(GpuError::None { why, hint: "name some there, or unset it" })
        }
        Err(_) => some(all()?).ok_or_else(|| GpuError::none("the driver knows none")),
    }
}

fn some(ids: Vec<String>) -> Option<Vec<String>> {
    Some(ids).filter(|ids| !ids.is_empty())
}

/// The GPUs of a `CUDA_VISIBLE_DEVICES`, as CUDA reads it: up to the first that is none.
fn chosen(text: &str) -> Vec<String> {
    let is_one = |id: &&str| {
        let number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
        number || id.starts_with("GPU-") || id.starts_with("MIG-")
    };
    text.split(',').map(str::trim).take_while(is_one).map(str::to_owned).collect()
}

/// All GPUs, as the driver numbers them.
#[cfg(feature = "cuda")]
fn all() -> Result<Vec<String>, GpuError> {
    let count = np_cuda::device::count().map_err(|error| GpuError::none(error.to_string()))?;
    Ok((0..count).map(|number| number.to_string()).collect())
}

#[cfg(not(feature = "cuda"))]
fn all() -> Result<Vec<String>, GpuError> {
    let listed = smi(&["-L"]).map_err(GpuError::none)?;
    Ok(in_list(&listed))
}

/// What `nvidia-smi` prints, or why it prints nothing.
fn smi(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("nvidia-smi").args(arguments).output();
    let output = output.map_err(|error| format!("`nvidia-smi`: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("`nvidia-smi` ended with {}", output.status)),
    }
}

/// The GPUs in the list of `nvidia-smi -L`, each by its identifier; of one that is cut into parts, these.
#[cfg(any(not(feature = "cuda"), test))]
fn in_list(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let mut whole = false;
    for line in text.lines() {
        let Some(id) = line.split("UUID: ").nth(1).and_then(|rest| rest.split(')').next()) else { continue };
        let part = line.trim_start().starts_with("MIG");
        // The parts stand below their GPU, which cannot be used itself then.
        if part && whole {
            ids.pop();
        }
        whole = !part;
        ids.push(id.to_owned());
    }
    ids
}

/// The memory of the smallest GPU that this process may use, with its name; nothing where nobody says.
#[cfg(feature = "cuda")]
pub(crate) fn smallest() -> Option<(String, u64)> {
    let found = np_cuda::device::devices().ok()?.into_iter();
    found.map(|device| (device.name, device.memory)).min_by_key(|(_, bytes)| *bytes)
}

/// As above, of all that `nvidia-smi` names.
#[cfg(not(feature = "cuda"))]
pub(crate) fn smallest() -> Option<(String, u64)> {
    in_table(&smi(&["--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]).ok()?)
}

#[cfg(any(not(feature = "cuda"), test))]
fn in_table(text: &str) -> Option<(String, u64)> {
    let row = |line: &str| {
        let (name, mebibytes) = line.rsplit_once(',')?;
        Some((name.trim().to_owned(), mebibytes.trim().parse::<u64>().ok()?.checked_mul(1 << 20)?))
    };
    text.lines().filter_map(row).min_by_key(|(_, bytes)| *bytes)
}

/// Whether so many runs at a time, the largest of which wants so much, fit each GPU; where that is not known, they may.
///
/// # Errors
/// [`GpuError::Memory`].
pub(crate) fn fits(wanted: Memory, jobs: usize, smallest: Option<(String, u64)>) -> Result<(), GpuError> {
    match smallest {
        Some((name, memory)) if wanted.total().saturating_mul(jobs as u64) > memory => {
            Err(GpuError::Memory { name, memory, wanted, jobs })
        }
        _ => Ok(()),
    }
}

/// What a training on a GPU has ended with: of a lack of memory, what takes it.
#[cfg(any(feature = "cuda", test))]
pub(crate) fn explained(error: Error, wanted: Option<Memory>, device: Option<(String, u64)>) -> Error {
    // What CUDA calls it, whoever passes it on.
    let lacks_memory = error.to_string().contains("OUT_OF_MEMORY");
    match (wanted, device) {
        (Some(wanted), Some((name, memory))) if lacks_memory => {
            GpuError::Memory { name, memory, wanted, jobs: 1 }.into()
        }
        _ => error,
    }
}

/// The GPU that this process computes on, the first of those that it may use.
///
/// # Errors
/// [`GpuError`].
#[cfg(feature = "cuda")]
pub(crate) fn open() -> Result<Gpu, GpuError> {
    let refused = |error: np_cuda::Error| GpuError::Refused(error.to_string());
    visible()?;
    let (driver, compiler) =
        (np_cuda::device::driver_version().map_err(refused)?, np_cuda::device::compiler_version().map_err(refused)?);
    new_enough(driver, compiler)?;
    let found = np_cuda::device::devices().map_err(|error| GpuError::none(error.to_string()))?;
    let found = found.into_iter().next().ok_or_else(|| GpuError::none("the driver knows none"))?;
    let cudnn = np_cuda::device::cudnn_version().map(|part| part.to_string()).join(".");
    Ok(Gpu { name: found.name, driver: driver_text(), cuda: dotted(compiler), cudnn: Some(cudnn) })
}

/// As it is without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub(crate) fn open() -> Result<Gpu, GpuError> {
    Err(GpuError::NotBuilt)
}

/// Whether a driver of one CUDA loads what the compiler of another makes.
#[cfg(any(feature = "cuda", test))]
fn new_enough(driver: (i32, i32), compiler: (i32, i32)) -> Result<(), GpuError> {
    match driver >= compiler {
        true => Ok(()),
        false => Err(GpuError::OldDriver { driver: dotted(driver), compiler: dotted(compiler) }),
    }
}

#[cfg(any(feature = "cuda", test))]
fn dotted((major, minor): (i32, i32)) -> String {
    format!("{major}.{minor}")
}

/// The driver's version, where the system says.
#[cfg(feature = "cuda")]
fn driver_text() -> Option<String> {
    let said = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let asked =
        || smi(&["--query-gpu=driver_version", "--format=csv,noheader"]).ok()?.lines().next().map(str::to_owned);
    said.as_deref().and_then(in_note).or_else(asked)
}

/// The version in the driver's note about itself.
#[cfg(any(feature = "cuda", test))]
fn in_note(text: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_read_as_cuda_reads_it() {
        // CUDA's Programming Guide, "CUDA Environment Variables": those before the first that is none are seen.
        for (text, ids) in [
            ("0", &["0"][..]),
            ("2, 0", &["2", "0"]),
            ("GPU-8932f937-d72c,MIG-1a", &["GPU-8932f937-d72c", "MIG-1a"]),
            ("1,-1,0", &["1"]),
            ("", &[]),
            ("-1", &[]),
            ("NoDevFiles", &[]),
        ] {
            assert_eq!(chosen(text), ids, "{text}");
        }
    }

    #[test]
    fn a_list_gives_gpus_or_their_parts() {
        let text = "GPU 0: NVIDIA H200 (UUID: GPU-aa)\nGPU 1: NVIDIA H200 (UUID: GPU-bb)\n  MIG 1g.18gb     Device  0: (UUID: MIG-b0)\n  MIG 1g.18gb     Device  1: (UUID: MIG-b1)\nGPU 2: NVIDIA H200 (UUID: GPU-cc)\n";
        assert_eq!(in_list(text), ["GPU-aa", "MIG-b0", "MIG-b1", "GPU-cc"]);
        assert!(in_list("No devices were found\n").is_empty());
    }

    #[test]
    fn versions_and_sizes_are_found() {
        let note = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (root@x)  Tue Sep 23\nGCC version: 12.3.0\n";
        assert_eq!(in_note(note).unwrap(), "580.95.05");
        assert_eq!(
            in_note("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6\n").unwrap(),
            "535.54.03"
        );
        assert_eq!(in_note(""), None);
        let table = "NVIDIA H200, 143771\nNVIDIA H100 80GB HBM3, 81559\n";
        assert_eq!(in_table(table), Some(("NVIDIA H100 80GB HBM3".to_owned(), 81_559 << 20)));
        assert_eq!(in_table("[N/A]\n"), None);
    }

    #[test]
    fn a_driver_is_as_new_as_the_compiler() {
        new_enough((13, 0), (13, 0)).unwrap();
        new_enough((13, 1), (12, 9)).unwrap();
        let told = new_enough((12, 8), (13, 0)).unwrap_err();
        assert_eq!(
            told.to_string(),
            "the driver of this machine is of CUDA 12.8, and kernels are compiled by CUDA 13.0"
        );
        let hint = "install a driver of CUDA 13.0 or newer, or an `np` that was built with CUDA 12.8 or older";
        assert_eq!(told.hint().unwrap(), hint);
        assert!(new_enough((12, 9), (12, 10)).is_err(), "not as texts");
    }

    #[test]
    fn what_takes_the_memory_is_said() {
        let wanted =
            Memory { parameters: 44_000_000, gradients: 44_000_000, optimizer: 88_000_000, activations: 0, data: 0 };
        let on = |memory| Some(("NVIDIA H200".to_owned(), memory));
        fits(wanted, 2, on(352_000_000)).unwrap();
        fits(wanted, 2, None).unwrap();
        let told = |wanted, jobs, memory| Error::from(fits(wanted, jobs, on(memory)).unwrap_err()).told();
        assert_eq!(
            told(wanted, 1, 100_000_000),
            "a run wants about 176 MB (parameters 44 MB, gradients 44 MB, optimizer state 88 MB, no activations of a batch, no data), and \
             `NVIDIA H200` has 100 MB\n  hint: another optimizer, or a smaller model"
        );
        assert!(told(wanted, 2, 200_000_000).ends_with("\n  hint: fewer runs at a time: `--jobs-per-gpu`"));
        let batch = Memory { activations: 1 << 30, ..wanted };
        assert!(
            told(batch, 2, 200_000_000).ends_with("\n  hint: a smaller `train.batch_size` and `train.eval_batch_size`")
        );
    }

    #[test]
    fn a_lack_of_memory_is_told_from_other_errors() {
        let wanted = Memory { parameters: 44_000_000, gradients: 44_000_000, optimizer: 8, activations: 0, data: 0 };
        let told = |text: &str| {
            let error = explained(Error::Tensor(text.into()), Some(wanted), Some(("NVIDIA H200".into(), 1 << 40)));
            error.told()
        };
        let lack = told("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")");
        assert!(lack.starts_with("a run wants about 88 MB (parameters 44 MB, "), "{lack}");
        assert!(
            lack.ends_with("`NVIDIA H200` has 1.1 TB, of which others have a part\n  hint: a smaller model"),
            "{lack}"
        );
        assert_eq!(told("CUDA_ERROR_LAUNCH_FAILED"), "CUDA_ERROR_LAUNCH_FAILED");
    }

    #[test]
    fn a_program_without_cuda_says_how_to_get_one_with_it() {
        let (told, hint) = (GpuError::NotBuilt.to_string(), GpuError::NotBuilt.hint().unwrap());
        assert!(
            told.contains("built without CUDA")
                && hint.contains("--features neuroplastic-runner/cuda --` in place of every `cargo np`"),
            "{told}: {hint}"
        );
    }
}
