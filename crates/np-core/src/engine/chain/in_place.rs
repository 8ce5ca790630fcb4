//! The last pass of a step on the CPU together with the update of θ, block by block, so that u stays in the cache.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage};
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
        if let Some(place) = places.iter().position(|place| *place == Some(k)).filter(|place| *place != u) {
            slices[place] = data;
        }
    }
    let (g, layout) = grad.storage_and_layout();
    let Storage::Cpu(g) = &*g else {
        return Err(candle_core::Error::Msg("expected a gradient on the CPU".to_string()).into());
    };
    let (g, state) = (cpu::slice::<E>(g, layout)?, Cell::new(slices));
    let [keep, factor] = [how.keep, how.factor].map(<E::Compute as Number>::from_f64);
    Ok(var.inplace_op1(&Finish { formula, u, tensor, numbers, g, map: *map, state, keep, factor })?)
}

/// The candle in-place operation, which gives access to the memory of θ.
struct Finish<'a, F, E: Element> {
    formula: &'a F,
    u: usize,
    tensor: usize,
    numbers: &'a [f64],
    g: &'a [E],
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

impl<F: Formula, E: Element> InplaceOp1 for Finish<'_, F, E> {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Self { formula, u, tensor, numbers, g, map, keep, factor, .. } = self;
        let theta = cpu::slice_mut::<E>(storage, layout)?;
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
                            let mut state = state.each_mut().map(|data| match data.is_empty() {
                                true => &mut [],
                                false => &mut data[i * BLOCK..i * BLOCK + n],
                            });
                            state[*u] = &mut direction[..n];
                            let spare = spare.each_mut().map(|data| &mut data[..]);
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
