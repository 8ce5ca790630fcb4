//! Passes with sums as CUDA kernels: the recorded formula of one element, in a loop whose sums have the CPU's order of additions.
//!
//! A block of threads processes a chunk; a warp of 32 threads, a block of 1024 of its elements; a thread, the elements of one lane. So the lanes are those of
//! loops on the CPU that keep to [`LANES`], as np-engine's do. Lanes are added in order, then blocks, then, by [`rows`](crate::arithmetic::rows), chunks. There are no atomic
//! additions and no fused multiply-adds.

use np_cuda::table::CHUNK;

use super::Recording;
use super::cuda::Storage;
use super::pass_text::Writer;

/// Name of the kernel of every pass: `np_pass(pieces, tensors, arguments, partial)`, with a block of [`THREADS`] threads for each chunk. A chunk's sums go to `partial`.
pub const PASS: &str = "np_pass";
/// Elements of a block, whose sums are computed together: by a warp, or by a CPU, in whose first-level cache a block fits with its state.
pub const BLOCK: usize = 1024;
/// Lanes of a sum: one for each thread of a warp.
pub const LANES: usize = 32;
/// Warps of a block of threads.
pub(super) const WARPS: usize = CHUNK / BLOCK;
/// Threads of a block.
pub const THREADS: u32 = (WARPS * LANES) as u32;
/// Lanes of the sums of [`Pass::watched`].
pub const WATCH_LANES: usize = 16;

/// What a pass writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// θ.
    Theta,
    /// The buffer of this index.
    State(usize),
}

/// A sum over the elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Term<N> {
    /// Σx.
    Sum(N),
    /// Σx².
    Square(N),
    /// Σx·y.
    Dot(N, N),
}

/// What a pass does with one element.
#[derive(Debug, Clone)]
pub struct Pass<N> {
    /// What is written to where.
    pub writes: Vec<(Target, N)>,
    /// The sums.
    pub terms: Vec<Term<N>>,
    /// `[x, y, ε]`: a sum of log(max(x, ε)/max(y, ε)).
    pub log_ratio: Option<[N; 3]>,
    /// `[x, y, low, high]`: Σy² and statistics of x: Σx, Σx², the least and the greatest, and how many are ≤ low and ≥ high.
    pub watched: Option<[N; 4]>,
}

/// The number of outputs of [`Pass::watched`], which are in the order in which it names them.
pub const WATCHED: usize = 7;

/// Σx and Σx² of `count` values, from Σ(x − p) and Σ(x − p)², where `pivot` p is one of the values. So a constant x has deviation 0, without rounding errors.
#[inline(always)]
#[must_use]
pub fn about(count: f64, pivot: f64, [off, off2]: [f64; 2]) -> [f64; 2] {
    [count * pivot + off, count * pivot * pivot + 2.0 * pivot * off + off2]
}

impl<N: Clone> Pass<N> {
    /// A pass that writes, and sums `terms`.
    #[must_use]
    pub fn summing(writes: Vec<(Target, N)>, terms: Vec<Term<N>>) -> Self {
        Self { writes, terms, log_ratio: None, watched: None }
    }

    /// A pass that only writes.
    #[must_use]
    pub fn writing(writes: Vec<(Target, N)>) -> Self {
        Self::summing(writes, vec![])
    }

    /// All results, in the order that [`Pass::of`] expects.
    #[must_use]
    pub fn results(&self) -> Vec<N> {
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

    /// What is written to state `buffer`, if anything is.
    #[must_use]
    pub fn written(&self, buffer: usize) -> Option<N> {
        self.writes.iter().find(|(target, _)| *target == Target::State(buffer)).map(|(_, x)| x.clone())
    }

    /// The same pass with other `results` in place of its own; `None` if there are too few.
    #[must_use]
    pub fn of<M: Clone>(&self, results: &[M]) -> Option<Pass<M>> {
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

    /// The number of outputs: a sum for each term, one for [`Pass::log_ratio`], and [`WATCHED`] for [`Pass::watched`], in this order.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.terms.len() + usize::from(self.log_ratio.is_some()) + if self.watched.is_some() { WATCHED } else { 0 }
    }

    /// The index of the output that is a minimum, if there is one; the next is a maximum.
    #[must_use]
    pub fn least(&self) -> Option<usize> {
        self.watched.as_ref().map(|_| self.outputs() - WATCHED + 3)
    }

    /// Source text of the kernel for `recording`, whose results are those of this pass; `None` if it has too few. States of the recording before [`BUFFERS`](np_cuda::table::BUFFERS) are
    /// buffers of a tensor, those from there on numbers of its row.
    #[must_use]
    pub fn kernel(&self, recording: &Recording, storage: Storage) -> Option<String> {
        let mut text = String::new();
        let places = self.of(&recording.results)?;
        // Writing to a string does not fail.
        let _ = Writer { pass: &places, recording, storage, least: self.least() }.write(&mut text);
        Some(text)
    }
}
