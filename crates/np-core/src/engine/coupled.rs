//! Steps of rules whose elements are coupled through sums, on CUDA devices: where parameters are, and what is kept there from step to step.

#[cfg(feature = "cuda")]
use std::sync::Arc;

#[cfg(feature = "cuda")]
use candle_core::cuda_backend::cudarc::driver::CudaStream;
#[cfg(any(test, feature = "cuda"))]
use np_cuda::table::{BUFFERS, Row};

#[cfg(any(test, feature = "cuda"))]
use crate::engine::elementwise::plan::storage_of;
#[cfg(any(test, feature = "cuda"))]
use crate::engine::param_step::ParamStep;
#[cfg(any(test, feature = "cuda"))]
use crate::engine::places::Place;
#[cfg(feature = "cuda")]
use crate::engine::summed::coupled::{Held, Run};
#[cfg(feature = "cuda")]
use crate::error::Result;

/// Memory of the device and kernels that steps keep; nothing without the feature `cuda`.
#[derive(Debug, Default)]
pub struct Launches {
    #[cfg(feature = "cuda")]
    held: Held,
    #[cfg(feature = "cuda")]
    kept: np_cuda::Kept,
    #[cfg(feature = "cuda")]
    graphs: np_cuda::Graphs,
    #[cfg(feature = "cuda")]
    stream: Option<Arc<CudaStream>>,
}

/// Where a parameter is: it and its gradient where `row` says, buffers and scratch at `state`.
#[cfg(any(test, feature = "cuda"))]
pub(crate) fn place(w: &ParamStep<'_>, row: Row, state: &[u64]) -> Place {
    let mut all = [0; BUFFERS];
    all.iter_mut().zip(state).for_each(|(to, address)| *to = *address);
    let row = Row { state: all, length: w.grad.elem_count() as u64, ..row };
    Place { row, storage: storage_of(w.grad.dtype()), map: w.map }
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::Tensor;
    use np_cuda::Queue;
    use np_cuda::replay::Replaying;

    use super::{CudaStream, Launches, ParamStep, Place, Result, Row, Run, place};
    use crate::engine::apply::Apply;
    use crate::engine::backend::Backend;
    use crate::engine::cuda::{address, stream};
    use crate::engine::elementwise::launched::refused;
    use crate::engine::param_state::State;
    use crate::engine::summed::coupled::Finish;

    /// Whether the steps of all of `work` are launches.
    pub(crate) fn takes(backend: Backend, work: &[ParamStep<'_>]) -> bool {
        !work.is_empty() && work.iter().all(|w| w.param.launches(backend))
    }

    /// All buffers and scratch of a parameter.
    fn all<'a>(_: &ParamStep<'_>, tensors: &'a [Tensor]) -> &'a [Tensor] {
        tensors
    }

    /// Its direction alone.
    fn u<'a>(w: &ParamStep<'_>, tensors: &'a [Tensor]) -> &'a [Tensor] {
        let place = w.param.buffers.len();
        &tensors[place..=place]
    }

    /// Which tensors of a parameter a step is given.
    type Which = for<'a> fn(&ParamStep<'_>, &'a [Tensor]) -> &'a [Tensor];

    /// Where all of `work` is, good on `stream`.
    fn places(work: &[ParamStep<'_>], stream: &CudaStream, which: Which) -> Result<Vec<Place>> {
        let one = |w: &ParamStep<'_>| {
            if w.grad.elem_count() == 0 {
                return Ok(place(w, Row::default(), &[]));
            }
            let State::Tensors(tensors) = &w.param.state else { return Ok(place(w, Row::default(), &[])) };
            let at = |tensor: &Tensor| address(stream, tensor);
            let state = which(w, tensors).iter().map(at).collect::<Result<Vec<u64>>>()?;
            let row = Row { theta: at(w.param.var.as_tensor())?, gradient: at(&w.grad)?, ..Row::default() };
            Ok(place(w, row, &state))
        };
        work.iter().map(one).collect()
    }

    impl Launches {
        /// Runs what `launch` has for all of `work`, whose steps are launches.
        pub(crate) fn run<T>(
            &mut self,
            backend: Backend,
            work: &[ParamStep<'_>],
            launch: impl FnOnce(Run<'_, Replaying<'_, Queue<'_>>>) -> Result<T>,
        ) -> Result<T> {
            self.run_with(backend, work, all, launch)
        }

        fn run_with<T>(
            &mut self,
            backend: Backend,
            work: &[ParamStep<'_>],
            which: Which,
            launch: impl FnOnce(Run<'_, Replaying<'_, Queue<'_>>>) -> Result<T>,
        ) -> Result<T> {
            let stream = stream(work.first().map(|w| w.param.var.device()))?;
            let places = places(work, &stream, which)?;
            self.stream = Some(stream.clone());
            let mut queue = Queue::new(stream, &mut self.kept);
            let mut machine = Replaying::new(&mut queue, &mut self.graphs, backend.launching());
            let launched = launch(Run::new(&mut machine, &mut self.held, &places))?;
            machine.finish().map_err(refused)?;
            Ok(launched)
        }

        /// θ ← keep·θ − factor·u for all of `work`, u in the first scratch: a launch.
        pub(crate) fn finish(&mut self, backend: Backend, work: &[ParamStep<'_>], applies: &[Apply]) -> Result<()> {
            let keep: Vec<f64> = applies.iter().map(|how| how.keep).collect();
            let factor: Vec<f64> = applies.iter().map(|how| how.factor).collect();
            self.run_with(backend, work, u, |mut run| {
                let finish = run.pass(&Finish { keep: &keep, factor: Some(&factor), u: 0 }, |_| true);
                run.upload(None, finish)?;
                run.launch(finish)
            })
        }

        /// What all tensors share, if it is on the device. This waits.
        pub(crate) fn shared(&mut self) -> Result<Option<Vec<f64>>> {
            let Some(stream) = self.stream.clone() else { return Ok(None) };
            self.held.shared(&mut Queue::new(stream, &mut self.kept))
        }

        /// What is shared is the host's again.
        pub(crate) fn unshare(&mut self) {
            self.held.unshare();
        }
    }
}

#[cfg(feature = "cuda")]
pub(crate) use cuda::takes;
