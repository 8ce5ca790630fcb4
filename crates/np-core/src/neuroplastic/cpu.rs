//! The passes over CPU memory: fixed chunks on rayon's threads, cut into blocks that fit in cache.

use candle_core::Storage;

use super::formulation::Formulation;
use super::kernels::{self, BaseScalars, Block, base_update, modulate, trace};
use super::passes::{Combination, Modulation, Passes, Sums, Watch};
use super::traces::Decays;
use super::{Hybrid, NeuroPlasticConfig, Target};
use crate::engine::buffer::Buffer;
use crate::engine::cpu;
use crate::engine::cpu::CHUNK;
use crate::engine::cpu::sums::square_sum;
use crate::engine::element::{BLOCK, Element};
use crate::engine::gradient_map::GradientMap;
use crate::engine::number::Number;
use crate::engine::param_step::ParamStep;
use crate::error::Result;

/// One tensor's memory.
struct Memory<'a, E: Element> {
    g: &'a [E],
    theta: &'a [E],
    state: Slices<'a, E::Compute>,
    base: Option<BaseScalars<E::Compute>>,
    map: GradientMap,
}

/// Traces a, m, v; the base optimizer's μ and second moment; scratch x; scratch b of a hybrid. What there is none of is empty.
type Slices<'a, T> = [&'a mut [T]; 7];

/// Picks these from a tensor's state.
fn slices<'a, T>(config: &NeuroPlasticConfig, buffers: &[Buffer], state: &'a mut [Vec<T>]) -> Slices<'a, T> {
    let (base, mu) = match &config.formulation {
        Formulation::Hybrid(Hybrid { base, .. }) => (true, base.other().map(|_| base.momentum())),
        _ => (false, None),
    };
    let x = buffers.len();
    let place = |k: usize| match k {
        0..3 => Some(k),
        _ if k == x => Some(5),
        _ if base && k == x + 1 => Some(6),
        _ if k > x => None,
        // A base of the zoo has whatever buffers it has; one of them may be asked for.
        _ => match mu {
            None => Some(k),
            Some(name) => name.is_some_and(|name| buffers[k].name().strip_prefix("base_") == Some(name)).then_some(3),
        },
    };
    let mut all: Slices<'a, T> = std::array::from_fn(|_| Default::default());
    for (k, data) in state.iter_mut().enumerate() {
        if let Some(place) = place(k) {
            all[place] = data;
        }
    }
    all
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
    work: &mut [&mut ParamStep<'_>],
    f: impl FnOnce(&mut CpuPasses<'_, E>) -> Result<R>,
) -> Result<R> {
    let mut held = Vec::with_capacity(work.len());
    for w in work.iter_mut() {
        let ParamStep { param, grad, map, .. } = &mut **w;
        let base = BaseScalars::new(config, param.steps, param.settings.weight_decay);
        let map = *map;
        let state = slices(config, &param.buffers, E::buffers(&mut param.state));
        held.push((grad.storage_and_layout(), param.var.storage_and_layout(), state, base, map));
    }
    let mut tensors = Vec::with_capacity(held.len());
    for ((g, g_layout), (theta, theta_layout), state, base, map) in &mut held {
        let state = std::mem::take(state);
        let (Storage::Cpu(g), Storage::Cpu(theta)) = (&**g, &**theta) else {
            return Err(candle_core::Error::Msg("expected tensors on the CPU".to_string()).into());
        };
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
    state: Slices<'a, E::Compute>,
    sums: &'a mut Sums,
}

impl<E: Element> CpuPasses<'_, E> {
    /// Runs `f` on every block of every tensor, and adds the sums up in order.
    fn pass(&mut self, f: impl Fn(usize, &mut Block<'_, E::Compute>, &mut Sums) + Sync) -> Vec<Sums> {
        let chunks_of = |m: &Memory<'_, E>| m.g.len().div_ceil(CHUNK);
        let mut partial = vec![Sums::default(); self.tensors.iter().map(chunks_of).sum()];
        let mut chunks = Vec::with_capacity(partial.len());
        let mut sums = partial.iter_mut();
        for (tensor, m) in self.tensors.iter_mut().enumerate() {
            let mut buffers = m.state.each_mut().map(|b| b.chunks_mut(CHUNK));
            for (g, theta) in m.g.chunks(CHUNK).zip(m.theta.chunks(CHUNK)) {
                let state = buffers.each_mut().map(|b| b.next().unwrap_or_default());
                let Some(sums) = sums.next() else { break };
                chunks.push(Chunk { tensor, map: m.map, g, theta, state, sums });
            }
        }
        cpu::for_each(
            chunks,
            #[inline(always)]
            |chunk: Chunk<'_, E>| run(chunk, &f),
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
fn run<E: Element>(mut chunk: Chunk<'_, E>, f: &impl Fn(usize, &mut Block<'_, E::Compute>, &mut Sums)) {
    let zero = <E::Compute as Number>::ZERO;
    let (mut wide_g, mut wide_theta) = ([zero; BLOCK], [zero; BLOCK]);
    let mut spare = [[zero; BLOCK]; 3];
    let mut at = 0;
    while at < chunk.g.len() {
        let end = (at + BLOCK).min(chunk.g.len());
        let g = E::read_mapped(&chunk.g[at..end], chunk.map, &mut wide_g);
        let theta = E::read(&chunk.theta[at..end], &mut wide_theta);
        let [a, m, v, mu, second, x, b] =
            chunk.state.each_mut().map(|s| if s.is_empty() { &mut [] } else { &mut s[at..end] });
        let spare = spare.each_mut().map(|s| &mut s[..]);
        let mut block = Block { g, theta, a, m, v, base: [mu, second], x, b, spare };
        f(chunk.tensor, &mut block, chunk.sums);
        at = end;
    }
}

impl<E: Element> Passes for CpuPasses<'_, E> {
    fn traces(&mut self) -> Result<Vec<Sums>> {
        let k = Decays::<E::Compute>::new(&self.config.traces);
        let eps = <E::Compute as Number>::from_f64(self.config.signals.eps);
        let base: Vec<_> = self.tensors.iter().map(|m| m.base).collect();
        let trust = matches!(&self.config.formulation, Formulation::Hybrid(h) if h.target == Target::TrustRatio);
        Ok(self.pass(
            #[inline(always)]
            |tensor, block, sums| {
                trace(&k, eps, block, sums);
                if let Some(base) = &base[tensor] {
                    base_update(base, block, sums);
                }
                if trust {
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
