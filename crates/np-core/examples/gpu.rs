//! Checks and times of optimizers on a CUDA device, run by `.ci/gpu.sh`. Needs the features `conform` and `cuda`.
//!
//! ```text
//! gpu conform FOLDER   replays every golden file below FOLDER on the device; prints a line for each file
//! gpu steps            times steps at the sizes of ResNet-18 and of the experiments' MLP; prints a JSON object on each line
//! ```
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use np_core::conform::{ConformError, replay_on};
use np_core::{AnyOptimizer, Backend, OptimizerConfig, Options};
use serde_json::{Value, json};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Steps that are queued at once.
const STEPS: u32 = 100;

fn main() -> Outcome<()> {
    let device = Device::new_cuda(0)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["conform", folder] => conform(Path::new(folder), &device),
        ["steps"] => steps(&device),
        _ => Err("usage: gpu conform FOLDER | gpu steps".into()),
    }
}

/// The files below `folder`, however deep.
fn files(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// As launches, replayed and one by one, and as tensor operations; a file of an optimizer that is not here is passed over.
fn conform(folder: &Path, device: &Device) -> Outcome<()> {
    let (mut passed, mut failed) = (0, 0);
    for path in files(folder)? {
        for backend in [Backend::Auto, Backend::OneByOne, Backend::Tensors] {
            let name = path.file_stem().unwrap_or_default().display();
            let (word, said) = match replay_on(&std::fs::read(&path)?, backend, device) {
                Err(ConformError::UnknownOptimizer(_)) => continue,
                Ok(report) if report.passed() => ("ok", report.worst.map_or(String::new(), |worst| worst.to_string())),
                Ok(report) => ("FAILED", report.worst.map_or(String::new(), |worst| worst.to_string())),
                Err(e) => ("FAILED", e.to_string()),
            };
            *(if word == "ok" { &mut passed } else { &mut failed }) += 1;
            println!("{word} {backend:?} {name}: {said}");
        }
    }
    println!("conformance on CUDA: {passed} replays passed, {failed} failed");
    Ok(())
}

/// ResNet-18 for images of 32 by 32: convolutions and batch norms, and its classifier.
fn resnet() -> Vec<Vec<usize>> {
    let mut all = Vec::new();
    let mut layer =
        |out: usize, from: usize, side: usize| all.extend([vec![out, from, side, side], vec![out], vec![out]]);
    layer(64, 3, 3);
    let mut from = 64;
    for out in [64, 128, 256, 512] {
        for block in 0..2 {
            layer(out, from, 3);
            layer(out, out, 3);
            if block == 0 && out != from {
                layer(out, from, 1);
            }
            from = out;
        }
    }
    all.extend([vec![10, 512], vec![10]]);
    all
}

fn mlp() -> Vec<Vec<usize>> {
    [784, 256, 256, 10].windows(2).flat_map(|w| [vec![w[1], w[0]], vec![w[1]]]).collect()
}

/// Name, settings, options, whether diagnostics are gathered, and, where a step is one pass, bytes that it moves for a parameter.
type Case = (&'static str, &'static str, &'static str, bool, Option<usize>);

/// Those that may take long come last. K-FAC is not among them: it wants records of layers.
const CASES: [Case; 17] = [
    ("adamw", r#""adamw""#, "{}", false, Some(28)),
    ("adamw, clipped by norm", r#""adamw""#, r#"{"clip": {"norm": 1.0}}"#, false, Some(32)),
    ("sgd_momentum", r#"{"sgd": {"lr": 0.001, "momentum": 0.9}}"#, "{}", false, Some(20)),
    ("lion", r#""lion""#, "{}", false, Some(20)),
    ("radam", r#""radam""#, "{}", false, Some(28)),
    ("neuroplastic", r#""neuroplastic""#, "{}", false, None),
    ("neuroplastic, diagnostics", r#""neuroplastic""#, "{}", true, None),
    ("neuroplastic, controlled", r#"{"neuroplastic": {"controller": {"mode": "global"}}}"#, "{}", true, None),
    ("hybrid of adamw", r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "adamw"}}}}"#, "{}", true, None),
    ("hybrid of lion", r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "lion"}}}}"#, "{}", true, None),
    ("lamb", r#""lamb""#, "{}", false, None),
    ("lars", r#""lars""#, "{}", false, None),
    ("prodigy", r#""prodigy""#, "{}", false, None),
    ("adafactor", r#""adafactor""#, "{}", false, None),
    ("muon", r#""muon""#, "{}", false, None),
    ("shampoo", r#""shampoo""#, "{}", false, None),
    ("soap", r#""soap""#, "{}", false, None),
];

/// Steps that take longer than this, in milliseconds, are timed once.
const LONG: f64 = 200.0;

fn steps(device: &Device) -> Outcome<()> {
    let load = Load::new(device)?;
    let sizes = [("resnet18", resnet()), ("mlp", mlp())];
    let (quick, slow) = CASES.split_at(13);
    for cases in [quick, slow] {
        for (size, shapes) in &sizes {
            for case in cases {
                let mut found = time(case, shapes, device, &load).unwrap_or_else(|e| json!({"error": e.to_string()}));
                found["name"] = format!("{size}/{}", case.0).into();
                println!("{found}");
            }
        }
    }
    Ok(())
}

/// Work that keeps a device busy for a known time: copies from one tensor to another, which allocate nothing.
struct Load {
    from: Tensor,
    to: Var,
    /// Milliseconds that a copy takes.
    each: f64,
}

impl Load {
    /// Numbers that are copied at once: 512 MB.
    const NUMBERS: usize = 128 << 20;

    fn new(device: &Device) -> Outcome<Self> {
        let from = Tensor::zeros(Self::NUMBERS, candle_core::DType::F32, device)?;
        let mut load = Self { to: Var::from_tensor(&from)?, from, each: 0.0 };
        load.queue(3)?;
        device.synchronize()?;
        let begin = Instant::now();
        load.queue(20)?;
        device.synchronize()?;
        load.each = begin.elapsed().as_secs_f64() * 1e3 / 20.0;
        Ok(load)
    }

    fn queue(&self, copies: usize) -> Outcome<()> {
        (0..copies).try_for_each(|_| Ok(self.to.set(&self.from)?))
    }

    /// How many copies take about so many milliseconds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some dozens
    fn copies(&self, milliseconds: f64) -> usize {
        (milliseconds / self.each).ceil() as usize
    }
}

/// Milliseconds a step until some are queued, and until they are done.
fn time(
    (_, config, options, diagnostics, bytes): &Case,
    shapes: &[Vec<usize>],
    device: &Device,
    load: &Load,
) -> Outcome<Value> {
    let (mut params, mut grads) = (Vec::new(), GradStore::default());
    for (i, shape) in shapes.iter().enumerate() {
        let var = Var::from_tensor(&Tensor::randn(0f32, 1.0, shape.as_slice(), device)?)?;
        grads.insert(var.as_tensor(), Tensor::randn(0f32, 0.01, shape.as_slice(), device)?);
        params.push((format!("layer{i}.weight"), var));
    }
    let elements: usize = params.iter().map(|(_, var)| var.elem_count()).sum();
    let config: OptimizerConfig = serde_json::from_str(config)?;
    let options: Options = serde_json::from_str(options)?;
    let mut optimizer = config.build_with(params, options, Backend::Auto)?;
    optimizer.collect_diagnostics(*diagnostics);
    optimizer.begin_epoch(1, 1);
    // Milliseconds until so many steps are queued behind so many copies, and until all is done.
    let run = |optimizer: &mut dyn AnyOptimizer, steps: u32, copies: usize| -> Outcome<[f64; 2]> {
        device.synchronize()?;
        let begin = Instant::now();
        load.queue(copies)?;
        for _ in 0..steps {
            optimizer.step_report(&grads)?;
        }
        let queued = begin.elapsed();
        device.synchronize()?;
        Ok([queued, begin.elapsed()].map(|time| time.as_secs_f64() * 1e3))
    };
    // The first compiles kernels, and says nothing of what a step takes.
    run(optimizer.as_mut(), 1, 0)?;
    let once = run(optimizer.as_mut(), 1, 0)?;
    // What takes long is timed less often.
    let (steps, rounds) = match once[1] {
        ms if ms > LONG => (1, 0),
        ms if ms > 5.0 => (5, 2),
        _ => (STEPS, 3),
    };
    let mut best = once;
    for round in 0..rounds {
        let found = run(optimizer.as_mut(), steps, 0)?.map(|ms| ms / f64::from(steps));
        best = if round == 0 || found[1] < best[1] { found } else { best };
    }
    // Behind copies that keep the device busy for long, a step that waits for the device is queued no sooner than they are done. What the host itself takes is the same without.
    // A device takes some hundred copies and launches before it lets the host wait for that alone.
    let copies = load.copies((30.0 + best[1]).min(150.0));
    let (alone, behind) = (run(optimizer.as_mut(), 1, 0)?[0], run(optimizer.as_mut(), 1, copies)?[0]);
    let waits = behind - alone > 15.0;
    let rate = bytes.map(|bytes| (bytes * elements) as f64 / (best[1] * 1e-3) / 1e9);
    Ok(
        json!({"queued_ms": best[0], "done_ms": best[1], "gb_s": rate, "elements": elements, "steps": steps, "waits": waits}),
    )
}
