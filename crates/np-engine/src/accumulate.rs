//! Gradient accumulation: gradients of several calls, averaged for one step.

use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use np_trace::Number;

use crate::config::options::Training;
use crate::cpu;
use crate::cpu::CHUNK;
use crate::element::{BLOCK, Element, dispatch};
use crate::error::Result;
use crate::param_state::ParamState;
use crate::state::compute_dtype;

/// Adds 1/n of each gradient to the accumulated ones.
pub(crate) fn accumulate(params: &mut [ParamState], found: &[Option<Tensor>], n: usize) -> Result<()> {
    cpu::on_threads_if_worth(cpu::elements(found.iter().flatten()), || accumulate_here(params, found, n))
}

fn accumulate_here(params: &mut [ParamState], found: &[Option<Tensor>], n: usize) -> Result<()> {
    for (param, grad) in params.iter_mut().zip(found) {
        let Some(grad) = grad else { continue };
        let dtype = compute_dtype(param.var.dtype());
        if param.accumulated.is_none() {
            param.accumulated = Some(Tensor::zeros(param.var.shape(), dtype, param.var.device())?);
        }
        let Some(sum) = &mut param.accumulated else { continue };
        param.has_gradient = true;
        if grad.elem_count() == 0 {
            continue;
        }
        let weight = 1.0 / n as f64;
        if param.var.device().is_cpu() {
            dispatch!(grad.dtype(), E => sum.inplace_op2(grad, &AddScaled::<E>::new(weight)))?;
        } else {
            *sum = (&*sum + (grad.to_dtype(dtype)? * weight)?)?.detach();
        }
    }
    Ok(())
}

/// The accumulated gradients, in the parameters' types, divided by `share`: the number of calls so far as a fraction of the calls for an update. They
/// stay accumulated until [`settle`] is called.
pub(crate) fn accumulated(params: &[ParamState], share: f64) -> Result<Vec<Option<Tensor>>> {
    let of = |param: &ParamState| match &param.accumulated {
        // What has been frozen since stays as it is.
        Some(sum) if param.has_gradient && param.settings.training == Training::Trained => {
            let mean = if share == 1.0 || sum.elem_count() == 0 { sum.clone() } else { (sum / share)? };
            Ok(Some(mean.to_dtype(param.var.dtype())?))
        }
        _ => Ok(None),
    };
    params.iter().map(of).collect()
}

/// Sets the accumulated gradients to zero.
pub(crate) fn settle(params: &mut [ParamState]) -> Result<()> {
    for param in params {
        param.has_gradient = false;
        if let Some(sum) = &param.accumulated {
            sum.zero_set()?;
        }
    }
    Ok(())
}

/// s ← s + weight · g, in place.
struct AddScaled<E: Element> {
    weight: E::Compute,
}

impl<E: Element> AddScaled<E> {
    fn new(weight: f64) -> Self {
        Self { weight: <E::Compute as Number>::from_f64(weight) }
    }
}

impl<E: Element> InplaceOp2 for AddScaled<E> {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, _: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let g = cpu::slice::<E>(s2, l2)?;
        let Some(sum) = E::compute_slice_mut(s1) else { candle_core::bail!("expected a sum of the computing type") };
        let weight = self.weight;
        cpu::for_each(
            sum.chunks_mut(CHUNK).zip(g.chunks(CHUNK)).collect(),
            #[inline(always)]
            |(sum, g): (&mut [E::Compute], &[E])| {
                let mut wide = [<E::Compute as Number>::ZERO; BLOCK];
                for (sum, g) in sum.chunks_mut(BLOCK).zip(g.chunks(BLOCK)) {
                    let g = E::read(g, &mut wide);
                    sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += weight * *g);
                }
            },
        );
        Ok(())
    }
}
