//! Recorded formulas: evaluated on the host they have the bits of the vectorised loops, and as kernels a text of their own.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::DType;
use common::{gradients, parameters, variants};
use np_core::traced::Outcome;
use np_core::traced::cuda::Storage;
use np_core::{Backend, OptimizerConfig, Options};

/// Parameters and state after twelve steps, every number's bits.
fn bits(config: &OptimizerConfig, options: &str, dtype: DType, backend: Backend) -> Vec<(String, Vec<u64>)> {
    let params = parameters(dtype);
    let options: Options = serde_json::from_str(options).unwrap();
    let mut optimizer = config.build_with(params.clone(), options, backend).unwrap();
    for step in 0..12 {
        if step % 3 == 0 {
            optimizer.begin_epoch(step / 3 + 1, 4);
        }
        optimizer.step_report(&gradients(&params, step as u64)).unwrap();
    }
    let numbers = |t: &candle_core::Tensor| -> Vec<u64> {
        let wide: Vec<f64> = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        wide.into_iter().map(f64::to_bits).collect()
    };
    let state = optimizer.state().unwrap();
    let mut all: Vec<_> = params.iter().map(|(name, var)| (name.clone(), numbers(var.as_tensor()))).collect();
    all.extend(state.tensors.iter().map(|(name, tensor)| (name.clone(), numbers(tensor))));
    all
}

#[test]
fn interpreted_steps_have_the_bits_of_the_loops() {
    let mut compared = 0;
    for (name, config) in variants() {
        // Hybrids ask their base for directions; all others step.
        let hybrid = name.contains("hybrid") || name.contains("Other(");
        if config.trace(Outcome::Step).is_none() && !hybrid {
            continue;
        }
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            for options in ["{}", r#"{"clip": {"value": 0.1}, "groups": [{"match": "*.weight", "weight_decay": 0.3}]}"#]
            {
                let [ours, loops] = [Backend::Interpreted, Backend::Auto].map(|b| bits(&config, options, dtype, b));
                for ((place, ours), (_, loops)) in ours.iter().zip(&loops) {
                    assert_eq!(ours, loops, "{name} in {dtype:?} with {options}: `{place}`");
                }
                compared += 1;
            }
        }
    }
    assert!(compared >= 8 * 30, "only {compared}");
}

#[test]
fn every_elementwise_kind_is_traced() {
    let coupled = ["neuroplastic", "adafactor", "muon", "shampoo", "soap", "kfac", "lbfgs", "lamb", "lars", "prodigy"];
    for config in OptimizerConfig::defaults() {
        let traced = config.trace(Outcome::Step);
        assert_ne!(traced.is_some(), coupled.contains(&config.kind()), "{}", config.kind());
    }
}

/// The text of a kernel, of its first step.
fn kernel(json: &str, storage: Storage) -> String {
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    config.trace(Outcome::Step).unwrap().expression.kernel(storage)
}

/// The texts were read once, line by line, against the formulas in the documentation of the two.
#[test]
fn kernels_of_sgd_and_adamw_are_as_read() {
    let sgd = kernel(r#"{"sgd": {"momentum": 0.9, "weight_decay": 0.1}}"#, Storage::F32);
    assert_eq!(sgd, include_str!("kernels/sgd.cu"), "\n{sgd}");
    let adamw = kernel("\"adamw\"", Storage::F32);
    assert_eq!(adamw, include_str!("kernels/adamw.cu"), "\n{adamw}");
}

/// One compiled kernel serves every step, rate and strength of decay; what is another formula is another kernel.
#[test]
fn a_kernel_is_its_formula() {
    let adamw = kernel("\"adamw\"", Storage::F32);
    for other in [r#"{"lr": 0.3}"#, r#"{"weight_decay": 0}"#, r#"{"beta1": 0.5, "beta2": 0.7, "eps": 0.1}"#] {
        assert_eq!(kernel(&format!("{{\"adamw\": {other}}}"), Storage::F32), adamw, "{other}");
    }
    let others = [
        kernel(r#"{"adamw": {"amsgrad": true}}"#, Storage::F32),
        kernel("\"adamw\"", Storage::F64),
        kernel("\"adamw\"", Storage::Bf16),
        kernel(r#"{"adam": {"weight_decay": 0.1}}"#, Storage::F32),
    ];
    others.iter().for_each(|other| assert_ne!(*other, adamw));
    assert_eq!(kernel("\"adam\"", Storage::F32), adamw);
    for config in OptimizerConfig::defaults() {
        let Some(traced) = config.trace(Outcome::Step) else { continue };
        assert_eq!(traced.arguments.len(), traced.expression.arguments(), "{}", config.kind());
        for storage in Storage::ALL {
            assert!(traced.expression.kernel(storage).contains("np_step("), "{} in {storage:?}", config.kind());
        }
    }
}
