//! The passes over CPU memory: fixed chunks on rayon's threads, blocks that fit in cache, lanes that vectorise.

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Var};

use super::coefficient::Alpha;
use super::formulation::Formulation;
use super::passes::{Apply, Combination, Modulation, Passes, Shape, Sums, Watch};
use super::traces::Decays;
use super::{NeuroPlasticConfig, Target};
use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::{Elementwise, Float, Result, Work, adam, sgd};

/// Sums within a block are kept in this many lanes, whatever the width of the machine's registers.
const LANES: usize = 8;

/// One tensor's memory.
struct Memory<'a, E: Element> {
    g: &'a [E],
    theta: &'a [E],
    /// Traces a, m, v; the base optimizer's buffers; scratch x; scratch b of a hybrid.
    state: &'a mut [Vec<E::Compute>],
    base: Option<BaseScalars<E::Compute>>,
}

/// The base optimizer's constants for a tensor's step.
#[derive(Clone, Copy)]
enum BaseScalars<T> {
    Adamw(adam::Scalars<T>),
    Sgd { k: sgd::Scalars<T>, weight_decay: T },
}

/// All tensors of one element type.
pub(super) struct CpuPasses<'a, E: Element> {
    config: &'a NeuroPlasticConfig,
    watch: Watch,
    tensors: Vec<Memory<'a, E>>,
}

/// Borrows the memory of `work`'s tensors for as long as `f` runs.
pub(super) fn with<E: Element, R>(
    config: &NeuroPlasticConfig,
    watch: Watch,
    work: &mut [&mut Work<'_>],
    f: impl FnOnce(&mut CpuPasses<'_, E>) -> Result<R>,
) -> Result<R> {
    let mut held = Vec::with_capacity(work.len());
    for w in work.iter_mut() {
        let Work { slot, grad, .. } = &mut **w;
        let base = BaseScalars::new(config, slot.steps);
        held.push((grad.storage_and_layout(), slot.var.storage_and_layout(), &mut slot.state, base));
    }
    let mut tensors = Vec::with_capacity(held.len());
    for ((g, g_layout), (theta, theta_layout), state, base) in &mut held {
        let (Storage::Cpu(g), Storage::Cpu(theta)) = (&**g, &**theta) else {
            return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
        };
        let state = E::buffers(state);
        let (g, theta) = (cpu::slice::<E>(g, g_layout)?, cpu::slice::<E>(theta, theta_layout)?);
        tensors.push(Memory { g, theta, state, base: *base });
    }
    f(&mut CpuPasses { config, watch, tensors })
}

impl<T: Float> BaseScalars<T> {
    fn new(config: &NeuroPlasticConfig, t: u64) -> Option<Self> {
        let Formulation::Hybrid(hybrid) = &config.formulation else { return None };
        let adamw = hybrid.base.adamw().map(|c| Self::Adamw(c.scalars(t)));
        let weight_decay = T::from_f64(config.weight_decay);
        adamw.or_else(|| hybrid.base.sgd().map(|c| Self::Sgd { k: c.scalars(t), weight_decay }))
    }
}

impl<T: Float> BaseScalars<T> {
    /// What the first buffer is multiplied with to give μ.
    fn momentum_scale(&self) -> f64 {
        match self {
            Self::Adamw(k) => k.correction1().to_f64(),
            Self::Sgd { .. } => 1.0,
        }
    }
}

/// What one task works on: the same stretch of everything that a tensor has.
struct Chunk<'a, E: Element> {
    tensor: usize,
    g: &'a [E],
    theta: &'a [E],
    state: Vec<&'a mut [E::Compute]>,
    sums: &'a mut Sums,
}

/// A block of a chunk, in the type that is computed in.
struct Block<'a, T> {
    g: &'a [T],
    theta: &'a [T],
    a: &'a mut [T],
    m: &'a mut [T],
    v: &'a mut [T],
    base: [&'a mut [T]; 2],
    x: &'a mut [T],
    b: &'a mut [T],
}

impl<E: Element> CpuPasses<'_, E> {
    /// Runs `f` on every block of every tensor, and adds the sums up in order.
    fn pass(&mut self, f: impl Fn(usize, &mut Block<'_, E::Compute>, &mut Sums) + Sync) -> Vec<Sums> {
        let chunks_of = |m: &Memory<'_, E>| m.g.len().div_ceil(CHUNK);
        let base = self.tensors.first().map_or(0, |m| m.state.len().saturating_sub(4));
        let hybrid = matches!(self.config.formulation, Formulation::Hybrid(_));
        let base = if hybrid { base - 1 } else { 0 };
        let mut partial = vec![Sums::default(); self.tensors.iter().map(chunks_of).sum()];
        let mut chunks = Vec::with_capacity(partial.len());
        let mut sums = partial.iter_mut();
        for (tensor, m) in self.tensors.iter_mut().enumerate() {
            let mut buffers: Vec<_> = m.state.iter_mut().map(|b| b.chunks_mut(CHUNK)).collect();
            for (g, theta) in m.g.chunks(CHUNK).zip(m.theta.chunks(CHUNK)) {
                let state = buffers.iter_mut().filter_map(Iterator::next).collect();
                let Some(sums) = sums.next() else { break };
                chunks.push(Chunk { tensor, g, theta, state, sums });
            }
        }
        cpu::for_each(chunks, |chunk: Chunk<'_, E>| run(chunk, base, &f));
        let mut partial = partial.into_iter();
        self.tensors
            .iter()
            .map(|m| {
                let mut total = Sums { elements: m.g.len(), ..Sums::default() };
                partial.by_ref().take(chunks_of(m)).for_each(|s| total.add(&s));
                total
            })
            .collect()
    }
}

#[inline(always)]
fn run<E: Element>(mut chunk: Chunk<'_, E>, base: usize, f: &impl Fn(usize, &mut Block<'_, E::Compute>, &mut Sums)) {
    let zero = <E::Compute as Float>::ZERO;
    let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
    let mut at = 0;
    while at < chunk.g.len() {
        let end = (at + BLOCK).min(chunk.g.len());
        let g = E::read(&chunk.g[at..end], &mut wide_g);
        let theta = E::read(&chunk.theta[at..end], &mut wide_theta);
        let mut state = chunk.state.iter_mut().map(|s| &mut s[at..end]);
        let mut next = |present: bool| if present { state.next().unwrap_or_default() } else { &mut [] };
        let (a, m, v) = (next(true), next(true), next(true));
        let base = [next(base > 0), next(base > 1)];
        let mut block = Block { g, theta, a, m, v, base, x: next(true), b: next(true) };
        f(chunk.tensor, &mut block, chunk.sums);
        at = end;
    }
}

impl<E: Element> Passes for CpuPasses<'_, E> {
    fn traces(&mut self) -> Result<Vec<Sums>> {
        let k = Decays::<E::Compute>::new(&self.config.traces);
        let eps = <E::Compute as Float>::from_f64(self.config.signals.eps);
        let base: Vec<_> = self.tensors.iter().map(|m| m.base).collect();
        let trust = matches!(&self.config.formulation, Formulation::Hybrid(h) if h.target == Target::TrustRatio);
        let theta2 = trust || self.watch == Watch::Diagnostics;
        Ok(self.pass(|tensor, block, sums| {
            trace(&k, eps, block, sums);
            if let Some(base) = &base[tensor] {
                base_update(base, block, sums);
            }
            if theta2 {
                sums.theta2 += square_sum(block.theta);
            }
        }))
    }

    fn modulate(&mut self, each: &[Modulation]) -> Result<Vec<Sums>> {
        let watch = self.watch;
        let scale: Vec<_> = self.tensors.iter().map(|m| m.base.map_or(1.0, |b| b.momentum_scale())).collect();
        Ok(self.pass(|tensor, block, sums| match watch {
            Watch::Step => modulate::<_, false>(&each[tensor], scale[tensor], block, sums),
            Watch::Diagnostics => modulate::<_, true>(&each[tensor], scale[tensor], block, sums),
        }))
    }

    fn combine(&mut self, each: &[Combination]) -> Result<Vec<Sums>> {
        Ok(self.pass(|tensor, block, sums| combine(&each[tensor], block, sums)))
    }
}

#[inline(always)]
fn total<T: Float>(lanes: [T; LANES]) -> f64 {
    lanes.iter().map(|x| x.to_f64()).sum()
}

#[inline(always)]
fn square_sum<T: Float>(xs: &[T]) -> f64 {
    let mut sum = [T::ZERO; LANES];
    let (body, rest) = xs.as_chunks::<LANES>();
    for x in body {
        for l in 0..LANES {
            sum[l] += x[l] * x[l];
        }
    }
    for (l, x) in rest.iter().enumerate() {
        sum[l] += *x * *x;
    }
    total(sum)
}

/// Traces and q, with Σ|g|, Σa, Σq, Σg².
#[inline(always)]
fn trace<T: Float>(k: &Decays<T>, eps: T, block: &mut Block<'_, T>, sums: &mut Sums) {
    let mut lanes = [[T::ZERO; LANES]; 4];
    let mut one = |l: usize, g: T, a: &mut T, m: &mut T, v: &mut T, q: &mut T| {
        (*a, *m, *v) = k.update(g, *a, *m, *v);
        *q = m.abs() / (v.sqrt() + eps);
        lanes[0][l] += g.abs();
        lanes[1][l] += *a;
        lanes[2][l] += *q;
        lanes[3][l] += g * g;
    };
    let (g, g_rest) = block.g.as_chunks::<LANES>();
    let (a, a_rest) = block.a.as_chunks_mut::<LANES>();
    let (m, m_rest) = block.m.as_chunks_mut::<LANES>();
    let (v, v_rest) = block.v.as_chunks_mut::<LANES>();
    let (q, q_rest) = block.x.as_chunks_mut::<LANES>();
    for ((((g, a), m), v), q) in g.iter().zip(a).zip(m).zip(v).zip(q) {
        for l in 0..LANES {
            one(l, g[l], &mut a[l], &mut m[l], &mut v[l], &mut q[l]);
        }
    }
    let rest = g_rest.iter().zip(a_rest).zip(m_rest).zip(v_rest).zip(q_rest).enumerate();
    rest.for_each(|(l, ((((g, a), m), v), q))| one(l, *g, a, m, v, q));
    let [g1, a1, q1, g2] = lanes.map(total);
    for (sum, x) in sums.signals.iter_mut().zip([g1, a1, q1]) {
        *sum += x;
    }
    sums.g2 += g2;
}

/// The base optimizer's update into b, with Σb².
#[inline(always)]
fn base_update<T: Float>(base: &BaseScalars<T>, block: &mut Block<'_, T>, sums: &mut Sums) {
    let b = &mut *block.b;
    b.copy_from_slice(block.g);
    match base {
        BaseScalars::Adamw(k) => k.direction(b, &mut block.base),
        BaseScalars::Sgd { k, weight_decay } => {
            if *weight_decay != T::ZERO {
                b.iter_mut().zip(block.theta).for_each(|(b, theta)| *b += *weight_decay * *theta);
            }
            crate::SgdConfig::direction(k, b, &mut block.base);
        }
    }
    sums.b2 += square_sum(b);
}

#[inline(always)]
fn modulate<T: Float, const WATCH: bool>(
    how: &Modulation,
    momentum_scale: f64,
    block: &mut Block<'_, T>,
    sums: &mut Sums,
) {
    let alpha = how.alpha.cast::<T>();
    if let Some(eps) = how.log_ratio {
        sums.log_ratio += log_ratio(&alpha, eps, block);
    }
    let near = how.near.map(T::from_f64);
    let (b, m) = (&*block.b, &*block.base[0]);
    let (g, theta) = (block.g, block.theta);
    match how.shape {
        Shape::Direct { weight_decay } if weight_decay != 0.0 => {
            let wd = T::from_f64(weight_decay);
            shaped::<T, WATCH>(&alpha, near, g, block.a, block.x, sums, |i, _, alpha, g| alpha * g + wd * theta[i]);
        }
        Shape::Direct { .. } => {
            shaped::<T, WATCH>(&alpha, near, g, block.a, block.x, sums, |_, _, alpha, g| alpha * g);
        }
        Shape::Residual => {
            shaped::<T, WATCH>(&alpha, near, g, block.a, block.x, sums, |_, _, alpha, g| (alpha - T::ONE) * g);
        }
        Shape::Signal => shaped::<T, WATCH>(&alpha, near, g, block.a, block.x, sums, |_, alpha_g, alpha, g| {
            let q = (alpha - alpha_g) * g;
            if q.is_finite() { q } else { T::ZERO }
        }),
        Shape::Base { kb, km } => {
            let (kb, km) = (T::from_f64(kb), T::from_f64(km * momentum_scale));
            shaped::<T, WATCH>(&alpha, near, g, block.a, block.x, sums, |i, _, alpha, _| {
                (alpha - T::ONE) * (kb * b[i] + km * m[i])
            });
        }
    }
}

/// Writes `f(i, α_g, α, g)` over q, with Σx², Σx g, and, if watched, Σδ² and the statistics of α.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn shaped<T: Float, const WATCH: bool>(
    alpha: &Alpha<T>,
    near: [T; 2],
    g: &[T],
    a: &[T],
    x: &mut [T],
    sums: &mut Sums,
    f: impl Fn(usize, T, T, T) -> T,
) {
    // Sums of α are taken about one of the block's own values: a constant α has deviation 0, not what rounding makes of it.
    let pivot = match (g.first(), a.first(), x.first()) {
        (Some(g), Some(a), Some(q)) => alpha.at(g.abs(), *a, *q).1,
        _ => return,
    };
    let mut out = [[T::ZERO; LANES]; 2];
    let mut watched = [[T::ZERO; LANES]; 5];
    let mut extremes = [[T::from_f64(f64::INFINITY); LANES], [T::from_f64(f64::NEG_INFINITY); LANES]];
    let mut one = |i: usize, l: usize, g: T, a: T, x: &mut T| {
        let (alpha_g, alpha) = alpha.at(g.abs(), a, *x);
        *x = f(i, alpha_g, alpha, g);
        out[0][l] += *x * *x;
        out[1][l] += *x * g;
        if WATCH {
            let delta = (alpha - alpha_g) * g;
            watched[0][l] += delta * delta;
            let off = alpha - pivot;
            watched[1][l] += off;
            watched[2][l] += off * off;
            watched[3][l] += if alpha <= near[0] { T::ONE } else { T::ZERO };
            watched[4][l] += if alpha >= near[1] { T::ONE } else { T::ZERO };
            extremes[0][l] = alpha.min(extremes[0][l]);
            extremes[1][l] = alpha.max(extremes[1][l]);
        }
    };
    let (g_body, g_rest) = g.as_chunks::<LANES>();
    let (a_body, a_rest) = a.as_chunks::<LANES>();
    let (x_body, x_rest) = x.as_chunks_mut::<LANES>();
    for (i, ((g, a), x)) in g_body.iter().zip(a_body).zip(x_body).enumerate() {
        for l in 0..LANES {
            one(i * LANES + l, l, g[l], a[l], &mut x[l]);
        }
    }
    let start = g_body.len() * LANES;
    for (l, ((g, a), x)) in g_rest.iter().zip(a_rest).zip(x_rest).enumerate() {
        one(start + l, l, *g, *a, x);
    }
    sums.out2 += total(out[0]);
    sums.out_g += total(out[1]);
    if WATCH {
        let [delta2, off, off2, near_min, near_max] = watched.map(total);
        sums.delta2 += delta2;
        let (n, c) = (g.len() as f64, pivot.to_f64());
        let (sum, squares) = (n * c + off, n * c * c + 2.0 * c * off + off2);
        let fold = |lanes: [T; LANES], f: fn(f64, f64) -> f64| lanes.iter().map(|x| x.to_f64()).reduce(f);
        let min = fold(extremes[0], f64::min).unwrap_or(f64::INFINITY);
        let max = fold(extremes[1], f64::max).unwrap_or(f64::NEG_INFINITY);
        sums.alpha.add(&super::passes::AlphaSums { sum, squares, min, max, near_min, near_max });
    }
}

/// Σ log(max(α, ε)/max(α_g, ε)), as logarithms of products of sixteen: a logarithm costs as much as everything else together.
#[inline(always)]
fn log_ratio<T: Float>(alpha: &Alpha<T>, eps: f64, block: &Block<'_, T>) -> f64 {
    let mut sum = 0.0;
    for ((g, a), q) in block.g.chunks(16).zip(block.a.chunks(16)).zip(block.x.chunks(16)) {
        let (mut above, mut below) = (1.0, 1.0);
        for ((g, a), q) in g.iter().zip(a).zip(q) {
            let (alpha_g, alpha) = alpha.at(g.abs(), *a, *q);
            above *= alpha.to_f64().max(eps);
            below *= alpha_g.to_f64().max(eps);
        }
        sum += (above / below).ln();
    }
    sum
}

/// x ← kg g + kx x + kb b + kθ θ, with Σx² and Σx g.
#[inline(always)]
fn combine<T: Float>(how: &Combination, block: &mut Block<'_, T>, sums: &mut Sums) {
    let [kg, kx, kb, kt] = [how.g, how.x, how.b, how.theta].map(T::from_f64);
    if kb == T::ZERO {
        block.x.iter_mut().zip(block.g).for_each(|(x, g)| *x = kg * *g + kx * *x);
    } else {
        block.x.iter_mut().zip(block.b.iter()).for_each(|(x, b)| *x = kb * *b + kx * *x);
    }
    if kt != T::ZERO {
        block.x.iter_mut().zip(block.theta).for_each(|(x, theta)| *x += kt * *theta);
    }
    if how.finite {
        block.x.iter_mut().for_each(|x| *x = if x.is_finite() { *x } else { T::ZERO });
    }
    sums.out2 += square_sum(block.x);
    let mut dot = [T::ZERO; LANES];
    let (x, x_rest) = block.x.as_chunks::<LANES>();
    let (g, g_rest) = block.g.as_chunks::<LANES>();
    for (x, g) in x.iter().zip(g) {
        for l in 0..LANES {
            dot[l] += x[l] * g[l];
        }
    }
    x_rest.iter().zip(g_rest).enumerate().for_each(|(l, (x, g))| dot[l] += *x * *g);
    sums.out_g += total(dot);
}

/// The in-place operation that candle lends θ to.
struct ApplyTo<'a, E: Element> {
    u: &'a [E::Compute],
    keep: E::Compute,
    factor: E::Compute,
}

/// θ ← keep θ − factor u.
pub(super) fn apply<E: Element>(var: &Var, u: &[E::Compute], how: Apply) -> Result<()> {
    let real = <E::Compute as Float>::from_f64;
    Ok(var.inplace_op1(&ApplyTo::<E> { u, keep: real(how.keep), factor: real(how.factor) })?)
}

impl<E: Element> InplaceOp1 for ApplyTo<'_, E> {
    fn name(&self) -> &'static str {
        "neuroplastic"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let theta = cpu::slice_mut::<E>(storage, layout)?;
        let chunks: Vec<_> = theta.chunks_mut(CHUNK).zip(self.u.chunks(CHUNK)).collect();
        let (keep, factor) = (self.keep, self.factor);
        cpu::for_each(chunks, |(theta, u)| {
            let mut wide = [<E::Compute as Float>::ZERO; BLOCK];
            for (theta, u) in theta.chunks_mut(BLOCK).zip(u.chunks(BLOCK)) {
                E::edit(theta, &mut wide, |theta| {
                    theta.iter_mut().zip(u).for_each(|(theta, u)| *theta = keep * *theta - factor * *u);
                });
            }
        });
        Ok(())
    }
}
