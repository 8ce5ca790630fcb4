//! Steps by launches on the host, kernels compiled as C++, against the CPU's passes: the same bits.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use np_cuda::machine::Machine;
use np_cuda::replay::{Launching, Replaying, Replays};
use np_cuda::table::{CHUNK, Row};

use super::launched::{Held, member};
use super::step::prepare;
use super::{Diagnostics, Memory, NeuroPlasticConfig};
use crate::engine::elementwise::host::{Host, compiler};
use crate::engine::elementwise::nvrtc::Nvrtc;
use crate::engine::elementwise::plan_tests::place;
use crate::engine::gradient_map::GradientMap;
use crate::engine::param_state::State;
use crate::engine::param_step::ParamStep;
use crate::{Backend, Driver, OptimizerConfig, Options, Rule, StepContext};

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
    let options: Options = serde_json::from_str(
        r#"{"groups": [{"match": "p1", "weight_decay": 0.3, "lr_scale": 0.5}, 
             {"match": "p3", "neuroplastic": {"plasticity": "off"}}]}"#,
    )
    .unwrap();
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

/// A step of ours on the machine, or its directions alone.
fn launch(
    config: &NeuroPlasticConfig,
    (cx, apply): (&StepContext, bool),
    w: &mut [ParamStep<'_>],
    memory: &mut Memory,
    (machine, held): (&mut impl Machine, &mut Held),
) {
    let (plan, watch, places) = prepare(config, cx, w, memory).unwrap();
    held.step(machine, (&plan, watch, &places), &members(config, w), apply).unwrap();
}

/// What the diagnostics have seen on the host's machine.
fn report(host: &mut Host, held: &Held) -> BTreeMap<String, f64> {
    let mut all = Diagnostics::default();
    held.seen(host).unwrap().iter().for_each(|seen| all.add(seen));
    all.report()
}

/// No step waits for the machine. Many threads that wait for one another take their time on a host: few steps.
fn check(json: &str, dtype: DType, steps: usize) {
    let config = config(json);
    let (mut ours, mut loops) = (driver(&config, dtype), driver(&config, dtype));
    let (mut memory, mut expected) = (Memory::default(), Memory::default());
    let (mut host, mut held) = (Host::default(), Held::default());
    for step in 0..steps {
        with_work(&mut ours, step, |rule, w| launch(rule, (&CX, true), w, &mut memory, (&mut host, &mut held)));
        with_work(&mut loops, step, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
        for (ours, loops) in bits(&ours).iter().zip(&bits(&loops)) {
            assert_eq!(ours, loops, "{json} in {dtype:?}, step {step}");
        }
    }
    assert_eq!(host.waits, 0, "{json}");
    let (ours, loops) = (report(&mut host, &held), expected.diagnostics.report());
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(ours, loops, "{json} in {dtype:?}");
}

#[test]
fn launches_have_the_bits_of_the_passes() {
    if !compiler() {
        return;
    }
    check(r#"{"weight_decay": 0.1}"#, DType::F32, 2);
    check("{}", DType::BF16, 1);
    check(r#"{"coefficient": {"granularity": "tensor"}}"#, DType::F64, 1);
    check(r#"{"formulation": "bounded_residual"}"#, DType::F32, 1);
    check(r#"{"formulation": {"orthogonal_residual": {"norm": "match_gradient"}}}"#, DType::F32, 1);
    check(r#"{"formulation": {"hybrid": {"base": "adamw", "target": "momentum"}}}"#, DType::F32, 2);
    check(
        r#"{"weight_decay": 0.1, "formulation": {"hybrid": {"base": "sgd_momentum", "target": "trust_ratio"}}}"#,
        DType::F32,
        1,
    );
    check(r#"{"formulation": {"hybrid": {"base": "lion", "scope": "classifier_only"}}}"#, DType::F32, 1);
    // Without its logarithms, which have other bits, the controller has signals of 0.
    check(r#"{"coefficient": {"rule": "gradient_only"}, "controller": {"mode": "layerwise"}}"#, DType::F32, 1);
}

/// The controller's logarithms are taken of other products than the CPU's: all but their last bits agree, and so do steps.
#[test]
fn a_controlled_step_is_as_close_as_its_logarithms() {
    if !compiler() {
        return;
    }
    for mode in ["global", "layerwise", "classifier_only"] {
        let config = config(&format!(r#"{{"controller": {{"mode": "{mode}"}}}}"#));
        let (mut ours, mut loops) = (driver(&config, DType::F32), driver(&config, DType::F32));
        let (mut memory, mut expected) = (Memory::default(), Memory::default());
        let (mut host, mut held) = (Host::default(), Held::default());
        let machine = (&mut host, &mut held);
        with_work(&mut ours, 0, |rule, w| launch(rule, (&CX, true), w, &mut memory, machine));
        with_work(&mut loops, 0, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
        let (ours, loops) = (report(&mut host, &held), expected.diagnostics.report());
        assert_eq!(ours.keys().collect::<Vec<_>>(), loops.keys().collect::<Vec<_>>());
        for (name, x) in &loops {
            assert!((ours[name] - x).abs() <= 1e-12 * x.abs().max(1.0), "{name}: {} and {x}", ours[name]);
        }
    }
}

/// What a hybrid's directions are to be multiplied with can be asked for; the totals begin anew with an epoch; nothing is copied where nothing has changed.
#[test]
fn what_is_on_the_machine_can_be_asked_for() {
    if !compiler() {
        return;
    }
    let config = config("{}");
    let (mut ours, mut loops) = (driver(&config, DType::F32), driver(&config, DType::F32));
    let (mut memory, mut host, mut held) = (Memory::default(), Host::default(), Held::default());
    let (cx, mut uploads) = (StepContext { diagnostics: false, ..CX }, vec![]);
    for _ in 0..2 {
        with_work(&mut ours, 0, |rule, w| {
            // Two steps with the same gradients, at the same place.
            for _ in 0..2 {
                launch(rule, (&cx, false), w, &mut memory, (&mut host, &mut held));
                uploads.push(host.uploads);
            }
        });
        let applies = Held::applies(&mut host, SIZES.len()).unwrap();
        let mut expected = Memory::default();
        let by_loops = with_work(&mut loops, 0, |rule, w| {
            Rule::directions(rule, &cx, w, &mut expected).unwrap();
            Rule::directions(rule, &cx, w, &mut expected).unwrap()
        });
        assert_eq!(applies, by_loops);
        assert_eq!(report(&mut host, &held), expected.diagnostics.report());
        held.begun = false;
    }
    assert_eq!([uploads[1], uploads[3]], [uploads[0], uploads[2]]);
}

/// The first step of an epoch, whose totals begin anew, is a list of launches of its own; all others are another.
#[test]
fn steps_of_an_epoch_are_replayed() {
    if !compiler() {
        return;
    }
    let config = config(r#"{"weight_decay": 0.1}"#);
    let (mut ours, mut loops) = (driver(&config, DType::F32), driver(&config, DType::F32));
    let (mut memory, mut expected) = (Memory::default(), Memory::default());
    let (mut host, mut held, mut replays) = (Host::default(), Held::default(), Replays::default());
    let mut replayed = vec![];
    for step in 0..5 {
        let mut machine = Replaying::new(&mut host, &mut replays, Launching::Graph);
        with_work(&mut ours, step, |rule, w| launch(rule, (&CX, true), w, &mut memory, (&mut machine, &mut held)));
        machine.finish().unwrap();
        with_work(&mut loops, step, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
        assert_eq!(bits(&ours), bits(&loops), "step {step}");
        replayed.push(host.replays);
    }
    assert_eq!(replayed, [0, 0, 1, 2, 3]);
    assert_eq!(report(&mut host, &held), expected.diagnostics.report());
}

/// A machine that compiles what it is asked to run, and runs nothing: all sums are 1.
struct Compiler {
    nvrtc: Nvrtc,
    /// Texts, and how many parameters each has.
    seen: BTreeMap<String, usize>,
}

impl Machine for Compiler {
    fn upload(&mut self, _: usize, _: &[u8]) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn reserve(&mut self, _: usize, _: usize) -> np_cuda::Result<u64> {
        Ok(0)
    }

    fn launch(&mut self, text: &str, name: &str, _: usize, _: u32, words: &[u64]) -> np_cuda::Result<()> {
        let nvrtc = &self.nvrtc;
        let parameters = self.seen.entry(text.to_string()).or_insert_with(|| nvrtc.check(text, name));
        assert_eq!(*parameters, words.len(), "{name}");
        Ok(())
    }

    fn numbers(&mut self, _: usize, count: usize) -> np_cuda::Result<Vec<f64>> {
        Ok(vec![1.0; count])
    }
}

#[test]
fn every_pass_compiles() {
    let Some(nvrtc) = Nvrtc::find() else { return };
    let mut compiler = Compiler { nvrtc, seen: BTreeMap::new() };
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
                        launch(rule, (&cx, true), w, &mut memory, (&mut compiler, &mut held));
                    });
                }
            }
        }
    }
    println!("{} kernels compiled", compiler.seen.len());
    assert!(compiler.seen.len() > 40, "only {}", compiler.seen.len());
}
