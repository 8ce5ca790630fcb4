//! Softmax cross-entropy with integer labels, the mean over the batch: dz = (softmax(z) − one-hot(label)) · dL / n.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, WithDType, bail};

use super::{Real, dispatch, runs_here, slice, with_slice};

/// `logits` \[n, classes\], `labels` \[n\] of `u32` → a scalar.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if runs_here(logits) {
        logits.contiguous()?.apply_op2(&labels.contiguous()?, CrossEntropyOp)
    } else {
        candle_nn::loss::cross_entropy(logits, labels)
    }
}

/// The mean loss and the number of rows whose first largest logit is the label's; for tensors that run here.
pub(crate) fn loss_and_correct(logits: &Tensor, labels: &Tensor) -> Result<(f64, usize)> {
    let (logits, labels) = (logits.contiguous()?, labels.contiguous()?);
    with_slice::<u32, _>(&labels, |labels| {
        dispatch!("loss-and-correct", logits.dtype(), T => with_slice::<T, _>(&logits, |logits| {
            let mut correct = 0;
            for (row, label) in rows(logits, labels)? {
                correct += usize::from(is_correct(row, label));
            }
            Ok((mean_loss(logits, labels)?, correct))
        }))
    })
}

struct CrossEntropyOp;

impl CustomOp2 for CrossEntropyOp {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        labels: &CpuStorage,
        labels_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let labels = slice::<u32>(labels, labels_layout)?;
        let loss = dispatch!(self.name(), logits.dtype(), T => {
            T::to_cpu_storage_owned(vec![T::from_f64(mean_loss(slice::<T>(logits, logits_layout)?, labels)?)])
        });
        Ok((loss, Shape::from(())))
    }

    fn bwd(
        &self,
        logits: &Tensor,
        labels: &Tensor,
        _loss: &Tensor,
        dl: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dz = dispatch!(self.name(), logits.dtype(), T => {
            let scale = dl.to_scalar::<T>()? / T::from_f64(labels.elem_count() as f64);
            let dz = with_slice::<T, _>(logits, |z| with_slice::<u32, _>(labels, |labels| gradient(z, labels, scale)))?;
            Tensor::from_vec(dz, logits.shape(), logits.device())?
        });
        Ok((Some(dz), None))
    }
}

/// Each row of logits with its label, all labels checked.
fn rows<'a, T>(logits: &'a [T], labels: &'a [u32]) -> Result<impl Iterator<Item = (&'a [T], usize)>> {
    let classes = logits.len() / labels.len().max(1);
    if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
        bail!("label {} of example {row} is not below the number of classes, {classes}", labels[row]);
    }
    Ok(logits.chunks_exact(classes.max(1)).zip(labels.iter().map(|&label| label as usize)))
}

/// The largest logit, and Σ exp(z − largest).
fn max_and_sum<T: Real>(row: &[T]) -> (T, T) {
    let max = row.iter().copied().fold(row[0], |max, z| if z > max { z } else { max });
    (max, row.iter().fold(T::ZERO, |sum, &z| sum + (z - max).exp()))
}

/// The mean over rows, summed in `f64`.
fn mean_loss<T: Real>(logits: &[T], labels: &[u32]) -> Result<f64> {
    let mut total = 0.0;
    for (row, label) in rows(logits, labels)? {
        let (max, sum) = max_and_sum(row);
        total += (sum.ln() + (max - row[label])).to_f64();
    }
    Ok(total / labels.len() as f64)
}

fn gradient<T: Real>(logits: &[T], labels: &[u32], scale: T) -> Result<Vec<T>> {
    let mut dz = Vec::with_capacity(logits.len());
    for (row, label) in rows(logits, labels)? {
        let (max, sum) = max_and_sum(row);
        let start = dz.len();
        dz.extend(row.iter().map(|&z| (z - max).exp() / sum * scale));
        dz[start + label] -= scale;
    }
    Ok(dz)
}

fn is_correct<T: Real>(row: &[T], label: usize) -> bool {
    // Comparisons that a NaN on either side fails.
    row[..label].iter().all(|&z| z < row[label]) && row[label..].iter().all(|&z| z <= row[label])
}
