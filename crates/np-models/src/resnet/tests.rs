//! The network as one operation is the network layer by layer.

use candle_core::backprop::GradStore;

use super::*;

fn model(width: usize, seed: u64) -> ResNet18 {
    ResNet18::of_type(3, 10, &ResNet18Config { width }, seed, DType::F64, &Device::Cpu).unwrap()
}

fn images(shape: (usize, usize, usize, usize), seed: u64) -> Var {
    Var::from_tensor(&Initializer::new(seed).normal(shape, 1.0, DType::F64, &Device::Cpu).unwrap()).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, ours: &Tensor, expected: &Tensor) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let (ours, expected) = (values(ours), values(expected));
    let scale = expected.iter().fold(1e-3f64, |max, v| max.max(v.abs()));
    for (a, b) in ours.iter().zip(&expected) {
        // The same kernels, with sums of two gradients in another order: a few hundred roundings in f64.
        assert!((a - b).abs() <= 1e-11 * scale, "{what}: {a}, expected {b}");
    }
}

/// A loss that weighs the features differently.
fn gradients(features: &Tensor) -> GradStore {
    let weights = Tensor::arange(0.0, features.elem_count() as f64, features.device()).unwrap();
    let weights = weights.sin().unwrap().reshape(features.shape()).unwrap();
    (features * weights).unwrap().sum_all().unwrap().backward().unwrap()
}

#[test]
fn one_operation_gives_what_the_layers_give() {
    for (width, shape) in [(2, (3, 3, 9, 7)), (8, (2, 3, 16, 16))] {
        for mode in [Mode::Train { step: 0 }, Mode::Eval] {
            let (at_once, layered, x) = (model(width, 41), model(width, 41), images(shape, 1));
            // In evaluation with statistics of their own.
            for model in [&at_once, &layered] {
                model.layer_by_layer(&images(shape, 2), Mode::Train { step: 0 }).unwrap();
            }
            let ours = at_once.at_once(&x, mode).unwrap();
            let expected = layered.layer_by_layer(&x, mode).unwrap();
            assert_close("features", &ours, &expected);
            for ((name, a), (_, b)) in at_once.buffers().iter().zip(layered.buffers()) {
                assert_close(name, a, &b);
            }
            let (ours, expected) = (gradients(&ours), gradients(&expected));
            assert_close("gradient of the images", ours.get(&x).unwrap(), expected.get(&x).unwrap());
            let parameters = at_once.parameters().into_iter().zip(layered.parameters());
            for ((name, a), (_, b)) in parameters.filter(|((name, _), _)| !name.starts_with("fc")) {
                assert_close(&name, ours.get(&a).unwrap(), expected.get(&b).unwrap());
            }
        }
    }
}

#[test]
fn passes_do_not_disturb_each_other() {
    let (model, x) = (model(2, 41), images((2, 3, 8, 8), 1));
    let train = Mode::Train { step: 0 };
    let first = model.at_once(&x, train).unwrap();
    let expected: Vec<_> = {
        let gradients = gradients(&first);
        model.parameters().iter().filter_map(|(_, var)| gradients.get(var).map(values)).collect()
    };
    // Another pass before the first one's second backward pass, as when gradients are accumulated.
    let second = model.at_once(&images((2, 3, 8, 8), 2), train).unwrap();
    let again = gradients(&first);
    let again: Vec<_> = model.parameters().iter().filter_map(|(_, var)| again.get(var).map(values)).collect();
    assert!(expected == again);
    drop(first);
    assert!(gradients(&second).get(&model.parameters()[0].1).is_some());
}

#[test]
fn images_without_a_variable_get_no_gradient() {
    let (model, x) = (model(2, 41), images((2, 3, 8, 8), 1).detach());
    let gradients = gradients(&model.at_once(&x, Mode::Train { step: 0 }).unwrap());
    assert!(gradients.get(&x).is_none());
    assert!(gradients.get(&model.parameters()[0].1).is_some());
}
