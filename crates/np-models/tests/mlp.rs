//! The MLP as a whole: names, sizes, initial values, dropout, errors, and the same bits from any number of threads.

#![allow(clippy::unwrap_used, clippy::expect_used)] // also in the functions that the tests share

use candle_core::{DType, Device, Tensor, Var};
use np_models::layers::{Linear, ReluDropout, relu};
use np_models::{Error, Initializer, Mlp, MlpConfig, Mode, Model, cross_entropy, loss_and_correct};

fn mlp(hidden: &[usize], dropout: f64, seed: u64) -> Mlp {
    Mlp::new(784, 10, &MlpConfig { hidden: hidden.to_vec(), dropout }, seed, &Device::Cpu).unwrap()
}

fn images(n: usize, seed: u64) -> Tensor {
    Initializer::new(seed).uniform((n, 784), 1.0, DType::F32, &Device::Cpu).unwrap()
}

fn labels(n: usize) -> Tensor {
    Tensor::from_vec((0..n as u32).map(|i| i * 3 % 10).collect(), n, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn bits(t: &Tensor) -> Vec<u32> {
    values(t).into_iter().map(f32::to_bits).collect()
}

#[test]
fn parameters_come_in_definition_order() {
    let model = mlp(&[256, 64], 0.1, 41);
    let parameters: Vec<_> = model.parameters().into_iter().map(|(name, var)| (name, var.dims().to_vec())).collect();
    let expected: [(&str, &[usize]); 6] = [
        ("fc1.weight", &[256, 784]),
        ("fc1.bias", &[256]),
        ("fc2.weight", &[64, 256]),
        ("fc2.bias", &[64]),
        ("head.weight", &[10, 64]),
        ("head.bias", &[10]),
    ];
    assert_eq!(parameters, expected.map(|(name, dims)| (name.to_owned(), dims.to_vec())));
    assert_eq!(model.title(), "MLP 784-256-64-10");
    assert_eq!(model.num_parameters(), 784 * 256 + 256 + 256 * 64 + 64 + 64 * 10 + 10);
    assert!(model.buffers().is_empty());
}

#[test]
fn no_hidden_layer_is_a_linear_classifier() {
    let model: Box<dyn Model> = Box::new(mlp(&[], 0.1, 41));
    assert_eq!(model.title(), "MLP 784-10");
    let names: Vec<_> = model.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["head.weight", "head.bias"]);
    assert_eq!(model.forward(&images(3, 1), Mode::Eval).unwrap().dims(), [3, 10]);
}

#[test]
fn initial_values_are_pinned() {
    // From an implementation of ChaCha8 and PCG32 in Python, independent of the crates used here: words 0 to 3 of streams 0
    // (fc1.weight), 1 (fc1.bias) and 5 (head.bias) of seed 41, times 1/√784 and 1/√256 in f32.
    let expected: [(&str, [f32; 4]); 3] = [
        ("fc1.weight", [-0.009_347_465, 0.005_370_698, -0.005_549_729_3, -0.035_022_125]),
        ("fc1.bias", [-0.005_047_53, -0.026_967_127, -0.004_627_398, -0.015_621_723]),
        ("head.bias", [0.018_584_274, -0.006_413_646, 0.039_017_268, 0.059_554_122]),
    ];
    let parameters = mlp(&[256, 256], 0.1, 41).parameters();
    for (name, first) in expected {
        let (_, var) = parameters.iter().find(|(n, _)| n == name).unwrap();
        assert_eq!(values(var)[..4], first, "{name}");
    }
}

#[test]
fn initial_values_fill_the_range_of_pytorch() {
    let mut fan_in = 784.0f32;
    for pair in mlp(&[256, 100], 0.1, 7).parameters().chunks(2) {
        let bound = 1.0 / fan_in.sqrt();
        for (name, var) in pair {
            let largest = values(var).into_iter().fold(0f32, |max, v| max.max(v.abs()));
            // A bias of 10 has all its values below 0.5 of the bound once in 1,000 seeds; this seed is not one.
            assert!((0.5 * bound..=bound).contains(&largest), "{name}: {largest}, bound {bound}");
        }
        fan_in = pair[0].1.dims()[0] as f32;
    }
}

#[test]
fn a_seed_fixes_the_model_and_another_changes_it() {
    let weights = |seed| -> Vec<_> { mlp(&[16], 0.1, seed).parameters().iter().map(|(_, var)| bits(var)).collect() };
    assert_eq!(weights(41), weights(41));
    for (a, b) in weights(41).iter().zip(&weights(42)) {
        assert_ne!(a, b);
    }
}

#[test]
fn images_are_flattened() {
    let (model, x) = (mlp(&[16], 0.1, 41), images(5, 1));
    let flat = model.forward(&x, Mode::Eval).unwrap();
    let square = model.forward(&x.reshape((5, 1, 28, 28)).unwrap(), Mode::Eval).unwrap();
    assert_eq!(bits(&flat), bits(&square));
}

#[test]
fn a_dropout_mask_depends_on_seed_layer_and_step_only() {
    let x = Tensor::ones((3, 100), DType::F32, &Device::Cpu).unwrap();
    let mask = |seed, layer, step| {
        bits(&ReluDropout::new(0.5, seed, layer).unwrap().forward(&x, Mode::Train { step }).unwrap())
    };
    let first = mask(1, 0, 0);
    assert_eq!(first, mask(1, 0, 0));
    for (seed, layer, step) in [(2, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 0)] {
        assert_ne!(first, mask(seed, layer, step));
    }
}

#[test]
fn a_dropout_mask_is_pinned() {
    // From the same Python implementation: key (41, 1, 7, "dropout\0"), 16-bit draws not below 2¹⁵.
    let dropout = ReluDropout::new(0.5, 41, 1).unwrap();
    let y = dropout.forward(&Tensor::ones(9010, DType::F32, &Device::Cpu).unwrap(), Mode::Train { step: 7 }).unwrap();
    let kept: String = values(&y)
        .into_iter()
        .map(|v| match v {
            0.0 => '0',
            2.0 => '1',
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(kept[..16], *"0000011101110110");
    assert_eq!(kept[4096..4112], *"0101110101110111");
    assert_eq!(kept[9000..9008], *"10110100");
}

#[test]
fn dropout_keeps_its_share_and_the_mean() {
    let n = 1_000_000;
    let x = Tensor::ones(n, DType::F64, &Device::Cpu).unwrap();
    for p in [0.1, 0.5, 0.9] {
        let y =
            ReluDropout::new(p, 3, 0).unwrap().forward(&x, Mode::Train { step: 0 }).unwrap().to_vec1::<f64>().unwrap();
        let kept = y.iter().filter(|&&v| v > 0.0).count() as f64 / n as f64;
        // Four standard errors, and the rounding of p to 2⁻¹⁶.
        let tolerance = 4.0 * (p * (1.0 - p) / n as f64).sqrt() + 1.0 / 65536.0;
        assert!((kept - (1.0 - p)).abs() < tolerance, "p {p}: kept {kept}");
        let mean = y.iter().sum::<f64>() / n as f64;
        assert!((mean - 1.0).abs() < tolerance / (1.0 - p), "p {p}: mean {mean}");
    }
}

#[test]
fn evaluation_has_no_dropout_and_neither_has_probability_zero() {
    let x = images(4, 2);
    let (with, without) = (mlp(&[32], 0.5, 41), mlp(&[32], 0.0, 41));
    let eval = bits(&with.forward(&x, Mode::Eval).unwrap());
    assert_eq!(eval, bits(&without.forward(&x, Mode::Eval).unwrap()));
    assert_eq!(eval, bits(&without.forward(&x, Mode::Train { step: 3 }).unwrap()));
    assert_ne!(eval, bits(&with.forward(&x, Mode::Train { step: 3 }).unwrap()));
}

#[test]
fn an_mlp_is_the_composition_candle_would_make() {
    let (model, x, labels) = (mlp(&[40, 30], 0.0, 41), images(9, 2), labels(9));
    let vars: Vec<Var> = model.parameters().into_iter().map(|(_, var)| var).collect();
    let mut h = x.clone();
    for (layer, wb) in vars.chunks(2).enumerate() {
        h = h.matmul(&wb[0].t().unwrap()).unwrap().broadcast_add(&wb[1]).unwrap();
        h = if layer < 2 { h.relu().unwrap() } else { h };
    }
    let logits = model.forward(&x, Mode::Train { step: 0 }).unwrap();
    let ours = cross_entropy(&logits, &labels).unwrap().backward().unwrap();
    let theirs = candle_nn::loss::cross_entropy(&h, &labels).unwrap().backward().unwrap();
    for (i, var) in vars.iter().enumerate() {
        for (a, b) in values(ours.get(var).unwrap()).into_iter().zip(values(theirs.get(var).unwrap())) {
            // Sums of up to 784 products in f32 in another order: 1e-6 relative to gradients of order 1.
            assert!((a - b).abs() < 1e-6 * (1.0 + b.abs()), "parameter {i}: {a}, expected {b}");
        }
    }
}

#[test]
fn same_bits_on_any_number_of_threads() {
    for (batch, hidden) in [(128, vec![256, 256]), (96, vec![256, 256]), (37, vec![301, 77]), (1, vec![64])] {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let model = mlp(&hidden, 0.1, 41);
                let logits = model.forward(&images(batch, 5), Mode::Train { step: 9 }).unwrap();
                let loss = cross_entropy(&logits, &labels(batch)).unwrap();
                let gradients = loss.backward().unwrap();
                let mut all = vec![bits(&logits), bits(&loss)];
                all.extend(model.parameters().iter().map(|(_, var)| bits(gradients.get(var).unwrap())));
                all
            })
        };
        let one = run(1);
        for threads in [2, 3, 4] {
            assert!(one == run(threads), "batch {batch}, {hidden:?}: {threads} threads differ from one");
        }
    }
}

#[test]
fn other_element_types_take_candles_operations() {
    // f16 has 11 bits; sums of 50 products of numbers below 1.
    const TOLERANCE: f64 = 0.02;
    let layer = |dtype| Linear::new(50, 20, &mut Initializer::new(5), dtype, &Device::Cpu).unwrap();
    let dropout = ReluDropout::new(0.3, 1, 0).unwrap();
    let labels = Tensor::from_vec((0..8u32).collect(), 8, &Device::Cpu).unwrap();
    let run = |dtype| {
        let (x, layer) = (Initializer::new(6).uniform((8, 50), 1.0, dtype, &Device::Cpu).unwrap(), layer(dtype));
        let h = dropout.forward(&layer.forward(&x).unwrap(), Mode::Train { step: 4 }).unwrap();
        let h = relu(&h).unwrap();
        let loss = cross_entropy(&h, &labels).unwrap();
        let gradient = loss.backward().unwrap().remove(layer.weight()).unwrap();
        let score = loss_and_correct(&h, &labels).unwrap();
        (values(&h.to_dtype(DType::F32).unwrap()), values(&gradient.to_dtype(DType::F32).unwrap()), score)
    };
    let (full, half) = (run(DType::F32), run(DType::F16));
    for (a, b) in full.0.iter().chain(&full.1).zip(half.0.iter().chain(&half.1)) {
        assert!(f64::from(a - b).abs() < TOLERANCE, "{a} {b}");
    }
    assert!((full.2.loss - half.2.loss).abs() < TOLERANCE, "{full:?} {half:?}");
    assert_eq!(full.2.correct, half.2.correct);
}

#[test]
fn relu_has_no_slope_at_zero_for_any_element_type() {
    let x = Var::from_tensor(&Tensor::new(&[-1f32, 0.0, 2.0], &Device::Cpu).unwrap().to_dtype(DType::F16).unwrap())
        .unwrap();
    let gradients = relu(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(&gradients.get(&x).unwrap().to_dtype(DType::F32).unwrap()), [0.0, 0.0, 1.0]);
}

#[test]
fn a_score_is_candles_loss_and_arg_max() {
    let logits = Initializer::new(3).uniform((64, 10), 3.0, DType::F32, &Device::Cpu).unwrap();
    let labels = labels(64);
    let score = loss_and_correct(&logits, &labels).unwrap();
    let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap().to_scalar::<f32>().unwrap();
    assert!((score.loss - f64::from(loss)).abs() < 1e-6, "{score:?}, expected {loss}"); // a few roundings in f32
    let right = logits.argmax(1).unwrap().eq(&labels).unwrap().to_vec1::<u8>().unwrap();
    assert_eq!(score.correct, right.into_iter().map(usize::from).sum::<usize>());
}

#[test]
fn a_diverged_model_scores_nan_and_none_right() {
    let logits = Tensor::new(&[[f32::NAN, 0.0], [1.0, f32::NAN]], &Device::Cpu).unwrap();
    let score = loss_and_correct(&logits, &Tensor::new(&[0u32, 0], &Device::Cpu).unwrap()).unwrap();
    assert!(score.loss.is_nan());
    assert_eq!(score.correct, 0);
}

#[test]
fn large_logits_do_not_overflow() {
    let logits = Tensor::new(&[[1000f32, 0.0], [-1000.0, 0.0]], &Device::Cpu).unwrap();
    let score = loss_and_correct(&logits, &Tensor::new(&[0u32, 0], &Device::Cpu).unwrap()).unwrap();
    assert_eq!((score.loss, score.correct), (500.0, 1));
}

#[test]
fn labels_may_be_bytes_words_or_long() {
    let logits = Tensor::new(&[[1f32, 0.0], [0.0, 3.0]], &Device::Cpu).unwrap();
    let labels = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let expected = loss_and_correct(&logits, &labels).unwrap();
    for dtype in [DType::U8, DType::I64] {
        assert_eq!(loss_and_correct(&logits, &labels.to_dtype(dtype).unwrap()).unwrap(), expected);
    }
}

fn message<T>(result: np_models::Result<T>) -> String {
    result.err().expect("an error").to_string()
}

#[test]
fn bad_configurations_name_the_field() {
    let build = |inputs, classes, hidden: &[usize], dropout| {
        message(Mlp::new(inputs, classes, &MlpConfig { hidden: hidden.to_vec(), dropout }, 1, &Device::Cpu))
    };
    assert_eq!(build(784, 10, &[256, 0], 0.1), "`hidden[1]` must be at least 1, got `0`");
    assert_eq!(build(784, 10, &[256], 1.0), "`dropout` must be at least 0 and below 1, got `1`");
    assert_eq!(build(784, 10, &[256], -0.1), "`dropout` must be at least 0 and below 1, got `-0.1`");
    assert_eq!(build(784, 10, &[256], f64::NAN), "`dropout` must be at least 0 and below 1, got `NaN`");
    assert_eq!(build(0, 10, &[256], 0.1), "`inputs` must be at least 1, got `0`");
    assert_eq!(build(784, 0, &[256], 0.1), "`classes` must be at least 1, got `0`");
    for width in [1 << 40, usize::MAX] {
        let expected = format!("`hidden` must be widths that make at most 1073741824 parameters, got `[{width}]`");
        assert_eq!(build(784, 10, &[width], 0.1), expected);
    }
    assert!(message(ReluDropout::new(2.0, 0, 0)).starts_with("`dropout`"));
    let layer = |outputs| message(Linear::new(3, outputs, &mut Initializer::new(1), DType::F32, &Device::Cpu));
    assert_eq!(layer(0), "`outputs` must be at least 1, got `0`");
    assert_eq!(layer(1 << 40), "`outputs` must be at most 357913941, got `1099511627776`");
}

#[test]
fn a_configuration_knows_its_defaults_and_no_other_field() {
    let parse = serde_json::from_str::<MlpConfig>;
    assert_eq!(parse("{}").unwrap(), MlpConfig::default());
    assert_eq!(parse(r#"{"hidden": [64]}"#).unwrap(), MlpConfig { hidden: vec![64], dropout: 0.1 });
    assert!(parse(r#"{"width": 64}"#).unwrap_err().to_string().contains("unknown field `width`"));
}

#[test]
fn bad_inputs_name_what_came() {
    let (model, device) = (mlp(&[16], 0.1, 1), Device::Cpu);
    let tensor = |dims: &[usize], dtype| Tensor::zeros(dims, dtype, &device).unwrap();
    let forward = |dims: &[usize], dtype| message(model.forward(&tensor(dims, dtype), Mode::Eval));
    assert_eq!(forward(&[4, 783], DType::F32), "the model's input must be [batch, 784], got [4, 783]");
    assert_eq!(forward(&[784], DType::F32), "the model's input must be [batch, 784], got [784]");
    let expected = "a linear layer's input must be [batch, 784] of F32, got [4, 784] of F64";
    assert_eq!(forward(&[4, 784], DType::F64), expected);

    let loss = |z: &[usize], y: &[usize], dtype| message(cross_entropy(&tensor(z, DType::F32), &tensor(y, dtype)));
    assert_eq!(loss(&[4, 10], &[3], DType::U32), "labels must be [4] of U8, U32 or I64, got [3] of U32");
    assert_eq!(loss(&[4, 10], &[4], DType::F32), "labels must be [4] of U8, U32 or I64, got [4] of F32");
    assert!(loss(&[0, 10], &[0], DType::U32).starts_with("logits must be [n, classes]"));
    assert!(loss(&[40], &[40], DType::U32).starts_with("logits must be [n, classes]"));
}

#[test]
fn a_label_out_of_range_is_an_error() {
    let logits = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    let labels = Tensor::new(&[1u32, 3], &Device::Cpu).unwrap();
    for label in [-100i64, 3, (1 << 32) + 1] {
        let labels = Tensor::new(&[1, label], &Device::Cpu).unwrap();
        let expected = format!("labels must be from 0 to 2; none is passed over, got `{label}` in row 1");
        assert_eq!(message(cross_entropy(&logits, &labels)), expected);
    }
    for result in [cross_entropy(&logits, &labels).map(|_| ()), loss_and_correct(&logits, &labels).map(|_| ())] {
        match result {
            // candle's text may end in a backtrace.
            Err(Error::Candle(e)) => {
                let text = e.to_string();
                assert!(text.contains("label 3 of example 1 is not below the number of classes, 3"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}
