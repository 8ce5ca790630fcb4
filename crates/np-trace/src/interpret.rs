//! Evaluates expressions on the host, one element after the other: slow, but with the same bits as the loops compiled from the formula.

use super::{Expression, Node, Outcome, Traced};
use crate::Float;

/// An expression and its arguments, in the type of the computation.
#[derive(Debug, Clone)]
pub struct Program<'a, T> {
    expression: &'a Expression,
    arguments: Vec<T>,
}

impl Traced {
    /// The step as a program in single (`f32`) or double (`f64`) precision.
    #[must_use]
    pub fn program<T: Float>(&self) -> Program<'_, T> {
        Program { expression: &self.expression, arguments: self.arguments.iter().map(|x| T::from_f64(*x)).collect() }
    }
}

impl<T: Float> Program<'_, T> {
    /// The step of one element: returns the result and updates `state`. Afterwards `values` has the value of each node.
    ///
    /// # Panics
    /// If the expression reads a buffer that `state` lacks.
    pub fn element(&self, theta: T, g: T, state: &mut [T], values: &mut Vec<T>) -> T {
        values.clear();
        for node in &self.expression.nodes {
            let value = match *node {
                Node::Theta => theta,
                Node::Gradient => g,
                Node::State(buffer) => state[buffer],
                Node::Argument(argument) => self.arguments[argument],
                Node::Constant(bits) => T::from_f64(f64::from_bits(bits)),
                Node::Largest => T::MAX,
                Node::Negate(a) => -values[a],
                Node::Abs(a) => values[a].abs(),
                Node::Sqrt(a) => values[a].sqrt(),
                Node::Add(a, b) => values[a] + values[b],
                Node::Subtract(a, b) => values[a] - values[b],
                Node::Multiply(a, b) => values[a] * values[b],
                Node::Divide(a, b) => values[a] / values[b],
                Node::SelectLt([a, b, yes, no]) => T::select_lt(values[a], values[b], values[yes], values[no]),
            };
            values.push(value);
        }
        for (number, place) in state.iter_mut().zip(&self.expression.state) {
            *number = values[*place];
        }
        values[self.expression.result]
    }

    /// The step of many elements: writes new parameters to `theta` or directions to `u`, as the expression's outcome says.
    ///
    /// # Panics
    /// If a slice that is used is shorter than `theta`, or the expression reads a buffer that `state` lacks.
    pub fn run(&self, theta: &mut [T], g: &[T], state: &mut [&mut [T]], u: &mut [T]) {
        let mut values = Vec::with_capacity(self.expression.nodes.len());
        let mut now = vec![T::ZERO; state.len()];
        for i in 0..theta.len() {
            now.iter_mut().zip(&*state).for_each(|(now, buffer)| *now = buffer[i]);
            let result = self.element(theta[i], g[i], &mut now, &mut values);
            match self.expression.outcome {
                Outcome::Step => theta[i] = result,
                Outcome::Direction => u[i] = result,
            }
            now.iter().zip(&mut *state).for_each(|(now, buffer)| buffer[i] = *now);
        }
    }
}
