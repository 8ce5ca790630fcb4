//! Images per second for a forward and a backward pass of ResNet-18 on 32 × 32 images, at width 64 with batches of 32 and at width
//! 16 with batches of 128, as one JSON object. No optimizer step.
//!
//! If `NP_PYTHON` is the path of a Python with PyTorch, `resnet_step.py` measures the same alternately with this crate, and the
//! object has its numbers and the ratios too. Each measurement is a process of its own, with two passes to warm up.
//!
//! Both use `RAYON_NUM_THREADS` threads, by default all. As in `mlp_step`, candle's own pool has one thread, and freed memory is not
//! returned to the system.
//!
//! Run with `cargo run -p neuroplastic-models --example resnet_step`; it takes a minute.
#![allow(clippy::print_stdout)] // a measurement's output

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use candle_core::{DType, Device, Tensor};
use np_models::{Initializer, Mode, Model, ResNet18, ResNet18Config, cross_entropy};
use serde_json::{Map, Value, json};

/// Width, batch and passes a turn.
const SETTINGS: [[usize; 3]; 2] = [[64, 32, 5], [16, 128, 10]];
const TURNS: usize = 3;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/resnet_step.py");

fn main() -> Result<()> {
    let arguments = std::env::args().skip(1).map(|argument| argument.parse()).collect::<Result<Vec<usize>, _>>()?;
    if let &[width, batch, passes] = &arguments[..] {
        println!("{}", Value::from(measure(width, batch, passes)?));
        return Ok(());
    }
    let python = std::env::var_os("NP_PYTHON");
    let mut report = Map::from_iter([("threads".to_owned(), json!(rayon::current_num_threads()))]);
    for setting in SETTINGS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let mut command = Command::new(std::env::current_exe()?);
            command.env("CANDLE_NUM_THREADS", "1");
            ours.extend(turn(command, setting)?);
            if let Some(python) = &python {
                let mut command = Command::new(python);
                command.arg(SCRIPT).env("OMP_NUM_THREADS", rayon::current_num_threads().to_string());
                theirs.extend(turn(command, setting)?);
            }
        }
        let [width, batch, _] = setting;
        let mut row = Map::new();
        for (name, rates) in [("np-models", &mut ours), ("pytorch", &mut theirs)] {
            rates.sort_by(f64::total_cmp);
            if let Some(best) = rates.last() {
                row.insert(name.into(), json!({"median": rates[rates.len() / 2], "best": best}));
            }
        }
        if !theirs.is_empty() {
            row.insert("ratio of medians".into(), json!(ours[ours.len() / 2] / theirs[theirs.len() / 2]));
        }
        report.insert(format!("resnet18 width {width} batch {batch}, images per second"), row.into());
    }
    println!("{}", serde_json::to_string_pretty(&Value::from(report))?);
    Ok(())
}

/// The rates that a process prints as a JSON list.
fn turn(mut command: Command, setting: [usize; 3]) -> Result<Vec<f64>> {
    let output = command.args(setting.map(|number| number.to_string())).output()?;
    anyhow::ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("a measurement is no list of numbers")
}

/// Images per second of each pass.
fn measure(width: usize, batch: usize, passes: usize) -> Result<Vec<f64>> {
    // See `mlp_step`: glibc then keeps the gradients' memory.
    drop(std::hint::black_box(Vec::<u8>::with_capacity((32 << 20) - (16 << 10))));
    let device = Device::Cpu;
    let model = ResNet18::new(3, 10, &ResNet18Config { width }, 41, &device)?;
    let x = Initializer::new(1).normal((batch, 3, 32, 32), 1.0, DType::F32, &device)?;
    let labels = Tensor::from_vec((0..batch as u32).map(|i| i % 10).collect(), batch, &device)?;
    let mut rates = Vec::with_capacity(passes);
    for pass in 0..passes + 2 {
        let start = Instant::now();
        let logits = model.forward(&x, Mode::Train { step: pass as u64 })?;
        cross_entropy(&logits, &labels)?.backward()?;
        if pass >= 2 {
            rates.push(batch as f64 / start.elapsed().as_secs_f64());
        }
    }
    Ok(rates)
}
