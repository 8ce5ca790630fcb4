//! Steps of coupled rules by launches on the host, kernels compiled as C++, against the CPU's passes: the same bits, and nothing waited for.

use std::collections::BTreeSet;

use candle_core::{DType, Tensor, Var};
use np_cuda::machine::Machine;
use np_cuda::replay::{Launching, Replaying, Replays};
use np_cuda::table::{BUFFERS, CHUNK};
use np_engine::apply::{Apply, Seeing, apply_all};
use np_engine::chain::launched::Held;
use np_engine::chain::{self, Block, Chain, Formula};
use np_engine::config::decay::DecayKind;
use np_engine::gradient_map::GradientMap;
use np_engine::param_step::ParamStep;
use np_trace::pass::{Pass, Term};
use np_trace::{Float, Number, Outcome};

use super::lamb::LambConfig;
use super::lars::LarsConfig;
use super::prodigy::ProdigyConfig;
use crate::launched_tests::host::{Host, compiler};
use crate::launched_tests::with_work as with_work_of;
use crate::launched_tests::{Compiler, bits, clipped, places, tensor};
use crate::{Backend, Driver, Options, Result, Rule, StepContext};

/// A matrix of a chunk and some, part of a block, an empty one, part of a lane, zeros.
const SHAPES: [&[usize]; 5] = [&[2, CHUNK / 2 + 519], &[1000], &[0, 3], &[1, 5], &[2, 3]];

const CX: StepContext = StepContext { epoch: 1, epochs: None, tensors: 5, diagnostics: false, backend: Backend::Auto };

/// A rule whose steps are launches.
trait Launches: Rule {
    fn launches(&self, work: &[ParamStep<'_>], machine: &mut impl Machine, held: &mut Held);
}

impl Launches for LambConfig {
    fn launches(&self, work: &[ParamStep<'_>], machine: &mut impl Machine, held: &mut Held) {
        let step = self.plan(work);
        held.step(machine, &step, &places(&step, work), &[], Outcome::Step).unwrap();
    }
}

impl Launches for LarsConfig {
    fn launches(&self, work: &[ParamStep<'_>], machine: &mut impl Machine, held: &mut Held) {
        let step = self.plan(work);
        held.step(machine, &step, &places(&step, work), &[], Outcome::Step).unwrap();
    }
}

impl Launches for ProdigyConfig {
    fn launches(&self, work: &[ParamStep<'_>], machine: &mut impl Machine, held: &mut Held) {
        let step = self.plan(work);
        held.step(machine, &step, &places(&step, work), &[self.d0, self.d0, 0.0, 0.0], Outcome::Step).unwrap();
    }
}

/// The last parameter is zero.
fn driver<R: Rule>(rule: &R, dtypes: [DType; 2], scale: f64) -> Driver<R> {
    let var = |(i, shape): (usize, &&[usize])| {
        let scale = if i == 4 { 0.0 } else { scale };
        (format!("p{i}"), Var::from_tensor(&tensor(shape, i, scale, dtypes[i % 2])).unwrap())
    };
    let options = r#"{"groups": [{"match": "p1", "weight_decay": 0.3, "lr_scale": 0.5}]}"#;
    let named = SHAPES.iter().enumerate().map(var).collect();
    Driver::from_named(named, rule.clone())
        .unwrap()
        .with_options(serde_json::from_str::<Options>(options).unwrap())
        .unwrap()
}

/// Works on a step as the driver hands it to the rule; at step 1, parameter 3 has no gradient.
fn with_work<R: Rule, T>(
    driver: &mut Driver<R>,
    step: usize,
    map: GradientMap,
    scale: f64,
    f: impl FnOnce(&R, &mut [ParamStep<'_>]) -> T,
) -> T {
    with_work_of(driver, step, map, |i| ((step, i) != (1, 3)).then_some(scale * (0.5 + i as f64)), f)
}

/// Steps on the host's machine against the passes, with gradients of this scale read through `map`; gives the machine and what is kept.
fn check<R: Launches>(rule: &R, dtypes: [DType; 2], steps: usize, map: GradientMap, scale: f64) -> (Host, R::Memory) {
    let (mut ours, mut loops) = (driver(rule, dtypes, 1.0), driver(rule, dtypes, 1.0));
    let (mut host, mut held, mut memory) = (Host::default(), Held::default(), R::Memory::default());
    for step in 0..steps {
        with_work(&mut ours, step, map, scale, |rule, w| rule.launches(w, &mut host, &mut held));
        with_work(&mut loops, step, map, scale, |rule, w| {
            let map = clipped(map, w);
            w.iter_mut().for_each(|w| w.map = map);
            Rule::step(rule, &CX, w, &mut memory)
        })
        .unwrap();
        for (ours, loops) in bits(&ours).iter().zip(&bits(&loops)) {
            assert_eq!(ours, loops, "{} in {dtypes:?}, step {step}", R::KIND);
        }
    }
    assert_eq!(host.waits, 0, "{}", R::KIND);
    (host, memory)
}

const F32: [DType; 2] = [DType::F32; 2];
const LIMIT: GradientMap = GradientMap { limit: 0.9, ..GradientMap::IDENTITY };

fn lamb() -> LambConfig {
    LambConfig { lr: 0.01, weight_decay: 0.1, ..LambConfig::default() }
}

fn lars() -> LarsConfig {
    LarsConfig { lr: 0.1, weight_decay: 0.1, dampening: 0.1, nesterov: true, ..LarsConfig::default() }
}

#[test]
fn launches_have_the_bits_of_the_passes() {
    if !compiler() {
        return;
    }
    let (host, ..) = check(&lamb(), F32, 2, LIMIT, 1.0);
    // A table for the whole step, and three launches: two passes, and between them the sums of the first with the ratio.
    assert_eq!(host.launched.iter().map(|(_, count)| count).sum::<usize>(), 2 * 3, "{:?}", host.launched);
    check(&lamb(), [DType::BF16, DType::F64], 1, LIMIT, 1.0);
    check(&lars(), F32, 2, LIMIT, 1.0);
    check(&LarsConfig { momentum: 0.0, nesterov: false, ..lars() }, [DType::BF16, DType::F32], 1, LIMIT, 1.0);
}

/// Two passes with nothing after them: Σg² and Σ|θ| of each tensor, in its first two columns.
struct Passes;

impl chain::Step for Passes {
    const COLUMNS: usize = 2;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.pass(&Sum(0), 0)?;
        chain.pass(&Sum(1), 1)
    }
}

struct Sum(u32);

impl Formula for Sum {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("sum", self.0)
    }

    fn pass<N: Number>(&self, _: usize, theta: N, g: N, _: [N; BUFFERS], _: &[N]) -> Pass<N> {
        Pass::summing(vec![], vec![if self.0 == 0 { Term::Square(g) } else { Term::Sum(theta.abs()) }])
    }

    fn block<T: Float>(&self, _: usize, _: Block<'_, T>, _: &[f64], _: &mut [f64]) {}
}

/// The sums of a pass are added up before another pass, and before the step ends.
#[test]
fn sums_are_there_whatever_comes_after_a_pass() {
    if !compiler() {
        return;
    }
    let (mut host, mut held, mut ours) = (Host::default(), Held::default(), driver(&lamb(), F32, 1.0));
    with_work(&mut ours, 0, GradientMap::IDENTITY, 1.0, |_, w| {
        let found = held.step(&mut host, &Passes, &places(&Passes, w), &[], Outcome::Direction).unwrap();
        let all = |t: &Tensor, f: fn(f64) -> f64| {
            let numbers = t.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
            numbers.into_iter().map(f).sum::<f64>()
        };
        for (w, Apply { keep, factor }) in w.iter().zip(found) {
            for (ours, sum) in [(keep, all(&w.grad, |g| g * g)), (factor, all(w.param.var.as_tensor(), f64::abs))] {
                // Terms and lanes are in single precision.
                assert!((ours - sum).abs() <= 1e-6 * sum, "{ours} and {sum}");
            }
        }
    });
    assert_eq!(host.launched.iter().map(|(_, count)| count).sum::<usize>(), 2 * 2, "{:?}", host.launched);
}

/// Where the last pass updates θ, its bits are those of the direction, applied afterwards.
#[test]
fn a_step_has_the_bits_of_its_direction_applied() {
    fn check<R: Rule>(rule: &R) {
        for dtypes in [F32, [DType::F64, DType::BF16]] {
            let (mut whole, mut parts) = (driver(rule, dtypes, 1.0), driver(rule, dtypes, 1.0));
            let mut memories = [R::Memory::default(), R::Memory::default()];
            for step in 0..3 {
                with_work(&mut whole, step, LIMIT, 1.0, |rule, w| Rule::step(rule, &CX, w, &mut memories[0])).unwrap();
                with_work(&mut parts, step, LIMIT, 1.0, |rule, w| {
                    let applies = Rule::directions(rule, &CX, w, &mut memories[1]).unwrap();
                    apply_all(w, &applies, Seeing::Nothing).unwrap();
                });
                assert_eq!(bits(&whole), bits(&parts), "{} in {dtypes:?}, step {step}", R::KIND);
            }
        }
    }
    check(&lars());
    check(&LarsConfig { momentum: 0.0, nesterov: false, ..lars() });
    check(&prodigy());
}

fn prodigy() -> ProdigyConfig {
    ProdigyConfig { lr: 0.9, weight_decay: 0.1, d0: 1e-3, bias_correction: true, ..ProdigyConfig::default() }
}

/// The estimate moves on the machine, and is what the host's is whenever it is asked for.
#[test]
fn an_estimate_stays_on_the_machine() {
    if !compiler() {
        return;
    }
    let coupled = ProdigyConfig { decay: DecayKind::Coupled, growth_rate: Some(1.02), ..prodigy() };
    let asked = [
        (prodigy(), F32, 2, 1.0),
        (coupled, [DType::F64, DType::F32], 2, 1.0),
        // Gradients of zero: nothing moves.
        (ProdigyConfig { safeguard_warmup: true, ..prodigy() }, F32, 1, 0.0),
    ];
    for (rule, dtypes, steps, scale) in asked {
        let (mut host, memory) = check(&rule, dtypes, steps, LIMIT, scale);
        // Arithmetic before and after the first pass, and of the estimate; two passes of each type; sums of each tensor and of all.
        let launches = steps * (5 + 2 * BTreeSet::from(dtypes.map(|dtype| dtype.as_str())).len());
        assert_eq!(host.launched.iter().map(|(_, count)| count).sum::<usize>(), launches, "{:?}", host.launched);
        let ours = Held::kept(&mut host, 4).unwrap();
        let expected: Vec<f64> = Rule::shared(&rule, &memory).unwrap().iter().map(|(_, x)| *x).collect();
        assert_eq!(ours, expected, "{rule:?}");
        assert_eq!(ours[3], if scale == 0.0 { 0.0 } else { steps as f64 });
    }
}

/// What is launched is the same step after step, or two lists that take turns: from then on it is replayed, with the same bits.
#[test]
fn launches_are_replayed() {
    if !compiler() {
        return;
    }
    let rule = prodigy();
    let (mut ours, mut loops) = (driver(&rule, F32, 1.0), driver(&rule, F32, 1.0));
    let (mut host, mut held, mut replays) = (Host::default(), Held::default(), Replays::default());
    let (mut memory, mut replayed) = (Default::default(), vec![]);
    // At step 1 a parameter has no gradient.
    for step in [0, 2, 3, 4, 5, 6] {
        with_work(&mut ours, step, LIMIT, 1.0, |rule, w| {
            let mut machine = Replaying::new(&mut host, &mut replays, Launching::Graph);
            rule.launches(w, &mut machine, &mut held);
            machine.finish().unwrap();
        });
        with_work(&mut loops, step, LIMIT, 1.0, |rule, w| Rule::step(rule, &CX, w, &mut memory)).unwrap();
        assert_eq!(bits(&ours), bits(&loops), "step {step}");
        replayed.push(host.replays);
    }
    assert_eq!((replayed[5], host.waits), (replayed[4] + 1, 0), "{replayed:?}");
}

/// A step in which only a parameter without elements has a gradient: the sums of the step before have no part in it.
#[test]
fn a_step_of_no_element_adds_nothing() {
    if !compiler() {
        return;
    }
    let rule = prodigy();
    let (mut ours, mut loops) = (driver(&rule, F32, 1.0), driver(&rule, F32, 1.0));
    let (mut host, mut held, mut memory) = (Host::default(), Held::default(), Default::default());
    for step in 0..4 {
        // SHAPES[2] has no element.
        let scale = |i: usize| (step != 2 || i == 2).then_some(0.5 + i as f64);
        with_work_of(&mut ours, step, LIMIT, scale, |rule, w| rule.launches(w, &mut host, &mut held));
        with_work_of(&mut loops, step, LIMIT, scale, |rule, w| Rule::step(rule, &CX, w, &mut memory)).unwrap();
        assert_eq!(bits(&ours), bits(&loops), "step {step}");
        let expected: Vec<f64> = Rule::shared(&rule, &memory).unwrap().iter().map(|(_, x)| *x).collect();
        assert_eq!(Held::kept(&mut host, 4).unwrap(), expected, "step {step}");
    }
}

/// The norm of all gradients, about 100, stays on the machine.
#[test]
fn gradients_are_clipped_on_the_machine() {
    if !compiler() {
        return;
    }
    for most in [1.0, 1e4] {
        let map = GradientMap { norm: Some(most), ..GradientMap::IDENTITY };
        check(&lamb(), F32, 1, map, 1.0);
        check(&lars(), F32, 1, map, 1.0);
        check(&prodigy(), F32, 1, map, 1.0);
    }
}

/// Where squares leave double precision's range, norms are those of scaled numbers, added up in another order than the CPU's: all but the last bits agree.
#[test]
fn norms_out_of_range_are_found_of_scaled_numbers() {
    if !compiler() {
        return;
    }
    for scale in [1e200, 1e-200] {
        let rule = LarsConfig { weight_decay: 0.0, momentum: 0.0, nesterov: false, ..lars() };
        let dtypes = [DType::F64; 2];
        let (mut ours, mut loops) = (driver(&rule, dtypes, scale), driver(&rule, dtypes, scale));
        with_work(&mut ours, 0, GradientMap::IDENTITY, scale, |rule, w| {
            rule.launches(w, &mut Host::default(), &mut Held::default());
        });
        with_work(&mut loops, 0, GradientMap::IDENTITY, scale, |rule, w| {
            Rule::step(rule, &CX, w, &mut Default::default())
        })
        .unwrap();
        for ((name, ours), (_, loops)) in bits(&ours).iter().zip(&bits(&loops)) {
            for (x, y) in ours.iter().zip(loops).map(|(x, y)| (f64::from_bits(*x), f64::from_bits(*y))) {
                assert!((x - y).abs() <= 1e-14 * y.abs(), "{name} at {scale:e}: {x:e} and {y:e}");
            }
        }
    }
}

#[test]
fn every_pass_compiles() {
    fn all<R: Launches>(compiler: &mut Compiler, rule: &R) {
        for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16] {
            let map = GradientMap { norm: Some(1.0), ..GradientMap::IDENTITY };
            with_work(&mut driver(rule, [dtype; 2], 1.0), 0, map, 1.0, |rule, w| {
                rule.launches(w, compiler, &mut Held::default());
            });
        }
    }
    let Some(mut compiler) = Compiler::find() else { return };
    all(&mut compiler, &lamb());
    all(&mut compiler, &lars());
    all(&mut compiler, &prodigy());
    all(&mut compiler, &LarsConfig { momentum: 0.0, nesterov: false, ..lars() });
    compiler.count(20);
}
