//! The passes over CPU memory: fixed chunks on rayon's threads, blocks that fit in cache, lanes that vectorise.

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Var};

use super::coefficient::Alpha;
use super::formulation::Formulation;
use super::passes::{AlphaSums, Apply, Combination, Modulation, Passes, Shape, Sums, Watch};
use super::traces::Decays;
use super::{NeuroPlasticConfig, Target};
use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::{Elementwise, Float, Result, Work, adam, sgd};

/// Sums within a block are kept in this many lanes, whatever the width of the machine's registers: enough to hide an addition's latency.
const LANES: usize = 32;

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
    /// Memory to work in, a block long each.
    spare: [&'a mut [T]; 3],
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
        cpu::for_each(
            chunks,
            #[inline(always)]
            |chunk: Chunk<'_, E>| run(chunk, base, &f),
        );
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
    let mut spare = [[zero; BLOCK]; 3];
    let mut at = 0;
    while at < chunk.g.len() {
        let end = (at + BLOCK).min(chunk.g.len());
        let g = E::read(&chunk.g[at..end], &mut wide_g);
        let theta = E::read(&chunk.theta[at..end], &mut wide_theta);
        let mut state = chunk.state.iter_mut().map(|s| &mut s[at..end]);
        let mut next = |present: bool| if present { state.next().unwrap_or_default() } else { &mut [] };
        let (a, m, v) = (next(true), next(true), next(true));
        let base = [next(base > 0), next(base > 1)];
        let spare = spare.each_mut().map(|s| &mut s[..]);
        let mut block = Block { g, theta, a, m, v, base, x: next(true), b: next(true), spare };
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
        Ok(self.pass(
            #[inline(always)]
            |tensor, block, sums| {
                trace(&k, eps, block, sums);
                if let Some(base) = &base[tensor] {
                    base_update(base, block, sums);
                }
                if theta2 {
                    sums.theta2 += square_sum(block.theta);
                }
            },
        ))
    }

    fn modulate(&mut self, each: &[Modulation]) -> Result<Vec<Sums>> {
        let watch = self.watch;
        let scale: Vec<_> = self.tensors.iter().map(|m| m.base.map_or(1.0, |b| b.momentum_scale())).collect();
        Ok(self.pass(
            #[inline(always)]
            |tensor, block, sums| match watch {
                Watch::Step => modulate::<_, false>(&each[tensor], scale[tensor], block, sums),
                Watch::Diagnostics => modulate::<_, true>(&each[tensor], scale[tensor], block, sums),
            },
        ))
    }

    fn combine(&mut self, each: &[Combination]) -> Result<Vec<Sums>> {
        Ok(self.pass(
            #[inline(always)]
            |tensor, block, sums| combine(&each[tensor], block, sums),
        ))
    }
}

/// Σ f(x), in lanes.
#[inline(always)]
fn sum<T: Float>(xs: &[T], f: impl Fn(T) -> T) -> f64 {
    let mut lanes = [T::ZERO; LANES];
    let (body, rest) = xs.as_chunks::<LANES>();
    for x in body {
        for l in 0..LANES {
            lanes[l] += f(x[l]);
        }
    }
    rest.iter().zip(&mut lanes).for_each(|(x, lane)| *lane += f(*x));
    lanes.iter().map(|x| x.to_f64()).sum()
}

/// Σ x y, in lanes.
#[inline(always)]
fn dot<T: Float>(xs: &[T], ys: &[T]) -> f64 {
    let mut lanes = [T::ZERO; LANES];
    let ((xs, x_rest), (ys, y_rest)) = (xs.as_chunks::<LANES>(), ys.as_chunks::<LANES>());
    for (x, y) in xs.iter().zip(ys) {
        for l in 0..LANES {
            lanes[l] += x[l] * y[l];
        }
    }
    x_rest.iter().zip(y_rest).zip(&mut lanes).for_each(|((x, y), lane)| *lane += *x * *y);
    lanes.iter().map(|x| x.to_f64()).sum()
}

/// `f` folded over `xs` from `start`, in lanes; for minimum and maximum.
#[inline(always)]
fn fold<T: Float>(xs: &[T], start: f64, f: impl Fn(T, T) -> T) -> f64 {
    let mut lanes = [T::from_f64(start); LANES];
    let (body, rest) = xs.as_chunks::<LANES>();
    for x in body {
        for l in 0..LANES {
            lanes[l] = f(x[l], lanes[l]);
        }
    }
    rest.iter().zip(&mut lanes).for_each(|(x, lane)| *lane = f(*x, *lane));
    lanes.into_iter().reduce(f).map_or(start, T::to_f64)
}

#[inline(always)]
fn square_sum<T: Float>(xs: &[T]) -> f64 {
    sum(xs, |x| x * x)
}

/// Traces and q, with Σ|g|, Σa, Σq, Σg².
#[inline(always)]
fn trace<T: Float>(k: &Decays<T>, eps: T, block: &mut Block<'_, T>, sums: &mut Sums) {
    let n = block.g.len();
    let (g, a, m) = (&block.g[..n], &mut block.a[..n], &mut block.m[..n]);
    let (v, q) = (&mut block.v[..n], &mut block.x[..n]);
    for i in 0..n {
        (a[i], m[i], v[i]) = k.update(g[i], a[i], m[i], v[i]);
        q[i] = m[i].abs() / (v[i].sqrt() + eps);
    }
    for (total, x) in sums.signals.iter_mut().zip([sum(g, T::abs), sum(a, |x| x), sum(q, |x| x)]) {
        *total += x;
    }
    sums.g2 += square_sum(g);
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
    let real = T::from_f64;
    match how.shape {
        Shape::Direct { weight_decay } if weight_decay != 0.0 => {
            let (wd, theta) = (real(weight_decay), &block.theta[..block.g.len()]);
            shaped::<T, WATCH>(
                &alpha,
                near,
                block,
                sums,
                #[inline(always)]
                |i, _, alpha, g| alpha * g + wd * theta[i],
            );
        }
        Shape::Direct { .. } => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            sums,
            #[inline(always)]
            |_, _, alpha, g| alpha * g,
        ),
        Shape::Residual => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            sums,
            #[inline(always)]
            |_, _, alpha, g| (alpha - T::ONE) * g,
        ),
        Shape::Signal => shaped::<T, WATCH>(
            &alpha,
            near,
            block,
            sums,
            #[inline(always)]
            |_, alpha_g, alpha, g| {
                let q = (alpha - alpha_g) * g;
                if q.is_finite() { q } else { T::ZERO }
            },
        ),
        Shape::Base { kb, km } => {
            let (kb, km) = (real(kb), real(km * momentum_scale));
            let target = std::mem::take(&mut block.spare[2]);
            for (i, t) in target.iter_mut().enumerate().take(block.g.len()) {
                *t = kb * block.b[i] + km * block.base[0][i];
            }
            shaped::<T, WATCH>(
                &alpha,
                near,
                block,
                sums,
                #[inline(always)]
                |i, _, alpha, _| (alpha - T::ONE) * target[i],
            );
            block.spare[2] = target;
        }
    }
}

/// Writes `f(i, α_g, α, g)` over q, with Σx², Σx g, and, if watched, Σδ² and the statistics of α.
#[inline(always)]
fn shaped<T: Float, const WATCH: bool>(
    alpha: &Alpha<T>,
    near: [T; 2],
    block: &mut Block<'_, T>,
    sums: &mut Sums,
    f: impl Fn(usize, T, T, T) -> T,
) {
    let n = block.g.len();
    let (g, a, x) = (&block.g[..n], &block.a[..n], &mut block.x[..n]);
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
    sums.out2 += square_sum(x);
    sums.out_g += dot(x, g);
    if WATCH && n > 0 {
        sums.delta2 += square_sum(delta);
        // Sums of α are taken about one of the block's own values: a constant α has deviation 0, not what rounding makes of it.
        let pivot = used[0];
        let (off, off2) = (sum(used, |x| x - pivot), sum(used, |x| (x - pivot) * (x - pivot)));
        let (n, c) = (n as f64, pivot.to_f64());
        let one_if = |yes: bool| if yes { T::ONE } else { T::ZERO };
        sums.alpha.add(&AlphaSums {
            sum: n * c + off,
            squares: n * c * c + 2.0 * c * off + off2,
            min: fold(used, f64::INFINITY, T::min),
            max: fold(used, f64::NEG_INFINITY, T::max),
            near_min: sum(used, |x| one_if(x <= near[0])),
            near_max: sum(used, |x| one_if(x >= near[1])),
        });
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
    sums.out_g += dot(block.x, block.g);
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
        cpu::for_each(
            chunks,
            #[inline(always)]
            |(theta, u)| {
                let mut wide = [<E::Compute as Float>::ZERO; BLOCK];
                for (theta, u) in theta.chunks_mut(BLOCK).zip(u.chunks(BLOCK)) {
                    E::edit(
                        theta,
                        &mut wide,
                        #[inline(always)]
                        |theta| {
                            theta.iter_mut().zip(u).for_each(|(theta, u)| *theta = keep * *theta - factor * *u);
                        },
                    );
                }
            },
        );
        Ok(())
    }
}
