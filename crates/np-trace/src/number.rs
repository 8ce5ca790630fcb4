//! The number types that formulas are generic over.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// The number type of a formula: `f32`, `f64`, or a symbol that records the operations on it ([`Symbol`](crate::symbol::Symbol)).
///
/// It has no comparison that returns a `bool`, because a symbol has no value. [`Number::select_lt`] chooses between two numbers.
pub trait Number:
    Copy
    + Send
    + Sync
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The largest finite number.
    const MAX: Self;
    /// `x`, rounded to this type. In a recorded expression it becomes an argument, whose value may change from step to step.
    fn from_f64(x: f64) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// `yes` if a < b, else `no`; `no` also if a or b is NaN.
    fn select_lt(a: Self, b: Self, yes: Self, no: Self) -> Self;

    /// −1, 0 or 1; NaN for NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        Self::select_lt(Self::ZERO, self, Self::ONE, Self::select_lt(self, Self::ZERO, -Self::ONE, self))
    }

    /// The larger of two; `other` if `self` is NaN, and NaN if `other` is.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select_lt(other, self, self, other)
    }

    /// The smaller of two; `other` if `self` is NaN, and NaN if `other` is.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select_lt(self, other, self, other)
    }

    /// `self` limited to [`lo`, `hi`]; NaN for NaN, as in PyTorch's `clamp`.
    #[inline(always)]
    fn clip(self, lo: Self, hi: Self) -> Self {
        let x = Self::select_lt(self, lo, lo, self);
        Self::select_lt(hi, x, hi, x)
    }

    /// `yes` if `self` is 0, else `no`; `no` also if it is NaN. `self` must not be negative.
    #[inline(always)]
    fn if_zero(self, yes: Self, no: Self) -> Self {
        Self::select_lt(Self::ZERO, self, no, Self::select_lt(self, Self::ONE, yes, no))
    }
}

/// The number type of a computation: `f32` or `f64`.
pub trait Float: Number + PartialOrd + Default + AddAssign {
    /// Distance from 1 to the next larger number.
    const EPSILON: Self;
    /// `self` as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Whether it is neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// `self` rounded to the nearest `bf16`, in this type.
    fn round_to_bf16(self) -> Self;
}

macro_rules! impl_float {
    ($t:ty) => {
        #[allow(clippy::cast_possible_truncation, clippy::cast_lossless)]
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const MAX: Self = <$t>::MAX;
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn abs(self) -> Self {
                <$t>::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                <$t>::sqrt(self)
            }
            #[inline(always)]
            fn select_lt(a: Self, b: Self, yes: Self, no: Self) -> Self {
                if a < b { yes } else { no }
            }
        }

        #[allow(clippy::cast_possible_truncation, clippy::cast_lossless)]
        impl Float for $t {
            const EPSILON: Self = <$t>::EPSILON;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn round_to_bf16(self) -> Self {
                let bits = (self as f32).to_bits();
                let rounded = f32::from_bits(bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000);
                // Adding to the bits of what is not finite would run over into the sign.
                if self.is_finite() { rounded as $t } else { self }
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
        }
    };
}
impl_float!(f32);
impl_float!(f64);
