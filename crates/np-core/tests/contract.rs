//! The contract that every optimizer keeps. A new one adds a row to the registry, and, if it has settings that change its arithmetic, a row to
//! `common::variants`.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use common::{gradients, parameters, rates, tensor, values, variants};
use np_core::{AnyOptimizer, Backend, OptimizerConfig, OptimizerState, Options, Weights};

const STEPS_PER_EPOCH: u64 = 3;
const EPOCHS: usize = 4;

/// Steps `from..to` of a training of four epochs.
fn train(optimizer: &mut dyn AnyOptimizer, params: &[(String, Var)], steps: std::ops::Range<u64>) {
    for step in steps {
        if step.is_multiple_of(STEPS_PER_EPOCH) {
            optimizer.begin_epoch((step / STEPS_PER_EPOCH) as usize + 1, EPOCHS);
        }
        let report = optimizer.step_report(&gradients(params, step)).unwrap();
        assert_eq!(report.updated + report.absent, params.len());
    }
}

fn trained(config: &OptimizerConfig, dtype: DType, backend: Backend) -> Vec<Vec<f64>> {
    let params = parameters(dtype);
    let mut optimizer = config.build_on(params.clone(), backend).unwrap();
    train(optimizer.as_mut(), &params, 0..12);
    values(&params)
}

fn worst(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let pairs = a.iter().flatten().zip(b.iter().flatten());
    pairs.map(|(x, y)| (x - y).abs() / (1.0 + x.abs())).fold(0.0, f64::max)
}

#[test]
fn resumed_training_has_the_same_bits() {
    for (name, config) in variants() {
        for (dtype, backend) in
            [(DType::F32, Backend::Auto), (DType::BF16, Backend::Auto), (DType::F32, Backend::Tensors)]
        {
            let whole = trained(&config, dtype, backend);
            let params = parameters(dtype);
            let mut first = config.build_on(params.clone(), backend).unwrap();
            // In the middle of an epoch: the second half says nothing of epochs until the next begins.
            train(first.as_mut(), &params, 0..7);
            let bytes = first.state().unwrap().to_safetensors().unwrap();
            let mut second = config.build_on(params.clone(), backend).unwrap();
            second.load_state(&OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
            train(second.as_mut(), &params, 7..12);
            assert_eq!(values(&params), whole, "{name} in {dtype:?}");
        }
    }
}

#[test]
fn an_accumulation_can_be_interrupted() {
    let options: Options = serde_json::from_str(r#"{"accumulate": 3, "schedule": "cosine"}"#).unwrap();
    for (name, config) in variants() {
        let run = |interrupted: bool| {
            let params = parameters(DType::F16);
            let build = || config.build_with(params.clone(), options.clone(), Backend::Auto).unwrap();
            let mut optimizer = build();
            optimizer.begin_epoch(1, 4);
            optimizer.try_set_learning_rate(0.01).unwrap();
            for step in 0..6 {
                if interrupted && step % 3 != 0 {
                    let bytes = optimizer.state().unwrap().to_safetensors().unwrap();
                    optimizer = build();
                    optimizer.load_state(&OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
                }
                optimizer.set_position(step as f64 / 6.0);
                optimizer.step_report(&gradients(&params, step)).unwrap();
            }
            values(&params)
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for (name, config) in variants() {
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| trained(&config, DType::F32, Backend::Auto))
        };
        let one = on(1);
        assert_eq!(one, on(2), "{name}");
        assert_eq!(one, on(5), "{name}");
    }
}

#[test]
fn tensor_path_agrees_with_cpu_path() {
    for (name, config) in variants() {
        // 12 steps of single-precision rounding; an error in a formula shows in the third digit.
        for (dtype, allowed) in [(DType::F64, 1e-12), (DType::F32, 2e-5)] {
            let difference = worst(&trained(&config, dtype, Backend::Auto), &trained(&config, dtype, Backend::Tensors));
            assert!(difference < allowed, "{name} in {dtype:?}: {difference:e}");
        }
    }
}

/// Without the parameters that rounding decides: SOAP's, where a dimension is longer than all others together, so that the first gradient's
/// covariance along it has a null space without a basis of its own.
fn determined(config: &OptimizerConfig, mut values: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    if config.kind() == "soap" {
        for ((_, shape), values) in common::SHAPES.iter().zip(&mut values) {
            let elements: usize = shape.iter().product();
            if shape.len() > 1 && shape.iter().any(|n| n * n > elements) {
                values.clear();
            }
        }
    }
    values
}

#[test]
fn half_precision_follows_single_precision() {
    for (name, config) in variants() {
        let single = trained(&config, DType::F32, Backend::Auto);
        // 8 and 11 bits of mantissa, rounded at each of 12 steps, on parameters up to 1.
        for (dtype, allowed) in [(DType::BF16, 0.1), (DType::F16, 0.02)] {
            let run = |dtype, backend| determined(&config, trained(&config, dtype, backend));
            let difference = worst(&determined(&config, single.clone()), &run(dtype, Backend::Auto));
            assert!(difference < allowed, "{name} in {dtype:?}: {difference:e}");
            let paths = worst(&run(dtype, Backend::Tensors), &run(dtype, Backend::Auto));
            assert!(paths < allowed, "{name} in {dtype:?}, by tensors: {paths:e}");
        }
    }
}

#[test]
fn quadratic_is_minimised() {
    for (name, config) in variants() {
        let w = Var::from_tensor(&tensor(&[20], 3, DType::F32)).unwrap();
        let loss = || w.as_tensor().sqr().unwrap().sum_all().unwrap();
        let before = loss().to_scalar::<f32>().unwrap();
        let mut optimizer = config.build(vec![("w".into(), w.clone())]).unwrap();
        optimizer.try_set_learning_rate(rates(&config).bowl).unwrap();
        for step in 0..200 {
            if step % 20 == 0 {
                optimizer.begin_epoch(step / 20 + 1, 10);
            }
            optimizer.step_report(&loss().backward().unwrap()).unwrap();
        }
        let after = loss().to_scalar::<f32>().unwrap();
        assert!(after < 0.7 * before, "{name}: {before} → {after}");
    }
}

/// What is evaluated moves nothing that is trained: neither the weights nor the steps after.
#[test]
fn an_evaluation_in_between_changes_no_bit() {
    for (name, config) in variants() {
        for (dtype, backend) in
            [(DType::F32, Backend::Auto), (DType::F16, Backend::Auto), (DType::F32, Backend::Tensors)]
        {
            let params = parameters(dtype);
            let mut optimizer = config.build_on(params.clone(), backend).unwrap();
            train(optimizer.as_mut(), &params, 0..7);
            let before = values(&params);
            optimizer.use_weights(Weights::Averaged).unwrap();
            let averaged = values(&params) != before;
            let keeps = ["schedule_free_adamw", "schedule_free_sgd"].contains(&config.kind())
                || ["asgd averaged", "hybrid of schedule-free"].contains(&name.as_str());
            assert_eq!(averaged, keeps, "{name} in {dtype:?}");
            optimizer.use_weights(Weights::Trained).unwrap();
            assert_eq!(values(&params), before, "{name} in {dtype:?}");
            train(optimizer.as_mut(), &params, 7..12);
            assert_eq!(values(&params), trained(&config, dtype, backend), "{name} in {dtype:?}");
        }
    }
}

#[test]
fn a_hybrid_without_strength_is_its_base_whatever_that_is() {
    for config in OptimizerConfig::defaults() {
        let kind = config.kind();
        let settings = serde_json::to_value(&config).unwrap()[kind].clone();
        let (lr, wd) = (&settings["lr"], settings.get("weight_decay").cloned().unwrap_or_else(|| 0.into()));
        let json = format!(
            r#"{{"neuroplastic": {{"lr": {lr}, "weight_decay": {wd}, "formulation": {{"hybrid": {{"base": "{kind}", "strength": 0}}}},
                 "stabilizer": {{"max_update_norm": null, "rms_gain": null}}}}}}"#
        );
        let hybrid = serde_json::from_str::<OptimizerConfig>(&json);
        if kind == "neuroplastic" {
            let error = hybrid.unwrap_err().to_string();
            assert!(error.starts_with("unknown variant `neuroplastic`, expected one of `sgd`"), "{error}");
            continue;
        }
        let hybrid = hybrid.unwrap();
        if ["kfac", "lbfgs"].contains(&kind) {
            let error = hybrid.validate().unwrap_err().to_string();
            let expected = "`formulation.hybrid.base`: expected an optimizer whose directions need gradients alone";
            assert!(error.starts_with(expected), "{error}");
            continue;
        }
        for backend in [Backend::Auto, Backend::Tensors] {
            let (ours, base) = (trained(&hybrid, DType::F32, backend), trained(&config, DType::F32, backend));
            assert_eq!(ours, base, "{kind} by {backend:?}");
        }
    }
}

#[test]
fn absent_gradient_leaves_everything_untouched() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let mut optimizer = config.build(params.clone()).unwrap();
        optimizer.begin_epoch(1, 2);
        let (before, state) = (values(&params), format!("{:?}", optimizer.state().unwrap().tensors));
        let report = optimizer.step_report(&GradStore::default()).unwrap();
        assert_eq!((report.updated, report.absent), (0, params.len()), "{name}");
        assert_eq!(optimizer.absent_gradients(), params.len() as u64, "{name}");
        assert_eq!(values(&params), before, "{name}");
        assert_eq!(format!("{:?}", optimizer.state().unwrap().tensors), state, "{name}");
    }
}

#[test]
fn huge_gradients_stay_within_the_clip() {
    for (name, config) in variants() {
        let OptimizerConfig::NeuroPlastic(plastic) = &config else { continue };
        let Some(limit) = plastic.stabilizer.max_update_norm else { continue };
        let w = Var::from_tensor(&tensor(&[40, 50], 3, DType::F32)).unwrap();
        let before = w.as_tensor().copy().unwrap();
        let mut optimizer = config.build(vec![("w".into(), w.clone())]).unwrap();
        optimizer.begin_epoch(1, 2);
        let mut grads = GradStore::default();
        grads.insert(w.as_tensor(), (tensor(&[40, 50], 4, DType::F32) * 1e15).unwrap());
        optimizer.step_report(&grads).unwrap();
        let step =
            (w.as_tensor() - before).unwrap().sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
        // ‖G u‖ ≤ 1.5 U, times the largest multiplier of a controller, plus a decoupled decay of 0.05 · 0.01 · ‖θ‖.
        let most = 1.5 * 1.2 * limit * plastic.lr + plastic.lr * plastic.weight_decay * 45.0;
        assert!(f64::from(step) <= most, "{name}: {step} > {most}");
    }
}

#[test]
fn a_wrong_gradient_changes_nothing_and_is_named() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let mut optimizer = config.build(params.clone()).unwrap();
        optimizer.begin_epoch(1, 2);
        let before = values(&params);
        let mut grads = gradients(&params, 0);
        grads.insert(params[2].1.as_tensor(), Tensor::zeros((220, 222), DType::F32, &Device::Cpu).unwrap());
        let error = optimizer.step_report(&grads).unwrap_err().to_string();
        assert_eq!(error, "gradient of `fc.weight`: expected shape [221, 221], got shape [220, 222]", "{name}");
        grads.insert(params[2].1.as_tensor(), Tensor::zeros((221, 221), DType::F64, &Device::Cpu).unwrap());
        let error = optimizer.step_report(&grads).unwrap_err().to_string();
        assert_eq!(error, "gradient of `fc.weight`: expected f32, got f64", "{name}");
        assert_eq!(values(&params), before, "{name}");
    }
}

#[test]
fn state_that_does_not_fit_is_named() {
    let mut optimizer = OptimizerConfig::AdamW(Default::default()).build(parameters(DType::F32)).unwrap();
    let good = optimizer.state().unwrap();
    let mut refused = |change: &dyn Fn(&mut OptimizerState)| {
        let mut state = good.clone();
        change(&mut state);
        optimizer.load_state(&state).unwrap_err().to_string()
    };
    let entry = "head.bias.first_moment";
    let with = |tensor: Tensor| move |s: &mut OptimizerState| drop(s.tensors.insert(entry.to_string(), tensor.clone()));
    let message = refused(&|s| drop(s.tensors.remove(entry)));
    assert_eq!(message, "state `head.bias.first_moment`: expected shape [5], got nothing");
    let message = refused(&with(Tensor::zeros(6, DType::F32, &Device::Cpu).unwrap()));
    assert_eq!(message, "state `head.bias.first_moment`: expected shape [5] of f32, got shape [6] of f32");
    let message = refused(&with(Tensor::zeros(5, DType::F64, &Device::Cpu).unwrap()));
    assert_eq!(message, "state `head.bias.first_moment`: expected shape [5] of f32, got shape [5] of f64");
    let message = refused(&|s| drop(s.tensors.insert("tail.steps".into(), Tensor::new(1i64, &Device::Cpu).unwrap())));
    assert_eq!(message, "state `tail.steps`: expected no such entry, got one");
    let message = refused(&|s| s.kind = "sgd".into());
    assert_eq!(message, "state `optimizer`: expected adamw, got sgd");
    let message = refused(&|s| drop(s.numbers.insert("step".into(), "many".into())));
    assert_eq!(message, "state `step`: expected a number, got many");
    assert!(OptimizerState::from_safetensors(b"not a file").is_err());
}

#[test]
fn configurations_survive_a_round_trip() {
    for (name, config) in variants() {
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<OptimizerConfig>(&text).unwrap(), config, "{name}: {text}");
        config.validate().unwrap();
    }
    for kind in OptimizerConfig::KINDS {
        let bare: OptimizerConfig = serde_json::from_str(&format!("\"{kind}\"")).unwrap();
        assert_eq!(bare.kind(), *kind);
    }
    let unknown = serde_json::from_str::<OptimizerConfig>(r#"{"sgd": {"momentun": 0.9}}"#).unwrap_err().to_string();
    assert!(unknown.contains("unknown field `momentun`, expected one of `lr`, `momentum`"), "{unknown}");
}

#[test]
fn hyper_parameters_out_of_range_are_named() {
    let cases = [
        (r#"{"sgd": {"lr": -1}}"#, "`lr`: expected a number ≥ 0, got `-1`"),
        (
            r#"{"sgd": {"nesterov": true}}"#,
            "`nesterov`: expected `false` unless `momentum` > 0 and `dampening` = 0, got `true`",
        ),
        (r#"{"adam": {"beta2": 1.0}}"#, "`beta2`: expected a number in [0, 1), got `1`"),
        (r#"{"nadam": {"eps": 0}}"#, "`eps`: expected a number > 0, got `0`"),
        (r#"{"rprop": {"min_step": 2, "max_step": 1}}"#, "`max_step`: expected a number ≥ `min_step`, got `1`"),
        (r#"{"schedule_free_sgd": {"momentum": 0}}"#, "`momentum`: expected a number in (0, 1), got `0`"),
        (r#"{"prodigy": {"growth_rate": 0.5}}"#, "`growth_rate`: expected a number ≥ 1, got `0.5`"),
        (
            r#"{"lars": {"nesterov": true, "momentum": 0}}"#,
            "`nesterov`: expected `false` unless `momentum` > 0, got `true`",
        ),
        (
            r#"{"neuroplastic": {"signals": {"memory": 0.5}}}"#,
            "`signals`: expected weights `activity`, `gradient`, `memory` that sum to 1, got `1.3`",
        ),
        (
            r#"{"neuroplastic": {"coefficient": {"min": 3}}}"#,
            "`coefficient.max`: expected a number ≥ `coefficient.min`, got `2`",
        ),
    ];
    for (text, expected) in cases {
        let config: OptimizerConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.validate().unwrap_err().to_string(), expected);
    }
}

#[test]
fn phases_need_the_number_of_epochs() {
    let text = r#"{"neuroplastic": {"formulation": {"hybrid": {"phase": "late"}}}}"#;
    let config: OptimizerConfig = serde_json::from_str(text).unwrap();
    let params = parameters(DType::F32);
    let mut optimizer = config.build(params.clone()).unwrap();
    let error = optimizer.step_report(&gradients(&params, 0)).unwrap_err().to_string();
    assert!(error.contains("`formulation.hybrid.phase`") && error.contains("begin_epoch"), "{error}");
}

#[test]
fn a_parameter_given_twice_is_refused() {
    let w = Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let twice = vec![("a".to_string(), w.clone()), ("b".to_string(), w)];
    let error = OptimizerConfig::Sgd(Default::default()).build(twice).err().unwrap().to_string();
    let expected = "parameter `b`: expected each parameter once, got the variable of `a` again; hint: give tied weights under one name";
    assert_eq!(error, expected);
    let two = || Var::zeros(2, DType::F32, &Device::Cpu).unwrap();
    let error = OptimizerConfig::Sgd(Default::default()).build(vec![("a".into(), two()), ("a".into(), two())]);
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "parameter `a`: expected each parameter once, got another variable of this name");
}

/// A hybrid's step is as long as its base's, give or take what it is modulated by; with the default clip AdamW's is not.
#[test]
fn a_ready_hybrid_takes_steps_of_its_bases_size() {
    use np_core::NeuroPlasticConfig;
    use np_core::neuroplastic::{Base, BaseAdamw, Stabilizer};
    let moved = |config: NeuroPlasticConfig| {
        let w = Var::from_tensor(&tensor(&[40, 50], 3, DType::F32)).unwrap();
        let before = w.as_tensor().copy().unwrap();
        let mut optimizer = OptimizerConfig::NeuroPlastic(config).build(vec![("w".into(), w.clone())]).unwrap();
        let mut grads = GradStore::default();
        grads.insert(w.as_tensor(), tensor(&[40, 50], 4, DType::F32));
        optimizer.step(&grads).unwrap();
        let squares = (w.as_tensor() - before).unwrap().sqr().unwrap().sum_all().unwrap();
        f64::from(squares.to_scalar::<f32>().unwrap()).sqrt()
    };
    let ready = NeuroPlasticConfig::hybrid(Base::Adamw(BaseAdamw::default()));
    // AdamW's first step is η in every element: 10⁻³ √2000; the residual is a quarter of it at most.
    let base = 1e-3 * 2000f64.sqrt();
    let step = moved(ready.clone());
    assert!((0.75..1.25).contains(&(step / base)), "{step} against {base}");
    let clipped = moved(NeuroPlasticConfig { stabilizer: Stabilizer::default(), ..ready.clone() });
    assert!(clipped < 0.03 * base, "{clipped} against {base}");

    let json = r#"{"lr": 0.001, "formulation": {"hybrid": {"base": "adamw"}}, "stabilizer": "off"}"#;
    assert_eq!(serde_json::from_str::<NeuroPlasticConfig>(json).unwrap(), ready);
    let error = serde_json::from_str::<NeuroPlasticConfig>(r#"{"stabilizer": "on"}"#).unwrap_err().to_string();
    assert!(error.starts_with("invalid value: string \"on\", expected `off`, or a map of settings"), "{error}");
}
