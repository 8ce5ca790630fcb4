//! The passes over CPU memory: fixed chunks on rayon's threads, cut into blocks that fit in cache.

use candle_core::{CpuStorage, InplaceOp1, Layout, Storage, Var};

use super::formulation::Formulation;
use super::kernels::{self, BaseScalars, Block, base_update, modulate, square_sum, trace};
use super::passes::{Apply, Combination, Modulation, Passes, Sums, Watch};
use super::traces::Decays;
use super::{NeuroPlasticConfig, Target};
use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::slot::GradientMap;
use crate::{Float, Result, Work};

/// One tensor's memory.
struct Memory<'a, E: Element> {
    g: &'a [E],
    theta: &'a [E],
    /// Traces a, m, v; the base optimizer's buffers; scratch x; scratch b of a hybrid.
    state: &'a mut [Vec<E::Compute>],
    base: Option<BaseScalars<E::Compute>>,
    map: GradientMap,
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
        let Work { slot, grad, map, .. } = &mut **w;
        let base = BaseScalars::new(config, slot.steps, slot.settings.weight_decay);
        let map = *map;
        held.push((grad.storage_and_layout(), slot.var.storage_and_layout(), &mut slot.state, base, map));
    }
    let mut tensors = Vec::with_capacity(held.len());
    for ((g, g_layout), (theta, theta_layout), state, base, map) in &mut held {
        let (Storage::Cpu(g), Storage::Cpu(theta)) = (&**g, &**theta) else {
            return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
        };
        let state = E::buffers(state);
        let (g, theta) = (cpu::slice::<E>(g, g_layout)?, cpu::slice::<E>(theta, theta_layout)?);
        tensors.push(Memory { g, theta, state, base: *base, map: *map });
    }
    f(&mut CpuPasses { config, watch, tensors })
}

/// What one task works on: the same stretch of everything that a tensor has.
struct Chunk<'a, E: Element> {
    tensor: usize,
    map: GradientMap,
    g: &'a [E],
    theta: &'a [E],
    state: Vec<&'a mut [E::Compute]>,
    sums: &'a mut Sums,
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
                chunks.push(Chunk { tensor, map: m.map, g, theta, state, sums });
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
        let g = E::read_mapped(&chunk.g[at..end], chunk.map, &mut wide_g);
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
            |tensor, block, sums| kernels::combine(&each[tensor], block, sums),
        ))
    }
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
