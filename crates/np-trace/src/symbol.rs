//! The symbolic number: operations on it are recorded on a tape, one per thread.

use std::cell::RefCell;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{Expression, Node, Outcome, Traced};
use crate::Number;

/// A number that is not known yet. It belongs to the recording in which it was made, and must not be used in another.
#[derive(Debug, Clone, Copy)]
pub struct Symbol(Kind);

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A constant of the formula.
    Constant(f64),
    /// The largest finite number of the type of the computation.
    Largest,
    /// The node of this index on the tape.
    Node(usize),
}

/// The operations and arguments that have been recorded so far.
#[derive(Default)]
struct Tape {
    nodes: Vec<Node>,
    arguments: Vec<f64>,
}

impl Tape {
    /// The index of `node`. Equal nodes are recorded once.
    fn place(&mut self, node: Node) -> usize {
        // A formula has a few dozen nodes.
        self.nodes.iter().position(|other| *other == node).unwrap_or_else(|| {
            self.nodes.push(node);
            self.nodes.len() - 1
        })
    }

    fn place_of(&mut self, symbol: Symbol) -> usize {
        match symbol.0 {
            Kind::Constant(x) => self.place(Node::Constant(x.to_bits())),
            Kind::Largest => self.place(Node::Largest),
            Kind::Node(place) => place,
        }
    }
}

thread_local! {
    static TAPE: RefCell<Tape> = RefCell::default();
}

/// Records `f`, which computes its result from θ, the gradient and `buffers` numbers of state, and one new number for each buffer, in order.
pub fn record(
    buffers: usize,
    outcome: Outcome,
    f: impl FnOnce(Symbol, Symbol, &[Symbol]) -> (Symbol, Vec<Symbol>),
) -> Traced {
    let before = TAPE.take();
    let state: Vec<Symbol> = (0..buffers).map(|buffer| Symbol::node(Node::State(buffer))).collect();
    let (result, state) = f(Symbol::node(Node::Theta), Symbol::node(Node::Gradient), &state);
    let mut tape = TAPE.replace(before);
    let result = tape.place_of(result);
    let state: Vec<usize> = state.into_iter().map(|symbol| tape.place_of(symbol)).collect();
    let expression = Expression::new(&tape.nodes, outcome, result, &state, tape.arguments.len());
    Traced { expression, arguments: tape.arguments }
}

/// Records `f`, which computes any number of results from θ, the gradient and `buffers` numbers of state.
pub fn record_all(buffers: usize, f: impl FnOnce(Symbol, Symbol, &[Symbol]) -> Vec<Symbol>) -> super::Recording {
    let before = TAPE.take();
    let state: Vec<Symbol> = (0..buffers).map(|buffer| Symbol::node(Node::State(buffer))).collect();
    let results = f(Symbol::node(Node::Theta), Symbol::node(Node::Gradient), &state);
    let mut tape = TAPE.replace(before);
    let results: Vec<usize> = results.into_iter().map(|symbol| tape.place_of(symbol)).collect();
    let (nodes, results) = super::needed_for(&tape.nodes, &results);
    super::Recording { nodes, results, arguments: tape.arguments }
}

/// The number of arguments that `f` records.
pub fn count(f: impl FnOnce()) -> usize {
    let before = TAPE.take();
    f();
    TAPE.replace(before).arguments.len()
}

impl Symbol {
    fn node(node: Node) -> Self {
        TAPE.with_borrow_mut(|tape| Self(Kind::Node(tape.place(node))))
    }

    /// Records the node that `make` returns for the indices of `operands`.
    fn of<const N: usize>(operands: [Self; N], make: impl FnOnce([usize; N]) -> Node) -> Self {
        TAPE.with_borrow_mut(|tape| {
            let places = operands.map(|operand| tape.place_of(operand));
            Self(Kind::Node(tape.place(make(places))))
        })
    }
}

impl Number for Symbol {
    const ZERO: Self = Self(Kind::Constant(0.0));
    const ONE: Self = Self(Kind::Constant(1.0));
    const MAX: Self = Self(Kind::Largest);

    fn from_f64(x: f64) -> Self {
        TAPE.with_borrow_mut(|tape| {
            tape.arguments.push(x);
            let node = Node::Argument(tape.arguments.len() - 1);
            Self(Kind::Node(tape.place(node)))
        })
    }

    fn abs(self) -> Self {
        Self::of([self], |[a]| Node::Abs(a))
    }

    fn sqrt(self) -> Self {
        Self::of([self], |[a]| Node::Sqrt(a))
    }

    fn select_lt(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self::of([a, b, yes, no], Node::SelectLt)
    }
}

impl Neg for Symbol {
    type Output = Self;

    fn neg(self) -> Self {
        match self.0 {
            Kind::Constant(x) => Self(Kind::Constant(-x)),
            Kind::Largest | Kind::Node(_) => Self::of([self], |[a]| Node::Negate(a)),
        }
    }
}

macro_rules! binary {
    ($($trait:ident $method:ident $node:ident),*) => {
        $(impl $trait for Symbol {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                Self::of([self, other], |[a, b]| Node::$node(a, b))
            }
        })*
    };
}
binary!(Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_recorded_once_and_unneeded_ones_dropped() {
        let traced = record(1, Outcome::Direction, |theta, g, state| {
            let (beta, unused) = (Symbol::from_f64(0.9), Symbol::from_f64(7.0));
            let _ = unused * theta;
            let square = g * g;
            let v = beta * state[0] + (Symbol::ONE - beta) * (g * g);
            (square / v.sqrt(), vec![v])
        });
        let nodes = [
            Node::State(0),
            Node::Gradient,
            Node::Argument(0),
            Node::Multiply(1, 1),
            Node::Multiply(2, 0),
            Node::Constant(1.0f64.to_bits()),
            Node::Subtract(5, 2),
            Node::Multiply(6, 3),
            Node::Add(4, 7),
            Node::Sqrt(8),
            Node::Divide(3, 9),
        ];
        assert_eq!(traced.expression.nodes(), nodes);
        assert_eq!((traced.expression.result(), traced.expression.state()), (10, &[8][..]));
        assert_eq!(traced.arguments, [0.9, 7.0]);
    }

    #[test]
    fn one_recording_inside_another_leaves_it_alone() {
        let outer = record(0, Outcome::Direction, |_, g, _| {
            let inner = record(0, Outcome::Direction, |theta, _, _| (theta + Symbol::from_f64(2.0), vec![]));
            assert_eq!(inner.arguments, [2.0]);
            (g * Symbol::from_f64(3.0), vec![])
        });
        assert_eq!(outer.arguments, [3.0]);
        assert_eq!(outer.expression.nodes(), [Node::Gradient, Node::Argument(0), Node::Multiply(0, 1)]);
    }
}
