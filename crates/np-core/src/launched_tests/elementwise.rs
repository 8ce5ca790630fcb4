//! Launches as a device would be given them, run on the host: tables with addresses of the host's memory, kernels compiled as C++.

use candle_core::{DType, Var};
use np_cuda::replay::{Launching, Replaying, Replays};
use np_cuda::table::{CHUNK, PIECE, Table};
use np_engine::elementwise::launched::Held;
use np_engine::elementwise::plan::{Launch, plan};
use np_engine::gradient_map::GradientMap;
use np_engine::param_step::ParamStep;
use np_engine::state::State;
use np_trace::Outcome;
use np_trace::cuda::{NAME, Storage as Stored};

use crate::launched_tests::host::{Host, compiler};
use crate::launched_tests::with_work as with_work_of;
use crate::launched_tests::{addresses, bits, clipped, tensor};
use crate::{
    AdamWConfig, Backend, Driver, Elementwise, LionConfig, Options, RAdamConfig, RpropConfig, Rule, SgdConfig,
    StepContext,
};

const MAP: GradientMap = GradientMap { scale: 0.5, limit: 0.4, norm: None };

/// Small ones, an empty one, and one of several pieces.
const SIZES: [usize; 5] = [3, 0, 40, 2 * PIECE + 5, 1];

fn driver<R: Rule>(rule: &R, dtype: DType) -> Driver<R> {
    let var = |(i, n): (usize, &usize)| (format!("p{i}"), Var::from_tensor(&tensor(&[*n], i, 1.0, dtype)).unwrap());
    let options =
        r#"{"groups": [{"match": "p2", "weight_decay": 0.3, "lr_scale": 0.5}, {"match": "p4", "lr_scale": 2}]}"#;
    let options: Options = serde_json::from_str(options).unwrap();
    let named = SIZES.iter().enumerate().map(var).collect();
    Driver::from_named(named, rule.clone()).unwrap().with_options(options).unwrap()
}

/// Works on a step as the driver hands it to the rule; at step 2, parameter 4 has no gradient.
fn with_work<R: Rule, T>(
    driver: &mut Driver<R>,
    step: usize,
    map: GradientMap,
    f: impl FnOnce(&R, &mut [ParamStep<'_>]) -> T,
) -> T {
    with_work_of(driver, step, map, |i| ((step, i) != (2, 4)).then_some(1.0), f)
}

const CX: StepContext = StepContext { epoch: 1, epochs: None, tensors: 5, diagnostics: false, backend: Backend::Auto };

/// Steps on the host's machine against the loops, whose gradients the host clips.
fn check<R: Elementwise>(rule: &R, dtype: DType, map: GradientMap, launches: usize) {
    // Barriers of threads that wait for one another take their time on a host.
    let steps = if map.norm.is_some() { 2 } else { 4 };
    let (mut ours, mut loops) = (driver(rule, dtype), driver(rule, dtype));
    let (mut held, mut host) = (Held::default(), Host::default());
    for step in 0..steps {
        with_work(&mut ours, step, map, |rule, w| held.step(&mut host, rule, w, Outcome::Step, |w| Ok(addresses(w))))
            .unwrap();
        with_work(&mut loops, step, MAP, |rule, w| {
            let map = clipped(map, w);
            w.iter_mut().for_each(|w| w.map = map);
            Rule::step(rule, &CX, w, &mut Default::default())
        })
        .unwrap();
        for (ours, loops) in bits(&ours).iter().zip(&bits(&loops)) {
            assert_eq!(ours, loops, "{} in {dtype:?}, step {step}", R::KIND);
        }
    }
    let of_steps = host.launched.iter().find(|(name, _)| name == NAME).map(|(_, count)| *count);
    assert_eq!((of_steps, host.waits), (Some(steps * launches), 0), "{}", R::KIND);
}

#[test]
fn launches_have_the_bits_of_the_loops() {
    if !compiler() {
        return;
    }
    check(&AdamWConfig::default(), DType::F32, MAP, 1);
    check(&AdamWConfig::default(), DType::F64, MAP, 1);
    check(&AdamWConfig::default(), DType::BF16, MAP, 1);
    // Coupled decay is another formula where it is 0.
    check(&SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() }, DType::F32, MAP, 2);
    check(&RpropConfig::default(), DType::F32, MAP, 2);
    check(&LionConfig::default(), DType::F32, MAP, 1);
    check(&RAdamConfig::default(), DType::F32, MAP, 2);
}

/// The norm stays on the machine; what clips the gradients gets into the tables of all launches there.
#[test]
fn gradients_are_clipped_on_the_machine() {
    if !compiler() {
        return;
    }
    // All gradients together have norms of about 50: the second clips nothing.
    for most in [1.0, 1e3] {
        let map = GradientMap { norm: Some(most), ..GradientMap::IDENTITY };
        let sgd = SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() };
        check(&sgd, DType::F32, map, 2);
        check(&AdamWConfig::default(), DType::BF16, map, 1);
    }
}

/// What changes from step to step (rates, bias corrections, what clips the gradients, the gradients' addresses) is in the table: from the third step on the launches are replayed.
#[test]
fn a_step_with_other_numbers_is_replayed() {
    if !compiler() {
        return;
    }
    let map = GradientMap { norm: Some(1.0), ..GradientMap::IDENTITY };
    let rule = AdamWConfig::default();
    let (mut ours, mut one_by_one) = (driver(&rule, DType::F32), driver(&rule, DType::F32));
    let (mut held, mut host, mut replays) = (Held::default(), Host::default(), Replays::default());
    let (mut other_held, mut other) = (Held::default(), Host::default());
    let slower = |w: &mut [ParamStep<'_>], step: usize| w.iter_mut().for_each(|w| w.lr /= (step + 1) as f64);
    // At step 2 a parameter has no gradient.
    for (number, step) in [0, 1, 3, 4].into_iter().enumerate() {
        with_work(&mut ours, step, map, |rule, w| {
            slower(w, step);
            let mut machine = Replaying::new(&mut host, &mut replays, Launching::Graph);
            held.step(&mut machine, rule, w, Outcome::Step, |w| Ok(addresses(w))).unwrap();
            machine.finish().unwrap();
        });
        with_work(&mut one_by_one, step, map, |rule, w| {
            slower(w, step);
            other_held.step(&mut other, rule, w, Outcome::Step, |w| Ok(addresses(w))).unwrap();
        });
        assert_eq!(bits(&ours), bits(&one_by_one), "step {step}");
        assert_eq!(host.replays, number.saturating_sub(1), "step {step}");
    }
    assert_eq!(host.launched, other.launched);
}

#[test]
fn a_launch_holds_all_tensors_of_a_formula_and_their_numbers_once() {
    let mut table = Table::default();
    let mut driver = driver(&AdamWConfig::default(), DType::F32);
    let (launches, _) = with_work(&mut driver, 0, MAP, |rule, w| {
        plan(rule, w, Outcome::Step, &mut table, |w| Ok(addresses(w))).unwrap()
    });
    // AdamW's decay is decoupled: one formula. Three blocks of numbers: of parameters 0 and 3, of 2, and of 4.
    let [launch] = &launches[..] else { panic!("{} launches", launches.len()) };
    assert_eq!((launch.blocks(), &launch.lengths[..]), (3, &[3, 40, 2 * PIECE as u64 + 5, 1][..]));
    let rows = &table.bytes()[launch.at_rows..];
    let of = |row: usize| u64::from_ne_bytes(rows[104 * row + 88..104 * row + 96].try_into().unwrap());
    assert_eq!([0, 1, 2, 3].map(of), [0, 1, 0, 2]);
    // The gradient's scale is where clipping puts it.
    let (at, stride) = (launch.at_arguments, launch.expression.arguments());
    let argument = |block: usize, k: usize| {
        let at = at + 4 * (block * stride + k);
        f32::from_ne_bytes(table.bytes()[at..at + 4].try_into().unwrap())
    };
    for block in 0..3 {
        assert_eq!([argument(block, launch.scale), argument(block, launch.scale + 1)], [0.5, 0.4]);
    }
    assert_eq!(Launch::ranges(&launches, CHUNK).collect::<Vec<_>>(), [0, 1, 1, 1, 2, 1, 3, 1]);
    assert_eq!(launch.storage, Stored::F32);
}

#[test]
fn directions_go_where_they_are_wanted() {
    if !compiler() {
        return;
    }
    let rule = AdamWConfig::default();
    let (mut ours, mut loops) = (driver(&rule, DType::F32), driver(&rule, DType::F32));
    for driver in [&mut ours, &mut loops] {
        for param in driver.params_mut() {
            let State::F32(state) = &mut param.state else { panic!() };
            state.push(vec![f32::NAN; param.var.elem_count()]);
        }
    }
    let applies = with_work(&mut ours, 0, MAP, |rule, w| {
        Held::default().step(&mut Host::default(), rule, w, Outcome::Direction, |w| Ok(addresses(w))).unwrap()
    });
    let expected = with_work(&mut loops, 0, MAP, |rule, w| rule.directions(&CX, w, &mut Default::default())).unwrap();
    assert_eq!(applies, expected);
    for (ours, loops) in ours.params().iter().zip(loops.params()) {
        let (State::F32(ours), State::F32(loops)) = (&ours.state, &loops.state) else { panic!() };
        assert_eq!(ours, loops);
    }
}
