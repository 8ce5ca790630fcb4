//! The passes as launches on a machine: the formulas are those of the CPU's loops, recorded once.
//!
//! A pass's sums are read back, because the scalar arithmetic between the passes is the host's (`step`): a step waits for the device once a pass that sums. Where no
//! sum leaves the range of its type, all sums have the CPU's bits, but for those of logarithms.

use np_cuda::machine::Machine;
use np_cuda::table::{BUFFERS, Row};

use super::NeuroPlasticConfig;
use super::formulation::Formulation;
use super::formulation::Target as Modulated;
use super::kernels::BaseScalars;
use super::passes::{AlphaSums, Combination, Modulation, Passes, Shape, Sums, Watch};
use super::tensors::mu;
use super::traces::{Decays, memory};
use crate::engine::apply::Apply;
use crate::engine::elementwise::Elementwise;
use crate::engine::elementwise::plan::storage_of;
use crate::engine::number::{Float, Number};
use crate::engine::param_step::ParamStep;
use crate::engine::summed::{Formula, Held, Place};
use crate::engine::traced::cuda::Storage;
use crate::engine::traced::pass::{Pass, Target, Term};
use crate::error::Result;

/// Where among a tensor's addresses its buffers are: traces a, m, v; the base optimizer's two; scratch x; scratch b of a hybrid.
const A: usize = 0;
const M: usize = 1;
const V: usize = 2;
const MU: usize = 3;
const SECOND: usize = 4;
const X: usize = 5;
const B: usize = 6;

/// A tensor, and what its step depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) steps: u64,
    pub(super) weight_decay: Option<f64>,
}

/// A parameter of a step, whose parameter and gradient are where `row` says, and its buffers and scratch at the addresses in `state`.
pub(super) fn member(config: &NeuroPlasticConfig, w: &ParamStep<'_>, row: Row, state: &[u64]) -> Member {
    let x = w.param.buffers.len();
    let of = |k: usize| state.get(k).copied().unwrap_or(0);
    let mut all = [0; BUFFERS];
    (all[A], all[M], all[V], all[X]) = (of(0), of(1), of(2), of(x));
    if let Formulation::Hybrid(hybrid) = &config.formulation {
        let (mu, _) = mu(config, &w.param.buffers, w.param.steps);
        (all[MU], all[B]) = (of(mu), of(x + 1));
        all[SECOND] = if hybrid.base.adamw().is_some() { of(SECOND) } else { 0 };
    }
    let row = Row { state: all, length: w.grad.elem_count() as u64, ..row };
    let place = Place { row, storage: storage_of(w.grad.dtype()), map: w.map };
    Member { place, steps: w.param.steps, weight_decay: w.param.settings.weight_decay }
}

/// All tensors of a step on a machine.
pub(super) struct LaunchedPasses<'a, M: Machine> {
    config: &'a NeuroPlasticConfig,
    watch: Watch,
    machine: &'a mut M,
    held: &'a mut Held,
    members: &'a [Member],
    places: Vec<Place>,
}

impl<'a, M: Machine> LaunchedPasses<'a, M> {
    pub(super) fn new(
        config: &'a NeuroPlasticConfig,
        watch: Watch,
        machine: &'a mut M,
        held: &'a mut Held,
        members: &'a [Member],
    ) -> Self {
        let places = members.iter().map(|member| member.place).collect();
        Self { config, watch, machine, held, members, places }
    }

    fn run(&mut self, formula: &impl Formula, unpack: impl Fn(&mut Sums, &[f64])) -> Result<Vec<Sums>> {
        let found = self.held.run(self.machine, &self.places, formula)?;
        let sums = found.iter().zip(&self.places).map(|(numbers, place)| {
            let elements = usize::try_from(place.row.length).unwrap_or(usize::MAX);
            let mut sums = Sums { elements, ..Sums::default() };
            if !numbers.is_empty() {
                unpack(&mut sums, numbers);
            }
            sums
        });
        Ok(sums.collect())
    }
}

/// Traces, the base optimizer's direction, and sums of signals.
struct Traces<'a> {
    config: &'a NeuroPlasticConfig,
    members: &'a [Member],
    trust: bool,
}

impl Formula for Traces<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        // Decay of an SGD base is no operation where it is 0.
        let decays = self.members[tensor].weight_decay.unwrap_or(self.config.weight_decay) != 0.0;
        ("traces", u32::from(decays))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
        let (config, member) = (self.config, &self.members[tensor]);
        let (a, m, v) = Decays::<N>::new(&config.traces).update(g, state[A], state[M], state[V]);
        let q = memory(m, v, N::from_f64(config.signals.eps));
        let mut writes = vec![(A, a), (M, m), (V, v), (X, q)];
        let mut terms = vec![Term::Sum(g.abs()), Term::Sum(a), Term::Sum(q), Term::Square(g)];
        match BaseScalars::<N>::new(config, member.steps, member.weight_decay) {
            Some(BaseScalars::Adamw(k)) => {
                let (b, [mu, second]) = k.direction(g, [state[MU], state[SECOND]]);
                writes.extend([(MU, mu), (SECOND, second), (B, b)]);
                terms.push(Term::Square(b));
            }
            Some(BaseScalars::Sgd { k, weight_decay }) => {
                let decays = member.weight_decay.unwrap_or(config.weight_decay) != 0.0;
                let g = if decays { g + weight_decay * theta } else { g };
                let (b, [mu]) = crate::SgdConfig::direction(&k, theta, g, [state[MU]]);
                writes.extend([(MU, mu), (B, b)]);
                terms.push(Term::Square(b));
            }
            Some(BaseScalars::Given) => terms.push(Term::Square(state[B])),
            None => {}
        }
        if self.trust {
            terms.push(Term::Square(theta));
        }
        let writes = writes.into_iter().map(|(buffer, x)| (Target::State(buffer), x)).collect();
        Pass { writes, terms, log_ratio: None, watched: None }
    }
}

/// Coefficient and modulation.
struct Modulate<'a> {
    each: &'a [Modulation],
    scales: Vec<f64>,
    watch: Watch,
}

impl Formula for Modulate<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how = &self.each[tensor];
        let shape = match how.shape {
            Shape::Direct { weight_decay } => u32::from(weight_decay != 0.0),
            Shape::Residual => 2,
            Shape::Signal => 3,
            Shape::Base { km, .. } => 4 + u32::from(km != 0.0),
        };
        let watched = u32::from(self.watch == Watch::Diagnostics) << 3;
        ("modulate", shape | watched | u32::from(how.log_ratio.is_some()) << 4)
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
        let (how, real) = (&self.each[tensor], N::from_f64);
        let (alpha_g, alpha) = how.alpha.cast::<N>().at(g.abs(), state[A], state[X]);
        let delta = (alpha - alpha_g) * g;
        let x = match how.shape {
            Shape::Direct { weight_decay } if weight_decay != 0.0 => alpha * g + real(weight_decay) * theta,
            Shape::Direct { .. } => alpha * g,
            Shape::Residual => (alpha - N::ONE) * g,
            Shape::Signal => finite(delta),
            Shape::Base { kb, km } => {
                let b = real(kb) * state[B];
                let target = if km == 0.0 { b } else { b + real(km * self.scales[tensor]) * state[MU] };
                (alpha - N::ONE) * target
            }
        };
        let near = how.near.map(real);
        Pass {
            writes: vec![(Target::State(X), x)],
            terms: vec![Term::Square(x), Term::Dot(x, g)],
            log_ratio: how.log_ratio.map(|eps| [alpha, alpha_g, real(eps)]),
            watched: (self.watch == Watch::Diagnostics).then_some([alpha, delta, near[0], near[1]]),
        }
    }
}

/// `x`, or 0 where it is not finite.
fn finite<N: Number>(x: N) -> N {
    N::select_lt(x.abs(), N::from_f64(f64::INFINITY), x, N::ZERO)
}

/// x ← kg g + kx x + kb b + kθ θ.
struct Combine<'a> {
    each: &'a [Combination],
}

impl Formula for Combine<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how = &self.each[tensor];
        let flags = [how.b != 0.0, how.theta != 0.0, how.finite];
        ("combine", (0..).zip(flags).map(|(k, flag)| u32::from(flag) << k).sum())
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
        let how = &self.each[tensor];
        let [kg, kx, kb, kt] = [how.g, how.x, how.b, how.theta].map(N::from_f64);
        let mut x = if how.b == 0.0 { kg * g + kx * state[X] } else { kb * state[B] + kx * state[X] };
        if how.theta != 0.0 {
            x = x + kt * theta;
        }
        if how.finite {
            x = finite(x);
        }
        Pass {
            writes: vec![(Target::State(X), x)],
            terms: vec![Term::Square(x), Term::Dot(x, g)],
            log_ratio: None,
            watched: None,
        }
    }
}

/// θ ← keep·θ − factor·u.
struct Finish<'a> {
    applies: &'a [Apply],
    squares: bool,
}

impl Formula for Finish<'_> {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("apply", u32::from(self.squares))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, _: N, state: [N; BUFFERS]) -> Pass<N> {
        let Apply { keep, factor } = self.applies[tensor];
        let next = N::from_f64(keep) * theta - N::from_f64(factor) * state[X];
        let terms = if self.squares { vec![Term::Square(theta)] } else { vec![] };
        Pass { writes: vec![(Target::Theta, next)], terms, log_ratio: None, watched: None }
    }
}

/// θ ← keep·θ − factor·x for all; gives Σθ² of each as it was, if `squares` are wanted.
pub(super) fn apply(
    machine: &mut impl Machine,
    held: &mut Held,
    members: &[Member],
    applies: &[Apply],
    squares: bool,
) -> Result<Vec<f64>> {
    let places: Vec<Place> = members.iter().map(|member| member.place).collect();
    let found = held.run(machine, &places, &Finish { applies, squares })?;
    Ok(found.iter().map(|numbers| numbers.first().copied().unwrap_or(0.0)).collect())
}

/// What the base's first buffer is multiplied with to give μ.
fn momentum_scale<T: Float>(config: &NeuroPlasticConfig, member: &Member) -> f64 {
    BaseScalars::<T>::new(config, member.steps, member.weight_decay).map_or(1.0, |base| base.momentum_scale())
}

impl<M: Machine> Passes for LaunchedPasses<'_, M> {
    fn traces(&mut self) -> Result<Vec<Sums>> {
        let trust = matches!(&self.config.formulation, Formulation::Hybrid(h) if h.target == Modulated::TrustRatio);
        let hybrid = matches!(self.config.formulation, Formulation::Hybrid(_));
        let formula = Traces { config: self.config, members: self.members, trust };
        self.run(&formula, |sums, v| {
            sums.signals = [v[0], v[1], v[2]];
            sums.g2 = v[3];
            sums.b2 = if hybrid { v[4] } else { 0.0 };
            sums.theta2 = if trust { v[5] } else { 0.0 };
        })
    }

    fn modulate(&mut self, each: &[Modulation]) -> Result<Vec<Sums>> {
        // As rounded as in the type that is computed in.
        let scale = |member: &Member| match member.place.storage {
            Storage::F64 => momentum_scale::<f64>(self.config, member),
            _ => momentum_scale::<f32>(self.config, member),
        };
        let formula = Modulate { each, scales: self.members.iter().map(scale).collect(), watch: self.watch };
        let (watched, logs) = (self.watch == Watch::Diagnostics, each.first().is_some_and(|m| m.log_ratio.is_some()));
        self.run(&formula, |sums, v| {
            (sums.out2, sums.out_g) = (v[0], v[1]);
            if logs {
                sums.log_ratio = v[2];
            }
            if let (true, [delta2, sum, squares, min, max, near_min, near_max]) =
                (watched, v[2 + usize::from(logs)..].as_ref())
            {
                sums.delta2 = *delta2;
                sums.alpha = AlphaSums {
                    sum: *sum,
                    squares: *squares,
                    min: *min,
                    max: *max,
                    near_min: *near_min,
                    near_max: *near_max,
                };
            }
        })
    }

    fn combine(&mut self, each: &[Combination]) -> Result<Vec<Sums>> {
        self.run(&Combine { each }, |sums, v| (sums.out2, sums.out_g) = (v[0], v[1]))
    }
}
