//! Optimizers written with only what is public. `Signum` treats every element alike; `Normalised` needs a norm. Each is compared with plain arithmetic on
//! every backend. Then: rules with faults.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use np_engine::chain::memory::Memory;
use np_engine::chain::{self, Arithmetic, BUFFERS, Block, Chain, Formula, Numbers, Of, Pass, Target};
use np_engine::cpu::sums::square_sum;
use np_engine::error::{fraction, not_negative};
use np_engine::host::{self, HostRule, Whole, WholeTensors};
use np_engine::matrix::Real;
use np_engine::{
    Apply, Backend, Buffer, Decay, DecayKind, Driver, Elementwise, Float, HyperParameters, Number, Outcome, ParamStep,
    Result, Rule, StepContext, StepInfo, hyper_parameters,
};

hyper_parameters! {
    /// B ← μ B + g, θ ← (1 − η wd) θ − η sign(B).
    pub struct Signum = "signum" {
        /// η, the length of a step, ≥ 0.
        pub lr: f64 = 0.01, not_negative;
        /// μ, in [0, 1).
        pub momentum: f64 = 0.9, fraction;
        /// wd, ≥ 0.
        pub weight_decay: f64 = 0.1, not_negative;
    }
}

impl Elementwise for Signum {
    const BUFFERS: &'static [&'static str] = &["momentum"];
    type Scalars<T: Number> = T;

    fn weight_decay(&self) -> Decay {
        DecayKind::Decoupled.of(self.weight_decay)
    }

    fn scalars<T: Number>(&self, _: &mut StepInfo<'_>) -> T {
        T::from_f64(self.momentum)
    }

    #[inline(always)]
    fn direction<T: Number, const N: usize>(momentum: &T, _: T, g: T, mut state: [T; N]) -> (T, [T; N]) {
        state[0] = *momentum * state[0] + g;
        (state[0].sign(), state)
    }
}

hyper_parameters! {
    /// θ ← θ − η g / ‖g‖; a gradient of 0 moves nothing.
    pub struct Normalised = "normalised" {
        /// η, the length of a step, ≥ 0.
        pub lr: f64 = 0.01, not_negative;
    }
}

/// η of each tensor.
struct Step(Vec<f64>);

/// Columns of a tensor's row: 0 is keep, 1 is factor, and those of the norm, up to three, start at 2.
const NORM_AT: usize = 2;

impl chain::Step for Step {
    const COLUMNS: usize = NORM_AT + 3;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.pass(&CopyGradient, NORM_AT)?;
        chain.arithmetic(&Length { step: self, norm_columns: chain.norm_columns() })?;
        // u is in state 0, the first scratch, for there are no buffers; keep and factor are in columns 0 and 1; Σθ² is not wanted.
        chain.finish(&chain::Given, 0, 0, None).map(drop)
    }
}

/// Writes u = g, and gives ‖u‖.
struct CopyGradient;

impl Formula for CopyGradient {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("copy", 0)
    }

    fn norms(&self) -> &'static [Of] {
        &[Of::State(0)]
    }

    fn pass<N: Number>(&self, _: usize, _: N, g: N, _: [N; BUFFERS], _: &[N]) -> Pass<N> {
        Pass::writing(vec![(Target::State(0), g)])
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, block: Block<'_, T>, _: &[f64], sums: &mut [f64]) {
        let Block { g, state: [u, ..], .. } = block;
        u.copy_from_slice(g);
        sums[0] += square_sum(u);
    }
}

/// Keep, and η / ‖u‖.
struct Length<'a> {
    step: &'a Step,
    norm_columns: usize,
}

impl Arithmetic for Length<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("length", 0)
    }

    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)> {
        let [norm] = chain::norms(&numbers.own[NORM_AT..], self.norm_columns);
        vec![(0, N::ONE), (1, norm.if_zero(N::ZERO, N::from_f64(self.step.0[tensor]) / norm))]
    }
}

impl Rule for Normalised {
    type Memory = Memory;

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        vec![]
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        let plan = |work: &[ParamStep<'_>]| Step(work.iter().map(ParamStep::lr).collect());
        chain::take_each(plan, cx, work, memory, Outcome::Direction)
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<()> {
        let plan = |work: &[ParamStep<'_>]| Step(work.iter().map(ParamStep::lr).collect());
        chain::take_each(plan, cx, work, memory, Outcome::Step).map(drop)
    }
}

const SIZES: [usize; 4] = [3, 0, 40_000, 1];

fn numbers(size: usize, seed: usize) -> Vec<f64> {
    (0..size).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f64 / 1000.0 - 1.0).collect()
}

/// The parameters after five steps.
fn trained<R: Rule>(rule: &R, backend: Backend) -> Vec<Vec<f64>> {
    let var = |size: usize| Var::from_tensor(&Tensor::new(numbers(size, size), &Device::Cpu).unwrap()).unwrap();
    let params: Vec<_> = SIZES.iter().map(|size| (format!("p{size}"), var(*size))).collect();
    let mut optimizer = Driver::with_backend(params.clone(), rule.clone(), backend).unwrap();
    for step in 0..5 {
        let mut grads = candle_core::backprop::GradStore::default();
        for (_, var) in &params {
            let size = var.elem_count();
            grads.insert(var.as_tensor(), Tensor::new(numbers(size, size + step), &Device::Cpu).unwrap());
        }
        assert_eq!(optimizer.step_report(&grads).unwrap().updated, SIZES.len());
    }
    params.iter().map(|(_, var)| var.to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap()).collect()
}

/// Holds five steps on all backends to `update`, which has θ, g and a state of the parameter's size, zero at first.
fn holds<R: Rule>(rule: &R, allowed: f64, update: impl Fn(&mut [f64], &[f64], &mut [f64])) {
    for backend in [Backend::Auto, Backend::Tensors, Backend::Interpreted] {
        for (theta, size) in trained(rule, backend).into_iter().zip(SIZES) {
            let (mut expected, mut state) = (numbers(size, size), vec![0.0; size]);
            for step in 0..5 {
                update(&mut expected, &numbers(size, size + step), &mut state);
            }
            let worst = theta.iter().zip(&expected).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
            assert!(theta.len() == size && worst <= allowed, "{backend:?}, {size}: {worst:e}");
        }
    }
}

#[test]
fn an_optimizer_of_elements() {
    let rule = Signum::default();
    holds(&rule, 1e-15, |theta, g, momentum| {
        for ((theta, g), b) in theta.iter_mut().zip(g).zip(momentum) {
            *b = 0.9 * *b + g;
            let sign = if *b == 0.0 { 0.0 } else { b.signum() };
            *theta = *theta * (1.0 - 0.01 * 0.1) - 0.01 * sign;
        }
    });
}

#[test]
fn an_optimizer_of_norms() {
    holds(&Normalised::default(), 1e-14, |theta, g, _| {
        let norm = g.iter().map(|g| g * g).sum::<f64>().sqrt();
        theta.iter_mut().zip(g).for_each(|(theta, g)| *theta -= if norm == 0.0 { 0.0 } else { 0.01 / norm * g });
    });
}

#[test]
fn settings_out_of_range_are_named() {
    let w = Var::zeros(1, DType::F32, &Device::Cpu).unwrap();
    let rule = Signum { momentum: 1.0, ..Signum::default() };
    let error = Driver::from_named(vec![("w".into(), w)], rule).unwrap_err();
    assert_eq!(error.to_string(), "`momentum`: expected a number in [0, 1), got `1`");
}

/// A rule of norms with a fault.
#[derive(Debug, Clone)]
struct Faulty(Fault);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It says that a row has a column less than it has.
    Columns,
    /// It has u in a buffer.
    Place,
    /// It has no scratch.
    Scratch,
    /// It is a rule of whole parameters, and has no scratch.
    HostScratch,
    /// It keeps a number where none has been set.
    Kept,
    /// It returns the scalars of no update.
    Applies,
    /// It has two buffers of a name.
    Names,
    /// It has a buffer of a name that the driver has.
    Reserved,
}

impl HyperParameters for Faulty {
    const KIND: &'static str = "faulty";

    fn validate(&self) -> Result<()> {
        Ok(())
    }

    fn learning_rate(&self) -> f64 {
        0.1
    }

    fn set_learning_rate(&mut self, _: f64) {}
}

/// A step whose last column is missing.
struct Short(Step);

impl chain::Step for Short {
    const COLUMNS: usize = NORM_AT + 2;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain::Step::run(&self.0, chain)
    }
}

/// A step that keeps a number.
struct Keeping;

impl chain::Step for Keeping {
    const COLUMNS: usize = 2;

    fn run(&self, chain: &mut impl Chain) -> Result<()> {
        chain.keep(&One)
    }
}

struct One;

impl Arithmetic for One {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("one", 0)
    }

    fn of<N: Number>(&self, _: usize, _: Numbers<'_, N>) -> Vec<(usize, N)> {
        vec![(0, N::ONE)]
    }
}

impl HostRule for Faulty {
    fn direct<T: Real>(&self, whole: Whole<'_, T>) -> Result<Apply> {
        Ok(Apply { keep: 1.0, factor: whole.lr })
    }

    fn direct_tensors(&self, whole: WholeTensors<'_>) -> Result<(Tensor, Apply)> {
        Ok((whole.g, Apply { keep: 1.0, factor: whole.lr }))
    }

    fn weight_decay(&self) -> f64 {
        0.0
    }
}

impl Rule for Faulty {
    type Memory = Memory;

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        match self.0 {
            Fault::Place => vec!["momentum".into()],
            Fault::Names => vec!["momentum".into(), "momentum".into()],
            Fault::Reserved => vec!["steps".into()],
            _ => vec![],
        }
    }

    fn scratch(&self) -> usize {
        usize::from(!matches!(self.0, Fault::Scratch | Fault::HostScratch))
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        let plan = |work: &[ParamStep<'_>]| Step(work.iter().map(ParamStep::lr).collect());
        match self.0 {
            Fault::Columns => chain::take_each(|work| Short(plan(work)), cx, work, memory, Outcome::Direction),
            Fault::Kept => chain::take(&Keeping, cx, work, memory, Outcome::Direction),
            Fault::HostScratch => host::directions(self, cx, work),
            Fault::Place => chain::take_each(plan, cx, work, memory, Outcome::Direction),
            _ => {
                for w in work.iter_mut() {
                    let g = w.gradient()?;
                    w.set_direction(&g)?;
                }
                Ok(vec![])
            }
        }
    }
}

#[test]
fn a_rule_that_breaks_a_contract_is_told() {
    let w = Var::ones(3, DType::F32, &Device::Cpu).unwrap();
    let step = |fault: Fault| -> Result<()> {
        let mut optimizer = Driver::from_named(vec![("w".into(), w.clone())], Faulty(fault))?;
        optimizer.step_report(&w.as_tensor().sqr()?.sum_all()?.backward()?).map(drop)
    };
    for (fault, says) in [
        (Fault::Columns, "the code of `copy`: expected columns or kept numbers within the 4 of the step, got 5"),
        (Fault::Place, "the code of `given`: expected u in the first scratch, place 1, of `w`, got Some(0)"),
        (
            Fault::Scratch,
            "the code of `w`: expected a scratch tensor for the direction (`Rule::scratch` ≥ 1), got none",
        ),
        (Fault::HostScratch, "the code of `w`: expected a scratch tensor for the direction"),
        (Fault::Kept, "the code of `one`: expected columns or kept numbers within the 0 of the step, got 1"),
        (Fault::Applies, "the code of `rule`: expected the scalars of 1 updates from `directions`, got 0"),
        (Fault::Names, "the code of `faulty`: expected names of buffers and numbers that differ"),
        (Fault::Reserved, "also from `steps`, `accumulated`, `compensation`, `trained`, got `steps` again"),
    ] {
        let error = step(fault).unwrap_err().to_string();
        assert!(error.contains(says), "{fault:?}: {error}");
        assert_eq!(w.to_vec1::<f32>().unwrap(), [1.0; 3], "{fault:?}");
    }
}
