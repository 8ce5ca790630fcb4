//! What formulas are written in, and the two number types that optimizers compute in.

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A number that a formula is written in: `f32`, `f64`, or a symbol that records what is done with it ([`crate::traced`]).
///
/// There are no comparisons that give a `bool`: a symbol has none. A choice between two numbers is [`Number::select_lt`].
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
    /// Largest finite number.
    const MAX: Self;
    /// The nearest value to `x`. To a formula it is an argument: `x` may be another at every step.
    fn from_f64(x: f64) -> Self;
    /// |self|.
    fn abs(self) -> Self;
    /// √self, correctly rounded.
    fn sqrt(self) -> Self;
    /// `yes` where a < b, else `no`: also where one of them is not a number.
    fn select_lt(a: Self, b: Self, yes: Self, no: Self) -> Self;

    /// −1, 0 or 1; not-a-number stays what it is.
    #[inline(always)]
    fn sign(self) -> Self {
        Self::select_lt(Self::ZERO, self, Self::ONE, Self::select_lt(self, Self::ZERO, -Self::ONE, self))
    }

    /// The larger of two; `other` where `self` is not a number.
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select_lt(other, self, self, other)
    }

    /// The smaller of two; `other` where `self` is not a number.
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select_lt(self, other, self, other)
    }

    /// `self` held between `lo` and `hi`; not-a-number stays what it is, as in PyTorch's `clamp`.
    #[inline(always)]
    fn clip(self, lo: Self, hi: Self) -> Self {
        let x = Self::select_lt(self, lo, lo, self);
        Self::select_lt(hi, x, hi, x)
    }

    /// `yes` where `self`, which is not negative, is 0, else `no`: also where it is not a number.
    #[inline(always)]
    fn if_zero(self, yes: Self, no: Self) -> Self {
        Self::select_lt(Self::ZERO, self, no, Self::select_lt(self, Self::ONE, yes, no))
    }
}

/// A number that optimizers compute in: `f32` or `f64`.
pub trait Float: Number + PartialOrd + Default + AddAssign {
    /// Distance from 1 to the next number.
    const EPSILON: Self;
    /// Exactly `self`.
    fn to_f64(self) -> f64;
    /// Neither infinite nor not-a-number.
    fn is_finite(self) -> bool;
    /// The nearest number with eight bits of mantissa (bf16).
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
