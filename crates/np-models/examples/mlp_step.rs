//! Milliseconds for one forward and backward pass of the protocol's MLP (784-256-256-10, dropout 0.1, batch 128): candle's own
//! operations against this crate's, on one and on two threads, as the median and the best of 75 rounds. No optimizer step.
//!
//! Each is measured with the default settings and with tuned ones, because both are slow with the defaults. Tuned means
//! `CANDLE_NUM_THREADS=1` (the threads of candle's own pool busy-wait for a while after each large element-wise operation,
//! on the cores that `gemm` needs next) and an allocator that keeps freed memory (see `keep_freed_memory`).
//!
//! Run with `cargo run -p neuroplastic-models --example mlp_step`; it takes half a minute. With `rates ROUNDS` it prints this crate's images per
//! second with tuned settings, as a JSON list; `mlp_step.py` prints PyTorch's, and `cargo xtask bench --models` compares them.
#![allow(clippy::print_stdout)] // a measurement's output

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use np_models::{Initializer, Mlp, MlpConfig, Mode, Model, cross_entropy};

const BATCH: usize = 128;
const STEPS: u64 = 10;
const ROUNDS: usize = 75;

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("defaults") => return measure("defaults"),
        Some("tuned") => {
            keep_freed_memory();
            return measure("tuned");
        }
        Some("rates") => {
            keep_freed_memory();
            return rates(std::env::args().nth(2).as_deref().unwrap_or("30").parse()?);
        }
        _ => {}
    }
    // The sizes of the thread pools are fixed at their first use, and so is what the allocator has learnt: a process for each.
    for threads in ["1", "2"] {
        for setting in ["defaults", "tuned"] {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(setting).env("RAYON_NUM_THREADS", threads);
            if setting == "tuned" {
                command.env("CANDLE_NUM_THREADS", "1");
            }
            let status = command.status()?;
            anyhow::ensure!(status.success(), "the measurement of {setting} on {threads} threads failed");
        }
    }
    Ok(())
}

/// Keeps glibc from returning the gradients' memory to the system after every step, to fault it in again in the next.
///
/// glibc raises its thresholds (to map a block on its own, and to trim the heap at twice that) to the size of the largest mapped
/// block freed so far, up to 32 MiB: freeing one of that size once, never touched, is enough. Elsewhere it does nothing.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity((32 << 20) - (16 << 10))));
}

fn rates(rounds: usize) -> Result<()> {
    let device = Device::Cpu;
    let model = Mlp::new(784, 10, &MlpConfig::default(), 41, &device)?;
    let x = Initializer::new(1).uniform((BATCH, 784), 1.0, DType::F32, &device)?;
    let labels = Tensor::from_vec((0..BATCH as u32).map(|i| i % 10).collect(), BATCH, &device)?;
    let step = |step| -> Result<()> {
        let logits = model.forward(&x, Mode::Train { step })?;
        cross_entropy(&logits, &labels)?.backward()?;
        Ok(())
    };
    milliseconds(step)?;
    let rates = (0..rounds).map(|_| Ok(BATCH as f64 * 1e3 / milliseconds(step)?)).collect::<Result<Vec<f64>>>()?;
    println!("{}", serde_json::to_string(&rates)?);
    Ok(())
}

fn measure(setting: &str) -> Result<()> {
    let device = Device::Cpu;
    let config = MlpConfig::default();
    let model = Mlp::new(784, 10, &config, 41, &device)?;
    let parameters: Vec<Var> = model.parameters().into_iter().map(|(_, parameter)| parameter).collect();
    let x = Initializer::new(1).uniform((BATCH, 784), 1.0, DType::F32, &device)?;
    let labels = Tensor::from_vec((0..BATCH as u32).map(|i| i % 10).collect(), BATCH, &device)?;

    let ours = |step| -> Result<()> {
        let logits = model.forward(&x, Mode::Train { step })?;
        cross_entropy(&logits, &labels)?.backward()?;
        Ok(())
    };
    let candle = |_| -> Result<()> {
        let mut h = x.clone();
        for (layer, wb) in parameters.chunks_exact(2).enumerate() {
            h = h.matmul(&wb[0].t()?)?.broadcast_add(&wb[1])?;
            if layer < config.hidden.len() {
                h = candle_nn::ops::dropout(&h.relu()?, config.dropout as f32)?;
            }
        }
        candle_nn::loss::cross_entropy(&h, &labels)?.backward()?;
        Ok(())
    };

    // In turns, so that a slow moment of the machine meets both.
    let (mut theirs, mut mine) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(milliseconds(candle)?);
        mine.push(milliseconds(ours)?);
    }
    let threads = rayon::current_num_threads();
    for (name, times) in [("candle", &mut theirs), ("np-models", &mut mine)] {
        times.sort_by(f64::total_cmp);
        println!("{threads} threads, {setting}, {name}: median {:.2} ms, best {:.2} ms", times[ROUNDS / 2], times[0]);
    }
    Ok(())
}

fn milliseconds(step: impl Fn(u64) -> Result<()>) -> Result<f64> {
    step(0)?;
    let start = Instant::now();
    for i in 0..STEPS {
        step(i)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e3 / STEPS as f64)
}
