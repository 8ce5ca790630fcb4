//! The arithmetic of layers, by what it runs on: [`cpu`] over slices of the host's memory, [`cuda`] as texts of kernels for the programs of [`crate::cuda`], and
//! candle's own operations for everything else.

pub(crate) mod cpu;
pub mod cuda;

use candle_core::{DType, Device};
pub(crate) use cpu::*;

/// Which of them, chosen when a layer is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// Those of this crate, on the CPU in `f32` and `f64`.
    Cpu,
    /// Those of this crate, on a CUDA device in `f32`: a whole model's, by `cuda::Trainer`. A single layer's operation, in candle's graph, is candle's own.
    Cuda,
    /// Candle's.
    Candle,
}

impl Kernels {
    pub(crate) fn of(device: &Device, dtype: DType) -> Self {
        match dtype {
            DType::F32 | DType::F64 if device.is_cpu() => Self::Cpu,
            DType::F32 if device.is_cuda() && cfg!(feature = "cuda") => Self::Cuda,
            _ => Self::Candle,
        }
    }
}
