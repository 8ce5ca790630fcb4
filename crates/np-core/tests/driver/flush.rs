//! An accumulation that ends early.

use candle_core::DType;
use np_core::{Backend, OptimizerState, StepOutcome, Weights};

use crate::common::{gradients, parameters, values, variants};
use crate::{config, constant, numbers, options, var};

/// Six batches an epoch, four an update: the last two are an update of their own, of their mean.
#[test]
fn an_epochs_last_batches_are_averaged_among_themselves() {
    let w = var(&[0.0]);
    let sgd = config(r#"{"sgd": {"lr": 1}}"#);
    let mut sgd =
        sgd.build_with(vec![("w".into(), w.clone())], options(r#"{"accumulate": 4}"#), Backend::Auto).unwrap();
    let mut updates = vec![];
    for epoch in 1..=2 {
        sgd.begin_epoch(epoch, 2);
        for g in [1.0, 2.0, 3.0, 6.0, 10.0, 20.0] {
            if sgd.step_report(&constant(&[(&w, g)])).unwrap().outcome == StepOutcome::Updated {
                updates.push(numbers(&w)[0]);
            }
        }
        let report = sgd.flush().unwrap();
        assert_eq!((report.outcome, report.updated), (StepOutcome::Updated, 1));
        updates.push(numbers(&w)[0]);
        // Nothing is left.
        assert_eq!(sgd.flush().unwrap().outcome, StepOutcome::Unchanged);
    }
    // (1 + 2 + 3 + 6)/4 = 3 and (10 + 20)/2 = 15, in both epochs.
    assert_eq!(updates, [-3.0, -18.0, -21.0, -36.0]);
    assert_eq!(sgd.steps(), 4);
}

#[test]
fn a_flush_is_a_step_with_the_mean_of_what_there_was() {
    for (name, config) in variants() {
        for dtype in [DType::F64, DType::BF16] {
            let (flushed, whole) = (parameters(dtype), parameters(dtype));
            let five = options(r#"{"accumulate": 5, "clip": {"norm": 0.5}}"#);
            let mut first = config.build_with(flushed.clone(), five.clone(), Backend::Auto).unwrap();
            let two = options(r#"{"accumulate": 2, "clip": {"norm": 0.5}}"#);
            let mut second = config.build_with(whole.clone(), two, Backend::Auto).unwrap();
            for epoch in 1..=2 {
                first.begin_epoch(epoch, 2);
                second.begin_epoch(epoch, 2);
                for step in 0..2 {
                    first.step_report(&gradients(&flushed, step)).unwrap();
                    second.step_report(&gradients(&whole, step)).unwrap();
                    // Interrupted in the middle: what was accumulated is saved.
                    let bytes = first.state().unwrap().to_safetensors().unwrap();
                    first = config.build_with(flushed.clone(), five.clone(), Backend::Auto).unwrap();
                    first.load_state(&OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
                }
                first.flush().unwrap();
            }
            // Sums of fifths, of which five halves are taken: rounding, and in half precision a last bit of a parameter up to 1.
            let allowed = if dtype == DType::F64 { 1e-6 } else { 0.02 };
            for (x, y) in values(&flushed).iter().flatten().zip(values(&whole).iter().flatten()) {
                assert!((x - y).abs() < allowed, "{name} in {dtype:?}: {x} against {y}");
            }
        }
    }
}

#[test]
fn a_flush_is_refused_where_a_step_would_be_and_one_of_nothing_never() {
    let w = var(&[1.0, 2.0]);
    let free = config(r#"{"schedule_free_sgd": {"lr": 0.1}}"#);
    let two = options(r#"{"accumulate": 2}"#);
    let mut optimizer = free.build_with(vec![("w".into(), w.clone())], two, Backend::Auto).unwrap();
    let grads = constant(&[(&w, 1.0)]);
    for _ in 0..3 {
        optimizer.step_report(&grads).unwrap();
    }
    optimizer.use_weights(Weights::Averaged).unwrap();
    assert!(optimizer.flush().unwrap_err().to_string().contains("hint: call `use_weights(Weights::Trained)`"));
    optimizer.use_weights(Weights::Trained).unwrap();
    assert_eq!(optimizer.flush().unwrap().outcome, StepOutcome::Updated);
    optimizer.use_weights(Weights::Averaged).unwrap();
    assert_eq!(optimizer.flush().unwrap().outcome, StepOutcome::Unchanged);
}

/// What is frozen in the middle of an accumulation is not moved by its end.
#[test]
fn what_is_frozen_meanwhile_stays() {
    let (w, v) = (var(&[1.0]), var(&[1.0]));
    let two = r#"{"accumulate": 2}"#;
    let named = vec![("w".into(), w.clone()), ("v".into(), v.clone())];
    let mut sgd = config("\"sgd\"").build_with(named, options(two), Backend::Auto).unwrap();
    let grads = constant(&[(&w, 1.0), (&v, 1.0)]);
    sgd.step_report(&grads).unwrap();
    sgd.set_options(options(r#"{"accumulate": 2, "groups": [{"match": "v", "training": "frozen"}]}"#)).unwrap();
    sgd.step_report(&grads).unwrap();
    assert_eq!((numbers(&w), numbers(&v)), (vec![0.99], vec![1.0]));
}

/// Squares of 10³⁰ overflow in single precision: the batch is refused, not the mean that it would spoil, and what was accumulated before it stays.
#[test]
fn a_batch_whose_squares_overflow_does_not_take_those_before_it_along() {
    for (name, config) in variants() {
        let run = |bad: bool| {
            let params = parameters(DType::F32);
            let with = options(r#"{"accumulate": 2, "non_finite": "error"}"#);
            let mut optimizer = config.build_with(params.clone(), with, Backend::Auto).unwrap();
            optimizer.begin_epoch(1, 2);
            // SOAP's first step only looks.
            for _ in 0..2 {
                optimizer.step_report(&gradients(&params, 0)).unwrap();
            }
            optimizer.step_report(&gradients(&params, 1)).unwrap();
            let mut grads = gradients(&params, 2);
            for (_, var) in &params {
                grads.insert(var.as_tensor(), (var.ones_like().unwrap() * 1e30).unwrap());
            }
            // Optimizers without squares take it.
            if bad && optimizer.step_report(&grads).is_ok() {
                return None;
            }
            assert_eq!(optimizer.flush().unwrap().outcome, StepOutcome::Updated, "{name}");
            Some(values(&params))
        };
        let refused = run(true);
        let squares = ["shampoo", "soap", "adafactor", "kfac", "muon", "neuroplastic", "adam", "radam"];
        assert!(refused.is_some() || !squares.contains(&config.kind()), "{name}");
        assert!(refused.is_none() || refused == run(false), "{name}");
    }
}
