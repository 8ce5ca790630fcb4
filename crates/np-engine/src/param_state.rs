//! A parameter, with the state that an optimizer keeps for it.

use std::collections::HashSet;

use candle_core::{DType, Device, Storage, Tensor, Var};

use crate::backend::Backend;
use crate::buffer::{Buffer, COMPENSATION};
use crate::config::options::{Matrix, Settings};
use crate::config::rounding::{Rounding, is_half};
use crate::error::{Error, Result, contract};
use crate::state::State;

/// What a rule keeps for a parameter: its buffers, number of scratch tensors, and numbers before the first step.
pub(crate) struct Kept {
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) scratch: usize,
    pub(crate) numbers: Vec<f64>,
}

/// A named parameter with its step count and state. A [`ParamStep`](crate::ParamStep) has one, and methods that check what they are given; its fields are for
/// rules that work on slices.
#[derive(Debug)]
pub struct ParamState {
    /// Its name.
    pub name: String,
    /// The parameter itself.
    pub var: Var,
    /// Position in the model's order, from 0.
    pub index: usize,
    /// Steps taken with a gradient for this parameter.
    pub steps: u64,
    /// Its state.
    pub state: State,
    /// Descriptions of the first entries of `state`; the rest is scratch.
    pub buffers: Vec<Buffer>,
    /// Numbers kept beside the state, in the order of [`crate::Rule::numbers`].
    pub numbers: Vec<f64>,
    /// The rounding errors, one buffer, with compensated rounding.
    pub(crate) compensation: Option<State>,
    /// The trained weights, while their average is in the parameter.
    pub(crate) set_aside: Option<Tensor>,
    /// The trained weights that `load_state` has put into the parameter, until the next step has checked that they are there.
    pub(crate) loaded: Option<Tensor>,
    /// The settings of its groups.
    pub settings: Settings,
    /// With gradient accumulation, the mean of the gradients since the last update; and whether there was one.
    pub(crate) accumulated: Option<Tensor>,
    pub(crate) has_gradient: bool,
}

/// What new settings change of a parameter: fresh buffers, state and numbers if these change, and the compensation if that changes.
pub(crate) struct Settled {
    settings: Settings,
    state: Option<(Vec<Buffer>, State, Vec<f64>)>,
    compensation: Option<Option<State>>,
}

impl Settings {
    /// The shape of a parameter for rules: of one dimension with `matrix: off`.
    fn dims(&self, var: &Var) -> Vec<usize> {
        match self.matrix {
            Matrix::On => var.dims().to_vec(),
            Matrix::Off => vec![var.elem_count()],
        }
    }
}

impl ParamState {
    /// `Ok` if the state has a first scratch tensor, which directions go to.
    pub(crate) fn has_scratch(&self) -> Result<()> {
        let scratch = self.state.count().saturating_sub(self.buffers.len());
        contract(scratch > 0, &self.name, || {
            ("a scratch tensor for the direction (`Rule::scratch` ≥ 1)".to_string(), "none".to_string())
        })
    }

    /// The same parameter with other settings and another state, as an optimizer within an optimizer needs it.
    pub fn with_state(&self, settings: Settings, state: State, buffers: Vec<Buffer>, numbers: Vec<f64>) -> Self {
        Self {
            name: self.name.clone(),
            var: self.var.clone(),
            index: self.index,
            steps: self.steps,
            state,
            buffers,
            numbers,
            compensation: None,
            set_aside: None,
            loaded: None,
            settings,
            accumulated: None,
            has_gradient: false,
        }
    }

    /// The state of parameter `name`, after a check that it can be optimised.
    pub(crate) fn new(
        name: String,
        var: Var,
        index: usize,
        backend: Backend,
        kept: impl FnOnce(&[usize]) -> Kept,
    ) -> Result<Self> {
        if !var.dtype().is_float() || !matches!(var.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
            let expected = "data type f32, f64, f16 or bf16".to_string();
            return Err(Error::Parameter { name, expected, got: var.dtype().as_str().to_string() });
        }
        if !var.is_contiguous() {
            let got = format!("strides {:?} for shape {:?}", var.stride(), var.dims());
            return Err(Error::Parameter { name, expected: "a contiguous tensor".to_string(), got });
        }
        let Kept { buffers, scratch, numbers } = kept(var.dims());
        let state = State::fresh(&var, &buffers, scratch, backend)?;
        Ok(Self {
            name,
            var,
            index,
            steps: 0,
            state,
            buffers,
            numbers,
            compensation: None,
            set_aside: None,
            loaded: None,
            settings: Settings::default(),
            accumulated: None,
            has_gradient: false,
        })
    }

    /// Whether its steps are kernel launches: on a CUDA device, unless a half-precision parameter is rounded otherwise than to nearest.
    pub(crate) fn launches(&self, backend: Backend) -> bool {
        let nearest = self.settings.rounding == Rounding::Nearest || !is_half(self.var.dtype());
        cfg!(feature = "cuda") && backend.launches() && self.var.device().is_cuda() && nearest
    }

    /// The shape for rules: of one dimension with `matrix: off`.
    pub fn dims(&self) -> Vec<usize> {
        self.settings.dims(&self.var)
    }

    /// What `settings` change.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the state must be made again while the average is in the parameter.
    pub(crate) fn settled(
        &self,
        settings: Settings,
        backend: Backend,
        kept: impl FnOnce(&[usize]) -> Kept,
    ) -> Result<Settled> {
        let mut state = None;
        if self.settings.matrix != settings.matrix {
            self.trains()?;
            let Kept { buffers, scratch, numbers } = kept(&settings.dims(&self.var));
            let fresh = State::fresh(&self.var, &buffers, scratch, backend)?;
            state = Some((buffers, fresh, numbers));
        }
        let compensation = match (settings.rounding.compensates(self.var.dtype()), &self.compensation) {
            (true, None) => Some(Some(State::fresh(&self.var, &[Buffer::new(COMPENSATION)], 0, backend)?)),
            (false, Some(_)) => Some(None),
            _ => None,
        };
        Ok(Settled { settings, state, compensation })
    }

    /// Applies the changes of [`ParamState::settled`].
    pub(crate) fn settle(&mut self, settled: Settled) {
        self.settings = settled.settings;
        if let Some((buffers, state, numbers)) = settled.state {
            (self.steps, self.buffers, self.state, self.numbers) = (0, buffers, state, numbers);
        }
        if let Some(compensation) = settled.compensation {
            self.compensation = compensation;
        }
    }

    /// Checks that the parameter holds the trained weights.
    ///
    /// # Errors
    /// [`Error::Parameter`] while it holds their average, or if the loaded weights have been replaced by others.
    pub(crate) fn trains(&self) -> Result<()> {
        if self.set_aside.is_some() {
            return Err(self.averaged());
        }
        let bits = |x: &Tensor| {
            let numbers = x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            Ok::<Vec<u64>, Error>(numbers.into_iter().map(f64::to_bits).collect())
        };
        match &self.loaded {
            Some(loaded) if bits(loaded)? != bits(self.var.as_tensor())? => {
                let expected = "the trained weights that `load_state` has put there".to_string();
                let got = "others; hint: load parameters before the state, or call `use_weights(Weights::Trained)`"
                    .to_string();
                Err(Error::Parameter { name: self.name.clone(), expected, got })
            }
            _ => Ok(()),
        }
    }

    /// The error of a call that needs the trained weights while the parameter holds their average.
    pub(crate) fn averaged(&self) -> Error {
        let expected = "the weights that are trained".to_string();
        let got = "their average; hint: call `use_weights(Weights::Trained)`".to_string();
        Error::Parameter { name: self.name.clone(), expected, got }
    }

    /// The gradient, checked to have the parameter's shape and type, contiguous and detached.
    ///
    /// `parameters` is the memory of all parameters. A gradient that shares it is copied, because it would be overwritten while it is read.
    pub(crate) fn checked_grad(&self, grad: &Tensor, parameters: &HashSet<*const Storage>) -> Result<Tensor> {
        let mismatch = |expected: String, got: String| Error::Gradient { name: self.name.clone(), expected, got };
        if grad.dims() != self.var.dims() {
            return Err(mismatch(format!("shape {:?}", self.var.dims()), format!("shape {:?}", grad.dims())));
        }
        if grad.dtype() != self.var.dtype() {
            return Err(mismatch(self.var.dtype().as_str().to_string(), grad.dtype().as_str().to_string()));
        }
        if parameters.contains(&memory(grad)) {
            return Ok(grad.detach().force_contiguous()?.copy()?);
        }
        // An average of a gradient that still carries its graph would keep every step's graph alive.
        Ok(grad.detach().contiguous()?)
    }
}

/// The address of a tensor's storage, which identifies it.
pub(crate) fn memory(t: &Tensor) -> *const Storage {
    &raw const *t.storage_and_layout().0
}
