//! Evaluates expressions by tensor operations, each node once, for devices without a kernel.

use candle_core::{DType, Result, Tensor};

use super::{Node, Recording, Traced};
use crate::tensor_ops::fill;

/// The value of a node.
#[derive(Debug, Clone)]
pub enum Value {
    /// The same for all elements.
    Scalar(f64),
    /// θ, the gradient or state, whose memory must not be overwritten.
    Given(Tensor),
    /// A computed tensor.
    Computed(Tensor),
}

impl Traced {
    /// The result and the new state, from tensors of the same shape and type. The new state shares no memory with θ or the gradient, which others may write to.
    ///
    /// # Errors
    /// Those of candle's operations.
    ///
    /// # Panics
    /// If `state` has fewer tensors than the expression has buffers.
    pub fn on_tensors(&self, theta: &Tensor, g: &Tensor, state: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let expression = &self.expression;
        let wanted: Vec<usize> = expression.state.iter().copied().chain([expression.result]).collect();
        let given = |buffer: usize| Value::Given(state[buffer].clone());
        let mut values = evaluate(&expression.nodes, &wanted, &self.arguments, theta, g, given)?;
        let result = values.pop().map_or_else(|| Ok(g.clone()), |value| value.like(g))?;
        let new = values.iter().zip(&expression.state).enumerate().map(|(buffer, (value, place))| match value {
            Value::Given(x) if expression.nodes[*place] != Node::State(buffer) => x.copy(),
            value => value.like(g)?.contiguous(),
        });
        Ok((result, new.collect::<Result<_>>()?))
    }
}

impl Recording {
    /// The results, from tensors of the same shape and type, and numbers.
    ///
    /// # Errors
    /// Those of candle's operations.
    pub fn on_tensors(&self, theta: &Tensor, g: &Tensor, state: impl Fn(usize) -> Value) -> Result<Vec<Value>> {
        evaluate(&self.nodes, &self.results, &self.arguments, theta, g, state)
    }
}

/// The values of the nodes with the indices `wanted`.
fn evaluate(
    nodes: &[Node],
    wanted: &[usize],
    arguments: &[f64],
    theta: &Tensor,
    g: &Tensor,
    state: impl Fn(usize) -> Value,
) -> Result<Vec<Value>> {
    let mut uses = vec![0; nodes.len()];
    nodes.iter().for_each(|node| node.each_operand(|operand| uses[operand] += 1));
    wanted.iter().for_each(|place| uses[*place] += 1);
    let (on, mut values) = (Operations { like: g }, Vec::<Value>::with_capacity(nodes.len()));
    for node in nodes {
        let value = match *node {
            Node::Theta => Value::Given(theta.clone()),
            Node::Gradient => Value::Given(g.clone()),
            Node::State(k) => match state(k) {
                Value::Scalar(x) => on.scalar(x),
                given => given,
            },
            Node::Argument(argument) => on.scalar(arguments[argument]),
            Node::Constant(bits) => on.scalar(f64::from_bits(bits)),
            Node::Largest => Value::Scalar(largest(g.dtype())),
            Node::Negate(a) => on.unary(&values[a], |x| -x, Tensor::neg)?,
            Node::Abs(a) => on.unary(&values[a], f64::abs, Tensor::abs)?,
            Node::Sqrt(a) => on.unary(&values[a], f64::sqrt, Tensor::sqrt)?,
            Node::Add(a, b) => on.add(&values[a], &values[b])?,
            Node::Subtract(a, b) => on.subtract(&values[a], &values[b])?,
            Node::Multiply(a, b) => on.multiply(&values[a], &values[b])?,
            Node::Divide(a, b) => on.divide(&values[a], &values[b])?,
            Node::SelectLt(places) => on.select_lt(places.map(|place| &values[place]))?,
        };
        values.push(value);
        // What no later node needs gives its memory back.
        node.each_operand(|operand| {
            uses[operand] -= 1;
            if uses[operand] == 0 {
                values[operand] = Value::Scalar(0.0);
            }
        });
    }
    Ok(wanted.iter().map(|place| values[*place].clone()).collect())
}

impl Value {
    /// A tensor of the shape and type of `other`.
    ///
    /// # Errors
    /// Those of candle's operations.
    pub fn like(&self, other: &Tensor) -> Result<Tensor> {
        match self {
            Self::Scalar(x) => fill(other, *x),
            Self::Given(x) | Self::Computed(x) => Ok(x.clone()),
        }
    }
}

/// The largest number of the type that is computed with for tensors of this type.
#[must_use]
pub fn largest(dtype: DType) -> f64 {
    if dtype == DType::F64 { f64::MAX } else { f64::from(f32::MAX) }
}

/// Operations on tensors of one shape and type, with the same results as on single numbers of that type.
struct Operations<'a> {
    like: &'a Tensor,
}

impl Operations<'_> {
    /// `x`, rounded to the type.
    #[allow(clippy::cast_possible_truncation)] // single precision is what is asked for
    fn scalar(&self, x: f64) -> Value {
        Value::Scalar(if self.like.dtype() == DType::F64 { x } else { f64::from(x as f32) })
    }

    fn unary(&self, a: &Value, f: impl Fn(f64) -> f64, on: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Value> {
        match a {
            Value::Scalar(x) => Ok(self.scalar(f(*x))),
            Value::Given(x) | Value::Computed(x) => on(x).map(Value::Computed),
        }
    }

    /// A binary operation, by one function for two tensors, one for a tensor and a number, and one for a number and a tensor.
    fn binary(
        &self,
        [a, b]: [&Value; 2],
        numbers: impl Fn(f64, f64) -> f64,
        tensors: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
        right: impl Fn(&Tensor, f64) -> Result<Tensor>,
        left: impl Fn(f64, &Tensor) -> Result<Tensor>,
    ) -> Result<Value> {
        use Value::{Computed, Given, Scalar};
        Ok(match (a, b) {
            // The double rounding does no harm: f64 has more than twice the digits of f32.
            (Scalar(x), Scalar(y)) => self.scalar(numbers(*x, *y)),
            (Given(x) | Computed(x), Scalar(y)) => Computed(right(x, *y)?),
            (Scalar(x), Given(y) | Computed(y)) => Computed(left(*x, y)?),
            (Given(x) | Computed(x), Given(y) | Computed(y)) => Computed(tensors(x, y)?),
        })
    }

    // An affine map with a factor of ±1, or without a constant, rounds once.

    fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary([a, b], |x, y| x + y, |x, y| x + y, |x, y| x.affine(1.0, y), |x, y| y.affine(1.0, x))
    }

    fn subtract(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary([a, b], |x, y| x - y, |x, y| x - y, |x, y| x.affine(1.0, -y), |x, y| y.affine(-1.0, x))
    }

    fn multiply(&self, a: &Value, b: &Value) -> Result<Value> {
        self.binary([a, b], |x, y| x * y, |x, y| x * y, |x, y| x.affine(y, 0.0), |x, y| y.affine(x, 0.0))
    }

    fn divide(&self, a: &Value, b: &Value) -> Result<Value> {
        // Not by the reciprocal, which rounds twice.
        self.binary([a, b], |x, y| x / y, |x, y| x / y, |x, y| x / fill(x, y)?, |x, y| fill(y, x)? / y)
    }

    fn select_lt(&self, [a, b, yes, no]: [&Value; 4]) -> Result<Value> {
        use Value::{Computed, Given, Scalar};
        let mask = match (a, b) {
            (Scalar(x), Scalar(y)) => return Ok(if x < y { yes.clone() } else { no.clone() }),
            (Given(x) | Computed(x), Scalar(y)) => x.lt(*y)?,
            (Scalar(x), Given(y) | Computed(y)) => y.gt(*x)?,
            (Given(x) | Computed(x), Given(y) | Computed(y)) => x.lt(y)?,
        };
        Ok(Computed(mask.where_cond(&yes.like(self.like)?, &no.like(self.like)?)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, WithDType};

    use super::*;
    use crate::symbol::{Symbol, record};
    use crate::{Float, Number, Outcome};

    /// A formula with every operation, on tensors, on a tensor and a number in either order, and on numbers.
    fn everything() -> Traced {
        record(3, Outcome::Direction, |theta, g, state| {
            let (a, b) = (Symbol::from_f64(0.1), Symbol::from_f64(-1.0 / 3.0));
            let numbers = (a * b - a / b + b.abs().sqrt()) * Symbol::ONE.max(a);
            let [x, y, z] = [state[0], state[1], state[2]];
            let mixed = (a + x) * (y - b) - (b - z) / (x + a).min(Symbol::MAX);
            let left = a / y + theta / b - a * g + x * b;
            let chosen =
                theta.max(g) - theta.min(g) + x.clip(b, a) * y.sign() - a.max(z) + Symbol::select_lt(a, b, g, -y);
            (numbers * mixed + left, vec![chosen, g, theta.abs().sqrt()])
        })
    }

    fn agree<T: Float + WithDType>(bits: impl Fn(T) -> u64) {
        let edge = [0.0, 1.0, -1.5, 3e-5, -7e3, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let at = |i: usize, k: usize| {
            <T as Number>::from_f64(edge[(i / edge.len().pow(u32::try_from(k).unwrap())) % edge.len()])
        };
        let inputs: [Vec<T>; 3] = std::array::from_fn(|k| (0..512).map(|i| at(i, k)).collect());
        let [a, b, c] = inputs.each_ref().map(|x| Tensor::from_slice(x, x.len(), &Device::Cpu).unwrap());
        let traced = everything();
        let (u, state) = traced.on_tensors(&a, &b, &[b.clone(), c.clone(), a.clone()]).unwrap();
        let found: Vec<Vec<T>> = [&u].into_iter().chain(&state).map(|x| x.to_vec1().unwrap()).collect();
        let (program, mut values) = (traced.program::<T>(), Vec::new());
        for i in 0..512 {
            let [a, b, c] = inputs.each_ref().map(|x| x[i]);
            let mut state = [b, c, a];
            let u = program.element(a, b, &mut state, &mut values);
            for (expected, found) in [u].iter().chain(&state).zip(&found) {
                let (expected, found) = (Float::to_f64(*expected), Float::to_f64(found[i]));
                // A tensor times a number is candle's `affine`, which makes +0 of −0.
                let same = expected == found || (expected.is_nan() && found.is_nan());
                assert!(same, "{i}: {expected:e}, by tensors {found:e}");
            }
            assert_eq!(bits(state[1]), bits(b));
        }
    }

    #[test]
    fn tensors_have_the_numbers_outcome() {
        agree::<f32>(|x| x.to_bits().into());
        agree::<f64>(f64::to_bits);
    }

    #[test]
    fn state_is_no_alias_of_the_gradient() {
        let traced = record(1, Outcome::Direction, |_, g, _| (g, vec![g]));
        let g = candle_core::Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let (_, state) = traced.on_tensors(&g, &g, &[g.as_tensor().clone()]).unwrap();
        g.set(&Tensor::new(&[5f32, 6.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(state[0].to_vec1::<f32>().unwrap(), [1.0, 2.0]);
    }
}
