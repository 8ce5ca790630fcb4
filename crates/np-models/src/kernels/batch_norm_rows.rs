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

/// The mean and the variance of each channel.
pub(super) fn batch_moments<T: Real>(x: &[T], channels: usize) -> BatchMoments {
    let chunk = chunk(channels);
    let mut partial = Buffer::scratch(x.len().div_ceil(chunk) * 2 * channels);
    partial.par_chunks_exact_mut(2 * channels).zip(x.par_chunks(chunk)).for_each(|(partial, x)| {
        let (mean, squares) = partial.split_at_mut(channels);
        chunk_moments(x, mean, squares);
    });
    let mut all = BatchMoments { mean: vec![0.0; channels], squares: vec![0.0; channels], rows: 0 };
    for (partial, x) in partial.chunks_exact(2 * channels).zip(x.chunks(chunk)) {
        let n = x.len() / channels;
        let share = n as f64 / (all.rows + n) as f64;
        let weight = all.rows as f64 * share;
        for c in 0..channels {
            let difference = partial[c].to_f64() - all.mean[c];
            all.mean[c] += difference * share;
            all.squares[c] += partial[channels + c].to_f64() + difference * difference * weight;
        }
        all.rows += n;
    }
    all
}

fn chunk_moments<T: Real>(x: &[T], mean: &mut [T], squares: &mut [T]) {
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
    let floor = |v: T| if activation == Activation::Relu && v <= T::ZERO { T::ZERO } else { v };
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
                                *y = floor((x - m) * s + b + r);
                            }
                        }
                        None => {
                            for ((y, &x), ((&m, &s), &b)) in y.iter_mut().zip(x).zip(channels) {
                                *y = floor((x - m) * s + b);
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

/// What passed the activation of the gradient dy of y.
#[inline(always)]
fn passed<T: Real>(activation: Activation, y: T, dy: T) -> T {
    if activation == Activation::Relu && y <= T::ZERO { T::ZERO } else { dy }
}

/// What a backward pass starts from.
#[derive(Clone, Copy)]
pub(super) struct Incoming<'a, T> {
    pub(super) x: &'a [T],
    pub(super) y: &'a [T],
    pub(super) dy: &'a [T],
    pub(super) moments: &'a Moments<T>,
    pub(super) activation: Activation,
}

/// Σ dz (x − μ) / σ and Σ dz, with dz what of dy passed the activation.
pub(super) fn backward_parameters<T: Real>(incoming: Incoming<'_, T>) -> ParameterGradients<T> {
    let Incoming { x, y, dy, moments, activation } = incoming;
    let channels = moments.mean.len();
    let (chunk, period) = (chunk(channels), period(channels));
    let mean = repeat(&moments.mean);
    let mut partial = Buffer::scratch(x.len().div_ceil(chunk) * 2 * channels);
    partial
        .par_chunks_exact_mut(2 * channels)
        .zip(x.par_chunks(chunk))
        .zip(y.par_chunks(chunk).zip(dy.par_chunks(chunk)))
        .for_each(|((partial, x), (y, dy))| {
            let mut sums = vec![T::ZERO; 2 * period];
            let (products, plain) = sums.split_at_mut(period);
            vectorised(
                #[inline(always)]
                || {
                    for ((x, y), dy) in x.chunks(period).zip(y.chunks(period)).zip(dy.chunks(period)) {
                        let sums = products.iter_mut().zip(plain.iter_mut()).zip(&mean);
                        for ((((p, s), &m), &x), (&y, &dy)) in sums.zip(x).zip(y.iter().zip(dy)) {
                            let dz = passed(activation, y, dy);
                            *p += dz * (x - m);
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
    let weight = sums.iter().zip(&moments.inverse_std).map(|(sum, s)| T::from_f64(sum * s.to_f64())).collect();
    ParameterGradients { weight, bias: sums[channels..].iter().map(|&s| T::from_f64(s)).collect() }
}

/// Whose statistics a normalisation used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The batch's own: they depend on x.
    Batch,
    /// Running ones: constants.
    Running,
}

/// The gradient of x, dx = a dz + b (x − μ) + c, into `dx`.
///
/// ```text
/// a = γ / σ;   with a batch's own statistics   b = −a · dγ / (σ · rows),   c = −a · dβ / rows;   else b = c = 0
/// ```
pub(super) fn backward_data<T: Real>(
    incoming: Incoming<'_, T>,
    weight: &[T],
    gradients: &ParameterGradients<T>,
    source: Source,
    dx: &mut [T],
) {
    let Incoming { x, y, dy, moments, activation } = incoming;
    let channels = weight.len();
    let (chunk, period) = (chunk(channels), period(channels));
    let per_row = if source == Source::Batch { channels as f64 / x.len() as f64 } else { 0.0 };
    let mut coefficients = [const { Vec::new() }; 3];
    for (c, weight) in weight.iter().enumerate() {
        let inverse_std = moments.inverse_std[c].to_f64();
        let a = weight.to_f64() * inverse_std;
        let b = -a * gradients.weight[c].to_f64() * inverse_std * per_row;
        for (list, value) in coefficients.iter_mut().zip([a, b, -a * gradients.bias[c].to_f64() * per_row]) {
            list.push(T::from_f64(value));
        }
    }
    let [a, b, c] = coefficients.map(|list| repeat(&list));
    let mean = repeat(&moments.mean);
    dx.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).zip(y.par_chunks(chunk).zip(dy.par_chunks(chunk))).for_each(
        |((dx, x), (y, dy))| {
            vectorised(
                #[inline(always)]
                || {
                    let rows = dx.chunks_mut(period).zip(x.chunks(period));
                    for ((dx, x), (y, dy)) in rows.zip(y.chunks(period).zip(dy.chunks(period))) {
                        let channels = a.iter().zip(&b).zip(c.iter().zip(&mean));
                        let values = x.iter().zip(y.iter().zip(dy));
                        for ((dx, (&x, (&y, &dy))), ((&a, &b), (&c, &m))) in dx.iter_mut().zip(values).zip(channels) {
                            *dx = passed(activation, y, dy) * a + (x - m) * b + c;
                        }
                    }
                },
            );
        },
    );
}

/// dy ← what of it passed the activation: the gradient of the residual.
pub(super) fn pass_activation<T: Real>(y: &[T], dy: &mut [T], activation: Activation) {
    if activation == Activation::Identity {
        return;
    }
    dy.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(dy, y)| {
        vectorised(
            #[inline(always)]
            || {
                for (dy, &y) in dy.iter_mut().zip(y) {
                    *dy = passed(activation, y, *dy);
                }
            },
        );
    });
}
