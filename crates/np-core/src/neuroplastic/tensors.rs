//! The passes as tensor operations, for CUDA and Metal; on the CPU they check the passes of `cpu`.

use candle_core::Tensor;

use super::NeuroPlasticConfig;
use super::formulation::Formulation;
use super::passes::{AlphaSums, Combination, Modulation, Passes, Shape, Sums, Watch};
use crate::engine::buffer::Buffer;
use crate::engine::elementwise::{Elementwise, StepInfo, direction_on};
use crate::engine::param_state::{State, compute_dtype};
use crate::engine::param_step::ParamStep;
use crate::engine::tensor_ops;
use crate::error::Result;

/// All tensors of one type, on one device.
pub(super) struct TensorPasses<'a, 'w, 's> {
    config: &'a NeuroPlasticConfig,
    watch: Watch,
    work: &'a mut [&'w mut ParamStep<'s>],
}

/// A tensor's buffers, and what the passes read, in the type that is computed in.
struct View<'a> {
    g: Tensor,
    theta: Tensor,
    state: &'a mut Vec<Tensor>,
    /// Where among `state` x is; a hybrid's b comes after it.
    x: usize,
    /// Where μ of a hybrid's base is, and what it is multiplied with.
    mu: (usize, f64),
    steps: u64,
    weight_decay: f64,
}

impl<'a, 'w, 's> TensorPasses<'a, 'w, 's> {
    pub(super) fn new(config: &'a NeuroPlasticConfig, watch: Watch, work: &'a mut [&'w mut ParamStep<'s>]) -> Self {
        Self { config, watch, work }
    }

    /// Runs `f` on every tensor; it gives scalars as tensors of no dimension, and all of them cross from the device at once.
    fn pass(
        &mut self,
        f: impl Fn(usize, View<'_>) -> candle_core::Result<Vec<Tensor>>,
        unpack: impl Fn(&mut Sums, &[f64]),
    ) -> Result<Vec<Sums>> {
        let mut scalars = Vec::new();
        let mut elements = Vec::new();
        for (i, w) in self.work.iter_mut().enumerate() {
            let dtype = compute_dtype(w.grad.dtype());
            let param = &mut *w.param;
            let State::Tensors(state) = &mut param.state else { continue };
            elements.push(w.grad.elem_count());
            if w.grad.elem_count() == 0 {
                continue;
            }
            let g = w.map.apply_tensor(w.grad.to_dtype(dtype)?)?;
            let theta = param.var.as_detached_tensor().to_dtype(dtype)?;
            let weight_decay = param.settings.weight_decay.unwrap_or(self.config.weight_decay);
            let (x, mu, steps) = (param.buffers.len(), mu(self.config, &param.buffers, param.steps), param.steps);
            scalars.extend(f(i, View { g, theta, state, x, mu, steps, weight_decay })?);
        }
        let filled = elements.iter().filter(|n| **n > 0).count();
        let values: Vec<f64> = match scalars.is_empty() {
            true => vec![],
            false => Tensor::stack(&scalars, 0)?.to_dtype(candle_core::DType::F64)?.to_vec1()?,
        };
        let mut each = values.chunks((values.len() / filled.max(1)).max(1));
        let sums = elements.into_iter().map(|elements| {
            let mut sums = Sums { elements, ..Sums::default() };
            if elements > 0
                && let Some(values) = each.next()
            {
                unpack(&mut sums, values);
            }
            sums
        });
        Ok(sums.collect())
    }
}

/// Which buffer holds μ of the base, and what it is multiplied with.
pub(super) fn mu(config: &NeuroPlasticConfig, buffers: &[Buffer], steps: u64) -> (usize, f64) {
    let Formulation::Hybrid(hybrid) = &config.formulation else { return (0, 1.0) };
    let mut at = StepInfo { t: steps, lr: 0.0, weight_decay: 0.0, numbers: &mut [] };
    let scale = hybrid.base.adamw().map_or(1.0, |c| c.scalars::<f64>(&mut at).correction1());
    let found = hybrid
        .base
        .momentum()
        .and_then(|name| buffers.iter().position(|b| b.name().strip_prefix("base_") == Some(name)));
    (found.unwrap_or(0), scale)
}

fn dot(x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    (x * y)?.sum_all()
}

/// Elements that are not finite become 0.
fn finite(x: &Tensor) -> candle_core::Result<Tensor> {
    // 0·x is 0 for what is finite, and not a number for the rest.
    let zero = x.zeros_like()?;
    (x * 0.0)?.eq(&zero)?.where_cond(x, &zero)
}

impl Passes for TensorPasses<'_, '_, '_> {
    fn traces(&mut self) -> Result<Vec<Sums>> {
        let config = self.config;
        let (k, eps) = (&config.traces, config.signals.eps);
        let run = |_: usize, View { g, theta, state, x, steps, weight_decay, .. }: View<'_>| {
            let average = |x: &Tensor, decay: f64, new: &Tensor| (x * decay)? + (new * (1.0 - decay))?;
            state[0] = average(&state[0], k.activity_decay, &g.abs()?)?;
            state[1] = average(&state[1], k.beta1, &g)?;
            state[2] = average(&state[2], k.beta2, &g.sqr()?)?;
            let q = (state[1].abs()? / (state[2].sqrt()? + eps)?)?;
            let mut b2 = g.sqr()?.sum_all()?.zeros_like()?;
            if let Formulation::Hybrid(hybrid) = &config.formulation {
                let mut at = StepInfo { t: steps, lr: 0.0, weight_decay: 0.0, numbers: &mut [] };
                let buffers = &mut state[3..x];
                let b = match (hybrid.base.adamw(), hybrid.base.sgd()) {
                    (Some(adamw), _) => direction_on(&adamw, &mut at, &theta, &g, buffers)?,
                    (_, Some(sgd)) => {
                        let g = (&g + (&theta * weight_decay)?)?;
                        direction_on(&sgd, &mut at, &theta, &g, buffers)?
                    }
                    (None, None) => state[x + 1].clone(),
                };
                b2 = b.sqr()?.sum_all()?;
                state[x + 1] = b;
            }
            let sums = vec![
                g.abs()?.sum_all()?,
                state[0].sum_all()?,
                q.sum_all()?,
                g.sqr()?.sum_all()?,
                theta.sqr()?.sum_all()?,
                b2,
            ];
            state[x] = q;
            Ok(sums)
        };
        self.pass(run, |sums, v| {
            sums.signals = [v[0], v[1], v[2]];
            (sums.g2, sums.theta2, sums.b2) = (v[3], v[4], v[5]);
        })
    }

    fn modulate(&mut self, each: &[Modulation]) -> Result<Vec<Sums>> {
        let watch = self.watch;
        let run = |i: usize, View { g, theta, state, x: buffer, mu, .. }: View<'_>| {
            let how = &each[i];
            let (alpha_g, alpha) = how.alpha.at_tensors(&g.abs()?, &state[0], &state[buffer])?;
            let delta = ((&alpha - &alpha_g)? * &g)?;
            let x = match how.shape {
                Shape::Direct { weight_decay } => ((&alpha * &g)? + (theta * weight_decay)?)?,
                Shape::Residual => ((&alpha - 1.0)? * &g)?,
                Shape::Signal => finite(&delta)?,
                Shape::Base { kb, km } => {
                    let b = (&state[buffer + 1] * kb)?;
                    let target = if km == 0.0 { b } else { (b + (&state[mu.0] * (km * mu.1))?)? };
                    ((&alpha - 1.0)? * target)?
                }
            };
            let mut sums = vec![x.sqr()?.sum_all()?, dot(&x, &g)?];
            let log_ratio = match how.log_ratio {
                Some(eps) => {
                    let log = |x: &Tensor| tensor_ops::max(x, &tensor_ops::fill(x, eps)?)?.log();
                    (log(&alpha)? - log(&alpha_g)?)?.sum_all()?
                }
                None => sums[0].zeros_like()?,
            };
            sums.push(log_ratio);
            if watch == Watch::Diagnostics {
                let count = |mask: Tensor| mask.to_dtype(alpha.dtype())?.sum_all();
                let pivot = alpha.flatten_all()?.get(0)?;
                let off = alpha.broadcast_sub(&pivot)?;
                sums.extend([
                    delta.sqr()?.sum_all()?,
                    pivot,
                    off.sum_all()?,
                    off.sqr()?.sum_all()?,
                    alpha.min_all()?,
                    alpha.max_all()?,
                    count(alpha.le(how.near[0])?)?,
                    count(alpha.ge(how.near[1])?)?,
                ]);
            }
            state[buffer] = x;
            Ok(sums)
        };
        self.pass(run, |sums, v| {
            (sums.out2, sums.out_g, sums.log_ratio) = (v[0], v[1], v[2]);
            if let [delta2, pivot, off, off2, min, max, near_min, near_max] = v[3..] {
                let [sum, squares] = AlphaSums::about(sums.elements as f64, pivot, [off, off2]);
                sums.delta2 = delta2;
                sums.alpha = AlphaSums { sum, squares, min, max, near_min, near_max };
            }
        })
    }

    fn combine(&mut self, each: &[Combination]) -> Result<Vec<Sums>> {
        let run = |i: usize, View { g, theta, state, x: buffer, .. }: View<'_>| {
            let how = &each[i];
            let mut x = ((&g * how.g)? + (&state[buffer] * how.x)?)?;
            if how.b != 0.0 {
                x = (x + (&state[buffer + 1] * how.b)?)?;
            }
            if how.theta != 0.0 {
                x = (x + (theta * how.theta)?)?;
            }
            if how.finite {
                x = finite(&x)?;
            }
            let sums = vec![x.sqr()?.sum_all()?, dot(&x, &g)?];
            state[buffer] = x;
            Ok(sums)
        };
        self.pass(run, |sums, v| (sums.out2, sums.out_g) = (v[0], v[1]))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor, Var};

    use crate::neuroplastic::{Coefficient, Granularity, Normalization, Signals};
    use crate::{Backend, Driver, NeuroPlasticConfig};

    /// Sums of 4096 equal numbers of single precision, taken in single precision, are not 4096 times the number: their variance is taken about one of them.
    #[test]
    fn a_coefficient_for_a_tensor_has_no_deviation() {
        for scale in [0.3, 0.7, 1.1, 1.7] {
            let config = NeuroPlasticConfig {
                coefficient: Coefficient { granularity: Granularity::Tensor, ..Coefficient::default() },
                signals: Signals { normalization: Normalization::None, ..Signals::default() },
                ..NeuroPlasticConfig::default()
            };
            let numbers: Vec<f32> = (0..4096u16).map(|i| (f32::from(i % 61) / 30.0 - 1.0) * scale).collect();
            let w = Var::from_tensor(&Tensor::new(numbers, &Device::Cpu).unwrap()).unwrap();
            let named = vec![("w".to_string(), w.clone())];
            let mut optimizer = Driver::with_backend(named, config, Backend::Tensors).unwrap();
            let loss = w.as_tensor().sqr().unwrap().sum_all().unwrap();
            optimizer.backward_step_report(&loss).unwrap();
            let found = optimizer.diagnostics();
            assert_eq!((found["alpha_std"], found["alpha_min"]), (0.0, found["alpha_max"]));
        }
    }
}
