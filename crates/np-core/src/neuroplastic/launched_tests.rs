//! Steps by launches on the host, kernels compiled as C++, against the CPU's passes: the same bits.

use std::collections::BTreeMap;

use candle_core::{DType, Var};
use np_cuda::machine::Machine;
use np_cuda::table::CHUNK;
use np_engine::apply::Apply;
use np_engine::chain::launched::Held;
use np_engine::gradient_map::GradientMap;
use np_engine::param_step::ParamStep;
use np_trace::Outcome;

use super::diagnostics::{Seen, TOTALS};
use super::step::Step;
use super::{Diagnostics, Memory, NeuroPlasticConfig};
use crate::launched_tests::host::{Host, compiler};
use crate::launched_tests::with_work as with_work_of;
use crate::launched_tests::{Compiler, bits, clipped, places, tensor};
use crate::{Backend, Driver, OptimizerConfig, Options, Rule, StepContext};

/// A chunk and some, part of a block, an empty one, part of a lane.
const SIZES: [usize; 4] = [CHUNK + 2 * 1024 + 37, 1000, 0, 5];

const CX: StepContext =
    StepContext { epoch: 1, epochs: Some(2), tensors: 4, diagnostics: true, backend: Backend::Auto };

const MAP: GradientMap = GradientMap { limit: 0.9, ..GradientMap::IDENTITY };

fn config(json: &str) -> NeuroPlasticConfig {
    match serde_json::from_str(&format!(r#"{{"neuroplastic": {json}}}"#)).unwrap() {
        OptimizerConfig::NeuroPlastic(config) => config,
        other => panic!("{other:?}"),
    }
}

fn driver(config: &NeuroPlasticConfig, dtype: DType) -> Driver<NeuroPlasticConfig> {
    let var = |(i, n): (usize, &usize)| (format!("p{i}"), Var::from_tensor(&tensor(&[*n], i, 1.0, dtype)).unwrap());
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
    map: GradientMap,
    f: impl FnOnce(&NeuroPlasticConfig, &mut [ParamStep<'_>]) -> T,
) -> T {
    with_work_of(driver, step, map, |i| Some(0.5 + i as f64), f)
}

/// A step of ours on the machine, or its directions alone.
fn launch(
    config: &NeuroPlasticConfig,
    (cx, outcome): (&StepContext, Outcome),
    w: &mut [ParamStep<'_>],
    memory: &mut Memory,
    (machine, held): (&mut impl Machine, &mut Held),
) -> Vec<Apply> {
    let step = Step::new(config, cx, w, memory).unwrap();
    held.step(machine, &step, &places(&step, w), &Seen::nothing().0, outcome).unwrap()
}

/// What the diagnostics have seen on the host's machine.
fn report(host: &mut Host) -> BTreeMap<String, f64> {
    Diagnostics::of(Held::kept(host, TOTALS).unwrap()).report()
}

/// No step waits for the machine. Many threads that wait for one another take their time on a host: few steps.
fn check(json: &str, dtype: DType, map: GradientMap, steps: usize) {
    let config = config(json);
    let (mut ours, mut loops) = (driver(&config, dtype), driver(&config, dtype));
    let (mut memory, mut expected) = (Memory::default(), Memory::default());
    let (mut host, mut held) = (Host::default(), Held::default());
    for step in 0..steps {
        with_work(&mut ours, step, map, |rule, w| {
            launch(rule, (&CX, Outcome::Step), w, &mut memory, (&mut host, &mut held));
        });
        with_work(&mut loops, step, map, |rule, w| {
            let map = clipped(map, w);
            w.iter_mut().for_each(|w| w.map = map);
            Rule::step(rule, &CX, w, &mut expected)
        })
        .unwrap();
        for (ours, loops) in bits(&ours).iter().zip(&bits(&loops)) {
            assert_eq!(ours, loops, "{json} in {dtype:?}, step {step}");
        }
    }
    assert_eq!(host.waits, 0, "{json}");
    let (ours, loops) = (report(&mut host), NeuroPlasticConfig::diagnostics(&expected));
    assert!(ours.len() > 10, "{ours:?}");
    assert_eq!(ours, loops, "{json} in {dtype:?}");
    // Traces, modulation and update, each with its sums and the arithmetic after them in one launch for tensors of every form; and totals.
    // Modulation with weight decay, of one parameter here, and without are two forms.
    let count = |name: &str| host.launched.iter().filter(|(of, _)| of == name).map(|(_, count)| count).sum::<usize>();
    if json == "{}" && map.norm.is_none() {
        assert_eq!(
            [count("np_pass"), count("np_rows"), count("np_totals")],
            [4, 3, 1].map(|n| n * steps),
            "{:?}",
            host.launched
        );
    }
}

#[test]
fn launches_have_the_bits_of_the_passes() {
    if !compiler() {
        return;
    }
    check(r#"{"weight_decay": 0.1}"#, DType::F32, MAP, 2);
    check("{}", DType::BF16, MAP, 1);
    check(r#"{"coefficient": {"granularity": "tensor"}}"#, DType::F64, MAP, 1);
    check(r#"{"formulation": "bounded_residual"}"#, DType::F32, MAP, 1);
    check(r#"{"formulation": {"orthogonal_residual": {"norm": "match_gradient"}}}"#, DType::F32, MAP, 1);
    check(r#"{"formulation": {"hybrid": {"base": "adamw", "target": "momentum"}}}"#, DType::F32, MAP, 2);
    let sgd = r#"{"weight_decay": 0.1, "formulation": {"hybrid": {"base": "sgd_momentum", "target": "trust_ratio"}}}"#;
    check(sgd, DType::F32, MAP, 1);
    check(r#"{"formulation": {"hybrid": {"base": "lion", "scope": "classifier_only"}}}"#, DType::F32, MAP, 1);
    // Without its logarithms, which have other bits, the controller has signals of 0.
    check(r#"{"coefficient": {"rule": "gradient_only"}, "controller": {"mode": "layerwise"}}"#, DType::F32, MAP, 1);
    // The norm of all gradients, about 50, stays on the machine.
    check("{}", DType::F32, GradientMap { norm: Some(1.0), ..GradientMap::IDENTITY }, 1);
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
        with_work(&mut ours, 0, MAP, |rule, w| {
            launch(rule, (&CX, Outcome::Step), w, &mut memory, (&mut host, &mut held));
        });
        with_work(&mut loops, 0, MAP, |rule, w| Rule::step(rule, &CX, w, &mut expected)).unwrap();
        let (ours, loops) = (report(&mut host), NeuroPlasticConfig::diagnostics(&expected));
        assert_eq!(ours.keys().collect::<Vec<_>>(), loops.keys().collect::<Vec<_>>());
        for (name, x) in &loops {
            assert!((ours[name] - x).abs() <= 1e-12 * x.abs().max(1.0), "{name}: {} and {x}", ours[name]);
        }
    }
}

/// What directions are to be multiplied with can be asked for; the totals begin anew with an epoch; nothing is copied where nothing has changed.
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
        let applies = with_work(&mut ours, 0, MAP, |rule, w| {
            // Two steps with the same gradients, at the same place.
            let mut step = || {
                let applies = launch(rule, (&cx, Outcome::Direction), w, &mut memory, (&mut host, &mut held));
                uploads.push(host.uploads);
                applies
            };
            step();
            step()
        });
        let mut expected = Memory::default();
        let by_loops = with_work(&mut loops, 0, MAP, |rule, w| {
            Rule::directions(rule, &cx, w, &mut expected).unwrap();
            Rule::directions(rule, &cx, w, &mut expected).unwrap()
        });
        assert_eq!(applies, by_loops);
        assert_eq!(report(&mut host), NeuroPlasticConfig::diagnostics(&expected));
        held.forget();
    }
    assert_eq!([uploads[1], uploads[3]], [uploads[0], uploads[2]]);
}

#[test]
fn every_pass_compiles() {
    let Some(mut compiler) = Compiler::find() else { return };
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
                    with_work(&mut driver(&config, dtype), 0, MAP, |rule, w| {
                        launch(rule, (&cx, Outcome::Step), w, &mut memory, (&mut compiler, &mut held));
                    });
                }
            }
        }
    }
    compiler.count(40);
}
