//! The loops over a span of elements, compiled for each number of buffers that an optimizer may ask for.

use np_trace::{Float, Number};

use super::{Elementwise, Scalars};
use crate::element::{BLOCK, Element};

/// Whether a configuration may ask for `n` buffers.
pub(super) const fn has<R: Elementwise>(n: usize) -> bool {
    R::COUNTS[0] <= n && n <= R::COUNTS[1]
}

/// The operations around an optimizer's formula: g ← g + wd·θ before it, θ ← keep·θ − factor·u after it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Around<T> {
    /// wd, if it is coupled and not 0.
    pub(crate) coupled: Option<T>,
    pub(crate) keep: T,
    pub(crate) factor: T,
}

impl Around<f64> {
    pub(super) fn cast<T: Number>(self) -> Around<T> {
        let real = T::from_f64;
        Around { coupled: self.coupled.map(real), keep: real(self.keep), factor: real(self.factor) }
    }
}

impl<T: Number> Around<T> {
    /// The gradient that the formula sees.
    #[inline(always)]
    pub(super) fn gradient(&self, theta: T, g: T) -> T {
        match self.coupled {
            Some(wd) => g + wd * theta,
            None => g,
        }
    }

    /// The parameter after the step.
    #[inline(always)]
    pub(super) fn step(&self, theta: T, u: T) -> T {
        self.keep * theta - self.factor * u
    }
}

/// Four buffers at most, and the scratch for u.
pub(super) type Slices<'a, T> = [&'a mut [T]; 5];

/// Decay, direction and update of a span, in a loop compiled for this CPU's instructions. Half precision, whose conversions cost more than the loop, and
/// directions that are only written have a portable loop instead, which saves half of what there is to compile.
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

/// θ ← keep·θ − factor·u.
///
/// One loop reads and writes all arrays at once: block by block, one array after the other, it is half as fast.
#[inline(always)]
fn apply<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: &mut [T],
    g: &[T],
    state: [&mut [T]; N],
) {
    let around = scalars.around;
    let n = theta.len();
    let (g, mut state) = (&g[..n], state.map(|buffer| &mut buffer[..n]));
    for i in 0..n {
        theta[i] = around.step(theta[i], direction::<R, T, N>(scalars, theta[i], g[i], &mut state, i));
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

/// The direction of element `i`; updates its state.
#[inline(always)]
fn direction<R: Elementwise, T: Float, const N: usize>(
    scalars: &Scalars<R::Scalars<T>, T>,
    theta: T,
    g: T,
    state: &mut [&mut [T]; N],
    i: usize,
) -> T {
    let now: [T; N] = std::array::from_fn(|b| state[b][i]);
    let (u, new) = R::direction(&scalars.k, theta, scalars.around.gradient(theta, g), now);
    for b in 0..N {
        state[b][i] = new[b];
    }
    u
}
