//! The tensors of state that an optimizer keeps for a parameter.

use std::borrow::Cow;

use candle_core::{DType, Var};

use crate::error::Result;

/// Description of a tensor of state that an optimizer keeps for each parameter and saves: its name, shape and initial value.
#[derive(Debug, Clone, PartialEq)]
pub struct Buffer {
    /// Name in saved state.
    pub name: Cow<'static, str>,
    /// The parameter's, where not said.
    pub shape: Option<Vec<usize>>,
    /// What it holds before the first step.
    pub initial: Initial,
}

/// What a buffer holds before the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Initial {
    /// This number in every place.
    Value(f64),
    /// The parameter.
    Parameter,
    /// This multiple of the unit matrix.
    Diagonal(f64),
}

impl Buffer {
    /// A buffer of the parameter's shape, zero at first.
    pub fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), shape: None, initial: Initial::Value(0.0) }
    }

    /// The same buffer with another shape than the parameter's.
    #[must_use]
    pub fn shaped(self, shape: impl Into<Vec<usize>>) -> Self {
        Self { shape: Some(shape.into()), ..self }
    }

    /// The same buffer, filled with `value` before the first step.
    #[must_use]
    pub fn filled(self, value: f64) -> Self {
        Self { initial: Initial::Value(value), ..self }
    }

    /// The same buffer, a copy of the parameter before the first step.
    #[must_use]
    pub fn of_parameter(self) -> Self {
        Self { initial: Initial::Parameter, ..self }
    }

    /// The same buffer, `value` times the identity matrix before the first step; its shape must be a square matrix.
    #[must_use]
    pub fn diagonal(self, value: f64) -> Self {
        Self { initial: Initial::Diagonal(value), ..self }
    }

    /// Name of the buffer; it is saved as `PARAMETER.NAME`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape, for a parameter of shape `of`.
    pub(crate) fn dims<'a>(&'a self, of: &'a [usize]) -> &'a [usize] {
        self.shape.as_deref().unwrap_or(of)
    }

    /// What it holds before the first step, for parameter `var`.
    pub(crate) fn values(&self, var: &Var) -> Result<Vec<f64>> {
        let dims = self.dims(var.dims());
        let mut values = match self.initial {
            Initial::Value(x) => vec![x; dims.iter().product()],
            Initial::Parameter => var.as_detached_tensor().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?,
            Initial::Diagonal(_) => vec![0.0; dims.iter().product()],
        };
        if let Initial::Diagonal(x) = self.initial {
            values.iter_mut().step_by(dims[0] + 1).for_each(|v| *v = x);
        }
        Ok(values)
    }
}

impl From<&'static str> for Buffer {
    fn from(name: &'static str) -> Self {
        Self::new(name)
    }
}

/// Name of the buffer of [`Rounding::Compensated`](crate::Rounding::Compensated) in saved state.
pub(crate) const COMPENSATION: &str = "compensation";
