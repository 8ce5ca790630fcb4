//! ResNet-18 as a whole: torchvision's names, values, gradients and running statistics; sizes; errors.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use np_models::layers::{Activation, BatchNorm2d, Conv2d, Window};
use np_models::{Initializer, Mode, Model, ResNet18, ResNet18Config, cross_entropy, load};

/// What torchvision made of a batch: see `fixtures/resnet18.py`.
struct Fixture {
    tensors: HashMap<String, Tensor>,
    names: Vec<String>,
}

impl Fixture {
    fn read() -> Self {
        let bytes = include_bytes!("fixtures/resnet18.safetensors");
        let (_, metadata) = safetensors::SafeTensors::read_metadata(bytes).unwrap();
        let names = metadata.metadata().as_ref().unwrap()["names"].split(',').map(String::from).collect();
        Self { tensors: candle_core::safetensors::load_buffer(bytes, &Device::Cpu).unwrap(), names }
    }

    fn checkpoint(&self) -> HashMap<String, Tensor> {
        let of_model = |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix("model.")?.into(), tensor.clone()));
        self.tensors.iter().filter_map(of_model).collect()
    }

    fn get(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }
}

fn resnet(width: usize, dtype: DType) -> ResNet18 {
    ResNet18::of_type(3, 10, &ResNet18Config { width }, 41, dtype, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Every element within `tolerance` times the largest of `expected`.
fn assert_close(what: &str, ours: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(ours.dims(), expected.dims(), "{what}");
    let (ours, expected) = (values(ours), values(expected));
    let scale = expected.iter().fold(0f64, |max, v| max.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= tolerance * scale, "{what}[{i}]: {a}, expected {b}");
    }
}

/// The bounds hold for roundings in `f32` and through 18 layers: 1e-4 on logits of order 1; gradients, which are sums of up to
/// 4,096 such terms, to 1e-3 of a tensor's largest. In `f64` only PyTorch's own roundings are left.
fn agrees_with_torchvision(dtype: DType, tolerance: f64) {
    let fixture = Fixture::read();
    let model = resnet(4, dtype);
    load(&model, &fixture.checkpoint()).unwrap();
    let images = fixture.get("images").to_dtype(dtype).unwrap();
    let logits = model.forward(&images, Mode::Eval).unwrap();
    assert_close("logits in evaluation", &logits, fixture.get("logits.eval"), tolerance);
    let before: Vec<_> = model.buffers().iter().map(|(_, var)| values(var)).collect();
    for (before, (name, _)) in before.iter().zip(model.buffers()) {
        assert_eq!(*before, values(fixture.get(&format!("model.{name}"))), "{name} after an evaluation");
    }

    let logits = model.forward(&images, Mode::Train { step: 0 }).unwrap();
    assert_close("logits in training", &logits, fixture.get("logits.train"), tolerance);
    for (name, buffer) in model.buffers() {
        assert_close(&name, &buffer, fixture.get(&format!("after.{name}")), tolerance);
    }
    let loss = cross_entropy(&logits, fixture.get("labels")).unwrap();
    assert_close("loss", &loss, fixture.get("loss.train"), tolerance);
    let gradients = loss.backward().unwrap();
    let mut compared = 0;
    for (name, parameter) in model.parameters() {
        let gradient = gradients.get(&parameter).expect("a gradient");
        if let Some(expected) = fixture.tensors.get(&format!("gradient.{name}")) {
            assert_close(&name, gradient, expected, 10.0 * tolerance);
            compared += 1;
        }
    }
    assert_eq!(compared, 56); // all but the six of layer4.1
}

#[test]
fn a_checkpoint_of_torchvision_gives_its_logits_gradients_and_statistics() {
    agrees_with_torchvision(DType::F32, 1e-4);
}

#[test]
fn in_double_precision_too() {
    agrees_with_torchvision(DType::F64, 3e-5);
}

#[test]
fn names_are_torchvisions_in_its_order() {
    let model = resnet(4, DType::F32);
    let names: Vec<_> = model.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, Fixture::read().names);
    let buffers: Vec<_> = model.buffers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(buffers.len(), 40);
    assert_eq!(buffers[..2], ["bn1.running_mean", "bn1.running_var"]);
    assert_eq!(buffers[14], "layer2.0.downsample.1.running_mean");
    assert!(buffers.iter().all(|name| !names.contains(name)), "a buffer is not a parameter");
}

#[test]
fn sizes_are_those_of_the_published_network() {
    // torchvision's ResNet-18 with 10 classes has 11,181,642 parameters; its 7 × 7 stem has 7,680 more weights than a 3 × 3.
    let model = ResNet18::new(3, 10, &ResNet18Config::default(), 1, &Device::Cpu).unwrap();
    assert_eq!(model.num_parameters(), 11_181_642 - 7_680);
    assert_eq!(model.title(), "ResNet-18 3-64-10");
}

#[test]
fn initial_values_are_torchvisions() {
    let model = resnet(16, DType::F32);
    for (name, parameter) in model.parameters() {
        let v = values(&parameter);
        let n = v.len() as f64;
        match parameter.dims() {
            &[outputs, _, kernel, _] => {
                let (std, mean) = ((2.0 / (outputs * kernel * kernel) as f64).sqrt(), v.iter().sum::<f64>() / n);
                let measured = (v.iter().map(|x| x * x).sum::<f64>() / n).sqrt();
                // Standard errors σ/√n and σ/√(2n); five of each, for 20 tensors.
                assert!(mean.abs() < 5.0 * std / n.sqrt(), "{name}: mean {mean}");
                assert!((measured / std - 1.0).abs() < 5.0 / (2.0 * n).sqrt(), "{name}: {measured}, expected {std}");
            }
            _ if name.starts_with("fc") => assert!(v.iter().all(|x| x.abs() <= 1.0 / 128f64.sqrt()), "{name}"),
            _ if name.ends_with("weight") => assert!(v.iter().all(|&x| x == 1.0), "{name}"),
            _ => assert!(v.iter().all(|&x| x == 0.0), "{name}"),
        }
    }
    for (name, buffer) in model.buffers() {
        let expected = f64::from(u8::from(name.ends_with("var")));
        assert!(values(&buffer).iter().all(|&x| x == expected), "{name}");
    }
}

#[test]
fn odd_widths_and_odd_images_are_taken() {
    for (width, channels, [h, w]) in [(1, 1, [28, 28]), (3, 2, [9, 7]), (5, 3, [33, 31]), (2, 1, [1, 17])] {
        let model = ResNet18::new(channels, 7, &ResNet18Config { width }, 1, &Device::Cpu).unwrap();
        let x = Tensor::randn(0f32, 1.0, (2, channels, h, w), &Device::Cpu).unwrap();
        let labels = Tensor::new(&[3u32, 6], &Device::Cpu).unwrap();
        let logits = model.forward(&x, Mode::Train { step: 0 }).unwrap();
        assert_eq!(logits.dims(), [2, 7]);
        let gradients = cross_entropy(&logits, &labels).unwrap().backward().unwrap();
        for (name, parameter) in model.parameters() {
            let gradient = values(gradients.get(&parameter).expect("a gradient"));
            assert!(gradient.iter().all(|g| g.is_finite()), "{name}");
        }
    }
}

#[test]
fn half_precision_takes_candles_operations() {
    let (single, half) = (resnet(4, DType::F32), resnet(4, DType::F16));
    let fixture = Fixture::read();
    let logits = [&single, &half].map(|model| {
        load(model, &fixture.checkpoint()).unwrap();
        let dtype = model.parameters()[0].1.dtype();
        model.forward(&fixture.get("images").to_dtype(dtype).unwrap(), Mode::Train { step: 0 }).unwrap()
    });
    // f16 has 11 bits; 18 layers of roundings of 2⁻¹² each, and of sums.
    assert_close("logits", &logits[1], &logits[0], 0.02);
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let fixture = Fixture::read();
    for (width, n) in [(4, 4), (16, 3), (9, 1)] {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let model = resnet(width, DType::F32);
                let (images, labels) = (fixture.get("images"), fixture.get("labels"));
                let (images, labels) = (images.narrow(0, 0, n).unwrap(), labels.narrow(0, 0, n).unwrap());
                let logits = model.forward(&images, Mode::Train { step: 0 }).unwrap();
                let gradients = cross_entropy(&logits, &labels).unwrap().backward().unwrap();
                let mut all = vec![values(&logits), values(&model.forward(&images, Mode::Eval).unwrap())];
                all.extend(model.parameters().iter().map(|(_, var)| values(gradients.get(var).unwrap())));
                all.extend(model.buffers().iter().map(|(_, var)| values(var)));
                all
            })
        };
        let one = run(1);
        for threads in [2, 3, 4] {
            assert!(one == run(threads), "width {width}, batch {n}: {threads} threads differ from one");
        }
    }
}

fn message<T>(result: np_models::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn a_checkpoint_that_does_not_fit_changes_nothing_and_says_what_is_wrong() {
    let fixture = Fixture::read();
    let model = resnet(4, DType::F32);
    let before: Vec<_> = model.parameters().iter().map(|(_, var)| values(var)).collect();
    let error = |change: &dyn Fn(&mut HashMap<String, Tensor>)| {
        let mut checkpoint = fixture.checkpoint();
        change(&mut checkpoint);
        let error = load(&model, &checkpoint).expect_err("a misfit");
        assert_eq!(error.hint(), Some("a checkpoint fits only a model of the same kind, width, channels and classes"));
        error.to_string()
    };
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
    assert_eq!(
        error(&|tensors| drop(tensors.remove("layer1.0.bn1.running_var"))),
        "tensor `layer1.0.bn1.running_var` must be [4] of a float, got nothing"
    );
    assert_eq!(
        error(&|tensors| drop(tensors.insert("fc.bias".into(), zeros(&[100], DType::F32)))),
        "tensor `fc.bias` must be [10] of a float, got [100] of F32"
    );
    assert_eq!(
        error(&|tensors| drop(tensors.insert("fc.bias".into(), zeros(&[10], DType::U8)))),
        "tensor `fc.bias` must be [10] of a float, got [10] of U8"
    );
    assert_eq!(
        error(&|tensors| drop(tensors.insert("layer5.0.conv1.weight".into(), zeros(&[1], DType::F32)))),
        "tensor `layer5.0.conv1.weight` must be absent from a checkpoint of ResNet-18 3-4-10, got [1] of F32"
    );
    let after: Vec<_> = model.parameters().iter().map(|(_, var)| values(var)).collect();
    assert!(before == after);
}

#[test]
fn a_models_own_tensors_load_back() {
    let model = resnet(2, DType::F32);
    let all = || model.parameters().into_iter().chain(model.buffers());
    let aliases = all().map(|(name, var)| (name, var.as_tensor().clone())).collect();
    let before: Vec<_> = all().map(|(_, var)| values(&var)).collect();
    load(&model, &aliases).unwrap();
    assert!(before == all().map(|(_, var)| values(&var)).collect::<Vec<_>>());
}

#[test]
fn bad_sizes_and_inputs_name_what_came() {
    let build = |channels, classes, width| {
        message(ResNet18::new(channels, classes, &ResNet18Config { width }, 1, &Device::Cpu))
    };
    assert_eq!(build(3, 10, 0), "`width` must be at least 1, got `0`");
    assert_eq!(build(0, 10, 4), "`channels` must be 1 to 7456540, got `0`");
    assert_eq!(build(1 << 40, 10, 64), "`channels` must be 1 to 466033, got `1099511627776`");
    for classes in [0, usize::MAX] {
        assert_eq!(build(3, classes, 4), format!("`classes` must be 1 to 8134407, got `{classes}`"));
    }
    for width in [10_000, usize::MAX] {
        assert_eq!(build(3, 10, width), format!("`width` must be 1 to 437, got `{width}`"));
    }
    let norm = message(BatchNorm2d::new(usize::MAX, DType::F32, &Device::Cpu));
    assert_eq!(norm, format!("`channels` must be 1 to 1073741824, got `{}`", usize::MAX));
    let model = resnet(2, DType::F32);
    let forward = |shape: &[usize], dtype, mode| {
        message(model.forward(&Tensor::zeros(shape, dtype, &Device::Cpu).unwrap(), mode))
    };
    let train = Mode::Train { step: 0 };
    let expected =
        "the model's input must be [batch, 3, height, width] of F32, none of them 0, got [2, 1, 32, 32] of F32";
    assert_eq!(forward(&[2, 1, 32, 32], DType::F32, train), expected);
    let expected =
        "the model's input must be [batch, 3, height, width] of F32, none of them 0, got [2, 3, 32, 32] of F64";
    assert_eq!(forward(&[2, 3, 32, 32], DType::F64, train), expected);
    let expected =
        "the model's input must be [batch, 3, height, width] of F32, none of them 0, got [0, 3, 32, 32] of F32";
    assert_eq!(forward(&[0, 3, 32, 32], DType::F32, train), expected);
    // One value a channel has no variance; PyTorch refuses it as well.
    let expected = "the model's input must be large enough for two values a channel in the last stage, in training, \
                    got 1 × 1 × 1";
    assert_eq!(forward(&[1, 3, 8, 8], DType::F32, train), expected);
    let layer = Conv2d::new(
        3,
        2,
        Window { kernel: 5, stride: 1, padding: 1 },
        &mut Initializer::new(1),
        DType::F32,
        &Device::Cpu,
    );
    let image = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let layer = layer.unwrap();
    for shape in [[2, 3, 2, 9], [0, 3, 9, 9]] {
        let expected =
            "a convolution's input must be [batch, 3, height, width] of F32, batch at least 1, sides at least 3";
        assert_eq!(message(layer.forward(&image(&shape))), format!("{expected}, got {shape:?} of F32"));
    }
    let wide = Window { kernel: 1, stride: 1, padding: usize::MAX };
    let wide = Conv2d::new(3, 2, wide, &mut Initializer::new(1), DType::F32, &Device::Cpu).unwrap();
    assert!(message(wide.forward(&image(&[1, 3, 2, 2]))).contains("sides at least 1, got [1, 3, 2, 2]"));
    // As one of candle's modules, its error is kept.
    let error = image(&[2, 3, 2, 9]).apply(&layer).unwrap_err();
    assert!(error.to_string().contains("got [2, 3, 2, 9] of F32"), "{error}");
    let norm = BatchNorm2d::new(2, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(
        message(norm.forward(&image(&[1, 2, 1, 1]), train, Activation::Identity)),
        "a batch norm's input must be [batch, 2, height, width] of F32 with at least 2 values a channel, \
         got [1, 2, 1, 1] of F32"
    );
    assert!(model.forward(&Tensor::zeros((1, 3, 8, 8), DType::F32, &Device::Cpu).unwrap(), Mode::Eval).is_ok());
}

#[test]
fn a_configuration_knows_its_defaults_and_no_other_field() {
    let parse = serde_json::from_str::<ResNet18Config>;
    assert_eq!(parse("{}").unwrap(), ResNet18Config::default());
    assert_eq!(parse(r#"{"width": 16}"#).unwrap(), ResNet18Config { width: 16 });
    assert!(parse(r#"{"hidden": []}"#).unwrap_err().to_string().contains("unknown field `hidden`"));
}
