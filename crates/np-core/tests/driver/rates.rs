//! Rates, positions and epochs that are no such thing.

use candle_nn::Optimizer;
use np_core::{Sgd, SgdConfig};

use crate::common::variants;
use crate::{constant, numbers, options, var};

const BAD: [f64; 4] = [f64::NAN, -1.0, f64::INFINITY, f64::NEG_INFINITY];

#[test]
fn a_rate_is_checked_whenever_it_is_set() {
    for (name, config) in variants() {
        let w = var(&[1.0, -2.0]);
        let mut optimizer = config.build(vec![("w".into(), w.clone())]).unwrap();
        optimizer.begin_epoch(1, 2);
        let (lr, grads) = (optimizer.lr(), constant(&[(&w, 1.0)]));
        for bad in BAD {
            let expected = format!("`lr`: expected a number ≥ 0, got `{bad}`");
            assert_eq!(optimizer.try_set_learning_rate(bad).unwrap_err().to_string(), expected, "{name}");
            // candle's has no way to say so: the next step does, once, and nothing has changed.
            optimizer.set_learning_rate(bad);
            assert_eq!(optimizer.learning_rate(), lr, "{name}");
            assert_eq!(optimizer.step_report(&grads).unwrap_err().to_string(), expected, "{name}");
            assert_eq!(numbers(&w), [1.0, -2.0], "{name}");
        }
        optimizer.try_set_learning_rate(0.5 * lr).unwrap();
        assert_eq!(optimizer.lr(), 0.5 * lr);
        optimizer.step_report(&grads).unwrap();
        assert_eq!(optimizer.steps(), 1, "{name}");
    }
}

#[test]
fn a_place_in_the_training_is_checked() {
    let w = var(&[1.0]);
    let mut sgd = Sgd::new(vec![w.clone()], SgdConfig { lr: 1.0, ..Default::default() }).unwrap();
    sgd.set_options(options(r#"{"schedule": "linear"}"#)).unwrap();
    let grads = constant(&[(&w, 0.25)]);
    sgd.begin_epoch(1, 2);
    sgd.set_position(1.0);
    for bad in BAD {
        sgd.set_position(bad);
        let expected = format!("`position`: expected a number of epochs ≥ 0, got `{bad}`");
        assert_eq!(sgd.step_report(&grads).unwrap_err().to_string(), expected);
    }
    for (epoch, epochs, expected) in [
        (0, 2, "`epoch`: expected a number ≥ 1, got `0`"),
        (1, 0, "`epochs`: expected a number ≥ 1, got `0`"),
        (5, 2, "`epoch`: expected at most the number of epochs, 2, got `5`"),
    ] {
        sgd.begin_epoch(epoch, epochs);
        // candle adds a backtrace where one is asked for.
        let error = sgd.step(&grads).unwrap_err().to_string();
        assert_eq!(error.lines().next(), Some(expected));
    }
    // The first of several is told, and a line search is a step too.
    sgd.set_position(-1.0);
    sgd.begin_epoch(0, 0);
    let error = sgd.step_with(&mut || Ok((0.0, constant(&[(&w, 0.25)])))).unwrap_err().to_string();
    assert_eq!(error, "`position`: expected a number of epochs ≥ 0, got `-1`");
    // Half of the training is done still, and half of η is left.
    assert_eq!(sgd.effective_lr(), 0.5);
    sgd.step(&grads).unwrap();
    assert_eq!(numbers(&w), [0.875]);
}
