//! Gradients of several calls, added up for one step.

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Tensor};
use half::{bf16, f16};

use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::options::Training;
use crate::slot::{Slot, compute_dtype};
use crate::{Number, Result};

/// Adds 1/n of each gradient to what has been accumulated.
pub(crate) fn accumulate(slots: &mut [Slot], found: &[Option<Tensor>], n: usize) -> Result<()> {
    let elements = found.iter().flatten().map(Tensor::elem_count).sum();
    cpu::on_threads_if_worth(elements, || accumulate_here(slots, found, n))
}

fn accumulate_here(slots: &mut [Slot], found: &[Option<Tensor>], n: usize) -> Result<()> {
    for (slot, grad) in slots.iter_mut().zip(found) {
        let Some(grad) = grad else { continue };
        let dtype = compute_dtype(slot.var.dtype());
        if slot.accumulated.is_none() {
            slot.accumulated = Some(Tensor::zeros(slot.var.shape(), dtype, slot.var.device())?);
        }
        let Some(sum) = &mut slot.accumulated else { continue };
        slot.has_gradient = true;
        if grad.elem_count() == 0 {
            continue;
        }
        let weight = 1.0 / n as f64;
        match (slot.var.device().is_cpu(), grad.dtype()) {
            (true, DType::F64) => sum.inplace_op2(grad, &AddScaled::<f64>::new(weight))?,
            (true, DType::F16) => sum.inplace_op2(grad, &AddScaled::<f16>::new(weight))?,
            (true, DType::BF16) => sum.inplace_op2(grad, &AddScaled::<bf16>::new(weight))?,
            (true, _) => sum.inplace_op2(grad, &AddScaled::<f32>::new(weight))?,
            (false, _) => *sum = (&*sum + (grad.to_dtype(dtype)? * weight)?)?.detach(),
        }
    }
    Ok(())
}

/// Takes what has been accumulated, as gradients of the parameters' types, and starts again from zero once `settle` is called. `share` is how much of the calls
/// that an update is of there have been: all of them, or fewer.
pub(crate) fn accumulated(slots: &[Slot], share: f64) -> Result<Vec<Option<Tensor>>> {
    let of = |slot: &Slot| match &slot.accumulated {
        // What has been frozen since stays as it is.
        Some(sum) if slot.has_gradient && slot.settings.training == Training::Trained => {
            let mean = if share == 1.0 || sum.elem_count() == 0 { sum.clone() } else { (sum / share)? };
            Ok(Some(mean.to_dtype(slot.var.dtype())?))
        }
        _ => Ok(None),
    };
    slots.iter().map(of).collect()
}

/// Sets what has been accumulated to zero.
pub(crate) fn settle(slots: &mut [Slot]) -> Result<()> {
    for slot in slots {
        slot.has_gradient = false;
        if let Some(sum) = &slot.accumulated {
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
