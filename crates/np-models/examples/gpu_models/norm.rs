//! The kernels of a batch norm with a residual and ReLU, forward and backward, against the layer in double precision.

use candle_core::{DType, Device, Tensor, Var};
use np_cuda::Libraries;
use np_cuda::machine::Machine;
use np_models::cuda::program::texts::{self, Kernel, Stored, THREADS, TILE, form};
use np_models::layers::{Activation, BatchNorm2d, relu};
use np_models::{Initializer, Mode};
use serde_json::{Value, json};

use super::{Outcome, address, distance, normal, values};

/// Rows of a chunk.
const CHUNK: usize = 100;

pub(super) fn check(engine: &mut Libraries, device: &Device, stored: Stored, limit: f64) -> Outcome<Value> {
    let (images, channels, side) = (16, 192, 9);
    let dtype = if stored == Stored::Bf16 { DType::BF16 } else { DType::F32 };
    // What both sides take is rounded first.
    let make = |seed| -> Outcome<Tensor> {
        Ok(normal(&[images, channels, side, side], seed)?.to_dtype(dtype)?.to_dtype(DType::F64)?)
    };
    let (x, residual, dy) = (Var::from_tensor(&make(1)?)?, Var::from_tensor(&make(2)?)?, make(3)?);
    let layer = BatchNorm2d::new(channels, DType::F64, &Device::Cpu)?;
    for (var, seed) in [(layer.weight(), 4), (layer.bias(), 5)] {
        let change = Initializer::new(seed).uniform(channels, 0.5, DType::F32, &Device::Cpu)?;
        var.set(&(var.as_tensor() + change.to_dtype(DType::F64)?)?.to_dtype(DType::F32)?.to_dtype(DType::F64)?)?;
    }
    let on = |t: &Tensor| -> Outcome<Tensor> { Ok(t.to_dtype(DType::F32)?.to_device(device)?) };
    let (gamma, beta) = (on(layer.weight())?, on(layer.bias())?);
    let running = [Tensor::zeros(channels, DType::F32, device)?, Tensor::ones(channels, DType::F32, device)?];
    let y = relu(&(layer.forward(&x, Mode::Train { step: 0 }, Activation::Identity)? + residual.as_tensor())?)?;
    let gradients = (&y * &dy)?.sum_all()?.backward()?;
    let gradient = |var: &Var| gradients.get(var).cloned().ok_or("no gradient");

    let last = |t: &Tensor| -> Outcome<Tensor> {
        Ok(t.detach().permute((0, 2, 3, 1))?.contiguous()?.to_dtype(dtype)?.to_device(device)?)
    };
    let (x_on, residual_on, dy_on) = (last(&x)?, last(&residual)?, last(&dy)?);
    let [y_on, dz_on, dx_on] = [x_on.zeros_like()?, x_on.zeros_like()?, x_on.zeros_like()?];
    let (rows, vector) = (images * side * side, stored.vector(channels));
    let (chunks, tiles) = (rows.div_ceil(CHUNK), channels.div_ceil(TILE));
    let block = texts::rows_of_block(channels, vector);
    let numbers = |count: usize| Tensor::zeros(count, DType::F32, device);
    let (partial, moments, coefficients) =
        (numbers(2 * chunks * channels)?, numbers(3 * channels)?, numbers(2 * channels)?);
    let (dgamma, dbeta) = (numbers(channels)?, numbers(channels)?);

    let sizes = [rows, channels, CHUNK].map(|n| n as u64);
    let mut launch = |kernel: Kernel, blocks: usize, tensors: &[&Tensor], more: &[u64]| -> Outcome<()> {
        let mut words = tensors.iter().map(|t| address(engine, t)).collect::<Outcome<Vec<u64>>>()?;
        words.extend(more);
        Ok(engine.launch(&kernel.text, kernel.name, blocks, THREADS, &words)?)
    };
    let (each, block) = (rows.div_ceil(block) * tiles, block as u64);
    launch(texts::norm_stats(stored, vector), chunks * tiles, &[&x_on, &partial], &sizes)?;
    let mut more = sizes.to_vec();
    more.extend([BatchNorm2d::EPSILON.to_bits(), BatchNorm2d::MOMENTUM.to_bits()]);
    let operands = [&partial, &gamma, &running[0], &running[1], &moments];
    launch(texts::norm_merge(), channels.div_ceil(8), &operands, &more)?;
    let operands = [&x_on, &moments, &beta, &residual_on, &y_on];
    launch(texts::norm_apply(stored, vector), each, &operands, &[sizes[0], sizes[1], block, 1, 1])?;
    let form = form::RELU | form::FROM_Y | form::WRITE;
    let operands = [&x_on, &moments, &beta, &dy_on, &dy_on, &y_on, &dz_on, &partial];
    launch(texts::norm_back_sums(stored, vector, form), chunks * tiles, &operands, &sizes)?;
    let operands = [&partial, &moments, &dgamma, &dbeta, &coefficients];
    launch(texts::norm_back_merge(), channels.div_ceil(8), &operands, &sizes)?;
    let operands = [&x_on, &moments, &beta, &coefficients, &dz_on, &dx_on];
    launch(texts::norm_back_data(stored, vector), each, &operands, &[sizes[0], sizes[1], block, 0])?;

    let first = |t: &Tensor| -> Outcome<Vec<f64>> { values(&t.permute((0, 3, 1, 2))?.contiguous()?) };
    let far = [
        ("forward", distance(&first(&y_on)?, &values(&y)?)),
        ("data", distance(&first(&dx_on)?, &values(&gradient(&x)?)?)),
        ("residual", distance(&first(&dz_on)?, &values(&gradient(&residual)?)?)),
        ("gamma", distance(&values(&dgamma)?, &values(&gradient(layer.weight())?)?)),
        ("beta", distance(&values(&dbeta)?, &values(&gradient(layer.bias())?)?)),
        ("running mean", distance(&values(&running[0])?, &values(layer.running_mean())?)),
        ("running variance", distance(&values(&running[1])?, &values(layer.running_var())?)),
    ];
    let mut found = json!({ "limit": limit, "ok": far.iter().all(|(_, x)| *x <= limit) });
    for (what, x) in far {
        found[what] = json!(x);
    }
    Ok(found)
}
