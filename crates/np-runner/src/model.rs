//! The model of a run: which one, whether it fits the data, and how it is built.

use candle_core::Device;
use np_models::{
    Mlp, MlpConfig, Model, PassSize, ResNet18, ResNet18Config,
    cuda::{Architecture, BatchShape, ImageLayout, MemoryPlan, Precision, memory_plan},
};
use serde::{Deserialize, Serialize};

use crate::config::OutOfRange;

/// What [`ModelConfig::ResNet18`] is for: channels, height and width.
const RESNET_IMAGES: [usize; 3] = [3, 32, 32];

/// The model of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ModelConfig {
    /// A multi-layer perceptron with ReLU and dropout.
    #[serde(rename = "mlp")]
    Mlp(MlpConfig),
    /// ResNet-18 for images of 3×32×32.
    #[serde(rename = "resnet18")]
    ResNet18(ResNet18Config),
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::Mlp(MlpConfig::default())
    }
}

impl ModelConfig {
    /// The name in a configuration.
    pub(crate) fn key(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "mlp",
            Self::ResNet18(_) => "resnet18",
        }
    }

    /// The name in a caption, where the sizes are not known.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::Mlp(_) => "MLP",
            Self::ResNet18(_) => "ResNet-18",
        }
    }

    /// Multiplications with an addition in the forward pass of one image of this shape.
    pub(crate) fn multiply_adds(&self, shape: [usize; 3], classes: usize) -> u64 {
        match self {
            Self::Mlp(mlp) => mlp.multiply_adds(shape.iter().product(), classes),
            Self::ResNet18(resnet) => resnet.multiply_adds(classes),
        }
    }

    /// Names of the model's parameters, in its order.
    pub(crate) fn parameter_names(&self) -> Vec<String> {
        match self {
            Self::Mlp(mlp) => mlp.parameter_names(),
            Self::ResNet18(_) => ResNet18Config::parameter_names(),
        }
    }

    /// Shapes of its parameters, for images of this shape.
    pub(crate) fn parameter_shapes(&self, shape: [usize; 3], classes: usize) -> Result<Vec<Vec<usize>>, OutOfRange> {
        let shapes = match self {
            Self::Mlp(mlp) => mlp.parameter_shapes(shape.iter().product(), classes),
            Self::ResNet18(resnet) => resnet.parameter_shapes(shape[0], classes),
        };
        shapes.map_err(|error| self.out_of_range(error))
    }

    /// What a pass holds for one image of this shape.
    pub(crate) fn pass_size(&self, shape: [usize; 3], classes: usize) -> Option<PassSize> {
        match self {
            Self::Mlp(mlp) => mlp.pass_size(shape.iter().product(), classes),
            Self::ResNet18(resnet) => resnet.pass_size(shape[0]),
        }
    }

    /// What a trainer on a CUDA device is made from: the architecture, and how a batch's numbers lie.
    pub(crate) fn on_cuda(&self, classes: usize, seed: u64) -> (Architecture, ImageLayout) {
        match self {
            Self::Mlp(mlp) => (Architecture::Mlp { config: mlp.clone(), classes, seed }, ImageLayout::ChannelsFirst),
            Self::ResNet18(resnet) => {
                (Architecture::ResNet18 { config: resnet.clone(), classes }, ImageLayout::ChannelsLast)
            }
        }
    }

    /// What it takes on a CUDA device, in batches of so many images in training and in evaluation.
    pub(crate) fn memory_on_cuda(
        &self,
        shape: [usize; 3],
        classes: usize,
        batches: [usize; 2],
        precision: Precision,
    ) -> Result<MemoryPlan, OutOfRange> {
        let (architecture, layout) = self.on_cuda(classes, 0);
        let plan = memory_plan(&architecture, &batch_shape(shape, batches, layout), precision);
        plan.map_err(|error| self.out_of_range(error))
    }

    /// Checks what types cannot: every range.
    pub(crate) fn validate(&self) -> Result<(), OutOfRange> {
        let checked = match self {
            Self::Mlp(mlp) => mlp.validate(),
            Self::ResNet18(resnet) => resnet.validate(),
        };
        checked.map_err(|error| self.out_of_range(error))
    }

    fn out_of_range(&self, error: np_models::Error) -> OutOfRange {
        let key = format!("model.{}", self.key());
        match error {
            // `hidden[2]` is `hidden.2` in a dotted path
            np_models::Error::Config { field, expected, got } => {
                OutOfRange { key: format!("{key}.{}", field.replace('[', ".").replace(']', "")), expected, got }
            }
            other => OutOfRange { key, expected: "a valid model".into(), got: other.to_string() },
        }
    }

    /// Whether it takes images of this shape, channels first.
    pub(crate) fn takes(&self, shape: [usize; 3]) -> Result<(), OutOfRange> {
        let text = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
        if matches!(self, Self::ResNet18(_)) && shape != RESNET_IMAGES {
            let expected =
                format!("images of {} for the model `{}`, as `rgb32` makes them", text(RESNET_IMAGES), self.key());
            return Err(OutOfRange { key: "data.layout".into(), expected, got: text(shape) });
        }
        Ok(())
    }

    /// Whether it leaves records of its layers to an optimizer that wants them.
    pub(crate) fn records_layers(&self) -> bool {
        matches!(self, Self::Mlp(_))
    }

    /// The model, for images of this shape, channels first.
    ///
    /// # Errors
    /// Those of the model's constructor.
    pub(crate) fn build(
        &self,
        shape: [usize; 3],
        classes: usize,
        seed: u64,
        device: &Device,
    ) -> np_models::Result<Box<dyn Model>> {
        Ok(match self {
            Self::Mlp(mlp) => Box::new(Mlp::new(shape.iter().product(), classes, mlp, seed, device)?),
            Self::ResNet18(resnet) => Box::new(ResNet18::new(shape[0], classes, resnet, seed, device)?),
        })
    }
}

/// Batches of at most so many images, in training and in evaluation.
pub(crate) fn batch_shape(
    [channels, height, width]: [usize; 3],
    [images, evaluation]: [usize; 2],
    layout: ImageLayout,
) -> BatchShape {
    BatchShape { images, evaluation, channels, height, width, layout }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_as_ever() {
        let text = |model: &ModelConfig| serde_json::to_string(model).unwrap();
        assert_eq!(text(&ModelConfig::default()), r#"{"mlp":{"hidden":[256,256],"dropout":0.1}}"#);
        let resnet = ModelConfig::ResNet18(ResNet18Config { width: 16 });
        assert_eq!(text(&resnet), r#"{"resnet18":{"width":16}}"#);
        assert_eq!(serde_json::from_str::<ModelConfig>(&text(&resnet)).unwrap(), resnet);
    }
}
