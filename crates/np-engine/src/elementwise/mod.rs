//! Optimizers that treat every element alike: each gives the direction u of an element; the update θ ← θ − η·u is implemented here.

#[doc(hidden)]
pub mod device;
#[doc(hidden)]
pub mod launched;
mod loops;
#[doc(hidden)]
pub mod plan;
mod trace;

use std::cell::{Cell, RefCell};

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use np_trace::interpret::Program;
use np_trace::{Number, Outcome, Traced};

use crate::apply::Apply;
use crate::backend::Backend;
use crate::buffer::Buffer;
use crate::config::decay::Decay;
use crate::config::hyper::HyperParameters;
use crate::cpu;
use crate::cpu::CHUNK;
use crate::element::{BLOCK, Element, dispatch};
use crate::error::{Result, contract};
use crate::gradient_map::GradientMap;
use crate::param_step::{ParamStep, for_each};
use crate::rounder::Rounder;
use crate::rule::{Rule, StepContext};
use crate::state::State;
use device::Launches;
use loops::{Around, Slices, has, update};
use trace::{step_tensors, trace};

/// An optimizer whose update of an element depends on that element's parameter, gradient and state alone.
///
/// [`Rule`] is implemented for every type that implements this. That includes the vectorised loop on the CPU, CUDA kernels, tensor operations on
/// other devices, weight decay, threads and half precision.
pub trait Elementwise: HyperParameters {
    /// Names of the tensors of state kept for each parameter. They have the parameter's shape and the value [`Elementwise::initial`] before the first
    /// step. Implement [`Elementwise::buffers`] and [`Elementwise::COUNTS`] instead where they depend on the configuration.
    const BUFFERS: &'static [&'static str] = &[];

    /// See [`Rule::keeps_squares`].
    const SQUARES: bool = false;

    /// See [`Rule::momentum`].
    const MOMENTUM: Option<&'static str> = None;

    /// Smallest and largest number of buffers that a configuration may have, 4 at most: loops are compiled for these counts only. By default the
    /// length of [`Elementwise::BUFFERS`], twice.
    const COUNTS: [usize; 2] = [Self::BUFFERS.len(); 2];

    /// The numbers of a step that are the same for all elements of a tensor (β, ε, bias corrections), in the type of the computation.
    type Scalars<T: Number>: Copy + Send + Sync;

    /// Weight decay: where it enters, and its strength where no group sets another.
    fn weight_decay(&self) -> Decay;
    /// The tensors of state kept for each parameter. They must have its shape, and their number must lie within [`Elementwise::COUNTS`].
    fn buffers(&self) -> Vec<Buffer> {
        Self::BUFFERS.iter().map(|name| Buffer::new(*name).filled(self.initial())).collect()
    }
    /// The value of [`Elementwise::BUFFERS`] before the first step; 0 by default.
    fn initial(&self) -> f64 {
        0.0
    }

    /// See [`Rule::numbers`].
    fn numbers(&self) -> &'static [(&'static str, f64)] {
        &[]
    }

    /// The factor on u in θ ← θ − factor·u; η by default.
    fn step_size(&self, at: &StepInfo<'_>) -> f64 {
        at.lr
    }

    /// The scalars of a tensor's step. They depend on `self` and `at` alone: in one step this may be called several times for a tensor, or once for several
    /// tensors. It may update `at.numbers`. [`Elementwise::step_size`] is called before it, and sees the numbers as the last step left them.
    fn scalars<T: Number>(&self, at: &mut StepInfo<'_>) -> Self::Scalars<T>;

    /// The direction u of one element and its new state, from the parameter `theta`, its gradient `g` (coupled weight decay already added) and its
    /// state, one number for each of the N buffers. It is compiled for every N within [`Elementwise::COUNTS`]: guard indices into `state` if there
    /// are several. Mark it `#[inline(always)]`, because it becomes the body of a vectorised loop.
    ///
    /// The formula is written only here. Called with symbols, it gives the [expression](np_trace) that other devices compute. So it may branch
    /// only on values that are the same for all elements and not of type `T`, such as N and flags in `k`. Use [`Number::select_lt`] to choose between numbers.
    fn direction<T: Number, const N: usize>(k: &Self::Scalars<T>, theta: T, g: T, state: [T; N]) -> (T, [T; N]);

    /// See [`Rule::momentum`].
    fn momentum(&self) -> Option<&'static str> {
        Self::MOMENTUM
    }

    /// See [`Rule::average`].
    ///
    /// # Errors
    /// Those of candle's operations.
    fn average(&self, _theta: &Tensor, _buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// The step of a tensor that scalars are computed for.
#[derive(Debug)]
pub struct StepInfo<'a> {
    /// The tensor's own steps so far, including this one.
    pub t: u64,
    /// η, with the factors of schedule and group.
    pub lr: f64,
    /// Weight decay: the group's, or the optimizer's.
    pub weight_decay: f64,
    /// The numbers kept for the tensor, in the order of [`Elementwise::numbers`].
    pub numbers: &'a mut [f64],
}

impl StepInfo<'_> {
    /// t as an exponent for `powi`, at most `i32::MAX`.
    #[must_use]
    pub fn exponent(&self) -> i32 {
        i32::try_from(self.t).unwrap_or(i32::MAX)
    }
}

/// Elements that a task works on. No result depends on it, so it is larger than a chunk of sums: memory streams better.
const STRETCH: usize = 4 * CHUNK;
/// Bytes of a cache line.
const LINE: usize = 64;

impl<R: Elementwise> Rule for R {
    type Memory = Launches;

    fn check(&self) -> Result<()> {
        // A fault of the rule, not of its settings, and one that would show as parameters that never move.
        let ([fewest, most], buffers) = (R::COUNTS, Elementwise::buffers(self));
        let fits = (fewest..=most).contains(&buffers.len()) && most <= 4;
        contract(fits, R::KIND, || {
            let expected = format!("{fewest} to {most} buffers, as `Elementwise::COUNTS` says, and 4 at most");
            (expected, buffers.len().to_string())
        })?;
        for Buffer { name, shape, .. } in &buffers {
            contract(shape.is_none(), R::KIND, || {
                (format!("buffer `{name}` of the parameter's shape"), format!("{shape:?}"))
            })?;
        }
        self.validate()
    }

    fn buffers(&self, _: &[usize]) -> Vec<Buffer> {
        Elementwise::buffers(self)
    }

    fn numbers(&self) -> &'static [(&'static str, f64)] {
        Elementwise::numbers(self)
    }

    fn scratch(&self) -> usize {
        0
    }

    fn momentum(&self) -> Option<&'static str> {
        Elementwise::momentum(self)
    }

    fn keeps_squares(&self) -> bool {
        R::SQUARES
    }

    fn average(&self, theta: &Tensor, buffers: &[Tensor]) -> Result<Option<Tensor>> {
        Elementwise::average(self, theta, buffers)
    }

    fn trace(&self, outcome: Outcome) -> Option<Traced> {
        Some(trace::first(self, outcome))
    }

    fn clips_on_device(&self) -> bool {
        true
    }

    fn directions(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Launches) -> Result<Vec<Apply>> {
        if let Some(applies) = device::step(self, cx, work, memory, Outcome::Direction)? {
            return Ok(applies);
        }
        for_each(work, |w| step_one(self, w, Outcome::Direction, cx.backend))
    }

    fn step(&self, cx: &StepContext, work: &mut [ParamStep<'_>], memory: &mut Launches) -> Result<()> {
        if device::step(self, cx, work, memory, Outcome::Step)?.is_some() {
            return Ok(());
        }
        // Whole tensors go to threads in one region; the large ones are split further inside it.
        for_each(work, |w| step_one(self, w, Outcome::Step, cx.backend)).map(|_| ())
    }
}

fn step_one<R: Elementwise>(rule: &R, w: &mut ParamStep<'_>, outcome: Outcome, backend: Backend) -> Result<Apply> {
    match &w.param.state {
        State::Tensors(_) => step_tensors(rule, w, outcome),
        _ => dispatch!(w.grad.dtype(), E => step_cpu::<R, E>(rule, w, outcome, backend)),
    }
}

/// The step that scalars are computed for.
fn at<'a, R: Elementwise>(rule: &R, w: &'a mut ParamStep<'_>) -> StepInfo<'a> {
    let weight_decay = w.weight_decay(rule.weight_decay().strength());
    StepInfo { t: w.param.steps, lr: w.lr, weight_decay, numbers: &mut w.param.numbers }
}

/// The operations around the rule's formula, and how its direction is applied.
fn around<R: Elementwise>(rule: &R, at: &StepInfo<'_>) -> (Around<f64>, Apply) {
    let decay = rule.weight_decay().of_strength(at.weight_decay);
    let apply = Apply::new(rule.step_size(at), decay);
    let coupled = match decay {
        Decay::Coupled(wd) if wd != 0.0 => Some(wd),
        _ => None,
    };
    (Around { coupled, keep: apply.keep, factor: apply.factor }, apply)
}

/// A chunk of one tensor: what one task works on.
struct Chunk<'a, E: Element> {
    theta: &'a mut [E],
    g: &'a [E],
    state: Vec<&'a mut [E::Compute]>,
    rounder: Rounder<'a>,
}

/// The candle in-place operation that makes the step, which gives access to the memory of θ and g.
struct Step<'a, R: Elementwise, E: Element> {
    scalars: Scalars<R::Scalars<E::Compute>, E::Compute>,
    program: Option<Program<'a, E::Compute>>,
    state: RefCell<&'a mut [Vec<E::Compute>]>,
    rounder: Cell<Rounder<'a>>,
}

/// The numbers that are the same for all elements of a tensor: the rule's, and those around its formula.
#[derive(Clone, Copy)]
struct Scalars<K, T> {
    k: K,
    map: GradientMap,
    around: Around<T>,
    outcome: Outcome,
}

fn step_cpu<R: Elementwise, E: Element>(
    rule: &R,
    w: &mut ParamStep<'_>,
    outcome: Outcome,
    backend: Backend,
) -> Result<Apply> {
    let mut at = at(rule, w);
    let (mut around, apply) = around(rule, &at);
    // Decay that is nothing in the type that is computed in is none.
    around.coupled = around.coupled.filter(|wd| E::Compute::from_f64(*wd) != <E::Compute as Number>::ZERO);
    let traced = (backend == Backend::Interpreted).then(|| {
        // What moves on with a step does so below.
        let mut numbers = at.numbers.to_vec();
        trace(rule, &mut StepInfo { numbers: &mut numbers, ..at }, around, None, outcome)
    });
    let k = rule.scalars::<E::Compute>(&mut at);
    if w.param.var.elem_count() == 0 {
        // Candle takes a stride of 0 for numbers that are repeated.
        return Ok(apply);
    }
    let used = w.param.buffers.len() + usize::from(outcome == Outcome::Direction);
    let (var, state, rounder) = w.param.rounder();
    let (state, rounder) = (RefCell::new(&mut E::buffers(state)[..used]), Cell::new(rounder));
    let scalars = Scalars { k, map: w.map, around: around.cast(), outcome };
    let op = Step::<R, E> { scalars, program: traced.as_ref().map(Traced::program), state, rounder };
    var.inplace_op2(&w.grad, &op)?;
    Ok(apply)
}

impl<R: Elementwise, E: Element> InplaceOp2 for Step<'_, R, E> {
    fn name(&self) -> &'static str {
        R::KIND
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let theta = cpu::slice_mut::<E>(s1, l1)?;
        let g = cpu::slice::<E>(s2, l2)?;
        let mut state = self.state.borrow_mut();
        // Of a long tensor what lies before its first whole cache line goes first, so that no vector of the rest straddles two lines: allocators
        // that give out pages put the same few bytes before the parameter, its gradient and its state.
        let head = if theta.len() > STRETCH { theta.as_ptr().align_offset(LINE).min(STRETCH) } else { 0 };
        let (first, theta) = theta.split_at_mut(head);
        let (first_g, g) = g.split_at(head);
        let (firsts, mut buffers): (Vec<_>, Vec<_>) = state
            .iter_mut()
            .map(|b| b.split_at_mut(head))
            .map(|(first, rest)| (first, rest.chunks_mut(STRETCH)))
            .unzip();
        let (rounder, rest) = self.rounder.replace(Rounder::Nearest).split(head);
        let rounders = rest.stretches(theta.chunks(STRETCH).map(<[E]>::len));
        let first = (head > 0).then_some(Chunk { theta: first, g: first_g, state: firsts, rounder });
        let rest = theta.chunks_mut(STRETCH).zip(g.chunks(STRETCH)).zip(rounders).map(|((theta, g), rounder)| Chunk {
            theta,
            g,
            state: buffers.iter_mut().filter_map(Iterator::next).collect(),
            rounder,
        });
        let chunks: Vec<Chunk<'_, E>> = first.into_iter().chain(rest).collect();
        let (scalars, program) = (self.scalars, self.program.as_ref());
        cpu::for_each(
            chunks,
            #[inline(always)]
            |chunk| run::<R, E>(&scalars, program, chunk),
        );
        Ok(())
    }
}

/// Decay, direction and update of one chunk.
#[inline(always)]
fn run<R: Elementwise, E: Element>(
    scalars: &Scalars<R::Scalars<E::Compute>, E::Compute>,
    program: Option<&Program<'_, E::Compute>>,
    chunk: Chunk<'_, E>,
) {
    let zero = <E::Compute as Number>::ZERO;
    let Chunk { theta, g, mut state, mut rounder } = chunk;
    let state_count = state.len();
    let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
    // What a gradient's map makes of it goes through a buffer.
    let span = if scalars.map == GradientMap::IDENTITY { E::SPAN } else { BLOCK };
    let mut at = 0;
    while at < g.len() {
        let end = (at + span).min(g.len());
        let g = E::read_mapped(&g[at..end], scalars.map, &mut wide_g);
        E::edit(
            &mut theta[at..end],
            &mut wide_theta,
            rounder.part(at, end),
            #[inline(always)]
            |theta| {
                let mut buffers: Slices<'_, E::Compute> = std::array::from_fn(|_| Default::default());
                for (buffer, s) in buffers.iter_mut().zip(&mut state) {
                    *buffer = &mut s[at..end];
                }
                let out = match scalars.outcome {
                    Outcome::Direction => state_count.checked_sub(1).map(|last| std::mem::take(&mut buffers[last])),
                    Outcome::Step => None,
                };
                let count = state_count - usize::from(out.is_some());
                if let Some(program) = program {
                    return program.run(theta, g, &mut buffers[..count], out.unwrap_or_default());
                }
                let [a, b, c, d, _] = buffers;
                match count {
                    0 => {
                        if const { has::<R>(0) } {
                            update::<R, E, 0>(scalars, theta, g, [], out);
                        }
                    }
                    1 => {
                        if const { has::<R>(1) } {
                            update::<R, E, 1>(scalars, theta, g, [a], out);
                        }
                    }
                    2 => {
                        if const { has::<R>(2) } {
                            update::<R, E, 2>(scalars, theta, g, [a, b], out);
                        }
                    }
                    3 => {
                        if const { has::<R>(3) } {
                            update::<R, E, 3>(scalars, theta, g, [a, b, c], out);
                        }
                    }
                    _ => {
                        if const { has::<R>(4) } {
                            update::<R, E, 4>(scalars, theta, g, [a, b, c, d], out);
                        }
                    }
                }
            },
        );
        at = end;
    }
}
