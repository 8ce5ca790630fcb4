//! Batch normalisation, with an activation.

use candle_core::{DType, Result, Tensor};

use super::relu_dropout;
use crate::layers::Activation;

/// The affine map and the activation after a normalisation.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) activation: Activation,
}

/// What a batch says of its channels; \[channels\] each.
pub(crate) struct Statistics {
    pub(crate) mean: Tensor,
    pub(crate) unbiased_var: Tensor,
}

/// Normalises with the statistics of the batch, and returns them.
pub(crate) fn batch_norm_train(x: &Tensor, norm: Norm<'_>, epsilon: f64) -> Result<(Tensor, Statistics)> {
    fallback_train(x, norm, epsilon)
}

/// Normalises with given statistics.
pub(crate) fn batch_norm_eval(x: &Tensor, norm: Norm<'_>, mean: &Tensor, var: &Tensor, epsilon: f64) -> Result<Tensor> {
    let wide = widen(x.dtype());
    let mean = channels(&mean.to_dtype(wide)?)?;
    fallback(&x.to_dtype(wide)?.broadcast_sub(&mean)?, norm, &channels(&var.to_dtype(wide)?)?, epsilon)?
        .to_dtype(x.dtype())
}

/// candle's own operations, through which it derives the gradient.
fn fallback_train(x: &Tensor, norm: Norm<'_>, epsilon: f64) -> Result<(Tensor, Statistics)> {
    let wide = x.to_dtype(widen(x.dtype()))?;
    let mean = wide.mean_keepdim((0, 2, 3))?;
    let centred = wide.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let y = fallback(&centred, norm, &var, epsilon)?.to_dtype(x.dtype())?;
    let values = (x.elem_count() / x.dim(1)?) as f64;
    let statistics = Statistics {
        mean: mean.flatten_all()?.detach(),
        unbiased_var: var.flatten_all()?.detach().affine(values / (values - 1.0), 0.0)?,
    };
    Ok((y, statistics))
}

fn fallback(centred: &Tensor, norm: Norm<'_>, var: &Tensor, epsilon: f64) -> Result<Tensor> {
    let (weight, bias) = (norm.weight.to_dtype(var.dtype())?, norm.bias.to_dtype(var.dtype())?);
    let y = centred
        .broadcast_div(&var.affine(1.0, epsilon)?.sqrt()?)?
        .broadcast_mul(&channels(&weight)?)?
        .broadcast_add(&channels(&bias)?)?;
    match norm.activation {
        Activation::Identity => Ok(y),
        Activation::Relu => relu_dropout(&y, None),
    }
}

/// The type that statistics are taken in.
fn widen(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

/// \[channels\] → \[1, channels, 1, 1\].
fn channels(x: &Tensor) -> Result<Tensor> {
    x.reshape((1, x.elem_count(), 1, 1))
}
