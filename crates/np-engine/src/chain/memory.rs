//! What an optimizer keeps between steps: numbers and, for launches, the device's memory, tables and kernels.

use np_trace::Outcome;

use super::Step;
use crate::apply::Apply;
use crate::backend::Backend;
use crate::error::Result;
use crate::param_step::ParamStep;
use crate::rule::StepContext;

/// What an optimizer keeps between steps.
#[derive(Debug, Default)]
pub struct Memory {
    /// The kept numbers; the device may have newer ones.
    kept: Vec<f64>,
    #[cfg(feature = "cuda")]
    device: device::Device,
}

/// Whether every parameter of `work` is updated by kernel launches; `false` if there is none.
pub(crate) fn launches(backend: Backend, work: &[ParamStep<'_>]) -> bool {
    !work.is_empty() && work.iter().all(|w| w.param.launches(backend))
}

impl Memory {
    /// The kept numbers; empty before the first step. Waits for launches that still run.
    ///
    /// # Errors
    /// Those of copying from a device.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps))]
    pub fn kept(&self) -> Result<Vec<f64>> {
        #[cfg(feature = "cuda")]
        if let Some(kept) = self.device.kept(self.kept.len())? {
            return Ok(kept);
        }
        Ok(self.kept.clone())
    }

    /// Replaces the kept numbers.
    pub fn keep(&mut self, kept: Vec<f64>) {
        self.kept = kept;
        #[cfg(feature = "cuda")]
        self.device.held.forget();
    }

    /// Sets the kept numbers if there are none yet.
    pub fn keep_first(&mut self, kept: impl FnOnce() -> Vec<f64>) {
        if self.kept.is_empty() {
            self.keep(kept());
        }
    }

    /// The kept numbers, copied from the device if it has newer ones; from here on the host's are the newest.
    pub(super) fn on_host(&mut self) -> Result<&mut [f64]> {
        #[cfg(feature = "cuda")]
        if let Some(kept) = self.device.kept(self.kept.len())? {
            self.keep(kept);
        }
        Ok(&mut self.kept)
    }

    /// Queues a step of all of `work` if it is made of launches; otherwise does nothing and returns `None`. If only directions are wanted, it waits for the
    /// numbers that say how to apply them.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unused_self, clippy::unnecessary_wraps))]
    pub(super) fn launch(
        &mut self,
        step: &impl Step,
        cx: &StepContext,
        work: &[ParamStep<'_>],
        outcome: Outcome,
    ) -> Result<Option<Vec<Apply>>> {
        if !launches(cx.backend, work) {
            return Ok(None);
        }
        #[cfg(feature = "cuda")]
        return self.device.launch(step, cx.backend.launching(), work, &self.kept, outcome).map(Some);
        #[cfg(not(feature = "cuda"))]
        {
            let _ = (step, outcome);
            Ok(None)
        }
    }
}

#[cfg(feature = "cuda")]
mod device {
    use std::sync::Arc;

    use candle_core::cuda_backend::cudarc::driver::CudaStream;
    use np_cuda::replay::Replaying;
    use np_cuda::{Graphs, Kept, Launching, Queue};

    use super::{Apply, Outcome, ParamStep, Result, Step};
    use crate::chain::launched::{Held, KEPT, place};
    use crate::cuda::{row, stream};
    use crate::places::Place;

    #[derive(Debug, Default)]
    pub(super) struct Device {
        pub(super) held: Held,
        memory: Kept,
        graphs: Graphs,
        stream: Option<Arc<CudaStream>>,
    }

    impl Device {
        /// The device's `count` kept numbers, if they are newer than the host's.
        pub(super) fn kept(&self, count: usize) -> Result<Option<Vec<f64>>> {
            match &self.stream {
                Some(stream) if self.held.keeps() && count > 0 => Ok(Some(self.memory.numbers(stream, KEPT, count)?)),
                _ => Ok(None),
            }
        }

        pub(super) fn launch<S: Step>(
            &mut self,
            step: &S,
            launching: Launching,
            work: &[ParamStep<'_>],
            kept: &[f64],
            outcome: Outcome,
        ) -> Result<Vec<Apply>> {
            let stream = stream(work.first().map(|w| w.param.var.device()))?;
            let of = |w: &ParamStep<'_>| row(&stream, w).map(|(row, state)| place(step, w, row, &state));
            let places = work.iter().map(of).collect::<Result<Vec<Place>>>()?;
            self.stream = Some(stream.clone());
            let mut queue = Queue::new(stream, &mut self.memory);
            let mut machine = Replaying::new(&mut queue, &mut self.graphs, launching);
            let applies = self.held.step(&mut machine, step, &places, kept, outcome)?;
            machine.finish()?;
            Ok(applies)
        }
    }
}
