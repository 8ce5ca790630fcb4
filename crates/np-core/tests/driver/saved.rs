//! Saved state finds its parameters by name, and says which entry does not fit.

use candle_core::{DType, Device, Tensor, Var};
use np_core::{AnyOptimizer, Lbfgs, LbfgsConfig, OptimizerState, Options};

use crate::common::{gradients, parameters, values, variants};
use crate::{numbers, var};

fn through_a_file(state: &OptimizerState) -> OptimizerState {
    OptimizerState::from_safetensors(&state.to_safetensors().unwrap()).unwrap()
}

/// Metadata are a hash map to the crate that writes them.
#[test]
fn the_same_state_is_the_same_bytes() {
    for (name, config) in variants() {
        let params = parameters(DType::F32);
        let mut optimizer = config.build(params.clone()).unwrap();
        optimizer.begin_epoch(1, 4);
        optimizer.step_report(&gradients(&params, 0)).unwrap();
        let state = optimizer.state().unwrap();
        let bytes = state.to_safetensors().unwrap();
        for _ in 0..10 {
            assert_eq!(state.to_safetensors().unwrap(), bytes, "{name}");
        }
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert!(
            length.is_multiple_of(8) && bytes[8..].starts_with(b"{\"__metadata__\":{\"absent\":\"0\",\"calls\":"),
            "{name}"
        );
        let read = OptimizerState::from_safetensors(&bytes).unwrap();
        assert_eq!((&read.kind, &read.numbers), (&state.kind, &state.numbers), "{name}");
        assert!(read.tensors.keys().eq(state.tensors.keys()), "{name}");
    }
    // No tensors, and text that JSON has to escape.
    let numbers = [("a \"b\"\\\u{1}".to_string(), "é\n".to_string())].into();
    let state = OptimizerState { kind: "none".into(), tensors: Default::default(), numbers };
    assert_eq!(through_a_file(&state).numbers, state.numbers);
}

/// 24 numbers of two parameters in a valley that bends: Σ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².
fn valley(w: &Var, b: &Var) -> np_core::Result<(f64, candle_core::backprop::GradStore)> {
    let x = Tensor::cat(&[w.as_tensor(), b.as_tensor()], 0)?;
    let n = x.dim(0)? - 1;
    let (now, next) = (x.narrow(0, 0, n)?, x.narrow(0, 1, n)?);
    let loss = (((next - now.sqr()?)?.sqr()? * 100.0)? + (1.0 - now)?.sqr()?)?.sum_all()?;
    Ok((loss.to_scalar()?, loss.backward()?))
}

#[test]
fn lbfgs_finds_its_history_by_name() {
    let run = |swapped: bool| {
        let (w, b) = (var(&[-1.2, 1.0, -0.5]), var(&[0.8, 1.1]));
        let config = LbfgsConfig { max_iterations: 3, ..LbfgsConfig::default() };
        let named = [("w".to_string(), w.clone()), ("b".to_string(), b.clone())];
        let mut lbfgs = Lbfgs::from_named(named.to_vec(), config.clone()).unwrap();
        for call in 0..6 {
            if call == 3 {
                let state = through_a_file(&lbfgs.state().unwrap());
                let mut again = named.to_vec();
                if swapped {
                    again.reverse();
                }
                lbfgs = Lbfgs::from_named(again, config.clone()).unwrap();
                lbfgs.load_state(&state).unwrap();
            }
            lbfgs.step_with(&mut || valley(&w, &b)).unwrap();
        }
        [numbers(&w), numbers(&b)].concat()
    };
    // Sums over all parameters are taken in another order: rounding, which 9 iterations in a bent valley magnify.
    for (x, y) in run(false).iter().zip(run(true)) {
        assert!((x - y).abs() < 1e-9, "{x} against {y}");
    }
}

#[test]
fn lbfgs_names_what_does_not_fit() {
    let (w, b) = (var(&[-1.2, 1.0, -0.5]), var(&[0.8, 1.1]));
    let named = vec![("w".to_string(), w.clone()), ("b".to_string(), b.clone())];
    let mut lbfgs = Lbfgs::from_named(named, LbfgsConfig { max_iterations: 3, ..LbfgsConfig::default() }).unwrap();
    lbfgs.step_with(&mut || valley(&w, &b)).unwrap();
    let good = lbfgs.state().unwrap();
    let pairs = good.tensors["b.pairs"].to_scalar::<f64>().unwrap();
    assert!(pairs > 0.0);
    let mut refused = |change: &dyn Fn(&mut OptimizerState)| {
        let mut state = good.clone();
        change(&mut state);
        lbfgs.load_state(&state).unwrap_err().to_string()
    };
    let put =
        |name: &'static str, x: Tensor| move |s: &mut OptimizerState| drop(s.tensors.insert(name.into(), x.clone()));
    let zeros = |n: usize| Tensor::zeros(n, DType::F64, &Device::Cpu).unwrap();
    let number = |x: f64| Tensor::new(x, &Device::Cpu).unwrap();
    let message = refused(&|s| drop(s.tensors.remove("b.s.0")));
    assert_eq!(message, "state `b.s.0`: expected shape [2], got nothing");
    assert_eq!(refused(&put("w.y.0", zeros(2))), "state `w.y.0`: expected shape [3] of f64, got shape [2] of f64");
    let message = refused(&put("b.pairs", number(pairs + 1.0)));
    assert_eq!(message, format!("state `b.pairs`: expected {pairs}, as of the parameters before, got {}", pairs + 1.0));
    assert_eq!(refused(&put("w.pairs", number(-1.0))), "state `w.pairs`: expected a number of pairs, got -1");
    assert_eq!(refused(&put("v.s.0", zeros(2))), "state `v.s.0`: expected no such entry, got one");
    assert_eq!(refused(&put("shared.s.0", zeros(2))), "state `shared.s.0`: expected no such entry, got one");
    // With a count gone, that parameter has no part in the history, and its vectors fit nothing.
    assert_eq!(refused(&|s| drop(s.tensors.remove("b.pairs"))), "state `b.gradient`: expected no such entry, got one");
    lbfgs.load_state(&good).unwrap();
}

/// The same parameters in another order: every optimizer finds its state by their names.
#[test]
fn the_order_of_the_parameters_may_be_another() {
    for (name, config) in variants() {
        // Layers and thirds of NeuroPlastic go by position.
        if config.kind() == "neuroplastic" {
            continue;
        }
        let params = parameters(DType::F64);
        let mut first = config.build(params.clone()).unwrap();
        let train = |optimizer: &mut dyn AnyOptimizer, steps: std::ops::Range<u64>| {
            for step in steps {
                optimizer.step_report(&gradients(&params, step)).unwrap();
            }
        };
        train(first.as_mut(), 0..4);
        let state = through_a_file(&first.state().unwrap());
        let middle: Vec<Tensor> = params.iter().map(|(_, v)| v.as_tensor().copy().unwrap()).collect();
        train(first.as_mut(), 4..8);
        let whole = values(&params);
        for ((_, var), value) in params.iter().zip(&middle).filter(|((_, var), _)| var.elem_count() > 0) {
            var.set(value).unwrap();
        }
        let mut second = config.build(params.iter().rev().cloned().collect()).unwrap();
        second.load_state(&state).unwrap();
        train(second.as_mut(), 4..8);
        for (x, y) in whole.iter().flatten().zip(values(&params).iter().flatten()) {
            // Norms over all parameters are summed in another order.
            assert!((x - y).abs() < 1e-9, "{name}: {x} against {y}");
        }
    }
}

#[test]
fn numbers_out_of_range_and_unknown_ones_are_named() {
    let (w, config) = (var(&[1.0]), crate::config("\"adamw\""));
    let mut optimizer = config.build(vec![("w".into(), w)]).unwrap();
    let good = optimizer.state().unwrap();
    for (name, value, expected) in [
        ("lr", "-1", "a learning rate that the optimizer can have, got -1"),
        ("lr", "NaN", "a learning rate that the optimizer can have, got NaN"),
        ("position", "NaN", "a number of epochs ≥ 0, got NaN"),
        ("position", "-1", "a number of epochs ≥ 0, got -1"),
        ("epoch", "0", "a number ≥ 1, got 0"),
        ("calls", "1", "less than `accumulate`, 1, got 1"),
        ("d", "1", "no such number, got one"),
    ] {
        let mut state = good.clone();
        state.numbers.insert(name.into(), value.into());
        let error = optimizer.load_state(&state).unwrap_err().to_string();
        assert_eq!(error, format!("state `{name}`: expected {expected}"));
    }
    let mut state = good.clone();
    state.tensors.insert("w.steps".into(), Tensor::new(-3i64, &Device::Cpu).unwrap());
    assert_eq!(optimizer.load_state(&state).unwrap_err().to_string(), "state `w.steps`: expected a step count, got -3");
    assert_eq!(optimizer.options(), &Options::default());
    optimizer.load_state(&good).unwrap();
}
