//! Averages in the parameters' place, and what is saved meanwhile.

use np_core::{AnyOptimizer, OptimizerState, Weights};

use crate::common::variants;
use crate::{bowl, config, numbers, options, var};

fn steps(optimizer: &mut dyn AnyOptimizer, w: &candle_core::Var, n: usize) {
    for _ in 0..n {
        optimizer.step_report(&bowl(w).backward().unwrap()).unwrap();
    }
}

/// Evaluation is when one saves: what is saved then goes on as if it had never stopped, whether the parameters that are loaded are the average or not.
#[test]
fn saved_while_averaged_goes_on_from_the_trained_weights() {
    for (name, config) in variants() {
        let averages = ["asgd", "schedule_free_adamw", "schedule_free_sgd"].contains(&config.kind())
            || name == "hybrid of schedule-free";
        for half in [candle_core::DType::F64, candle_core::DType::BF16] {
            let fresh = || candle_core::Var::from_tensor(&var(&[3.0, -2.0, 0.5]).to_dtype(half).unwrap()).unwrap();
            let w = fresh();
            let mut whole = config.build(vec![("w".into(), w.clone())]).unwrap();
            // Small enough for every optimizer and in half precision.
            whole.try_set_learning_rate(0.01).unwrap();
            whole.begin_epoch(1, 2);
            steps(whole.as_mut(), &w, 10);
            whole.use_weights(Weights::Averaged).unwrap();
            let (bytes, shown) = (whole.state().unwrap().to_safetensors().unwrap(), w.as_tensor().copy().unwrap());
            whole.use_weights(Weights::Trained).unwrap();
            let state = OptimizerState::from_safetensors(&bytes).unwrap();
            assert_eq!(state.tensors.contains_key("w.trained"), averages, "{name}");

            let v = candle_core::Var::from_tensor(&shown).unwrap();
            let mut resumed = config.build(vec![("w".into(), v.clone())]).unwrap();
            resumed.load_state(&state).unwrap();
            assert_eq!(numbers(&v), numbers(&w), "{name}");
            steps(whole.as_mut(), &w, 10);
            steps(resumed.as_mut(), &v, 10);
            assert_eq!(numbers(&v), numbers(&w), "{name}");
            // The averages are of the same weights too.
            whole.use_weights(Weights::Averaged).unwrap();
            resumed.use_weights(Weights::Averaged).unwrap();
            assert_eq!(numbers(&v), numbers(&w), "{name}");
        }
    }
}

#[test]
fn while_averaged_no_step_is_taken_and_no_state_made_of_the_average() {
    let free = config(r#"{"schedule_free_sgd": {"lr": 0.1}}"#);
    let w = candle_core::Var::from_tensor(&var(&[3.0, -2.0]).reshape((1, 2)).unwrap()).unwrap();
    let mut optimizer = free.build(vec![("w".into(), w.clone())]).unwrap();
    steps(optimizer.as_mut(), &w, 3);
    let (state, trained) = (optimizer.state().unwrap(), numbers(&w));
    optimizer.use_weights(Weights::Averaged).unwrap();
    let hint = "parameter `w`: expected the weights that are trained, got their average; hint: call `use_weights(Weights::Trained)`";
    let grads = bowl(&w).backward().unwrap();
    assert_eq!(optimizer.step_report(&grads).unwrap_err().to_string(), hint);
    assert_eq!(optimizer.load_state(&state).unwrap_err().to_string(), hint);
    let anew = options(r#"{"groups": [{"match": "w", "matrix": "off"}]}"#);
    assert_eq!(optimizer.set_options(anew.clone()).unwrap_err().to_string(), hint);
    // Other options can be changed then.
    optimizer.set_options(options(r#"{"clip": {"norm": 1}}"#)).unwrap();
    optimizer.use_weights(Weights::Trained).unwrap();
    assert_eq!(numbers(&w), trained);
    optimizer.set_options(anew).unwrap();
    optimizer.step_report(&grads).unwrap();
}

/// The parameters that were saved beside the state may be the average: loaded after it, they would take the trained ones' place.
#[test]
fn an_average_loaded_after_the_state_is_not_trained_from() {
    for (kind, settings) in [("schedule_free_adamw", ""), ("schedule_free_sgd", ""), ("asgd", r#", "t0": 3"#)] {
        let config = config(&format!(r#"{{"{kind}": {{"lr": 0.1{settings}}}}}"#));
        let w = var(&[3.0, -2.0, 0.5]);
        let mut first = config.build(vec![("w".into(), w.clone())]).unwrap();
        steps(first.as_mut(), &w, 10);
        first.use_weights(Weights::Averaged).unwrap();
        let (state, shown) = (first.state().unwrap(), w.as_tensor().copy().unwrap());
        first.use_weights(Weights::Trained).unwrap();
        let trained = numbers(&w);
        steps(first.as_mut(), &w, 3);

        let v = var(&[0.0; 3]);
        let mut second = config.build(vec![("w".into(), v.clone())]).unwrap();
        second.load_state(&state).unwrap();
        v.set(&shown).unwrap();
        let hint = "parameter `w`: expected the trained weights that `load_state` has put there, got others; hint: load parameters before the state, or call `use_weights(Weights::Trained)`";
        let error = second.step_report(&bowl(&v).backward().unwrap()).unwrap_err().to_string();
        assert_eq!(error, hint, "{kind}");
        assert_eq!(second.use_weights(Weights::Averaged).unwrap_err().to_string(), hint, "{kind}");
        // What is saved now has the trained weights still, and they can be put back.
        assert!(second.state().unwrap().tensors.contains_key("w.trained"), "{kind}");
        second.use_weights(Weights::Trained).unwrap();
        assert_eq!(numbers(&v), trained, "{kind}");
        steps(second.as_mut(), &v, 3);
        assert_eq!(numbers(&v), numbers(&w), "{kind}");
        // From the first step on the parameters are whoever's who sets them.
        v.set(&shown).unwrap();
        steps(second.as_mut(), &v, 1);
    }
}
