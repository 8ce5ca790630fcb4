//! θ ← keep·θ − factor·u, with u in a parameter's first scratch: how the steps of all rules end that are not fused into one loop.

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Tensor, Var};
use half::{bf16, f16};
use rayon::prelude::*;

use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::slot::State;
use crate::{Decay, Float, Result, Work};

/// θ ← keep·θ − factor·u.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apply {
    /// 1, or what a decoupled weight decay leaves.
    pub keep: f64,
    /// η, with whatever else the direction is scaled by.
    pub factor: f64,
}

impl Apply {
    /// A step of size `step` with weight decay `decay`; what is coupled or inside has been done by then.
    #[must_use]
    pub fn new(step: f64, decay: Decay) -> Self {
        match decay {
            Decay::Coupled(_) | Decay::Inside(_) => Self { keep: 1.0, factor: step },
            Decay::Decoupled(wd) => Self { keep: 1.0 - step * wd, factor: step },
            Decay::Proximal(wd) => Self { keep: 1.0 / (1.0 + step * wd), factor: step / (1.0 + step * wd) },
        }
    }
}

/// Does so for all of `work`.
pub(crate) fn apply_all(work: &mut [Work<'_>], applies: &[Apply]) -> Result<()> {
    if cpu::worth_threads(work.iter().map(|w| w.grad.elem_count()).sum()) {
        work.par_iter_mut().zip(applies).try_for_each(|(w, how)| apply_one(w, *how))
    } else {
        work.iter_mut().zip(applies).try_for_each(|(w, how)| apply_one(w, *how))
    }
}

fn apply_one(w: &mut Work<'_>, how: Apply) -> Result<()> {
    let (var, u) = (&w.slot.var, w.slot.buffers.len());
    match (&w.slot.state, w.grad.dtype()) {
        (State::Tensors(state), _) => apply_tensor(var, &state[u], how),
        (State::F64(state), _) => apply::<f64>(var, &state[u], how),
        (State::F32(state), DType::F16) => apply::<f16>(var, &state[u], how),
        (State::F32(state), DType::BF16) => apply::<bf16>(var, &state[u], how),
        (State::F32(state), _) => apply::<f32>(var, &state[u], how),
    }
}

fn apply_tensor(var: &Var, u: &Tensor, how: Apply) -> Result<()> {
    if var.elem_count() == 0 {
        return Ok(());
    }
    let theta = var.as_detached_tensor().to_dtype(u.dtype())?;
    Ok(var.set(&((theta * how.keep)? - (u * how.factor)?)?.to_dtype(var.dtype())?)?)
}

/// The in-place operation that candle lends θ to.
struct ApplyTo<'a, E: Element> {
    u: &'a [E::Compute],
    keep: E::Compute,
    factor: E::Compute,
}

fn apply<E: Element>(var: &Var, u: &[E::Compute], how: Apply) -> Result<()> {
    let real = <E::Compute as Float>::from_f64;
    Ok(var.inplace_op1(&ApplyTo::<E> { u, keep: real(how.keep), factor: real(how.factor) })?)
}

impl<E: Element> InplaceOp1 for ApplyTo<'_, E> {
    fn name(&self) -> &'static str {
        "apply"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let theta = cpu::slice_mut::<E>(storage, layout)?;
        let chunks: Vec<_> = theta.chunks_mut(CHUNK).zip(self.u.chunks(CHUNK)).collect();
        let (keep, factor) = (self.keep, self.factor);
        cpu::for_each(
            chunks,
            #[inline(always)]
            |(theta, u)| {
                let mut wide = [<E::Compute as Float>::ZERO; BLOCK];
                for (theta, u) in theta.chunks_mut(BLOCK).zip(u.chunks(BLOCK)) {
                    E::edit(
                        theta,
                        &mut wide,
                        #[inline(always)]
                        |theta| {
                            theta.iter_mut().zip(u).for_each(|(theta, u)| *theta = keep * *theta - factor * *u);
                        },
                    );
                }
            },
        );
        Ok(())
    }
}
