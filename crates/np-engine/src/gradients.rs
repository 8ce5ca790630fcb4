//! Finds, checks and clips the gradients of a step.

use std::collections::HashSet;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Storage, Tensor};
use np_trace::{Float, Number};

use crate::backend::Backend;
use crate::config::options::{Clip, NonFinite, Options, Training};
use crate::cpu;
use crate::cpu::CHUNK;
use crate::element::{BLOCK, Element, dispatch};
use crate::error::{Error, Result};
use crate::gradient_map::GradientMap;
use crate::param_state::{ParamState, memory};
use crate::param_step::ParamStep;
use crate::range::squarable;
use crate::state::compute_dtype;

/// The checked gradient of each parameter; `None` if the loss does not depend on the parameter or the parameter is frozen.
///
/// # Errors
/// [`Error::Gradient`] for one that does not fit its parameter; those of candle.
pub fn find(params: &[ParamState], grads: &GradStore) -> Result<Vec<Option<Tensor>>> {
    let own: HashSet<*const Storage> = params.iter().map(|s| memory(s.var.as_tensor())).collect();
    let of = |param: &ParamState| match param.settings.training {
        Training::Frozen => Ok(None),
        Training::Trained => grads.get(param.var.as_tensor()).map(|g| param.checked_grad(g, &own)).transpose(),
    };
    params.iter().map(of).collect()
}

/// The result of checking the gradients of a step.
pub(crate) enum GradientCheck {
    /// The gradients can be used, with `map` applied. `norm` is their norm, if it was computed.
    Use { map: GradientMap, norm: Option<f64> },
    /// The step has to be skipped.
    Skip { norm: f64 },
}

/// Where gradients are clipped by their norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clips {
    /// The host computes the factor before the step, and reads the norm from the device for it.
    Here,
    /// The device computes the factor in the step, unless the host has to check the gradients anyway.
    InStep,
}

impl Clips {
    /// [`Clips::InStep`] if the optimizer clips on devices and all parameters' steps are launches.
    pub(crate) fn of(on_device: bool, params: &[ParamState], backend: Backend) -> Self {
        if on_device && params.iter().all(|param| param.launches(backend)) { Self::InStep } else { Self::Here }
    }
}

/// Checks gradients as [`NonFinite`] says, and computes the clipping. `squares` says for which shapes of parameters the state holds squares: for those it also looks for
/// squares that overflow. For ordinary gradients it synchronises with a device once.
pub(crate) fn check_gradients(
    params: &[ParamState],
    found: &[Option<Tensor>],
    options: &Options,
    squares: impl Fn(&[usize]) -> bool,
    clips: Clips,
) -> Result<GradientCheck> {
    let mut map = GradientMap::IDENTITY;
    if let Some(Clip::Value(limit)) = options.clip {
        map.limit = limit;
    }
    let clip = match options.clip {
        Some(Clip::Norm(max)) => Some(max),
        _ => None,
    };
    if clip.is_none() && options.non_finite == NonFinite::Propagate {
        return Ok(GradientCheck::Use { map, norm: None });
    }
    if clips == Clips::InStep && options.non_finite == NonFinite::Propagate {
        map.norm = clip;
        return Ok(GradientCheck::Use { map, norm: None });
    }
    let sums = Squares::of(found)?;
    let norm = sums.norm();
    if let Some(max) = clip {
        // A norm that is no number makes every gradient none, as in PyTorch: half a step would hide that something is wrong.
        let scale = if norm.is_infinite() { sums.scale * max / sums.total.sqrt() } else { max / (norm + 1e-6) };
        map.scale = if scale >= 1.0 { 1.0 } else { scale };
    }
    if options.non_finite == NonFinite::Propagate {
        return Ok(GradientCheck::Use { map, norm: Some(norm) });
    }
    for (i, sum) in &sums.each {
        let param = &params[*i];
        let fits = finite(&param.name, *sum).and_then(|()| match squares(&param.dims()) {
            true => squarable(&param.name, param.var.dtype(), sums.mapped(*sum, map, param.var.elem_count())),
            false => Ok(()),
        });
        match fits {
            Err(_) if options.non_finite == NonFinite::Skip => return Ok(GradientCheck::Skip { norm }),
            fits => fits?,
        }
    }
    Ok(GradientCheck::Use { map, norm: Some(norm) })
}

fn finite(name: &str, sum: f64) -> Result<()> {
    if sum.is_finite() {
        return Ok(());
    }
    let (expected, got) = ("finite numbers".to_string(), format!("numbers whose squares sum to {sum}"));
    Err(Error::Gradient { name: name.to_string(), expected, got })
}

/// ‖g‖ of all gradients together.
///
/// # Errors
/// Those of candle.
pub fn norm(found: &[Option<Tensor>]) -> Result<f64> {
    Ok(Squares::of(found)?.norm())
}

/// An upper bound of the norm of each clipped gradient; or an error that names the first gradient that is not finite. For optimizers that cannot use such gradients,
/// whatever [`NonFinite`] says.
///
/// # Errors
/// Those of candle.
pub fn norms(work: &[ParamStep<'_>]) -> Result<Vec<f64>> {
    let found: Vec<_> = work.iter().map(|w| Some(w.grad.clone())).collect();
    let sums = Squares::of(&found)?;
    let mut norms = vec![0.0; work.len()];
    for (i, sum) in &sums.each {
        let w = &work[*i];
        finite(&w.param.name, *sum)?;
        norms[*i] = sums.mapped(*sum, w.map, w.grad.elem_count());
    }
    Ok(norms)
}

/// Σ(scale·g)² of each gradient that is not empty, with its parameter's index, and of all together.
pub(crate) struct Squares {
    each: Vec<(usize, f64)>,
    total: f64,
    scale: f64,
}

impl Squares {
    /// Scales for numbers whose squares, or the sum of these, leave the range of double precision. They are powers of two, so scaling is exact.
    pub(crate) const SMALLER: f64 = f64::from_bits((1023 - 600) << 52);
    pub(crate) const LARGER: f64 = f64::from_bits((1023 + 600) << 52);

    fn of(found: &[Option<Tensor>]) -> Result<Self> {
        cpu::on_threads_if_worth(cpu::elements(found.iter().flatten()), || {
            let plain = Self::scaled(found, 1.0)?;
            match plain.total {
                total if !total.is_finite() => Self::scaled(found, Self::SMALLER),
                0.0 if !plain.each.is_empty() => Self::scaled(found, Self::LARGER),
                _ => Ok(plain),
            }
        })
    }

    fn scaled(found: &[Option<Tensor>], scale: f64) -> Result<Self> {
        let each = square_sums(found, scale)?;
        let total = each.iter().map(|(_, sum)| sum).sum();
        Ok(Self { each, total, scale })
    }

    /// ‖g‖ of all.
    fn norm(&self) -> f64 {
        self.total.sqrt() / self.scale
    }

    /// An upper bound of ‖g‖ after clipping by `map`, for a gradient with this sum.
    fn mapped(&self, sum: f64, map: GradientMap, elements: usize) -> f64 {
        (sum.sqrt() * map.scale / self.scale).min((elements as f64).sqrt() * map.limit)
    }
}

fn square_sums(found: &[Option<Tensor>], scale: f64) -> Result<Vec<(usize, f64)>> {
    let (mut sums, mut far) = (Vec::with_capacity(found.len()), Vec::new());
    for (i, grad) in found.iter().enumerate() {
        let Some(grad) = grad.as_ref().filter(|g| g.elem_count() > 0) else { continue };
        let (storage, layout) = grad.storage_and_layout();
        match &*storage {
            Storage::Cpu(data) => {
                sums.push((i, dispatch!(grad.dtype(), E => square_sum(cpu::slice::<E>(data, layout)?, scale))));
            }
            _ => far.push((i, grad.to_dtype(compute_dtype(grad.dtype()))?)),
        }
    }
    sums.extend(far_square_sums(&far, scale)?);
    Ok(sums)
}

/// Sums of squares on a device, in the type of the computation. Those that leave its range are computed again, from numbers divided by the largest.
fn far_square_sums(far: &[(usize, Tensor)], scale: f64) -> Result<Vec<(usize, f64)>> {
    // Not all devices have double precision.
    let read = |scalars: Vec<Tensor>| match scalars.is_empty() {
        true => Ok(vec![]),
        false => Tensor::stack(&scalars, 0)?.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.to_vec1::<f64>(),
    };
    let mut all = Vec::with_capacity(far.len());
    for dtype in [DType::F32, DType::F64] {
        let of_type: Vec<&(usize, Tensor)> = far.iter().filter(|(_, g)| g.dtype() == dtype).collect();
        let sums = read(of_type.iter().map(|(_, g)| g.sqr()?.sum_all()).collect::<candle_core::Result<_>>()?)?;
        for ((i, g), mut sum) in of_type.into_iter().zip(sums) {
            let mut over = 1.0;
            if !sum.is_finite() || sum == 0.0 {
                let largest = read(vec![g.abs()?.max_all()?])?[0];
                over = if largest > 0.0 { largest } else { 1.0 };
                sum = read(vec![(g / over)?.sqr()?.sum_all()?])?[0];
            }
            all.push((*i, sum * (over * scale).powi(2)));
        }
    }
    Ok(all)
}

/// Σ(scale·x)² in double precision, chunk by chunk.
fn square_sum<E: Element>(xs: &[E], scale: f64) -> f64 {
    if scale == 1.0 { square_sum_of::<E, false>(xs, scale) } else { square_sum_of::<E, true>(xs, scale) }
}

fn square_sum_of<E: Element, const SCALED: bool>(xs: &[E], scale: f64) -> f64 {
    const LANES: usize = 16;
    let mut partial = vec![0.0; xs.len().div_ceil(CHUNK)];
    let jobs: Vec<_> = xs.chunks(CHUNK).zip(&mut partial).collect();
    cpu::for_each(
        jobs,
        #[inline(always)]
        |(chunk, sum): (&[E], &mut f64)| {
            let mut wide = [<E::Compute as Number>::ZERO; BLOCK];
            let mut lanes = [0.0; LANES];
            for block in chunk.chunks(BLOCK) {
                for xs in E::read(block, &mut wide).chunks(LANES) {
                    for (lane, x) in lanes.iter_mut().zip(xs) {
                        let x = if SCALED { x.to_f64() * scale } else { x.to_f64() };
                        *lane += x * x;
                    }
                }
            }
            *sum = lanes.iter().sum();
        },
    );
    partial.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What devices do, on the CPU's tensors: n squares of s sum to n s².
    #[test]
    fn sums_of_a_device_reach_as_far_as_the_cpus() {
        for (dtype, s, scale) in [
            (DType::F32, 1e30, 1.0),
            (DType::F32, 1e-30, 1.0),
            (DType::F32, 2.0, 1.0),
            (DType::F64, 1e200, Squares::SMALLER),
            (DType::F64, 1e-200, Squares::LARGER),
        ] {
            let g = (Tensor::ones(50, DType::F64, &Device::Cpu).unwrap() * s).unwrap().to_dtype(dtype).unwrap();
            let far = far_square_sums(&[(3, g)], scale).unwrap();
            let expected = 50.0 * (s * scale).powi(2);
            // Single precision's rounding of s, and of the sum.
            assert!(far[0].0 == 3 && (far[0].1 / expected - 1.0).abs() < 1e-5, "{s:e}: {far:?}");
        }
        let nan = Tensor::new(&[1.0f32, f32::NAN], &Device::Cpu).unwrap();
        assert!(!far_square_sums(&[(0, nan)], 1.0).unwrap()[0].1.is_finite());
        let inf = Tensor::new(&[1.0f32, f32::INFINITY], &Device::Cpu).unwrap();
        assert!(!far_square_sums(&[(0, inf)], 1.0).unwrap()[0].1.is_finite());
    }
}
