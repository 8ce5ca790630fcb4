//! The four types that parameters are stored in.

use candle_core::{CpuStorage, DType};
use half::{bf16, f16};
use np_trace::Float;

use crate::gradient_map::GradientMap;
use crate::rounder::Rounder;
use crate::state::State;

/// Half-precision parameters are converted block by block.
pub(crate) use np_trace::pass::BLOCK;

/// How a parameter is stored. `f32` and `f64` are computed with directly; `f16` and `bf16` are converted to `f32`, block by block.
pub(crate) trait Element: Copy + Send + Sync + 'static {
    type Compute: Float;
    const DTYPE: DType;
    /// The greatest number of elements that [`Element::read`] and [`Element::edit`] accept at once.
    const SPAN: usize;
    /// The buffers of a state in the type of the computation; empty if the state has another type.
    fn buffers(state: &mut State) -> &mut [Vec<Self::Compute>];
    fn slice(storage: &CpuStorage) -> Option<&[Self]>;
    fn slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// The elements of a storage in the type of the computation.
    fn compute_slice_mut(storage: &mut CpuStorage) -> Option<&mut [Self::Compute]>;
    /// `block`, at most [`Element::SPAN`] long, in the type of the computation; in `buffer` if it had to be converted.
    fn read<'a>(block: &'a [Self], buffer: &'a mut [Self::Compute; BLOCK]) -> &'a [Self::Compute];
    /// As [`Element::read`], with `map` applied.
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
    /// `block` itself, if it is in the type of the computation.
    fn same(block: &[Self]) -> Option<&[Self::Compute]>;
    /// Copies `block` to `buffer`.
    fn widen(block: &[Self], buffer: &mut [Self::Compute; BLOCK]);
    /// Lets `f` change `block`: in place, or converted in `buffer` and then rounded back by `rounder`.
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
/// Evaluates an expression with a type name bound to the [`Element`] of a candle data type; `f32` if it is none of the four.
macro_rules! dispatch {
    ($dtype:expr, $element:ident => $run:expr) => {
        match $dtype {
            candle_core::DType::F64 => {
                type $element = f64;
                $run
            }
            candle_core::DType::F16 => {
                type $element = half::f16;
                $run
            }
            candle_core::DType::BF16 => {
                type $element = half::bf16;
                $run
            }
            _ => {
                type $element = f32;
                $run
            }
        }
    };
}
pub(crate) use dispatch;

impl_element!(f32, F32);
impl_element!(f64, F64);
impl_element!(f16, F16, half);
impl_element!(bf16, BF16, half);
