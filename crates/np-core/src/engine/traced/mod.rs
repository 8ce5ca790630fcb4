//! Formulas as expressions: what a device other than the CPU computes a step from, and what checks that it is the same step.
//!
//! A formula is generic over its [`Number`](crate::Number). Given numbers, it computes; given [symbols](symbol), it leaves an [`Expression`] behind: every
//! operation once, in the order of the text. Numbers that it made of `f64` values (β, ε, bias corrections, η) are **arguments** of the expression, so that
//! one expression serves all steps. It is evaluated on [tensors], element by element on the [host](interpret), or written down as a [kernel for CUDA](cuda).
//!
//! Which formulas there are is not known here: `elementwise` has its own recorded.

pub(crate) mod arithmetic;
pub mod cuda;
pub(crate) mod interpret;
pub(crate) mod listed;
pub(crate) mod pass;
mod pass_text;
pub(crate) mod symbol;
pub(crate) mod tensors;

/// What the first result of an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The parameter after the step, keep·θ − factor·u.
    Step,
    /// The direction u.
    Direction,
}

/// An operation; its operands are places among the nodes of its expression, all before its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Node {
    /// θ.
    Theta,
    /// The gradient.
    Gradient,
    /// This buffer of the state.
    State(usize),
    /// This argument.
    Argument(usize),
    /// A number of the formula's text, as the bits of an `f64`.
    Constant(u64),
    /// The largest finite number of the type that is computed in.
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
    /// The third where the first is less than the second, else the fourth.
    SelectLt([usize; 4]),
}

impl Node {
    /// The same operation on the operands that `f` makes of its own.
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

/// What a step does with one element: operations on θ, its gradient, its state and the arguments.
///
/// Two expressions are equal where they are the same operations in the same order; what the arguments are does not enter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression {
    nodes: Vec<Node>,
    outcome: Outcome,
    result: usize,
    state: Vec<usize>,
    arguments: usize,
}

/// The nodes that `wanted` need, in their order, and where those wanted are among them.
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

/// Operations with as many results as are wanted, and what their arguments are: a pass over elements, with what it writes and what it sums.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recording {
    pub(crate) nodes: Vec<Node>,
    pub(crate) results: Vec<usize>,
    pub(crate) arguments: Vec<f64>,
}

impl Expression {
    /// One of `nodes`, less what neither `result` nor `state` needs.
    fn new(nodes: &[Node], outcome: Outcome, result: usize, state: &[usize], arguments: usize) -> Self {
        let wanted: Vec<usize> = state.iter().copied().chain([result]).collect();
        let (nodes, mut state) = needed_for(nodes, &wanted);
        let result = state.pop().unwrap_or(0);
        Self { nodes, outcome, result, state, arguments }
    }

    /// Its operations, in an order in which they can be done.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What its first result is.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Place of the first result among the nodes.
    #[must_use]
    pub fn result(&self) -> usize {
        self.result
    }

    /// Places of the new state among the nodes, a buffer each.
    #[must_use]
    pub fn state(&self) -> &[usize] {
        &self.state
    }

    /// How many arguments it has.
    #[must_use]
    pub fn arguments(&self) -> usize {
        self.arguments
    }
}

/// A step: its expression, and what the arguments are in this one.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// What is done.
    pub expression: Expression,
    /// The arguments' values. A step in single precision rounds them to it.
    pub arguments: Vec<f64>,
}
