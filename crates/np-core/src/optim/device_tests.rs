//! Rules of whole parameters by the operations that they take on a device, on the CPU's tensors: golden trajectories, and the host's.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_engine::host;

use crate::{AnyOptimizer, Backend, OptimizerConfig};

/// As on a device, or in the host's memory.
fn with<T>(as_on_a_device: bool, f: impl FnOnce() -> T) -> T {
    if as_on_a_device { host::as_on_a_device(f) } else { f() }
}

#[cfg(feature = "conform")]
#[test]
fn golden_files_hold_on_a_device() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut seen = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["adafactor", "muon", "shampoo", "soap"].iter().any(|kind| name.starts_with(kind)) {
            let bytes = std::fs::read(&path).unwrap();
            let report = with(true, || crate::conform::replay(&bytes, Backend::Tensors)).unwrap();
            assert!(report.passed(), "{name}: {}", report.worst.unwrap());
            seen.push(report.optimizer);
        }
    }
    for kind in ["adafactor", "muon", "shampoo", "soap"] {
        assert!(seen.contains(&kind), "no file of {kind}");
    }
}

fn tensor(shape: &[usize], seed: usize, dtype: DType) -> Tensor {
    let n = shape.iter().product();
    // Not in even steps: a matrix of those is singular, and its eigenvectors rounding's.
    let numbers: Vec<f64> =
        (0..n).map(|i| ((i * i * i * 7919 + i * 331 + seed * 104_729) % 2003) as f64 / 1000.0 - 1.0).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

/// Matrices wide and tall, two of one shape, a convolution, vectors, an empty one.
const SHAPES: [&[usize]; 7] = [&[6, 20], &[20, 6], &[6, 20], &[4, 3, 3, 3], &[7], &[1], &[0, 3]];

fn trained(json: &str, shapes: &[&[usize]], dtype: DType) -> Vec<f64> {
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    let var =
        |(i, shape): (usize, &&[usize])| (format!("p{i}.weight"), Var::from_tensor(&tensor(shape, i, dtype)).unwrap());
    let params: Vec<(String, Var)> = shapes.iter().enumerate().map(var).collect();
    let options =
        serde_json::from_str(r#"{"groups": [{"match": "p2*", "weight_decay": 0.3, "lr_scale": 0.5}]}"#).unwrap();
    let mut optimizer: Box<dyn AnyOptimizer> = config.build_with(params.clone(), options, Backend::Tensors).unwrap();
    for step in 0..6 {
        let mut grads = GradStore::default();
        for (i, (_, var)) in params.iter().enumerate() {
            grads.insert(var.as_tensor(), tensor(var.dims(), 10 * step + i + 3, dtype));
        }
        let _ = optimizer.step_report(&grads).unwrap();
    }
    let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    params.iter().flat_map(|(_, var)| numbers(var.as_tensor())).collect()
}

fn agree(json: &str, shapes: &[&[usize]]) {
    // Six steps; an error in a formula shows in the third digit.
    for (dtype, allowed) in [(DType::F64, 1e-9), (DType::F32, 1e-3)] {
        let run = |as_on_a_device| with(as_on_a_device, || trained(json, shapes, dtype));
        let (ours, host) = (run(true), run(false));
        let worst = ours.iter().zip(&host).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
        assert!(ours.len() == host.len() && worst < allowed, "{json} in {dtype:?}: {worst:e}");
    }
}

#[test]
fn a_device_computes_what_the_host_does() {
    for json in [
        r#""adafactor""#,
        r#"{"adafactor": {"weight_decay": 0.1, "clip_threshold": 1.5}}"#,
        r#"{"muon": {"lr": 0.02}}"#,
        r#"{"muon": {"lr": 0.02, "precision": "full", "nesterov": false, "scale": "match_rms_adamw"}}"#,
        r#"{"muon": {"lr": 0.02, "momentum": 0.3}}"#,
        r#"{"shampoo": {"lr": 0.01, "eps": 0.01, "update_every": 2, "momentum": 0.9, "weight_decay": 0.1}}"#,
    ] {
        agree(json, &SHAPES);
    }
}

/// Where a dimension is longer than all others together, rounding decides a part of the basis; it is not here.
#[test]
fn a_device_turns_as_the_host_does() {
    agree(r#"{"soap": {"lr": 0.01, "update_every": 2}}"#, &[&[6, 6], &[3, 2, 4], &[7]]);
}
