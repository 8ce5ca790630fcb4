//! Inputs of a step: gradients, a closure that evaluates the loss, statistics of the layers.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::config::options::{Clip, Options};
use crate::error::{Error, Result, check};
use crate::param_state::ParamState;
use crate::report::StepOutcome;
use crate::state::compute_dtype;

/// What an optimizer's step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepInput {
    /// The gradients of a batch ([`Driver::step_report`](crate::Driver::step_report)). The default.
    #[default]
    Gradients,
    /// A closure that a line search calls as often as it needs ([`Driver::step_with`](crate::Driver::step_with)). A step with gradients alone
    /// makes no search.
    Closure,
    /// The gradients of a batch and, before them, the layers' records of it ([`Driver::observe`](crate::Driver::observe)).
    LayerStatistics,
}

impl StepInput {
    /// `Ok` if a step with this input can be taken with `options`. A line search compares losses of one batch, so that gradients can be neither clipped nor
    /// accumulated. The other inputs can be used with all options.
    ///
    /// # Errors
    /// [`Error::Config`] for the option that a line search cannot be used with.
    pub fn suits(self, options: &Options) -> Result<()> {
        if self != Self::Closure {
            return Ok(());
        }
        let calls = options.accumulate.0.get();
        check(calls == 1, "accumulate", "1 with an optimizer that searches along a line", calls)?;
        let clip = match options.clip {
            None => return Ok(()),
            Some(Clip::Norm(c)) => format!("norm: {c}"),
            Some(Clip::Value(c)) => format!("value: {c}"),
        };
        check(false, "clip", "none with an optimizer that searches along a line", clip)
    }
}

/// Returns the loss and its gradients at the current parameters.
pub type Closure<'a> = dyn FnMut() -> Result<(f64, GradStore)> + 'a;

/// The input of a line search.
#[derive(Debug)]
#[non_exhaustive]
pub struct Search<'a> {
    /// All parameters, in model order.
    pub params: &'a mut [ParamState],
    /// The options; a search is to refuse those that it cannot be used with.
    pub options: &'a Options,
    /// η times the schedule's factor.
    pub lr: f64,
}

/// The result of a line search.
#[derive(Debug)]
pub struct Searched {
    /// Numbers of the parameters that had a gradient.
    pub moved: Vec<usize>,
    /// What the step did.
    pub outcome: StepOutcome,
    /// ‖g‖ where the search began.
    pub gradient_norm: f64,
    /// Whether it met a stopping criterion.
    pub converged: bool,
}

/// A layer's statistics of one batch, for K-FAC: E[ā āᵀ] of its inputs, extended by a 1, and E[e eᵀ] of the gradients of its outputs.
#[derive(Debug, Clone)]
pub struct LayerRecord {
    /// The part of its parameters' names before `.weight`.
    pub layer: String,
    /// E[ā āᵀ], of shape (in + 1, in + 1).
    pub inputs: Tensor,
    /// E[e eᵀ], of shape (out, out).
    pub outputs: Tensor,
}

impl LayerRecord {
    /// The record of a linear layer. `layer` is the part of its parameters' names before `.weight`; `inputs` has shape (samples, in); `output_gradients`
    /// are the gradients of the loss, averaged over the batch, with respect to the layer's outputs, of shape (samples, out).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a batch without samples, or for gradients of another number of samples; errors of candle, such as for other shapes.
    pub fn linear(layer: &str, inputs: &Tensor, output_gradients: &Tensor) -> Result<Self> {
        let samples = inputs.dim(0)?;
        fit(layer, samples > 0, "a batch of at least 1 sample", samples)?;
        let (rows, expected) =
            (output_gradients.dim(0)?, format!("gradients of {samples} samples, as many as the inputs have"));
        fit(layer, rows == samples, &expected, rows)?;
        let samples = samples as f64;
        Self::of(layer, inputs, output_gradients, 1.0 / samples, samples)
    }

    /// The record of a convolution. `layer` is the part of its parameters' names before `.weight`; `patches` are its inputs as patches of shape
    /// (samples · positions, in · height · width), of the kernel's height and width; `output_gradients` are the gradients of the loss, averaged over the
    /// batch, with respect to its outputs, of shape (samples · positions, out).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a batch without samples, for a number of patches that is not a multiple of `samples`, or for gradients of another number of
    /// positions; errors of candle, such as for other shapes.
    pub fn convolution(layer: &str, samples: usize, patches: &Tensor, output_gradients: &Tensor) -> Result<Self> {
        let rows = patches.dim(0)?;
        fit(layer, samples > 0, "a batch of at least 1 sample", samples)?;
        let expected = format!("patches of {samples} samples, as many of each and at least 1");
        fit(layer, rows > 0 && rows.is_multiple_of(samples), &expected, rows)?;
        let (found, expected) =
            (output_gradients.dim(0)?, format!("gradients of {rows} positions, as many as there are patches"));
        fit(layer, found == rows, &expected, found)?;
        let (samples, rows) = (samples as f64, rows as f64);
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

/// `Ok` if `ok`, else an error of the layer's record that says what was expected, and the number that was found.
fn fit(layer: &str, ok: bool, expected: &str, got: usize) -> Result<()> {
    match ok {
        true => Ok(()),
        false => {
            let (name, expected) = (format!("{layer}.weight"), format!("a record of {expected}"));
            Err(Error::Parameter { name, expected, got: got.to_string() })
        }
    }
}
