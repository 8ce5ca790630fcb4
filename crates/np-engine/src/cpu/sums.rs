//! Sums over blocks, in lanes: the order of additions does not depend on the width of the CPU's registers.
//!
//! A sum that overflows the type of the computation, or a sum of squares that is 0, is computed again in double precision. No other sum is affected.
//! [`sum`] computes its terms in the type of the computation, so that it is not finite if one of them overflows.

use np_trace::Float;

// The lanes of kernels, so that sums have the same bits on all devices; they are enough to hide an addition's latency.
use np_trace::pass::LANES;

/// Elements of a lane that are added in a row. That makes the loop over lanes long enough to be kept as one, which the compiler then vectorises; as straight code it does not.
const ROWS: usize = 8;
/// Elements of a row of every lane, [`ROWS`] times.
pub const GROUP: usize = ROWS * LANES;

/// Σ f(x).
#[inline(always)]
pub fn sum<T: Float>(xs: &[T], f: impl Fn(T) -> T) -> f64 {
    let total = lane_sums(
        [xs],
        #[inline(always)]
        |[x]| [f(x)],
    )[0];
    if total.is_finite() { total } else { again(xs, |x| f(x).to_f64()) }
}

/// K sums of terms, each a function of one element of every slice, in one loop; lane by lane, with the same bits as [`sum`], [`square_sum`] and [`dot`]. `None` if a sum
/// is not finite or is 0, perhaps by underflow: then those three have to be called.
#[inline(always)]
pub fn fused_sums<T: Float, const S: usize, const K: usize>(
    xs: [&[T]; S],
    terms: impl Fn([T; S]) -> [T; K],
) -> Option<[f64; K]> {
    in_range(lane_sums(xs, terms))
}

/// The totals; `None` if one is not finite or is 0.
#[inline(always)]
pub fn in_range<const K: usize>(totals: [f64; K]) -> Option<[f64; K]> {
    totals.iter().all(|total| total.is_finite() && *total != 0.0).then_some(totals)
}

/// K sums of terms, whatever they are.
#[inline(always)]
fn lane_sums<T: Float, const S: usize, const K: usize>(xs: [&[T]; S], terms: impl Fn([T; S]) -> [T; K]) -> [f64; K] {
    let mut lanes = [[T::ZERO; LANES]; K];
    add_to_lanes(&mut lanes, xs, terms);
    reduce_lanes(&lanes)
}

/// The lanes of K sums.
pub(crate) type Lanes<T, const K: usize> = [[T; LANES]; K];

/// Adds terms to the lanes of K sums. Elements that come in several calls, all but the last with a multiple of [`GROUP`], are added as in one.
#[inline(always)]
pub fn add_to_lanes<T: Float, const S: usize, const K: usize>(
    lanes: &mut Lanes<T, K>,
    xs: [&[T]; S],
    terms: impl Fn([T; S]) -> [T; K],
) {
    let n = xs.iter().map(|x| x.len()).min().unwrap_or(0);
    let (groups, rows) = (n / GROUP, n / LANES);
    let bodies = xs.map(|x| &x.as_chunks::<LANES>().0[..rows]);
    for group in 0..groups {
        let x: [&[[T; LANES]; ROWS]; S] = std::array::from_fn(
            #[inline(always)]
            |s| &bodies[s].as_chunks::<ROWS>().0[group],
        );
        for l in 0..LANES {
            let mut sums: [T; K] = std::array::from_fn(
                #[inline(always)]
                |k| lanes[k][l],
            );
            for row in 0..ROWS {
                let terms = terms(x.map(
                    #[inline(always)]
                    |x| x[row][l],
                ));
                for k in 0..K {
                    sums[k] += terms[k];
                }
            }
            for k in 0..K {
                lanes[k][l] = sums[k];
            }
        }
    }
    for row in groups * ROWS..rows {
        for l in 0..LANES {
            let terms = terms(bodies.map(
                #[inline(always)]
                |x| x[row][l],
            ));
            for k in 0..K {
                lanes[k][l] += terms[k];
            }
        }
    }
    for (l, at) in (rows * LANES..n).enumerate() {
        let terms = terms(xs.map(
            #[inline(always)]
            |x| x[at],
        ));
        for k in 0..K {
            lanes[k][l] += terms[k];
        }
    }
}

/// Adds up the lanes of each sum, in order. An addition has to wait for the one before it, so several sums are computed side by side.
#[inline(always)]
#[expect(clippy::needless_range_loop, reason = "loops over counts, of which registers are made")]
pub fn reduce_lanes<T: Float, const L: usize, const K: usize>(lanes: &[[T; L]; K]) -> [f64; K] {
    // What an iterator's sum begins with.
    let mut totals = [-0.0; K];
    for l in 0..L {
        for k in 0..K {
            totals[k] += lanes[k][l].to_f64();
        }
    }
    totals
}

/// Σ x y.
#[inline(always)]
pub fn dot<T: Float>(xs: &[T], ys: &[T]) -> f64 {
    let total = lane_sums(
        [xs, ys],
        #[inline(always)]
        |[x, y]| [x * y],
    )[0];
    if total.is_finite() { total } else { dot_again(xs, ys) }
}

/// Σ x².
#[inline(always)]
pub fn square_sum<T: Float>(xs: &[T]) -> f64 {
    let total = lane_sums(
        [xs],
        #[inline(always)]
        |[x]| [x * x],
    )[0];
    // 0 is what squares of small numbers are in single precision, too.
    if total.is_finite() && total != 0.0 { total } else { again(xs, |x| x.to_f64() * x.to_f64()) }
}

#[cold]
#[inline(never)]
fn again<T: Float>(xs: &[T], f: impl Fn(T) -> f64) -> f64 {
    let mut lanes = [0.0; LANES];
    for xs in xs.chunks(LANES) {
        lanes.iter_mut().zip(xs).for_each(|(lane, x)| *lane += f(*x));
    }
    lanes.iter().sum()
}

#[cold]
#[inline(never)]
fn dot_again<T: Float>(xs: &[T], ys: &[T]) -> f64 {
    xs.iter().zip(ys).map(|(x, y)| x.to_f64() * y.to_f64()).sum()
}

/// ‖x‖ if Σx² is out of range even in double precision.
#[cold]
pub fn far_norm<T: Float>(xs: &[T]) -> f64 {
    let largest = xs.iter().fold(0.0, |most: f64, x| most.max(x.abs().to_f64()));
    largest * again(xs, |x| (x.to_f64() / largest).powi(2)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of additions that all of these sums promise, as it reads: element i goes to lane i mod 32, and lanes are added in order.
    fn plain(terms: &[f32]) -> f64 {
        let mut lanes = [0.0_f32; LANES];
        terms.iter().enumerate().for_each(|(i, x)| lanes[i % LANES] += x);
        lanes.iter().fold(0.0, |total, lane| total + f64::from(*lane))
    }

    /// Terms of every size, so that an addition in another order would round otherwise.
    fn numbers(n: i32) -> [Vec<f32>; 2] {
        let x: Vec<f32> = (0..n).map(|i| ((i * 7919 % 101) as f32 - 50.0) * 10_f32.powi(i % 9 - 4)).collect();
        let y = x.iter().rev().map(|x| x * 0.3 + 1.0).collect();
        [x, y]
    }

    /// Lengths with groups, rows and single elements, alone and together.
    const LENGTHS: [i32; 10] = [0, 7, 32, 100, 256, 261, 288, 999, 1000, 1024];

    #[test]
    fn every_sum_has_the_bits_of_the_plain_order() {
        for n in LENGTHS {
            let [x, y] = numbers(n);
            let of = |f: fn(f32, f32) -> f32| plain(&x.iter().zip(&y).map(|(x, y)| f(*x, *y)).collect::<Vec<_>>());
            let expected = [of(|x, _| x.abs()), of(|_, y| y), of(|x, _| x * x), of(|x, y| x * y)];
            assert_eq!([sum(&x, f32::abs), sum(&y, |y| y), square_sum(&x), dot(&x, &y)], expected, "{n}");
            let all = fused_sums([&x, &y], |[x, y]| [x.abs(), y, x * x, x * y]);
            assert_eq!(all, (n > 0).then_some(expected), "{n}");
        }
    }

    #[test]
    fn sums_in_several_calls_have_the_bits_of_one() {
        for n in LENGTHS {
            let [x, _] = numbers(n);
            for calls in [1, 2] {
                let mut lanes = [[0.0; LANES]; 2];
                x.chunks(calls * GROUP).for_each(|x| add_to_lanes(&mut lanes, [x], |[x]| [x, x * x]));
                let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
                assert_eq!(reduce_lanes(&lanes), [plain(&x), plain(&squares)], "{n}");
            }
        }
    }

    #[test]
    fn sums_out_of_range_are_worked_out_again() {
        // Σ of n equal squares x² is n x², to the rounding of x in single precision.
        for (n, x) in [(1000_usize, 1e30_f32), (100, 1e19), (1000, 1e-30)] {
            let (xs, wide) = (vec![x; n], f64::from(x));
            for total in [square_sum(&xs), dot(&xs, &xs)].into_iter().take(if x < 1.0 { 1 } else { 2 }) {
                assert!((total / (n as f64 * wide * wide) - 1.0).abs() < 1e-12, "{n} of {x}: {total}");
            }
        }
        assert_eq!(fused_sums([&[1e30_f32; 70][..]], |[x]| [x, x * x]), None, "one is out of range");
        assert_eq!(fused_sums([&[0.0_f32; 70][..]], |[x]| [x]), None);
        assert!((sum(&[3e38_f32; 64], f32::abs) / (64.0 * 3e38) - 1.0).abs() < 1e-6);
        assert_eq!(square_sum(&[0.0_f32; 70]), 0.0);
        assert!(square_sum(&[1.0, f32::NAN]).is_nan());
        assert_eq!(square_sum(&[1.0, f32::NEG_INFINITY]), f64::INFINITY);
    }
}
