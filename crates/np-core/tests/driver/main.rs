//! What the driver does for every optimizer, beside the contract: candle's trait, saved state, averages, accumulation, groups, rates, rounding.
#![allow(clippy::unwrap_used)]

mod candle;
#[path = "../common/mod.rs"]
mod common;
mod decay;
mod flush;
mod groups;
mod large;
mod rates;
mod registry;
mod reports;
mod rounding;
mod saved;
mod settings;
mod weights;

use candle_core::{Device, Tensor, Var};
use np_core::{Backend, OptimizerConfig, Options};

/// A configuration as a file would have it.
fn config(json: &str) -> OptimizerConfig {
    serde_json::from_str(json).unwrap()
}

fn options(json: &str) -> Options {
    serde_json::from_str(json).unwrap()
}

/// A parameter of double precision.
fn var(values: &[f64]) -> Var {
    Var::new(values, &Device::Cpu).unwrap()
}

fn numbers(var: &Var) -> Vec<f64> {
    var.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Gradients for parameters, each of the same number throughout.
fn constant(each: &[(&Var, f64)]) -> candle_core::backprop::GradStore {
    let mut grads = candle_core::backprop::GradStore::default();
    for (var, x) in each {
        let full = (var.zeros_like().unwrap() + *x).unwrap();
        grads.insert(var.as_tensor(), full);
    }
    grads
}

/// Σ cᵢ (wᵢ − 1)², c = 1, 2, …
fn bowl(w: &Var) -> Tensor {
    let n = w.elem_count();
    let c = Tensor::arange(1.0, n as f64 + 1.0, &Device::Cpu).unwrap().to_dtype(w.dtype()).unwrap();
    let w = w.as_tensor().flatten_all().unwrap();
    ((w - 1.0).unwrap().sqr().unwrap() * c).unwrap().sum_all().unwrap()
}

const BACKENDS: [Backend; 2] = [Backend::Auto, Backend::Tensors];
