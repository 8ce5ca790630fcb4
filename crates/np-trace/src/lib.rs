//! Formulas that are written once, and computed in three ways: by a loop on the host, by tensor operations, and by CUDA kernels.
//!
//! A formula is generic over its [`Number`]. Called with `f32` or `f64`, it computes. Called with [symbols](symbol), it is recorded as
//! an [`Expression`]: every operation once, in the order of the source. Numbers that it makes from `f64` values (β, ε, bias corrections, η) become
//! **arguments** of the expression, so that one expression serves all steps. An expression is evaluated as operations on [tensors], element by element on
//! the [host](interpret) (as a check), or as a generated [CUDA kernel](cuda):
//!
//! ```
//! use np_trace::cuda::Storage;
//! use np_trace::symbol::record;
//! use np_trace::{Number, Outcome};
//!
//! /// v ← β v + g, θ ← θ − η v
//! fn momentum<N: Number>([beta, lr]: [f64; 2], theta: N, g: N, v: N) -> (N, N) {
//!     let v = N::from_f64(beta) * v + g;
//!     (theta - N::from_f64(lr) * v, v)
//! }
//!
//! let traced = record(1, Outcome::Step, |theta, g, state| {
//!     let (theta, v) = momentum([0.9, 0.1], theta, g, state[0]);
//!     (theta, vec![v])
//! });
//! assert_eq!(traced.arguments, [0.9, 0.1]);
//!
//! // On the host, the expression gives the same bits as the formula.
//! let (mut theta, mut v) = ([1f32, 2.0], [0f32, 0.5]);
//! traced.program().run(&mut theta, &[0.5, -1.0], &mut [&mut v], &mut []);
//! assert_eq!((theta[1], v[1]), momentum([0.9, 0.1], 2.0, -1.0, 0.5));
//!
//! // For a CUDA device, it is the source text of a kernel.
//! println!("{}", traced.expression.kernel(Storage::F32));
//! ```
//!
//! For a later step, run the formula with [`listed::list`]: it gives the new arguments in the same order, and records nothing else.
//!
//! A [pass](mod@pass) computes one element, and sums over all elements of a tensor. [arithmetic] computes numbers of a tensor from these sums, between passes.
//!
//! This crate has no formula of its own, and launches nothing. Compile the text with NVRTC and launch its function ([`cuda::NAME`] for an expression) over the tables of
//! [`np_cuda::table`]; a tensor has at most [`np_cuda::table::BUFFERS`] buffers. np-engine does that for optimizers.

pub mod arithmetic;
pub mod cuda;
pub mod interpret;
pub mod listed;
mod number;
pub mod pass;
mod pass_text;
pub mod symbol;
pub mod tensor_ops;
pub mod tensors;

pub use number::{Float, Number};

/// What the main result of an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The new parameter.
    Step,
    /// The direction of the update, which the caller applies.
    Direction,
}

/// An operation. Its operands are indices of earlier nodes of the expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// θ.
    Theta,
    /// The gradient.
    Gradient,
    /// The buffer of this index.
    State(usize),
    /// The argument of this index.
    Argument(usize),
    /// A constant of the formula, as the bits of an `f64`.
    Constant(u64),
    /// The largest finite number of the type of the computation.
    Largest,
    /// −a.
    Negate(usize),
    /// |a|.
    Abs(usize),
    /// √a.
    Sqrt(usize),
    /// a + b.
    Add(usize, usize),
    /// a − b.
    Subtract(usize, usize),
    /// a · b.
    Multiply(usize, usize),
    /// a / b.
    Divide(usize, usize),
    /// The third operand where the first is less than the second, else the fourth.
    SelectLt([usize; 4]),
}

impl Node {
    /// The same operation, with each operand replaced by `f` of it.
    fn map(self, mut f: impl FnMut(usize) -> usize) -> Self {
        match self {
            Self::Theta | Self::Gradient | Self::State(_) => self,
            Self::Argument(_) | Self::Constant(_) | Self::Largest => self,
            Self::Negate(a) => Self::Negate(f(a)),
            Self::Abs(a) => Self::Abs(f(a)),
            Self::Sqrt(a) => Self::Sqrt(f(a)),
            Self::Add(a, b) => Self::Add(f(a), f(b)),
            Self::Subtract(a, b) => Self::Subtract(f(a), f(b)),
            Self::Multiply(a, b) => Self::Multiply(f(a), f(b)),
            Self::Divide(a, b) => Self::Divide(f(a), f(b)),
            Self::SelectLt(all) => Self::SelectLt(all.map(f)),
        }
    }

    fn each_operand(self, mut f: impl FnMut(usize)) {
        self.map(|operand| {
            f(operand);
            operand
        });
    }
}

/// The operations of a step on one element: on θ, its gradient, its state and the arguments.
///
/// Two expressions are equal if they have the same operations in the same order; the arguments' values are not part of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression {
    nodes: Vec<Node>,
    outcome: Outcome,
    result: usize,
    state: Vec<usize>,
    arguments: usize,
}

/// The nodes that the nodes `wanted` depend on, in order and renumbered; and the new indices of `wanted`.
fn needed_for(nodes: &[Node], wanted: &[usize]) -> (Vec<Node>, Vec<usize>) {
    let mut needed = vec![false; nodes.len()];
    wanted.iter().for_each(|place| needed[*place] = true);
    for (place, node) in nodes.iter().enumerate().rev() {
        if needed[place] {
            node.each_operand(|operand| needed[operand] = true);
        }
    }
    let mut places = vec![0; nodes.len()];
    let mut kept = Vec::new();
    for (place, node) in nodes.iter().enumerate().filter(|(place, _)| needed[*place]) {
        places[place] = kept.len();
        kept.push(node.map(|operand| places[operand]));
    }
    (kept, wanted.iter().map(|place| places[*place]).collect())
}

/// Operations with any number of results, and the values of their arguments: the formula of a pass, whose results are what it writes and sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    nodes: Vec<Node>,
    results: Vec<usize>,
    /// The arguments' values.
    pub arguments: Vec<f64>,
}

impl Expression {
    /// The expression of those of `nodes` that `result` or `state` depends on.
    fn new(nodes: &[Node], outcome: Outcome, result: usize, state: &[usize], arguments: usize) -> Self {
        let wanted: Vec<usize> = state.iter().copied().chain([result]).collect();
        let (nodes, mut state) = needed_for(nodes, &wanted);
        let result = state.pop().unwrap_or(0);
        Self { nodes, outcome, result, state, arguments }
    }

    /// The operations, each after its operands.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the main result is.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Index of the node with the main result.
    #[must_use]
    pub fn result(&self) -> usize {
        self.result
    }

    /// Indices of the nodes with the new state, one for each buffer.
    #[must_use]
    pub fn state(&self) -> &[usize] {
        &self.state
    }

    /// Number of arguments.
    #[must_use]
    pub fn arguments(&self) -> usize {
        self.arguments
    }
}

/// A recorded step: its expression, and the values of the arguments in this step.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// The operations.
    pub expression: Expression,
    /// The arguments' values. A step in single precision rounds them.
    pub arguments: Vec<f64>,
}
