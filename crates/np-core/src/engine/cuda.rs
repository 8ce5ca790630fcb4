//! Tensors on CUDA devices, as kernels of this crate find them.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{DType, Device, Storage, Tensor};
use half::{bf16, f16};

use crate::engine::elementwise::launched::refused;
use crate::error::Result;

/// The stream that candle computes on.
pub(crate) fn stream(device: Option<&Device>) -> Result<Arc<CudaStream>> {
    match device {
        Some(Device::Cuda(device)) => Ok(device.cuda_stream()),
        _ => Err(candle_core::Error::Msg("expected tensors on a CUDA device".to_string()).into()),
    }
}

/// Where a tensor's first element is.
pub(crate) fn address(stream: &CudaStream, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(candle_core::Error::Msg("expected a contiguous tensor on a CUDA device".to_string()).into());
    };
    match tensor.dtype() {
        DType::F64 => np_cuda::address(stream, storage.as_cuda_slice::<f64>()?, start, end),
        DType::F16 => np_cuda::address(stream, storage.as_cuda_slice::<f16>()?, start, end),
        DType::BF16 => np_cuda::address(stream, storage.as_cuda_slice::<bf16>()?, start, end),
        _ => np_cuda::address(stream, storage.as_cuda_slice::<f32>()?, start, end),
    }
    .map_err(refused)
}
