//! ResNet-18 for small images: its configuration, construction and forward pass.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use crate::kernels::{self, Kernels, Network, Pools, Unit};
use crate::layers::{Activation, BatchNorm2d, Conv2d, Linear, MAX_PARAMETERS, Window, relu};
use crate::{Error, Initializer, Mode, Model, Result};

/// Channels of each stage, in widths, and the stride of its first block.
pub(crate) const STAGES: [(usize, usize); 4] = [(1, 1), (2, 2), (4, 2), (8, 2)];
/// Residual blocks a stage.
pub(crate) const BLOCKS: usize = 2;

/// The size of a [`ResNet18`].
///
/// ```
/// use np_models::ResNet18Config;
///
/// assert_eq!(ResNet18Config::default().width, 64);
/// let error = ResNet18Config { width: 0 }.validate().unwrap_err();
/// assert_eq!(error.to_string(), "`width` must be at least 1, got `0`");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNet18Config {
    /// Channels of the first stage, at least 1; the other stages have 2, 4 and 8 times as many. Default 64 (published network).
    pub width: usize,
}

impl Default for ResNet18Config {
    fn default() -> Self {
        Self { width: 64 }
    }
}

impl ResNet18Config {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.width == 0 {
            return Err(Error::config("width", "at least 1", 0));
        }
        // All stages together have 2,724 width² weights and some; half of what is allowed is left for the ends.
        let most = (MAX_PARAMETERS / 2 / 2800).isqrt();
        if self.width > most {
            return Err(Error::config("width", format!("1 to {most}"), self.width));
        }
        Ok(())
    }

    /// Multiply–add operations of the convolutions and the linear layer in the forward pass of one 3×32×32 image. A backward pass takes twice as many.
    /// Saturates at [`u64::MAX`].
    ///
    /// ```
    /// // 0.56 GMAC, as the published network is counted.
    /// assert_eq!(np_models::ResNet18Config::default().multiply_adds(10), 555_422_720);
    /// ```
    #[must_use]
    pub fn multiply_adds(&self, classes: usize) -> u64 {
        let (width, mut side) = (self.width as u64, 32_u64);
        let conv = |inputs: u64, outputs: u64, window: u64, side: u64| {
            inputs.saturating_mul(outputs).saturating_mul(window * window * side * side)
        };
        let mut sum = conv(3, width, 3, side);
        let mut inputs = width;
        for (widths, stride) in STAGES {
            let outputs = width.saturating_mul(widths as u64);
            side /= stride as u64;
            let others = 2 * BLOCKS as u64 - 1;
            sum = sum.saturating_add(conv(inputs, outputs, 3, side));
            sum = sum.saturating_add(conv(outputs, outputs, 3, side).saturating_mul(others));
            if inputs != outputs {
                sum = sum.saturating_add(conv(inputs, outputs, 1, side));
            }
            inputs = outputs;
        }
        sum.saturating_add(inputs.saturating_mul(classes as u64))
    }
}

/// A convolution and the normalisation of its output.
#[derive(Debug, Clone)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm2d,
}

impl ConvNorm {
    fn new(
        inputs: usize,
        outputs: usize,
        window: Window,
        init: &mut Initializer,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let conv = Conv2d::new(inputs, outputs, window, init, dtype, device)?;
        Ok(Self { conv, norm: BatchNorm2d::new(outputs, dtype, device)? })
    }

    fn unit(&self, input: usize, residual: Option<usize>, activation: Activation) -> Unit {
        Unit {
            conv: self.conv.weight().as_tensor().clone(),
            window: self.conv.window(),
            affine: [self.norm.weight().as_tensor().clone(), self.norm.bias().as_tensor().clone()],
            input,
            residual,
            activation,
        }
    }

    fn forward(&self, x: &Tensor, mode: Mode, activation: Activation) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?, mode, activation)
    }
}

/// A layer, the numbers of the values it reads, and what follows it.
struct Step<'a> {
    layer: &'a ConvNorm,
    input: usize,
    residual: Option<usize>,
    activation: Activation,
}

/// y = relu(norm₂(conv₂(relu(norm₁(conv₁(x))))) + shortcut(x)).
#[derive(Debug, Clone)]
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    /// `None`: the identity.
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let h = self.first.forward(x, mode, Activation::Relu)?;
        let h = self.second.forward(&h, mode, Activation::Identity)?;
        match &self.shortcut {
            Some(shortcut) => relu(&(h + shortcut.forward(x, mode, Activation::Identity)?)?),
            None => relu(&(h + x)?),
        }
    }
}

/// ResNet-18 with the stem for small images: a 3 × 3 convolution of stride 1, no max-pooling.
///
/// Four stages of two blocks with w, 2w, 4w and 8w channels, where the first convolution of stages two to four has stride 2; global average
/// pooling; a linear layer. Reference: He, Zhang, Ren, Sun: *Deep residual learning for image recognition*, 2016.
///
/// Parameters and buffers have torchvision's names and order: `conv1.weight`, `bn1.weight`, `bn1.bias`,
/// `layer1.0.conv1.weight`, …, `layer2.0.downsample.0.weight`, …, `fc.weight`, `fc.bias`; buffers `bn1.running_mean`,
/// `bn1.running_var`, …. So [`load`](crate::load()) accepts a checkpoint of PyTorch. Initial values have torchvision's distributions
/// (see [`Conv2d::new`], [`BatchNorm2d::new`], [`Linear::new`]) and are drawn by an [`Initializer`].
///
/// Departures from PyTorch: there is no buffer `num_batches_tracked`, which only a cumulative average of statistics would need. On devices
/// other than the CPU and in half precision, candle's backward pass of a convolution with stride 2 refuses images of which one side is even
/// and the other odd.
///
/// ```
/// use candle_core::Device;
/// use np_models::{Model, ResNet18, ResNet18Config};
///
/// # fn main() -> np_models::Result<()> {
/// let model = ResNet18::new(3, 10, &ResNet18Config { width: 16 }, 41, &Device::Cpu)?;
/// assert_eq!(model.title(), "ResNet-18 3-16-10");
/// assert_eq!(model.num_parameters(), 701_466);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ResNet18 {
    stem: ConvNorm,
    blocks: Vec<Block>,
    fc: Linear,
    kernels: Kernels,
    /// What a pass on the CPU writes; shared by clones.
    pools: Arc<Pools>,
}

impl ResNet18 {
    /// A model in `f32` for images with `channels` channels, with `classes` logits. `seed` determines the initial values.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `config` is invalid, or `channels` or `classes` is 0 or too large; errors of candle.
    pub fn new(channels: usize, classes: usize, config: &ResNet18Config, seed: u64, device: &Device) -> Result<Self> {
        Self::of_type(channels, classes, config, seed, DType::F32, device)
    }

    /// [`Self::new`] with elements of type `dtype`: the same initial values, rounded to it.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub fn of_type(
        channels: usize,
        classes: usize,
        config: &ResNet18Config,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        config.validate()?;
        // The weights that depend on them, and so what they may be.
        for (field, size, each) in
            [("channels", channels, 9 * config.width), ("classes", classes, 8 * config.width + 1)]
        {
            let most = MAX_PARAMETERS / 4 / each;
            if !(1..=most).contains(&size) {
                return Err(Error::config(field, format!("1 to {most}"), size));
            }
        }
        let mut init = Initializer::new(seed);
        let mut layer = |inputs, outputs, window| ConvNorm::new(inputs, outputs, window, &mut init, dtype, device);
        let stem = layer(channels, config.width, Window::three(1))?;
        let mut blocks = Vec::with_capacity(STAGES.len() * BLOCKS);
        let mut inputs = config.width;
        for (widths, first_stride) in STAGES {
            let outputs = widths * config.width;
            for block in 0..BLOCKS {
                let stride = if block == 0 { first_stride } else { 1 };
                let first = layer(inputs, outputs, Window::three(stride))?;
                let second = layer(outputs, outputs, Window::three(1))?;
                let changes = stride != 1 || inputs != outputs;
                let shortcut = changes.then(|| layer(inputs, outputs, Window::one(stride))).transpose()?;
                blocks.push(Block { first, second, shortcut });
                inputs = outputs;
            }
        }
        let fc = Linear::new(inputs, classes, &mut init, dtype, device)?;
        Ok(Self { stem, blocks, fc, kernels: Kernels::of(device, dtype), pools: Arc::default() })
    }

    /// The features of a batch, each layer an operation of its own.
    fn layer_by_layer(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let mut h = self.stem.forward(x, mode, Activation::Relu)?;
        for block in &self.blocks {
            h = block.forward(&h, mode)?;
        }
        Ok(kernels::global_average(&h)?)
    }

    /// The features of a batch, all layers one operation.
    fn at_once(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let layers = self.in_order();
        let units = layers.iter().map(|step| step.layer.unit(step.input, step.residual, step.activation));
        let network = Network::new(units.collect(), x.dims(), self.pools.clone())?;
        let epsilon = BatchNorm2d::EPSILON;
        if mode == Mode::Eval {
            let running = layers.iter().map(|step| step.layer.norm.running()).collect::<Vec<_>>();
            return Ok(kernels::network_eval(network, x, &running, epsilon)?);
        }
        // The last stage has the fewest values a channel.
        if let Some((images, h, w)) = network.last().filter(|(images, h, w)| images * h * w < 2) {
            let expected = "large enough for two values a channel in the last stage, in training";
            return Err(Error::input("the model's input", expected, format!("{images} × {h} × {w}")));
        }
        let (features, statistics) = kernels::network_train(network, x, epsilon)?;
        for (step, batch) in layers.iter().zip(&statistics) {
            step.layer.norm.record(&batch.mean, &batch.unbiased_var)?;
        }
        Ok(features)
    }

    /// Every layer with what it reads, in the order of execution; values are numbered as in [`Unit`].
    fn in_order(&self) -> Vec<Step<'_>> {
        let step = |layer, input, residual, activation| Step { layer, input, residual, activation };
        let mut steps = vec![step(&self.stem, 0, None, Activation::Relu)];
        for block in &self.blocks {
            let input = steps.len();
            steps.push(step(&block.first, input, None, Activation::Relu));
            let (hidden, mut residual) = (steps.len(), input);
            if let Some(shortcut) = &block.shortcut {
                steps.push(step(shortcut, input, None, Activation::Identity));
                residual = steps.len();
            }
            steps.push(step(&block.second, hidden, Some(residual), Activation::Relu));
        }
        steps
    }

    /// Every convolution with its norm and their names, in definition order.
    fn layers(&self) -> Vec<(String, String, &ConvNorm)> {
        let mut layers = vec![("conv1".to_owned(), "bn1".to_owned(), &self.stem)];
        for (i, block) in self.blocks.iter().enumerate() {
            let prefix = format!("layer{}.{}", i / BLOCKS + 1, i % BLOCKS);
            layers.push((format!("{prefix}.conv1"), format!("{prefix}.bn1"), &block.first));
            layers.push((format!("{prefix}.conv2"), format!("{prefix}.bn2"), &block.second));
            if let Some(shortcut) = &block.shortcut {
                layers.push((format!("{prefix}.downsample.0"), format!("{prefix}.downsample.1"), shortcut));
            }
        }
        layers
    }
}

impl Model for ResNet18 {
    /// `x` has shape \[batch, channels, height, width\]. The model is made for images of 32×32 pixels and accepts other sizes.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match x.dims() {
            &[n, channels, h, w]
                if n * h * w > 0 && channels == self.stem.conv.inputs() && x.dtype() == self.fc.weight().dtype() => {}
            dims => {
                let (channels, dtype) = (self.stem.conv.inputs(), self.fc.weight().dtype());
                let expected = format!("[batch, {channels}, height, width] of {dtype:?}, none of them 0");
                return Err(Error::input("the model's input", expected, format!("{dims:?} of {:?}", x.dtype())));
            }
        }
        let features = match self.kernels {
            Kernels::Cpu => self.at_once(x, mode)?,
            Kernels::Cuda | Kernels::Candle => self.layer_by_layer(x, mode)?,
        };
        self.fc.forward(&features)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        let mut parameters = Vec::new();
        for (conv_name, norm_name, ConvNorm { conv, norm }) in self.layers() {
            parameters.push((format!("{conv_name}.weight"), conv.weight().clone()));
            parameters.push((format!("{norm_name}.weight"), norm.weight().clone()));
            parameters.push((format!("{norm_name}.bias"), norm.bias().clone()));
        }
        parameters.push(("fc.weight".to_owned(), self.fc.weight().clone()));
        parameters.push(("fc.bias".to_owned(), self.fc.bias().clone()));
        parameters
    }

    fn buffers(&self) -> Vec<(String, Var)> {
        let norms = self.layers().into_iter().map(|(_, name, layer)| (name, &layer.norm));
        norms
            .flat_map(|(name, norm)| {
                [
                    (format!("{name}.running_mean"), norm.running_mean().clone()),
                    (format!("{name}.running_var"), norm.running_var().clone()),
                ]
            })
            .collect()
    }

    fn title(&self) -> String {
        format!("ResNet-18 {}-{}-{}", self.stem.conv.inputs(), self.stem.conv.outputs(), self.fc.outputs())
    }
}

#[cfg(test)]
mod tests;
