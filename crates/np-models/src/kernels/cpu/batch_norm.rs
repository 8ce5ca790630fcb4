//! Batch normalisation with an activation: the custom operation, and candle's own operations for the rest.

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor};

use super::batch_norm_rows::{self as rows, Moments, Passed, Source};
use super::{Kernels, Real, dispatch, relu_dropout, slice, with_slice};
use crate::layers::Activation;

/// The affine map and the activation after a normalisation.
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: &'a Tensor,
    pub(crate) activation: Activation,
    pub(crate) kernels: Kernels,
}

/// What a batch says of its channels; \[channels\] each.
pub(crate) struct Statistics {
    pub(crate) mean: Tensor,
    pub(crate) unbiased_var: Tensor,
}

/// Normalises with the statistics of the batch, and returns them.
pub(crate) fn batch_norm_train(x: &Tensor, norm: Norm<'_>, epsilon: f64) -> Result<(Tensor, Statistics)> {
    if norm.kernels != Kernels::Cpu {
        return fallback_train(x, norm, epsilon);
    }
    let x = channels_last(x)?;
    let channels = x.dim(3)?;
    dispatch!("batch-norm", x.dtype(), T => {
        let batch = with_slice::<T, _>(&x, |x| Ok(rows::batch_moments(x, channels)))?;
        let op = NormOp { moments: batch.moments::<T>(epsilon), activation: norm.activation, source: Source::Batch };
        let y = op.apply(&x, norm)?;
        let tensor = |values: Vec<f64>| Tensor::from_vec(values, channels, x.device());
        Ok((y, Statistics { unbiased_var: tensor(batch.unbiased_var())?, mean: tensor(batch.mean)? }))
    })
}

/// Normalises with given statistics.
pub(crate) fn batch_norm_eval(x: &Tensor, norm: Norm<'_>, mean: &Tensor, var: &Tensor, epsilon: f64) -> Result<Tensor> {
    if norm.kernels != Kernels::Cpu {
        let wide = widen(x.dtype());
        let centred = x.to_dtype(wide)?.broadcast_sub(&channels(&mean.to_dtype(wide)?)?)?;
        return fallback(&centred, norm, &channels(&var.to_dtype(wide)?)?, epsilon)?.to_dtype(x.dtype());
    }
    dispatch!("batch-norm", x.dtype(), T => {
        let moments = running_moments::<T>(mean, var, epsilon)?;
        NormOp { moments, activation: norm.activation, source: Source::Running }.apply(&channels_last(x)?, norm)
    })
}

/// The moments of running statistics.
pub(super) fn running_moments<T: Real>(mean: &Tensor, var: &Tensor, epsilon: f64) -> Result<Moments<T>> {
    let inverse_std = |v: T| T::from_f64((v.to_f64() + epsilon).sqrt().recip());
    Ok(Moments { mean: mean.to_vec1()?, inverse_std: var.to_vec1()?.into_iter().map(inverse_std).collect() })
}

/// \[n, channels, h, w\] → \[n, h, w, channels\] in that order of memory.
fn channels_last(x: &Tensor) -> Result<Tensor> {
    x.permute((0, 2, 3, 1))?.contiguous()
}

/// Over channels-last images, γ and β.
struct NormOp<T> {
    moments: Moments<T>,
    activation: Activation,
    source: Source,
}

impl<T: Real> NormOp<T> {
    /// x \[n, h, w, channels\] → a \[n, channels, h, w\] view.
    fn apply(self, x: &Tensor, norm: Norm<'_>) -> Result<Tensor> {
        x.apply_op3(&norm.weight.contiguous()?, &norm.bias.contiguous()?, self)?.permute((0, 3, 1, 2))
    }
}

impl<T: Real> CustomOp3 for NormOp<T> {
    fn name(&self) -> &'static str {
        "batch-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice::<T>(x, x_layout)?;
        let affine = [slice::<T>(weight, weight_layout)?, slice::<T>(bias, bias_layout)?];
        let mut y = vec![T::ZERO; x.len()];
        rows::forward(x, &self.moments, affine, None, self.activation, &mut y);
        Ok((T::to_cpu_storage_owned(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let vector = |values| Tensor::from_vec(values, weight.shape(), x.device());
        with_slice::<T, _>(x, |xs| {
            with_slice::<T, _>(weight, |weights| {
                with_slice::<T, _>(bias, |biases| {
                    let (moments, activation) = (&self.moments, self.activation);
                    let passed = Passed { x: xs, moments, affine: [weights, biases], activation };
                    let mut dx = with_slice::<T, _>(&dy.contiguous()?, |dy| Ok(dy.to_vec()))?;
                    let gradients = rows::backward_parameters(passed, None, &mut dx);
                    rows::backward_data(passed, &gradients, self.source, None, &mut dx);
                    let dx = x.track_op().then(|| Tensor::from_vec(dx, x.shape(), x.device())).transpose()?;
                    let dw = weight.track_op().then(|| vector(gradients.weight)).transpose()?;
                    Ok((dx, dw, bias.track_op().then(|| vector(gradients.bias)).transpose()?))
                })
            })
        })
    }
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
