//! One parameter's part in a step.

use candle_core::Tensor;
use rayon::prelude::*;

use crate::cpu;
use crate::error::{Error, Result};
use crate::gradient_map::GradientMap;
use crate::param_state::ParamState;
use crate::state::compute_dtype;

/// One parameter's part in a step: the parameter, its gradient (detached, contiguous, checked) and its state.
#[derive(Debug)]
pub struct ParamStep<'a> {
    /// The parameter and its state.
    pub param: &'a mut ParamState,
    /// Its gradient as it was given, or the mean of those accumulated; neither clipped nor converted. [`ParamStep::gradient`] is both.
    pub grad: Tensor,
    /// η of this parameter: schedule and group included.
    pub lr: f64,
    /// Clipping that is still to be applied to `grad`.
    pub map: GradientMap,
}

/// Runs `f` on every parameter, on all threads where that pays.
pub(crate) fn for_each<T: Send>(
    work: &mut [ParamStep<'_>],
    f: impl Fn(&mut ParamStep<'_>) -> Result<T> + Sync + Send,
) -> Result<Vec<T>> {
    if cpu::worth_threads(work.iter().map(|w| w.grad.elem_count()).sum()) {
        work.par_iter_mut().with_max_len(1).map(f).collect()
    } else {
        work.iter_mut().map(f).collect()
    }
}

impl ParamStep<'_> {
    /// The parameter's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.param.name
    }

    /// The parameter's steps so far, including this one.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.param.steps
    }

    /// η of this parameter, with the factors of schedule and group.
    #[must_use]
    pub fn lr(&self) -> f64 {
        self.lr
    }

    /// Weight decay of this parameter: its group's, or `default` if no group sets it.
    #[must_use]
    pub fn weight_decay(&self, default: f64) -> f64 {
        self.param.settings.weight_decay.unwrap_or(default)
    }

    /// θ, in the type of the computation (`f32` for half precision).
    ///
    /// # Errors
    /// Those of candle.
    pub fn theta(&self) -> Result<Tensor> {
        self.param.theta()
    }

    /// The gradient, accumulated and clipped, in the type of the computation (`f32` for half precision).
    ///
    /// # Errors
    /// Those of candle.
    pub fn gradient(&self) -> Result<Tensor> {
        Ok(self.map.apply_tensor(self.grad.to_dtype(compute_dtype(self.grad.dtype()))?)?)
    }

    /// The current values of [`Rule::buffers`](crate::Rule::buffers), in their order. On the CPU these are copies.
    ///
    /// # Errors
    /// Those of candle.
    pub fn buffers(&self) -> Result<Vec<Tensor>> {
        self.param.state.tensors(&self.param.var, &self.param.buffers)
    }

    /// Sets buffer number `k`, from 0, to `value`.
    ///
    /// # Errors
    /// [`Error::State`] if there is no such buffer or `value` has another shape; errors of candle.
    pub fn set_buffer(&mut self, k: usize, value: &Tensor) -> Result<()> {
        let expected = self.param.buffers.get(k).map(|buffer| buffer.dims(self.param.var.dims()));
        self.fits(&format!("buffer {k}"), expected, value)?;
        self.param.state.set(k, value)
    }

    /// The numbers kept for this parameter, in the order of [`Rule::numbers`](crate::Rule::numbers).
    pub fn numbers_mut(&mut self) -> &mut [f64] {
        &mut self.param.numbers
    }

    /// Sets the direction to `u`. [`Rule::directions`](crate::Rule::directions) calls it for every parameter.
    ///
    /// # Errors
    /// [`Error::State`] if `u` does not have the parameter's shape, [`Error::Rule`] if the rule has no scratch; errors of candle.
    pub fn set_direction(&mut self, u: &Tensor) -> Result<()> {
        self.param.has_scratch()?;
        self.fits("direction", Some(self.param.var.dims()), u)?;
        self.param.state.set(self.param.buffers.len(), u)
    }

    fn fits(&self, entry: &str, expected: Option<&[usize]>, value: &Tensor) -> Result<()> {
        if expected == Some(value.dims()) {
            return Ok(());
        }
        let expected = expected.map_or("no such entry".to_string(), |dims| format!("shape {dims:?}"));
        let name = format!("{}.{entry}", self.param.name);
        Err(Error::State { name, expected, got: format!("shape {:?}", value.dims()) })
    }
}
