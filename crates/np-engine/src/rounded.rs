//! Reading and writing a parameter that is rounded.

use candle_core::{DType, Tensor};
use half::{bf16, f16};

use crate::buffer::{Buffer, COMPENSATION};
use crate::config::rounding::{Rounding, Stochastic, is_half};
use crate::error::Result;
use crate::param_state::ParamState;
use crate::rounder::{Rounder, key};
use crate::state::{State, compute_dtype};

impl ParamState {
    /// The rounder of this parameter on the CPU, beside its variable and its state, which stay accessible.
    pub(crate) fn rounder(&mut self) -> (&candle_core::Var, &mut State, Rounder<'_>) {
        let (dtype, key) = (self.var.dtype(), key(&self.name, self.steps));
        let rounder = Rounder::new(self.settings.rounding, dtype, key, self.compensation.as_mut());
        (&self.var, &mut self.state, rounder)
    }

    /// The parameter in the type of the computation, with its accumulated rounding errors added.
    ///
    /// # Errors
    /// Those of candle.
    pub fn theta(&self) -> Result<Tensor> {
        let theta = self.var.as_detached_tensor().to_dtype(compute_dtype(self.var.dtype()))?;
        match &self.compensation {
            Some(left) if theta.elem_count() > 0 => {
                let left = left.tensors(&self.var, &[Buffer::new(COMPENSATION)])?;
                Ok((theta + &left[0])?)
            }
            _ => Ok(theta),
        }
    }

    /// Sets the parameter to `value`, given in the type of the computation and rounded as the settings say.
    ///
    /// # Errors
    /// Those of candle.
    pub fn write(&mut self, value: &Tensor) -> Result<()> {
        let dtype = self.var.dtype();
        let rounded = match self.settings.rounding {
            _ if !is_half(dtype) => value.to_dtype(dtype)?,
            Rounding::Nearest => value.to_dtype(dtype)?,
            Rounding::Stochastic(Stochastic { seed }) => {
                let wide = value.flatten_all()?.to_vec1::<f32>()?;
                let rounder = || Rounder::Stochastic { key: key(&self.name, self.steps)(seed), first: 0 };
                let (shape, device) = (value.shape(), value.device());
                if dtype == DType::F16 {
                    let mut block = vec![f16::ZERO; wide.len()];
                    rounder().store(&mut block, &wide);
                    Tensor::from_vec(block, shape, device)?
                } else {
                    let mut block = vec![bf16::ZERO; wide.len()];
                    rounder().store(&mut block, &wide);
                    Tensor::from_vec(block, shape, device)?
                }
            }
            Rounding::Compensated => {
                let rounded = value.to_dtype(dtype)?;
                let stored = rounded.to_dtype(value.dtype())?;
                // 0·x is 0 for what is finite, and not a number for the rest, where there is nothing to make good.
                let zero = value.zeros_like()?;
                let left = (&stored * 0.0)?.eq(&zero)?.where_cond(&(value - &stored)?, &zero)?;
                if let Some(compensation) = &mut self.compensation {
                    compensation.set(0, &left)?;
                }
                rounded
            }
        };
        Ok(self.var.set(&rounded)?)
    }
}
