//! Images per second of whole training steps of the protocol's MLP (784-256-256-10, dropout 0.1, batch 128): forward and backward pass, and a step
//! of NeuroPlastic with diagnostics, as a JSON list, one number a round of ten steps. Argument: rounds.
//!
//! `np-models/examples/mlp_step.py ROUNDS adamw` is PyTorch's with its fused AdamW, and `cargo xtask bench --models` holds the two against each other.
#![allow(clippy::print_stdout)] // a measurement's output

use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use np_core::{NeuroPlastic, NeuroPlasticConfig};
use np_models::{Initializer, Mlp, MlpConfig, Mode, Model, cross_entropy};

const BATCH: usize = 128;
const STEPS: u64 = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // As `np` trains: memory that is freed stays with the process (glibc raises its threshold to the largest block freed so far).
    drop(std::hint::black_box(Vec::<u8>::with_capacity((32 << 20) - (16 << 10))));
    let rounds: usize = std::env::args().nth(1).as_deref().unwrap_or("30").parse()?;
    let device = Device::Cpu;
    let model = Mlp::new(784, 10, &MlpConfig::default(), 41, &device)?;
    let mut optimizer = NeuroPlastic::from_named(model.parameters(), NeuroPlasticConfig::default())?;
    optimizer.begin_epoch(1, 10);
    let x = Initializer::new(1).uniform((BATCH, 784), 1.0, DType::F32, &device)?;
    let labels = Tensor::from_vec((0..BATCH as u32).map(|i| i % 10).collect(), BATCH, &device)?;
    let mut rates = Vec::with_capacity(rounds);
    for round in 0..rounds + 2 {
        let start = Instant::now();
        for step in 0..STEPS {
            let logits = model.forward(&x, Mode::Train { step })?;
            optimizer.step_report(&cross_entropy(&logits, &labels)?.backward()?)?;
        }
        if round >= 2 {
            rates.push((BATCH as u64 * STEPS) as f64 / start.elapsed().as_secs_f64());
        }
    }
    println!("{}", serde_json::to_string(&rates)?);
    Ok(())
}
