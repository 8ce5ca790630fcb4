//! Steps on CUDA devices: where a parameter's numbers are, for the launches of `launched`.

use super::diagnostics::Seen;
#[cfg(feature = "cuda")]
use super::diagnostics::TOTALS;
use super::{Memory, NeuroPlasticConfig};
use crate::engine::apply::Apply;
use crate::engine::param_step::ParamStep;
use crate::engine::rule::StepContext;
use crate::error::Result;

/// Memory of the device and kernels that steps keep, and what the diagnostics have seen there; nothing without the feature `cuda`.
#[derive(Debug, Default)]
pub(super) struct OnDevice {
    #[cfg(feature = "cuda")]
    held: super::launched::Held,
    #[cfg(feature = "cuda")]
    kept: np_cuda::Kept,
    #[cfg(feature = "cuda")]
    graphs: np_cuda::Graphs,
    #[cfg(feature = "cuda")]
    stream: Option<std::sync::Arc<candle_core::cuda_backend::cudarc::driver::CudaStream>>,
}

impl OnDevice {
    /// Forgets what the diagnostics have seen.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unused_self))]
    pub(super) fn forget(&mut self) {
        #[cfg(feature = "cuda")]
        {
            self.held.begun = false;
        }
    }

    /// What the diagnostics have seen on the device since the epoch began, where steps were taken there. It waits for them.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unused_self))]
    pub(super) fn seen(&self) -> Option<Seen> {
        #[cfg(feature = "cuda")]
        if let (true, Some(stream)) = (self.held.begun, &self.stream) {
            // A device that gives nothing back refuses the next step, and says why.
            let totals = self.kept.numbers(stream, crate::engine::chain::KEPT_BUFFER, TOTALS).ok()?;
            return totals.try_into().ok().map(Seen);
        }
        None
    }
}

/// A step of all of `work`, where it is made of launches; else `false`, and nothing has been done. It waits for nothing.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(super) fn step(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<bool> {
    #[cfg(feature = "cuda")]
    if cuda::takes(cx, work) {
        return cuda::step(config, cx, work, memory, true).map(|()| true);
    }
    Ok(false)
}

/// The directions of all of `work`, where they are made of launches; else `None`, and nothing has been done. It waits for what is to be done with them.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(super) fn directions(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
) -> Result<Option<Vec<Apply>>> {
    #[cfg(feature = "cuda")]
    if cuda::takes(cx, work) {
        cuda::step(config, cx, work, memory, false)?;
        return cuda::applies(work, memory).map(Some);
    }
    Ok(None)
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::cuda_backend::cudarc::driver::CudaStream;
    use np_cuda::Queue;
    use np_cuda::replay::Replaying;
    use np_cuda::table::Row;

    use super::super::launched::{Held, Member, member};
    use super::super::step::prepare;
    use super::{Memory, NeuroPlasticConfig};
    use crate::engine::apply::Apply;
    use crate::engine::cuda::{address, stream};
    use crate::engine::elementwise::launched::refused;
    use crate::engine::param_state::State;
    use crate::engine::param_step::ParamStep;
    use crate::engine::rule::StepContext;
    use crate::error::Result;

    pub(super) fn takes(cx: &StepContext, work: &[ParamStep<'_>]) -> bool {
        !work.is_empty() && work.iter().all(|w| w.param.launches(cx.backend))
    }

    /// Directions, and, if they are to be applied, θ.
    pub(super) fn step(
        config: &NeuroPlasticConfig,
        cx: &StepContext,
        work: &mut [ParamStep<'_>],
        memory: &mut Memory,
        apply: bool,
    ) -> Result<()> {
        let stream = stream(work.first().map(|w| w.param.var.device()))?;
        let (plan, watch, places) = prepare(config, cx, work, memory)?;
        // Where the parameters are is asked for once a base has given its directions: it may have moved them.
        let members = members(config, work, &stream)?;
        let on_device = &mut memory.on_device;
        let mut queue = Queue::new(stream.clone(), &mut on_device.kept);
        let mut machine = Replaying::new(&mut queue, &mut on_device.graphs, cx.backend.launching());
        on_device.held.step(&mut machine, (&plan, watch, &places), &members, apply)?;
        machine.finish().map_err(refused)?;
        on_device.stream = Some(stream);
        Ok(())
    }

    /// What is to be done with the directions of the last step.
    pub(super) fn applies(work: &[ParamStep<'_>], memory: &mut Memory) -> Result<Vec<Apply>> {
        let stream = stream(work.first().map(|w| w.param.var.device()))?;
        Held::applies(&mut Queue::new(stream, &mut memory.on_device.kept), work.len())
    }

    /// All parameters with their addresses, which are good on `stream`.
    pub(super) fn members(
        config: &NeuroPlasticConfig,
        work: &[ParamStep<'_>],
        stream: &CudaStream,
    ) -> Result<Vec<Member>> {
        let one = |w: &ParamStep<'_>| {
            let mut all = Vec::new();
            if let (State::Tensors(tensors), true) = (&w.param.state, w.grad.elem_count() > 0) {
                for tensor in tensors {
                    all.push(address(stream, tensor)?);
                }
            }
            let theta = address(stream, w.param.var.as_tensor())?;
            Ok(member(config, w, Row { theta, gradient: address(stream, &w.grad)?, ..Row::default() }, &all))
        };
        work.iter().map(one).collect()
    }
}
