//! The loops over a span of elements, compiled for each count of buffers that a rule may ask for.

use super::{Elementwise, Scalars};
use crate::Float;
use crate::float::{BLOCK, Element};

/// Whether a configuration may ask for `n` buffers.
pub(super) const fn has<R: Elementwise>(n: usize) -> bool {
    R::COUNTS[0] <= n && n <= R::COUNTS[1]
}

/// Four buffers at most, and the scratch for u.
pub(super) type Slices<'a, T> = [&'a mut [T]; 5];

/// Decay, direction and update of a span: in a loop compiled for this CPU's instructions, but for half precision, whose conversions cost more
/// than the loop, and for directions that are only written. Those share one loop, which saves half of what there is to compile.
#[inline(always)]
pub(super) fn update<R: Elementwise, E: Element, const N: usize>(
    scalars: &Scalars<R::Scalars<E::Compute>, E::Compute>,
    theta: &mut [E::Compute],
    g: &[E::Compute],
    state: [&mut [E::Compute]; N],
    out: Option<&mut [E::Compute]>,
) {
    match out {
        Some(out) => write::<R, _, N>(scalars, theta, g, state, out),
        None if const { E::SPAN == BLOCK } => apply_shared::<R, _, N>(scalars, theta, g, state),
        None => {
            if const { E::SPAN != BLOCK } {
                apply::<R, _, N>(scalars, theta, g, state);
            }
        }
    }
}

/// θ ← keep θ − factor u.
///
/// One loop over everything that an element has, so that all of memory streams at once: block by block, one array after the other,
/// it is half as fast.
#[inline(always)]
fn apply<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: &mut [T],
    g: &[T],
    state: [&mut [T]; N],
) {
    let Scalars { keep, factor, .. } = *scalars;
    let n = theta.len();
    let (g, mut state) = (&g[..n], state.map(|buffer| &mut buffer[..n]));
    for i in 0..n {
        theta[i] = keep * theta[i] - factor * direction::<R, T, N>(scalars, theta[i], g[i], &mut state, i);
    }
}

#[inline(never)]
fn apply_shared<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: &mut [T],
    g: &[T],
    state: [&mut [T]; N],
) {
    apply::<R, T, N>(scalars, theta, g, state);
}

#[inline(never)]
fn write<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: &[T],
    g: &[T],
    state: [&mut [T]; N],
    out: &mut [T],
) {
    let n = theta.len();
    let (g, out, mut state) = (&g[..n], &mut out[..n], state.map(|buffer| &mut buffer[..n]));
    for i in 0..n {
        out[i] = direction::<R, T, N>(scalars, theta[i], g[i], &mut state, i);
    }
}

/// The direction of element `i`, whose state moves on.
#[inline(always)]
fn direction<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: T,
    mut g: T,
    state: &mut [&mut [T]; N],
    i: usize,
) -> T {
    let Scalars { k, coupled, .. } = scalars;
    if *coupled != T::ZERO {
        g += *coupled * theta;
    }
    let now: [T; N] = std::array::from_fn(|b| state[b][i]);
    let (u, new) = R::direction(k, theta, g, now);
    for b in 0..N {
        state[b][i] = new[b];
    }
    u
}
