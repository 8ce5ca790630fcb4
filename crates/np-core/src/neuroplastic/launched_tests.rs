//! Steps by launches on the host, kernels compiled as C++, against the CPU's passes: the same bits.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;

use candle_core::{DType, Device, Tensor, Var};
use np_cuda::machine::Machine;
use np_cuda::table::{CHUNK, Row};

use super::launched::{apply, member};
use super::step::launched;
use super::{Memory, NeuroPlasticConfig};
use crate::engine::elementwise::host::{Host, compiler};
use crate::engine::elementwise::nvrtc::Nvrtc;
use crate::engine::elementwise::plan_tests::place;
use crate::engine::gradient_map::GradientMap;
use crate::engine::param_state::State;
use crate::engine::param_step::ParamStep;
use crate::engine::summed::Held;
use crate::{Apply, Backend, Driver, OptimizerConfig, Options, Rule, StepContext};

/// A chunk and some, part of a block, an empty one, part of a lane.
const SIZES: [usize; 4] = [CHUNK + 2 * 1024 + 37, 1000, 0, 5];

const CX: StepContext =
    StepContext { epoch: 1, epochs: Some(2), tensors: 4, diagnostics: true, backend: Backend::Auto };

fn config(json: &str) -> NeuroPlasticConfig {
    match serde_json::from_str(&format!(r#"{{"neuroplastic": {json}}}"#)).unwrap() {
        OptimizerConfig::NeuroPlastic(config) => config,
        other => panic!("{other:?}"),
    }
}

fn tensor(n: usize, seed: usize, scale: f64, dtype: DType) -> Tensor {
    let numbers: Vec<f64> =
        (0..n).map(|i| (((i * 7919 + seed * 104_729) % 2003) as f64 / 1000.0 - 1.0) * scale).collect();
    Tensor::from_vec(numbers, n, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn driver(config: &NeuroPlasticConfig, dtype: DType) -> Driver<NeuroPlasticConfig> {
    let var = |(i, n): (usize, &usize)| (format!("p{i}"), Var::from_tensor(&tensor(*n, i, 1.0, dtype)).unwrap());
    let options: Options =
        serde_json::from_str(r#"{"groups": [{"match": "p1", "weight_decay": 0.3, "lr_scale": 0.5}]}"#).unwrap();
    let named = SIZES.iter().enumerate().map(var).collect();
    Driver::from_named(named, config.clone()).unwrap().with_options(options).unwrap()
}

fn with_work<T>(
    driver: &mut Driver<NeuroPlasticConfig>,
    step: usize,
    f: impl FnOnce(&NeuroPlasticConfig, &mut [ParamStep<'_>]) -> T,
) -> T {
    let rule = driver.rule.clone();
    let map = GradientMap { limit: 0.9, ..GradientMap::IDENTITY };
    let mut work: Vec<ParamStep<'_>> = driver
        .params
        .iter_mut()
        .enumerate()
        .map(|(i, param)| {
            param.steps += 1;
            let grad = tensor(param.var.elem_count(), 10 * step + i, 0.5 + i as f64, param.var.dtype());
            ParamStep { lr: 0.01 * param.settings.lr_scale, param, grad, map }
        })
        .collect();
    f(&rule, &mut work)
}

fn bits(driver: &Driver<NeuroPlasticConfig>) -> Vec<(String, Vec<u64>)> {
    let of = |t: &Tensor| {
        let wide = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        wide.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
    };
    let mut all: Vec<_> = driver.params.iter().map(|p| (p.name.clone(), of(p.var.as_tensor()))).collect();
    all.extend(driver.state().unwrap().tensors.iter().map(|(name, t)| (name.clone(), of(t))));
    all
}

fn members(config: &NeuroPlasticConfig, work: &[ParamStep<'_>]) -> Vec<super::launched::Member> {
    let one = |w: &ParamStep<'_>| {
        let state: Vec<u64> = match &w.param.state {
            State::F32(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
            State::F64(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
            State::Tensors(_) => vec![],
        };
        let row = Row { theta: place(w.param.var.as_tensor()), gradient: place(&w.grad), ..Row::default() };
        member(config, w, row, &state)
    };
    work.iter().map(one).collect()
}

/// Each step waits for the machine `waits` times. Many threads that wait for one another take their time on a host: few steps.
fn check(json: &str, dtype: DType, steps: usize, waits: usize) {
    let config = config(json);
    let (mut ours, mut loops) = (driver(&config, dtype), driver(&config, dtype));
    let (mut memory, mut expected) = (Memory::default(), Memory::default());
    let (mut host, mut held) = (Host::default(), Held::default());
    for step in 0..steps {
        with_work(&mut ours, step, |rule, w| {
            let find = |w: &[ParamStep<'_>]| Ok(members(rule, w));
            let applies: Vec<Apply> = launched(rule, &CX, w, &mut memory, (&mut host, &mut held), find).unwrap();
            let squares = apply(&mut host, &mut held, &members(rule, w), &applies, true).unwrap();
            let inside = json.contains("sgd_momentum") || json.contains("lion");
            for ((w, how), theta2) in w.iter().zip(&applies).zip(squares) {
                let wd = if inside { 0.0 } else { w.weight_decay(rule.weight_decay) };
                memory.diagnostics.add_parameter(how.keep * how.keep * theta2, wd * wd * theta2);
            }
        });
        with_work(&mut loops, step, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
        for (ours, loops) in bits(&ours).iter().zip(&bits(&loops)) {
            assert_eq!(ours, loops, "{json} in {dtype:?}, step {step}");
        }
    }
    let (ours, loops) = (memory.diagnostics.report(), expected.diagnostics.report());
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(ours, loops, "{json} in {dtype:?}");
    assert_eq!(host.waits, steps * waits, "{json}");
}

#[test]
fn launches_have_the_bits_of_the_passes() {
    if !compiler() {
        return;
    }
    check(r#"{"weight_decay": 0.1}"#, DType::F32, 2, 3);
    check("{}", DType::BF16, 1, 3);
    check("{}", DType::F64, 1, 3);
    check(r#"{"formulation": "bounded_residual"}"#, DType::F32, 1, 4);
    check(r#"{"formulation": "orthogonal_residual"}"#, DType::F32, 1, 5);
    check(r#"{"formulation": {"hybrid": {"base": "adamw", "target": "momentum"}}}"#, DType::F32, 2, 4);
    check(
        r#"{"weight_decay": 0.1, "formulation": {"hybrid": {"base": "sgd_momentum", "target": "trust_ratio"}}}"#,
        DType::F32,
        1,
        4,
    );
    check(r#"{"formulation": {"hybrid": {"base": "lion"}}}"#, DType::F32, 1, 4);
}

/// The controller's logarithms are taken of other products than the CPU's: all but their last bits agree, and so do steps.
#[test]
fn a_controlled_step_is_as_close_as_its_logarithms() {
    if !compiler() {
        return;
    }
    let config = config(r#"{"controller": {"mode": "layerwise"}}"#);
    let (mut ours, mut loops) = (driver(&config, DType::F32), driver(&config, DType::F32));
    let (mut memory, mut expected) = (Memory::default(), Memory::default());
    let (mut host, mut held) = (Host::default(), Held::default());
    with_work(&mut ours, 0, |rule, w| {
        let find = |w: &[ParamStep<'_>]| Ok(members(rule, w));
        let applies = launched(rule, &CX, w, &mut memory, (&mut host, &mut held), find).unwrap();
        apply(&mut host, &mut held, &members(rule, w), &applies, false).unwrap();
    });
    with_work(&mut loops, 0, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
    let (ours, loops) = (memory.diagnostics.report(), expected.diagnostics.report());
    for (name, x) in &loops {
        if name.starts_with("controller") {
            assert!((ours[name] - x).abs() <= 1e-12 * x.abs().max(1.0), "{name}: {} and {x}", ours[name]);
        }
    }
}

/// A machine that compiles what it is asked to run, and runs nothing: all sums are 1.
struct Compiler {
    nvrtc: Nvrtc,
    seen: BTreeSet<String>,
}

impl Machine for Compiler {
    fn upload(&mut self, _: usize, _: &[u8]) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn reserve(&mut self, _: usize, _: usize) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn launch(&mut self, text: &str, name: &str, _: usize, _: u32, _: &[u64]) -> np_cuda::Result<()> {
        if self.seen.insert(text.to_string()) {
            self.nvrtc.check(text, name);
        }
        Ok(())
    }

    fn numbers(&mut self, _: usize, count: usize) -> np_cuda::Result<Vec<f64>> {
        Ok(vec![1.0; count])
    }
}

#[test]
fn every_pass_compiles() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    let mut compiler = Compiler { nvrtc, seen: BTreeSet::new() };
    let formulations = [
        r#""formulation": "direct""#,
        r#""formulation": "bounded_residual""#,
        r#""formulation": "orthogonal_residual""#,
        r#""formulation": {"hybrid": {"base": "adamw", "target": "momentum"}}"#,
        r#""formulation": {"hybrid": {"base": "sgd_momentum", "target": "trust_ratio"}}"#,
        r#""formulation": {"hybrid": {"base": "lion"}}"#,
    ];
    for formulation in formulations {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            for rest in ["", r#", "controller": {"mode": "layerwise"}"#] {
                for diagnostics in [true, false] {
                    let config = config(&format!("{{{formulation}{rest}}}"));
                    let cx = StepContext { diagnostics, ..CX };
                    let (mut memory, mut held) = (Memory::default(), Held::default());
                    with_work(&mut driver(&config, dtype), 0, |rule, w| {
                        let find = |w: &[ParamStep<'_>]| Ok(members(rule, w));
                        let machine = (&mut compiler, &mut held);
                        let applies = launched(rule, &cx, w, &mut memory, machine, find).unwrap();
                        apply(&mut compiler, &mut held, &members(rule, w), &applies, diagnostics).unwrap();
                    });
                }
            }
        }
    }
    println!("{} kernels compiled", compiler.seen.len());
    assert!(compiler.seen.len() > 40, "only {}", compiler.seen.len());
}
