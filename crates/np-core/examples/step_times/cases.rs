//! What is measured: which optimizers, on how many parameters. Shared by the example and the criterion bench.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use np_core::{AnyOptimizer, OptimizerConfig};

/// Sizes by name, as lists of shapes: one tensor of a million and of eleven million, as PyTorch is measured with, and the MLP of the experiments.
pub fn sizes() -> Vec<(&'static str, Vec<Vec<usize>>)> {
    let mlp = vec![vec![256, 784], vec![256], vec![256, 256], vec![256], vec![10, 256], vec![10]];
    vec![("1M", vec![vec![1_000_000]]), ("11M", vec![vec![11_000_000]]), ("mlp", mlp)]
}

/// A name, a configuration, and whether diagnostics are gathered.
pub fn optimizers() -> Vec<(String, OptimizerConfig, bool)> {
    let mut all: Vec<_> = OptimizerConfig::defaults().into_iter().map(|c| (c.kind().to_string(), c, true)).collect();
    let mut add = |name: &str, json: &str, watch: bool| {
        if let Ok(config) = serde_json::from_str(json) {
            all.push((name.to_string(), config, watch));
        }
    };
    add("sgd_momentum", r#"{"sgd": {"lr": 0.001, "momentum": 0.9}}"#, true);
    add("neuroplastic_unwatched", r#""neuroplastic""#, false);
    add("neuroplastic_bounded", r#"{"neuroplastic": {"formulation": "bounded_residual"}}"#, true);
    add("neuroplastic_orthogonal", r#"{"neuroplastic": {"formulation": "orthogonal_residual"}}"#, true);
    add("neuroplastic_hybrid_adamw", r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "adamw"}}}}"#, true);
    add("neuroplastic_controlled", r#"{"neuroplastic": {"controller": {"mode": "layerwise"}}}"#, true);
    all
}

/// An optimizer over parameters of `shapes`, and gradients for it.
pub fn prepare(
    config: &OptimizerConfig,
    watch: bool,
    shapes: &[Vec<usize>],
) -> np_core::Result<(Box<dyn AnyOptimizer>, GradStore)> {
    let (mut params, mut grads) = (Vec::new(), GradStore::default());
    for (i, shape) in shapes.iter().enumerate() {
        let random = || Tensor::randn(0f32, 1.0, shape.as_slice(), &Device::Cpu);
        let var = Var::from_tensor(&random()?)?;
        grads.insert(var.as_tensor(), (random()? * 0.01)?);
        params.push((format!("p{i}"), var));
    }
    let mut optimizer = config.build(params)?;
    optimizer.watch(watch);
    optimizer.begin_epoch(1, 1);
    Ok((optimizer, grads))
}
