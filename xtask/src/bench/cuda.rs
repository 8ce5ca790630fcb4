//! `cargo xtask bench --device cuda`: times of steps and passes of this project and of PyTorch on a GPU, measured by `.ci/gpu.sh` in one run.
//!
//! On a machine without cargo, run `gpu.sh` alone; `--from` then reads the folder `out` that it writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use np_record::write_atomic;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Options, slug, today};

/// The kept times of a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Measured {
    pub(crate) date: String,
    /// The GPU, as its driver names it.
    pub(crate) device: String,
    pub(crate) driver: String,
    pub(crate) commit: Option<String>,
    pub(crate) torch: Option<String>,
    /// Bandwidth of a copy in GB/s, reads and writes together.
    pub(crate) copy_gb_s: Option<f64>,
    /// A note on how it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// Milliseconds of an optimizer's step, by tensors and optimizer: `resnet18/adamw`.
    pub(crate) steps: BTreeMap<String, Step>,
    /// The same of PyTorch, for each of its implementations: `resnet18/adamw/fused`.
    pub(crate) torch_steps: BTreeMap<String, f64>,
    /// Milliseconds of a forward and backward pass, and with an optimizer's step: `MLP, batch 128, tf32, adamw`.
    pub(crate) passes: BTreeMap<String, f64>,
    /// The same of PyTorch.
    pub(crate) torch_passes: BTreeMap<String, f64>,
}

/// The times of a step of this project's optimizers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Milliseconds until it is done, one after another.
    pub(crate) done_ms: f64,
    /// Milliseconds until the host has queued it.
    pub(crate) queued_ms: f64,
    /// How fast it moves memory, where it is one pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gb_s: Option<f64>,
}

impl Measured {
    /// The time of PyTorch's fastest implementation of a step.
    pub(crate) fn torch_step(&self, name: &str) -> Option<f64> {
        let forms = self.torch_steps.iter().filter(|(key, _)| key.rsplit_once('/').is_some_and(|(of, _)| of == name));
        forms.map(|(_, ms)| *ms).min_by(f64::total_cmp)
    }

    /// PyTorch's time of a pass: with NeuroPlastic's step here, with fused AdamW's there.
    pub(crate) fn torch_pass(&self, name: &str) -> Option<f64> {
        self.torch_passes.get(&name.replace("neuroplastic", "adamw")).copied()
    }

    /// What `gpu.sh` has left in a folder: what is there of it, as far as it came.
    fn read(out: &Path) -> Result<Self> {
        let text = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_default();
        let device = text("device.txt");
        let [device, driver] = match device.split(',').map(str::trim).collect::<Vec<_>>()[..] {
            [device, driver, _] if !device.is_empty() => [device, driver].map(str::to_owned),
            _ => bail!(
                "`{}` names no GPU\nhint: `FOLDER/gpu.sh` leaves `FOLDER/out` where there is one",
                out.join("device.txt").display()
            ),
        };
        let torch: BTreeMap<String, Value> = json(&text("torch.json")).unwrap_or_default();
        let passes: BTreeMap<String, Value> = json(&text("torch-models.json")).unwrap_or_default();
        let ms = |name: &String, value: &Value| Some((name.clone(), value.get("done_ms").unwrap_or(value).as_f64()?));
        let steps = named::<Step>(&text("steps.jsonl"));
        if steps.is_empty() {
            bail!("`{}` has no times\nhint: `out/steps.err` says why", out.join("steps.jsonl").display());
        }
        let commit = text("../commit").trim().to_owned();
        Ok(Self {
            date: today(),
            device,
            driver,
            commit: Some(commit).filter(|commit| !commit.is_empty()),
            torch: torch.get("torch").and_then(Value::as_str).map(str::to_owned),
            copy_gb_s: torch.get("copy_gb_s").and_then(Value::as_f64),
            note: None,
            steps,
            torch_steps: torch
                .iter()
                .filter(|(name, _)| name.contains('/'))
                .filter_map(|(name, v)| ms(name, v))
                .collect(),
            passes: named::<Pass>(&text("speed.jsonl")).into_iter().map(|(name, pass)| (name, pass.done_ms)).collect(),
            torch_passes: passes
                .iter()
                .filter_map(|(name, v)| ms(name, v))
                .filter(|(name, _)| name.contains("batch"))
                .collect(),
        })
    }
}

/// A line of `speed.jsonl`, as far as it is kept.
#[derive(Debug, Deserialize)]
struct Pass {
    done_ms: f64,
}

fn json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// Objects with a `name`, one a line; lines that are of another kind (errors, one that was cut off) are left out.
fn named<T: DeserializeOwned>(text: &str) -> BTreeMap<String, T> {
    let one = |line: &str| {
        let value: Value = json(line)?;
        let name = value.get("name")?.as_str()?.to_owned();
        let fields = ["done_ms", "queued_ms", "gb_s"];
        let kept = fields.into_iter().filter_map(|key| Some((key.to_owned(), value.get(key)?.clone()))).collect();
        Some((name, serde_json::from_value(Value::Object(kept)).ok()?))
    };
    text.lines().filter_map(one).collect()
}

/// Runs the command.
pub(super) fn run(root: &Path, options: &Options) -> Result<()> {
    let out = match &options.from {
        Some(out) => out.clone(),
        None => measure(root)?,
    };
    let measured = Measured { note: options.note.clone(), ..Measured::read(&out)? };
    print(&measured);
    if options.keep {
        let name = format!("{}-{}-cuda.json", measured.date, slug(&measured.device));
        let path = root.join("xtask/bench/results").join(&name);
        write_atomic(&path, (serde_json::to_string_pretty(&measured)? + "\n").as_bytes())?;
        println!("kept in xtask/bench/results/{name}");
    }
    Ok(())
}

/// Builds the programs and runs them here, beside PyTorch; gives the folder with what they said.
fn measure(root: &Path) -> Result<PathBuf> {
    let folder = root.join("target/bench-cuda");
    let run = |program: &Path, words: &[&str]| -> Result<()> {
        let mut command = Command::new(program);
        let status = command.args(words).current_dir(root).status();
        let status = status.with_context(|| format!("cannot start `{}`", program.display()))?;
        if !status.success() {
            let hint = "it wants CUDA's compiler and libraries, a GPU, and a `python3` with PyTorch";
            bail!("`{}` ended with {status}\nhint: {hint}", program.display());
        }
        Ok(())
    };
    run(&root.join(".ci/gpu.sh"), &["pack", &folder.to_string_lossy()])?;
    run(&folder.join("gpu.sh"), &["times"])?;
    Ok(folder.join("out"))
}

fn print(measured: &Measured) {
    let torch =
        measured.torch.as_deref().map_or("no PyTorch".into(), |version| format!("PyTorch {version}, its fastest form"));
    println!("milliseconds, {}, driver {}, {torch}", measured.device, measured.driver);
    println!("{:<52} {:>9} {:>9}  ratio", "step", "ours", "PyTorch");
    let line = |name: &str, ours: f64, theirs: Option<f64>| {
        let beside = theirs.map_or(String::new(), |theirs| format!("{theirs:>9.3}  {:.2}", ours / theirs));
        println!("{name:<52} {ours:>9.3} {beside}");
    };
    measured.steps.iter().for_each(|(name, step)| line(name, step.done_ms, measured.torch_step(name)));
    measured.passes.iter().for_each(|(name, ms)| line(name, *ms, measured.torch_pass(name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines as `gpu` and `gpu_models` print them, one of them cut off, and objects as `gpu.py` prints them.
    #[test]
    fn what_a_gpu_has_left_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let write = |name: &str, text: &str| fs::write(out.join(name), text).unwrap();
        write("../commit", "0123abc\n");
        let refused = Measured::read(&out).unwrap_err().to_string();
        assert!(refused.contains("names no GPU\nhint: "), "{refused}");
        write("device.txt", "NVIDIA H200, 580.95.05, 143771 MiB\n");
        assert!(Measured::read(&out).unwrap_err().to_string().contains("has no times"));
        write(
            "steps.jsonl",
            "{\"queued_ms\":0.054,\"done_ms\":0.114,\"gb_s\":2751.0,\"elements\":11173962,\"steps\":100,\"waits\":false,\"name\":\"resnet18/adamw\"}\n\
             {\"queued_ms\":0.2,\"done_ms\":0.5,\"gb_s\":null,\"elements\":1,\"steps\":100,\"waits\":false,\"name\":\"resnet18/neuroplastic\"}\n\
             {\"error\":\"out of memory\",\"name\":\"resnet18/soap\"}\n{\"queued_ms\":0.1,\"do",
        );
        write(
            "torch.json",
            r#"{"torch": "2.11.0", "copy_gb_s": 4240.0, "resnet18/adamw/fused": {"done_ms": 0.18, "queued_ms": 0.1}, "resnet18/adamw/foreach": {"done_ms": 0.94, "queued_ms": 0.9}}"#,
        );
        write(
            "speed.jsonl",
            "{\"done_ms\":0.2,\"queued_ms\":0.1,\"images_per_s\":640000,\"mib\":3,\"name\":\"MLP, batch 128, tf32, neuroplastic\"}\n",
        );
        write("torch-models.json", r#"{"torch": "2.11.0", "cudnn": 91000, "MLP, batch 128, tf32, adamw": 0.99}"#);
        let measured = Measured::read(&out).unwrap();
        assert_eq!((measured.device.as_str(), measured.driver.as_str()), ("NVIDIA H200", "580.95.05"));
        assert_eq!((measured.commit.as_deref(), measured.copy_gb_s), (Some("0123abc"), Some(4240.0)));
        let adamw = Step { done_ms: 0.114, queued_ms: 0.054, gb_s: Some(2751.0) };
        assert_eq!((measured.steps.len(), measured.steps["resnet18/adamw"]), (2, adamw));
        assert_eq!([measured.torch_step("resnet18/adamw"), measured.torch_step("resnet18/lion")], [Some(0.18), None]);
        let (pass, beside) = measured.passes.first_key_value().unwrap();
        assert_eq!((*beside, measured.torch_pass(pass), measured.torch_passes.len()), (0.2, Some(0.99), 1));
        let kept = serde_json::to_string(&measured).unwrap();
        assert_eq!(serde_json::from_str::<Measured>(&kept).unwrap(), measured);
    }
}
