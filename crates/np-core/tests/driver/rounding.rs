//! Parameters in half precision, and updates that are too small for them.

use candle_core::{DType, Device, Tensor, Var};
use np_core::{Backend, OptimizerState, Options, Rounding, Stochastic, Weights};

use crate::common::{gradients, parameters, values, variants};
use crate::{BACKENDS, bowl, config, constant, numbers, options, var};

const CHOICES: [&str; 3] = [r#""nearest""#, r#""compensated""#, r#"{"stochastic": {"seed": 7}}"#];

fn rounded(how: &str) -> Options {
    options(&format!(r#"{{"rounding": {how}}}"#))
}

/// 2,000 steps of 1/8192 in a bf16 of 1, of which 1/256 is a last bit: to the nearest nothing ever moves.
#[test]
fn many_small_steps_add_up() {
    for (kind, json) in [
        ("elementwise", r#"{"sgd": {"lr": 0.0001220703125}}"#),
        ("by passes", r#"{"lars": {"lr": 0.0001220703125, "momentum": 0, "trust": 1.0}}"#),
    ] {
        for backend in BACKENDS {
            let after = |how: &str| {
                // Many elements, so that the mean of what chance makes of them is known well.
                let w = Var::from_tensor(&Tensor::ones(4096, DType::BF16, &Device::Cpu).unwrap()).unwrap();
                let mut optimizer =
                    config(json).build_with(vec![("w".into(), w.clone())], rounded(how), backend).unwrap();
                let steps = if kind == "elementwise" { 2000 } else { 200 };
                for _ in 0..steps {
                    optimizer.step_report(&constant(&[(&w, 1.0)])).unwrap();
                }
                let all = numbers(&w);
                (all.iter().sum::<f64>() / all.len() as f64, all)
            };
            let (stuck, _) = after(CHOICES[0]);
            assert_eq!(stuck, 1.0, "{kind}");
            let (compensated, _) = after(CHOICES[1]);
            let (by_chance, all) = after(CHOICES[2]);
            // LARS scales every step by ‖θ‖/‖g‖, here θ: (1 − 2⁻¹³)²⁰⁰.
            let expected =
                if kind == "elementwise" { 1.0 - 2000.0 / 8192.0 } else { (1.0 - 1.0 / 8192.0f64).powi(200) };
            // Half of a last bit; and of the mean of 4,096 walks of 2,000 steps of a last bit each with chance 1/32, four deviations.
            assert!((compensated - expected).abs() <= 1.0 / 512.0, "{kind} by {backend:?}: {compensated}");
            assert!((by_chance - expected).abs() <= 0.003, "{kind} by {backend:?}: {by_chance}");
            assert!(all.iter().any(|x| *x != all[0]), "elements have bits of their own");
        }
    }
}

/// Parameter and compensation together are the parameter in single precision.
#[test]
fn compensated_is_single_precision() {
    for half in [DType::BF16, DType::F16] {
        for backend in BACKENDS {
            let run = |dtype: DType, how: &str| {
                let start = Tensor::new(&[1f32, -0.25, 3.0, 1e-3], &Device::Cpu).unwrap().to_dtype(half).unwrap();
                let w = Var::from_tensor(&start.to_dtype(dtype).unwrap()).unwrap();
                let adamw = config(r#"{"adamw": {"lr": 1e-4, "weight_decay": 0.1}}"#);
                let mut adamw = adamw.build_with(vec![("w".into(), w.clone())], rounded(how), backend).unwrap();
                for step in 0..50 {
                    // Exact in both.
                    let g = Tensor::new(&[0.5f32, -0.25, (step % 3) as f32 - 1.0, 0.125], &Device::Cpu).unwrap();
                    let mut grads = candle_core::backprop::GradStore::default();
                    grads.insert(w.as_tensor(), g.to_dtype(dtype).unwrap());
                    adamw.step_report(&grads).unwrap();
                }
                let left = adamw.state().unwrap().tensors.get("w.compensation").cloned();
                (numbers(&w), left)
            };
            let (single, none) = run(DType::F32, CHOICES[1]);
            assert!(none.is_none(), "there is nothing to make good in single precision");
            let (stored, left) = run(half, CHOICES[1]);
            let left: Vec<f32> = left.unwrap().to_vec1().unwrap();
            let whole: Vec<f64> = stored.iter().zip(left).map(|(x, left)| x + f64::from(left)).collect();
            assert_eq!(whole, single, "{half:?} by {backend:?}");
        }
    }
}

/// Interrupted and resumed, on any number of threads, each choice gives the same bits.
#[test]
fn every_choice_resumes_to_the_bit_on_any_number_of_threads() {
    for (name, config) in variants() {
        for how in CHOICES {
            let run = |interrupted: bool| {
                let params = parameters(DType::BF16);
                let build = || config.build_with(params.clone(), rounded(how), Backend::Auto).unwrap();
                let mut optimizer = build();
                for step in 0..6 {
                    if step % 3 == 0 {
                        optimizer.begin_epoch(step as usize / 3 + 1, 2);
                    }
                    if interrupted && step == 4 {
                        optimizer.use_weights(Weights::Averaged).unwrap();
                        let state =
                            OptimizerState::from_safetensors(&optimizer.state().unwrap().to_safetensors().unwrap());
                        optimizer = build();
                        optimizer.load_state(&state.unwrap()).unwrap();
                    }
                    optimizer.step_report(&gradients(&params, step)).unwrap();
                }
                values(&params)
            };
            let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let whole = on(1).install(|| run(false));
            assert_eq!(on(3).install(|| run(true)), whole, "{name}, {how}");
        }
    }
}

#[test]
fn lbfgs_searches_with_what_was_left_out() {
    let w = Var::from_tensor(&var(&[3.0, -2.0, 0.5]).to_dtype(DType::BF16).unwrap()).unwrap();
    let named = vec![("w".into(), w.clone())];
    let mut lbfgs = config("\"lbfgs\"").build_with(named, rounded(CHOICES[1]), Backend::Auto).unwrap();
    for _ in 0..3 {
        let wide = || w.to_dtype(DType::F32);
        let mut evaluate = || {
            let loss = bowl(&w);
            Ok((f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?), loss.backward()?))
        };
        lbfgs.step_with(&mut evaluate).unwrap();
        assert!(wide().unwrap().to_vec1::<f32>().unwrap().iter().all(|x| x.is_finite()));
    }
    // A last bit of the loss.
    assert!(numbers(&w).iter().all(|x| (x - 1.0).abs() < 0.05), "{:?}", numbers(&w));
}

/// What overflows is infinite, whatever is made good.
#[test]
fn what_overflows_stays_visible() {
    for how in CHOICES {
        for backend in BACKENDS {
            let w = Var::from_tensor(&Tensor::ones(2, DType::F16, &Device::Cpu).unwrap()).unwrap();
            let sgd = config(r#"{"sgd": {"lr": 100000}}"#);
            let mut sgd = sgd.build_with(vec![("w".into(), w.clone())], rounded(how), backend).unwrap();
            for _ in 0..2 {
                sgd.step_report(&constant(&[(&w, 1.0)])).unwrap();
                assert_eq!(numbers(&w), [f64::NEG_INFINITY; 2], "{how} by {backend:?}");
            }
        }
    }
}

#[test]
fn the_choice_is_written_and_read_and_can_be_changed() {
    for (text, rounding) in [
        (r#""nearest""#, Rounding::Nearest),
        (r#""compensated""#, Rounding::Compensated),
        (r#"{"stochastic":{"seed":7}}"#, Rounding::Stochastic(Stochastic { seed: 7 })),
    ] {
        assert_eq!(serde_json::from_str::<Rounding>(text).unwrap(), rounding);
        assert_eq!(serde_json::to_string(&rounding).unwrap(), text);
    }
    assert_eq!(
        serde_json::from_str::<Rounding>(r#""stochastic""#).unwrap(),
        Rounding::Stochastic(Stochastic::default())
    );
    assert!(serde_json::from_str::<Rounding>(r#"{"nearest": {"seed": 7}}"#).is_err());

    let w = Var::from_tensor(&Tensor::ones(2, DType::BF16, &Device::Cpu).unwrap()).unwrap();
    let mut sgd = config(r#"{"sgd": {"lr": 0.001}}"#).build(vec![("w".into(), w.clone())]).unwrap();
    let plain = sgd.state().unwrap();
    sgd.set_options(rounded(CHOICES[1])).unwrap();
    sgd.step_report(&constant(&[(&w, 1.0)])).unwrap();
    let state = sgd.state().unwrap();
    assert!(state.tensors["w.compensation"].to_vec1::<f32>().unwrap()[0] != 0.0);
    assert_eq!(
        sgd.load_state(&plain).unwrap_err().to_string(),
        "state `w.compensation`: expected shape [2], got nothing"
    );
    // The same choice again keeps what there is; another drops it.
    sgd.set_options(rounded(CHOICES[1])).unwrap();
    assert!(sgd.state().unwrap().tensors["w.compensation"].to_vec1::<f32>().unwrap()[0] != 0.0);
    sgd.set_options(Options::default()).unwrap();
    assert!(!sgd.state().unwrap().tensors.contains_key("w.compensation"));
    assert_eq!(
        sgd.load_state(&state).unwrap_err().to_string(),
        "state `w.compensation`: expected no such entry, got one"
    );
}
