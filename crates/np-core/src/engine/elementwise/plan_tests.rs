//! Launches as a device would be given them, run on the host: tables with addresses of the host's memory, kernels compiled as C++.

use candle_core::{DType, Device, Storage, Tensor, Var};
use half::{bf16, f16};
use np_cuda::replay::{Launching, Replaying, Replays};
use np_cuda::table::{BUFFERS, CHUNK, PIECE, Row, Table};

use super::host::{Host, compiler};
use super::launched::Held;
use super::plan::{Launch, plan};
use crate::engine::cpu;
use crate::engine::gradient_map::GradientMap;
use crate::engine::gradients;
use crate::engine::param_state::State;
use crate::engine::param_step::ParamStep;
use crate::engine::traced::Outcome;
use crate::engine::traced::cuda::{NAME, Storage as Stored};
use crate::{
    AdamWConfig, Backend, Driver, Elementwise, LionConfig, Options, RAdamConfig, RpropConfig, Rule, SgdConfig,
    StepContext,
};

const MAP: GradientMap = GradientMap { scale: 0.5, limit: 0.4, norm: None };

/// Small ones, an empty one, and one of several pieces.
const SIZES: [usize; 5] = [3, 0, 40, 2 * PIECE + 5, 1];

fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
}

fn tensor(n: usize, seed: usize, dtype: DType) -> Tensor {
    Tensor::from_vec(numbers(n, seed), n, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn driver<R: Rule>(rule: &R, dtype: DType) -> Driver<R> {
    let var = |(i, n): (usize, &usize)| (format!("p{i}"), Var::from_tensor(&tensor(*n, i, dtype)).unwrap());
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
    let rule = driver.rule.clone();
    let mut work: Vec<ParamStep<'_>> = driver
        .params
        .iter_mut()
        .enumerate()
        .filter(|(i, _)| (step, *i) != (2, 4))
        .map(|(i, param)| {
            param.steps += 1;
            let grad = tensor(param.var.elem_count(), 10 * step + i, param.var.dtype());
            ParamStep { lr: 0.01 * param.settings.lr_scale, param, grad, map }
        })
        .collect();
    f(&rule, &mut work)
}

pub(crate) fn place(t: &Tensor) -> u64 {
    let (storage, layout) = t.storage_and_layout();
    let Storage::Cpu(data) = &*storage else { return 0 };
    match t.dtype() {
        DType::F64 => cpu::slice::<f64>(data, layout).unwrap().as_ptr() as u64,
        DType::F16 => cpu::slice::<f16>(data, layout).unwrap().as_ptr() as u64,
        DType::BF16 => cpu::slice::<bf16>(data, layout).unwrap().as_ptr() as u64,
        _ => cpu::slice::<f32>(data, layout).unwrap().as_ptr() as u64,
    }
}

fn row(w: &ParamStep<'_>) -> Row {
    let all: Vec<u64> = match &w.param.state {
        State::F32(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
        State::F64(data) => data.iter().map(|x| x.as_ptr() as u64).collect(),
        State::Tensors(_) => vec![],
    };
    let (mut state, buffers) = ([0; BUFFERS], w.param.buffers.len());
    state[..buffers].copy_from_slice(&all[..buffers]);
    let direction = all.get(buffers).copied().unwrap_or(0);
    Row { theta: place(w.param.var.as_tensor()), gradient: place(&w.grad), state, direction, ..Row::default() }
}

/// Every number of a driver's parameters and state.
fn bits<R: Rule>(driver: &Driver<R>) -> Vec<(String, Vec<u64>)> {
    let of = |t: &Tensor| {
        let wide = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        wide.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
    };
    let mut all: Vec<_> = driver.params.iter().map(|s| (s.name.clone(), of(s.var.as_tensor()))).collect();
    all.extend(driver.state().unwrap().tensors.iter().map(|(name, t)| (name.clone(), of(t))));
    all
}

const CX: StepContext = StepContext { epoch: 1, epochs: None, tensors: 5, diagnostics: false, backend: Backend::Auto };

/// Steps on the host's machine against the loops; each with the gradients' map that it would have.
fn check<R: Elementwise>(rule: &R, dtype: DType, [ours_map, loops_map]: [GradientMap; 2], launches: usize) {
    // Barriers of threads that wait for one another take their time on a host.
    let steps = if ours_map.norm.is_some() { 2 } else { 4 };
    let (mut ours, mut loops) = (driver(rule, dtype), driver(rule, dtype));
    let (mut held, mut host) = (Held::default(), Host::default());
    for step in 0..steps {
        with_work(&mut ours, step, ours_map, |rule, w| held.step(&mut host, rule, w, Outcome::Step, |w| Ok(row(w))))
            .unwrap();
        let loops_map = |w: &[ParamStep<'_>]| match ours_map.norm {
            Some(most) => {
                let norm = gradients::norm(&w.iter().map(|w| Some(w.grad.clone())).collect::<Vec<_>>()).unwrap();
                GradientMap { scale: (most / (norm + 1e-6)).min(1.0), ..loops_map }
            }
            None => loops_map,
        };
        with_work(&mut loops, step, MAP, |rule, w| {
            let map = loops_map(w);
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
    check(&AdamWConfig::default(), DType::F32, [MAP; 2], 1);
    check(&AdamWConfig::default(), DType::F64, [MAP; 2], 1);
    check(&AdamWConfig::default(), DType::BF16, [MAP; 2], 1);
    // Coupled decay is another formula where it is 0.
    check(&SgdConfig { momentum: 0.9, nesterov: true, ..SgdConfig::default() }, DType::F32, [MAP; 2], 2);
    check(&RpropConfig::default(), DType::F32, [MAP; 2], 2);
    check(&LionConfig::default(), DType::F32, [MAP; 2], 1);
    check(&RAdamConfig::default(), DType::F32, [MAP; 2], 2);
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
        check(&sgd, DType::F32, [map, GradientMap::IDENTITY], 2);
        check(&AdamWConfig::default(), DType::BF16, [map, GradientMap::IDENTITY], 1);
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
            held.step(&mut machine, rule, w, Outcome::Step, |w| Ok(row(w))).unwrap();
            machine.finish().unwrap();
        });
        with_work(&mut one_by_one, step, map, |rule, w| {
            slower(w, step);
            other_held.step(&mut other, rule, w, Outcome::Step, |w| Ok(row(w))).unwrap();
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
    let (launches, _) =
        with_work(&mut driver, 0, MAP, |rule, w| plan(rule, w, Outcome::Step, &mut table, |w| Ok(row(w))).unwrap());
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
        for param in &mut driver.params {
            let State::F32(state) = &mut param.state else { panic!() };
            state.push(vec![f32::NAN; param.var.elem_count()]);
        }
    }
    let applies = with_work(&mut ours, 0, MAP, |rule, w| {
        Held::default().step(&mut Host::default(), rule, w, Outcome::Direction, |w| Ok(row(w))).unwrap()
    });
    let expected = with_work(&mut loops, 0, MAP, |rule, w| rule.directions(&CX, w, &mut Default::default())).unwrap();
    assert_eq!(applies, expected);
    for (ours, loops) in ours.params.iter().zip(&loops.params) {
        let (State::F32(ours), State::F32(loops)) = (&ours.state, &loops.state) else { panic!() };
        assert_eq!(ours, loops);
    }
}
