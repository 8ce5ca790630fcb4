//! The gradients of every layer and of the loss: against candle's own operations, and against finite differences in `f64`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{assert_finite_differences, assert_same_gradients, ok, uniform, values, weighted_sum};
use np_models::layers::{Linear, ReluDropout, relu};
use np_models::{Initializer, Mode, cross_entropy};

/// [batch, inputs, outputs]: batch 1, one input, one output, odd sizes, sizes around gemm's tiles.
const SHAPES: [[usize; 3]; 6] = [[1, 1, 1], [1, 7, 3], [5, 1, 2], [3, 5, 1], [17, 33, 9], [65, 63, 66]];

fn linear(inputs: usize, outputs: usize) -> Linear {
    Linear::new(inputs, outputs, &mut Initializer::new(5), DType::F64, &Device::Cpu).unwrap()
}

fn candle_linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    x.matmul(&layer.weight().t()?)?.broadcast_add(layer.bias())
}

#[test]
fn linear_agrees_with_candle() {
    for [batch, inputs, outputs] in SHAPES {
        let (x, layer) = (uniform(&[batch, inputs], 1), linear(inputs, outputs));
        assert_same_gradients(
            &format!("{batch}×{inputs}→{outputs}"),
            &[&x, layer.weight(), layer.bias()],
            || weighted_sum(&ok(layer.forward(&x))?),
            || weighted_sum(&candle_linear(&layer, &x)?),
        );
    }
}

#[test]
fn linear_agrees_with_finite_differences() {
    for [batch, inputs, outputs] in SHAPES {
        let (x, layer) = (uniform(&[batch, inputs], 1), linear(inputs, outputs));
        assert_finite_differences("linear", &[&x, layer.weight(), layer.bias()], || {
            weighted_sum(&ok(layer.forward(&x))?.sqr()?)
        });
    }
}

#[test]
fn views_are_inputs_like_any_other() {
    let (base, layer) = (uniform(&[9, 12], 1), linear(9, 4));
    let transposed = || base.t();
    let narrowed_rows = || base.t()?.contiguous()?.narrow(0, 2, 5); // contiguous, with an offset
    let wide = uniform(&[12, 14], 2);
    let narrowed_columns = || wide.narrow(1, 3, 9);
    let check = |what: &str, var: &Var, view: &dyn Fn() -> Result<Tensor>| {
        assert_same_gradients(
            &format!("linear of {what}"),
            &[var, layer.weight(), layer.bias()],
            || weighted_sum(&ok(layer.forward(&view()?))?),
            || weighted_sum(&candle_linear(&layer, &view()?)?),
        );
        assert_same_gradients(
            &format!("relu of {what}"),
            &[var],
            || weighted_sum(&ok(relu(&view()?))?),
            || weighted_sum(&view()?.relu()?),
        );
        let n = view().unwrap().dims()[0];
        let labels = Tensor::from_vec((0..n as u32).map(|i| i % 9).collect(), n, &Device::Cpu).unwrap();
        assert_same_gradients(
            &format!("cross-entropy of {what}"),
            &[var],
            || ok(cross_entropy(&view()?, &labels)),
            || candle_nn::loss::cross_entropy(&view()?, &labels),
        );
    };
    check("a transpose", &base, &transposed);
    check("some rows", &base, &narrowed_rows);
    check("some columns", &wide, &narrowed_columns);
}

#[test]
fn a_gradient_that_is_a_view_is_taken_as_it_is() {
    // The gradient of a transposed result reaches the layer transposed, that of a sum broadcast.
    let (x, layer) = (uniform(&[6, 5], 1), linear(5, 3));
    let vars = [&x, layer.weight(), layer.bias()];
    assert_same_gradients(
        "through a transpose",
        &vars,
        || weighted_sum(&ok(layer.forward(&x))?.t()?),
        || weighted_sum(&candle_linear(&layer, &x)?.t()?),
    );
    assert_same_gradients(
        "through a sum",
        &vars,
        || ok(layer.forward(&x))?.sum_all(),
        || candle_linear(&layer, &x)?.sum_all(),
    );
}

#[test]
fn data_and_frozen_operands_get_no_gradient() {
    let (x, layer) = (uniform(&[4, 3], 1), linear(3, 2));
    let data = x.detach();
    let gradients = weighted_sum(&layer.forward(&data).unwrap()).unwrap().backward().unwrap();
    assert!(gradients.get(&data).is_none());
    assert!(gradients.get(layer.weight()).is_some() && gradients.get(layer.bias()).is_some());
}

#[test]
fn relu_agrees_with_candle_and_with_finite_differences() {
    for shape in [vec![1], vec![7, 3], vec![2, 3, 5], vec![2, 1, 3, 3]] {
        let x = uniform(&shape, 3);
        let ours = || weighted_sum(&ok(relu(&x))?);
        assert_same_gradients("relu", &[&x], ours, || weighted_sum(&x.relu()?));
        assert_finite_differences("relu", &[&x], ours);
    }
}

#[test]
fn relu_at_zero_has_no_slope_and_keeps_nan() {
    let x = Var::new(&[-1.0f64, -0.0, 0.0, 2.0], &Device::Cpu).unwrap();
    let y = relu(&x).unwrap();
    assert_eq!(values(&y), [0.0, 0.0, 0.0, 2.0]);
    // torch.relu's gradient at 0 is 0: autograd of `threshold`.
    assert_eq!(values(y.sum_all().unwrap().backward().unwrap().get(&x).unwrap()), [0.0, 0.0, 0.0, 1.0]);
    let nan = relu(&Tensor::new(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], &Device::Cpu).unwrap()).unwrap();
    let nan = nan.to_vec1::<f32>().unwrap();
    assert!(nan[0].is_nan() && nan[1] == f32::INFINITY && nan[2] == 0.0);
}

#[test]
fn dropout_has_the_gradient_of_its_own_mask() {
    for (n, p) in [(1, 0.5), (33, 0.1), (5000, 0.4)] {
        let (x, dropout) = (uniform(&[n], 3), ReluDropout::new(p, 11, 0).unwrap());
        let ours = || weighted_sum(&ok(dropout.forward(&x, Mode::Train { step: 2 }))?);
        // The mask, read off an input of ones.
        let mask = dropout.forward(&x.ones_like().unwrap(), Mode::Train { step: 2 }).unwrap();
        assert_same_gradients("dropout", &[&x], ours, || weighted_sum(&(x.relu()? * &mask)?));
        assert_finite_differences("dropout", &[&x], ours);
    }
}

#[test]
fn cross_entropy_agrees_with_candle_and_with_finite_differences() {
    for [n, classes] in [[1, 1], [1, 10], [7, 2], [33, 13]] {
        let z = uniform(&[n, classes], 3);
        let labels = Tensor::from_vec((0..n).map(|i| (i * 7 % classes) as u32).collect(), n, &Device::Cpu).unwrap();
        let ours = || ok(cross_entropy(&z, &labels));
        assert_same_gradients("cross-entropy", &[&z], ours, || candle_nn::loss::cross_entropy(&z, &labels));
        assert_finite_differences("cross-entropy", &[&z], || ok(cross_entropy(&z, &labels))?.sqr());
    }
}
