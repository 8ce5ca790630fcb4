//! Optimizers that treat every element alike: they give a direction u, and θ ← θ − η·u is done for them.

use std::cell::RefCell;

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::slot::{GradientMap, State, Work, compute_dtype};
use crate::{Decay, Float, Result, Rule, StepContext};

/// An optimizer whose update of an element depends on that element's parameter, gradient and state alone.
///
/// Implementing this gives a [`Rule`]: both computing paths, weight decay, threads, half precision.
pub trait Elementwise: Clone + Send + Sync + 'static {
    /// Name in configurations and saved state.
    const KIND: &'static str;

    /// What is the same for all elements of a tensor in a step, in the type that is computed in.
    type Scalars<T: Float>: Copy + Send + Sync;

    /// See [`Rule::validate`].
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the first hyper-parameter out of range.
    fn validate(&self) -> Result<()>;
    /// See [`Rule::learning_rate`].
    fn learning_rate(&self) -> f64;
    /// See [`Rule::set_learning_rate`].
    fn set_learning_rate(&mut self, lr: f64);
    /// Weight decay; the driver applies it.
    fn weight_decay(&self) -> Decay;
    /// See [`Rule::buffers`].
    fn buffers(&self) -> Vec<&'static str>;

    /// Bias corrections and the like for the `t`-th step (from 1) of a tensor.
    fn scalars<T: Float>(&self, t: u64) -> Self::Scalars<T>;

    /// The direction u of one element, and its new state, from its gradient (coupled decay already added) and its state: a number
    /// for each of the N buffers, of which there may be three. It is compiled for every N, so guard what indexes `state`. Mark it `#[inline(always)]`: it becomes the body of a vectorised loop.
    fn direction<T: Float, const N: usize>(k: &Self::Scalars<T>, g: T, state: [T; N]) -> (T, [T; N]);

    /// The same on tensors, for devices other than the CPU.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn direction_tensor(&self, t: u64, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<Tensor>;
}

/// Elements that a task works on. Longer than the chunks of what has sums: no result depends on it, and memory streams better.
const STRETCH: usize = 4 * CHUNK;

impl<R: Elementwise> Rule for R {
    const KIND: &'static str = <R as Elementwise>::KIND;
    type Memory = ();

    fn validate(&self) -> Result<()> {
        Elementwise::validate(self)
    }

    fn learning_rate(&self) -> f64 {
        Elementwise::learning_rate(self)
    }

    fn set_learning_rate(&mut self, lr: f64) {
        Elementwise::set_learning_rate(self, lr);
    }

    fn buffers(&self) -> Vec<&'static str> {
        Elementwise::buffers(self)
    }

    fn step(&self, _: &StepContext, work: &mut [Work<'_>], (): &mut ()) -> Result<()> {
        let elements: usize = work.iter().map(|w| w.grad.elem_count()).sum();
        // Whole tensors go to threads in one region; the large ones are split further inside it.
        if cpu::worth_threads(elements) {
            work.par_iter_mut().try_for_each(|w| step_one(self, w))
        } else {
            work.iter_mut().try_for_each(|w| step_one(self, w))
        }
    }
}

fn step_one<R: Elementwise>(rule: &R, w: &mut Work<'_>) -> Result<()> {
    match (&w.slot.state, w.grad.dtype()) {
        (State::Tensors(_), _) => step_tensor(rule, w),
        (State::F64(_), _) => step_cpu::<R, f64>(rule, w),
        (State::F32(_), DType::F16) => step_cpu::<R, f16>(rule, w),
        (State::F32(_), DType::BF16) => step_cpu::<R, bf16>(rule, w),
        (State::F32(_), _) => step_cpu::<R, f32>(rule, w),
    }
}

fn step_tensor<R: Elementwise>(rule: &R, w: &mut Work<'_>) -> Result<()> {
    let decay = decay(rule, w);
    let State::Tensors(state) = &mut w.slot.state else { return Ok(()) };
    let var = &w.slot.var;
    if var.elem_count() == 0 {
        return Ok(());
    }
    let dtype = compute_dtype(var.dtype());
    let mut theta = var.as_detached_tensor().to_dtype(dtype)?;
    let mut g = w.map.apply_tensor(w.grad.to_dtype(dtype)?)?;
    match decay {
        Decay::Coupled(wd) if wd != 0.0 => g = (g + (&theta * wd)?)?,
        Decay::Decoupled(wd) if wd != 0.0 => theta = (theta * (1.0 - w.lr * wd))?,
        _ => {}
    }
    let u = rule.direction_tensor(w.slot.steps, &g, state)?;
    var.set(&(theta - (u * w.lr)?)?.to_dtype(var.dtype())?)?;
    Ok(())
}

/// A chunk of one tensor: what one task works on.
struct Chunk<'a, E: Element> {
    theta: &'a mut [E],
    g: &'a [E],
    state: Vec<&'a mut [E::Compute]>,
}

/// The in-place operation that candle lends θ and g to.
struct Step<'a, R: Elementwise, E: Element> {
    scalars: Scalars<R::Scalars<E::Compute>, E::Compute>,
    state: RefCell<&'a mut [Vec<E::Compute>]>,
}

/// What is the same for all elements: the rule's part, and the driver's.
#[derive(Clone, Copy)]
struct Scalars<K, T> {
    k: K,
    map: GradientMap,
    coupled: T,
    keep: T,
    lr: T,
}

fn step_cpu<R: Elementwise, E: Element>(rule: &R, w: &mut Work<'_>) -> Result<()> {
    let real = <E::Compute as Float>::from_f64;
    let (coupled, keep) = match decay(rule, w) {
        Decay::Coupled(wd) => (wd, 1.0),
        Decay::Decoupled(wd) => (0.0, 1.0 - w.lr * wd),
    };
    let (k, map, lr) = (rule.scalars::<E::Compute>(w.slot.steps), w.map, real(w.lr));
    let state = RefCell::new(E::buffers(&mut w.slot.state));
    let op = Step::<R, E> { scalars: Scalars { k, map, coupled: real(coupled), keep: real(keep), lr }, state };
    Ok(w.slot.var.inplace_op2(&w.grad, &op)?)
}

/// The rule's decay with this parameter's strength.
fn decay<R: Elementwise>(rule: &R, w: &Work<'_>) -> Decay {
    match rule.weight_decay() {
        Decay::Coupled(wd) => Decay::Coupled(w.weight_decay(wd)),
        Decay::Decoupled(wd) => Decay::Decoupled(w.weight_decay(wd)),
    }
}

impl<R: Elementwise, E: Element> InplaceOp2 for Step<'_, R, E> {
    fn name(&self) -> &'static str {
        R::KIND
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let theta = cpu::slice_mut::<E>(s1, l1)?;
        let g = cpu::slice::<E>(s2, l2)?;
        let mut state = self.state.borrow_mut();
        let mut buffers: Vec<_> = state.iter_mut().map(|b| b.chunks_mut(STRETCH)).collect();
        let chunks: Vec<Chunk<'_, E>> = theta
            .chunks_mut(STRETCH)
            .zip(g.chunks(STRETCH))
            .map(|(theta, g)| Chunk { theta, g, state: buffers.iter_mut().filter_map(Iterator::next).collect() })
            .collect();
        let scalars = self.scalars;
        cpu::for_each(
            chunks,
            #[inline(always)]
            |chunk| run::<R, E>(&scalars, chunk),
        );
        Ok(())
    }
}

/// Decay, direction and update of one chunk.
#[inline(always)]
fn run<R: Elementwise, E: Element>(scalars: &Scalars<R::Scalars<E::Compute>, E::Compute>, chunk: Chunk<'_, E>) {
    let zero = <E::Compute as Float>::ZERO;
    let Chunk { theta, g, mut state } = chunk;
    let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
    let mut at = 0;
    while at < g.len() {
        let end = (at + E::SPAN).min(g.len());
        let g = E::read(&g[at..end], &mut wide_g);
        E::edit(
            &mut theta[at..end],
            &mut wide_theta,
            #[inline(always)]
            |theta| match state.as_mut_slice() {
                [] => update::<R, _, 0>(scalars, theta, g, []),
                [a] => update::<R, _, 1>(scalars, theta, g, [&mut a[at..end]]),
                [a, b] => update::<R, _, 2>(scalars, theta, g, [&mut a[at..end], &mut b[at..end]]),
                [a, b, c, ..] => {
                    update::<R, _, 3>(scalars, theta, g, [&mut a[at..end], &mut b[at..end], &mut c[at..end]]);
                }
            },
        );
        at = end;
    }
}

/// One loop over everything that an element has, so that all of memory streams at once: block by block, one array after the other,
/// it is half as fast.
#[inline(always)]
fn update<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: &mut [T],
    g: &[T],
    mut state: [&mut [T]; N],
) {
    let Scalars { k, map, coupled, keep, lr } = *scalars;
    let (mapped, scale, limit) = (map != GradientMap::IDENTITY, T::from_f64(map.scale), T::from_f64(map.limit));
    let decays = coupled != T::ZERO;
    let n = theta.len();
    let g = &g[..n];
    for buffer in &mut state {
        *buffer = &mut std::mem::take(buffer)[..n];
    }
    for i in 0..n {
        let mut u = if mapped { (scale * g[i]).clip(-limit, limit) } else { g[i] };
        if decays {
            u += coupled * theta[i];
        }
        let now: [T; N] = std::array::from_fn(|b| state[b][i]);
        let (u, new) = R::direction(&k, u, now);
        for b in 0..N {
            state[b][i] = new[b];
        }
        theta[i] = keep * theta[i] - lr * u;
    }
}
