//! Steps of optimizers whose elements are coupled through sums (norms, means): passes over the elements of all tensors, with scalar arithmetic on
//! their sums in between.
//!
//! Every tensor has a **row** of numbers in double precision, and one more row is shared by all. A pass writes its sums into columns of its tensor's row;
//! arithmetic computes further columns; totals add columns up over all tensors; and later passes read the numbers of their row. An optimizer describes this
//! sequence once, as a [`Step`]. It runs on the CPU, block by block; by tensor operations; or as kernel launches on a CUDA device, for which the host does not
//! wait.
//!
//! A step ends in θ ← keep·θ − factor·u. Arithmetic writes keep and factor to two neighbouring columns. A pass writes the direction u to the first *scratch*, a
//! tensor of the parameter's shape that is not saved. The *states* of a formula are the parameter's buffers, then its scratch. A `tensor` is an index into the
//! `work` that the step was made for.
//!
//! To use a step, implement [`Rule`](crate::Rule) with [`memory::Memory`] as its `Memory`. Let `directions` call [`take`] or [`take_each`] with
//! `Outcome::Direction`, and `step` the same with `Outcome::Step`. `tests/own_optimizers.rs` of this crate has an example.

mod derived;
pub(crate) mod host;
mod in_place;
#[doc(hidden)]
pub mod launched;
pub mod memory;
mod on_tensors;
mod queue;
mod rows;

#[doc(inline)]
pub use np_cuda::table::BUFFERS;
#[doc(inline)]
pub use np_trace::pass::{Pass, Target, Term};
use np_trace::{Float, Number, Outcome};

use crate::apply::Apply;
use crate::error::{Result, contract};
use crate::gradients::Squares;
use crate::param_state::ParamState;
use crate::param_step::{ParamStep, for_each};
use crate::rule::StepContext;
use host::Host;
use memory::{Memory, launches};

/// An optimizer's step over a set of tensors, described as passes and arithmetic; holds what is known before the first pass.
pub trait Step: Sync {
    /// The number of columns of a row: room for keep and factor, for three columns a norm, and for every sum and number that is written.
    const COLUMNS: usize;

    /// For each state of the formulas, the index of that buffer or scratch among the parameter's; `None` where the parameter has none. By default, in order.
    /// That of u must be the first scratch, after the buffers. A state of another shape than the parameter's is empty in the formulas.
    fn places(&self, _param: &ParamState) -> [Option<usize>; BUFFERS] {
        std::array::from_fn(Some)
    }

    /// Calls the passes and the arithmetic of `chain`, one after the other.
    ///
    /// # Errors
    /// Those of the chain.
    fn run(&self, chain: &mut impl Chain) -> Result<()>;
}

/// Computes or records the parts of a step.
pub trait Chain {
    /// The number of columns of a norm, for [`norms`].
    fn norm_columns(&self) -> usize;

    /// Runs a pass; writes its norms, then its sums, to the columns from `column` on. It may have 12 norms and sums in all.
    ///
    /// # Errors
    /// [`crate::Error::Rule`] for more, or for columns beyond [`Step::COLUMNS`]; those of candle and of a device.
    fn pass(&mut self, formula: &impl Formula, column: usize) -> Result<()>;

    /// Runs arithmetic for every tensor, including empty ones; writes to columns of its row.
    ///
    /// # Errors
    /// As [`Chain::pass`].
    fn arithmetic(&mut self, arithmetic: &impl Arithmetic) -> Result<()>;

    /// Runs arithmetic once, on the shared row; writes to the numbers that are kept between steps, whose count
    /// [`Memory::keep_first`](memory::Memory::keep_first) sets.
    ///
    /// # Errors
    /// As [`Chain::pass`], and for an index beyond the kept numbers.
    fn keep(&mut self, arithmetic: &impl Arithmetic) -> Result<()>;

    /// Adds columns up over all tensors, in the tensors' order.
    ///
    /// # Errors
    /// [`crate::Error::Rule`] for a column beyond [`Step::COLUMNS`], or more totals than kept numbers.
    fn totals(&mut self, entries: impl IntoIterator<Item = (usize, Total)>, to: To) -> Result<()>;

    /// Runs the last pass, which makes u and sums nothing, for all tensors; then, unless only directions are wanted, θ ← keep·θ − factor·u. keep and factor are in
    /// columns `at` and `at` + 1. Directions are in state `u`; after a step, it may hold anything. Returns whether column `squares` now has Σθ², of θ before the update.
    ///
    /// # Errors
    /// As [`Chain::pass`], and on the CPU if u is not the first scratch.
    fn finish(&mut self, formula: &impl Formula, u: usize, at: usize, squares: Option<usize>) -> Result<bool>;
}

/// What a norm is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The parameter.
    Theta,
    /// The gradient, accumulated and clipped.
    Gradient,
    /// The state of this index, after the pass.
    State(usize),
}

/// A pass's formula, written twice: for one element, which is recorded for other devices, and for a block of elements, which the CPU runs.
pub trait Formula: Sync {
    /// Whether it neither writes nor sums anything.
    const IDLE: bool = false;

    /// The formula's name, and a number below 2³⁰ that tells apart the forms that it has for different tensors. Tensors with the same name, form and element
    /// type are computed by the same operations, so one kernel serves them. So a name must be that of one formula in a step, and must not be `given`, `found` or
    /// `scaled`; and the form must differ wherever the operations do.
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// Whether the pass includes a tensor.
    fn takes(&self, _tensor: usize) -> bool {
        true
    }

    /// What the pass takes norms of. Their columns come before those of its sums.
    fn norms(&self) -> &'static [Of] {
        &[]
    }

    /// The formula for one element; `numbers` is the tensor's row.
    fn pass<N: Number>(&self, tensor: usize, theta: N, g: N, state: [N; BUFFERS], numbers: &[N]) -> Pass<N>;

    /// The same formula for a block: the operations of [`Formula::pass`], in the same order. Adds to `sums` first Σx² of each norm, by
    /// [`square_sum`](crate::cpu::sums::square_sum), then the sums of the pass, by the functions of [`cpu::sums`](crate::cpu::sums), which add in the order of the
    /// kernels, so that all devices give the same bits. Mark it `#[inline(always)]`: it becomes the body of vectorised loops.
    fn block<T: Float>(&self, tensor: usize, block: Block<'_, T>, numbers: &[f64], sums: &mut [f64]);
}

/// A block of elements in the CPU's memory, converted to the type of the computation.
#[non_exhaustive]
pub struct Block<'a, T> {
    /// The parameter.
    pub theta: &'a [T],
    /// The gradient, accumulated and clipped.
    pub g: &'a [T],
    /// A state that the parameter does not have is empty.
    pub state: [&'a mut [T]; BUFFERS],
    /// Working memory, as long as the longest block.
    pub spare: [&'a mut [T]; 3],
}

/// Scalar arithmetic between passes.
pub trait Arithmetic {
    /// As [`Formula::form`].
    fn form(&self, tensor: usize) -> (&'static str, u32);

    /// The results, each with the index it is written to: a column, or for [`Chain::keep`] a kept number.
    fn of<N: Number>(&self, tensor: usize, numbers: Numbers<'_, N>) -> Vec<(usize, N)>;
}

/// What arithmetic reads.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Numbers<'a, N> {
    /// The tensor's row.
    pub own: &'a [N],
    /// The shared row.
    pub shared: &'a [N],
    /// The numbers that are kept between steps.
    pub kept: &'a [N],
}

/// How a total combines numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// Their sum.
    Sum,
    /// The least of them.
    Least,
    /// The greatest of them.
    Most,
}

impl Total {
    /// The total of no numbers: 0, ∞ or −∞.
    pub fn nothing<N: Number>(self) -> N {
        match self {
            Self::Sum => N::ZERO,
            Self::Least => N::ONE / N::ZERO,
            Self::Most => -(N::ONE / N::ZERO),
        }
    }

    /// `total`, and `x` with it.
    #[inline(always)]
    pub fn add(self, total: f64, x: f64) -> f64 {
        match self {
            Self::Sum => total + x,
            Self::Least => total.min(x),
            Self::Most => total.max(x),
        }
    }
}

/// Where totals go.
#[derive(Debug, Clone, Copy)]
pub enum To {
    /// To the columns of the shared row from this one on, in place of what they hold.
    Shared(usize),
    /// To the numbers that are kept between steps, combined with what they hold.
    Kept,
}

/// The last formula of a step in which an earlier pass has already written u.
pub struct Given;

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

/// A norm from its columns: Σx², and, if there are three, Σ(s·x)² for a small and a large scale s, which serve if Σx² overflows or is 0.
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

/// `Ok` if of `count` columns or kept numbers there are the first `needed`, which `name` writes to.
fn within(needed: usize, count: usize, name: impl FnOnce() -> &'static str) -> Result<()> {
    if needed <= count {
        return Ok(());
    }
    let say = || (format!("columns or kept numbers within the {count} of the step"), needed.to_string());
    contract(false, name(), say)
}

/// `Ok` if the place of u is the first scratch, from where it is applied.
fn first_scratch(name: &str, u: Option<usize>, param: &ParamState) -> Result<()> {
    let first = param.buffers.len();
    contract(u == Some(first), name, || {
        (format!("u in the first scratch, place {first}, of `{}`", param.name), format!("{u:?}"))
    })
}

/// The first `K` norms in `columns`, each of which has `each` columns.
pub fn norms<N: Number, const K: usize>(columns: &[N], each: usize) -> [N; K] {
    std::array::from_fn(|k| norm(&columns[k * each..(k + 1) * each]))
}

/// Makes a step of all of `work`; or, as `outcome` says, computes the directions only and returns how to apply them.
///
/// # Errors
/// Those of candle and of a device.
pub fn take(
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

/// [`take`] for optimizers in which no parameter's step depends on another's: on the CPU each parameter goes through all passes before the next, while it is
/// in the caches. Such a step has no kept numbers and no totals. `step` is called with the tensors that it is for, on the CPU one at a time.
///
/// # Errors
/// Those of [`take`].
pub fn take_each<S: Step>(
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
