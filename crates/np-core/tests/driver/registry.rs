//! What a configuration says of its optimizer before there is one: schedules, sizes, documentation.

use np_core::{LbfgsConfig, OptimizerConfig, Schedule, ShampooConfig};

fn factors(json: &str, epochs: f64) -> Vec<f64> {
    let schedule: Schedule = serde_json::from_str(json).unwrap();
    schedule.validate().unwrap();
    (0..=4).map(|i| schedule.factor(f64::from(i) * epochs / 4.0, epochs)).collect()
}

#[test]
fn known_values() {
    let close = |json: &str, expected: [f64; 5]| {
        for (got, want) in factors(json, 8.0).iter().zip(expected) {
            assert!((got - want).abs() < 1e-12, "{json}: {got} against {want}");
        }
    };
    let half = std::f64::consts::FRAC_1_SQRT_2;
    close(r#""constant""#, [1.0; 5]);
    close(r#"{"constant": {"warmup": 4}}"#, [0.0, 0.5, 1.0, 1.0, 1.0]);
    close(r#"{"step": {"every": 4, "gamma": 0.5}}"#, [1.0, 1.0, 0.5, 0.5, 0.25]);
    close(r#"{"exponential": {"gamma": 0.5}}"#, [1.0, 0.25, 0.0625, 0.015625, 0.00390625]);
    close(r#""cosine""#, [1.0, 0.5 + half / 2.0, 0.5, 0.5 - half / 2.0, 0.0]);
    close(r#"{"linear": {"stable": 0.5}}"#, [1.0, 1.0, 1.0, 0.5, 0.0]);
    close(r#"{"linear": {"warmup": 4, "min": 0.2}}"#, [0.0, 0.5, 1.0, 0.6, 0.2]);
    close(r#"{"one_cycle": {"rise": 0.5, "start": 0.0, "end": 0.0}}"#, [0.0, 0.5, 1.0, 0.5, 0.0]);
}

#[test]
fn ranges_are_checked() {
    let schedule: Schedule = serde_json::from_str(r#"{"cosine": {"min": 2}}"#).unwrap();
    let message = schedule.validate().unwrap_err().to_string();
    assert_eq!(message, "`schedule.cosine.min`: expected a number in [0, 1], got `2`");
}

#[test]
fn histories_and_squares_are_counted() {
    let lbfgs = |history| OptimizerConfig::Lbfgs(LbfgsConfig { history, ..LbfgsConfig::default() });
    assert_eq!(lbfgs(10).numbers_held(&[6], 1000), Some(6 * 11 * 4));
    assert_eq!(lbfgs(usize::MAX).numbers_held(&[6], 9), Some(6 * 10 * 4));
    let shampoo = OptimizerConfig::Shampoo(ShampooConfig { momentum: 0.0, ..ShampooConfig::default() });
    let scratch = 2 * 15;
    assert_eq!(shampoo.numbers_held(&[3, 5], 1), Some(2 * 9 + 2 * 25 + scratch));
}

#[test]
fn every_optimizer_answers_for_any_shape() {
    for config in OptimizerConfig::defaults() {
        for shape in [&[1 << 40, 1 << 40][..], &[usize::MAX], &[1 << 33, 2], &[3, 0], &[]] {
            let _ = config.numbers_held(shape, usize::MAX);
        }
        assert!(config.numbers_held(&[4, 4], 10).is_some(), "{}", config.kind());
    }
}

#[test]
fn every_optimizer_says_what_it_computes() {
    for config in OptimizerConfig::defaults() {
        let (kind, about) = (config.kind(), config.about());
        assert!(about.lines().next().unwrap().len() > 20, "{kind}: {about}");
        assert!(about.contains("\n    "), "{kind} has no formula:\n{about}");
        assert!(about.contains("Reference"), "{kind} has no reference:\n{about}");
        let marks = ["```", "[`", "`(", "::", "use candle", "Driver"];
        assert!(!marks.iter().any(|mark| about.contains(mark)), "{kind}:\n{about}");
    }
}

#[test]
fn every_setting_is_documented() {
    fn leaves(path: &str, value: &serde_json::Value, check: &mut dyn FnMut(&str)) {
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = format!("{path}.{key}");
            check(path.trim_start_matches('.'));
            leaves(&path, value, check);
        }
    }
    for config in OptimizerConfig::defaults() {
        let written = serde_json::to_value(&config).unwrap();
        leaves("", &written[config.kind()], &mut |path| {
            // The name of a formulation is a value, not a setting.
            if path != "formulation.direct" {
                let said = config.about_setting(path);
                let said = said.unwrap_or_else(|| panic!("{}: `{path}` says nothing", config.kind()));
                assert!(said.len() > 5 && !said.contains("[`") && !said.contains("::"), "{path}: {said}");
            }
        });
    }
}
