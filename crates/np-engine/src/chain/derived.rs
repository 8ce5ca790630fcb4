//! Formulas that launches derive from others: a pass with the sums of its norms, and a pass that updates θ instead of writing a direction.

use np_cuda::table::BUFFERS;
use np_trace::cuda::Storage;
use np_trace::pass::{Pass, Target, Term};
use np_trace::{Float, Number};

use super::{Block, Formula, Of};
use crate::gradients::Squares;
use crate::places::Place;

/// The formula's pass, with the sums of its norms before its own. If any tensor of the step is in double precision (`wide`), each norm has two more sums, of numbers
/// multiplied by powers of two.
pub(super) fn with_norms<N: Number>(
    formula: &impl Formula,
    (tensor, place, wide): (usize, &Place, bool),
    theta: N,
    g: N,
    state: [N; BUFFERS],
    numbers: &[N],
) -> Pass<N> {
    let mut pass = formula.pass(tensor, theta, g, state, numbers);
    let mut terms = vec![];
    for of in formula.norms() {
        let x = match of {
            Of::Theta => theta,
            Of::Gradient => g,
            Of::State(k) => pass.written(*k).unwrap_or(state[*k]),
        };
        terms.push(Term::Square(x));
        if wide {
            let scales = if place.storage == Storage::F64 { [Squares::SMALLER, Squares::LARGER] } else { [1.0; 2] };
            terms.extend(scales.map(|scale| Term::Square(N::from_f64(scale) * x)));
        }
    }
    pass.terms.splice(0..0, terms);
    pass
}

/// `formula`, but with θ ← keep·θ − factor·u instead of writing u.
pub(super) struct Finish<'a, F> {
    pub(super) formula: &'a F,
    pub(super) u: usize,
    pub(super) at: usize,
    pub(super) squares: bool,
}

impl<F: Formula> Formula for Finish<'_, F> {
    fn form(&self, tensor: usize) -> (&'static str, u32) {
        let (name, form) = self.formula.form(tensor);
        (name, form | 1 << 31 | u32::from(self.squares) << 30)
    }

    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N> {
        let mut pass = self.formula.pass(tensor, theta, g, state, numbers);
        let u = pass.written(self.u).unwrap_or(state[self.u]);
        pass.writes.retain(|(target, _)| *target != Target::State(self.u));
        pass.writes.push((Target::Theta, numbers[self.at] * theta - numbers[self.at + 1] * u));
        pass.terms.extend(self.squares.then_some(Term::Square(theta)));
        pass
    }

    /// Never called: the CPU has loops of its own for the update (`host.rs`, `in_place.rs`).
    fn block<T: Float>(&self, _: usize, _: Block<'_, T>, _: &[f64], _: &mut [f64]) {}
}
