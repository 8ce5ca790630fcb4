//! K-FAC and L-BFGS, whose steps need more than gradients: against numbers worked out elsewhere, by the scripts in `tests/reference`.
#![allow(clippy::unwrap_used)]

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_core::{
    Backend, Kfac, KfacConfig, LayerRecord, Lbfgs, LbfgsConfig, OptimizerConfig, OptimizerState, StepOutcome,
};

fn close(got: &[f64], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len());
    for (x, y) in got.iter().zip(expected) {
        assert!((x - y).abs() <= allowed, "{got:?}, expected {expected:?}");
    }
}

/// (1 − x)² + 100 (y − x²)²
fn rosenbrock(w: &Var) -> np_core::Result<(f64, GradStore)> {
    let (x, y) = (w.as_tensor().get(0)?, w.as_tensor().get(1)?);
    let loss = ((1.0 - &x)?.sqr()? + ((y - x.sqr()?)?.sqr()? * 100.0)?)?;
    Ok((loss.to_scalar::<f64>()?, loss.backward()?))
}

#[test]
fn lbfgs_goes_where_pytorchs_goes() {
    let w = Var::new(&[-1.2f64, 1.0], &Device::Cpu).unwrap();
    let mut lbfgs = Lbfgs::from_named(vec![("w".into(), w.clone())], LbfgsConfig::default()).unwrap();
    let mut evaluations = 0;
    // `lbfgs.py`: evaluations so far and parameters after each call. 1e-9 is what 45 evaluations leave of double precision.
    for (count, expected) in [
        (25, [0.380_016_549_489_833_1, 0.124_489_556_541_484_95]),
        (45, [0.999_999_333_407_640_2, 0.999_998_674_382_454_8]),
    ] {
        let report = lbfgs
            .step_with(&mut || {
                evaluations += 1;
                rosenbrock(&w)
            })
            .unwrap();
        assert_eq!((report.outcome, report.updated), (StepOutcome::Updated, 1));
        assert_eq!(evaluations, count);
        close(&w.to_vec1::<f64>().unwrap(), &expected, 1e-9);
    }
}

#[test]
fn lbfgs_solves_a_quadratic_in_as_many_steps_as_it_has_dimensions() {
    // ½ wᵀ D w with D = 1, 10, 100: with exact curvature pairs the third direction is Newton's.
    let w = Var::new(&[1.0f64, 1.0, 1.0], &Device::Cpu).unwrap();
    let d = Tensor::new(&[1.0f64, 10.0, 100.0], &Device::Cpu).unwrap();
    let mut lbfgs = Lbfgs::from_named(vec![("w".into(), w.clone())], LbfgsConfig::default()).unwrap();
    lbfgs
        .step_with(&mut || {
            let loss = ((w.as_tensor().sqr()? * &d)?.sum_all()? * 0.5)?;
            Ok((loss.to_scalar::<f64>()?, loss.backward()?))
        })
        .unwrap();
    close(&w.to_vec1::<f64>().unwrap(), &[0.0; 3], 1e-4);
}

#[test]
fn lbfgs_resumes_with_its_history_and_stays_put_after_an_error() {
    let run = |interrupted: bool| {
        let w = Var::new(&[-1.2f64, 1.0], &Device::Cpu).unwrap();
        let config = LbfgsConfig { max_iterations: 3, ..LbfgsConfig::default() };
        let build = || Lbfgs::from_named(vec![("w".into(), w.clone())], config.clone()).unwrap();
        let mut lbfgs = build();
        for call in 0..4 {
            if interrupted && call == 2 {
                let before = w.to_vec1::<f64>().unwrap();
                let mut left = 2;
                let failed = lbfgs.step_with(&mut || {
                    left -= 1;
                    if left < 0 { Err(candle_core::Error::Msg("no more".into()).into()) } else { rosenbrock(&w) }
                });
                assert!(failed.is_err());
                assert_eq!(w.to_vec1::<f64>().unwrap(), before);
            }
            if interrupted && call == 1 {
                let bytes = lbfgs.state().unwrap().to_safetensors().unwrap();
                lbfgs = build();
                lbfgs.load_state(&OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
            }
            lbfgs.step_with(&mut || rosenbrock(&w)).unwrap();
        }
        w.to_vec1::<f64>().unwrap()
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn lbfgs_leaves_everything_where_the_gradient_is_not_a_number() {
    let w = Var::new(&[1.0f64, 2.0], &Device::Cpu).unwrap();
    for (policy, skips) in [("skip", true), ("propagate", false)] {
        let options = serde_json::from_str(&format!(r#"{{"non_finite": "{policy}"}}"#)).unwrap();
        let named = vec![("w".into(), w.clone())];
        let mut lbfgs = Lbfgs::from_named(named, LbfgsConfig::default()).unwrap().with_options(options).unwrap();
        let report = lbfgs.step_with(&mut || {
            let mut grads = GradStore::default();
            grads.insert(w.as_tensor(), Tensor::new(&[f64::NAN, 1.0], &Device::Cpu)?);
            Ok((3.0, grads))
        });
        match report {
            Ok(report) => assert!(skips && report.outcome == StepOutcome::Skipped && lbfgs.skipped_steps() == 1),
            Err(e) => assert!(!skips && e.to_string().contains("a finite loss with finite gradients"), "{e}"),
        }
        assert_eq!(w.to_vec1::<f64>().unwrap(), [1.0, 2.0]);
    }
}

#[test]
fn lbfgs_leaves_alone_what_has_no_gradient() {
    let w = Var::new(&[-1.2f64, 1.0], &Device::Cpu).unwrap();
    let other = Var::new(&[5.0f64, 5.0], &Device::Cpu).unwrap();
    let config = LbfgsConfig { weight_decay: 0.1, ..LbfgsConfig::default() };
    let named = vec![("w".into(), w.clone()), ("other".into(), other.clone())];
    let mut lbfgs = Lbfgs::from_named(named, config).unwrap();
    let report = lbfgs.step_with(&mut || rosenbrock(&w)).unwrap();
    assert_eq!((report.updated, report.absent, lbfgs.absent_gradients()), (1, 1, 1));
    assert_eq!(other.to_vec1::<f64>().unwrap(), [5.0, 5.0]);
    // Another vector of the same length now: what was learnt of the first says nothing of it.
    lbfgs
        .step_with(&mut || {
            let loss = (other.as_tensor().sqr()?.sum_all()? * 0.5)?;
            Ok((loss.to_scalar::<f64>()?, loss.backward()?))
        })
        .unwrap();
    close(&other.to_vec1::<f64>().unwrap(), &[0.0; 2], 1e-6);
}

#[test]
fn kfac_takes_the_mean_of_the_records_of_an_accumulation() {
    let (x, e) = (Tensor::new(&X, &Device::Cpu).unwrap(), Tensor::new(&E, &Device::Cpu).unwrap());
    let config = KfacConfig { lr: 0.1, damping: 1e-2, ..KfacConfig::default() };
    let after = |records: [LayerRecord; 2]| {
        let (params, grads, _) = layer();
        let options = serde_json::from_str(r#"{"accumulate": 2}"#).unwrap();
        let mut kfac = Kfac::from_named(params.clone(), config.clone()).unwrap().with_options(options).unwrap();
        for record in records {
            kfac.observe(&[record]).unwrap();
            kfac.step_report(&grads).unwrap();
        }
        params.iter().flat_map(|(_, v)| v.flatten_all().unwrap().to_vec1::<f64>().unwrap()).collect::<Vec<_>>()
    };
    let record = |inputs: f64| LayerRecord::linear("fc", &(&x * inputs).unwrap(), &e).unwrap();
    let (twice, ab, ba) =
        (after([record(1.0), record(1.0)]), after([record(2.0), record(1.0)]), after([record(1.0), record(2.0)]));
    close(&ab, &ba, 1e-15);
    assert!(twice.iter().zip(&ab).any(|(a, b)| (a - b).abs() > 1e-4), "{twice:?}, {ab:?}");
    let (params, grads, one) = layer();
    let mut kfac = Kfac::from_named(params.clone(), config.clone()).unwrap();
    kfac.observe(&[one]).unwrap();
    kfac.step_report(&grads).unwrap();
    let once: Vec<f64> = params.iter().flat_map(|(_, v)| v.flatten_all().unwrap().to_vec1::<f64>().unwrap()).collect();
    close(&twice, &once, 1e-15);
}

#[test]
fn kfac_takes_a_weight_for_a_vector_where_a_group_says_so() {
    let (params, grads, record) = layer();
    let options = serde_json::from_str(r#"{"groups": [{"match": "fc.weight", "matrix": "off"}]}"#).unwrap();
    let config = KfacConfig { lr: 0.1, kl_clip: None, ..KfacConfig::default() };
    let mut kfac = Kfac::from_named(params.clone(), config).unwrap().with_options(options).unwrap();
    kfac.observe(&[record]).unwrap();
    kfac.step_report(&grads).unwrap();
    let expected: f64 = -0.1 * X.iter().zip(&E).map(|(x, e)| e[0] * x[0]).sum::<f64>();
    assert!((params[0].1.to_vec2::<f64>().unwrap()[0][0] - expected).abs() < 1e-15);
}

const X: [[f64; 2]; 3] = [[1.0, 0.5], [-0.5, 2.0], [0.25, -1.0]];
const E: [[f64; 2]; 3] = [[0.3, -0.2], [0.1, 0.4], [-0.5, 0.05]];

/// Weight and bias of a layer, both 0, with gradients Eᵀ X and Eᵀ 1.
fn layer() -> (Vec<(String, Var)>, GradStore, LayerRecord) {
    let weight = Var::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
    let bias = Var::zeros(2, DType::F64, &Device::Cpu).unwrap();
    let (x, e) = (Tensor::new(&X, &Device::Cpu).unwrap(), Tensor::new(&E, &Device::Cpu).unwrap());
    let mut grads = GradStore::default();
    grads.insert(weight.as_tensor(), e.t().unwrap().matmul(&x).unwrap());
    grads.insert(bias.as_tensor(), e.sum(0).unwrap());
    let record = LayerRecord::linear("fc", &x, &e).unwrap();
    (vec![("fc.weight".into(), weight), ("fc.bias".into(), bias)], grads, record)
}

#[test]
fn kfac_is_its_formula() {
    let config = KfacConfig { lr: 0.1, damping: 1e-2, ..KfacConfig::default() };
    for backend in [Backend::Auto, Backend::Tensors] {
        let (params, grads, record) = layer();
        let mut kfac = Kfac::with_backend(params.clone(), config.clone(), backend).unwrap();
        kfac.observe(&[record]).unwrap();
        kfac.step_report(&grads).unwrap();
        // `kfac.py`.
        let weight = [
            -0.016_235_416_307_167_59,
            -0.018_125_361_671_773_838,
            0.026_701_912_507_327_147,
            -0.009_418_829_480_939_736,
        ];
        let bias = [0.012_889_607_063_974_84, -0.010_108_232_352_565_7];
        close(&params[0].1.flatten_all().unwrap().to_vec1::<f64>().unwrap(), &weight, 1e-12);
        close(&params[1].1.to_vec1::<f64>().unwrap(), &bias, 1e-12);
    }
}

#[test]
fn kfac_resumes_to_the_bit_and_without_records_is_momentum() {
    let config = KfacConfig { lr: 0.1, update_every: 2, ..KfacConfig::default() };
    let run = |interrupted: bool| {
        let (params, grads, record) = layer();
        let build = || Kfac::from_named(params.clone(), config.clone()).unwrap();
        let mut kfac = build();
        for step in 0..5 {
            if interrupted && step == 3 {
                let bytes = kfac.state().unwrap().to_safetensors().unwrap();
                kfac = build();
                kfac.load_state(&OptimizerState::from_safetensors(&bytes).unwrap()).unwrap();
            }
            kfac.observe(std::slice::from_ref(&record)).unwrap();
            kfac.step_report(&grads).unwrap();
        }
        params.iter().flat_map(|(_, v)| v.flatten_all().unwrap().to_vec1::<f64>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));

    let (params, grads, _) = layer();
    let plain: OptimizerConfig = serde_json::from_str(r#"{"kfac": {"lr": 0.1, "kl_clip": null}}"#).unwrap();
    plain.build(params.clone()).unwrap().step_report(&grads).unwrap();
    let expected: f64 = -0.1 * X.iter().zip(&E).map(|(x, e)| e[0] * x[0]).sum::<f64>();
    let got = params[0].1.to_vec2::<f64>().unwrap()[0][0];
    assert!((got - expected).abs() < 1e-15, "{got} against {expected}");
}

#[test]
fn a_record_that_fits_nothing_is_named() {
    let (params, _, record) = layer();
    let renamed: Vec<_> = params.iter().map(|(name, v)| (name.replace("fc", "head"), v.clone())).collect();
    let mut kfac = Kfac::from_named(renamed, KfacConfig::default()).unwrap();
    let error = kfac.observe(&[record]).unwrap_err().to_string();
    assert_eq!(error, "parameter `fc.weight`: expected a parameter of this name for its layer's record, got none");
    let mut kfac = Kfac::from_named(params, KfacConfig::default()).unwrap();
    let three = Tensor::zeros((4, 3), DType::F64, &Device::Cpu).unwrap();
    let error = kfac.observe(&[LayerRecord::linear("fc", &three, &three).unwrap()]).unwrap_err().to_string();
    assert_eq!(error, "parameter `fc.weight`: expected 2 inputs and 2 outputs, got 3 inputs and 3 outputs");
}

#[test]
fn a_record_is_of_one_batch() {
    let of = |rows: usize, columns: usize| Tensor::ones((rows, columns), DType::F32, &Device::Cpu).unwrap();
    let error = LayerRecord::linear("fc1", &of(5, 4), &of(7, 6)).unwrap_err().to_string();
    let says = "parameter `fc1.weight`: expected a record of gradients of 5 samples, as many as the inputs have, got 7";
    assert_eq!(error, says);
    let error = LayerRecord::linear("fc1", &of(0, 4), &of(0, 6)).unwrap_err().to_string();
    assert_eq!(error, "parameter `fc1.weight`: expected a record of a batch of at least 1 sample, got 0");
    // Two samples at three positions each.
    LayerRecord::convolution("conv", 2, &of(6, 9), &of(6, 4)).unwrap();
    for (samples, patches, gradients, says) in [
        (0, 6, 6, "a batch of at least 1 sample, got 0"),
        (4, 6, 6, "patches of 4 samples, as many of each and at least 1, got 6"),
        (2, 0, 0, "patches of 2 samples, as many of each and at least 1, got 0"),
        (2, 6, 4, "gradients of 6 positions, as many as there are patches, got 4"),
    ] {
        let error = LayerRecord::convolution("conv", samples, &of(patches, 9), &of(gradients, 4)).unwrap_err();
        assert!(error.to_string().ends_with(says), "{error}");
    }
}

/// Whatever the policy is, and by either way of stepping: a number that is not finite would stay in the pairs.
#[test]
fn lbfgs_refuses_what_is_not_finite_without_a_search_too() {
    for number in [f64::NAN, f64::INFINITY] {
        for at in [0, 2] {
            let w = Var::new(&[3.0f64, -2.0], &Device::Cpu).unwrap();
            let mut lbfgs = Lbfgs::from_named(vec![("w".into(), w.clone())], LbfgsConfig::default()).unwrap();
            let mut step = |g: [f64; 2]| {
                let mut grads = GradStore::default();
                grads.insert(w.as_tensor(), Tensor::new(&g, &Device::Cpu).unwrap());
                lbfgs.step_report(&grads)
            };
            for k in 0..at {
                step([1.0 - 0.1 * f64::from(k), -1.0]).unwrap();
            }
            let before = w.to_vec1::<f64>().unwrap();
            let error = step([1.0, number]).unwrap_err().to_string();
            assert!(error.starts_with("gradient of `w`: expected finite numbers"), "{error}");
            assert_eq!(w.to_vec1::<f64>().unwrap(), before);
            step([0.5, -0.5]).unwrap();
            assert!(w.to_vec1::<f64>().unwrap().iter().all(|x| x.is_finite()));
        }
    }
}

/// Squares of 10²⁰⁰ are beyond double precision: the products that L-BFGS is made of are no numbers, and it goes along the gradient.
#[test]
fn lbfgs_goes_along_gradients_whose_products_overflow() {
    let w = Var::new(&[3.0f64, -2.0], &Device::Cpu).unwrap();
    let mut lbfgs = Lbfgs::from_named(vec![("w".into(), w.clone())], LbfgsConfig::default()).unwrap();
    for s in [1.0, -1e200, 1e200, 3e200, 1.0, 2.0, 1.0] {
        let mut grads = GradStore::default();
        grads.insert(w.as_tensor(), Tensor::new(&[s, -s], &Device::Cpu).unwrap());
        lbfgs.step_report(&grads).unwrap();
        assert!(w.to_vec1::<f64>().unwrap().iter().all(|x| x.is_finite()), "{s:e}: {w:?}");
    }
}

/// No eigenvalue of A + π√λ I is below π√λ, whatever rounding leaves of A: the inverse's trace is at most its size over that.
#[test]
fn kfacs_inverses_are_no_larger_than_the_damping_allows() {
    for seed in 0..60_u32 {
        let scale = 1e5 * 1.1_f64.powi(seed as i32 % 30);
        let angle = |k: u32| f64::from(k * k + seed).sin();
        let x: Vec<f32> = (0..12).map(|k| (scale * (angle(k % 4) + 1e-5 * angle(k))) as f32).collect();
        let x = Tensor::from_vec(x, (3, 4), &Device::Cpu).unwrap();
        let e = Tensor::new(&[[1f32, 0.5], [0.25, -1.0], [0.5, 0.5]], &Device::Cpu).unwrap();
        let w = Var::zeros((2, 4), DType::F32, &Device::Cpu).unwrap();
        let config = KfacConfig::default();
        let root = config.damping.sqrt();
        let mut kfac = Kfac::from_named(vec![("fc.weight".into(), w.clone())], config).unwrap();
        kfac.observe(&[LayerRecord::linear("fc", &x, &e).unwrap()]).unwrap();
        let mut grads = GradStore::default();
        grads.insert(w.as_tensor(), Tensor::ones((2, 4), DType::F32, &Device::Cpu).unwrap());
        kfac.step_report(&grads).unwrap();
        let state = kfac.state().unwrap();
        let trace = |name: &str| {
            let rows =
                state.tensors[&format!("fc.weight.{name}")].to_dtype(DType::F64).unwrap().to_vec2::<f64>().unwrap();
            (0..rows.len()).map(|i| rows[i][i]).sum::<f64>()
        };
        let pi = ((trace("input_covariance") / 5.0) / (trace("output_covariance") / 2.0)).sqrt();
        // 10⁻³ for the rounding of the inverse and of π.
        let most = 5.0 / (pi * root) * (1.0 + 1e-3);
        assert!(trace("input_inverse") <= most, "{seed}: {} above {most}", trace("input_inverse"));
    }
}
