//! Globs over names, and options that change in place.

use candle_core::DType;
use np_core::{AnyOptimizer, Backend, Group, Options, Sgd, SgdConfig, StepOutcome, Training};

use crate::common::{gradients, parameters, values, variants};
use crate::{config, constant, numbers, options, var};

/// Which of `names` a pattern freezes.
fn frozen(pattern: &str, names: &[&str]) -> Vec<bool> {
    let named: Vec<_> = names.iter().map(|name| ((*name).to_string(), var(&[1.0]))).collect();
    let group = Group { pattern: pattern.into(), training: Some(Training::Frozen), ..Group::default() };
    let options = Options { groups: vec![group], ..Options::default() };
    let mut sgd = Sgd::from_named(named.clone(), SgdConfig::default()).unwrap().with_options(options).unwrap();
    let each: Vec<_> = named.iter().map(|(_, v)| (v, 1.0)).collect();
    sgd.step_report(&constant(&each)).unwrap();
    named.iter().map(|(_, v)| numbers(v) == [1.0]).collect()
}

#[test]
fn a_star_is_any_run_of_characters() {
    let names = ["block/0/conv.weight", "block/0/conv.bias", "block.1.conv.weight", "head/β.weight", "weight"];
    for (pattern, expected) in [
        ("*", [true; 5]),
        ("**", [true; 5]),
        ("*weight", [true, false, true, true, true]),
        ("*.weight", [true, false, true, true, false]),
        ("block*", [true, true, true, false, false]),
        ("block*weight", [true, false, true, false, false]),
        ("block/**", [true, true, false, false, false]),
        ("*/conv.*", [true, true, false, false, false]),
        ("block?0?conv.*", [true, true, false, false, false]),
        ("block[/.]*", [true, true, true, false, false]),
        ("{head/*,*bias}", [false, true, false, true, false]),
        ("head/?.weight", [false, false, false, true, false]),
        ("[!h]*", [true, true, true, false, true]),
    ] {
        assert_eq!(frozen(pattern, &names), expected, "{pattern}");
    }
}

#[test]
fn a_glob_that_is_none_is_said_so() {
    for pattern in ["layer[1", "{a,b", "x\\"] {
        let bad = Options { groups: vec![Group { pattern: pattern.into(), ..Group::default() }], ..Options::default() };
        let error = bad.validate().unwrap_err().to_string();
        assert!(
            error.starts_with("`groups.0.match`: expected a glob (") && error.ends_with(&format!("got `{pattern}`")),
            "{error}"
        );
    }
}

#[test]
fn a_group_says_nothing_of_what_is_not_set() {
    let group = Group::default();
    assert_eq!(serde_json::to_string(&group).unwrap(), r#"{"match":"*"}"#);
    let params = parameters(DType::F32);
    let options = Options { groups: vec![group], ..Options::default() };
    let mut with = config("\"adamw\"").build_with(params.clone(), options, Backend::Auto).unwrap();
    with.step_report(&gradients(&params, 0)).unwrap();
    let plain = parameters(DType::F32);
    config("\"adamw\"").build(plain.clone()).unwrap().step_report(&gradients(&plain, 0)).unwrap();
    assert_eq!(values(&params), values(&plain));
}

/// Changed in place, options act as if they had been there from the start, and whatever is refused leaves the optimizer as it was.
#[test]
fn options_change_in_place_or_not_at_all() {
    let clip = r#"{"clip": {"value": 0.05}, "schedule": {"step": {"every": 1}}}"#;
    for (name, config) in variants() {
        let run = |refusals: bool| {
            let params = parameters(DType::F32);
            let mut optimizer: Box<dyn AnyOptimizer> = config.build(params.clone()).unwrap();
            optimizer.begin_epoch(1, 2);
            optimizer.step_report(&gradients(&params, 0)).unwrap();
            optimizer.set_options(options(clip)).unwrap();
            if refusals {
                for bad in [
                    r#"{"groups": [{"match": "fc.weight", "matrix": "off"}, {"match": "nobody"}]}"#,
                    r#"{"groups": [{"match": "fc.weight", "matrix": "off", "lr_scale": -1}]}"#,
                    r#"{"clip": {"norm": 0}, "schedule": "cosine"}"#,
                    r#"{"schedule": {"cosine": {"min": 7}}}"#,
                ] {
                    optimizer.set_options(options(bad)).unwrap_err();
                }
                assert_eq!(optimizer.options(), &options(clip));
            }
            optimizer.begin_epoch(2, 2);
            optimizer.step_report(&gradients(&params, 2)).unwrap();
            (values(&params), format!("{:?}", optimizer.state().unwrap().numbers))
        };
        assert_eq!(run(true), run(false), "{name}");
    }
}

#[test]
fn a_change_in_the_middle_of_an_accumulation_keeps_it() {
    let w = var(&[0.0]);
    let named = vec![("w".into(), w.clone())];
    let sgd = config(r#"{"sgd": {"lr": 1}}"#);
    let mut sgd = sgd.build_with(named, options(r#"{"accumulate": 2}"#), Backend::Auto).unwrap();
    sgd.step_report(&constant(&[(&w, 1.0)])).unwrap();
    let error = sgd.set_options(Options::default()).unwrap_err().to_string();
    assert_eq!(error, "`options.accumulate`: expected 2 until the step under way is complete, got `1`");
    assert_eq!(sgd.step_report(&constant(&[(&w, 3.0)])).unwrap().outcome, StepOutcome::Updated);
    assert_eq!(numbers(&w), [-2.0]);
    sgd.set_options(Options::default()).unwrap();
}
