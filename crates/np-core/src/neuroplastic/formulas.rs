//! The formulas of the passes: for one element, and for a block by the loops of `kernels`. They read the results of the scalar arithmetic from the
//! tensor's row of numbers.

use np_cuda::table::BUFFERS;
use np_engine::chain::{Block, Formula};
use np_engine::cpu::sums::square_sum;
use np_engine::elementwise::Elementwise;
use np_trace::pass::{Pass, Target, Term};
use np_trace::{Float, Number};

use super::base::BaseScalars;
use super::coefficient::{ALPHA, Alpha};
use super::formulation::Formulation;
use super::kernels;
use super::passes::{Combination, Modulation, Shape, Watch};
use super::scalars::{Stage, finite};
use super::step::{A, ALPHA_AT, B, M, MU, SECOND, Step, V, X, factors_at};
use super::traces::{Decays, memory};
use crate::optim::sgd::SgdConfig;

/// The pass that updates the traces, computes the base optimizer's direction, and sums the signals.
pub(super) struct Traces<'a>(pub(super) &'a Step<'a>);

impl Traces<'_> {
    /// Whether weight decay is added to the gradient of an SGD base; if it is 0 there is no such operation.
    fn decays(&self, tensor: usize) -> bool {
        let sgd = matches!(&self.0.plan.config.formulation, Formulation::Hybrid(h) if h.base.sgd().is_some());
        sgd && self.0.places[tensor].weight_decay != 0.0
    }
}

impl Formula for Traces<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("traces", u32::from(self.decays(tensor)))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], _: &[N]) -> Pass<N> {
        let (config, place) = (self.0.plan.config, &self.0.places[tensor]);
        let (a, m, v) = Decays::<N>::new(&config.traces).update(g, state[A], state[M], state[V]);
        let q = memory(m, v, N::from_f64(config.signals.eps));
        let mut writes = vec![(A, a), (M, m), (V, v), (X, q)];
        let mut terms = vec![Term::Sum(g.abs()), Term::Sum(a), Term::Sum(q), Term::Square(g)];
        match place.scalars.map(|scalars| scalars.cast::<N>()) {
            Some(BaseScalars::Adamw(k)) => {
                let (b, [mu, second]) = k.direction(g, [state[MU], state[SECOND]]);
                writes.extend([(MU, mu), (SECOND, second), (B, b)]);
                terms.push(Term::Square(b));
            }
            Some(BaseScalars::Sgd { k, weight_decay }) => {
                let g = if self.decays(tensor) { g + weight_decay * theta } else { g };
                let (b, [mu]) = SgdConfig::direction(&k, theta, g, [state[MU]]);
                writes.extend([(MU, mu), (B, b)]);
                terms.push(Term::Square(b));
            }
            Some(BaseScalars::Given) => terms.push(Term::Square(state[B])),
            None => {}
        }
        if self.0.trusts() {
            terms.push(Term::Square(theta));
        }
        Pass::summing(writes.into_iter().map(|(buffer, x)| (Target::State(buffer), x)).collect(), terms)
    }

    #[inline(always)]
    fn block<T: Float>(&self, tensor: usize, mut block: Block<'_, T>, _: &[f64], sums: &mut [f64]) {
        let config = self.0.plan.config;
        let (k, eps) = (Decays::<T>::new(&config.traces), T::from_f64(config.signals.eps));
        let of_traces = kernels::trace(&k, eps, &mut block);
        sums.iter_mut().zip(of_traces).for_each(|(sum, x)| *sum += x);
        if let Some(base) = &self.0.places[tensor].scalars {
            sums[4] += kernels::base_update(&base.cast::<T>(), &mut block);
        }
        if self.0.trusts() {
            sums[5] += square_sum(block.theta);
        }
    }
}

/// The pass that computes the coefficient and the modulation.
pub(super) struct Modulate<'a>(pub(super) &'a Step<'a>);

impl Modulate<'_> {
    #[inline(always)]
    fn of<N: Number>(&self, tensor: usize, numbers: &[N]) -> Modulation<N> {
        let alpha = Alpha::of_numbers(std::array::from_fn(|k| numbers[ALPHA_AT + k]));
        self.0.plan.modulation(&self.0.places[tensor], alpha, numbers[ALPHA_AT + ALPHA])
    }
}

impl Formula for Modulate<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how = self.0.plan.modulation(&self.0.places[tensor], Alpha::one(), 0.0);
        let shape = match how.shape {
            Shape::Direct { weight_decay } => u32::from(weight_decay != 0.0),
            Shape::Residual => 2,
            Shape::Signal => 3,
            Shape::Base { km, .. } => 4 + u32::from(km != 0.0),
        };
        let watched = u32::from(self.0.watch == Watch::Diagnostics) << 3;
        ("modulate", shape | watched | u32::from(how.log_ratio.is_some()) << 4)
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let (how, real) = (self.of(tensor, numbers), N::from_f64);
        let (alpha_g, alpha) = how.alpha.at(g.abs(), state[A], state[X]);
        let delta = (alpha - alpha_g) * g;
        let x = match how.shape {
            Shape::Direct { weight_decay } if weight_decay != 0.0 => alpha * g + real(weight_decay) * theta,
            Shape::Direct { .. } => alpha * g,
            Shape::Residual => (alpha - N::ONE) * g,
            Shape::Signal => finite(delta),
            Shape::Base { kb, km } => {
                let b = kb * state[B];
                let target = if km == 0.0 { b } else { b + real(km) * state[MU] };
                (alpha - N::ONE) * target
            }
        };
        let near = how.near.map(real);
        Pass {
            writes: vec![(Target::State(X), x)],
            terms: vec![Term::Square(x), Term::Dot(x, g)],
            log_ratio: how.log_ratio.map(|eps| [alpha, alpha_g, real(eps)]),
            watched: (self.0.watch == Watch::Diagnostics).then_some([alpha, delta, near[0], near[1]]),
        }
    }

    #[inline(always)]
    fn block<T: Float>(&self, tensor: usize, mut block: Block<'_, T>, numbers: &[f64], sums: &mut [f64]) {
        let how = self.of(tensor, numbers);
        match self.0.watch {
            Watch::Step => kernels::modulate::<T, false>(&how, &mut block, sums),
            Watch::Diagnostics => kernels::modulate::<T, true>(&how, &mut block, sums),
        }
    }
}

/// The pass x ← kg·g + kx·x + kb·b + kθ·θ.
pub(super) struct Combine<'a>(pub(super) &'a Step<'a>, pub(super) Stage);

impl Combine<'_> {
    #[inline(always)]
    fn of<N: Number>(&self, tensor: usize, numbers: &[N]) -> Combination<N> {
        let at = factors_at(self.1);
        self.0.plan.combination(&self.0.places[tensor], self.1, [numbers[at], numbers[at + 1]])
    }
}

impl Formula for Combine<'_> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let how: Combination = self.0.plan.combination(&self.0.places[tensor], self.1, [0.0; 2]);
        let flags = [how.b != 0.0, how.theta != 0.0, how.finite];
        ("combine", (0..).zip(flags).map(|(k, flag)| u32::from(flag) << k).sum())
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let (how, real) = (self.of(tensor, numbers), N::from_f64);
        let mut x = if how.b == 0.0 { how.g * g + how.x * state[X] } else { real(how.b) * state[B] + how.x * state[X] };
        if how.theta != 0.0 {
            x = x + real(how.theta) * theta;
        }
        if how.finite {
            x = finite(x);
        }
        Pass::summing(vec![(Target::State(X), x)], vec![Term::Square(x), Term::Dot(x, g)])
    }

    #[inline(always)]
    fn block<T: Float>(&self, tensor: usize, mut block: Block<'_, T>, numbers: &[f64], sums: &mut [f64]) {
        kernels::combine(&self.of(tensor, numbers), &mut block, sums);
    }
}
