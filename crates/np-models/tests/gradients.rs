//! The gradients of every layer and of the loss: against candle's own operations, and against finite differences in `f64`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

use candle_core::{DType, Device, Result, Tensor, Var};
use np_models::layers::{Linear, ReluDropout, relu};
use np_models::{Initializer, Mode, cross_entropy};

/// [batch, inputs, outputs]: batch 1, one input, one output, odd sizes, sizes around gemm's tiles.
const SHAPES: [[usize; 3]; 6] = [[1, 1, 1], [1, 7, 3], [5, 1, 2], [3, 5, 1], [17, 33, 9], [65, 63, 66]];

fn uniform(shape: &[usize], seed: u64) -> Var {
    let values = Initializer::new(seed).uniform(shape, 1.0, DType::F64, &Device::Cpu).unwrap();
    Var::from_tensor(&values).unwrap()
}

/// A scalar that weighs every element differently, so that no gradient is symmetric by accident.
fn weighted_sum(y: &Tensor) -> Result<Tensor> {
    let weights =
        Tensor::arange(0., y.elem_count() as f64, y.device())?.reshape(y.shape())?.affine(0.37, 0.1)?.sin()?;
    (y * weights)?.sum_all()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, tolerance: f64) {
    assert_eq!(ours.shape(), theirs.shape(), "{what}");
    for (i, (a, b)) in values(ours).into_iter().zip(values(theirs)).enumerate() {
        assert!((a - b).abs() <= tolerance * (1.0 + b.abs()), "{what}[{i}]: {a}, expected {b}");
    }
}

/// Compares the gradients of `ours` and `theirs` in all `vars`. Sums of at most 66 terms in f64: 1e-12 is 66² roundings.
fn assert_same_gradients(
    what: &str,
    vars: &[&Var],
    ours: impl Fn() -> Result<Tensor>,
    theirs: impl Fn() -> Result<Tensor>,
) {
    let (ours, theirs) = (ours().unwrap(), theirs().unwrap());
    assert_close(what, &ours, &theirs, 1e-12);
    let (ours, theirs) = (ours.backward().unwrap(), theirs.backward().unwrap());
    for (i, var) in vars.iter().enumerate() {
        let what = format!("{what}, gradient {i}");
        assert_close(&what, ours.get(var).expect("ours"), theirs.get(var).expect("candle's"), 1e-12);
    }
}

/// Compares the gradients of `f` in all `vars` with central differences of step 1e-6: truncation 1e-12 · |f'''|, rounding
/// 1e-16 / 1e-6 · |f|, with |f| below 100.
fn assert_finite_differences(what: &str, vars: &[&Var], f: impl Fn() -> Result<Tensor>) {
    const STEP: f64 = 1e-6;
    let gradients = f().unwrap().backward().unwrap();
    let at = |var: &Var, values: Vec<f64>| {
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
        f().unwrap().to_scalar::<f64>().unwrap()
    };
    for (v, var) in vars.iter().enumerate() {
        let start = values(var);
        let gradient = values(gradients.get(var).expect("a gradient"));
        // At most 40 elements of each, spread out.
        for i in (0..start.len()).step_by(start.len().div_ceil(40)) {
            let (mut up, mut down) = (start.clone(), start.clone());
            up[i] += STEP;
            down[i] -= STEP;
            let difference = (at(var, up) - at(var, down)) / (2.0 * STEP);
            assert!(
                (difference - gradient[i]).abs() < 1e-7,
                "{what}, d{v}[{i}]: {}, expected {difference}",
                gradient[i]
            );
        }
        at(var, start);
    }
}

fn linear(inputs: usize, outputs: usize) -> Linear {
    Linear::new(inputs, outputs, &mut Initializer::new(5), DType::F64, &Device::Cpu).unwrap()
}

fn candle_linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    x.matmul(&layer.weight().t()?)?.broadcast_add(layer.bias())
}

/// The errors of this crate are not candle's; in a test, unwrap them.
fn ok<T>(result: np_models::Result<T>) -> Result<T> {
    Ok(result.unwrap())
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
