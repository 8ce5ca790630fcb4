//! Every optimizer of the registry on two problems of different kind: a curved valley, and a network that has to learn.
#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{numbers, rates, tensor};
use np_core::OptimizerConfig;

/// The loss before and after `steps` steps.
fn descend(
    config: &OptimizerConfig,
    lr: f64,
    params: &[(String, Var)],
    steps: usize,
    loss: impl Fn() -> Tensor,
) -> (f32, f32) {
    let value = || loss().to_scalar::<f32>().unwrap();
    let before = value();
    let mut optimizer = config.build(params.to_vec()).unwrap();
    optimizer.try_set_learning_rate(lr).unwrap();
    for step in 0..steps {
        if step % (steps / 10) == 0 {
            optimizer.begin_epoch(10 * step / steps + 1, 10);
        }
        optimizer.step_report(&loss().backward().unwrap()).unwrap();
    }
    (before, value())
}

/// (1 − x)² + 100 (y − x²)² from (−1.2, 1), where it is 24.2. At the bottom of the valley beside the start it is 4, a share of 0.17; less
/// means to have followed the valley.
#[test]
fn the_valley_of_rosenbrock_is_followed() {
    for config in OptimizerConfig::defaults() {
        let w = Var::new(&[-1.2f32, 1.0], &Device::Cpu).unwrap();
        let loss = || {
            let (x, y) = (w.narrow(0, 0, 1).unwrap(), w.narrow(0, 1, 1).unwrap());
            let across = (y - x.sqr().unwrap()).unwrap().sqr().unwrap();
            ((across * 100.0).unwrap() + (1.0 - x).unwrap().sqr().unwrap()).unwrap().sum_all().unwrap()
        };
        let (before, after) = descend(&config, rates(&config).valley, &[("w".into(), w.clone())], 1000, loss);
        assert!(after < 0.1 * before, "{}: {before} → {after}", config.kind());
    }
}

/// A network 2-16-2 on 64 points of the square, whose class is the sign of x·y: nothing linear tells them apart.
#[test]
fn a_small_network_learns() {
    let points = numbers(128, 11);
    let labels: Vec<u32> = points.chunks(2).map(|p| u32::from(p[0] * p[1] > 0.0)).collect();
    let x = Tensor::from_vec(points, (64, 2), &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let labels = Tensor::from_vec(labels, 64, &Device::Cpu).unwrap();
    for config in OptimizerConfig::defaults() {
        let shapes: [(&str, &[usize]); 4] =
            [("fc1.weight", &[16, 2]), ("fc1.bias", &[16]), ("head.weight", &[2, 16]), ("head.bias", &[2])];
        let params: Vec<(String, Var)> = shapes
            .iter()
            .zip(1..)
            .map(|((name, shape), seed)| ((*name).into(), Var::from_tensor(&tensor(shape, seed, DType::F32)).unwrap()))
            .collect();
        let loss = || {
            let layer = |x: &Tensor, k: usize| {
                x.matmul(&params[k].1.t().unwrap()).unwrap().broadcast_add(params[k + 1].1.as_tensor()).unwrap()
            };
            let logits = layer(&layer(&x, 0).tanh().unwrap(), 2);
            candle_nn::loss::cross_entropy(&logits, &labels).unwrap()
        };
        let (before, after) = descend(&config, rates(&config).network, &params, 300, loss);
        assert!(after < 0.5 * before, "{}: {before} → {after}", config.kind());
    }
}
