//! Passes with sums as CUDA kernels: what is recorded of one element, in a loop whose sums have the CPU's order of additions.
//!
//! A block of threads does a chunk, a warp of 32 threads a block of 1024 of its elements, a thread the elements of one lane: so every lane is the CPU's
//! (`cpu/sums.rs`). Lanes are added in order, then blocks, then, by [`CHUNKS`](crate::engine::traced::arithmetic::CHUNKS), chunks. Nothing is added atomically, and nothing is contracted.

use np_cuda::table::CHUNK;

use super::Recording;
use super::cuda::Storage;
use super::pass_text::Writer;
use crate::engine::element::BLOCK;

/// Function of every pass: `np_pass(pieces, tensors, arguments, partial)`, a block of [`THREADS`] for each chunk, whose sums go to `partial`.
pub(crate) const PASS: &str = "np_pass";
/// Lanes of a sum, which are the threads of a warp.
pub(super) const LANES: usize = 32;
/// Warps of a block of threads.
pub(super) const WARPS: usize = CHUNK / BLOCK;
/// Threads of a block.
pub(crate) const THREADS: u32 = (WARPS * LANES) as u32;
/// Lanes of the sums of what is watched.
pub(super) const WATCH_LANES: usize = 16;

/// Where a result goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Theta,
    State(usize),
}

/// What is summed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Term<N> {
    /// Σx.
    Sum(N),
    /// Σx².
    Square(N),
    /// Σx y.
    Dot(N, N),
}

/// What a pass does with one element.
#[derive(Debug, Clone)]
pub(crate) struct Pass<N> {
    pub(crate) writes: Vec<(Target, N)>,
    pub(crate) terms: Vec<Term<N>>,
    /// Σ log(max(x, ε)/max(y, ε)) of x, y and ε.
    pub(crate) log_ratio: Option<[N; 3]>,
    /// Statistics of a value, and Σ of another's square, with the bounds up to, and from, which the value is counted: value, other, bounds.
    pub(crate) watched: Option<[N; 4]>,
}

/// Numbers that what is watched gives: Σδ², Σα, Σα², least, most, and how often α is near a bound.
pub(crate) const WATCHED: usize = 7;

/// Σα and Σα² of `count` values, from the sums of how far they are from `pivot`, one of them, and of the squares of that: a constant α has deviation 0, not what
/// rounding makes of it.
pub(crate) fn about(count: f64, pivot: f64, [off, off2]: [f64; 2]) -> [f64; 2] {
    [count * pivot + off, count * pivot * pivot + 2.0 * pivot * off + off2]
}

impl<N: Clone> Pass<N> {
    /// One that writes, and sums `terms`.
    pub(crate) fn summing(writes: Vec<(Target, N)>, terms: Vec<Term<N>>) -> Self {
        Self { writes, terms, log_ratio: None, watched: None }
    }

    /// One that only writes.
    pub(crate) fn writing(writes: Vec<(Target, N)>) -> Self {
        Self::summing(writes, vec![])
    }

    /// All results, in one order.
    pub(crate) fn results(&self) -> Vec<N> {
        let mut all: Vec<N> = self.writes.iter().map(|(_, x)| x.clone()).collect();
        for term in &self.terms {
            match term {
                Term::Sum(x) | Term::Square(x) => all.push(x.clone()),
                Term::Dot(x, y) => all.extend([x.clone(), y.clone()]),
            }
        }
        all.extend(self.log_ratio.iter().flatten().cloned());
        all.extend(self.watched.iter().flatten().cloned());
        all
    }

    /// What is written to a buffer, if anything is.
    pub(crate) fn written(&self, buffer: usize) -> Option<N> {
        self.writes.iter().find(|(target, _)| *target == Target::State(buffer)).map(|(_, x)| x.clone())
    }

    /// The same of these results.
    pub(crate) fn of<M: Clone>(&self, results: &[M]) -> Option<Pass<M>> {
        let mut results = results.iter().cloned();
        let mut writes = Vec::new();
        for (target, _) in &self.writes {
            writes.push((*target, results.next()?));
        }
        let mut terms = Vec::new();
        for term in &self.terms {
            terms.push(match term {
                Term::Sum(_) => Term::Sum(results.next()?),
                Term::Square(_) => Term::Square(results.next()?),
                Term::Dot(..) => Term::Dot(results.next()?, results.next()?),
            });
        }
        let log_ratio = match &self.log_ratio {
            Some(_) => Some([results.next()?, results.next()?, results.next()?]),
            None => None,
        };
        let watched = match &self.watched {
            Some(_) => Some([results.next()?, results.next()?, results.next()?, results.next()?]),
            None => None,
        };
        Some(Pass { writes, terms, log_ratio, watched })
    }

    /// How many numbers it gives: a sum for each term, then [`Pass::log_ratio`], then [`WATCHED`].
    pub(crate) fn outputs(&self) -> usize {
        self.terms.len() + usize::from(self.log_ratio.is_some()) + if self.watched.is_some() { WATCHED } else { 0 }
    }

    /// Which of its numbers is the least of all, if one is; the next is the most.
    pub(crate) fn least(&self) -> Option<usize> {
        self.watched.as_ref().map(|_| self.outputs() - WATCHED + 3)
    }

    /// The kernel that does `recording`, whose results are this pass's.
    pub(crate) fn kernel(&self, recording: &Recording, storage: Storage) -> String {
        let mut text = String::new();
        if let Some(places) = self.of(&recording.results) {
            // Writing to a string does not fail.
            let _ = Writer { pass: &places, recording, storage, least: self.least() }.write(&mut text);
        }
        text
    }
}
