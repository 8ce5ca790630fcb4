//! Where weight decay enters, for the optimizers that leave the choice.

use candle_core::Tensor;
use np_core::{Backend, DecayKind, OptimizerConfig, Options, SgdConfig};

use crate::{BACKENDS, config, numbers, var};

const LR: f64 = 0.1;
const WD: f64 = 0.3;

/// θ after each of five steps with gradients that do not depend on it.
fn path(json: &str, decay: &str, backend: Backend) -> Vec<[f64; 2]> {
    let (w, config) = (var(&[2.0, -1.0]), config(&json.replace("DECAY", decay)));
    let mut optimizer = config.build_on(vec![("w".into(), w.clone())], backend).unwrap();
    let gradients = [[0.5, -0.2], [0.1, 0.3], [-0.7, 0.2], [0.4, 0.4], [0.3, -0.9]];
    let step = |g: [f64; 2]| {
        let mut grads = candle_core::backprop::GradStore::default();
        grads.insert(w.as_tensor(), Tensor::new(&g, w.device()).unwrap());
        optimizer.step_report(&grads).unwrap();
        let at = numbers(&w);
        [at[0], at[1]]
    };
    gradients.into_iter().map(step).collect()
}

#[test]
fn decoupled_decay_is_beside_the_step() {
    let with = format!(r#""weight_decay": {WD}, "decay": "decoupled""#);
    for (json, rates) in [
        (r#"{"sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": true, DECAY}}"#, [LR; 5]),
        // η / (1 + γ (t − 1)), γ = 0.5.
        (r#"{"adagrad": {"lr": 0.1, "lr_decay": 0.5, DECAY}}"#, [LR, LR / 1.5, LR / 2.0, LR / 2.5, LR / 3.0]),
        (r#"{"adadelta": {"lr": 0.1, DECAY}}"#, [LR; 5]),
        (r#"{"adamax": {"lr": 0.1, DECAY}}"#, [LR; 5]),
        (r#"{"rmsprop": {"lr": 0.1, "centered": true, "momentum": 0.5, DECAY}}"#, [LR; 5]),
        (r#"{"nadam": {"lr": 0.1, DECAY}}"#, [LR; 5]),
        (r#"{"radam": {"lr": 0.1, DECAY}}"#, [LR; 5]),
        (r#"{"adabelief": {"lr": 0.1, DECAY}}"#, [LR; 5]),
    ] {
        for backend in BACKENDS {
            let plain = path(json, r#""weight_decay": 0"#, backend);
            let decayed = path(json, &with, backend);
            // θ ← (1 − η wd) θ − η u, with the u of the training without decay, whose gradients are the same.
            let (mut theta, mut before) = ([2.0, -1.0], [2.0, -1.0]);
            for ((now, got), lr) in plain.iter().zip(&decayed).zip(rates) {
                for i in 0..2 {
                    theta[i] = (1.0 - lr * WD) * theta[i] + (now[i] - before[i]);
                    assert!(
                        (theta[i] - got[i]).abs() < 1e-14,
                        "{json} by {backend:?}: {} against {}",
                        got[i],
                        theta[i]
                    );
                }
                before = *now;
            }
        }
    }
}

/// Without momentum there is nothing for a coupled decay to enter: both are one.
#[test]
fn both_kinds_are_one_for_plain_descent() {
    let json = r#"{"sgd": {"lr": 0.1, DECAY}}"#;
    let (coupled, decoupled) = (r#""weight_decay": 0.3"#, r#""weight_decay": 0.3, "decay": "decoupled""#);
    let (a, b) = (path(json, coupled, Backend::Auto), path(json, decoupled, Backend::Auto));
    for (x, y) in a.iter().flatten().zip(b.iter().flatten()) {
        assert!((x - y).abs() < 1e-15, "{a:?}, {b:?}");
    }
}

/// What a run's id is a hash of: a default that came later is not written.
#[test]
fn configurations_are_written_as_ever() {
    for (name, expected) in [
        ("sgd", r#"{"sgd":{"lr":0.01,"momentum":0.0,"dampening":0.0,"nesterov":false,"weight_decay":0.0}}"#),
        ("adagrad", r#"{"adagrad":{"lr":0.01,"lr_decay":0.0,"initial_sum":0.0,"eps":1e-10,"weight_decay":0.0}}"#),
        ("adadelta", r#"{"adadelta":{"lr":1.0,"rho":0.9,"eps":1e-6,"weight_decay":0.0}}"#),
        ("adamax", r#"{"adamax":{"lr":0.002,"beta1":0.9,"beta2":0.999,"eps":1e-8,"weight_decay":0.0}}"#),
        (
            "rmsprop",
            r#"{"rmsprop":{"lr":0.01,"rho":0.99,"eps":1e-8,"momentum":0.0,"centered":false,"weight_decay":0.0}}"#,
        ),
    ] {
        let config = config(&format!("\"{name}\""));
        assert_eq!(serde_json::to_string(&config).unwrap().replace("1e-06", "1e-6").replace("1e-08", "1e-8"), expected);
    }
    let decoupled = OptimizerConfig::Sgd(SgdConfig { decay: DecayKind::Decoupled, ..SgdConfig::default() });
    let text = serde_json::to_string(&decoupled).unwrap();
    assert!(text.ends_with(r#""decay":"decoupled"}}"#), "{text}");
    assert_eq!(serde_json::from_str::<OptimizerConfig>(&text).unwrap(), decoupled);
    assert!(decoupled.about_setting("decay").unwrap().starts_with("Where weight decay enters"));
    let expected = r#"{"groups":[],"decay_scope":"all","clip":null,"non_finite":"propagate","accumulate":1,"schedule":{"constant":{"warmup":0.0}}}"#;
    assert_eq!(serde_json::to_string(&Options::default()).unwrap(), expected);
}
