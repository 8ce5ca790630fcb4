//! What a step is given: gradients, a closure that evaluates the loss, statistics of the layers.

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor};

use crate::config::options::{Clip, Options};
use crate::engine::param_state::{ParamState, compute_dtype};
use crate::engine::report::StepOutcome;
use crate::error::{Error, Result, check};

/// What an optimizer's step needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
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

impl StepInput {
    /// Whether a step that is given this can be taken with `options`: a line search compares losses, and knows nothing of gradients that are clipped, or
    /// added up over several batches. A step of gradients alone can be taken with all.
    ///
    /// # Errors
    /// [`Error::Config`] for the option that keeps a search from being made.
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

/// Evaluates the loss and its gradients at the parameters as they are.
pub type Closure<'a> = dyn FnMut() -> Result<(f64, GradStore)> + 'a;

/// What a line search moves: the parameters, what surrounds the rule, and η with the schedule's factor.
///
/// What is in it can be reached inside this crate alone: a line search written outside it has no use for it yet.
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
    /// [`Error::Parameter`] for a batch without samples, or gradients of another number of samples; those of candle, as for shapes that do not fit.
    pub fn linear(layer: &str, inputs: &Tensor, output_gradients: &Tensor) -> Result<Self> {
        let samples = inputs.dim(0)?;
        fit(layer, samples > 0, "a batch of at least 1 sample", samples)?;
        let (rows, expected) =
            (output_gradients.dim(0)?, format!("gradients of {samples} samples, as many as the inputs have"));
        fit(layer, rows == samples, &expected, rows)?;
        let samples = samples as f64;
        Self::of(layer, inputs, output_gradients, 1.0 / samples, samples)
    }

    /// Of a convolution, from its inputs as patches, (samples · positions, in · height · width), and the gradients of the mean loss in its outputs,
    /// (samples · positions, out).
    ///
    /// # Errors
    /// [`Error::Parameter`] for a batch without samples, patches of no whole number of positions for each, or gradients of another number of positions;
    /// those of candle, as for shapes that do not fit.
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
