//! Products of operands that are both contiguous along the inner dimension, summed in a fixed number of lanes.
//!
//! `gemm` sums these in as many lanes as a register has. The number here is that of AVX2, so that on a CPU with AVX2 the bits are those of `gemm`.

use crate::{Matrix, Real};

/// Elements of the inner dimension that a lane-wise sum runs over before it is added to the destination.
const DEPTH: usize = 1024;

/// dst (+)= scale · lhs · rhsᵀ, rows of both in sequence: sums in [`Real::LANES`] lanes, halved until one is left.
pub(crate) fn blocks<T: Real>(dst: &mut [T], add: bool, scale: T, lhs: Matrix<'_, T>, rhs_t: Matrix<'_, T>) {
    match T::LANES {
        8 => vectorised(|| blocks_in::<T, 8>(dst, add, scale, lhs, rhs_t)),
        _ => vectorised(|| blocks_in::<T, 4>(dst, add, scale, lhs, rhs_t)),
    }
}

/// dst (+)= scale · lhs · rhsᵀ, rows of both in sequence, for a single row or column of `dst`: sums in eight times as many lanes, added in pairs, the
/// lanes that are left one after another, and then what is left of the rows.
pub(crate) fn rows<T: Real>(dst: &mut [T], add: bool, scale: T, lhs: Matrix<'_, T>, rhs_t: Matrix<'_, T>) {
    match T::LANES {
        8 => vectorised(|| rows_in::<T, 8>(dst, add, scale, lhs, rhs_t)),
        _ => vectorised(|| rows_in::<T, 4>(dst, add, scale, lhs, rhs_t)),
    }
}

/// Runs `f` compiled for the instructions that this CPU has: `mul_add` is an instruction there, and a call of the C library without. What
/// runs inside is `#[inline(always)]`.
#[inline(always)]
fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

#[inline(always)]
fn blocks_in<T: Real, const L: usize>(dst: &mut [T], add: bool, scale: T, lhs: Matrix<'_, T>, rhs_t: Matrix<'_, T>) {
    let n = rhs_t.rows;
    for r in 0..lhs.rows {
        for c in 0..n {
            let mut add = add;
            let (a, b) = (lhs.row(r), rhs_t.row(c));
            let out = &mut dst[r * n + c];
            for (a, b) in a.chunks(DEPTH).zip(b.chunks(DEPTH)) {
                let sum = lanes::<T, L>(a, b);
                *out = if add { scale.fma(sum, *out) } else { scale.mul(sum) };
                add = true;
            }
        }
    }
}

/// Σ aᵢ bᵢ in L lanes; what is left of a last round adds to its lanes, and zeros to the others.
#[inline(always)]
fn lanes<T: Real, const L: usize>(a: &[T], b: &[T]) -> T {
    let mut acc = [T::default(); L];
    let (a, rest_a) = a.as_chunks::<L>();
    let (b, rest_b) = b.as_chunks::<L>();
    for (a, b) in a.iter().zip(b) {
        for l in 0..L {
            acc[l] = a[l].fma(b[l], acc[l]);
        }
    }
    if !rest_a.is_empty() {
        let (mut a, mut b) = ([T::default(); L], [T::default(); L]);
        a[..rest_a.len()].copy_from_slice(rest_a);
        b[..rest_b.len()].copy_from_slice(rest_b);
        for l in 0..L {
            acc[l] = a[l].fma(b[l], acc[l]);
        }
    }
    let mut width = L / 2;
    while width > 0 {
        for l in 0..width {
            acc[l] = acc[l].add(acc[l + width]);
        }
        width /= 2;
    }
    acc[0]
}

#[inline(always)]
fn rows_in<T: Real, const L: usize>(dst: &mut [T], add: bool, scale: T, lhs: Matrix<'_, T>, rhs_t: Matrix<'_, T>) {
    let n = rhs_t.rows;
    for r in 0..lhs.rows {
        for c in 0..n {
            let sum = eight_lanes::<T, L>(lhs.row(r), rhs_t.row(c)).mul(scale);
            let out = &mut dst[r * n + c];
            *out = if add { sum.add(*out) } else { sum };
        }
    }
}

#[inline(always)]
fn eight_lanes<T: Real, const L: usize>(a: &[T], b: &[T]) -> T {
    let mut acc = [[T::default(); L]; 8];
    let (a, b) = (a.chunks_exact(8 * L), b.chunks_exact(8 * L));
    let (rest_a, rest_b) = (a.remainder(), b.remainder());
    for (a, b) in a.zip(b) {
        for (j, acc) in acc.iter_mut().enumerate() {
            for l in 0..L {
                acc[l] = a[j * L + l].fma(b[j * L + l], acc[l]);
            }
        }
    }
    let mut width = 1;
    while width < 8 {
        for j in (0..8).step_by(2 * width) {
            let other = acc[j + width];
            acc[j].iter_mut().zip(other).for_each(|(sum, x)| *sum = sum.add(x));
        }
        width *= 2;
    }
    let mut lanes = acc[0];
    let (a, rest_a) = rest_a.as_chunks::<L>();
    let (b, rest_b) = rest_b.as_chunks::<L>();
    for (a, b) in a.iter().zip(b) {
        for l in 0..L {
            lanes[l] = a[l].fma(b[l], lanes[l]);
        }
    }
    let mut sum = lanes[0];
    for lane in &lanes[1..] {
        sum = sum.add(*lane);
    }
    for (a, b) in rest_a.iter().zip(rest_b) {
        sum = a.fma(*b, sum);
    }
    sum
}
