//! Steps on CUDA devices: one launch for all parameters of the same element type and formula. The norm of the gradients and the factor of clipping stay on the device.
//!
//! A step copies one small table to the device and does not wait. Repeated launches are replayed as one CUDA graph. Parameters and state are updated in
//! place. `plan` determines the launches; this module has the code that needs CUDA's libraries, behind the feature `cuda`.

use np_trace::Outcome;

use crate::apply::Apply;
use crate::elementwise::Elementwise;
use crate::error::Result;
use crate::param_step::ParamStep;
use crate::rule::StepContext;

/// The device memory and kernels that are kept between steps; empty without the feature `cuda`.
#[derive(Debug, Default)]
pub struct Launches {
    #[cfg(feature = "cuda")]
    on_device: cuda::OnDevice,
}

/// Queues a step of all of `work` if it is made of launches; otherwise does nothing and returns `None`.
pub(super) fn step<R: Elementwise>(
    rule: &R,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Launches,
    outcome: Outcome,
) -> Result<Option<Vec<Apply>>> {
    if work.is_empty() || !work.iter().all(|w| w.param.launches(cx.backend)) {
        return Ok(None);
    }
    #[cfg(feature = "cuda")]
    return memory.on_device.step(rule, cx.backend.launching(), work, outcome).map(Some);
    #[cfg(not(feature = "cuda"))]
    {
        let _ = (rule, memory, outcome);
        Ok(None)
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use np_cuda::replay::Replaying;
    use np_cuda::{Graphs, Kept, Launching, Queue};
    use np_trace::Outcome;

    use crate::apply::Apply;
    use crate::cuda;
    use crate::elementwise::Elementwise;
    use crate::elementwise::launched::Held;
    use crate::error::Result;
    use crate::param_step::ParamStep;

    /// What is kept between steps.
    #[derive(Debug, Default)]
    pub(super) struct OnDevice {
        held: Held,
        kept: Kept,
        graphs: Graphs,
    }

    impl OnDevice {
        pub(super) fn step<R: Elementwise>(
            &mut self,
            rule: &R,
            launching: Launching,
            work: &mut [ParamStep<'_>],
            outcome: Outcome,
        ) -> Result<Vec<Apply>> {
            let stream = cuda::stream(work.first().map(|w| w.param.var.device()))?;
            let mut queue = Queue::new(stream.clone(), &mut self.kept);
            let mut machine = Replaying::new(&mut queue, &mut self.graphs, launching);
            let applies = self.held.step(&mut machine, rule, work, outcome, |w| cuda::row(&stream, w))?;
            machine.finish()?;
            Ok(applies)
        }
    }
}
