//! The multi-layer perceptron: its configuration, construction and forward pass.

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::layers::{Linear, MAX_PARAMETERS, ReluDropout};
use crate::{Error, Initializer, Mode, Model, Recorder, Result};

/// The shape and regularisation of an [`Mlp`].
///
/// ```
/// use np_models::MlpConfig;
///
/// let config = MlpConfig { dropout: 1.5, ..MlpConfig::default() };
/// assert_eq!(config.validate().unwrap_err().to_string(), "`dropout` must be at least 0 and below 1, got `1.5`");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Number of units of each hidden layer, first to last, at least 1 each. Empty: a linear classifier. Default [256, 256] (published
    /// protocol).
    pub hidden: Vec<usize>,
    /// Dropout probability after each hidden layer, in [0, 1). Default 0.1 (published protocol).
    pub dropout: f64,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: vec![256, 256], dropout: 0.1 }
    }
}

impl MlpConfig {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if let Some(layer) = self.hidden.iter().position(|&width| width == 0) {
            return Err(Error::config(format!("hidden[{layer}]"), "at least 1", 0));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("dropout", "at least 0 and below 1", self.dropout));
        }
        Ok(())
    }

    /// Multiply–add operations in the forward pass of one example: Σ in × out over the layers. A backward pass takes twice as many. Saturates at
    /// [`u64::MAX`].
    ///
    /// ```
    /// assert_eq!(np_models::MlpConfig::default().multiply_adds(784, 10), 784 * 256 + 256 * 256 + 256 * 10);
    /// ```
    #[must_use]
    pub fn multiply_adds(&self, inputs: usize, classes: usize) -> u64 {
        let widths: Vec<usize> = [inputs].into_iter().chain(self.hidden.iter().copied()).chain([classes]).collect();
        let of = |pair: &[usize]| (pair[0] as u64).saturating_mul(pair[1] as u64);
        widths.windows(2).fold(0, |sum, pair| sum.saturating_add(of(pair)))
    }
}

/// A multi-layer perceptron, as PyTorch's `Sequential(Linear, ReLU, Dropout, …, Linear)`.
///
/// ```text
/// h₀ = x,   hᵢ = dropout(max(Wᵢ hᵢ₋₁ + bᵢ, 0)),   logits = W h_last + b
/// ```
///
/// Parameters in order: `fc1.weight`, `fc1.bias`, `fc2.weight`, …, `head.weight`, `head.bias`; weights are \[out, in\]. Initial
/// values have the distribution of PyTorch's default for `Linear` (see [`Linear::new`]) and are drawn by an [`Initializer`].
///
/// ```
/// use candle_core::Device;
/// use np_models::{Mlp, MlpConfig, Model};
///
/// # fn main() -> np_models::Result<()> {
/// let model = Mlp::new(784, 10, &MlpConfig::default(), 41, &Device::Cpu)?;
/// assert_eq!(model.title(), "MLP 784-256-256-10");
/// assert_eq!(model.num_parameters(), 269_322);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Mlp {
    hidden: Vec<(Linear, ReluDropout)>,
    head: Linear,
}

impl Mlp {
    /// A model in `f32` with `inputs` input features and `classes` logits. `seed` determines the initial values and all dropout masks.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `config` is invalid, `inputs` or `classes` is 0, or the model has more than [`MAX_PARAMETERS`] parameters;
    /// errors of candle.
    pub fn new(inputs: usize, classes: usize, config: &MlpConfig, seed: u64, device: &Device) -> Result<Self> {
        config.validate()?;
        for (field, size) in [("inputs", inputs), ("classes", classes)] {
            if size == 0 {
                return Err(Error::config(field, "at least 1", size));
            }
        }
        if count_parameters(inputs, classes, &config.hidden).is_none_or(|count| count > MAX_PARAMETERS) {
            let expected = format!("widths that make at most {MAX_PARAMETERS} parameters");
            return Err(Error::config("hidden", expected, format!("{:?}", config.hidden)));
        }

        let mut init = Initializer::new(seed);
        let mut fan_in = inputs;
        let mut hidden = Vec::with_capacity(config.hidden.len());
        for (layer, &width) in config.hidden.iter().enumerate() {
            let linear = Linear::new(fan_in, width, &mut init, DType::F32, device)?;
            hidden.push((linear, ReluDropout::new(config.dropout, seed, layer as u64)?));
            fan_in = width;
        }
        Ok(Self { hidden, head: Linear::new(fan_in, classes, &mut init, DType::F32, device)? })
    }

    fn layers(&self) -> impl Iterator<Item = &Linear> {
        self.hidden.iter().map(|(linear, _)| linear).chain([&self.head])
    }

    fn inputs(&self) -> usize {
        self.hidden.first().map_or(&self.head, |(linear, _)| linear).inputs()
    }

    /// The name of a layer, by its place from 0.
    fn name(&self, layer: usize) -> String {
        if layer < self.hidden.len() { format!("fc{}", layer + 1) } else { "head".to_owned() }
    }

    /// The forward pass, with the linear layers as `apply` does them: from a layer's place, itself, and its input.
    fn pass(
        &self,
        x: &Tensor,
        mode: Mode,
        apply: impl Fn(usize, &Linear, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let inputs = self.inputs();
        let mut h = match x.dims() {
            [_, rest @ ..] if !rest.is_empty() && rest.iter().product::<usize>() == inputs => x.flatten_from(1)?,
            dims => {
                return Err(Error::input("the model's input", format!("[batch, {inputs}]"), format!("{dims:?}")));
            }
        };
        for (layer, (linear, activation)) in self.hidden.iter().enumerate() {
            h = activation.forward(&apply(layer, linear, &h)?, mode)?;
        }
        apply(self.hidden.len(), &self.head, &h)
    }
}

impl Model for Mlp {
    /// All dimensions after the batch are flattened: \[batch, 1, 28, 28\] and \[batch, 784\] are the same input.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.pass(x, mode, |_, linear, h| linear.forward(h))
    }

    /// The layers' names in the records are `fc1`, `fc2`, …, `head`. On a CPU in `f32` only.
    fn forward_recorded(&self, x: &Tensor, mode: Mode, recorder: &Recorder) -> Result<Tensor> {
        self.pass(x, mode, |layer, linear, h| linear.forward_recorded(h, &self.name(layer), recorder))
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        self.layers()
            .enumerate()
            .map(|(i, layer)| (self.name(i), layer))
            .flat_map(|(name, layer)| {
                [(format!("{name}.weight"), layer.weight().clone()), (format!("{name}.bias"), layer.bias().clone())]
            })
            .collect()
    }

    fn title(&self) -> String {
        let widths = self.layers().map(|layer| format!("-{}", layer.outputs())).collect::<String>();
        format!("MLP {}{widths}", self.inputs())
    }
}

/// `None` where the number does not fit.
fn count_parameters(inputs: usize, classes: usize, hidden: &[usize]) -> Option<usize> {
    let (mut total, mut fan_in) = (0usize, inputs);
    for &width in hidden.iter().chain([&classes]) {
        total = total.checked_add(fan_in.checked_add(1)?.checked_mul(width)?)?;
        fan_in = width;
    }
    Some(total)
}
