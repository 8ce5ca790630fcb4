//! Distribution of a step over the CPU's threads, in chunks of a fixed size, so that no sum depends on the number of threads. The instruction set is chosen at run time.

pub mod sums;
mod threads;

use candle_core::{CpuStorage, Layout, Tensor};
use rayon::prelude::*;

use crate::element::Element;
pub use threads::on_threads;
pub(crate) use threads::parallel;

/// Elements of a chunk: the work of a task, and the unit of sums. It is part of the arithmetic: another value would give other rounding errors.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Number of elements above which using several threads is faster.
const WORTH_THREADS: usize = 2 * CHUNK;

/// Whether to spread `elements` elements over threads: inside [`on_threads`], if there are enough of them.
pub(crate) fn worth_threads(elements: usize) -> bool {
    elements > WORTH_THREADS && parallel()
}

/// The number of elements of the tensors in the CPU's memory. Others do not count: candle has a CUDA stream for each thread, so work on such a device must stay on its
/// thread.
pub(crate) fn elements<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> usize {
    tensors.filter(|tensor| tensor.device().is_cpu()).map(Tensor::elem_count).sum()
}

/// Runs `f`, which handles `elements` elements, by [`on_threads`] if that is faster.
pub(crate) fn on_threads_if_worth<T: Send>(elements: usize, f: impl FnOnce() -> T + Send) -> T {
    if elements > WORTH_THREADS { on_threads(f) } else { f() }
}

/// Runs `f` on every item, inside [`on_threads`] on all threads, compiled for the best instructions that this CPU has.
///
/// The compiler never contracts to fused multiply-adds, so results have the same bits with every instruction set.
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
        // Rayon's own pieces of several jobs cannot be shared once they are begun, so that one thread may wait for another's.
        jobs.into_par_iter().with_max_len(1).for_each(run);
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

/// The elements of a contiguous tensor's storage, mutably.
pub(crate) fn slice_mut<'a, E: Element>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> candle_core::Result<&'a mut [E]> {
    match (E::slice_mut(storage), layout.contiguous_offsets()) {
        (Some(data), Some((start, end))) => Ok(&mut data[start..end]),
        _ => candle_core::bail!("expected a contiguous {} tensor", E::DTYPE.as_str()),
    }
}
