//! Sums over blocks, in lanes: the same order of additions whatever the width of the machine's registers.

use crate::Float;

/// Enough lanes to hide an addition's latency.
const LANES: usize = 32;

/// Σ f(x).
#[inline(always)]
pub(crate) fn sum<T: Float>(xs: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::ZERO; LANES];
    let (body, rest) = xs.as_chunks::<LANES>();
    for x in body {
        for l in 0..LANES {
            lanes[l] += f(x[l]);
        }
    }
    rest.iter().zip(&mut lanes).for_each(|(x, lane)| *lane += f(*x));
    lanes.iter().map(|x| x.to_f64()).sum()
}

/// Σ x y.
#[inline(always)]
pub(crate) fn dot<T: Float>(xs: &[T], ys: &[T]) -> f64 {
    let mut lanes = [T::ZERO; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] += x[l] * y[l];
        }
    }
    x_rest.iter().zip(y_rest).zip(&mut lanes).for_each(|((x, y), lane)| *lane += *x * *y);
    lanes.iter().map(|x| x.to_f64()).sum()
}

/// Σ x².
#[inline(always)]
pub(crate) fn square_sum<T: Float>(xs: &[T]) -> f64 {
    sum(xs, |x| x * x)
}
