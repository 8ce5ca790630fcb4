//! A pass over one parameter that updates state element by element and adds up sums: what rules are made of whose elements are coupled
//! through norms.

use candle_core::{DType, Storage, Tensor};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::engine::cpu;
use crate::engine::cpu::CHUNK;
use crate::engine::element::{BLOCK, Element};
use crate::engine::gradients::Squares;
use crate::engine::number::{Float, Number};
use crate::engine::param_state::{State, compute_dtype};
use crate::engine::param_step::ParamStep;
use crate::error::Result;

/// Most tensors of state and scratch that a pass sees.
const MOST: usize = 8;

/// What a pass sees of a block of elements.
pub(crate) struct Block<'a, 'b, T> {
    pub(crate) theta: &'a [T],
    /// The gradient, accumulated and clipped.
    pub(crate) g: &'a [T],
    /// Buffers, then scratch.
    pub(crate) state: &'a mut [&'b mut [T]],
}

/// A pass that gives S sums over elements.
pub(crate) trait Pass<const S: usize>: Sync {
    /// Updates the state of a block and gives its sums. Mark it `#[inline(always)]`: it becomes the body of vectorised loops.
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; S];

    /// The same on tensors; sums as tensors of no dimension.
    ///
    /// # Errors
    /// Those of candle's operations.
    fn tensors(&self, theta: &Tensor, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; S]>;
}

/// Runs `f` on every parameter, on all threads where that pays.
pub(crate) fn for_each<T: Send>(
    work: &mut [ParamStep<'_>],
    f: impl Fn(&mut ParamStep<'_>) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    if cpu::worth_threads(work.iter().map(|w| w.grad.elem_count()).sum()) {
        work.par_iter_mut().map(f).collect()
    } else {
        work.iter_mut().map(f).collect()
    }
}

/// Runs `pass` on a parameter.
pub(crate) fn run<const S: usize>(w: &mut ParamStep<'_>, pass: &impl Pass<S>) -> Result<[f64; S]> {
    match (&w.param.state, w.grad.dtype()) {
        (State::Tensors(_), _) => run_tensors(w, pass),
        (State::F64(_), _) => run_cpu::<f64, S>(w, pass),
        (State::F32(_), DType::F16) => run_cpu::<f16, S>(w, pass),
        (State::F32(_), DType::BF16) => run_cpu::<bf16, S>(w, pass),
        (State::F32(_), _) => run_cpu::<f32, S>(w, pass),
    }
}

/// What a norm is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Theta,
    Gradient,
    /// Buffers, then scratch, by number.
    State(usize),
}

/// The root of Σx², which a pass has given; worked out again where that is out of range.
pub(crate) fn norm(w: &mut ParamStep<'_>, squares: f64, of: Of) -> Result<f64> {
    let scale = match squares {
        f64::INFINITY => Squares::SMALLER,
        0.0 => Squares::LARGER,
        _ => return Ok(squares.sqrt()),
    };
    let [squares] = run(w, &Scaled { of, scale })?;
    Ok(squares.sqrt() / scale)
}

/// Σ(scale · x)².
struct Scaled {
    of: Of,
    scale: f64,
}

impl Pass<1> for Scaled {
    #[inline(always)]
    fn block<T: Float>(&self, block: Block<'_, '_, T>) -> [f64; 1] {
        let xs: &[T] = match self.of {
            Of::Theta => block.theta,
            Of::Gradient => block.g,
            Of::State(k) => &*block.state[k],
        };
        [xs.iter().map(|x| (x.to_f64() * self.scale).powi(2)).sum()]
    }

    fn tensors(&self, theta: &Tensor, g: &Tensor, state: &mut [Tensor]) -> candle_core::Result<[Tensor; 1]> {
        let x = match self.of {
            Of::Theta => theta,
            Of::Gradient => g,
            Of::State(k) => &state[k],
        };
        // Metal has no double precision; single keeps what it can there.
        let x = if x.device().is_metal() { x.clone() } else { x.to_dtype(DType::F64)? };
        Ok([(x * self.scale)?.sqr()?.sum_all()?])
    }
}

fn run_tensors<const S: usize>(w: &mut ParamStep<'_>, pass: &impl Pass<S>) -> Result<[f64; S]> {
    let State::Tensors(state) = &mut w.param.state else { return Ok([0.0; S]) };
    if w.param.var.elem_count() == 0 {
        return Ok([0.0; S]);
    }
    let dtype = compute_dtype(w.param.var.dtype());
    let theta = w.param.var.as_detached_tensor().to_dtype(dtype)?;
    let g = w.map.apply_tensor(w.grad.to_dtype(dtype)?)?;
    let sums = pass.tensors(&theta, &g, state)?;
    if S == 0 {
        return Ok([0.0; S]);
    }
    let values = Tensor::stack(&sums, 0)?.to_dtype(DType::F64)?.to_vec1()?;
    Ok(std::array::from_fn(|i| values[i]))
}

struct Chunk<'a, E: Element, const S: usize> {
    theta: &'a [E],
    g: &'a [E],
    state: Vec<&'a mut [E::Compute]>,
    sums: &'a mut [f64; S],
}

fn run_cpu<E: Element, const S: usize>(w: &mut ParamStep<'_>, pass: &impl Pass<S>) -> Result<[f64; S]> {
    let elements = w.grad.elem_count();
    let (g, g_layout) = w.grad.storage_and_layout();
    let (theta, theta_layout) = w.param.var.storage_and_layout();
    let (Storage::Cpu(g), Storage::Cpu(theta)) = (&*g, &*theta) else {
        return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
    };
    let (g, theta) = (cpu::slice::<E>(g, g_layout)?, cpu::slice::<E>(theta, theta_layout)?);
    let mut partial = vec![[0.0; S]; elements.div_ceil(CHUNK)];
    // What has another shape than the parameter is not the pass's business; it sees an empty slice there.
    let mut buffers: Vec<_> = E::buffers(&mut w.param.state)
        .iter_mut()
        .map(|b| if b.len() == elements { b.chunks_mut(CHUNK) } else { b[..0].chunks_mut(CHUNK) })
        .collect();
    let mut chunks = Vec::with_capacity(partial.len());
    for ((theta, g), sums) in theta.chunks(CHUNK).zip(g.chunks(CHUNK)).zip(&mut partial) {
        let state = buffers.iter_mut().map(|b| b.next().unwrap_or_default()).collect();
        chunks.push(Chunk::<E, S> { theta, g, state, sums });
    }
    let map = w.map;
    cpu::for_each(
        chunks,
        #[inline(always)]
        |mut chunk: Chunk<'_, E, S>| {
            let zero = <E::Compute as Number>::ZERO;
            let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
            let mut at = 0;
            while at < chunk.g.len() {
                let end = (at + BLOCK).min(chunk.g.len());
                let g = E::read_mapped(&chunk.g[at..end], map, &mut wide_g);
                let theta = E::read(&chunk.theta[at..end], &mut wide_theta);
                let mut all = chunk.state.iter_mut();
                let mut state: [&mut [E::Compute]; MOST] = std::array::from_fn(|_| match all.next() {
                    Some(s) if !s.is_empty() => &mut s[at..end],
                    _ => &mut [],
                });
                let sums = pass.block(Block { theta, g, state: &mut state });
                chunk.sums.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
                at = end;
            }
        },
    );
    let mut total = [0.0; S];
    for sums in &partial {
        total.iter_mut().zip(sums).for_each(|(total, x)| *total += x);
    }
    Ok(total)
}
