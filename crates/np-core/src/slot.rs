//! One parameter with all that an optimizer keeps for it.

use candle_core::{DType, Tensor, Var};

use crate::options::Settings;
use crate::{Error, Float, Result};

/// How steps are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// In place on the CPU, tensor operations elsewhere.
    #[default]
    Auto,
    /// Tensor operations everywhere: what CUDA and Metal use. On the CPU it is slow, and serves to check one against the other.
    Tensors,
}

/// State of one parameter, in the order of [`crate::Rule::buffers`].
#[derive(Debug)]
pub(crate) enum State {
    F32(Vec<Vec<f32>>),
    F64(Vec<Vec<f64>>),
    Tensors(Vec<Tensor>),
}

/// A named parameter, its step count and its state.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) var: Var,
    /// Position in the model's order, from 0.
    pub(crate) index: usize,
    /// Steps taken with a gradient for this parameter.
    pub(crate) steps: u64,
    pub(crate) state: State,
    /// What the groups say of it.
    pub(crate) settings: Settings,
    /// Mean of the gradients since the last update, where gradients are accumulated; and whether there was one.
    pub(crate) accumulated: Option<Tensor>,
    pub(crate) has_gradient: bool,
}

/// One parameter's part in a step: the parameter, its gradient (detached, contiguous, checked) and its state.
#[derive(Debug)]
pub struct Work<'a> {
    pub(crate) slot: &'a mut Slot,
    pub(crate) grad: Tensor,
    /// η of this parameter: schedule and group included.
    pub(crate) lr: f64,
    pub(crate) map: GradientMap,
}

impl Work<'_> {
    /// wd of this parameter, where the optimizer's is `default`.
    pub(crate) fn weight_decay(&self, default: f64) -> f64 {
        self.slot.settings.weight_decay.unwrap_or(default)
    }
}

/// g ← clip(scale · g, ±limit), applied wherever a gradient is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct GradientMap {
    pub(crate) scale: f64,
    pub(crate) limit: f64,
}

impl GradientMap {
    pub(crate) const IDENTITY: Self = Self { scale: 1.0, limit: f64::INFINITY };

    /// On a block that is computed with.
    #[inline(always)]
    pub(crate) fn apply<T: Float>(self, block: &mut [T]) {
        if self == Self::IDENTITY {
            return;
        }
        let (scale, limit) = (T::from_f64(self.scale), T::from_f64(self.limit));
        for x in block {
            *x = (scale * *x).clip(-limit, limit);
        }
    }

    /// On a tensor.
    pub(crate) fn apply_tensor(self, g: Tensor) -> candle_core::Result<Tensor> {
        let g = if self.scale == 1.0 { g } else { (g * self.scale)? };
        if self.limit == f64::INFINITY { Ok(g) } else { g.clamp(-self.limit, self.limit) }
    }
}

/// The type that a parameter's state is kept and computed in.
pub(crate) fn compute_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}

impl State {
    /// `buffers` zeroed buffers for `var`.
    pub(crate) fn zeros(var: &Var, buffers: usize, backend: Backend) -> Result<Self> {
        let (count, dtype) = (var.elem_count(), compute_dtype(var.dtype()));
        if backend == Backend::Tensors || !var.device().is_cpu() {
            let zeros = || Ok(Tensor::zeros(var.shape(), dtype, var.device())?);
            return Ok(Self::Tensors((0..buffers).map(|_| zeros()).collect::<Result<_>>()?));
        }
        Ok(match dtype {
            DType::F64 => Self::F64(vec![vec![0.0; count]; buffers]),
            _ => Self::F32(vec![vec![0.0; count]; buffers]),
        })
    }

    /// The buffers as tensors of the shape and on the device of `var`; copies, on the CPU.
    pub(crate) fn tensors(&self, var: &Var) -> Result<Vec<Tensor>> {
        let (shape, device) = (var.shape(), var.device());
        match self {
            Self::F32(buffers) => buffers.iter().map(|b| Ok(Tensor::from_slice(b, shape.clone(), device)?)).collect(),
            Self::F64(buffers) => buffers.iter().map(|b| Ok(Tensor::from_slice(b, shape.clone(), device)?)).collect(),
            Self::Tensors(tensors) => Ok(tensors.clone()),
        }
    }

    /// Sets buffer `k` to `value`, whose shape has been checked.
    pub(crate) fn set(&mut self, k: usize, value: &Tensor) -> Result<()> {
        match self {
            Self::F32(buffers) => buffers[k] = value.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?,
            Self::F64(buffers) => buffers[k] = value.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?,
            Self::Tensors(tensors) => {
                let (dtype, device) = (tensors[k].dtype(), tensors[k].device().clone());
                tensors[k] = value.to_dtype(dtype)?.to_device(&device)?.copy()?;
            }
        }
        Ok(())
    }
}

impl Slot {
    /// A slot for parameter `name`, once it has been seen that it can be optimised.
    pub(crate) fn new(name: String, var: Var, index: usize, buffers: usize, backend: Backend) -> Result<Self> {
        if !var.dtype().is_float() || !matches!(var.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            let expected = "data type f32, f64, f16 or bf16".to_string();
            return Err(Error::Parameter { name, expected, got: var.dtype().as_str().to_string() });
        }
        if !var.is_contiguous() {
            let got = format!("strides {:?} for shape {:?}", var.stride(), var.dims());
            return Err(Error::Parameter { name, expected: "a contiguous tensor".to_string(), got });
        }
        let state = State::zeros(&var, buffers, backend)?;
        let (settings, accumulated) = (Settings::default(), None);
        Ok(Self { name, var, index, steps: 0, state, settings, accumulated, has_gradient: false })
    }

    /// The gradient as rules want it: of the parameter's shape and type, contiguous, without its graph.
    pub(crate) fn checked_grad(&self, grad: &Tensor) -> Result<Tensor> {
        let mismatch = |expected: String, got: String| Error::Gradient { name: self.name.clone(), expected, got };
        if grad.dims() != self.var.dims() {
            return Err(mismatch(format!("shape {:?}", self.var.dims()), format!("shape {:?}", grad.dims())));
        }
        if grad.dtype() != self.var.dtype() {
            return Err(mismatch(self.var.dtype().as_str().to_string(), grad.dtype().as_str().to_string()));
        }
        // An average of a gradient that still carries its graph would keep every step's graph alive.
        Ok(grad.detach().contiguous()?)
    }
}
