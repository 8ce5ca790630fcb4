//! What surrounds every rule: groups, clipping, non-finite gradients, accumulation, schedules.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::backprop::GradStore;
use candle_core::{DType, Var};
use common::{gradients, parameters, values, variants};
use np_core::{AnyOptimizer, Backend, OptimizerConfig, Options, StepOutcome};

fn options(json: &str) -> Options {
    serde_json::from_str(json).unwrap()
}

fn build(config: &OptimizerConfig, params: &[(String, Var)], json: &str) -> Box<dyn AnyOptimizer> {
    let mut optimizer = config.build_with(params.to_vec(), options(json), Backend::Auto).unwrap();
    optimizer.begin_epoch(1, 4);
    optimizer
}

fn after(config: &OptimizerConfig, json: &str, grads: impl Fn(&[(String, Var)]) -> Vec<GradStore>) -> Vec<Vec<f64>> {
    let params = parameters(DType::F32);
    let mut optimizer = build(config, &params, json);
    for grads in grads(&params) {
        optimizer.step_report(&grads).unwrap();
    }
    values(&params)
}

fn three(params: &[(String, Var)]) -> Vec<GradStore> {
    (0..3).map(|step| gradients(params, step)).collect()
}

fn scaled(params: &[(String, Var)], grads: &GradStore, factor: f64) -> GradStore {
    let mut out = GradStore::default();
    for (_, var) in params {
        if let Some(g) = grads.get(var.as_tensor()) {
            out.insert(var.as_tensor(), if g.elem_count() == 0 { g.clone() } else { (g * factor).unwrap() });
        }
    }
    out
}

fn close(a: &[Vec<f64>], b: &[Vec<f64>], name: &str) {
    for (x, y) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((x - y).abs() < 1e-5, "{name}: {x} against {y}");
    }
}

#[test]
fn frozen_parameters_do_not_move() {
    for (name, config) in variants() {
        let before = values(&parameters(DType::F32));
        let json = r#"{"groups": [{"match": "conv.*", "training": "frozen"}]}"#;
        let now = after(&config, json, three);
        assert_eq!(now[..2], before[..2], "{name}");
        assert_ne!(now[2], before[2], "{name}");
    }
}

#[test]
fn learning_rate_scale_zero_stops_a_group() {
    for (name, config) in variants() {
        let before = values(&parameters(DType::F32));
        let now = after(&config, r#"{"groups": [{"match": "head.{weight,bias}", "lr_scale": 0}]}"#, three);
        assert_eq!(now[5..], before[5..], "{name}");
        assert_ne!(now[0], before[0], "{name}");
    }
}

#[test]
fn decay_can_be_kept_off_vectors() {
    let adamw: OptimizerConfig = serde_json::from_str(r#"{"adamw": {"weight_decay": 0.5}}"#).unwrap();
    let none: OptimizerConfig = serde_json::from_str(r#"{"adamw": {"weight_decay": 0}}"#).unwrap();
    let (all, without) = (after(&adamw, "{}", three), after(&none, "{}", three));
    let matrices = after(&adamw, r#"{"decay_scope": "matrices"}"#, three);
    for (i, (_, shape)) in common::SHAPES.iter().enumerate() {
        assert_eq!(matrices[i], if shape.len() >= 2 { all[i].clone() } else { without[i].clone() });
    }
    let group = r#"{"decay_scope": "matrices", "groups": [{"match": "head.bias", "weight_decay": 0.5}]}"#;
    assert_eq!(after(&adamw, group, three)[6], all[6]);
}

#[test]
fn plasticity_off_is_the_gradient_alone() {
    // With α = 1, no stabiliser and no decay, direct NeuroPlastic is plain SGD.
    let json = r#"{"neuroplastic": {"lr": 0.05, "stabilizer": {"max_update_norm": null, "rms_gain": null}}}"#;
    let plastic: OptimizerConfig = serde_json::from_str(json).unwrap();
    let sgd: OptimizerConfig = serde_json::from_str(r#"{"sgd": {"lr": 0.05}}"#).unwrap();
    let off = after(&plastic, r#"{"groups": [{"match": "*", "neuroplastic": {"plasticity": "off"}}]}"#, three);
    assert_eq!(off, after(&sgd, "{}", three));
}

#[test]
fn clipping_by_norm_is_scaling_the_gradients() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let mut optimizer = build(&config, &params, r#"{"clip": {"norm": 0.5}}"#);
        let grads = gradients(&params, 0);
        let report = optimizer.step_report(&grads).unwrap();
        let norm = report.gradient_norm.unwrap();
        let squares = |v: &Var| grads.get(v.as_tensor()).unwrap().to_dtype(DType::F64).unwrap().sqr().unwrap();
        let expected: f64 = params.iter().map(|(_, v)| squares(v).sum_all().unwrap().to_scalar::<f64>().unwrap()).sum();
        assert!((norm - expected.sqrt()).abs() < 1e-9 * norm, "{name}: {norm}");
        let clipped = values(&params);
        let factor = 0.5 / (norm + 1e-6);
        let by_hand = after(&config, "{}", |params| vec![scaled(params, &gradients(params, 0), factor)]);
        close(&clipped, &by_hand, &name);
    }
}

#[test]
fn a_norm_that_is_no_number_leaves_no_gradient_unclipped() {
    let sgd: OptimizerConfig = serde_json::from_str(r#"{"sgd": {"lr": 1.0}}"#).unwrap();
    let params = parameters(DType::F32);
    let mut grads = gradients(&params, 0);
    let first = &params[0].1;
    grads.insert(first.as_tensor(), (first.zeros_like().unwrap() + f64::NAN).unwrap());
    let report = build(&sgd, &params, r#"{"clip": {"norm": 0.5}}"#).step_report(&grads).unwrap();
    assert!(report.gradient_norm.unwrap().is_nan());
    assert!(values(&params).iter().flatten().all(|x| x.is_nan()));
}

#[test]
fn options_cannot_change_in_the_middle() {
    let (params, two) = (parameters(DType::F32), options(r#"{"accumulate": 2}"#));
    let mut sgd = np_core::Sgd::from_named(params.clone(), np_core::SgdConfig::default())
        .unwrap()
        .with_options(two.clone())
        .unwrap();
    sgd.step_report(&gradients(&params, 0)).unwrap();
    let sgd = sgd.with_options(two).unwrap();
    let error = sgd.with_options(Options::default()).unwrap_err().to_string();
    assert_eq!(error, "`options.accumulate`: expected 2 until the step under way is complete, got `1`");

    let config = np_core::ScheduleFreeSgdConfig::default();
    let mut averaged = np_core::ScheduleFreeSgd::from_named(params.clone(), config).unwrap();
    averaged.step_report(&gradients(&params, 0)).unwrap();
    let state = averaged.state().unwrap();
    averaged.use_weights(np_core::Weights::Averaged).unwrap();
    let error = averaged.load_state(&state).unwrap_err().to_string();
    assert!(error.contains("expected the weights that are trained"), "{error}");
    averaged.use_weights(np_core::Weights::Trained).unwrap();
    averaged.load_state(&state).unwrap();
}

#[test]
fn clipping_by_value_holds_each_number() {
    for (name, config) in variants() {
        let clipped = after(&config, r#"{"clip": {"value": 0.1}}"#, three);
        let by_hand = after(&config, "{}", |params| {
            let hold = |grads: GradStore| {
                let mut out = GradStore::default();
                for (_, var) in params {
                    if let Some(g) = grads.get(var.as_tensor()) {
                        out.insert(var.as_tensor(), g.clamp(-0.1, 0.1).unwrap());
                    }
                }
                out
            };
            three(params).into_iter().map(hold).collect()
        });
        close(&clipped, &by_hand, &name);
    }
}

#[test]
fn gradients_that_are_not_finite() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let before = values(&params);
        let bad = || {
            let grads = gradients(&params, 0);
            let nan = (params[5].1.as_tensor() * f64::NAN).unwrap();
            let mut all = scaled(&params, &grads, 1.0);
            all.insert(params[5].1.as_tensor(), nan);
            all
        };
        let mut optimizer = build(&config, &params, r#"{"non_finite": "skip"}"#);
        assert_eq!(optimizer.step_report(&bad()).unwrap().outcome, StepOutcome::Skipped, "{name}");
        assert_eq!(optimizer.skipped_steps(), 1, "{name}");
        assert_eq!(values(&params), before, "{name}");
        let mut optimizer = build(&config, &params, r#"{"non_finite": "error"}"#);
        let error = optimizer.step_report(&bad()).unwrap_err().to_string();
        assert_eq!(error, "gradient of `head.weight`: expected finite numbers, got numbers whose squares sum to NaN");
        assert_eq!(values(&params), before, "{name}");
    }
}

#[test]
fn accumulation_averages() {
    for (name, config) in variants() {
        for dtype in [DType::F32, DType::F16] {
            let params = parameters(dtype);
            let mut optimizer = build(&config, &params, r#"{"accumulate": 2}"#);
            let grads = gradients(&params, 0);
            let half = optimizer.step_report(&scaled(&params, &grads, 0.5)).unwrap();
            assert_eq!(half.outcome, StepOutcome::Accumulated, "{name}");
            let whole = optimizer.step_report(&scaled(&params, &grads, 1.5)).unwrap();
            assert_eq!(whole.outcome, StepOutcome::Updated, "{name}");
            let once = parameters(dtype);
            let _ = build(&config, &once, "{}").step_report(&gradients(&once, 0)).unwrap();
            if dtype == DType::F32 {
                close(&values(&params), &values(&once), &name);
            }
        }
    }
}

#[test]
fn a_refused_gradient_leaves_what_was_accumulated() {
    let sgd: OptimizerConfig = serde_json::from_str("\"sgd\"").unwrap();
    let run = |interrupted: bool| {
        let params = parameters(DType::F32);
        let mut optimizer = build(&sgd, &params, r#"{"accumulate": 2, "non_finite": "error"}"#);
        let grads = gradients(&params, 0);
        optimizer.step_report(&grads).unwrap();
        if interrupted {
            let error = optimizer.step_report(&scaled(&params, &grads, f64::INFINITY)).unwrap_err().to_string();
            assert!(error.starts_with("gradient of `conv.weight`: expected finite numbers"), "{error}");
        }
        assert_eq!(optimizer.step_report(&grads).unwrap().outcome, StepOutcome::Updated);
        values(&params)
    };
    assert_eq!(run(true), run(false));
}

/// As with `error`: each call is judged by itself.
#[test]
fn a_skipped_gradient_leaves_what_was_accumulated() {
    for config in OptimizerConfig::defaults() {
        let run = |bad: &[u64]| {
            let params = parameters(DType::F32);
            let mut optimizer = build(&config, &params, r#"{"accumulate": 2, "non_finite": "skip"}"#);
            for call in 0..4 {
                let grads = gradients(&params, call);
                for _ in bad.iter().filter(|at| **at == call) {
                    let before = (values(&params), optimizer.state().unwrap().tensors.len());
                    let report = optimizer.step_report(&scaled(&params, &grads, f64::NAN)).unwrap();
                    assert_eq!(report.outcome, StepOutcome::Skipped, "{}", config.kind());
                    assert_eq!(
                        (values(&params), optimizer.state().unwrap().tensors.len()),
                        before,
                        "{}",
                        config.kind()
                    );
                }
                let outcome = optimizer.step_report(&grads).unwrap().outcome;
                let expected = if call % 2 == 0 { StepOutcome::Accumulated } else { StepOutcome::Updated };
                assert_eq!(outcome, expected, "{}", config.kind());
            }
            (values(&params), optimizer.skipped_steps())
        };
        let (sound, none) = run(&[]);
        // Before the first call of a step, and between its two.
        let (with_bad, some) = run(&[0, 1, 1, 2]);
        assert_eq!((none, some), (0, 4));
        assert_eq!(with_bad, sound, "{}", config.kind());
    }
}

#[test]
fn a_line_search_refuses_what_it_cannot_search_with_and_changes_nothing() {
    let config: OptimizerConfig = serde_json::from_str("\"lbfgs\"").unwrap();
    for (json, says) in [
        (
            r#"{"clip": {"norm": 0.5}}"#,
            "`options.clip`: expected none with an optimizer that searches along a line, got `norm: 0.5`",
        ),
        (r#"{"clip": {"value": 2}}"#, "got `value: 2`"),
        (
            r#"{"accumulate": 3}"#,
            "`options.accumulate`: expected 1 with an optimizer that searches along a line, got `3`",
        ),
    ] {
        assert!(np_core::StepInput::Closure.suits(&options(json)).is_err());
        np_core::StepInput::Gradients.suits(&options(json)).unwrap();
        let params = parameters(DType::F32);
        let before = values(&params);
        let mut optimizer = build(&config, &params, json);
        let grads = gradients(&params, 0);
        let error = optimizer.step_with(&mut || panic!("nothing is evaluated")).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(values(&params), before);
        // A step without a search takes them.
        optimizer.step_report(&grads).unwrap();
    }
}

#[test]
fn layers_can_be_named() {
    let json = r#"{"neuroplastic": {"controller": {"mode": "classifier_only", "strength": 2},
        "formulation": {"hybrid": {"scope": "early_blocks", "strength": 1}}}}"#;
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    let by_position = after(&config, "{}", three);
    // Seven tensors: the last two are the classifier, the three before that the late blocks but for the middle one, which is in both.
    let same = r#"{"groups": [{"match": "head.*", "neuroplastic": {"layer": "classifier"}}, {"match": "conv.*", "neuroplastic": {"layer": "early_blocks"}},
        {"match": "nothing", "neuroplastic": {"layer": "late_blocks"}}]}"#;
    assert_eq!(after(&config, same, three), by_position);
    let other = after(&config, r#"{"groups": [{"match": "conv.*", "neuroplastic": {"layer": "stem"}}]}"#, three);
    assert_ne!(other[0], by_position[0]);
    assert_eq!(other[6], by_position[6]);
}

#[test]
fn a_warm_up_needs_a_position() {
    let params = parameters(DType::F32);
    let sgd: OptimizerConfig = serde_json::from_str("\"sgd\"").unwrap();
    let warm = options(r#"{"schedule": {"constant": {"warmup": 2}}}"#);
    let mut optimizer = sgd.build_with(params.clone(), warm, Backend::Auto).unwrap();
    let error = optimizer.step_report(&gradients(&params, 0)).unwrap_err().to_string();
    assert!(error.starts_with("`options.schedule` warms up from 0"), "{error}");
    optimizer.set_position(0.5);
    assert_eq!(optimizer.step_report(&gradients(&params, 0)).unwrap().outcome, StepOutcome::Updated);
}

#[test]
fn a_gradient_may_share_the_parameters_memory() {
    let w = Var::new(&[1f32, -2.0], &candle_core::Device::Cpu).unwrap();
    let sgd: OptimizerConfig = serde_json::from_str(r#"{"sgd": {"lr": 0.5}}"#).unwrap();
    let mut optimizer = sgd.build(vec![("w".into(), w.clone())]).unwrap();
    let mut grads = GradStore::default();
    grads.insert(w.as_tensor(), w.as_detached_tensor());
    optimizer.step_report(&grads).unwrap();
    assert_eq!(w.to_vec1::<f32>().unwrap(), [0.5, -1.0]);
}

#[test]
fn a_varmap_gives_its_names() {
    let variables = candle_nn::VarMap::new();
    let vb = candle_nn::VarBuilder::from_varmap(&variables, DType::F32, &candle_core::Device::Cpu);
    let _ = (candle_nn::linear(2, 3, vb.pp("head")).unwrap(), candle_nn::linear(2, 3, vb.pp("body")).unwrap());
    let sgd = np_core::Sgd::from_varmap(&variables, np_core::SgdConfig::default()).unwrap();
    assert_eq!(sgd.names().collect::<Vec<_>>(), ["body.bias", "body.weight", "head.bias", "head.weight"]);
}

#[test]
fn schedules_scale_the_learning_rate() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let mut optimizer = build(&config, &params, r#"{"schedule": {"step": {"every": 2, "gamma": 0.5}}}"#);
        let base = config.learning_rate();
        let at = |epoch: usize, optimizer: &mut Box<dyn AnyOptimizer>| {
            optimizer.begin_epoch(epoch, 4);
            optimizer.effective_lr() / base
        };
        assert_eq!([1, 2, 3, 4].map(|e| at(e, &mut optimizer)), [1.0, 1.0, 0.5, 0.5], "{name}");
        let mut warm = build(&config, &params, r#"{"schedule": {"constant": {"warmup": 1}}}"#);
        warm.set_position(0.25);
        assert_eq!(warm.effective_lr(), base * 0.25, "{name}");
    }
}

#[test]
fn a_schedule_over_the_training_needs_its_length() {
    let params = parameters(DType::F32);
    let sgd: OptimizerConfig = serde_json::from_str("\"sgd\"").unwrap();
    for name in ["cosine", "one_cycle", "linear"] {
        let json = format!(r#"{{"schedule": "{name}"}}"#);
        let mut optimizer = sgd.build_with(params.clone(), options(&json), Backend::Auto).unwrap();
        let error = optimizer.step_report(&gradients(&params, 0)).unwrap_err().to_string();
        assert!(error.starts_with("`options.schedule` depends on the share of training done"), "{error}");
    }
}

#[test]
fn a_refused_step_is_no_step() {
    // Without `begin_epoch` the phase is unknown and the step refused; the one after it has the bias corrections of the first.
    let json = r#"{"neuroplastic": {"lr": 0.01, "formulation": {"hybrid": {"phase": "early"}}}}"#;
    let config: OptimizerConfig = serde_json::from_str(json).unwrap();
    let params = parameters(DType::F32);
    let mut optimizer = config.build(params.clone()).unwrap();
    assert!(optimizer.step_report(&gradients(&params, 0)).is_err());
    optimizer.begin_epoch(1, 4);
    optimizer.step_report(&gradients(&params, 0)).unwrap();
    assert_eq!(values(&params), after(&config, "{}", |params| vec![gradients(params, 0)]));
}

#[test]
fn bad_options_are_named() {
    let sgd: OptimizerConfig = serde_json::from_str("\"sgd\"").unwrap();
    let cases = [
        (
            r#"{"groups": [{"match": "haed.*"}]}"#,
            "`groups.0.match`: expected a glob that matches a parameter (conv.weight, conv.bias, fc.weight, scale, nothing, \
             head.weight, head.bias), got `haed.*`",
        ),
        (r#"{"groups": [{"match": "*", "lr_scale": -1}]}"#, "`groups.0.lr_scale`: expected a number ≥ 0, got `-1`"),
        (r#"{"clip": {"norm": 0}}"#, "`clip.norm`: expected a number > 0, got `0`"),
    ];
    for (json, expected) in cases {
        let error = sgd.build_with(parameters(DType::F32), options(json), Backend::Auto).err().unwrap();
        assert_eq!(error.to_string(), expected);
    }
}
