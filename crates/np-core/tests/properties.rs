//! Properties that hold for all tensors: empty, of one element, split among threads; gradients of zero, tiny and huge; every element type.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use common::numbers;
use np_core::OptimizerConfig;
use proptest::prelude::*;

/// Sizes around everything that is cut somewhere: lanes of 32, blocks of 1,024, chunks of 16,384, stretches of four chunks.
fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0usize), Just(1), 2usize..70, 1020usize..1030, Just(16_384), Just(16_385), Just(65_537),]
}

fn scales() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1e-20), Just(1e-3), Just(1.0), Just(30.0)]
}

fn dtypes() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F64), Just(DType::F16), Just(DType::BF16)]
}

fn tensor(n: usize, seed: u64, scale: f64, dtype: DType) -> Tensor {
    let values: Vec<f64> = numbers(n, seed).iter().map(|x| x * scale).collect();
    Tensor::from_vec(values, n, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// θ after three steps from `start`, with the gradients of `seed`.
fn after(json: &str, start: &Tensor, seed: u64, scale: f64, steps: u64) -> Vec<f64> {
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    let var = Var::from_tensor(start).unwrap();
    let mut optimizer = config.build(vec![("w".into(), var.clone())]).unwrap();
    optimizer.begin_epoch(1, 2);
    for step in 0..steps {
        let mut grads = GradStore::default();
        grads.insert(var.as_tensor(), tensor(var.elem_count(), seed + step, scale, var.dtype()));
        optimizer.step_report(&grads).unwrap();
    }
    values(var.as_tensor())
}

/// u of one step: θ starts at 0, η is 1, and nothing stabilises.
fn direction(formulation: &str, g: &Tensor) -> Vec<f64> {
    let json = format!(
        r#"{{"neuroplastic": {{"lr": 1, "formulation": {formulation}, "coefficient": {{"scale": 3}},
             "stabilizer": {{"max_update_norm": null, "rms_gain": null}}}}}}"#
    );
    let config: OptimizerConfig = serde_json::from_str(&json).unwrap();
    let var = Var::from_tensor(&g.zeros_like().unwrap()).unwrap();
    let mut optimizer = config.build(vec![("w".into(), var.clone())]).unwrap();
    let mut grads = GradStore::default();
    grads.insert(var.as_tensor(), g.clone());
    optimizer.step_report(&grads).unwrap();
    values(var.as_tensor()).iter().map(|x| -x).collect()
}

fn norm(xs: &[f64]) -> f64 {
    xs.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Half a unit in the last place of the type, relative: what rounding may add to a property.
fn rounding(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-12,
        DType::F32 => 1e-5,
        DType::F16 => 2e-3,
        _ => 1e-2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hybrid_without_strength_is_its_base(n in sizes(), seed in 1u64..1000, scale in scales(), dtype in dtypes()) {
        let start = tensor(n, seed + 77, 1.0, dtype);
        let free = r#""stabilizer": {"max_update_norm": null, "rms_gain": null}"#;
        for (hybrid, base) in [
            ("adamw", r#"{"adamw": {"lr": 0.01, "weight_decay": 0.1}}"#),
            ("sgd_momentum", r#"{"sgd": {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}}"#),
            ("adam", r#"{"adam": {"lr": 0.01, "weight_decay": 0.1}}"#),
            ("lion", r#"{"lion": {"lr": 0.01, "weight_decay": 0.1}}"#),
        ] {
            let json = format!(
                r#"{{"neuroplastic": {{"lr": 0.01, "weight_decay": 0.1, {free},
                     "formulation": {{"hybrid": {{"base": "{hybrid}", "strength": 0}}}}}}}}"#
            );
            prop_assert_eq!(after(&json, &start, seed, scale, 3), after(base, &start, seed, scale, 3), "{}", hybrid);
        }
    }

    #[test]
    fn a_bounded_residual_keeps_its_bound(n in sizes(), seed in 1u64..1000, scale in scales(), dtype in dtypes()) {
        let g = tensor(n, seed, scale, dtype);
        let ratio = 0.1;
        let u = direction(&format!(r#"{{"bounded_residual": {{"max_ratio": {ratio}}}}}"#), &g);
        let g = values(&g);
        let d: Vec<f64> = u.iter().zip(&g).map(|(u, g)| u - g).collect();
        prop_assert!(norm(&d) <= ratio * norm(&g) + rounding(dtype) * norm(&g) + 1e-30, "{} {}", norm(&d), norm(&g));
    }

    #[test]
    fn an_orthogonal_residual_is_orthogonal(n in sizes(), seed in 1u64..1000, scale in scales(), dtype in dtypes()) {
        for norm_kind in ["raw", "match_gradient"] {
            let g = tensor(n, seed, scale, dtype);
            let formulation = format!(r#"{{"orthogonal_residual": {{"strength": 0.4, "norm": "{norm_kind}"}}}}"#);
            let u = direction(&formulation, &g);
            let g = values(&g);
            let dot: f64 = u.iter().zip(&g).map(|(u, g)| (u - g) * g).sum();
            let d: Vec<f64> = u.iter().zip(&g).map(|(u, g)| u - g).collect();
            // The method divides by Σg² + ε: what is left along g is ε·Σ(q⊙g)/(Σg² + ε), and a matched norm enlarges it with the rest.
            let left = 24.0 * 1e-8;
            let g2 = norm(&g).powi(2);
            if norm_kind == "raw" || g2 > 1.0 {
                prop_assert!(dot.abs() <= rounding(dtype) * g2 + left, "{}: {} for Σg² = {}", norm_kind, dot, g2);
            }
            prop_assert!(norm(&d) <= (0.5 + rounding(dtype)) * norm(&g) + 1e-30);
        }
    }

    #[test]
    fn a_stabilised_update_is_at_most_one_and_a_half_limits(
        n in sizes(), seed in 1u64..1000, scale in prop_oneof![scales(), Just(6e4), Just(1e15)],
        dtype in dtypes(), limit in 0.01f64..2.0,
    ) {
        prop_assume!(scale <= 6e4 || dtype != DType::F16);
        let start = tensor(n, 1, 0.0, dtype);
        for formulation in ["\"direct\"", "\"bounded_residual\"", "\"orthogonal_residual\"", "\"hybrid\""] {
            // A gain that wants to grow as far as it may.
            let json = format!(
                r#"{{"neuroplastic": {{"lr": 1, "formulation": {formulation},
                     "stabilizer": {{"max_update_norm": {limit}, "rms_gain": {{"target": 1000, "rate": 1}}}}}}}}"#
            );
            let step = norm(&after(&json, &start, seed, scale, 1));
            prop_assert!(step <= 1.5 * limit * (1.0 + rounding(dtype)), "{}: {} > {}", formulation, step, 1.5 * limit);
            prop_assert!(step.is_finite());
        }
    }
}
