//! Prodigy's step as launches: the same formulas, recorded. Its estimate stays on the device.

use np_cuda::machine::Machine;
use np_cuda::table::BUFFERS;

use super::{End, Moments, Number, ParamStep, ProdigyConfig, Result, Shared, Weights, direction};
use crate::engine::scalar_stage::Stage;
use crate::engine::summed::Formula;
use crate::engine::summed::coupled::{Run, Sums};
use crate::engine::traced::pass::{Pass, Target, Term};

impl Formula for Vec<Moments> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        ("prodigy", u32::from(self[tensor].first))
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS]) -> Pass<N> {
        let [m, v, s, mut start, ..] = state;
        let moments = &self[tensor];
        let k = moments.scalars::<N>();
        let mut writes = vec![];
        if moments.first {
            start = theta;
            writes.push((Target::State(3), start));
        }
        let [m, v, s, dot] = k.of(theta, g, [m, v, s, start]);
        writes.extend([m, v, s].into_iter().enumerate().map(|(buffer, x)| (Target::State(buffer), x)));
        Pass::summing(writes, vec![Term::Sum(dot), Term::Sum(s.abs())])
    }
}

/// θ ← keep·θ − factor·m/(√v + d⁺ ε); d⁺ ε, keep and factor come first.
struct Finish;

impl Formula for Finish {
    fn form(&self, _: usize) -> (&'static str, u32) {
        ("prodigy_finish", 0)
    }

    fn pass<N: Number>(&self, _: usize, theta: N, _: N, state: [N; BUFFERS]) -> Pass<N> {
        let [eps, keep, factor] = [f64::NAN; 3].map(N::from_f64);
        let u = direction(state[0], state[1], eps);
        Pass::writing(vec![(Target::Theta, keep * theta - factor * u)])
    }
}

/// d and what g is multiplied with in s, before the moments move.
struct Before<'a>(&'a ProdigyConfig, f64);

impl Stage for Before<'_> {
    fn form(&self) -> (&'static str, u32) {
        ("prodigy_before", 0)
    }

    fn given<N: Number>(&self, _: usize, _: &[N], shared: &[N]) -> Vec<N> {
        let Some(shared) = shared.first_chunk().map(|numbers| Shared::of(*numbers)) else { return vec![] };
        vec![shared.d, self.0.weights(shared, self.1).of_s]
    }
}

/// The estimate after it, and how each parameter's step ends.
struct After<'a>(&'a ProdigyConfig, f64, Vec<End>);

impl After<'_> {
    fn next<N: Number>(&self, sums: &[N], shared: &[N]) -> Option<(Shared<N>, Shared<N>, N)> {
        let (sums, shared) = (*sums.first_chunk::<2>()?, Shared::of(*shared.first_chunk()?));
        Some((shared, self.0.next(shared, sums, self.1), sums[1]))
    }
}

impl Stage for After<'_> {
    fn form(&self) -> (&'static str, u32) {
        ("prodigy_after", u32::from(self.1 > 0.0))
    }

    fn given<N: Number>(&self, tensor: usize, sums: &[N], shared: &[N]) -> Vec<N> {
        let Some((before, next, lengths)) = self.next(sums, shared) else { return vec![] };
        let Weights { bias, .. } = self.0.weights(before, self.1);
        let [keep, factor] = self.2[tensor].apply(before.d, bias, lengths);
        vec![next.d * N::from_f64(self.0.eps), keep, factor]
    }

    fn shared<N: Number>(&self, _: usize, sums: &[N], shared: &[N]) -> Vec<N> {
        self.next(sums, shared).map_or(vec![], |(_, next, _)| next.numbers().to_vec())
    }
}

impl ProdigyConfig {
    /// `shared` is what the estimate is, where the machine does not have it yet.
    pub(in crate::optim) fn launch(
        &self,
        work: &[ParamStep<'_>],
        shared: [f64; 4],
        mut run: Run<'_, impl Machine>,
    ) -> Result<()> {
        run.share(&shared)?;
        let lr = Self::largest_lr(work);
        let moments: Vec<Moments> = work.iter().map(|w| self.moments(w, [f64::NAN; 2])).collect();
        let after = After(self, lr, work.iter().map(|w| self.end(w)).collect());
        let (moments, finish) = (run.pass(&moments, |_| true), run.pass(&Finish, |_| true));
        let before = run.stage(&Before(self, lr), Sums::Nothing, moments);
        let after = run.stage(&after, Sums::Total(moments), finish);
        run.upload(work.first().and_then(|w| w.map.norm), moments)?;
        run.scalars(before)?;
        run.launch(moments)?;
        run.scalars(after)?;
        run.launch(finish)
    }
}
