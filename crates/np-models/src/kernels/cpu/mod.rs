//! The arithmetic on CPU slices, each operation with its backward pass, and candle's own operations for everything else.
//!
//! The functions here take tensors whose shapes the layers have checked; they choose between the custom operation and the
//! fallback by the [`Kernels`] of a layer. Architecture invariant: no result depends on the number of threads, the caches or the instruction set, bit for bit. `np-gemm` fixes
//! the order in which products are summed; everything else is divided into chunks of fixed size, and no loop reorders a sum.

mod batch_norm;
mod batch_norm_rows;
mod conv2d;
mod cross_entropy;
mod gemm;
mod im2col;
mod linear;
mod network;
mod network_op;
mod pool;
mod relu_dropout;
mod scratch;
mod winograd;
mod winograd_transforms;

use std::sync::Mutex;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, WithDType, bail};

pub(crate) use batch_norm::{Norm, batch_norm_eval, batch_norm_train};
pub(crate) use conv2d::conv2d;
pub(crate) use cross_entropy::{cross_entropy, loss_and_correct};
pub(crate) use linear::linear;
pub(crate) use network::{Network, Unit};
pub(crate) use network_op::{network_eval, network_train};
pub(crate) use pool::global_average;
pub(crate) use relu_dropout::{DropoutMask, relu_dropout};
use scratch::Pool;
pub(crate) use scratch::Pools;

use super::Kernels;

/// Whether the custom operations can take this tensor: for functions of tensors that no layer has built.
pub(crate) fn runs_here(x: &Tensor) -> bool {
    Kernels::of(x.device(), x.dtype()) == Kernels::Cpu
}

/// The element types of the kernels.
pub(crate) trait Real: WithDType + np_gemm::Real {
    const ZERO: Self;
    /// The buffers of this type.
    fn pool(pools: &Pools) -> &Mutex<Pool<Self>>;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
}

macro_rules! impl_real {
    ($t:ident) => {
        impl Real for $t {
            const ZERO: Self = 0.0;
            fn pool(pools: &Pools) -> &Mutex<Pool<Self>> {
                &pools.$t
            }
            fn exp(self) -> Self {
                $t::exp(self)
            }
            fn ln(self) -> Self {
                $t::ln(self)
            }
        }
    };
}
impl_real!(f32);
impl_real!(f64);

/// Runs `$body` with `$t` bound to the type behind a `DType`; an error of operation `$op` for any other.
macro_rules! dispatch {
    ($op:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            dtype => candle_core::bail!("{}: no kernel for {dtype:?}", $op),
        }
    };
}
use dispatch;

/// Runs `f`, compiled for the best instructions that this CPU has.
///
/// Only what is inlined into the call gets them: functions and closures that run inside are `#[inline(always)]`.
#[inline(always)]
fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// The elements of a contiguous operand of a custom operation.
fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("a kernel got an operand that is not contiguous: {layout:?}"),
    }
}

/// Gives `f` the elements of a contiguous tensor on the CPU.
fn with_slice<T: WithDType, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(slice(storage, layout)?),
        _ => bail!("a CPU kernel got a tensor of another device"),
    }
}
