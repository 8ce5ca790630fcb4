//! What the passes do with an element, as launches: the formulas are those of the CPU's loops. What the scalar arithmetic has made for a tensor is in its row of numbers.

use np_cuda::table::BUFFERS;

use super::NeuroPlasticConfig;
use super::coefficient::{ALPHA, Alpha};
use super::formulation::Formulation;
use super::kernels::BaseScalars;
use super::launched::{A, ALPHA_AT, APPLY_AT, B, M, MU, Member, SECOND, V, X, factors_at};
use super::passes::{Combination, Modulation, Shape, Watch};
use super::scalars::{Place, Plan, Stage, finite};
use super::traces::{Decays, memory};
use crate::engine::chain::Formula;
use crate::engine::elementwise::Elementwise;
use crate::engine::number::Number;
use crate::engine::traced::pass::{Pass, Target, Term};

/// Traces, the base optimizer's direction, and sums of signals.
pub(super) struct Traces<'a> {
    pub(super) config: &'a NeuroPlasticConfig,
    pub(super) members: &'a [Member],
    pub(super) trust: bool,
}

impl Traces<'_> {
    /// Whether decay goes into an SGD base's gradient: it is no operation where it is 0.
    fn decays(&self, tensor: usize) -> bool {
        let sgd = matches!(&self.config.formulation, Formulation::Hybrid(hybrid) if hybrid.base.sgd().is_some());
        sgd && self.members[tensor].weight_decay.unwrap_or(self.config.weight_decay) != 0.0
    }
}

impl Formula for Traces<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("traces", u32::from(self.decays(tensor)))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], _: &[N]) -> Pass<N> {
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
                let g = if self.decays(tensor) { g + weight_decay * theta } else { g };
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
pub(super) struct Modulate<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) places: &'a [Place],
    /// What each base's first buffer is multiplied with to give μ.
    pub(super) scales: Vec<f64>,
    pub(super) watch: Watch,
}

impl Modulate<'_> {
    fn of<N: Number>(&self, tensor: usize, alpha: Alpha<N>, kb: N) -> Modulation<N> {
        self.plan.modulation(&self.places[tensor], alpha, kb)
    }
}

impl Formula for Modulate<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how = self.of::<f64>(tensor, Alpha::one(), 0.0);
        let shape = match how.shape {
            Shape::Direct { weight_decay } => u32::from(weight_decay != 0.0),
            Shape::Residual => 2,
            Shape::Signal => 3,
            Shape::Base { km, .. } => 4 + u32::from(km != 0.0),
        };
        let watched = u32::from(self.watch == Watch::Diagnostics) << 3;
        ("modulate", shape | watched | u32::from(how.log_ratio.is_some()) << 4)
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let alpha = Alpha::of_numbers(std::array::from_fn(|k| numbers[ALPHA_AT + k]));
        let (how, real) = (self.of(tensor, alpha, numbers[ALPHA_AT + ALPHA]), N::from_f64);
        let (alpha_g, alpha) = how.alpha.at(g.abs(), state[A], state[X]);
        let delta = (alpha - alpha_g) * g;
        let x = match how.shape {
            Shape::Direct { weight_decay } if weight_decay != 0.0 => alpha * g + real(weight_decay) * theta,
            Shape::Direct { .. } => alpha * g,
            Shape::Residual => (alpha - N::ONE) * g,
            Shape::Signal => finite(delta),
            Shape::Base { kb, km } => {
                let b = kb * state[B];
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

/// x ← kg g + kx x + kb b + kθ θ.
pub(super) struct Combine<'a> {
    pub(super) plan: &'a Plan<'a>,
    pub(super) places: &'a [Place],
    pub(super) stage: Stage,
}

impl Formula for Combine<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how: Combination = self.plan.combination(&self.places[tensor], self.stage, [0.0; 2]);
        let flags = [how.b != 0.0, how.theta != 0.0, how.finite];
        ("combine", (0..).zip(flags).map(|(k, flag)| u32::from(flag) << k).sum())
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let at = factors_at(self.stage);
        let how = self.plan.combination(&self.places[tensor], self.stage, [numbers[at], numbers[at + 1]]);
        let real = N::from_f64;
        let mut x = if how.b == 0.0 { how.g * g + how.x * state[X] } else { real(how.b) * state[B] + how.x * state[X] };
        if how.theta != 0.0 {
            x = x + real(how.theta) * theta;
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
pub(super) struct Finish {
    pub(super) squares: bool,
}

impl Formula for Finish {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("apply", u32::from(self.squares))
    }

    fn pass<N: Number>(&self, _: usize, theta: N, _: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let next = numbers[APPLY_AT] * theta - numbers[APPLY_AT + 1] * state[X];
        let terms = if self.squares { vec![Term::Square(theta)] } else { vec![] };
        Pass { writes: vec![(Target::Theta, next)], terms, log_ratio: None, watched: None }
    }
}
