//! Programs for CUDA devices, without a device: where buffers lie, whether kernels compile, and what a program computes when the host runs its kernels, compiled as
//! C++, between plain loops for convolutions and matrix products, against the CPU's own passes.
#![allow(clippy::unwrap_used)]

#[path = "../../np-cuda/tests/host/mod.rs"]
mod host;
#[path = "cuda_program/host_engine.rs"]
mod host_engine;
#[path = "cuda_program/norms.rs"]
mod norms;
#[path = "../../np-cuda/tests/nvrtc/mod.rs"]
mod nvrtc;

use std::collections::HashSet;

use candle_core::{DType, Device, Tensor, Var};
use host::compiler;
use host_engine::HostRun;
use np_models::cuda::program::{Op, Place};
use np_models::cuda::{Architecture, BatchShape, ImageLayout, Pass, Precision, Program, memory_plan};
use np_models::{Initializer, Mlp, MlpConfig, Mode, Model, ResNet18, ResNet18Config, cross_entropy, loss_and_correct};
use nvrtc::Nvrtc;

const PRECISIONS: [Precision; 3] = [Precision::Fp32, Precision::Tf32, Precision::Bf16];

fn mlp() -> (Architecture, BatchShape) {
    let config = MlpConfig::default();
    let shape = BatchShape {
        images: 128,
        evaluation: 1000,
        channels: 1,
        height: 28,
        width: 28,
        layout: ImageLayout::ChannelsFirst,
    };
    (Architecture::Mlp { config, classes: 10, seed: 41 }, shape)
}

fn resnet(width: usize, images: usize) -> (Architecture, BatchShape) {
    let shape =
        BatchShape { images, evaluation: 250, channels: 3, height: 32, width: 32, layout: ImageLayout::ChannelsLast };
    (Architecture::ResNet18 { config: ResNet18Config { width }, classes: 10 }, shape)
}

fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    // Width 3 has no vectors of channels.
    for (architecture, shape) in [mlp(), resnet(3, 2), resnet(16, 128), resnet(64, 32)] {
        for precision in PRECISIONS {
            for (pass, images) in [(Pass::Train, shape.images), (Pass::Evaluate, shape.evaluation)] {
                programs.push(Program::new(&architecture, &shape, images, precision, pass).unwrap());
            }
        }
    }
    programs
}

#[test]
fn buffers_that_live_at_the_same_time_do_not_overlap() {
    for program in programs() {
        let all = 0..program.buffers.len();
        for i in all.clone() {
            assert!(program.offsets[i].is_multiple_of(256) && program.offsets[i] + program.buffers[i] <= program.bytes);
            for j in all.clone().skip(i + 1).filter(|&j| program.lifetimes[i].meets(program.lifetimes[j])) {
                let [i, j] = [i, j].map(|k| (program.offsets[k], program.offsets[k] + program.buffers[k]));
                assert!(i.1 <= j.0 || j.1 <= i.0, "{i:?} and {j:?}");
            }
        }
        // What lies beside each other at one time is a lower bound.
        let most = (0..=program.ops.len()).map(|time| {
            let alive =
                all.clone().filter(|&i| program.lifetimes[i].first <= time && time <= program.lifetimes[i].last);
            alive.map(|i| program.buffers[i]).sum::<usize>()
        });
        let most = most.max().unwrap();
        assert!(
            most <= program.bytes && program.bytes <= most + most / 8 + 256 * all.len(),
            "{most} of {}",
            program.bytes
        );
    }
}

#[test]
fn every_parameter_has_one_gradient_written() {
    for (architecture, shape) in [mlp(), resnet(16, 8)] {
        let parameters = match &architecture {
            Architecture::Mlp { .. } => 6,
            Architecture::ResNet18 { .. } => 62,
        };
        for precision in PRECISIONS {
            let program = Program::new(&architecture, &shape, shape.images, precision, Pass::Train).unwrap();
            let mut written = vec![0; parameters];
            for place in program.ops.iter().flat_map(Op::places) {
                if let Place::Gradient(number) = place {
                    written[number] += 1;
                }
            }
            assert_eq!(written, vec![1; parameters]);
        }
    }
}

#[test]
fn a_plan_is_the_sum_of_its_parts() {
    let (architecture, shape) = resnet(64, 128);
    let plan = memory_plan(&architecture, &shape, Precision::Tf32).unwrap();
    // 9,600 running statistics: means and variances of 4,800 channels.
    assert_eq!((plan.parameters, plan.gradients), (4 * (11_173_962 + 9_600), 4 * 11_173_962));
    assert_eq!(plan.total(), plan.parameters + plan.gradients + plan.activations + plan.workspace);
    // Of each convolution its output before and after the norm, kept for the way back: 2 · 4 bytes of 5 · (64·1024 + 128·256 + 256·64 + 512·16) numbers an image.
    let kept = 2 * 4 * 5 * (64 * 1024 + 128 * 256 + 256 * 64 + 512 * 16) * 128;
    assert!(plan.activations > kept && plan.activations < 2 * kept, "{plan}, {kept}");
    let smaller = BatchShape { images: 64, evaluation: 0, ..shape };
    assert!(memory_plan(&architecture, &smaller, Precision::Tf32).unwrap().total() < plan.total());
    assert!(
        plan.to_string().starts_with(&format!("{} MiB: parameters 43, gradients 43, ", plan.total().div_ceil(1 << 20)))
    );
    let nothing = BatchShape { images: 0, ..shape };
    assert!(memory_plan(&architecture, &nothing, Precision::Tf32).is_err());
}

#[test]
fn precisions_are_spelled_as_they_are_named() {
    for precision in PRECISIONS {
        assert_eq!(serde_json::to_value(precision).unwrap(), precision.name());
    }
    assert_eq!(Precision::default().name(), "tf32");
}

#[test]
fn a_batch_out_of_range_is_an_error() {
    let (architecture, shape) = resnet(16, 4);
    // One pixel and one image: no variance in training.
    let tiny = BatchShape { height: 1, width: 1, ..shape };
    let error = Program::new(&architecture, &tiny, 1, Precision::Fp32, Pass::Train).unwrap_err().to_string();
    assert!(error.starts_with("`images` must be so many that a channel has two values"), "{error}");
    assert!(Program::new(&architecture, &tiny, 1, Precision::Fp32, Pass::Evaluate).is_ok());
    let error = Program::new(&architecture, &shape, 1 << 24, Precision::Fp32, Pass::Train).unwrap_err().to_string();
    assert!(error.starts_with("`images` must be few enough"), "{error}");
}

#[test]
fn kernels_compile() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    let mut seen = HashSet::new();
    for program in programs() {
        let launches = program.ops.iter().filter_map(|op| match op {
            Op::Launch(launch) => Some(launch),
            _ => None,
        });
        for launch in [&program.input].into_iter().chain(launches) {
            let kernel = &program.kernels[launch.kernel];
            if !seen.insert(kernel.text.clone()) {
                continue;
            }
            let ptx = nvrtc.ptx(&kernel.text).unwrap_or_else(|log| panic!("{log}\n{}", kernel.text));
            let (_, entry) = ptx.split_once(&format!(".entry {}(", kernel.name)).unwrap();
            let parameters = entry.split_once(')').unwrap().0.matches(".param").count();
            assert_eq!(parameters, launch.words.len(), "{}", kernel.name);
        }
    }
    // Three have one text, nine one for each type, three one for each type and length of vectors; the sums of the way back have nine forms and lengths for each type.
    assert_eq!(seen.len(), 51, "texts of kernels");
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// ‖a − b‖ / ‖b‖.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
    norm(&mut a.iter().zip(b).map(|(a, b)| a - b)) / norm(&mut b.iter().copied()).max(1e-30)
}

fn batch(shape: (usize, usize, usize, usize), seed: u64) -> (Tensor, Vec<u32>) {
    let images = Initializer::new(seed).normal(shape, 1.0, DType::F32, &Device::Cpu).unwrap();
    (images, (0..shape.0).map(|i| ((i * 7 + seed as usize) % 10) as u32).collect())
}

/// Holds two steps and an evaluation of a program that the host runs to those of `model`: gradients to `limit`, those of the last layer, statistics and losses to `near`.
#[allow(clippy::too_many_arguments)]
fn hold(
    architecture: &Architecture,
    model: &dyn Model,
    dtype: DType,
    shape: BatchShape,
    precision: Precision,
    [limit, near]: [f64; 2],
) {
    let mut run = HostRun::new(architecture, model, shape, precision);
    let size = (shape.images, shape.channels, shape.height, shape.width);
    let (mut loss, mut correct) = (0.0, 0);
    for step in [7, 8] {
        let (images, labels) = batch(size, step);
        run.step(&images, &labels, step);
        let labels = Tensor::new(labels, &Device::Cpu).unwrap();
        let logits = model.forward(&images.to_dtype(dtype).unwrap(), Mode::Train { step }).unwrap();
        let score = loss_and_correct(&logits, &labels).unwrap();
        loss += score.loss * shape.images as f64;
        correct += score.correct as u64;
        let expected = cross_entropy(&logits, &labels).unwrap().backward().unwrap();
        let (mut all, mut all_expected) = (Vec::new(), Vec::new());
        for ((name, var), ours) in model.parameters().iter().zip(&run.gradients) {
            let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
            let expected = values(expected.get(var).unwrap());
            let far = distance(&ours, &expected);
            all.extend(ours);
            all_expected.extend(expected);
            let last = name.starts_with("fc.") || name.starts_with("head.");
            // In half precision a tensor of a few small numbers may be anything.
            assert!(
                far <= near || !last && (far <= limit || precision == Precision::Bf16),
                "{name} in step {step}: {far}"
            );
        }
        assert!(distance(&all, &all_expected) <= limit, "step {step}");
        for ((name, var), ours) in model.buffers().iter().zip(&run.statistics) {
            let ours: Vec<f64> = ours.iter().map(|x| f64::from(*x)).collect();
            let far = distance(&ours, &values(var));
            assert!(far <= near, "{name} in step {step}: {far}");
        }
    }
    let totals = run.totals(Pass::Train);
    assert!((totals.loss_sum - loss).abs() <= near * loss, "{totals:?}, {loss}");
    assert_eq!((totals.examples, totals.first_non_finite_step), (2 * shape.images as u64, None));
    if precision != Precision::Bf16 {
        assert_eq!(totals.correct, correct);
    }

    let (images, labels) = batch((shape.evaluation, size.1, size.2, size.3), 3);
    run.evaluate(&images, &labels);
    let logits = model.forward(&images.to_dtype(dtype).unwrap(), Mode::Eval).unwrap();
    let score = loss_and_correct(&logits, &Tensor::new(labels, &Device::Cpu).unwrap()).unwrap();
    let totals = run.totals(Pass::Evaluate);
    let loss = score.loss * shape.evaluation as f64;
    assert!((totals.loss_sum - loss).abs() <= near * loss, "{totals:?}, {loss}");
    assert_eq!(totals.examples, shape.evaluation as u64);

    // A step that diverges is dated.
    let (images, labels) = batch(size, 1);
    run.step(&(images * f64::NAN).unwrap(), &labels, 30);
    let (images, labels) = batch(size, 2);
    run.step(&images, &labels, 31);
    assert_eq!(run.totals(Pass::Train).first_non_finite_step, Some(30));
}

fn small_mlp() -> (Architecture, Mlp, BatchShape) {
    let config = MlpConfig { hidden: vec![96, 40], dropout: 0.25 };
    let model = Mlp::new(2 * 5 * 7, 10, &config, 41, &Device::Cpu).unwrap();
    let shape =
        BatchShape { images: 131, evaluation: 9, channels: 2, height: 5, width: 7, layout: ImageLayout::ChannelsLast };
    (Architecture::Mlp { config, classes: 10, seed: 41 }, model, shape)
}

/// A model of `f64` whose affine parameters are not the ones and zeros that it begins with.
fn small_resnet(layout: ImageLayout) -> (Architecture, ResNet18, BatchShape) {
    let config = ResNet18Config { width: 4 };
    let model = ResNet18::of_type(3, 10, &config, 41, DType::F64, &Device::Cpu).unwrap();
    let mut init = Initializer::new(5);
    for (name, var) in model.parameters() {
        if var.dims().len() == 1 && name != "fc.bias" {
            let change = init.uniform(var.dims(), 0.3, DType::F64, &Device::Cpu).unwrap();
            Var::set(&var, &(var.as_tensor() + change).unwrap()).unwrap();
        }
    }
    let shape = BatchShape { images: 5, evaluation: 4, channels: 3, height: 12, width: 10, layout };
    (Architecture::ResNet18 { config, classes: 10 }, model, shape)
}

#[test]
fn an_mlp_is_the_cpus() {
    if !compiler() {
        return;
    }
    let (architecture, model, shape) = small_mlp();
    // Both in single precision, with sums of at most 131 in other orders.
    hold(&architecture, &model, DType::F32, shape, Precision::Fp32, [2e-6; 2]);
}

#[test]
fn a_resnet_is_the_cpus_in_double_precision() {
    if !compiler() {
        return;
    }
    let (architecture, model, shape) = small_resnet(ImageLayout::ChannelsFirst);
    // Single precision through 20 norms, the last of them over 20 values.
    hold(&architecture, &model, DType::F64, shape, Precision::Fp32, [2e-5; 2]);
}

#[test]
fn activations_of_half_precision_are_near() {
    if !compiler() {
        return;
    }
    let (architecture, model, shape) = small_mlp();
    // Numbers of eight bits of mantissa: 0.2 % a rounding. So one in some hundreds of ReLUs falls on the other side, and takes its whole part of a gradient along:
    // the root of that share, some per cent, is how far gradients are.
    hold(&architecture, &model, DType::F32, shape, Precision::Bf16, [0.1, 0.02]);
    let (architecture, model, shape) = small_resnet(ImageLayout::ChannelsLast);
    // Through 17 layers of ReLUs, and norms over few values: in double precision, too, gradients are 0.2 to 0.4 off where weights and images alone are rounded so.
    hold(&architecture, &model, DType::F64, shape, Precision::Bf16, [0.5, 0.1]);
}
