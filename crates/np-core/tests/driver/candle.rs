//! Programs written for candle's own optimizers: every call of theirs compiles against these and means the same.
//!
//! The problems and numbers are those that candle-nn holds its SGD and AdamW to, and are PyTorch's: 1,000 steps of `torch.optim.SGD(lr=0.004)`, and 100 of
//! `torch.optim.AdamW(lr=0.1)`, on Σ (ŷ − y)² of a linear layer that starts from zero.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module, Optimizer, VarBuilder, VarMap};
use np_core::{AdamW, AdamWConfig, AnyOptimizer, OptimizerConfig, Sgd, SgdConfig};

/// Four points of y = 3 x₁ + x₂ − 2.
fn points() -> Result<(Tensor, Tensor)> {
    let x = Tensor::new(&[[2f32, 1.0], [7.0, 4.0], [-4.0, 12.0], [5.0, 8.0]], &Device::Cpu)?;
    let y = Tensor::new(&[[5f32], [23.0], [-2.0], [21.0]], &Device::Cpu)?;
    Ok((x, y))
}

/// A layer of two inputs from zero, and its parameters.
fn layer() -> Result<(Linear, Var, Var)> {
    let (w, b) = (Var::zeros((1, 2), DType::F32, &Device::Cpu)?, Var::zeros((), DType::F32, &Device::Cpu)?);
    Ok((Linear::new(w.as_tensor().clone(), Some(b.as_tensor().clone())), w, b))
}

fn loss(layer: &Linear) -> Result<Tensor> {
    let (x, y) = points()?;
    layer.forward(&x)?.sub(&y)?.sqr()?.sum_all()
}

/// As a program of candle's would be: for any of its optimizers, one step as the last expression.
fn descend<O: Optimizer>(optimizer: &mut O, loss: &Tensor) -> Result<()> {
    optimizer.backward_step(loss)
}

fn near(w: &Var, b: &Var, weights: [f32; 2], bias: f32, allowed: f32) -> Result<()> {
    let (w, b) = (w.flatten_all()?.to_vec1::<f32>()?, b.to_scalar::<f32>()?);
    for (got, expected) in w.iter().zip(weights).chain([(&b, bias)]) {
        assert!((got - expected).abs() <= allowed, "{w:?}, {b}: expected {weights:?}, {bias}");
    }
    Ok(())
}

#[test]
#[allow(clippy::semicolon_if_nothing_returned)] // as candle's own test has it
fn sgd_finds_the_bottom_of_a_parabola() -> Result<()> {
    let x = Var::new(0f32, &Device::Cpu)?;
    let mut sgd = Sgd::new(vec![x.clone()], SgdConfig { lr: 0.1, ..Default::default() })?;
    let xt = x.as_tensor();
    for _step in 0..100 {
        let loss = ((xt - 4.2)? * (xt - 4.2)?)?;
        sgd.backward_step(&loss)?
    }
    // 4.2 (1 − 0.8¹⁰⁰), and the rounding of single precision.
    assert!((x.to_scalar::<f32>()? - 4.2).abs() < 2e-6);
    Ok(())
}

#[test]
fn sgd_linear_regression() -> Result<()> {
    let (lin, w, b) = layer()?;
    let mut sgd = Sgd::new(vec![w.clone(), b.clone()], SgdConfig { lr: 0.004, ..Default::default() })?;
    for _step in 0..1000 {
        sgd.backward_step(&loss(&lin)?)?;
    }
    // A thousand steps of single precision.
    near(&w, &b, [2.998_32, 0.997_902], -1.979_69, 1e-5)
}

#[test]
fn adamw_linear_regression() -> Result<()> {
    let (lin, w, b) = layer()?;
    let mut opt = AdamW::new(vec![w.clone(), b.clone()], AdamWConfig { lr: 0.1, ..Default::default() })?;
    for _step in 0..100 {
        let grads = loss(&lin)?.backward()?;
        opt.step(&grads)?;
    }
    // PyTorch's, to the four digits that candle-nn gives.
    near(&w, &b, [2.7257, 0.7097], 0.7873, 6e-5)
}

#[test]
fn adamw_without_decay_is_adam() -> Result<()> {
    let (lin, w, b) = layer()?;
    let mut opt =
        AdamW::new(vec![w.clone(), b.clone()], AdamWConfig { lr: 0.1, weight_decay: 0.0, ..Default::default() })?;
    let (other, v, c) = layer()?;
    let config = OptimizerConfig::Adam(np_core::AdamConfig { lr: 0.1, ..Default::default() });
    let mut adam = <Box<dyn AnyOptimizer>>::new(vec![v.clone(), c.clone()], config)?;
    for _step in 0..100 {
        descend(&mut opt, &loss(&lin)?)?;
        descend(&mut adam, &loss(&other)?)?;
    }
    assert_eq!(w.to_vec2::<f32>()?, v.to_vec2::<f32>()?);
    assert_eq!(b.to_scalar::<f32>()?, c.to_scalar::<f32>()?);
    assert_eq!(adam.learning_rate(), 0.1);
    Ok(())
}

#[test]
fn adamw_linear_regression_over_a_varmap() -> Result<()> {
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    let (w, b) = (
        vb.get_with_hints((1, 2), "w", candle_nn::Init::Const(0.0))?,
        vb.get_with_hints((), "b", candle_nn::Init::Const(0.0))?,
    );
    let lin = Linear::new(w, Some(b));
    let mut opt = AdamW::new(map.all_vars(), AdamWConfig { lr: 0.1, ..Default::default() })?;
    for _step in 0..100 {
        opt.backward_step(&loss(&lin)?)?;
    }
    let round = |x: f32| (x * 1e4).round() / 1e4;
    let got: Vec<f32> = lin.weight().flatten_all()?.to_vec1()?.into_iter().map(round).collect();
    assert_eq!(got, [2.7257, 0.7097]);
    Ok(())
}

/// What is not of a floating-point type is left out, none at all is an optimizer too, and rates are set and asked for.
#[test]
fn the_rest_of_the_trait() -> Result<()> {
    let mut sgd = Sgd::empty(SgdConfig::default())?;
    sgd.set_learning_rate(0.5);
    assert_eq!(sgd.learning_rate(), 0.5);
    let (w, i) = (Var::ones(2, DType::F32, &Device::Cpu)?, Var::ones(2, DType::U32, &Device::Cpu)?);
    let mut sgd = Sgd::from_slice(&[&w, &i], SgdConfig { lr: 1.0, ..Default::default() })?;
    assert_eq!(sgd.names().count(), 1);
    sgd.backward_step(&w.as_tensor().sum_all()?)?;
    assert_eq!(w.to_vec1::<f32>()?, [0.0; 2]);
    assert_eq!(sgd.last_report().map(|report| report.updated), Some(1));
    Ok(())
}

/// Everything imported at once: no call is ambiguous, on an optimizer itself, in a box, or by reference.
#[test]
fn imports_make_no_call_ambiguous() -> Result<()> {
    #[allow(unused_imports, clippy::wildcard_imports)]
    use np_core::*;
    fn by_reference(any: &mut dyn AnyOptimizer, loss: &Tensor) -> candle_core::Result<()> {
        any.step(&loss.backward()?)?;
        any.backward_step(loss)
    }
    let w = Var::ones(2, DType::F32, &Device::Cpu)?;
    let loss = || w.as_tensor().sum_all();
    let mut opt = Sgd::new(vec![w.clone()], SgdConfig { lr: 0.125, ..Default::default() })?;
    opt.step(&loss()?.backward()?)?;
    opt.backward_step(&loss()?)?;
    let _: StepReport = opt.backward_step_report(&loss()?)?;
    let mut boxed: Box<dyn AnyOptimizer> = Box::new(opt);
    boxed.step(&loss()?.backward()?)?;
    boxed.backward_step(&loss()?)?;
    by_reference(boxed.as_mut(), &loss()?)?;
    assert_eq!(boxed.steps(), 7);
    assert_eq!(w.to_vec1::<f32>()?, [0.125; 2]);
    Ok(())
}
