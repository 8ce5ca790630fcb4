//! Gradients as large as their type allows: Shampoo's roots and sums of squares, RAdam's square.

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Tensor, Var};
use np_core::{Backend, RAdam, RAdamConfig, Shampoo, ShampooConfig};

fn stepped(shape: &[usize], g: &[f64], dtype: DType, backend: Backend) -> Vec<f64> {
    let w = Var::zeros(shape, dtype, &Device::Cpu).unwrap();
    let config = ShampooConfig { lr: 1.0, ..ShampooConfig::default() };
    let mut shampoo = Shampoo::with_backend(vec![("w".into(), w.clone())], config, backend).unwrap();
    let mut grads = GradStore::default();
    grads.insert(w.as_tensor(), Tensor::from_slice(g, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap());
    shampoo.step_report(&grads).unwrap();
    w.as_tensor().flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The first step is −g/‖g‖ of a vector, since (ε I + g gᵀ)^(−1/2) g = g/√(ε + ‖g‖²), and −1/2 throughout of a 2 × 2 matrix of one number.
#[test]
fn the_first_step_is_of_the_gradients_direction_whatever_its_size() {
    for backend in [Backend::Auto, Backend::Tensors] {
        for (dtype, sizes) in [(DType::F32, 0..17), (DType::F64, 0..100)] {
            for power in sizes {
                let s = 10_f64.powi(power);
                for g in [[1.0, 2.0, 3.0, 1.0], [10.0, 20.0, 30.0, 10.0], [0.3, -0.7, 0.1, 0.9]] {
                    let length = g.iter().map(|x: &f64| x * x).sum::<f64>().sqrt();
                    let moved = stepped(&[4], &g.map(|x| s * x), dtype, backend);
                    for (x, g) in moved.iter().zip(g) {
                        // A root of what single precision can tell from 0, 1 to 4 · 2⁻²³, leaves this much of its 2⁻²⁴; ε is 10⁻⁶.
                        assert!((x + g / length).abs() < 1e-3, "{dtype:?} {s:e} {g:?}: {moved:?}");
                    }
                }
                let moved = stepped(&[2, 2], &[s; 4], dtype, backend);
                assert!(moved.iter().all(|x| (x + 0.5).abs() < 1e-3), "{dtype:?} {s:e}: {moved:?}");
            }
        }
    }
}

/// Each of two gradients may be squared, and their sum of squares, (1 + 1/4) · (4.5 · 10¹⁸)², is above (4.6 · 10¹⁸)²; weight decay counts as well.
#[test]
fn what_is_refused_is_refused_before_any_parameter_has_changed() {
    for backend in [Backend::Auto, Backend::Tensors] {
        for weight_decay in [0.0, 1e19] {
            let params: Vec<(String, Var)> = ["a", "b"]
                .iter()
                .map(|name| (name.to_string(), Var::ones(1, DType::F32, &Device::Cpu).unwrap()))
                .collect();
            let config = ShampooConfig { momentum: 0.5, ..ShampooConfig::default() };
            let mut shampoo = Shampoo::with_backend(params.clone(), config.clone(), backend).unwrap();
            let step = |shampoo: &mut Shampoo, last: f64| {
                let mut grads = GradStore::default();
                for ((_, var), g) in params.iter().zip([1.0, last]) {
                    grads.insert(var.as_tensor(), (var.ones_like().unwrap() * g).unwrap());
                }
                shampoo.step_report(&grads)
            };
            step(&mut shampoo, 4.5e18).unwrap();
            let all = |shampoo: &Shampoo| {
                let numbers =
                    |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
                shampoo.state().unwrap().tensors.values().flat_map(numbers).collect::<Vec<_>>()
            };
            let groups = format!(r#"{{"groups": [{{"match": "b", "weight_decay": {weight_decay}}}]}}"#);
            shampoo.set_options(serde_json::from_str(&groups).unwrap()).unwrap();
            let before = all(&shampoo);
            let last = if weight_decay == 0.0 { 2.25e18 } else { 1.0 };
            let error = step(&mut shampoo, last).unwrap_err().to_string();
            assert!(error.starts_with("gradient of `b`: expected a norm of at most 4.6e18, "), "{error}");
            assert_eq!(all(&shampoo), before, "{backend:?}");
        }
    }
}

/// (10⁻⁸⁰)^(−1/2) is 10⁴⁰, which single precision does not hold.
#[test]
fn a_root_that_its_type_does_not_hold_is_refused() {
    let w = Var::ones(2, DType::F32, &Device::Cpu).unwrap();
    let config = ShampooConfig { eps: 1e-80, ..ShampooConfig::default() };
    let mut shampoo = Shampoo::from_named(vec![("w".into(), w.clone())], config).unwrap();
    let mut grads = GradStore::default();
    grads.insert(w.as_tensor(), w.zeros_like().unwrap());
    let error = shampoo.step_report(&grads).unwrap_err().to_string();
    assert!(error.starts_with("`eps`: expected a number whose inverse root is finite in the state's type"), "{error}");
    assert_eq!(w.to_vec1::<f32>().unwrap(), [1.0; 2]);
}

/// A square that overflows does not make the steps of momentum alone, which do not divide by its root, something else than a number.
#[test]
fn a_square_beyond_the_type_leaves_the_steps_numbers() {
    for (dtype, large) in [(DType::F32, 1e20), (DType::F64, 1e200)] {
        let run = |backend| {
            let w = Var::zeros(1, dtype, &Device::Cpu).unwrap();
            let mut radam =
                RAdam::with_backend(vec![("w".into(), w.clone())], RAdamConfig::default(), backend).unwrap();
            let mut after = vec![];
            for g in [1.0, large, 1.0, 1.0, 1.0, 1.0, 1.0] {
                let mut grads = GradStore::default();
                grads.insert(w.as_tensor(), (w.ones_like().unwrap() * g).unwrap());
                radam.step_report(&grads).unwrap();
                after.push(w.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()[0]);
            }
            after
        };
        let (ours, theirs) = (run(Backend::Auto), run(Backend::Tensors));
        assert!(
            ours.iter().zip(&theirs).all(|(x, y)| x.is_finite() && (x - y).abs() <= 1e-5 * x.abs()),
            "{ours:?} {theirs:?}"
        );
        // m̂ of the second step: (0.09 + 0.1 · g)/(1 − 0.9²).
        let second = -1e-3 * 0.1 * large / 0.19;
        assert!((ours[1] / second - 1.0).abs() < 1e-5, "{ours:?}");
    }
}
