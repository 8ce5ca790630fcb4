//! What a step is given: gradients, a closure that evaluates the loss, statistics of the layers.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::config::options::Options;
use crate::engine::param_state::{ParamState, compute_dtype};
use crate::engine::report::StepOutcome;
use crate::error::Result;

/// What an optimizer's step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepInput {
    /// The gradients of a batch ([`Driver::step_report`](crate::Driver::step_report)).
    #[default]
    Gradients,
    /// A closure that evaluates loss and gradients as often as a line search asks ([`Driver::step_with`](crate::Driver::step_with)). Gradients alone
    /// make a step without a search.
    Closure,
    /// The gradients, and before them what the layers saw of the batch ([`Driver::observe`](crate::Driver::observe)).
    LayerStatistics,
}

/// Evaluates the loss and its gradients at the parameters as they are.
pub type Closure<'a> = dyn FnMut() -> Result<(f64, GradStore)> + 'a;

/// What a line search moves: the parameters, what surrounds the rule, and η with the schedule's factor.
#[derive(Debug)]
pub struct Search<'a> {
    pub(crate) params: &'a mut [ParamState],
    pub(crate) options: &'a Options,
    pub(crate) lr: f64,
}

/// What came of a line search.
#[derive(Debug)]
pub struct Searched {
    /// Numbers of the parameters that had a gradient.
    pub(crate) moved: Vec<usize>,
    pub(crate) outcome: StepOutcome,
    /// ‖g‖ where the search began.
    pub(crate) gradient_norm: f64,
    pub(crate) converged: bool,
}

/// What a layer saw of one batch: E[ā āᵀ] and E[e eᵀ].
#[derive(Debug, Clone)]
pub struct LayerRecord {
    pub(crate) layer: String,
    pub(crate) inputs: Tensor,
    pub(crate) outputs: Tensor,
}

impl LayerRecord {
    /// Of linear layer `layer` (the part of its parameters' names before `.weight`), from its inputs, (samples, in), and the gradients of the mean loss
    /// in its outputs, (samples, out).
    ///
    /// # Errors
    /// Those of candle, as for shapes that do not fit.
    pub fn linear(layer: &str, inputs: &Tensor, output_gradients: &Tensor) -> Result<Self> {
        let samples = inputs.dim(0)? as f64;
        Self::of(layer, inputs, output_gradients, 1.0 / samples, samples)
    }

    /// Of a convolution, from its inputs as patches, (samples · positions, in · height · width), and the gradients of the mean loss in its outputs,
    /// (samples · positions, out).
    ///
    /// # Errors
    /// Those of candle, as for shapes that do not fit.
    pub fn convolution(layer: &str, samples: usize, patches: &Tensor, output_gradients: &Tensor) -> Result<Self> {
        let (samples, rows) = (samples as f64, patches.dim(0)? as f64);
        Self::of(layer, patches, output_gradients, 1.0 / samples, samples * samples / rows)
    }

    fn of(layer: &str, inputs: &Tensor, gradients: &Tensor, input_scale: f64, output_scale: f64) -> Result<Self> {
        let wide = |x: &Tensor| x.detach().to_dtype(compute_dtype(x.dtype()));
        let (x, e) = (wide(inputs)?, wide(gradients)?);
        let ones = Tensor::ones((x.dim(0)?, 1), x.dtype(), x.device())?;
        let x = Tensor::cat(&[&x, &ones], 1)?;
        let gram = |x: &Tensor, scale: f64| (x.t()?.matmul(x)? * scale)?.to_device(&Device::Cpu);
        let (inputs, outputs) = (gram(&x, input_scale)?, gram(&e, output_scale)?);
        Ok(Self { layer: layer.to_string(), inputs, outputs })
    }
}
