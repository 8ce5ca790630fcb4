//! Batch normalisation over the rows of a channels-last tensor, \[rows, channels\], with an activation and a residual.
//!
//! Sums over rows are taken in chunks of fixed size, and the chunks are merged in order, in `f64`: the number of threads changes
//! no bit. A chunk's variance is taken about its own mean, so that a large mean costs no digits.

use rayon::prelude::*;

use super::scratch::Buffer;
use super::{Real, vectorised};
use crate::layers::Activation;

/// Elements of a chunk, about: two passes over one stay in the first-level cache.
const CHUNK: usize = 8192;
/// Elements of a vector of channels repeated, at least: few channels would make short loops.
const PERIOD: usize = 64;

/// The statistics that a normalisation uses, \[channels\] each.
#[derive(Debug, Clone)]
pub(super) struct Moments<T> {
    pub(super) mean: Vec<T>,
    /// 1 / √(σ² + ε).
    pub(super) inverse_std: Vec<T>,
}

/// A batch's mean and variance, in `f64`.
pub(super) struct BatchMoments {
    pub(super) mean: Vec<f64>,
    /// Σ (x − mean)².
    pub(super) squares: Vec<f64>,
    pub(super) rows: usize,
}

impl BatchMoments {
    pub(super) fn moments<T: Real>(&self, epsilon: f64) -> Moments<T> {
        let biased = self.squares.iter().map(|s| s / self.rows as f64);
        Moments {
            mean: self.mean.iter().map(|&m| T::from_f64(m)).collect(),
            inverse_std: biased.map(|v| T::from_f64((v + epsilon).sqrt().recip())).collect(),
        }
    }

    pub(super) fn unbiased_var(&self) -> Vec<f64> {
        self.squares.iter().map(|s| s / (self.rows - 1) as f64).collect()
    }
}

/// Elements of a chunk: whole rows, and whole periods.
fn chunk(channels: usize) -> usize {
    let period = period(channels);
    (CHUNK / period).max(1) * period
}

/// The length of a vector of channels, repeated.
fn period(channels: usize) -> usize {
    channels * PERIOD.div_ceil(channels)
}

fn repeat<T: Real>(values: &[T]) -> Vec<T> {
    values.repeat(PERIOD.div_ceil(values.len()))
}

/// Adds up the copies of each channel in `sums`.
fn fold<T: Real>(sums: &[T], totals: &mut [T]) {
    totals.fill(T::ZERO);
    for sums in sums.chunks_exact(totals.len()) {
        for (total, &sum) in totals.iter_mut().zip(sums) {
            *total += sum;
        }
    }
}

/// The mean and the variance of each channel, from those of `parts` of x, with the rows of each: all merged in order.
pub(super) fn merge_moments<T: Real>(parts: &[T], channels: usize, rows: impl Iterator<Item = usize>) -> BatchMoments {
    let mut all = BatchMoments { mean: vec![0.0; channels], squares: vec![0.0; channels], rows: 0 };
    for (part, n) in parts.chunks_exact(2 * channels).zip(rows) {
        let share = n as f64 / (all.rows + n) as f64;
        let weight = all.rows as f64 * share;
        for (c, (mean, squares)) in all.mean.iter_mut().zip(&mut all.squares).enumerate() {
            let difference = part[c].to_f64() - *mean;
            *mean += difference * share;
            *squares += part[channels + c].to_f64() + difference * difference * weight;
        }
        all.rows += n;
    }
    all
}

/// The mean and the variance of each channel.
pub(super) fn batch_moments<T: Real>(x: &[T], channels: usize) -> BatchMoments {
    let chunk = chunk(channels);
    let mut parts = Buffer::scratch(x.len().div_ceil(chunk) * 2 * channels);
    parts.par_chunks_exact_mut(2 * channels).zip(x.par_chunks(chunk)).for_each(|(part, x)| part_moments(x, part));
    merge_moments(&parts, channels, x.chunks(chunk).map(|x| x.len() / channels))
}

/// The mean of each channel of x, then Σ (x − mean)².
pub(super) fn part_moments<T: Real>(x: &[T], part: &mut [T]) {
    let (mean, squares) = part.split_at_mut(part.len() / 2);
    let channels = mean.len();
    let period = period(channels);
    let mut sums = vec![T::ZERO; period];
    vectorised(
        #[inline(always)]
        || {
            for x in x.chunks(period) {
                for (s, &x) in sums.iter_mut().zip(x) {
                    *s += x;
                }
            }
        },
    );
    fold(&sums, mean);
    let share = T::from_f64(channels as f64 / x.len() as f64);
    for m in mean.iter_mut() {
        *m *= share;
    }
    let centre = repeat(mean);
    sums.fill(T::ZERO);
    vectorised(
        #[inline(always)]
        || {
            for x in x.chunks(period) {
                for ((s, &x), &m) in sums.iter_mut().zip(x).zip(&centre) {
                    let d = x - m;
                    *s += d * d;
                }
            }
        },
    );
    fold(&sums, squares);
}

/// What an activation lifts its input to; a bound instead of a choice, so that loops have no branch.
fn floor<T: Real>(activation: Activation) -> T {
    match activation {
        Activation::Identity => T::from_f64(f64::NEG_INFINITY),
        Activation::Relu => T::ZERO,
    }
}

/// y = activation(γ (x − μ) / σ + β + residual).
pub(super) fn forward<T: Real>(
    x: &[T],
    moments: &Moments<T>,
    [weight, bias]: [&[T]; 2],
    residual: Option<&[T]>,
    activation: Activation,
    y: &mut [T],
) {
    let channels = weight.len();
    let (chunk, period) = (chunk(channels), period(channels));
    let scale: Vec<T> = weight.iter().zip(&moments.inverse_std).map(|(&w, &s)| w * s).collect();
    let (mean, scale, bias) = (repeat(&moments.mean), repeat(&scale), repeat(bias));
    let floor = floor(activation);
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(number, (y, x))| {
        let residual = residual.map(|residual| &residual[number * chunk..][..y.len()]);
        vectorised(
            #[inline(always)]
            || {
                for (i, (y, x)) in y.chunks_mut(period).zip(x.chunks(period)).enumerate() {
                    let channels = mean.iter().zip(&scale).zip(&bias);
                    match residual {
                        Some(residual) => {
                            let residual = &residual[i * period..][..y.len()];
                            for (((y, &x), ((&m, &s), &b)), &r) in y.iter_mut().zip(x).zip(channels).zip(residual) {
                                let v = (x - m) * s + b + r;
                                *y = if v <= floor { floor } else { v };
                            }
                        }
                        None => {
                            for ((y, &x), ((&m, &s), &b)) in y.iter_mut().zip(x).zip(channels) {
                                let v = (x - m) * s + b;
                                *y = if v <= floor { floor } else { v };
                            }
                        }
                    }
                }
            },
        );
    });
}

/// The gradients of γ and β.
pub(super) struct ParameterGradients<T> {
    pub(super) weight: Vec<T>,
    pub(super) bias: Vec<T>,
}

/// What a backward pass knows of the forward pass.
#[derive(Clone, Copy)]
pub(super) struct Passed<'a, T> {
    pub(super) x: &'a [T],
    pub(super) moments: &'a Moments<T>,
    /// γ and β.
    pub(super) affine: [&'a [T]; 2],
    pub(super) activation: Activation,
}

impl<T: Real> Passed<'_, T> {
    /// μ, γ / σ and β, repeated: the numbers that [`forward`] computes with, so that a sign comes out as it did there.
    fn repeated(&self) -> [Vec<T>; 3] {
        let scale: Vec<T> = self.affine[0].iter().zip(&self.moments.inverse_std).map(|(&w, &s)| w * s).collect();
        [repeat(&self.moments.mean), repeat(&scale), repeat(self.affine[1])]
    }
}

/// Σ dz (x − μ) / σ and Σ dz, with dz what of dy passed the activation.
///
/// What passed is worked out from x, which spares reading y; where there was a residual it is seen from y, and dz, the
/// residual's gradient, is left in `dy`.
pub(super) fn backward_parameters<T: Real>(
    passed: Passed<'_, T>,
    y_of_residual: Option<&[T]>,
    dy: &mut [T],
) -> ParameterGradients<T> {
    let (x, channels) = (passed.x, passed.moments.mean.len());
    let (chunk, period) = (chunk(channels), period(channels));
    let [mean, scale, bias] = passed.repeated();
    let floor = floor(passed.activation);
    let mut partial = Buffer::scratch(x.len().div_ceil(chunk) * 2 * channels);
    let chunks = partial.par_chunks_exact_mut(2 * channels).zip(x.par_chunks(chunk)).zip(dy.par_chunks_mut(chunk));
    chunks.enumerate().for_each(|(number, ((partial, x), dy))| {
        let mut sums = vec![T::ZERO; 2 * period];
        let (products, plain) = sums.split_at_mut(period);
        if let Some(y) = y_of_residual {
            pass(dy, &y[number * chunk..][..x.len()], floor);
        }
        let floor = if y_of_residual.is_some() { T::from_f64(f64::NEG_INFINITY) } else { floor };
        vectorised(
            #[inline(always)]
            || {
                for (x, dy) in x.chunks(period).zip(dy.chunks(period)) {
                    let sums = products.iter_mut().zip(plain.iter_mut());
                    let channels = mean.iter().zip(&scale).zip(&bias);
                    for (((p, s), ((&m, &a), &b)), (&x, &dy)) in sums.zip(channels).zip(x.iter().zip(dy)) {
                        let centred = x - m;
                        let dz = if centred * a + b <= floor { T::ZERO } else { dy };
                        *p += dz * centred;
                        *s += dz;
                    }
                }
            },
        );
        let (to_products, to_plain) = partial.split_at_mut(channels);
        fold(products, to_products);
        fold(plain, to_plain);
    });
    let mut sums = vec![0.0; 2 * channels];
    for partial in partial.chunks_exact(2 * channels) {
        for (sum, p) in sums.iter_mut().zip(partial) {
            *sum += p.to_f64();
        }
    }
    let inverse_std = passed.moments.inverse_std.iter();
    let weight = sums.iter().zip(inverse_std).map(|(sum, s)| T::from_f64(sum * s.to_f64())).collect();
    ParameterGradients { weight, bias: sums[channels..].iter().map(|&s| T::from_f64(s)).collect() }
}

/// dy ← what of it passed the activation.
fn pass<T: Real>(dy: &mut [T], y: &[T], floor: T) {
    vectorised(
        #[inline(always)]
        || {
            for (dy, &y) in dy.iter_mut().zip(y) {
                let dz = if y <= floor { T::ZERO } else { *dy };
                // The sum keeps the compiler from a masked store, which some processors do element by element.
                *dy = dz + T::ZERO;
            }
        },
    );
}

/// Whose statistics a normalisation used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The batch's own: they depend on x.
    Batch,
    /// Running ones: constants.
    Running,
}

/// The gradient of x, dx = a dz + b (x − μ) + c: from `dz`, or in place where that is `None` and `dx` holds dy.
///
/// ```text
/// a = γ / σ;   with a batch's own statistics   b = −a · dγ / (σ · rows),   c = −a · dβ / rows;   else b = c = 0
/// ```
pub(super) fn backward_data<T: Real>(
    passed: Passed<'_, T>,
    gradients: &ParameterGradients<T>,
    source: Source,
    dz: Option<&[T]>,
    dx: &mut [T],
) {
    let (x, weight) = (passed.x, passed.affine[0]);
    let channels = weight.len();
    let (chunk, period) = (chunk(channels), period(channels));
    let per_row = if source == Source::Batch { channels as f64 / x.len() as f64 } else { 0.0 };
    let mut coefficients = [const { Vec::new() }; 2];
    for (c, weight) in weight.iter().enumerate() {
        let inverse_std = passed.moments.inverse_std[c].to_f64();
        let a = weight.to_f64() * inverse_std;
        let b = -a * gradients.weight[c].to_f64() * inverse_std * per_row;
        for (list, value) in coefficients.iter_mut().zip([b, -a * gradients.bias[c].to_f64() * per_row]) {
            list.push(T::from_f64(value));
        }
    }
    let [mean, scale, bias] = passed.repeated();
    let [slope, offset] = coefficients.map(|list| repeat(&list));
    let floor = floor(if dz.is_some() { Activation::Identity } else { passed.activation });
    dx.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(number, (dx, x))| {
        if let Some(dz) = dz {
            dx.copy_from_slice(&dz[number * chunk..][..x.len()]);
        }
        vectorised(
            #[inline(always)]
            || {
                for (dx, x) in dx.chunks_mut(period).zip(x.chunks(period)) {
                    let forward = mean.iter().zip(&scale).zip(&bias);
                    let channels = forward.zip(slope.iter().zip(&offset));
                    for ((dx, &x), (((&m, &a), &bias), (&b, &c))) in dx.iter_mut().zip(x).zip(channels) {
                        let centred = x - m;
                        let dz = if centred * a + bias <= floor { T::ZERO } else { *dx };
                        *dx = dz * a + centred * b + c;
                    }
                }
            },
        );
    });
}
