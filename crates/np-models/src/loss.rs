//! The classification loss, and the score of a batch in evaluation.

use candle_core::{D, DType, Tensor};

use crate::{Error, Result, kernels};

/// Mean cross-entropy of a batch, as PyTorch's `nn.CrossEntropyLoss` with its defaults.
///
/// ```text
/// L = 1/n Σᵢ (log Σⱼ exp zᵢⱼ − zᵢ,labelᵢ)
/// ```
///
/// `logits` has shape \[n, classes\] and a floating-point type, `labels` has shape \[n\] and the type `u8`, `u32` or `i64`. Returns a scalar
/// of the logits' type, with a gradient for the logits.
///
/// # Errors
///
/// [`Error::Input`] if shapes or types do not fit, n is 0, or (on a CPU) an `i64` label is out of range; errors of candle, also for labels of other
/// types that are out of range on a CPU.
pub fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let labels = check(logits, labels)?;
    Ok(kernels::cross_entropy(logits, &labels)?)
}

/// The score of a model on a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Mean cross-entropy in nats; NaN or infinite if the model has diverged.
    pub loss: f64,
    /// Number of examples whose largest logit is that of their label. Of equal logits the first counts. On a CPU a row with NaN counts as wrong.
    pub correct: usize,
}

/// The mean cross-entropy and the number of correct predictions, with one synchronisation of the device.
///
/// `logits` \[n, classes\], `labels` \[n\] as in [`cross_entropy`].
///
/// ```
/// use candle_core::{Device, Tensor};
/// use np_models::loss_and_correct;
///
/// # fn main() -> np_models::Result<()> {
/// let logits = Tensor::new(&[[0f32, 0.0], [0.0, 0.0], [9.0, 0.0]], &Device::Cpu)?;
/// let labels = Tensor::new(&[0u32, 1, 0], &Device::Cpu)?;
/// let score = loss_and_correct(&logits, &labels)?;
/// assert_eq!(score.correct, 2);
/// assert!((score.loss - (2.0 * 2f64.ln() + 0.000123) / 3.0).abs() < 1e-6);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`cross_entropy`].
pub fn loss_and_correct(logits: &Tensor, labels: &Tensor) -> Result<Score> {
    let labels = check(logits, labels)?;
    let logits = logits.detach();
    if kernels::runs_here(&logits) {
        let (loss, correct) = kernels::loss_and_correct(&logits, &labels)?;
        return Ok(Score { loss, correct });
    }
    let loss = kernels::cross_entropy(&logits, &labels)?.to_dtype(DType::F32)?;
    let correct = logits.argmax(D::Minus1)?.eq(&labels)?.to_dtype(DType::F32)?.sum_all()?;
    let both = Tensor::stack(&[loss, correct], 0)?.to_vec1::<f32>()?;
    Ok(Score { loss: f64::from(both[0]), correct: both[1] as usize })
}

/// Checks shapes and types; returns the labels as `u32`.
fn check(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (n, classes) = match logits.dims() {
        &[n, classes] if n > 0 && classes > 0 && logits.dtype().is_float() => (n, classes),
        dims => {
            let got = format!("{dims:?} of {:?}", logits.dtype());
            return Err(Error::input("logits", "[n, classes] of a float, n and classes at least 1", got));
        }
    };
    if labels.dims() != [n] || !matches!(labels.dtype(), DType::U8 | DType::U32 | DType::I64) {
        let got = format!("{:?} of {:?}", labels.dims(), labels.dtype());
        return Err(Error::input("labels", format!("[{n}] of U8, U32 or I64"), got));
    }
    if labels.dtype() == DType::I64 && labels.device().is_cpu() {
        // As `u32` a negative label would be a large one, and a large one might be any.
        let found =
            labels.to_vec1::<i64>()?.into_iter().enumerate().find(|&(_, label)| !(0..classes as i64).contains(&label));
        if let Some((row, label)) = found {
            let expected = format!("from 0 to {}; none is passed over", classes - 1);
            return Err(Error::input("labels", expected, format!("`{label}` in row {row}")));
        }
    }
    Ok(labels.to_dtype(DType::U32)?)
}
