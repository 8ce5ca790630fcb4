//! Rounding of half-precision parameters after a step: to nearest, stochastic or compensated.

use candle_core::DType;
use half::{bf16, f16};

use crate::config::rounding::{Rounding, Stochastic, is_half};
use crate::state::State;

/// The rounding of a range of elements in the CPU's memory.
#[derive(Debug)]
pub(crate) enum Rounder<'a> {
    Nearest,
    /// `key` is that of the parameter's step, `first` the index of the range's first element.
    Stochastic {
        key: u64,
        first: usize,
    },
    /// With the elements' accumulated rounding errors.
    Compensated(&'a mut [f32]),
}

impl<'a> Rounder<'a> {
    /// The rounder of a parameter of `dtype`, with its compensation buffer if it has one.
    pub(crate) fn new(
        rounding: Rounding,
        dtype: DType,
        key: impl FnOnce(u64) -> u64,
        compensation: Option<&'a mut State>,
    ) -> Self {
        match (rounding, compensation) {
            (Rounding::Stochastic(Stochastic { seed }), _) if is_half(dtype) => {
                Self::Stochastic { key: key(seed), first: 0 }
            }
            (Rounding::Compensated, Some(State::F32(buffers))) => match buffers.first_mut() {
                Some(buffer) => Self::Compensated(buffer),
                None => Self::Nearest,
            },
            _ => Self::Nearest,
        }
    }

    /// Splits into the rounders of the first `n` elements and of the others.
    pub(crate) fn split(self, n: usize) -> (Self, Self) {
        match self {
            Self::Nearest => (Self::Nearest, Self::Nearest),
            Self::Stochastic { key, first } => {
                (Self::Stochastic { key, first }, Self::Stochastic { key, first: first + n })
            }
            Self::Compensated(left) => {
                let (head, rest) = left.split_at_mut(n.min(left.len()));
                (Self::Compensated(head), Self::Compensated(rest))
            }
        }
    }

    /// Splits into the rounders of consecutive ranges of these lengths.
    pub(crate) fn stretches(self, lengths: impl Iterator<Item = usize>) -> Vec<Self> {
        let mut rest = self;
        let mut all = Vec::new();
        for n in lengths {
            let (now, later) = rest.split(n);
            all.push(now);
            rest = later;
        }
        all
    }

    /// The rounder of elements `at..end` of the range.
    #[inline(always)]
    pub(crate) fn part(&mut self, at: usize, end: usize) -> Rounder<'_> {
        match self {
            Self::Nearest => Rounder::Nearest,
            Self::Stochastic { key, first } => Rounder::Stochastic { key: *key, first: *first + at },
            Self::Compensated(left) => Rounder::Compensated(&mut left[at..end]),
        }
    }

    /// Adds the rounding errors to widened elements.
    #[inline(always)]
    pub(crate) fn restore(&self, wide: &mut [f32]) {
        if let Self::Compensated(left) = self {
            wide.iter_mut().zip(left.iter()).for_each(|(w, left)| *w += *left);
        }
    }

    /// Rounds `wide` into `block`.
    #[inline(always)]
    pub(crate) fn store<H: Half>(self, block: &mut [H], wide: &[f32]) {
        match self {
            Self::Nearest => block.iter_mut().zip(wide).for_each(|(x, w)| *x = H::nearest(*w)),
            Self::Stochastic { key, first } => {
                let each = block.iter_mut().zip(wide).enumerate();
                each.for_each(|(i, (x, w))| *x = by_chance(*w, chance(key, first + i)));
            }
            Self::Compensated(left) => {
                for ((x, w), left) in block.iter_mut().zip(wide).zip(left) {
                    *x = H::nearest(*w);
                    let stored = x.widened();
                    // Beyond the largest number there is nothing to make good.
                    *left = if stored.is_finite() { *w - stored } else { 0.0 };
                }
            }
        }
    }
}

/// A number in half precision.
pub(crate) trait Half: Copy {
    fn nearest(x: f32) -> Self;
    fn widened(self) -> f32;
    /// The next number away from zero (`by` = 1) or towards it (−1): numbers of one sign are ordered as their bits are.
    fn beside(self, by: i16) -> Self;
}

macro_rules! impl_half {
    ($($t:ty),*) => {$(
        impl Half for $t {
            #[inline(always)]
            fn nearest(x: f32) -> Self {
                Self::from_f32(x)
            }
            #[inline(always)]
            fn widened(self) -> f32 {
                self.to_f32()
            }
            #[inline(always)]
            fn beside(self, by: i16) -> Self {
                Self::from_bits(self.to_bits().wrapping_add_signed(by))
            }
        }
    )*};
}
impl_half!(f16, bf16);

/// One of the two numbers next to `x`: the one further from zero if `chance`, in [0, 1), is less than (|x| − |inner|)/(|outer| − |inner|).
#[inline(always)]
fn by_chance<H: Half>(x: f32, chance: f32) -> H {
    let near = H::nearest(x);
    let stored = near.widened();
    if stored == x || !stored.is_finite() {
        return near;
    }
    let (inner, outer) = if stored.abs() > x.abs() { (near.beside(-1), near) } else { (near, near.beside(1)) };
    let (low, high) = (inner.widened().abs(), outer.widened().abs());
    // Where the outer neighbour is infinite the distance is as well, and the share 0.
    if chance < (x.abs() - low) / (high - low) { outer } else { inner }
}

/// A pseudo-random number in [0, 1) for element `i`.
#[inline(always)]
#[allow(clippy::cast_precision_loss)] // 24 bits
fn chance(key: u64, i: usize) -> f32 {
    let bits = mixed(key.wrapping_add((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (bits >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
#[inline(always)]
fn mixed(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The key of the random bits of a parameter's step, from its name, its number of steps and the seed.
pub(crate) fn key(name: &str, steps: u64) -> impl FnOnce(u64) -> u64 {
    let name = name.bytes().fold(0u64, |hash, byte| mixed(hash ^ u64::from(byte)).wrapping_add(1));
    move |seed| mixed(seed.wrapping_add(mixed(name ^ mixed(steps.wrapping_add(1)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_rounds_to_a_neighbour_and_to_what_is_right_in_the_mean() {
        // Of bf16 between 1 and 2 the neighbours are 1/128 apart; of f16 below 2⁻¹⁴, 2⁻²⁴.
        fn mean<H: Half>(x: f32) -> (f64, f32, f32) {
            let all: Vec<f32> = (0..100_000).map(|i| by_chance::<H>(x, chance(7, i)).widened()).collect();
            let (low, high) = all.iter().fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
            (all.iter().map(|x| f64::from(*x)).sum::<f64>() / 1e5, low, high)
        }
        for (x, spacing, (mean, low, high)) in [
            (1.001, 1.0 / 128.0, mean::<bf16>(1.001)),
            (-1.001, 1.0 / 128.0, mean::<bf16>(-1.001)),
            (3e-8, 2f32.powi(-24), mean::<f16>(3e-8)),
            (-1e-9, 2f32.powi(-24), mean::<f16>(-1e-9)),
        ] {
            assert!(low <= x && x <= high && high - low == spacing, "{x}: {low} to {high}");
            // Four standard deviations of a mean of 100,000 draws of two values.
            let allowed = 4.0 * 0.5 * f64::from(spacing) / 1e5f64.sqrt();
            assert!((mean - f64::from(x)).abs() < allowed, "{x}: {mean}");
        }
    }

    #[test]
    fn what_is_exact_infinite_or_no_number_stays_what_it_is() {
        for chance in [0.0, 0.999_999] {
            assert_eq!(by_chance::<bf16>(0.25, chance).widened(), 0.25);
            assert_eq!(by_chance::<f16>(f32::NEG_INFINITY, chance).widened(), f32::NEG_INFINITY);
            assert_eq!(by_chance::<f16>(1e6, chance).widened(), f32::INFINITY);
            assert!(by_chance::<bf16>(f32::NAN, chance).widened().is_nan());
            // Nearer to the largest number than to what would come after it.
            assert_eq!(by_chance::<f16>(65_505.0, chance).widened(), 65_504.0);
        }
    }
}
