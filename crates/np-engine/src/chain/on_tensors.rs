//! Passes by tensor operations: a formula is recorded and evaluated on whole tensors. For devices without a kernel, and to check the CPU's loops.

use candle_core::{DType, Device, Tensor};
use np_cuda::table::BUFFERS;
use np_trace::pass::{Pass, Target, Term, about};
use np_trace::symbol::record_all;
use np_trace::tensor_ops;
use np_trace::tensors::Value;

use super::host::Host;
use super::{Formula, Of};
use crate::error::Result;
use crate::state::State;

impl Host<'_, '_> {
    /// Runs a pass over the tensors `members`, which are of one element type; returns the outputs of each, none for empty ones. All are copied from the device
    /// together.
    pub(super) fn on_tensors(&mut self, formula: &impl Formula, members: &[usize]) -> Result<Vec<Vec<f64>>> {
        let (mut scalars, mut filled) = (vec![], 0);
        for tensor in members {
            if self.work[*tensor].grad.elem_count() > 0 {
                scalars.extend(self.on_one(formula, *tensor)?);
                filled += 1;
            }
        }
        let numbers: Vec<f64> = match scalars.is_empty() {
            true => vec![],
            // Not all devices have double precision.
            false => Tensor::stack(&scalars, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1()?,
        };
        let mut each = numbers.chunks((numbers.len() / filled.max(1)).max(1));
        let watched = formula.pass(members[0], 0.0, 0.0, [0.0; BUFFERS], self.row(members[0])).watched.is_some();
        let unpack = |tensor: &usize| {
            let elements = self.work[*tensor].grad.elem_count();
            let numbers = if elements == 0 { None } else { each.next() };
            match numbers {
                Some([before @ .., delta2, pivot, off, off2, least, most, near, far]) if watched => {
                    let [sum, squares] = about(elements as f64, *pivot, [*off, *off2]);
                    [before, &[*delta2, sum, squares, *least, *most, *near, *far]].concat()
                }
                numbers => numbers.unwrap_or_default().to_vec(),
            }
        };
        Ok(members.iter().map(unpack).collect())
    }

    /// Runs a pass over one tensor: updates its state, and returns norms and sums as tensors without dimensions.
    fn on_one(&mut self, formula: &impl Formula, tensor: usize) -> Result<Vec<Tensor>> {
        let (row, places) = (self.row(tensor).to_vec(), self.places[tensor]);
        let w = &mut self.work[tensor];
        let g = w.gradient()?;
        let theta = w.param.var.as_detached_tensor().to_dtype(g.dtype())?;
        let State::Tensors(state) = &mut w.param.state else { return Ok(vec![]) };
        let of = |k: usize| places[k].and_then(|place| state.get(place));

        let mut pass = None;
        let recording = record_all(BUFFERS + row.len(), |theta, g, all| {
            let buffers = std::array::from_fn(|k| all[k]);
            let symbols = formula.pass(tensor, theta, g, buffers, &all[BUFFERS..]);
            let results = symbols.results();
            pass = Some(symbols);
            results
        });
        let values = recording.on_tensors(&theta, &g, |k| match k.checked_sub(BUFFERS) {
            Some(column) => Value::Scalar(row[column]),
            None => of(k).map_or(Value::Scalar(0.0), |x| Value::Given(x.clone())),
        })?;
        let Some(Pass { writes, terms, log_ratio, watched }) = pass.and_then(|pass| pass.of(&values)) else {
            return Ok(vec![]);
        };

        let tensor_of = |value: &Value| value.like(&g);
        let mut sums = vec![];
        for term in &terms {
            sums.push(match term {
                Term::Sum(x) => tensor_of(x)?.sum_all()?,
                Term::Square(x) => tensor_of(x)?.sqr()?.sum_all()?,
                Term::Dot(x, y) => (tensor_of(x)? * tensor_of(y)?)?.sum_all()?,
            });
        }
        if let Some([x, y, eps]) = log_ratio {
            let eps = tensor_of(&eps)?;
            let log = |x: &Value| tensor_ops::max(&tensor_of(x)?, &eps)?.log();
            sums.push((log(&x)? - log(&y)?)?.sum_all()?);
        }
        if let Some([alpha, delta, near, far]) = watched {
            let (alpha, count) = (tensor_of(&alpha)?, |mask: Tensor| mask.to_dtype(g.dtype())?.sum_all());
            let pivot = alpha.flatten_all()?.get(0)?;
            let off = alpha.broadcast_sub(&pivot)?;
            sums.extend([tensor_of(&delta)?.sqr()?.sum_all()?, pivot, off.sum_all()?, off.sqr()?.sum_all()?]);
            sums.extend([alpha.min_all()?, alpha.max_all()?]);
            sums.extend([count(alpha.le(&tensor_of(&near)?)?)?, count(alpha.ge(&tensor_of(&far)?)?)?]);
        }
        for (target, value) in &writes {
            if let Target::State(k) = target
                && let Some(place) = places[*k]
            {
                // Nothing of the state shares memory with θ or the gradient, which others write to.
                state[place] = match value {
                    Value::Given(x) => x.copy()?,
                    value => tensor_of(value)?.contiguous()?,
                };
            }
        }
        let mut norms = vec![];
        for of in formula.norms() {
            norms.push(chosen(*of, &theta, &g, |k| places[k].map(|place| &state[place]))?.sqr()?.sum_all()?);
        }
        Ok([norms, sums].concat())
    }

    /// Σ(scale·x)² of one tensor.
    pub(super) fn scaled_squares(&mut self, tensor: usize, of: Of, scale: f64) -> Result<f64> {
        let w = &self.work[tensor];
        let (theta, g) = (w.param.var.as_detached_tensor(), w.gradient()?);
        let State::Tensors(state) = &w.param.state else { return Ok(0.0) };
        let x = chosen(of, &theta, &g, |k| self.places[tensor][k].map(|place| &state[place]))?;
        // Metal has no double precision; single keeps what it can there.
        let x = if x.device().is_metal() { x } else { x.to_dtype(DType::F64)? };
        let sum = (x * scale)?.sqr()?.sum_all()?;
        Ok(sum.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_scalar()?)
    }
}

fn chosen<'a>(
    of: Of,
    theta: &Tensor,
    g: &Tensor,
    state: impl Fn(usize) -> Option<&'a Tensor>,
) -> candle_core::Result<Tensor> {
    match of {
        Of::Theta => Ok(theta.clone()),
        Of::Gradient => Ok(g.clone()),
        Of::State(k) => state(k).cloned().ok_or_else(|| candle_core::Error::Msg(format!("no state {k}"))),
    }
}
