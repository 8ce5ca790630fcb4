//! What formulas are written in, the two number types that optimizers compute in, and the four that parameters are stored in.

use candle_core::{CpuStorage, DType};
use half::{bf16, f16};
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

use crate::rounding::Rounder;
use crate::slot::{GradientMap, State};

/// Elements in a block: what fits in the first-level cache beside its state, and the unit of conversion for half-precision parameters.
pub(crate) const BLOCK: usize = 1024;

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

/// How a parameter is stored: `f32` and `f64` as they are computed with, `f16` and `bf16` widened to `f32` block by block.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    type Compute: Float;
    const DTYPE: DType;
    /// Most elements that [`Element::read`] and [`Element::edit`] take at once.
    const SPAN: usize;
    /// The buffers of a state of this kind; none if it is of another.
    fn buffers(state: &mut State) -> &mut [Vec<Self::Compute>];
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// Elements of a storage of the computing type.
    fn compute_slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self::Compute]>;
    /// `block` (at most [`Element::SPAN`] long) as numbers to compute with, in `buffer` if they had to be widened.
    fn read<'a>(block: &'a [Self], buffer: &'a mut [Self::Compute; BLOCK]) -> &'a [Self::Compute];
    /// The same through `map`.
    #[inline(always)]
    fn read_mapped<'a>(
        block: &'a [Self],
        map: GradientMap,
        buffer: &'a mut [Self::Compute; BLOCK],
    ) -> &'a [Self::Compute] {
        if map == GradientMap::IDENTITY {
            return Self::read(block, buffer);
        }
        Self::widen(block, buffer);
        map.apply(&mut buffer[..block.len()]);
        &buffer[..block.len()]
    }
    /// `block` itself, if it is of the computing type.
    fn same(block: &[Self]) -> Option<&[Self::Compute]>;
    /// Copies `block` to `buffer`.
    fn widen(block: &[Self], buffer: &mut [Self::Compute; BLOCK]);
    /// Lets `f` change `block` in place, by way of `buffer` if it has to be widened and rounded back, as `rounder` does.
    fn edit(
        block: &mut [Self],
        buffer: &mut [Self::Compute; BLOCK],
        rounder: Rounder<'_>,
        f: impl FnOnce(&mut [Self::Compute]),
    );
}

macro_rules! impl_element {
    ($t:ty, $dtype:ident) => {
        impl Element for $t {
            type Compute = $t;
            const DTYPE: DType = DType::$dtype;
            const SPAN: usize = usize::MAX / 2;
            fn buffers(state: &mut State) -> &mut [Vec<Self::Compute>] {
                if let State::$dtype(buffers) = state { buffers } else { &mut [] }
            }
            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$dtype(data) = storage { Some(data) } else { None }
            }
            fn compute_slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self::Compute]> {
                if let CpuStorage::$dtype(data) = storage { Some(data) } else { None }
            }
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$dtype(data) = storage { Some(data) } else { None }
            }
            #[inline(always)]
            fn read<'a>(block: &'a [Self], _: &'a mut [$t; BLOCK]) -> &'a [$t] {
                block
            }
            fn same(block: &[Self]) -> Option<&[$t]> {
                Some(block)
            }
            #[inline(always)]
            fn widen(block: &[Self], buffer: &mut [$t; BLOCK]) {
                buffer[..block.len()].copy_from_slice(block);
            }
            #[inline(always)]
            fn edit(block: &mut [Self], _: &mut [$t; BLOCK], _: Rounder<'_>, f: impl FnOnce(&mut [$t])) {
                f(block);
            }
        }
    };
    ($t:ty, $dtype:ident, half) => {
        impl Element for $t {
            type Compute = f32;
            const DTYPE: DType = DType::$dtype;
            const SPAN: usize = BLOCK;
            fn buffers(state: &mut State) -> &mut [Vec<Self::Compute>] {
                if let State::F32(buffers) = state { buffers } else { &mut [] }
            }
            fn slice(storage: &CpuStorage) -> Option<&[Self]> {
                if let CpuStorage::$dtype(data) = storage { Some(data) } else { None }
            }
            fn compute_slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self::Compute]> {
                if let CpuStorage::F32(data) = storage { Some(data) } else { None }
            }
            fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]> {
                if let CpuStorage::$dtype(data) = storage { Some(data) } else { None }
            }
            #[inline(always)]
            fn read<'a>(block: &'a [Self], buffer: &'a mut [f32; BLOCK]) -> &'a [f32] {
                Self::widen(block, buffer);
                &buffer[..block.len()]
            }
            fn same(_: &[Self]) -> Option<&[f32]> {
                None
            }
            #[inline(always)]
            fn widen(block: &[Self], buffer: &mut [f32; BLOCK]) {
                buffer.iter_mut().zip(block).for_each(|(w, x)| *w = x.to_f32());
            }
            #[inline(always)]
            fn edit(block: &mut [Self], buffer: &mut [f32; BLOCK], rounder: Rounder<'_>, f: impl FnOnce(&mut [f32])) {
                let wide = &mut buffer[..block.len()];
                wide.iter_mut().zip(block.iter()).for_each(|(w, x)| *w = x.to_f32());
                rounder.restore(wide);
                f(wide);
                rounder.store(block, wide);
            }
        }
    };
}
impl_element!(f32, F32);
impl_element!(f64, F64);
impl_element!(f16, F16, half);
impl_element!(bf16, BF16, half);
