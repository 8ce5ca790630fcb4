//! Matrices on a device, by candle's operations; decompositions go through the host.

use candle_core::{DType, Tensor};

use crate::error::Result;
use crate::matrix::{self, Mode};

/// A tensor along a dimension: a matrix whose rows are what lies there.
fn unfold(mode: Mode, x: &Tensor) -> candle_core::Result<Tensor> {
    let x = x.reshape((mode.before, mode.size, mode.after))?;
    let x = if mode.before == 1 { x } else { x.transpose(0, 1)?.contiguous()? };
    x.reshape((mode.size, mode.before * mode.after))
}

/// Σ X Xᵀ, X the tensor's matrices along a dimension.
///
/// # Errors
/// Those of candle.
pub fn gram(mode: Mode, x: &Tensor) -> candle_core::Result<Tensor> {
    let x = unfold(mode, x)?;
    x.matmul(&x.t()?)
}

/// The tensor `x` with every vector along a dimension multiplied with `m`.
///
/// # Errors
/// Those of candle.
pub fn multiply(mode: Mode, m: &Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
    let product = m.matmul(&unfold(mode, x)?)?.reshape((mode.size, mode.before, mode.after))?;
    let product = if mode.before == 1 { product } else { product.transpose(0, 1)?.contiguous()? };
    product.reshape(x.shape())
}

/// The host's numbers of a matrix, in double precision, which holds those of any type; and a matrix of numbers, of the type and on the device of another.
fn numbers(m: &Tensor) -> candle_core::Result<Vec<f64>> {
    m.flatten_all()?.to_device(&candle_core::Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()
}

fn like(m: &Tensor, numbers: Vec<f64>) -> candle_core::Result<Tensor> {
    let host = Tensor::from_vec(numbers, m.dims(), &candle_core::Device::Cpu)?;
    host.to_dtype(m.dtype())?.to_device(m.device())
}

/// [`matrix::power`] of a matrix on a device. It waits for the device.
///
/// # Errors
/// Those of [`matrix::power`].
pub fn power(m: &Tensor, exponent: f64, floor: f64) -> Result<Tensor> {
    let n = m.dim(0)?;
    match m.dtype() {
        DType::F64 => Ok(like(m, matrix::power::<f64>(&numbers(m)?, n, exponent, floor)?)?),
        _ => {
            let single = m.flatten_all()?.to_vec1::<f32>()?;
            let power = matrix::power::<f32>(&single, n, exponent, floor)?;
            Ok(like(m, power.into_iter().map(f64::from).collect())?)
        }
    }
}

/// Eigenvectors of a symmetric matrix as columns, the largest first. It waits for the device.
///
/// # Errors
/// Those of [`matrix::eigen`].
pub fn eigenvectors(m: &Tensor) -> Result<Tensor> {
    let n = m.dim(0)?;
    let (_, vectors) = matrix::eigen(&numbers(m)?, n)?;
    Ok(like(m, (0..n * n).map(|k| vectors[k / n * n + (n - 1 - k % n)]).collect())?)
}

/// Q of the QR decomposition of `image`, its columns in falling order of `values`, and that order. It waits for the device.
///
/// # Errors
/// Those of candle.
pub fn orthonormal(image: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
    let (n, values, numbers) = (image.dim(0)?, numbers(values)?, numbers(image)?);
    let order = matrix::falling(&values);
    let sorted: Vec<f64> = (0..n * n).map(|k| numbers[k / n * n + order[k % n]]).collect();
    let order = order.into_iter().map(|k| u32::try_from(k).unwrap_or(u32::MAX)).collect::<Vec<u32>>();
    Ok((like(image, matrix::orthonormal(&sorted, n))?, Tensor::from_vec(order, n, image.device())?))
}
