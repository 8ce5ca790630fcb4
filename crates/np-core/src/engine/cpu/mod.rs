//! Distribution of a step over the CPU's threads: in fixed chunks, so that no sum depends on the number of threads, with instructions chosen at run time.

pub(crate) mod sums;
mod threads;

use candle_core::{CpuStorage, Layout, Tensor};
use rayon::prelude::*;

use crate::engine::element::Element;
pub(crate) use threads::{on_threads, parallel};

/// Elements in a chunk: the work of a task, and the unit of sums. It is part of the arithmetic: another value would give other rounding errors.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Number of elements above which using several threads is faster.
const WORTH_THREADS: usize = 2 * CHUNK;

/// Whether `elements` are to be spread over threads: inside [`on_threads`], where there are enough of them.
pub(crate) fn worth_threads(elements: usize) -> bool {
    elements > WORTH_THREADS && parallel()
}

/// Elements of those tensors that are in the CPU's memory. Candle's queue of a CUDA device is the calling thread's own: work on such a device must not change threads.
pub(crate) fn elements<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> usize {
    tensors.filter(|tensor| tensor.device().is_cpu()).map(Tensor::elem_count).sum()
}

/// Runs `f`, which handles `elements` of them, on threads where that pays.
pub(crate) fn on_threads_if_worth<T: Send>(elements: usize, f: impl FnOnce() -> T + Send) -> T {
    if elements > WORTH_THREADS { on_threads(f) } else { f() }
}

/// Runs `f` on every item, inside [`on_threads`] on all threads, compiled for the best instructions that this CPU has.
///
/// No fused multiply-add is ever contracted, so that the instruction set does not change a bit.
pub(crate) fn for_each<J: Send>(jobs: Vec<J>, f: impl Fn(J) + Sync) {
    let arch = pulp::Arch::new();
    // What runs inside `dispatch` gets the instructions only if it is inlined into it: hence the attributes here and at each caller.
    let run = |job| {
        arch.dispatch(
            #[inline(always)]
            || f(job),
        );
    };
    if jobs.len() > 1 && parallel() {
        jobs.into_par_iter().for_each(run);
    } else {
        jobs.into_iter().for_each(run);
    }
}

/// The elements of a contiguous tensor's storage.
pub(crate) fn slice<'a, E: Element>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [E]> {
    match (E::slice(storage), layout.contiguous_offsets()) {
        (Some(data), Some((start, end))) => Ok(&data[start..end]),
        _ => candle_core::bail!("expected a contiguous {} tensor", E::DTYPE.as_str()),
    }
}

/// The elements of a contiguous tensor's storage, to be changed.
pub(crate) fn slice_mut<'a, E: Element>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [E]> {
    match (E::slice_mut(storage), layout.contiguous_offsets()) {
        (Some(data), Some((start, end))) => Ok(&mut data[start..end]),
        _ => candle_core::bail!("expected a contiguous {} tensor", E::DTYPE.as_str()),
    }
}
