//! θ ← keep·θ − factor·u, with u in a parameter's first scratch: the end of every step that is not fused into one loop.

use std::cell::Cell;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, Var};
use np_trace::Number;
use rayon::prelude::*;

use crate::config::decay::Decay;
use crate::cpu;
use crate::cpu::CHUNK;
use crate::cpu::sums::square_sum;
use crate::element::{BLOCK, Element, dispatch};
use crate::error::{Result, contract};
use crate::param_state::ParamState;
use crate::param_step::ParamStep;
use crate::rounder::Rounder;
use crate::state::State;

/// The two scalars of a parameter's update, θ ← keep·θ − factor·u.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apply {
    /// 1, or less with decoupled or proximal weight decay (1 − η·wd, 1/(1 + η·wd)).
    pub keep: f64,
    /// η times any other scale of the direction.
    pub factor: f64,
}

impl Apply {
    /// The update of size `step` with weight decay `decay`. Coupled decay and decay inside the formula are part of u already and change neither scalar.
    #[must_use]
    pub fn new(step: f64, decay: Decay) -> Self {
        match decay {
            Decay::Coupled(_) | Decay::Inside(_) => Self { keep: 1.0, factor: step },
            Decay::Decoupled(wd) => Self { keep: 1.0 - step * wd, factor: step },
            Decay::Proximal(wd) => Self { keep: 1.0 / (1.0 + step * wd), factor: step / (1.0 + step * wd) },
        }
    }
}

/// What applying sums on its way through the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seeing {
    /// Nothing.
    Nothing,
    /// Σθ², of θ before the update.
    Squares,
}

/// Applies the directions of all of `work`; returns Σθ² of each with [`Seeing::Squares`], else zeros.
///
/// # Errors
/// [`Error::Rule`](crate::Error::Rule) if there is not one of `applies` for each of `work`; those of candle.
pub fn apply_all(work: &mut [ParamStep<'_>], applies: &[Apply], seeing: Seeing) -> Result<Vec<f64>> {
    one_each(work, applies)?;
    if cpu::worth_threads(work.iter().map(|w| w.grad.elem_count()).sum()) {
        work.par_iter_mut().with_max_len(1).zip(applies).map(|(w, how)| apply_one(w, *how, seeing)).collect()
    } else {
        work.iter_mut().zip(applies).map(|(w, how)| apply_one(w, *how, seeing)).collect()
    }
}

/// `Ok` if there is one of `applies` for each of `work`.
pub(crate) fn one_each(work: &[ParamStep<'_>], applies: &[Apply]) -> Result<()> {
    contract(applies.len() == work.len(), "rule", || {
        (format!("the scalars of {} updates from `directions`", work.len()), applies.len().to_string())
    })
}

fn apply_one(w: &mut ParamStep<'_>, how: Apply, seeing: Seeing) -> Result<f64> {
    if w.param.var.elem_count() == 0 {
        // Candle takes a stride of 0 for numbers that are repeated.
        return Ok(0.0);
    }
    let u = w.param.buffers.len();
    w.param.has_scratch()?;
    if let State::Tensors(state) = &w.param.state {
        let u = state[u].clone();
        return apply_tensor(w.param, &u, how, seeing);
    }
    let (var, state, rounder) = w.param.rounder();
    dispatch!(var.dtype(), E => apply::<E>(var, &E::buffers(state)[u], rounder, how, seeing))
}

fn apply_tensor(param: &mut ParamState, u: &Tensor, how: Apply, seeing: Seeing) -> Result<f64> {
    if u.elem_count() == 0 {
        return Ok(0.0);
    }
    let theta = param.theta()?;
    let squares = match seeing {
        Seeing::Nothing => 0.0,
        Seeing::Squares => theta.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar()?,
    };
    param.write(&((theta * how.keep)? - (u * how.factor)?)?)?;
    Ok(squares)
}

/// What one task works on.
struct Chunk<'a, E: Element> {
    theta: &'a mut [E],
    u: &'a [E::Compute],
    squares: &'a mut f64,
    rounder: Rounder<'a>,
}

/// The candle in-place operation that updates θ, which gives access to its memory.
struct ApplyTo<'a, E: Element> {
    u: &'a [E::Compute],
    keep: E::Compute,
    factor: E::Compute,
    seeing: Seeing,
    squares: Cell<f64>,
    rounder: Cell<Rounder<'a>>,
}

fn apply<E: Element>(var: &Var, u: &[E::Compute], rounder: Rounder<'_>, how: Apply, seeing: Seeing) -> Result<f64> {
    let real = <E::Compute as Number>::from_f64;
    let (keep, factor, squares) = (real(how.keep), real(how.factor), Cell::new(0.0));
    let op = ApplyTo::<E> { u, keep, factor, seeing, squares, rounder: Cell::new(rounder) };
    var.inplace_op1(&op)?;
    Ok(op.squares.get())
}

impl<E: Element> InplaceOp1 for ApplyTo<'_, E> {
    fn name(&self) -> &'static str {
        "apply"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let theta = cpu::slice_mut::<E>(storage, layout)?;
        let (keep, factor, seeing) = (self.keep, self.factor, self.seeing);
        let mut squares = vec![0.0; theta.len().div_ceil(CHUNK)];
        let rounders = self.rounder.replace(Rounder::Nearest).stretches(theta.chunks(CHUNK).map(<[E]>::len));
        let each = theta.chunks_mut(CHUNK).zip(self.u.chunks(CHUNK)).zip(&mut squares).zip(rounders);
        let chunks = each.map(|(((theta, u), squares), rounder)| Chunk::<'_, E> { theta, u, squares, rounder });
        cpu::for_each(
            chunks.collect(),
            #[inline(always)]
            |Chunk { theta, u, squares, mut rounder }: Chunk<'_, E>| {
                let mut wide = [<E::Compute as Number>::ZERO; BLOCK];
                for (i, (theta, u)) in theta.chunks_mut(BLOCK).zip(u.chunks(BLOCK)).enumerate() {
                    let rounder = rounder.part(i * BLOCK, i * BLOCK + theta.len());
                    E::edit(
                        theta,
                        &mut wide,
                        rounder,
                        #[inline(always)]
                        |theta| {
                            if seeing == Seeing::Squares {
                                *squares += square_sum(theta);
                            }
                            theta.iter_mut().zip(u).for_each(|(theta, u)| *theta = keep * *theta - factor * *u);
                        },
                    );
                }
            },
        );
        self.squares.set(squares.iter().sum());
        Ok(())
    }
}
