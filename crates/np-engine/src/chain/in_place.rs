//! The last pass of a step on the CPU together with the update of θ, block by block, so that u stays in the cache.

use std::cell::Cell;

use candle_core::{CpuStorage, InplaceOp2, Layout};
use np_cuda::table::BUFFERS;
use np_trace::Float;

use super::host::Slices;
use super::{Block, Formula};
use crate::apply::Apply;
use crate::cpu;
use crate::cpu::CHUNK;
use crate::element::{BLOCK, Element};
use crate::error::Result;
use crate::gradient_map::GradientMap;
use crate::param_state::ParamState;
use crate::param_step::ParamStep;

/// Runs `formula`, which writes u to state `u` and sums nothing, on a parameter that is computed with in its own type; and applies u. `places` are those of
/// [`super::Step::places`], `numbers` the tensor's row.
pub(super) fn finish<T: Float + Element<Compute = T>>(
    (formula, u): (&impl Formula, usize),
    (tensor, numbers): (usize, &[f64]),
    w: &mut ParamStep<'_>,
    places: &[Option<usize>; BUFFERS],
    how: Apply,
) -> Result<()> {
    let ParamStep { param, grad, map, .. } = w;
    let ParamState { var, state, .. } = &mut **param;
    let mut slices = Slices::<T>::default();
    for (k, data) in T::buffers(state).iter_mut().enumerate() {
        let place = places.iter().position(|place| *place == Some(k)).filter(|place| *place != u);
        // What has another shape than the parameter is not a pass's business.
        if let Some(place) = place.filter(|_| data.len() == grad.elem_count()) {
            slices[place] = data;
        }
    }
    let state = Cell::new(slices);
    let [keep, factor] = [how.keep, how.factor].map(T::from_f64);
    Ok(var.inplace_op2(grad, &Finish { formula, u, tensor, numbers, map: *map, state, keep, factor })?)
}

/// The candle in-place operation, which gives access to the memory of θ.
struct Finish<'a, F, T: Element> {
    formula: &'a F,
    u: usize,
    tensor: usize,
    numbers: &'a [f64],
    map: GradientMap,
    state: Cell<Slices<'a, T>>,
    keep: T,
    factor: T,
}

/// What one task works on.
struct Chunk<'a, T: Element> {
    theta: &'a mut [T],
    g: &'a [T],
    state: Slices<'a, T>,
}

impl<F: Formula, T: Float + Element<Compute = T>> InplaceOp2 for Finish<'_, F, T> {
    fn name(&self) -> &'static str {
        "finish"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let Self { formula, u, tensor, numbers, map, keep, factor, .. } = self;
        let (theta, g) = (cpu::slice_mut::<T>(s1, l1)?, cpu::slice::<T>(s2, l2)?);
        let mut state = self.state.take().map(|data| data.chunks_mut(CHUNK));
        let each = theta.chunks_mut(CHUNK).zip(g.chunks(CHUNK)).map(|(theta, g)| {
            let state = state.each_mut().map(|chunks| chunks.next().unwrap_or_default());
            Chunk { theta, g, state }
        });
        cpu::for_each(
            each.collect(),
            #[inline(always)]
            |Chunk { theta, g, mut state }: Chunk<'_, T>| {
                let (mut mapped, mut direction, mut spare) =
                    ([T::ZERO; BLOCK], [T::ZERO; BLOCK], [[T::ZERO; BLOCK]; 3]);
                for (i, (theta, g)) in theta.chunks_mut(BLOCK).zip(g.chunks(BLOCK)).enumerate() {
                    let n = theta.len();
                    let g = T::read_mapped(g, *map, &mut mapped);
                    {
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
                    }
                    theta.iter_mut().zip(&direction).for_each(
                        #[inline(always)]
                        |(theta, u)| *theta = *keep * *theta - *factor * *u,
                    );
                }
            },
        );
        Ok(())
    }
}
