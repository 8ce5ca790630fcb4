//! Steps on CUDA devices: where a parameter's numbers are, for the launches of `launched`.

use super::NeuroPlasticConfig;
use crate::engine::apply::Apply;
use crate::engine::param_step::ParamStep;
use crate::engine::rule::StepContext;
use crate::error::Result;

/// Memory of the device and kernels that steps keep; nothing without the feature `cuda`.
#[derive(Debug, Default)]
pub(super) struct OnDevice {
    #[cfg(feature = "cuda")]
    held: crate::engine::summed::Held,
    #[cfg(feature = "cuda")]
    kept: np_cuda::Kept,
}

/// The directions of all of `work`, where they are made of launches; else `None`, and nothing has been done.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(super) fn directions(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut super::Memory,
) -> Result<Option<Vec<Apply>>> {
    #[cfg(feature = "cuda")]
    if cuda::takes(cx, work) {
        let stream = crate::engine::cuda::stream(work.first().map(|w| w.param.var.device()))?;
        let mut on_device = std::mem::take(&mut memory.on_device);
        let mut queue = np_cuda::Queue::new(stream.clone(), &mut on_device.kept);
        let machine = (&mut queue, &mut on_device.held);
        let members = |work: &[ParamStep<'_>]| cuda::members(config, work, &stream);
        let done = super::step::launched(config, cx, work, memory, machine, members).map(Some);
        memory.on_device = on_device;
        return done;
    }
    Ok(None)
}

/// θ ← keep·θ − factor·u for all of `work`, where that is a launch; gives Σθ² of each as it was, if diagnostics are gathered. Else `None`, and nothing has been done.
#[cfg_attr(not(feature = "cuda"), allow(unused_variables, clippy::unnecessary_wraps))]
pub(super) fn apply(
    config: &NeuroPlasticConfig,
    cx: &StepContext,
    work: &[ParamStep<'_>],
    applies: &[Apply],
    memory: &mut OnDevice,
) -> Result<Option<Vec<f64>>> {
    #[cfg(feature = "cuda")]
    if cuda::takes(cx, work) {
        let stream = crate::engine::cuda::stream(work.first().map(|w| w.param.var.device()))?;
        let members = cuda::members(config, work, &stream)?;
        let mut queue = np_cuda::Queue::new(stream, &mut memory.kept);
        return super::launched::apply(&mut queue, &mut memory.held, &members, applies, cx.diagnostics).map(Some);
    }
    Ok(None)
}

#[cfg(feature = "cuda")]
mod cuda {
    use candle_core::cuda_backend::cudarc::driver::CudaStream;
    use np_cuda::table::Row;

    use crate::engine::cuda::address;
    use crate::engine::param_state::State;
    use crate::engine::param_step::ParamStep;
    use crate::engine::rule::StepContext;
    use crate::error::Result;
    use crate::neuroplastic::NeuroPlasticConfig;
    use crate::neuroplastic::launched::{Member, member};

    pub(super) fn takes(cx: &StepContext, work: &[ParamStep<'_>]) -> bool {
        !work.is_empty() && work.iter().all(|w| w.param.launches(cx.backend))
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
