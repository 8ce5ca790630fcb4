//! The layers over images: against candle's own operations, against finite differences, in `f32` against `f64`, and with the same
//! bits from any number of threads.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

mod common;

use candle_core::{DType, Device, Result, Tensor, Var};
use common::{assert_close, assert_finite_differences, assert_same_gradients, ok, uniform, values, weighted_sum};
use np_models::layers::{Activation, BatchNorm2d, Conv2d, Window};
use np_models::{Initializer, Mode};

const TRAIN: Mode = Mode::Train { step: 0 };

/// [batch, inputs, outputs, h, w] and the window: batch 1, odd sizes, kernels and channels around the blocks and lanes of the
/// kernels, images smaller than the kernel, a border wider than the kernel; on both sides of Winograd's conditions.
fn cases() -> Vec<([usize; 5], Window)> {
    let window = |kernel, stride, padding| Window { kernel, stride, padding };
    vec![
        ([1, 1, 1, 1, 1], Window::one(1)),
        ([1, 1, 1, 1, 1], Window::three(1)),
        ([2, 3, 5, 6, 5], Window::three(1)),
        ([1, 8, 8, 1, 1], Window::three(1)),
        ([1, 8, 9, 7, 5], Window::three(1)),
        ([3, 16, 11, 8, 8], Window::three(1)),
        ([5, 19, 8, 3, 4], Window::three(1)),
        ([2, 8, 16, 32, 33], Window::three(1)),
        ([2, 3, 4, 8, 8], Window::three(2)),
        ([3, 9, 10, 7, 7], Window::three(2)),
        ([1, 8, 8, 5, 5], window(3, 1, 0)),
        ([2, 8, 8, 9, 9], window(3, 2, 0)),
        ([2, 4, 8, 6, 6], Window::one(2)),
        ([2, 4, 8, 7, 7], Window::one(2)),
        ([1, 5, 3, 4, 6], Window::one(1)),
        ([2, 2, 3, 5, 5], window(1, 1, 1)),
        ([2, 2, 3, 5, 5], window(2, 1, 1)),
        ([1, 2, 2, 11, 11], window(5, 3, 2)),
        ([1, 2, 2, 2, 2], window(3, 1, 3)),
    ]
}

fn conv(inputs: usize, outputs: usize, window: Window, dtype: DType) -> Conv2d {
    Conv2d::new(inputs, outputs, window, &mut Initializer::new(5), dtype, &Device::Cpu).unwrap()
}

fn candle_conv(layer: &Conv2d, x: &Tensor) -> Result<Tensor> {
    x.conv2d(layer.weight(), layer.window().padding, layer.window().stride, 1, 1)
}

#[test]
fn convolution_agrees_with_candle() {
    for ([n, inputs, outputs, h, w], window) in cases() {
        let (x, layer) = (uniform(&[n, inputs, h, w], 1), conv(inputs, outputs, window, DType::F64));
        assert_same_gradients(
            &format!("{n}×{inputs}×{h}×{w}→{outputs}, {window:?}"),
            &[&x, layer.weight()],
            || weighted_sum(&ok(layer.forward(&x))?),
            || weighted_sum(&candle_conv(&layer, &x)?),
        );
    }
}

#[test]
fn convolution_agrees_with_finite_differences() {
    // Sides of different parity at stride 2, which candle's own backward pass refuses, come on top.
    let uneven = [([2, 3, 4, 8, 7], Window::three(2)), ([1, 4, 3, 5, 6], Window::one(2))];
    for ([n, inputs, outputs, h, w], window) in cases().into_iter().chain(uneven) {
        if n * h * w > 300 {
            continue; // a minute of evaluations
        }
        let (x, layer) = (uniform(&[n, inputs, h, w], 1), conv(inputs, outputs, window, DType::F64));
        assert_finite_differences(&format!("convolution with {window:?}"), &[&x, layer.weight()], || {
            ok(layer.forward(&x))?.sqr()?.mean_all()
        });
    }
}

#[test]
fn single_precision_is_double_precision_rounded() {
    for ([n, inputs, outputs, h, w], window) in cases() {
        let x = uniform(&[n, inputs, h, w], 1);
        let run = |dtype| {
            let x = Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
            let layer = conv(inputs, outputs, window, dtype);
            let y = layer.forward(&x).unwrap();
            let gradients = weighted_sum(&y.to_dtype(DType::F64).unwrap()).unwrap().backward().unwrap();
            [&y, gradients.get(&x).unwrap(), gradients.get(layer.weight()).unwrap()]
                .map(|t| t.to_dtype(DType::F64).unwrap())
        };
        // Sums of at most 2,112 products of order 1, and Winograd's factor of two: 1e-5 of the terms' size.
        for (single, double) in run(DType::F32).iter().zip(&run(DType::F64)) {
            let scale = values(double).iter().fold(1f64, |max, v| max.max(v.abs()));
            assert_close(&format!("{window:?}"), &(single / scale).unwrap(), &(double / scale).unwrap(), 1e-5);
        }
    }
}

#[test]
fn views_and_gradients_that_are_views_are_taken_as_they_are() {
    let base = uniform(&[9, 6, 10, 7], 1);
    let views: [(&str, &dyn Fn() -> Result<Tensor>); 4] = [
        ("channels-last", &|| base.permute((0, 3, 1, 2))),
        ("exchanged sides", &|| base.transpose(2, 3)),
        ("some images", &|| base.narrow(0, 2, 3)),
        ("some channels and rows", &|| base.narrow(1, 1, 4)?.narrow(2, 3, 5)),
    ];
    for (what, view) in views {
        let channels = view().unwrap().dims()[1];
        let layer = conv(channels, 8, Window::three(1), DType::F64);
        assert_same_gradients(
            &format!("convolution of {what}"),
            &[&base, layer.weight()],
            || weighted_sum(&ok(layer.forward(&view()?))?.transpose(1, 2)?),
            || weighted_sum(&candle_conv(&layer, &view()?)?.transpose(1, 2)?),
        );
        let norm = norm(channels, DType::F64);
        assert_same_gradients(
            &format!("batch norm of {what}"),
            &[&base, norm.weight(), norm.bias()],
            || weighted_sum(&ok(norm.forward(&view()?, TRAIN, Activation::Relu))?.transpose(1, 3)?),
            || weighted_sum(&candle_norm(&norm, &view()?, true, Activation::Relu)?.transpose(1, 3)?),
        );
        // The gradient of a sum is one number, broadcast.
        assert_same_gradients(
            &format!("sum of a convolution of {what}"),
            &[&base, layer.weight()],
            || ok(layer.forward(&view()?))?.sum_all(),
            || candle_conv(&layer, &view()?)?.sum_all(),
        );
    }
}

#[test]
fn data_and_frozen_weights_get_no_gradient() {
    let (x, layer) = (uniform(&[2, 8, 4, 4], 1), conv(8, 8, Window::three(1), DType::F64));
    let data = x.detach();
    let gradients = weighted_sum(&layer.forward(&data).unwrap()).unwrap().backward().unwrap();
    assert!(gradients.get(&data).is_none());
    assert!(gradients.get(layer.weight()).is_some());
}

/// A norm whose parameters and statistics are not their initial values.
fn norm(channels: usize, dtype: DType) -> BatchNorm2d {
    let norm = BatchNorm2d::new(channels, dtype, &Device::Cpu).unwrap();
    for (i, var) in [norm.weight(), norm.bias(), norm.running_mean(), norm.running_var()].into_iter().enumerate() {
        let values = uniform(&[channels], 10 + i as u64).affine(0.4, if i % 3 == 0 { 1.2 } else { 0.1 }).unwrap();
        var.set(&values.to_dtype(dtype).unwrap()).unwrap();
    }
    norm
}

fn candle_norm(norm: &BatchNorm2d, x: &Tensor, training: bool, activation: Activation) -> Result<Tensor> {
    let channel = |t: &Tensor| t.reshape((1, (), 1, 1));
    let (mean, var) = if training {
        let mean = x.mean_keepdim((0, 2, 3))?;
        (mean.clone(), x.broadcast_sub(&mean)?.sqr()?.mean_keepdim((0, 2, 3))?)
    } else {
        (channel(norm.running_mean())?, channel(norm.running_var())?)
    };
    let y = x
        .broadcast_sub(&mean)?
        .broadcast_div(&(var + BatchNorm2d::EPSILON)?.sqrt()?)?
        .broadcast_mul(&channel(norm.weight())?)?
        .broadcast_add(&channel(norm.bias())?)?;
    if activation == Activation::Relu { y.relu() } else { Ok(y) }
}

/// [batch, channels, h, w]: batch 1, one channel, sizes around the periods and chunks of the sums.
const NORM_SHAPES: [[usize; 4]; 6] =
    [[1, 1, 1, 2], [2, 3, 1, 1], [1, 7, 5, 3], [3, 64, 2, 5], [2, 65, 3, 3], [5, 16, 33, 9]];

#[test]
fn batch_norm_agrees_with_candle() {
    for shape in NORM_SHAPES {
        for activation in [Activation::Identity, Activation::Relu] {
            for mode in [TRAIN, Mode::Eval] {
                let (x, norm) = (uniform(&shape, 3), norm(shape[1], DType::F64));
                assert_same_gradients(
                    &format!("{shape:?}, {mode:?}, {activation:?}"),
                    &[&x, norm.weight(), norm.bias()],
                    || weighted_sum(&ok(norm.forward(&x, mode, activation))?),
                    || {
                        // The first closure moved the running statistics; in training they don't matter.
                        weighted_sum(&candle_norm(&norm, &x, mode != Mode::Eval, activation)?)
                    },
                );
            }
        }
    }
}

#[test]
fn batch_norm_agrees_with_finite_differences() {
    for shape in &NORM_SHAPES[1..5] {
        for mode in [TRAIN, Mode::Eval] {
            let (x, norm) = (uniform(shape, 3), norm(shape[1], DType::F64));
            assert_finite_differences("batch norm", &[&x, norm.weight(), norm.bias()], || {
                weighted_sum(&ok(norm.forward(&x, mode, Activation::Relu))?)? / 10.0
            });
        }
    }
}

#[test]
fn a_large_mean_costs_no_digits() {
    // 1e4 ± 1: the mean of squares would lose eight of the variance's digits, all that f32 has.
    let x = uniform(&[4, 5, 16, 16], 3);
    let shifted = (x.as_tensor() + 1e4).unwrap().to_dtype(DType::F32).unwrap();
    let y = norm(5, DType::F32).forward(&shifted, TRAIN, Activation::Identity).unwrap();
    let exact = shifted.to_dtype(DType::F64).unwrap();
    let expected = candle_norm(&norm(5, DType::F64), &exact, true, Activation::Identity).unwrap();
    // The mean of a channel is rounded to f32: 1e4 · 2⁻²⁴ in units of a standard deviation, here 0.58.
    assert_close("normalised", &y.to_dtype(DType::F64).unwrap(), &expected, 2e-3);
}

#[test]
fn running_statistics_move_a_tenth_of_the_way_in_training_and_not_at_all_in_evaluation() {
    let (x, norm) = (uniform(&[3, 4, 5, 2], 3), norm(4, DType::F64));
    let before = [norm.running_mean(), norm.running_var()].map(|var| values(var));
    norm.forward(&x, Mode::Eval, Activation::Relu).unwrap();
    assert_eq!(before, [norm.running_mean(), norm.running_var()].map(|var| values(var)));
    norm.forward(&x, TRAIN, Activation::Relu).unwrap();
    let rows = x.transpose(0, 1).unwrap().flatten_from(1).unwrap().to_vec2::<f64>().unwrap();
    for (c, row) in rows.iter().enumerate() {
        let mean = row.iter().sum::<f64>() / 30.0;
        let unbiased = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 29.0;
        for (old, new, batch) in [(&before[0], norm.running_mean(), mean), (&before[1], norm.running_var(), unbiased)] {
            let expected = 0.9 * old[c] + 0.1 * batch;
            assert!((values(new)[c] - expected).abs() < 1e-14, "{c}: {}, expected {expected}", values(new)[c]);
        }
    }
}

/// What a network of every kind of kernel gives in `f32`, as bits: a gradient and an output of each.
fn bits_on(threads: usize, [n, inputs, outputs, h, w]: [usize; 5], window: Window) -> Vec<Vec<u32>> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let x = Var::from_tensor(&uniform(&[n, inputs, h, w], 1).to_dtype(DType::F32).unwrap()).unwrap();
        let (layer, norm) = (conv(inputs, outputs, window, DType::F32), norm(outputs, DType::F32));
        let y = norm.forward(&layer.forward(&x).unwrap(), TRAIN, Activation::Relu).unwrap();
        let gradients = weighted_sum(&y.to_dtype(DType::F64).unwrap()).unwrap().backward().unwrap();
        let of = |var: &Var| gradients.get(var).unwrap().clone();
        [y, of(&x), of(layer.weight()), of(norm.weight()), of(norm.bias()), norm.running_var().as_tensor().clone()]
            .iter()
            .map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect())
            .collect()
    })
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let large = [
        ([4, 16, 16, 32, 32], Window::three(1)),
        ([16, 160, 128, 4, 4], Window::three(1)), // whose points are shared out
        ([33, 16, 32, 16, 16], Window::three(2)),
        ([9, 16, 32, 16, 16], Window::one(2)),
        ([5, 3, 16, 32, 32], Window::three(1)),
    ];
    for (sizes, window) in cases().into_iter().filter(|([n, .., h, w], _)| n * h * w > 1).chain(large) {
        let one = bits_on(1, sizes, window);
        for threads in [2, 3] {
            assert!(one == bits_on(threads, sizes, window), "{sizes:?}, {window:?}: {threads} threads differ from one");
        }
    }
}
