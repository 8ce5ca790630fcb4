//! No setting of any optimizer or option is infinite, or no number: such a value is refused when it is read, or when it is checked.

use np_core::{OptimizerConfig, Options};
use serde::de::DeserializeOwned;
use serde_yaml::Value;

/// What may stand in a configuration instead of a default, and has settings of its own.
const OPTIMIZERS: [&str; 12] = [
    "neuroplastic: {formulation: bounded_residual}",
    "neuroplastic: {formulation: orthogonal_residual}",
    "neuroplastic: {formulation: {orthogonal_residual: {schedule: {late: 0.5}}}}",
    "neuroplastic: {formulation: hybrid}",
    "neuroplastic: {formulation: {hybrid: {base: sgd_momentum}}}",
    "neuroplastic: {formulation: {hybrid: {base: adamw}}}",
    "neuroplastic: {controller: {mode: global}}",
    "sgd: {decay: decoupled}",
    "prodigy: {growth_rate: 2.0}",
    "kfac: {kl_clip: 1.0}",
    "adafactor: {eps1: 1e-8}",
    "rprop: {}",
];

const OPTIONS: [&str; 8] = [
    "clip: {norm: 1.0}",
    "clip: {value: 1.0}",
    "groups: [{match: '*', lr_scale: 2.0, weight_decay: 0.1}]",
    "schedule: step",
    "schedule: exponential",
    "schedule: cosine",
    "schedule: one_cycle",
    "schedule: linear",
];

/// `value` with each of its numbers, one at a time, replaced by `number`; with the way to it.
fn replaced(value: &Value, number: f64, way: &str) -> Vec<(String, Value)> {
    let of = |key: &str, inner: &Value, put: &dyn Fn(Value) -> Value| -> Vec<(String, Value)> {
        let within = replaced(inner, number, &format!("{way}.{key}"));
        within.into_iter().map(|(way, inner)| (way, put(inner))).collect()
    };
    match value {
        Value::Mapping(map) => {
            let each = map.iter().flat_map(|(key, inner)| {
                of(key.as_str().unwrap(), inner, &|inner| {
                    let mut map = map.clone();
                    map.insert(key.clone(), inner);
                    Value::Mapping(map)
                })
            });
            each.collect()
        }
        Value::Sequence(items) => {
            let each = items.iter().enumerate().flat_map(|(i, inner)| {
                of(&i.to_string(), inner, &|inner| {
                    let mut items = items.clone();
                    items[i] = inner;
                    Value::Sequence(items)
                })
            });
            each.collect()
        }
        // What is absent may be a number too; where it may not, it cannot be read.
        Value::Number(_) | Value::Null => vec![(way.to_owned(), number.into())],
        _ => vec![],
    }
}

/// Settings that are taken though they are infinite, or no number.
fn taken<T: DeserializeOwned>(value: &Value, valid: impl Fn(&T) -> bool) -> Vec<String> {
    let sound: T = serde_yaml::from_value(value.clone()).unwrap();
    assert!(valid(&sound), "{value:?}");
    let numbers = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let all =
        numbers.into_iter().flat_map(|number| replaced(value, number, "").into_iter().map(move |it| (number, it)));
    let bad = all.filter(|(_, (_, value))| serde_yaml::from_value::<T>(value.clone()).is_ok_and(|read| valid(&read)));
    bad.map(|(number, (way, _))| format!("{way} = {number}")).collect()
}

#[test]
fn no_setting_is_infinite_or_no_number() {
    let written = |text: &&str| serde_yaml::from_str::<OptimizerConfig>(text).unwrap();
    let all = OptimizerConfig::defaults().into_iter().chain(OPTIMIZERS.iter().map(written));
    let mut bad: Vec<String> = all
        .flat_map(|config| {
            taken::<OptimizerConfig>(&serde_yaml::to_value(&config).unwrap(), |read| read.validate().is_ok())
        })
        .collect();
    for text in OPTIONS {
        let options: Options = serde_yaml::from_str(text).unwrap();
        bad.extend(taken::<Options>(&serde_yaml::to_value(&options).unwrap(), |read| read.validate().is_ok()));
    }
    bad.sort();
    bad.dedup();
    assert!(bad.is_empty(), "{bad:#?}");
}
