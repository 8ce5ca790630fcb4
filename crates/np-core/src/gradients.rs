//! From what backpropagation left to what a rule may use: accumulated, looked through, clipped.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Storage, Tensor};
use half::{bf16, f16};

use crate::cpu::{self, CHUNK};
use crate::float::{BLOCK, Element};
use crate::options::{Clip, NonFinite, Options, Training};
use crate::slot::{GradientMap, Slot, compute_dtype};
use crate::{Error, Float, Result, Work};

/// Gradients as checked, one a slot; none where the loss does not depend on the parameter or it is frozen.
pub(crate) fn find(slots: &[Slot], grads: &GradStore) -> Result<Vec<Option<Tensor>>> {
    let of = |slot: &Slot| match slot.settings.training {
        Training::Frozen => Ok(None),
        Training::Trained => grads.get(slot.var.as_tensor()).map(|g| slot.checked_grad(g)).transpose(),
    };
    slots.iter().map(of).collect()
}

/// Adds 1/n of each gradient to what has been accumulated.
pub(crate) fn accumulate(slots: &mut [Slot], found: &[Option<Tensor>], n: usize) -> Result<()> {
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

/// What looking through the gradients gave.
pub(crate) enum Verdict {
    /// They may be used, read through this map; with their norm, if it was worked out.
    Use { map: GradientMap, norm: Option<f64> },
    /// The step is to be skipped.
    Skip { norm: f64 },
}

/// Looks for numbers that are not finite and works out the clipping, with one device synchronisation at most.
pub(crate) fn judge(slots: &[Slot], found: &[Option<Tensor>], options: &Options) -> Result<Verdict> {
    let mut map = GradientMap::IDENTITY;
    if let Some(Clip::Value(limit)) = options.clip {
        map.limit = limit;
    }
    let clip = match options.clip {
        Some(Clip::Norm(max)) => Some(max),
        _ => None,
    };
    if clip.is_none() && options.non_finite == NonFinite::Propagate {
        return Ok(Verdict::Use { map, norm: None });
    }
    let squares = square_sums(found)?;
    let norm = squares.iter().map(|(_, sum)| sum).sum::<f64>().sqrt();
    if let Some((i, sum)) = squares.iter().find(|(_, sum)| !sum.is_finite()) {
        match options.non_finite {
            NonFinite::Propagate => {}
            NonFinite::Skip => return Ok(Verdict::Skip { norm }),
            NonFinite::Error => {
                let got = format!("numbers whose squares sum to {sum}");
                return Err(Error::Gradient { name: slots[*i].name.clone(), expected: "finite numbers".into(), got });
            }
        }
    }
    if let Some(max) = clip {
        // A norm that is no number makes every gradient none, as in PyTorch: half a step would hide that something is wrong.
        let scale = max / (norm + 1e-6);
        map.scale = if scale >= 1.0 { 1.0 } else { scale };
    }
    Ok(Verdict::Use { map, norm: Some(norm) })
}

/// ‖g‖ over all gradients together.
pub(crate) fn norm(found: &[Option<Tensor>]) -> Result<f64> {
    Ok(square_sums(found)?.iter().map(|(_, sum)| sum).sum::<f64>().sqrt())
}

/// `Ok` if every gradient is finite, else an error that names the first that is not: for rules that cannot go on with it, whatever the policy.
pub(crate) fn finite(work: &[Work<'_>]) -> Result<()> {
    let found: Vec<_> = work.iter().map(|w| Some(w.grad.clone())).collect();
    match square_sums(&found)?.iter().find(|(_, sum)| !sum.is_finite()) {
        None => Ok(()),
        Some((i, sum)) => {
            let (expected, got) = ("finite numbers".to_string(), format!("numbers whose squares sum to {sum}"));
            Err(Error::Gradient { name: work[*i].slot.name.clone(), expected, got })
        }
    }
}

/// Σg² of each gradient that is there, with its slot's number.
fn square_sums(found: &[Option<Tensor>]) -> Result<Vec<(usize, f64)>> {
    let (mut sums, mut far) = (Vec::with_capacity(found.len()), Vec::new());
    for (i, grad) in found.iter().enumerate() {
        let Some(grad) = grad.as_ref().filter(|g| g.elem_count() > 0) else { continue };
        let (storage, layout) = grad.storage_and_layout();
        match (&*storage, grad.dtype()) {
            (Storage::Cpu(data), DType::F64) => sums.push((i, square_sum(cpu::slice::<f64>(data, layout)?))),
            (Storage::Cpu(data), DType::F16) => sums.push((i, square_sum(cpu::slice::<f16>(data, layout)?))),
            (Storage::Cpu(data), DType::BF16) => sums.push((i, square_sum(cpu::slice::<bf16>(data, layout)?))),
            (Storage::Cpu(data), _) => sums.push((i, square_sum(cpu::slice::<f32>(data, layout)?))),
            _ => far.push((i, grad.to_dtype(DType::F32)?.sqr()?.sum_all()?)),
        }
    }
    if !far.is_empty() {
        let scalars: Vec<&Tensor> = far.iter().map(|(_, sum)| sum).collect();
        let values = Tensor::stack(&scalars, 0)?.to_vec1::<f32>()?;
        sums.extend(far.iter().zip(values).map(|((i, _), sum)| (*i, f64::from(sum))));
    }
    Ok(sums)
}

/// Σx² in double precision, chunk by chunk.
fn square_sum<E: Element>(xs: &[E]) -> f64 {
    const LANES: usize = 16;
    let mut partial = vec![0.0; xs.len().div_ceil(CHUNK)];
    let jobs: Vec<_> = xs.chunks(CHUNK).zip(&mut partial).collect();
    cpu::for_each(
        jobs,
        #[inline(always)]
        |(chunk, sum): (&[E], &mut f64)| {
            let mut wide = [<E::Compute as Float>::ZERO; BLOCK];
            let mut lanes = [0.0; LANES];
            for block in chunk.chunks(BLOCK) {
                for xs in E::read(block, &mut wide).chunks(LANES) {
                    for (lane, x) in lanes.iter_mut().zip(xs) {
                        let x = x.to_f64();
                        *lane += x * x;
                    }
                }
            }
            *sum = lanes.iter().sum();
        },
    );
    partial.iter().sum()
}

/// s ← s + weight · g, in place.
struct AddScaled<E: Element> {
    weight: E::Compute,
}

impl<E: Element> AddScaled<E> {
    fn new(weight: f64) -> Self {
        Self { weight: <E::Compute as Float>::from_f64(weight) }
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
                let mut wide = [<E::Compute as Float>::ZERO; BLOCK];
                for (sum, g) in sum.chunks_mut(BLOCK).zip(g.chunks(BLOCK)) {
                    let g = E::read(g, &mut wide);
                    sum.iter_mut().zip(g).for_each(|(sum, g)| *sum += weight * *g);
                }
            },
        );
        Ok(())
    }
}
