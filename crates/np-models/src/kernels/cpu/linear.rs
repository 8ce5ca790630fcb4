//! y = x Wᵀ + b and its gradients: dx = dy W, dW = dyᵀ x, db = the column sums of dy.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, WithDType};

use super::gemm::{Destination, Matrix, matmul, matrix};
use super::{Kernels, Real, dispatch, slice, with_slice};
use crate::recorder::Tap;

/// x \[batch, inputs\], `weight` \[outputs, inputs\], `bias` \[outputs\] → \[batch, outputs\]. `tap` hears of the
/// backward pass of the custom operation, and only of that.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor, tap: Option<Tap>, kernels: Kernels) -> Result<Tensor> {
    if kernels == Kernels::Cpu {
        x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, LinearOp { tap })
    } else {
        x.matmul(&weight.t()?)?.broadcast_add(bias)
    }
}

struct LinearOp {
    tap: Option<Tap>,
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
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
        let (batch, inputs) = x_layout.shape().dims2()?;
        let outputs = weight_layout.shape().dims2()?.0;
        let y = dispatch!(self.name(), x.dtype(), T => {
            let x = matrix(slice::<T>(x, x_layout)?, batch, inputs)?;
            let weight = matrix(slice::<T>(weight, weight_layout)?, outputs, inputs)?;
            T::to_cpu_storage_owned(forward(x, weight, slice::<T>(bias, bias_layout)?, batch)?)
        });
        Ok((y, Shape::from((batch, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        if let Some(tap) = &self.tap {
            tap.keep(x, &dy);
        }
        dispatch!(self.name(), dy.dtype(), T => {
            // An operand that no variable led to (the data, a frozen weight) needs no gradient; candle would store one given.
            let dx = x.track_op().then(|| input_gradient::<T>(weight, &dy)).transpose()?;
            let dw = weight.track_op().then(|| weight_gradient::<T>(x, &dy)).transpose()?;
            let db = bias.track_op().then(|| bias_gradient::<T>(&dy)).transpose()?;
            Ok((dx, dw, db))
        })
    }
}

fn forward<T: Real>(x: Matrix<'_, T>, weight: Matrix<'_, T>, bias: &[T], batch: usize) -> Result<Vec<T>> {
    let mut y = bias.repeat(batch);
    matmul(&mut y, Destination::Add, x, weight.t())?;
    Ok(y)
}

/// dx = dy W.
fn input_gradient<T: Real>(weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let ((batch, outputs), inputs) = (dy.dims2()?, weight.dim(1)?);
    let mut dx = vec![T::ZERO; batch * inputs];
    with_slice::<T, _>(weight, |weight| {
        with_slice::<T, _>(dy, |dy| {
            let (dy, weight) = (matrix(dy, batch, outputs)?, matrix(weight, outputs, inputs)?);
            matmul(&mut dx, Destination::Overwrite, dy, weight)
        })
    })?;
    Tensor::from_vec(dx, (batch, inputs), dy.device())
}

/// dW = dyᵀ x.
fn weight_gradient<T: Real>(x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let ((batch, outputs), inputs) = (dy.dims2()?, x.dim(1)?);
    let mut dw = vec![T::ZERO; outputs * inputs];
    with_slice::<T, _>(x, |x| {
        with_slice::<T, _>(dy, |dy| {
            let (dy, x) = (matrix(dy, batch, outputs)?, matrix(x, batch, inputs)?);
            matmul(&mut dw, Destination::Overwrite, dy.t(), x)
        })
    })?;
    Tensor::from_vec(dw, (outputs, inputs), dy.device())
}

/// db = the column sums of dy, row after row.
fn bias_gradient<T: Real>(dy: &Tensor) -> Result<Tensor> {
    let outputs = dy.dim(1)?;
    let mut db = vec![T::ZERO; outputs];
    with_slice::<T, _>(dy, |dy| {
        for row in dy.chunks_exact(outputs) {
            for (sum, &d) in db.iter_mut().zip(row) {
                *sum += d;
            }
        }
        Ok(())
    })?;
    Tensor::from_vec(db, outputs, dy.device())
}
