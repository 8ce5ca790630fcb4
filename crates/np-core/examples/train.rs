//! NeuroPlastic in a plain candle training loop, with only candle and this crate: a small network learns two interleaved spirals.
//!
//! `cargo run -p neuroplastic-core --example train`
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Module, Optimizer, VarBuilder, VarMap, linear, loss, seq};
use np_core::neuroplastic::Coefficient;
use np_core::{NeuroPlastic, NeuroPlasticConfig};

/// `n` points of each of two spirals, and which one each lies on.
fn spirals(n: usize) -> Result<(Tensor, Tensor)> {
    let point = |i: usize| {
        let (turn, class) = ((i / 2) as f32 / n as f32, (i % 2) as u32);
        let angle = 7.0 * turn + class as f32 * std::f32::consts::PI;
        ([turn * angle.cos(), turn * angle.sin()], class)
    };
    let (points, classes): (Vec<_>, Vec<_>) = (0..2 * n).map(point).unzip();
    Ok((Tensor::from_vec(points.concat(), (2 * n, 2), &Device::Cpu)?, Tensor::new(classes, &Device::Cpu)?))
}

fn main() -> Result<()> {
    let (points, classes) = spirals(500)?;
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let model = seq()
        .add(linear(2, 64, vb.pp("fc1"))?)
        .add_fn(Tensor::relu)
        .add(linear(64, 64, vb.pp("fc2"))?)
        .add_fn(Tensor::relu)
        .add(linear(64, 2, vb.pp("head"))?);

    let coefficient = Coefficient { scale: 2.0, warmup_epochs: 2.0, ..Coefficient::default() };
    let config = NeuroPlasticConfig { lr: 0.1, coefficient, ..NeuroPlasticConfig::default() };
    // `all_vars` gives no fixed order; where layer groups matter, give names in model order to `NeuroPlastic::from_named`.
    let mut optimizer = NeuroPlastic::new(variables.all_vars(), config)?;

    let epochs = 10;
    for epoch in 1..=epochs {
        optimizer.begin_epoch(epoch, epochs);
        for _ in 0..100 {
            let loss = loss::cross_entropy(&model.forward(&points)?, &classes)?;
            optimizer.backward_step(&loss)?;
        }
        let logits = model.forward(&points)?;
        let right = logits.argmax(1)?.eq(&classes)?.to_dtype(DType::F32)?.mean_all()?.to_scalar::<f32>()?;
        let seen = optimizer.diagnostics();
        println!("epoch {epoch:2}: accuracy {:.3}, mean α {:.2}", right, seen["alpha_mean"]);
    }
    Ok(())
}
