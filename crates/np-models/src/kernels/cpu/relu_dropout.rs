//! ReLU and dropout in one pass, with masks that are a function of (seed, layer, step).
//!
//! The backward pass needs no mask: an output above 0 is one whose input was above 0 and kept.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, WithDType};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::{Real, dispatch, runs_here, slice, with_slice};

/// Elements a task takes: fixed, so that the mask does not depend on the number of threads.
const CHUNK: usize = 4096;
/// One in this many is the resolution of a probability.
const DRAWS: u32 = 1 << 16;

/// Which elements of a layer's activations are dropped in a step.
#[derive(Debug, Clone)]
pub(crate) struct DropoutMask {
    key: [u8; 32],
    /// An element is dropped when its draw, uniform in 0..2¹⁶, is below this.
    threshold: u16,
}

impl DropoutMask {
    /// `None` where `probability`, in [0, 1), rounds to nothing dropped.
    pub(crate) fn new(probability: f64, seed: u64, layer: u64, step: u64) -> Option<Self> {
        let (threshold, _) = Self::rounded(probability);
        let mut key = [0; 32];
        for (bytes, part) in key.chunks_exact_mut(8).zip([seed, layer, step, u64::from_le_bytes(*b"dropout\0")]) {
            bytes.copy_from_slice(&part.to_le_bytes());
        }
        (threshold > 0).then_some(Self { key, threshold })
    }

    /// What draws are compared with for this probability, and 1 / (1 − p) for the p that it stands for.
    pub(crate) fn rounded(probability: f64) -> (u16, f64) {
        // Clamped, so that a probability just below 1 still keeps one in 2¹⁶.
        let threshold = (probability * f64::from(DRAWS)).round().clamp(0.0, f64::from(u16::MAX)) as u16;
        (threshold, f64::from(DRAWS) / f64::from(DRAWS - u32::from(threshold)))
    }

    /// 1 / (1 − p), for the p that the threshold stands for.
    fn scale(&self) -> f64 {
        f64::from(DRAWS) / f64::from(DRAWS - u32::from(self.threshold))
    }

    /// The mask of chunk number `chunk`: calls `f` with each of `items` and whether its element is kept.
    #[inline]
    fn zip_chunk<I>(&self, chunk: usize, items: impl ExactSizeIterator<Item = I>, mut f: impl FnMut(I, bool)) {
        const WORDS: u128 = (CHUNK / 2) as u128; // two draws in a 32-bit word
        let mut draws = [0; 2 * CHUNK];
        let draws = &mut draws[..2 * items.len()];
        let mut rng = ChaCha8Rng::from_seed(self.key);
        rng.set_word_pos(chunk as u128 * WORDS);
        rng.fill_bytes(draws);
        for (item, &draw) in items.zip(draws.as_chunks().0) {
            f(item, u16::from_le_bytes(draw) >= self.threshold);
        }
    }

    /// The mask as a tensor: 0 for a dropped element, the scale for a kept one.
    fn tensor(&self, like: &Tensor) -> Result<Tensor> {
        let scale = self.scale() as f32;
        let mut mask = vec![0f32; like.elem_count()];
        for (chunk, mask) in mask.chunks_mut(CHUNK).enumerate() {
            self.zip_chunk(chunk, mask.iter_mut(), |m, keep| *m = if keep { scale } else { 0.0 });
        }
        Tensor::from_vec(mask, like.shape(), &Device::Cpu)?.to_device(like.device())?.to_dtype(like.dtype())
    }
}

/// max(x, 0), then the mask and its scale, if there is one.
pub(crate) fn relu_dropout(x: &Tensor, mask: Option<DropoutMask>) -> Result<Tensor> {
    if runs_here(x) { x.contiguous()?.apply_op1(ReluDropoutOp { mask }) } else { fallback(x, mask.as_ref()) }
}

/// The same with candle's own operations. Not its `relu`, whose gradient at 0 is 1.
fn fallback(x: &Tensor, mask: Option<&DropoutMask>) -> Result<Tensor> {
    let y = x.le(0.0)?.where_cond(&x.zeros_like()?, x)?;
    match mask {
        Some(mask) => y * mask.tensor(x)?,
        None => Ok(y),
    }
}

struct ReluDropoutOp {
    mask: Option<DropoutMask>,
}

impl CustomOp1 for ReluDropoutOp {
    fn name(&self) -> &'static str {
        "relu-dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = dispatch!(self.name(), x.dtype(), T => {
            T::to_cpu_storage_owned(forward(slice::<T>(x, layout)?, self.mask.as_ref()))
        });
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dy = dy.contiguous()?;
        let scale = self.mask.as_ref().map_or(1.0, DropoutMask::scale);
        let dx = dispatch!(self.name(), dy.dtype(), T => {
            let scale = T::from_f64(scale);
            let dx = with_slice::<T, _>(y, |y| with_slice::<T, _>(&dy, |dy| Ok(backward(y, dy, scale))))?;
            Tensor::from_vec(dx, dy.shape(), dy.device())?
        });
        Ok(Some(dx))
    }
}

fn forward<T: Real>(x: &[T], mask: Option<&DropoutMask>) -> Vec<T> {
    let Some(mask) = mask else {
        return x.iter().map(|&x| if x <= T::ZERO { T::ZERO } else { x }).collect();
    };
    let scale = T::from_f64(mask.scale());
    let mut y = vec![T::ZERO; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
        mask.zip_chunk(chunk, y.iter_mut().zip(x), |(y, &x), keep| {
            let dropped = !keep | (x <= T::ZERO); // without a branch, so that it vectorises
            *y = if dropped { T::ZERO } else { x * scale };
        });
    });
    y
}

fn backward<T: Real>(y: &[T], dy: &[T], scale: T) -> Vec<T> {
    // Two loops that vectorise; in one, the compiler skips the product with a branch, eight times slower.
    let mut dx: Vec<T> = dy.iter().map(|&dy| dy * scale).collect();
    for (dx, &y) in dx.iter_mut().zip(y) {
        *dx = if y <= T::ZERO { T::ZERO } else { *dx };
    }
    dx
}
