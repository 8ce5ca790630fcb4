//! What a recorder keeps is what candle's own operations say a layer saw, and keeping it changes nothing.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

#[allow(dead_code, reason = "this file uses its part")]
mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{assert_close, uniform, values, weighted_sum};
use np_models::layers::{Linear, relu};
use np_models::{Error, Initializer, Mlp, MlpConfig, Mode, Model, Recorder, ResNet18, ResNet18Config, cross_entropy};

fn linear(inputs: usize, outputs: usize, seed: u64) -> Linear {
    Linear::new(inputs, outputs, &mut Initializer::new(seed), DType::F64, &Device::Cpu).unwrap()
}

#[test]
fn the_statistics_of_two_layers_are_those_of_candles_operations() {
    let (x, first, second) = (uniform(&[17, 9], 1), linear(9, 6, 2), linear(6, 4, 3));
    let recorder = Recorder::new();
    let h = relu(&first.forward_recorded(&x, "first", &recorder).unwrap()).unwrap();
    let y = second.forward_recorded(&h, "second", &recorder).unwrap();
    assert!(recorder.take().is_empty(), "nothing before the backward pass");
    let _ = weighted_sum(&y.sqr().unwrap()).unwrap().backward().unwrap();
    let traces = recorder.take();
    assert_eq!(traces.iter().map(|trace| trace.layer.as_str()).collect::<Vec<_>>(), ["second", "first"]);
    assert!(recorder.take().is_empty(), "taken once");

    // The same network of candle's operations; its outputs are variables, so that candle keeps their gradients.
    let affine = |x: &Tensor, layer: &Linear| {
        x.matmul(&layer.weight().t().unwrap()).unwrap().broadcast_add(layer.bias()).unwrap()
    };
    let hidden = Var::from_tensor(&affine(&x, &first)).unwrap();
    let activated = hidden.relu().unwrap();
    let of_hidden = weighted_sum(&affine(&activated, &second).sqr().unwrap()).unwrap().backward().unwrap();
    let output = Var::from_tensor(&affine(&activated, &second)).unwrap();
    let of_output = weighted_sum(&output.sqr().unwrap()).unwrap().backward().unwrap();
    let gram = |x: &Tensor| x.t().unwrap().matmul(x).unwrap();
    let expected = [(&activated, of_output.get(&output).unwrap()), (x.as_tensor(), of_hidden.get(&hidden).unwrap())];
    for (trace, (inputs, gradients)) in traces.iter().zip(expected) {
        // Sums of at most 17 terms in f64, of rounded factors.
        assert_close(&format!("inputs of {}", trace.layer), &gram(&trace.inputs), &gram(inputs), 1e-12);
        assert_close(&format!("gradients of {}", trace.layer), &gram(&trace.output_gradients), &gram(gradients), 1e-12);
        assert!(!trace.inputs.track_op() && !trace.output_gradients.track_op(), "no graph is kept");
    }
}

#[test]
fn an_mlp_names_its_layers_and_recording_changes_no_bit() {
    let model = Mlp::new(12, 3, &MlpConfig { hidden: vec![8, 5], dropout: 0.3 }, 41, &Device::Cpu).unwrap();
    let x = Initializer::new(1).uniform((10, 12), 1.0, DType::F32, &Device::Cpu).unwrap();
    let labels = Tensor::from_vec((0..10u32).map(|i| i % 3).collect(), 10, &Device::Cpu).unwrap();
    let (recorder, mode) = (Recorder::new(), Mode::Train { step: 4 });
    let plain = cross_entropy(&model.forward(&x, mode).unwrap(), &labels).unwrap();
    let recorded = cross_entropy(&model.forward_recorded(&x, mode, &recorder).unwrap(), &labels).unwrap();
    assert_eq!(plain.to_scalar::<f32>().unwrap(), recorded.to_scalar::<f32>().unwrap());
    let (plain, recorded) = (plain.backward().unwrap(), recorded.backward().unwrap());
    let traces = recorder.take();
    for (name, var) in model.parameters() {
        let bits = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(plain.get(&var).unwrap()), bits(recorded.get(&var).unwrap()), "{name}");
    }
    let names: Vec<_> = traces.iter().map(|trace| trace.layer.as_str()).collect();
    assert_eq!(names, ["head", "fc2", "fc1"]);
    // A weight's gradient is eᵀ x: what is kept belongs together.
    for trace in &traces {
        let f64s = |t: &Tensor| t.to_dtype(DType::F64).unwrap();
        let product = f64s(&trace.output_gradients).t().unwrap().matmul(&f64s(&trace.inputs)).unwrap();
        let (_, weight) =
            model.parameters().into_iter().find(|(name, _)| *name == format!("{}.weight", trace.layer)).unwrap();
        // Sums of 10 terms in f32, below 1.
        assert_close(&trace.layer, &f64s(recorded.get(&weight).unwrap()), &product, 1e-5);
    }
    assert!(values(&traces[0].output_gradients.to_dtype(DType::F64).unwrap()).iter().any(|e| *e != 0.0));
}

#[test]
fn what_cannot_be_recorded_says_so() {
    let model = ResNet18::new(3, 10, &ResNet18Config { width: 1 }, 41, &Device::Cpu).unwrap();
    let x = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
    let error = model.forward_recorded(&x, Mode::Eval, &Recorder::new()).unwrap_err();
    assert!(matches!(&error, Error::Unrecorded { what } if what == "ResNet-18 3-1-10"), "{error}");
    let half = Linear::new(3, 2, &mut Initializer::new(1), DType::F16, &Device::Cpu).unwrap();
    let x = Tensor::zeros((1, 3), DType::F16, &Device::Cpu).unwrap();
    assert!(matches!(half.forward_recorded(&x, "half", &Recorder::new()), Err(Error::Unrecorded { .. })));
}
