//! Numbers at the ends of what a type holds, and beyond: what a step makes of them, and what it leaves alone.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use common::{gradients, parameters, tensor, values, variants};
use np_core::{AnyOptimizer, Backend, Kfac, KfacConfig, LayerRecord, OptimizerConfig, Options, StepOutcome};

fn config(json: &str) -> OptimizerConfig {
    serde_json::from_str(json).unwrap()
}

fn options(json: &str) -> Options {
    serde_json::from_str(json).unwrap()
}

fn kind_of(x: f64) -> &'static str {
    match x {
        x if x.is_nan() => "nan",
        f64::INFINITY => "inf",
        f64::NEG_INFINITY => "-inf",
        _ => "finite",
    }
}

fn state_of(optimizer: &dyn AnyOptimizer) -> Vec<(String, Vec<f64>)> {
    let state = optimizer.state().unwrap();
    let numbers = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    state.tensors.iter().map(|(name, t)| (name.clone(), numbers(t))).collect()
}

/// All parameters, state included, as bits.
fn bits(optimizer: &dyn AnyOptimizer, params: &[(String, Var)]) -> Vec<u64> {
    let state = state_of(optimizer).into_iter().flat_map(|(_, x)| x);
    values(params).into_iter().flatten().chain(state).map(f64::to_bits).collect()
}

fn spoiled(params: &[(String, Var)], step: u64, which: usize, number: f64) -> GradStore {
    let mut grads = gradients(params, step);
    let var = &params[which].1;
    let mut numbers = common::numbers(var.elem_count(), 77);
    numbers[1] = number;
    let bad = Tensor::from_vec(numbers, var.dims(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
    grads.insert(var.as_tensor(), bad);
    grads
}

/// What is in a gradient arrives at the same numbers whatever computes the step.
#[test]
fn what_is_not_finite_has_the_same_outcome_on_both_backends() {
    for (name, config) in variants() {
        for dtype in [DType::F32, DType::F64] {
            for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let run = |backend| {
                    let params = parameters(dtype);
                    let mut optimizer = config.build_on(params.clone(), backend).unwrap();
                    let mut outcomes = vec![];
                    for step in 0..5 {
                        optimizer.begin_epoch(step as usize + 1, 5);
                        let grads = if step == 2 { spoiled(&params, 2, 0, number) } else { gradients(&params, step) };
                        outcomes.push(optimizer.step_report(&grads).map(|r| r.updated).map_err(|e| e.to_string()));
                    }
                    let kinds = |x: Vec<f64>| x.into_iter().map(kind_of).collect::<Vec<_>>();
                    let state: Vec<_> = state_of(optimizer.as_ref()).into_iter().map(|(n, x)| (n, kinds(x))).collect();
                    (outcomes, values(&params).into_iter().map(kinds).collect::<Vec<_>>(), state)
                };
                let (ours, theirs) = (run(Backend::Auto), run(Backend::Tensors));
                assert_eq!(ours.0, theirs.0, "{name} in {dtype:?} with {number}");
                for (i, (x, y)) in ours.1.iter().zip(&theirs.1).enumerate() {
                    assert_eq!(x, y, "{name} in {dtype:?} with {number}: parameter {i}");
                }
                for (x, y) in ours.2.iter().zip(&theirs.2) {
                    assert_eq!(x, y, "{name} in {dtype:?} with {number}");
                }
                let lost = number.is_nan() && ours.0[2].is_ok() && ours.1[0].iter().all(|k| *k == "finite");
                assert!(!lost, "{name} in {dtype:?}: {number} is lost");
            }
        }
    }
}

/// A square of 10²⁰ is 10⁴⁰, and single precision ends at 3.4 · 10³⁸.
#[test]
fn squares_that_overflow_are_refused_before_anything_changes() {
    for (name, config) in variants() {
        for backend in [Backend::Auto, Backend::Tensors] {
            for policy in ["propagate", "error", "skip"] {
                let params = parameters(DType::F32);
                let with = options(&format!(r#"{{"non_finite": "{policy}"}}"#));
                let mut optimizer = config.build_with(params.clone(), with, backend).unwrap();
                optimizer.begin_epoch(1, 2);
                let _ = optimizer.step_report(&gradients(&params, 0)).unwrap();
                let before = bits(optimizer.as_ref(), &params);
                // The last of the parameters but one: those before it must not have moved.
                let outcome = optimizer.step_report(&spoiled(&params, 1, 5, 1e20));
                let here = format!("{name} by {backend:?}, {policy}");
                let whatever = ["shampoo", "soap", "adafactor", "kfac"].contains(&config.kind());
                let squares = whatever
                    || [
                        "adam",
                        "adamw",
                        "nadam",
                        "radam",
                        "adagrad",
                        "adadelta",
                        "rmsprop",
                        "adabelief",
                        "yogi",
                        "qhadam",
                        "adan",
                        "schedule_free_adamw",
                        "lamb",
                        "prodigy",
                        "neuroplastic",
                    ]
                    .contains(&config.kind());
                match outcome {
                    Err(e) => {
                        assert!(policy != "skip" && squares && (whatever || policy == "error"), "{here}: {e}");
                        assert!(e.to_string().starts_with("gradient of `head.weight`: expected "), "{here}: {e}");
                    }
                    Ok(report) if report.outcome == StepOutcome::Skipped => {
                        assert!(squares && policy == "skip", "{here}");
                        assert_eq!(optimizer.skipped_steps(), 1, "{here}");
                    }
                    Ok(_) => {
                        assert!(!whatever && (!squares || policy == "propagate"), "{here}");
                        // Its means are of all elements: the training diverges, which the loss shows.
                        if config.kind() == "neuroplastic" {
                            continue;
                        }
                        // What was taken may be large, or the state infinite for good; the parameters are numbers still.
                        for step in 1..6 {
                            assert!(values(&params).iter().flatten().all(|x| x.is_finite()), "{here}");
                            let _ = optimizer.step_report(&gradients(&params, step)).unwrap();
                        }
                        continue;
                    }
                }
                assert_eq!(bits(optimizer.as_ref(), &params), before, "{here}");
                // And it goes on as if nothing had been.
                let _ = optimizer.step_report(&gradients(&params, 1)).unwrap();
                assert!(values(&params).iter().flatten().all(|x| x.is_finite()), "{here}");
            }
        }
    }
}

#[test]
fn a_parameter_without_elements_is_left_alone_and_the_others_move() {
    for (name, config) in variants() {
        for backend in [Backend::Auto, Backend::Tensors] {
            for dtype in [DType::F32, DType::F64, DType::F16] {
                for shape in [&[3, 0][..], &[0, 3], &[2, 0, 3, 3], &[0]] {
                    let run = |empty: bool| {
                        let mut params =
                            vec![("a.weight".to_string(), Var::from_tensor(&tensor(&[4, 3], 1, dtype)).unwrap())];
                        if empty {
                            params.push(("no.weight".into(), Var::zeros(shape, dtype, &Device::Cpu).unwrap()));
                        }
                        params.push(("b".into(), Var::from_tensor(&tensor(&[5], 2, dtype)).unwrap()));
                        let with = options(r#"{"clip": {"norm": 1.0}, "accumulate": 2}"#);
                        let mut optimizer = config.build_with(params.clone(), with, backend).unwrap();
                        optimizer.begin_epoch(1, 2);
                        let before = values(&params);
                        for step in [0, 0, 2, 2, 3, 3] {
                            let mut grads = GradStore::default();
                            for (i, (_, var)) in params.iter().enumerate() {
                                let seed = 10 * step + if i == 0 { 1 } else { 2 };
                                grads.insert(var.as_tensor(), tensor(var.dims(), seed, dtype));
                            }
                            let _ = optimizer.step_report(&grads).unwrap();
                        }
                        let bytes = optimizer.state().unwrap().to_safetensors().unwrap();
                        optimizer.load_state(&np_core::OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
                        let after = values(&params);
                        // Half precision may round a small step away.
                        if dtype == DType::F16 {
                            return [after[0].clone(), after.last().unwrap().clone()];
                        }
                        assert_ne!(after[0], before[0], "{name}");
                        assert_ne!(after.last(), before.last(), "{name}");
                        [after[0].clone(), after.last().unwrap().clone()]
                    };
                    let (with, without) = (run(true), run(false));
                    // Layers' places go by the number of tensors.
                    if config.kind() != "neuroplastic" {
                        assert_eq!(with, without, "{name} by {backend:?} in {dtype:?}, {shape:?}");
                    }
                }
            }
        }
    }
}

/// SGD with rate 1 on gradients (3s, 4s), clipped to norm 1: θ moves by (0.6, 0.8).
#[test]
fn norms_out_of_range_clip_as_others_do() {
    let sgd = config(r#"{"sgd": {"lr": 1.0}}"#);
    for (dtype, s) in [
        (DType::F64, 1e200),
        (DType::F64, 4e307),
        (DType::F64, 1e170),
        (DType::F32, 1e30),
        (DType::F32, 6e37),
        (DType::BF16, 1e30),
        (DType::F32, 1.0),
    ] {
        let w = Var::zeros(2, dtype, &Device::Cpu).unwrap();
        let with = options(r#"{"clip": {"norm": 1.0}, "non_finite": "error"}"#);
        let mut optimizer = sgd.build_with(vec![("w".into(), w.clone())], with, Backend::Auto).unwrap();
        let mut grads = GradStore::default();
        let g = Tensor::new(&[3.0 * s, 4.0 * s], &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        grads.insert(w.as_tensor(), g);
        let report = optimizer.step_report(&grads).unwrap();
        let moved = values(&[("w".into(), w)]);
        // 10⁻² is what bf16 leaves of 0.6, and 10⁻⁶ what stands under the division.
        let allowed = if dtype == DType::BF16 { 1e-2 } else { 1e-6 };
        for (x, expected) in moved[0].iter().zip([-0.6, -0.8]) {
            assert!((x - expected).abs() < allowed, "{dtype:?} {s:e}: {moved:?}");
        }
        let norm = report.gradient_norm.unwrap();
        assert!((norm / (5.0 * s) - 1.0).abs() < 1e-2 || norm.is_infinite(), "{dtype:?} {s:e}: {norm:e}");
    }
    // Too small for squares: not clipped, and still seen.
    let w = Var::zeros(2, DType::F64, &Device::Cpu).unwrap();
    let with = options(r#"{"clip": {"norm": 1.0}}"#);
    let mut optimizer = sgd.build_with(vec![("w".into(), w.clone())], with, Backend::Auto).unwrap();
    let mut grads = GradStore::default();
    grads.insert(w.as_tensor(), Tensor::new(&[3e-200, 4e-200], &Device::Cpu).unwrap());
    let norm = optimizer.step_report(&grads).unwrap().gradient_norm.unwrap();
    assert!((norm / 5e-200 - 1.0).abs() < 1e-12, "{norm:e}");
}

/// LARS' and LAMB's steps do not depend on the scale of gradients or weights: η r u with r = κ‖θ‖/‖g‖ is κ‖θ‖ g/‖g‖.
#[test]
fn layers_are_scaled_to_norms_that_are_out_of_range() {
    for (dtype, big, backend) in [
        (DType::F32, 1e30, Backend::Auto),
        (DType::F32, 1e-30, Backend::Auto),
        (DType::F64, 1e200, Backend::Auto),
        (DType::F64, 1e-200, Backend::Auto),
        (DType::F32, 1e30, Backend::Tensors),
        (DType::F64, 1e-200, Backend::Tensors),
    ] {
        let lars = config(r#"{"lars": {"lr": 1.0, "trust": 0.1, "momentum": 0}}"#);
        let step = |s: f64| {
            let w = Var::ones((40, 3), dtype, &Device::Cpu).unwrap();
            let mut optimizer = lars.build_on(vec![("w".into(), w.clone())], backend).unwrap();
            let mut grads = GradStore::default();
            let g = (tensor(&[40, 3], 9, DType::F64) * s).unwrap();
            grads.insert(w.as_tensor(), g.to_dtype(dtype).unwrap());
            let _ = optimizer.step_report(&grads).unwrap();
            values(&[("w".into(), w)])
        };
        let (one, scaled) = (step(1.0), step(big));
        for (x, y) in one[0].iter().zip(&scaled[0]) {
            assert!((x - y).abs() < 1e-6, "{dtype:?} {big:e} by {backend:?}: {x} against {y}");
        }
    }
}

/// Σu² of 64 numbers of 10¹⁸ is 6.4 · 10³⁷; of 2,000 it is beyond single precision, and the norm, 4.5 · 10¹⁹, is not.
#[test]
fn neuroplastics_clip_holds_where_squares_sum_out_of_range() {
    for n in [64, 2000] {
        let w = Var::zeros(n, DType::F32, &Device::Cpu).unwrap();
        let plastic = config(r#"{"neuroplastic": {"lr": 1.0, "stabilizer": {"rms_gain": null}}}"#);
        let mut optimizer = plastic.build(vec![("w".into(), w.clone())]).unwrap();
        let mut grads = GradStore::default();
        grads.insert(w.as_tensor(), (Tensor::ones(n, DType::F32, &Device::Cpu).unwrap() * 1e18).unwrap());
        let _ = optimizer.step_report(&grads).unwrap();
        let norm = w.as_tensor().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "{n}: {norm}");
    }
}

/// Gradients that lie in another parameter's memory are read as they were before the step.
#[test]
fn a_gradient_in_the_memory_of_another_parameter_is_not_read_while_it_changes() {
    let (a, b) = (Var::new(&[1.0f32, 2.0], &Device::Cpu).unwrap(), Var::new(&[3.0f32, 5.0], &Device::Cpu).unwrap());
    let sgd = config(r#"{"sgd": {"lr": 1.0}}"#);
    let mut optimizer = sgd.build(vec![("a".into(), a.clone()), ("b".into(), b.clone())]).unwrap();
    let mut grads = GradStore::default();
    // Of a·b: b is a's gradient and a is b's.
    grads.insert(a.as_tensor(), b.as_tensor().clone());
    grads.insert(b.as_tensor(), a.as_tensor().clone());
    let _ = optimizer.step_report(&grads).unwrap();
    assert_eq!(a.to_vec1::<f32>().unwrap(), [-2.0, -3.0]);
    assert_eq!(b.to_vec1::<f32>().unwrap(), [2.0, 3.0]);
}

/// Two linear layers, their records and gradients for batch `seed`.
struct Layers {
    params: Vec<(String, Var)>,
}

impl Layers {
    fn new() -> Self {
        let var = |shape: &[usize], seed| Var::from_tensor(&tensor(shape, seed, DType::F32)).unwrap();
        let named = [("a.weight", var(&[4, 3], 1)), ("a.bias", var(&[4], 2)), ("b.weight", var(&[2, 4], 3))];
        Self { params: named.map(|(name, var)| (name.to_string(), var)).to_vec() }
    }

    fn records(&self, seed: u64) -> Vec<LayerRecord> {
        let of = |shape: &[usize], seed| tensor(shape, seed, DType::F32);
        vec![
            LayerRecord::linear("a", &of(&[8, 3], 10 * seed), &of(&[8, 4], 10 * seed + 1)).unwrap(),
            LayerRecord::linear("b", &of(&[8, 4], 10 * seed + 2), &of(&[8, 2], 10 * seed + 3)).unwrap(),
        ]
    }

    /// The same with a number that is not finite, or whose square is not, in what the last layer saw.
    fn spoiled(&self, number: f32) -> Vec<LayerRecord> {
        let inputs = (tensor(&[8, 4], 5, DType::F32) * f64::from(number)).unwrap();
        let mut all = self.records(9);
        all[1] = LayerRecord::linear("b", &inputs, &tensor(&[8, 2], 6, DType::F32)).unwrap();
        all
    }

    fn kfac(&self, json: &str) -> Kfac {
        Kfac::from_named(self.params.clone(), KfacConfig::default()).unwrap().with_options(options(json)).unwrap()
    }
}

/// What a batch leaves that was refused or skipped: nothing, neither in the state nor in the steps after.
#[test]
fn kfac_learns_nothing_from_a_batch_that_is_not_used() {
    for json in ["{}", r#"{"non_finite": "error"}"#, r#"{"non_finite": "skip"}"#] {
        // Gradients that are no numbers; or good ones beside records that are not finite, or whose squares are not.
        for (gradient, record) in [(f64::NAN, 1.0), (1.0, f32::NAN), (1.0, 1e20), (f64::INFINITY, f32::INFINITY)] {
            // Records of the batch after the bad one: of both layers, or of the first alone.
            for after in [2, 1] {
                let run = |bad: bool| {
                    let layers = Layers::new();
                    let mut kfac = layers.kfac(json);
                    for step in 0..4 {
                        if bad && step == 2 {
                            let records = if record == 1.0 { layers.records(9) } else { layers.spoiled(record) };
                            kfac.observe(&records).unwrap();
                            let before = bits(&kfac, &layers.params);
                            let outcome =
                                AnyOptimizer::step_report(&mut kfac, &spoiled(&layers.params, 9, 2, gradient));
                            match outcome {
                                Ok(report) => assert!(report.outcome == StepOutcome::Skipped && json.contains("skip")),
                                Err(e) => {
                                    assert!(!json.contains("skip"), "{e}");
                                    assert!(e.to_string().starts_with("gradient of `b.weight`: expected "), "{e}");
                                }
                            }
                            assert_eq!(bits(&kfac, &layers.params), before, "{json} {gradient} {record}");
                        }
                        let records = layers.records(step + 1);
                        kfac.observe(&records[..if step == 2 { after } else { 2 }]).unwrap();
                        let _ = AnyOptimizer::step_report(&mut kfac, &gradients(&layers.params, 3 * step)).unwrap();
                    }
                    bits(&kfac, &layers.params)
                };
                assert_eq!(run(true), run(false), "{json} {gradient} {record}, {after}");
            }
        }
    }
}

/// In an accumulation a call that is refused takes its record with it, and those before it stay.
#[test]
fn kfac_accumulates_the_records_of_the_calls_that_were_taken() {
    let run = |bad: bool| {
        let layers = Layers::new();
        let mut kfac = layers.kfac(r#"{"non_finite": "error", "accumulate": 2}"#);
        for call in 0..4 {
            if bad && call % 2 == 1 {
                kfac.observe(&layers.spoiled(3.0)).unwrap();
                assert!(AnyOptimizer::step_report(&mut kfac, &spoiled(&layers.params, 9, 2, f64::NAN)).is_err());
            }
            kfac.observe(&layers.records(call + 1)).unwrap();
            let _ = AnyOptimizer::step_report(&mut kfac, &gradients(&layers.params, 3 * call)).unwrap();
        }
        bits(&kfac, &layers.params)
    };
    assert_eq!(run(true), run(false));
}
