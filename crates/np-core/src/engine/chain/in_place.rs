//! The last pass of a step on the CPU together with the update of θ, block by block, so that u stays in the cache.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp2, Layout};
use np_cuda::table::BUFFERS;
use np_trace::Number;

use super::host::Slices;
use super::{Block, Formula};
use crate::engine::apply::Apply;
use crate::engine::cpu;
use crate::engine::cpu::CHUNK;
use crate::engine::element::{BLOCK, Element};
use crate::engine::gradient_map::GradientMap;
use crate::engine::param_state::ParamState;
use crate::engine::param_step::ParamStep;
use crate::engine::rounder::Rounder;
use crate::error::Result;

/// Runs `formula`, which writes u to state `u` and sums nothing, on a parameter in single or double precision; and applies u. `places` are those of
/// [`super::Step::places`], `numbers` the tensor's row.
pub(super) fn finish<E: Element>(
    (formula, u): (&impl Formula, usize),
    (tensor, numbers): (usize, &[f64]),
    w: &mut ParamStep<'_>,
    places: &[Option<usize>; BUFFERS],
    how: Apply,
) -> Result<()> {
    let ParamStep { param, grad, map, .. } = w;
    let ParamState { var, state, .. } = &mut **param;
    let mut slices = Slices::<E>::default();
    for (k, data) in E::buffers(state).iter_mut().enumerate() {
        let place = places.iter().position(|place| *place == Some(k)).filter(|place| *place != u);
        // What has another shape than the parameter is not a pass's business.
        if let Some(place) = place.filter(|_| data.len() == grad.elem_count()) {
            slices[place] = data;
        }
    }
    let state = Cell::new(slices);
    let [keep, factor] = [how.keep, how.factor].map(<E::Compute as Number>::from_f64);
    Ok(var.inplace_op2(grad, &Finish::<_, E> { formula, u, tensor, numbers, map: *map, state, keep, factor })?)
}

/// The candle in-place operation, which gives access to the memory of θ.
struct Finish<'a, F, E: Element> {
    formula: &'a F,
    u: usize,
    tensor: usize,
    numbers: &'a [f64],
    map: GradientMap,
    state: Cell<Slices<'a, E>>,
    keep: E::Compute,
    factor: E::Compute,
}

/// What one task works on.
struct Chunk<'a, E: Element> {
    theta: &'a mut [E],
    g: &'a [E],
    state: Slices<'a, E>,
}

impl<F: Formula, E: Element> InplaceOp2 for Finish<'_, F, E> {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let Self { formula, u, tensor, numbers, map, keep, factor, .. } = self;
        let (theta, g) = (cpu::slice_mut::<E>(s1, l1)?, cpu::slice::<E>(s2, l2)?);
        let mut state = self.state.take().map(|data| data.chunks_mut(CHUNK));
        let each = theta.chunks_mut(CHUNK).zip(g.chunks(CHUNK)).map(|(theta, g)| {
            let state = state.each_mut().map(|chunks| chunks.next().unwrap_or_default());
            Chunk::<'_, E> { theta, g, state }
        });
        cpu::for_each(
            each.collect(),
            #[inline(always)]
            |Chunk { theta, g, mut state }: Chunk<'_, E>| {
                let zero = <E::Compute as Number>::ZERO;
                let (mut wide, mut wide_g, mut direction) = ([zero; BLOCK], [zero; BLOCK], [zero; BLOCK]);
                let mut spare = [[zero; BLOCK]; 3];
                for (i, (theta, g)) in theta.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).enumerate() {
                    let n = theta.len();
                    let g = E::read_mapped(g, *map, &mut wide_g);
                    E::edit(
                        theta,
                        &mut wide,
                        Rounder::Nearest,
                        #[inline(always)]
                        |theta| {
                            let mut state = state.each_mut().map(
                                #[inline(always)]
                                |data| match data.is_empty() {
                                    true => &mut [],
                                    false => &mut data[i * BLOCK..i * BLOCK + n],
                                },
                            );
                            state[*u] = &mut direction[..n];
                            let spare = spare.each_mut().map(
                                #[inline(always)]
                                |data| &mut data[..],
                            );
                            formula.block(*tensor, Block { theta, g, state, spare }, numbers, &mut []);
                            theta
                                .iter_mut()
                                .zip(&direction)
                                .for_each(|(theta, u)| *theta = *keep * *theta - *factor * *u);
                        },
                    );
                }
            },
        );
        Ok(())
    }
}
