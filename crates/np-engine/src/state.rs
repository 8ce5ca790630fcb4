//! The tensors that an optimizer keeps for a parameter.

use candle_core::{DType, Device, Tensor, Var};

use crate::backend::Backend;
use crate::buffer::{Buffer, Initial};
use crate::error::Result;
use crate::pages::zeros;

/// State of one parameter, in the order of [`crate::Rule::buffers`], then the scratch.
#[derive(Debug)]
pub enum State {
    /// In the host's memory, of parameters in single and half precision.
    F32(Vec<Vec<f32>>),
    /// In the host's memory, of parameters in double precision.
    F64(Vec<Vec<f64>>),
    /// On a device, or computed with by tensor operations.
    Tensors(Vec<Tensor>),
}

/// The type of a parameter's state and computation: `f64` for `f64`, else `f32`.
pub fn compute_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

impl State {
    /// The `buffers` with their initial values, and `scratch` further tensors of the parameter's shape.
    pub(crate) fn fresh(var: &Var, buffers: &[Buffer], scratch: usize, backend: Backend) -> Result<Self> {
        let (dtype, device) = (compute_dtype(var.dtype()), var.device());
        let work = Buffer::new("scratch");
        let all = || buffers.iter().chain(std::iter::repeat_n(&work, scratch));
        let zero = |b: &Buffer| b.initial == Initial::Value(0.0);
        if backend == Backend::Tensors || !device.is_cpu() {
            let tensor = |b: &Buffer| match zero(b) {
                true => Ok(Tensor::zeros(b.dims(var.dims()), dtype, device)?),
                false => Ok(Tensor::from_vec(b.values(var)?, b.dims(var.dims()), device)?.to_dtype(dtype)?),
            };
            return Ok(Self::Tensors(all().map(tensor).collect::<Result<_>>()?));
        }
        let count = |b: &Buffer| b.dims(var.dims()).iter().product();
        #[allow(clippy::cast_possible_truncation)] // single precision is what is asked for
        let single = |b: &Buffer| match zero(b) {
            true => Ok(zeros(count(b))),
            false => Ok(b.values(var)?.into_iter().map(|x| x as f32).collect()),
        };
        let double = |b: &Buffer| if zero(b) { Ok(zeros(count(b))) } else { b.values(var) };
        Ok(match dtype {
            DType::F64 => Self::F64(all().map(double).collect::<Result<_>>()?),
            _ => Self::F32(all().map(single).collect::<Result<_>>()?),
        })
    }

    /// The `buffers` as tensors on the device of `var`; with a state in slices, these are copies.
    pub(crate) fn tensors(&self, var: &Var, buffers: &[Buffer]) -> Result<Vec<Tensor>> {
        let device = var.device();
        let dims = || buffers.iter().map(|b| b.dims(var.dims()));
        match self {
            Self::F32(data) => data.iter().zip(dims()).map(|(x, d)| Ok(Tensor::from_slice(x, d, device)?)).collect(),
            Self::F64(data) => data.iter().zip(dims()).map(|(x, d)| Ok(Tensor::from_slice(x, d, device)?)).collect(),
            Self::Tensors(tensors) => Ok(tensors[..buffers.len()].to_vec()),
        }
    }

    /// The number of its tensors, scratch included.
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::F32(all) => all.len(),
            Self::F64(all) => all.len(),
            Self::Tensors(all) => all.len(),
        }
    }

    /// The sum of the diagonal of buffer `k`, an n×n matrix.
    ///
    /// # Errors
    /// Those of candle.
    pub fn trace(&self, k: usize, n: usize) -> Result<f64> {
        Ok(match self {
            Self::F32(buffers) => buffers[k].iter().step_by(n + 1).map(|x| f64::from(*x)).sum(),
            Self::F64(buffers) => buffers[k].iter().step_by(n + 1).sum(),
            Self::Tensors(tensors) => {
                let numbers = tensors[k].to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?;
                numbers.to_vec1::<f64>()?.iter().step_by(n + 1).sum()
            }
        })
    }

    /// Sets buffer `k` to `value`, whose shape has been checked.
    ///
    /// # Errors
    /// Those of candle.
    pub fn set(&mut self, k: usize, value: &Tensor) -> Result<()> {
        match self {
            Self::F32(buffers) => overwrite(&mut buffers[k], value.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?),
            Self::F64(buffers) => overwrite(&mut buffers[k], value.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?),
            Self::Tensors(tensors) => {
                let (dtype, device) = (tensors[k].dtype(), tensors[k].device().clone());
                tensors[k] = value.to_dtype(dtype)?.to_device(&device)?.copy()?;
            }
        }
        Ok(())
    }
}

/// Puts `new` where `buffer` is, in its memory, which may have large pages.
fn overwrite<T: Copy>(buffer: &mut Vec<T>, new: Vec<T>) {
    if buffer.len() == new.len() {
        buffer.copy_from_slice(&new);
    } else {
        *buffer = new;
    }
}
