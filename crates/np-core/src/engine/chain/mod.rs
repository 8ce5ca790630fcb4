//! Steps of optimizers whose elements are coupled through sums (norms, means): passes over the elements of all tensors, with scalar arithmetic on
//! their sums in between.
//!
//! Every tensor has a **row** of numbers in double precision, and one more row is shared by all. A pass writes its sums into columns of its tensor's row;
//! arithmetic computes further columns; totals add columns up over all tensors; and later passes read the numbers of their row. An optimizer describes this
//! once, as a [`Step`]. It runs on the host, on slices or by tensor operations ([`host`]), or as kernel launches on a device without waiting (`launched`).

#[cfg(any(test, feature = "cuda"))]
mod derived;
pub(crate) mod host;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod launched;
pub(crate) mod memory;
mod on_tensors;
#[cfg(any(test, feature = "cuda"))]
mod queue;

use np_cuda::table::BUFFERS;

use crate::engine::apply::Apply;
use crate::engine::gradients::Squares;
use crate::engine::number::{Float, Number};
use crate::engine::param_state::ParamState;
use crate::engine::param_step::{ParamStep, for_each};
use crate::engine::rule::StepContext;
use crate::engine::traced::Outcome;
use crate::engine::traced::pass::Pass;
use crate::error::Result;
use host::Host;
use memory::{Memory, launches};

/// A step of these tensors: what is known of it before the first pass.
pub(crate) trait Step: Sync {
    /// Columns of a row.
    const COLUMNS: usize;

    /// Which of a parameter's buffers and scratch the state of the formulas is: those in their order, where not said.
    fn places(&self, _param: &ParamState) -> [Option<usize>; BUFFERS] {
        std::array::from_fn(Some)
    }

    /// Passes and arithmetic, one after the other.
    ///
    /// # Errors
    /// Those of the chain.
    fn run(&self, chain: &mut impl Chain) -> Result<()>;
}

/// What computes a step.
pub(crate) trait Chain {
    /// How many columns a norm takes, for [`norms`].
    fn norm_columns(&self) -> usize;

    /// A pass; its norms and sums go to the columns from `column` on.
    fn pass(&mut self, formula: &impl Formula, column: usize) -> Result<()>;

    /// Arithmetic of every tensor, of those that are empty too: to columns of its row.
    fn arithmetic(&mut self, arithmetic: &impl Arithmetic) -> Result<()>;

    /// Arithmetic of the row that belongs to no tensor: to what is kept from step to step.
    fn keep(&mut self, arithmetic: &impl Arithmetic) -> Result<()>;

    /// Totals of columns over all tensors, in their order.
    fn totals(&mut self, entries: impl IntoIterator<Item = (usize, Total)>, to: To);

    /// θ ← keep·θ − factor·u, where that is wanted, with u as the formula leaves it in state `u`, and keep and factor in the two columns from `at` on. Says whether Σθ², of θ
    /// as it was, is in the column for it.
    fn finish(&mut self, formula: &impl Formula, u: usize, at: usize, squares: Option<usize>) -> Result<bool>;
}

/// What a norm is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Theta,
    Gradient,
    /// This state, as the pass leaves it.
    State(usize),
}

/// A pass's formula, written twice: of an element, to be recorded, and of a block, for the CPU.
pub(crate) trait Formula: Sync {
    /// Whether it neither writes nor sums anything.
    const IDLE: bool = false;

    /// Its name; and, of a tensor, in which of its forms it is done. Two tensors of the same name, form and type are done by the same operations.
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// Whether the pass goes over a tensor.
    fn takes(&self, _tensor: usize) -> bool {
        true
    }

    /// What has its norm taken. Norms come before the sums of the pass.
    fn norms(&self) -> &'static [Of] {
        &[]
    }

    /// What is done with an element of a tensor whose row has these numbers.
    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N>;

    /// The same on a block; adds to `sums`, which has the squares of each norm, then what the pass gives. Mark it `#[inline(always)]`: it becomes the body of vectorised loops.
    fn block<T: Float>(&self, tensor: usize, block: Block<'_, T>, numbers: &[f64], sums: &mut [f64]);
}

/// A block of elements in the CPU's memory, in the type that is computed in.
pub(crate) struct Block<'a, T> {
    pub(crate) theta: &'a [T],
    /// The gradient, accumulated and clipped.
    pub(crate) g: &'a [T],
    /// What there is none of is empty.
    pub(crate) state: [&'a mut [T]; BUFFERS],
    /// Memory to work in, as long as the longest block.
    pub(crate) spare: [&'a mut [T]; 3],
}

/// Scalar arithmetic between passes.
pub(crate) trait Arithmetic {
    /// As [`Formula::form`].
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// What is made of a tensor's numbers, and where each result goes.
    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)>;
}

/// What arithmetic reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers<'a, N> {
    /// The tensor's row.
    pub(crate) own: &'a [N],
    /// The row that belongs to no tensor.
    pub(crate) shared: &'a [N],
    /// What is kept from step to step.
    pub(crate) kept: &'a [N],
}

/// What a total is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    Sum,
    Least,
    Most,
}

impl Total {
    /// The total of nothing.
    pub(crate) fn nothing<N: Number>(self) -> N {
        match self {
            Self::Sum => N::ZERO,
            Self::Least => N::ONE / N::ZERO,
            Self::Most => -(N::ONE / N::ZERO),
        }
    }

    #[inline(always)]
    pub(crate) fn add(self, total: f64, x: f64) -> f64 {
        match self {
            Self::Sum => total + x,
            Self::Least => total.min(x),
            Self::Most => total.max(x),
        }
    }
}

/// Where totals go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    /// To the columns from this on of the row that belongs to no tensor.
    Shared(usize),
    /// On top of what is kept from step to step.
    Kept,
}

/// What u is where a pass before has left it.
pub(crate) struct Given;

impl Formula for Given {
    const IDLE: bool = true;

    fn form(&self, _: usize) -> (&'static str, u32) {
        ("given", 0)
    }

    fn pass<N: Number>(&self, _: usize, _: N, _: N, _: [N; BUFFERS], _: &[N]) -> Pass<N> {
        Pass::writing(vec![])
    }

    #[inline(always)]
    fn block<T: Float>(&self, _: usize, _: Block<'_, T>, _: &[f64], _: &mut [f64]) {}
}

/// A norm from its columns: Σx², and, where it has three, Σ(s x)² with scales that keep squares in double precision's range.
fn norm<N: Number>(sums: &[N]) -> N {
    let [plain, smaller, larger] = match *sums {
        [plain, smaller, larger] => [plain, smaller, larger],
        [plain, ..] => return plain.sqrt(),
        [] => return N::ZERO,
    };
    let (small, large) = (N::from_f64(Squares::SMALLER), N::from_f64(Squares::LARGER));
    let near = plain.if_zero(larger.sqrt() / large, plain.sqrt());
    N::select_lt(N::MAX, plain, smaller.sqrt() / small, near)
}

/// The norms in a row's columns from the first on, each of which takes so many.
pub(crate) fn norms<N: Number, const K: usize>(columns: &[N], each: usize) -> [N; K] {
    std::array::from_fn(|k| norm(&columns[k * each..(k + 1) * each]))
}

/// A step of all of `work`, or its directions alone, with what is to be done with them.
///
/// # Errors
/// Those of candle and of a device.
pub(crate) fn take(
    step: &impl Step,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
    outcome: Outcome,
) -> Result<Vec<Apply>> {
    if let Some(applies) = memory.launch(step, cx, work, outcome)? {
        return Ok(applies);
    }
    Host::new(step, work, memory.on_host()?, outcome).take(step)
}

/// The same, where no parameter's step depends on the others: on the CPU each goes through all passes by itself, while it is in the caches.
///
/// # Errors
/// Those of [`take`].
pub(crate) fn take_each<S: Step>(
    step: impl Fn(&[ParamStep<'_>]) -> S + Sync,
    cx: &StepContext,
    work: &mut [ParamStep<'_>],
    memory: &mut Memory,
    outcome: Outcome,
) -> Result<Vec<Apply>> {
    if launches(cx.backend, work)
        && let Some(applies) = memory.launch(&step(work), cx, work, outcome)?
    {
        return Ok(applies);
    }
    let each = for_each(work, |w| {
        let w = std::slice::from_mut(w);
        let step = step(w);
        Host::new(&step, w, &mut [], outcome).take(&step)
    })?;
    Ok(each.concat())
}
