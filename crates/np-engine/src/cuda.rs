//! Addresses of tensors on CUDA devices, for the kernels of this crate.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{Device, Storage, Tensor};
use np_cuda::table::Row;

use crate::element::dispatch;
use crate::error::{Result, contract};
use crate::param_step::ParamStep;
use crate::state::{State, compute_dtype};

/// The stream that candle computes on.
pub(crate) fn stream(device: Option<&Device>) -> Result<Arc<CudaStream>> {
    match device {
        Some(Device::Cuda(device)) => Ok(device.cuda_stream()),
        _ => Err(candle_core::Error::Msg("expected tensors on a CUDA device".to_string()).into()),
    }
}

/// Where a tensor's first element is.
fn address(stream: &CudaStream, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(candle_core::Error::Msg("expected a contiguous tensor on a CUDA device".to_string()).into());
    };
    Ok(dispatch!(tensor.dtype(), E => np_cuda::address(stream, storage.as_cuda_slice::<E>()?, start, end))?)
}

/// Where a parameter and its gradient are, and its buffers and scratch, 0 for those of another shape or type; nothing of one that is empty.
pub(crate) fn row(stream: &CudaStream, w: &ParamStep<'_>) -> Result<(Row, Vec<u64>)> {
    let mut state = vec![];
    if w.grad.elem_count() == 0 {
        return Ok((Row::default(), state));
    }
    // Kernels go by the gradient's length and type.
    let var = &w.param.var;
    let fits = var.elem_count() == w.grad.elem_count() && var.dtype() == w.grad.dtype();
    contract(fits, &w.param.name, || {
        let of = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        (format!("a gradient like the parameter, {}", of(var.as_tensor())), of(&w.grad))
    })?;
    let kept = compute_dtype(var.dtype());
    if let State::Tensors(tensors) = &w.param.state {
        for tensor in tensors {
            let fits = tensor.elem_count() == var.elem_count() && tensor.dtype() == kept;
            state.push(if fits { address(stream, tensor)? } else { 0 });
        }
    }
    let (theta, gradient) = (address(stream, w.param.var.as_tensor())?, address(stream, &w.grad)?);
    Ok((Row { theta, gradient, ..Row::default() }, state))
}
