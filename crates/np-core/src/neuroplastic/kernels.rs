//! The passes on one block, on the CPU: loops over slices that fit in the cache, written so that the compiler vectorises them.
//!
//! Every loop is over a few slices and has no branch. Sums are separate loops. All functions are inlined into the caller, which selects the instruction set.

// Seven sums of 16 lanes still fit in the registers.
use np_engine::chain::{Block, Total};
use np_engine::cpu::sums::{GROUP, add_to_lanes, dot, fused_sums, in_range, reduce_lanes, square_sum, sum};
use np_engine::elementwise::Elementwise;
use np_trace::pass::{WATCH_LANES, about};
use np_trace::{Float, Number};

use super::base::BaseScalars;
use super::coefficient::Alpha;
use super::passes::{Combination, Modulation, Shape};
use super::traces::{Decays, memory};
use crate::optim::sgd::SgdConfig;

/// Updates the traces, and writes q = |m|/(√v + ε) to x; returns Σ|g|, Σa, Σq, Σg².
#[inline(always)]
pub(super) fn trace<T: Float>(k: &Decays<T>, eps: T, block: &mut Block<'_, T>) -> [f64; 4] {
    let n = block.g.len();
    let [a, m, v, _, _, q, _] = &mut block.state;
    let (g, a, m) = (&block.g[..n], &mut a[..n], &mut m[..n]);
    let (v, q) = (&mut v[..n], &mut q[..n]);
    let mut lanes = [[T::ZERO; _]; 4];
    // Group by group: the CPU adds up one group while it divides for the next.
    for begin in (0..n).step_by(GROUP) {
        let end = (begin + GROUP).min(n);
        for i in begin..end {
            (a[i], m[i], v[i]) = k.update(g[i], a[i], m[i], v[i]);
            q[i] = memory(m[i], v[i], eps);
        }
        add_to_lanes(
            &mut lanes,
            [&g[begin..end], &a[begin..end], &q[begin..end]],
            #[inline(always)]
            |[g, a, q]| [g.abs(), a, q, g * g],
        );
    }
    let (a, q, all) = (&*a, &*q, in_range(reduce_lanes(&lanes)));
    all.unwrap_or_else(
        #[cold]
        || [sum(g, T::abs), sum(a, |x| x), sum(q, |x| x), square_sum(g)],
    )
}

/// Writes the base optimizer's direction to b; returns Σb².
#[inline(always)]
pub(super) fn base_update<T: Float>(base: &BaseScalars<T>, block: &mut Block<'_, T>) -> f64 {
    let n = block.g.len();
    let [_, _, _, mu, second, _, b] = &mut block.state;
    let (g, theta, b) = (&block.g[..n], &block.theta[..n], &mut b[..n]);
    match base {
        BaseScalars::Adamw(k) => {
            let (m, v) = (&mut mu[..n], &mut second[..n]);
            for i in 0..n {
                (b[i], [m[i], v[i]]) = k.direction(g[i], [m[i], v[i]]);
            }
        }
        BaseScalars::Sgd { k, weight_decay } => {
            let (momentum, wd) = (&mut mu[..n], *weight_decay);
            for i in 0..n {
                let g = if wd == T::ZERO { g[i] } else { g[i] + wd * theta[i] };
                (b[i], [momentum[i]]) = SgdConfig::direction(k, theta[i], g, [momentum[i]]);
            }
        }
        BaseScalars::Given => {}
    }
    square_sum(b)
}

/// Writes the modulation over q; adds to its sums.
#[inline(always)]
pub(super) fn modulate<T: Float, const WATCH: bool>(how: &Modulation, block: &mut Block<'_, T>, sums: &mut [f64]) {
    let alpha = how.alpha.cast::<T>();
    if let Some(eps) = how.log_ratio {
        sums[2] += log_ratio(&alpha, eps, block);
    }
    // What the diagnostics see comes last.
    let (sums, watched) = sums.split_at_mut(if how.log_ratio.is_some() { 3 } else { 2 });
    let to = (sums, watched);
    let near = how.near.map(T::from_f64);
    let real = T::from_f64;
    match how.shape {
        Shape::Direct { weight_decay } if weight_decay != 0.0 => {
            let (wd, theta) = (real(weight_decay), &block.theta[..block.g.len()]);
            shaped::<T, WATCH>(
                &alpha,
                near,
                block,
                to,
                #[inline(always)]
                |i, _, alpha, g| alpha * g + wd * theta[i],
            );
        }
        Shape::Direct { .. } => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            to,
            #[inline(always)]
            |_, _, alpha, g| alpha * g,
        ),
        Shape::Residual => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            to,
            #[inline(always)]
            |_, _, alpha, g| (alpha - T::ONE) * g,
        ),
        Shape::Signal => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            to,
            #[inline(always)]
            |_, alpha_g, alpha, g| {
                let q = (alpha - alpha_g) * g;
                if q.is_finite() { q } else { T::ZERO }
            },
        ),
        Shape::Base { kb, km } => {
            let (kb, km) = (real(kb), real(km));
            let target = std::mem::take(&mut block.spare[2]);
            let [_, _, _, mu, _, _, b] = &block.state;
            for (i, t) in target.iter_mut().enumerate().take(block.g.len()) {
                *t = if km == T::ZERO { kb * b[i] } else { kb * b[i] + km * mu[i] };
            }
            shaped::<T, WATCH>(
                &alpha,
                near,
                block,
                to,
                #[inline(always)]
                |i, _, alpha, _| (alpha - T::ONE) * target[i],
            );
            block.spare[2] = target;
        }
    }
}

/// Writes x = `f(i, α_g, α, g)` over q; adds Σx² and Σx·g to `sums` and, with `WATCH`, Σδ² and the statistics of α to `watched`.
#[inline(always)]
fn shaped<T: Float, const WATCH: bool>(
    alpha: &Alpha<T>,
    near: [T; 2],
    block: &mut Block<'_, T>,
    (sums, watched): (&mut [f64], &mut [f64]),
    f: impl Fn(usize, T, T, T) -> T,
) {
    let n = block.g.len();
    let [a, _, _, _, _, x, _] = &mut block.state;
    let (g, a, x) = (&block.g[..n], &a[..n], &mut x[..n]);
    let [used, delta, _] = &mut block.spare;
    let (used, delta) = (&mut used[..n], &mut delta[..n]);
    for i in 0..n {
        let (alpha_g, alpha) = alpha.at(g[i].abs(), a[i], x[i]);
        x[i] = f(i, alpha_g, alpha, g[i]);
        if WATCH {
            used[i] = alpha;
            delta[i] = (alpha - alpha_g) * g[i];
        }
    }
    written(x, g, sums);
    if WATCH && n > 0 {
        watch(used, delta, near, watched);
    }
}

/// The running sums of [`watch`], one per lane.
struct Lanes<T> {
    off: [T; WATCH_LANES],
    off2: [T; WATCH_LANES],
    min: [T; WATCH_LANES],
    max: [T; WATCH_LANES],
    near_min: [T; WATCH_LANES],
    near_max: [T; WATCH_LANES],
    delta2: [T; WATCH_LANES],
}

impl<T: Float> Lanes<T> {
    #[inline(always)]
    fn add(&mut self, l: usize, pivot: T, near: [T; 2], alpha: T, delta: T) {
        let one_if = |yes: bool| if yes { T::ONE } else { T::ZERO };
        let d = alpha - pivot;
        self.off[l] += d;
        self.off2[l] += d * d;
        self.min[l] = alpha.min(self.min[l]);
        self.max[l] = alpha.max(self.max[l]);
        self.near_min[l] += one_if(alpha <= near[0]);
        self.near_max[l] += one_if(alpha >= near[1]);
        self.delta2[l] += delta * delta;
    }
}

/// Σδ² and the statistics of α, in one loop.
#[inline(always)]
fn watch<T: Float>(alpha: &[T], delta: &[T], near: [T; 2], sums: &mut [f64]) {
    // Sums of α are taken about one of the block's own values.
    let pivot = alpha[0];
    let [off, off2, near_min, near_max, delta2] = [[T::ZERO; WATCH_LANES]; 5];
    let [min, max] = [[pivot; WATCH_LANES]; 2];
    let mut lanes = Lanes { off, off2, min, max, near_min, near_max, delta2 };
    let ((alphas, alpha_rest), (deltas, delta_rest)) =
        (alpha.as_chunks::<WATCH_LANES>(), delta.as_chunks::<WATCH_LANES>());
    for (alpha, delta) in alphas.iter().zip(deltas) {
        for l in 0..WATCH_LANES {
            lanes.add(l, pivot, near, alpha[l], delta[l]);
        }
    }
    for (l, (alpha, delta)) in alpha_rest.iter().zip(delta_rest).enumerate() {
        lanes.add(l, pivot, near, *alpha, *delta);
    }
    let [off, off2, near_min, near_max, delta2] =
        reduce_lanes(&[lanes.off, lanes.off2, lanes.near_min, lanes.near_max, lanes.delta2]);
    let [sum, squares] = about(alpha.len() as f64, pivot.to_f64(), [off, off2]);
    let least = |lanes: [T; WATCH_LANES]| lanes.into_iter().fold(f64::INFINITY, |least, x| least.min(x.to_f64()));
    let most = |lanes: [T; WATCH_LANES]| lanes.into_iter().fold(f64::NEG_INFINITY, |most, x| most.max(x.to_f64()));
    let (min, max) = (least(lanes.min), most(lanes.max));
    for (k, x) in [delta2, sum, squares, min, max, near_min, near_max].into_iter().enumerate() {
        let total = match k {
            3 => Total::Least,
            4 => Total::Most,
            _ => Total::Sum,
        };
        sums[k] = total.add(sums[k], x);
    }
}

/// How many ratios are multiplied before a logarithm is taken, and how many such products are computed side by side.
const PRODUCT: usize = 16;
const PRODUCTS: usize = 8;

/// Σ log(max(α, ε)/max(α_g, ε)), as logarithms of products of 16 ratios: a logarithm of each would cost as much as everything else together.
#[inline(always)]
fn log_ratio<T: Float>(alpha: &Alpha<T>, eps: f64, block: &mut Block<'_, T>) -> f64 {
    const L: usize = PRODUCTS;
    let n = block.g.len();
    let [a, _, _, _, _, q, _] = &block.state;
    let (g, a, q) = (&block.g[..n], &a[..n], &q[..n]);
    let [over, under, _] = &mut block.spare;
    let (over, under) = (&mut over[..n], &mut under[..n]);
    for i in 0..n {
        (under[i], over[i]) = alpha.at(g[i].abs(), a[i], q[i]);
    }
    let (mut sum, mut factors) = (0.0, 0);
    let (mut above, mut below) = ([1.0_f64; L], [1.0_f64; L]);
    let ((overs, over_rest), (unders, under_rest)) = (over.as_chunks::<L>(), under.as_chunks::<L>());
    for (over, under) in overs.iter().zip(unders) {
        for l in 0..L {
            above[l] *= Number::max(over[l].to_f64(), eps);
            below[l] *= Number::max(under[l].to_f64(), eps);
        }
        factors += 1;
        if factors == PRODUCT {
            sum += above.iter().zip(below).map(|(above, below)| (above / below).ln()).sum::<f64>();
            (above, below, factors) = ([1.0; L], [1.0; L], 0);
        }
    }
    for (l, (over, under)) in over_rest.iter().zip(under_rest).enumerate() {
        above[l] *= Number::max(over.to_f64(), eps);
        below[l] *= Number::max(under.to_f64(), eps);
    }
    sum + above.iter().zip(below).map(|(above, below)| (above / below).ln()).sum::<f64>()
}

/// The [`Combination`] `how`; adds Σx² and Σx·g of the new x to `sums`. Where `b` is not 0, `g` is taken to be 0.
#[inline(always)]
pub(super) fn combine<T: Float>(how: &Combination, block: &mut Block<'_, T>, sums: &mut [f64]) {
    let [kg, kx, kb, kt] = [how.g, how.x, how.b, how.theta].map(T::from_f64);
    let [_, _, _, _, _, x, b] = &mut block.state;
    if kb == T::ZERO {
        x.iter_mut().zip(block.g).for_each(|(x, g)| *x = kg * *g + kx * *x);
    } else {
        x.iter_mut().zip(b.iter()).for_each(|(x, b)| *x = kb * *b + kx * *x);
    }
    if kt != T::ZERO {
        x.iter_mut().zip(block.theta).for_each(|(x, theta)| *x += kt * *theta);
    }
    if how.finite {
        x.iter_mut().for_each(|x| *x = if x.is_finite() { *x } else { T::ZERO });
    }
    written(x, block.g, sums);
}

/// Adds Σx² and Σx·g to `sums`.
#[inline(always)]
fn written<T: Float>(x: &[T], g: &[T], sums: &mut [f64]) {
    let both = fused_sums(
        [x, g],
        #[inline(always)]
        |[x, g]| [x * x, x * g],
    );
    let [out2, out_g] = both.unwrap_or_else(
        #[cold]
        || [square_sum(x), dot(x, g)],
    );
    sums[0] += out2;
    sums[1] += out_g;
}
