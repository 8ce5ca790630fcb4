//! The size of a model before it is built: shapes of its parameters, and memory of a pass over a batch.

use crate::layers::MAX_PARAMETERS;
use crate::resnet::{BLOCKS, STAGES};
use crate::{Error, MlpConfig, ResNet18Config, Result};

/// An estimate of the numbers that a pass keeps in memory for one example, without the kernels' work memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassSize {
    /// In a forward and backward pass.
    pub training: usize,
    /// In a forward pass alone.
    pub evaluation: usize,
}

impl MlpConfig {
    /// Shapes of the parameters, in definition order.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the model would have more than [`MAX_PARAMETERS`] parameters.
    pub fn parameter_shapes(&self, inputs: usize, classes: usize) -> Result<Vec<Vec<usize>>> {
        let widths: Vec<usize> = [inputs].into_iter().chain(self.hidden.iter().copied()).chain([classes]).collect();
        let shapes: Vec<Vec<usize>> =
            widths.windows(2).flat_map(|pair| [vec![pair[1], pair[0]], vec![pair[1]]]).collect();
        if elements(&shapes).is_none_or(|count| count > MAX_PARAMETERS) {
            let expected = format!("widths that make at most {MAX_PARAMETERS} parameters");
            return Err(Error::config("hidden", expected, format!("{:?}", self.hidden)));
        }
        Ok(shapes)
    }

    /// Memory of a pass for one example; `None` if the number overflows.
    #[must_use]
    pub fn pass_size(&self, inputs: usize, classes: usize) -> Option<PassSize> {
        let hidden = self.hidden.iter().try_fold(0_usize, |sum, width| sum.checked_add(*width))?;
        // Of a hidden layer its output before and after activation, of the head the logits, and in training the gradient of each.
        let outputs = hidden.checked_mul(2)?.checked_add(classes)?;
        Some(PassSize {
            training: outputs.checked_mul(2)?.checked_add(inputs)?,
            evaluation: outputs.checked_add(inputs)?,
        })
    }
}

impl ResNet18Config {
    /// Shapes of the parameters, in definition order, for images with `channels` channels.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the configuration is invalid or the model would have more than [`MAX_PARAMETERS`] parameters.
    pub fn parameter_shapes(&self, channels: usize, classes: usize) -> Result<Vec<Vec<usize>>> {
        self.validate()?;
        let conv = |inputs: usize, outputs: usize, side: usize| {
            [vec![outputs, inputs, side, side], vec![outputs], vec![outputs]]
        };
        let mut shapes: Vec<Vec<usize>> = conv(channels, self.width, 3).into();
        let mut inputs = self.width;
        for (widths, stride) in STAGES {
            let outputs = widths * self.width;
            for block in 0..BLOCKS {
                shapes.extend(conv(inputs, outputs, 3));
                shapes.extend(conv(outputs, outputs, 3));
                if block == 0 && (stride != 1 || inputs != outputs) {
                    shapes.extend(conv(inputs, outputs, 1));
                }
                inputs = outputs;
            }
        }
        shapes.extend([vec![classes, inputs], vec![classes]]);
        if elements(&shapes).is_none_or(|count| count > MAX_PARAMETERS) {
            return Err(Error::config(
                "width",
                format!("a width that makes at most {MAX_PARAMETERS} parameters"),
                self.width,
            ));
        }
        Ok(shapes)
    }

    /// Memory of a pass for one image of 32×32 pixels; `None` if the number overflows.
    #[must_use]
    pub fn pass_size(&self, channels: usize) -> Option<PassSize> {
        let (mut outputs, mut side) = (self.width.checked_mul(32 * 32)?, 32);
        for (widths, stride) in STAGES {
            side /= stride;
            // The convolutions of its blocks, and the shortcut of the first.
            let layers = 2 * BLOCKS + usize::from(stride != 1);
            outputs = outputs.checked_add(self.width.checked_mul(widths * side * side * layers)?)?;
        }
        let image = channels.checked_mul(32 * 32)?;
        // Of each convolution its output, the normalised one, and the gradient of each; in evaluation buffers are used again.
        Some(PassSize {
            training: outputs.checked_mul(4)?.checked_add(image)?,
            evaluation: outputs.checked_add(image)?,
        })
    }
}

/// The numbers in all of these shapes.
fn elements(shapes: &[Vec<usize>]) -> Option<usize> {
    let size = |shape: &Vec<usize>| shape.iter().try_fold(1_usize, |size, n| size.checked_mul(*n));
    shapes.iter().try_fold(0_usize, |sum, shape| sum.checked_add(size(shape)?))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::{Mlp, Model, ResNet18};

    fn shapes(model: &dyn Model) -> Vec<Vec<usize>> {
        model.parameters().into_iter().map(|(_, parameter)| parameter.dims().to_vec()).collect()
    }

    #[test]
    fn they_are_the_models() {
        for hidden in [vec![], vec![3], vec![4, 2, 5]] {
            let config = MlpConfig { hidden, ..MlpConfig::default() };
            let model = Mlp::new(2, 3, &config, 0, &Device::Cpu).unwrap();
            assert_eq!(config.parameter_shapes(2, 3).unwrap(), shapes(&model));
        }
        for width in [1, 3] {
            let config = ResNet18Config { width };
            let model = ResNet18::new(3, 10, &config, 0, &Device::Cpu).unwrap();
            assert_eq!(config.parameter_shapes(3, 10).unwrap(), shapes(&model));
        }
    }

    #[test]
    fn sizes_that_no_number_holds_are_errors() {
        for hidden in [vec![1_000_000_000_000; 2], vec![usize::MAX], vec![usize::MAX; 3], vec![1 << 30, 1]] {
            let config = MlpConfig { hidden, ..MlpConfig::default() };
            let error = config.parameter_shapes(784, 10).unwrap_err().to_string();
            assert!(error.contains("`hidden` must be widths that make at most 1073741824 parameters"), "{error}");
            assert!(config.multiply_adds(784, 10) >= 784 << 30, "no overflow");
            let _ = config.pass_size(784, 10);
        }
        for width in [0, 1 << 20, usize::MAX] {
            assert!(ResNet18Config { width }.parameter_shapes(3, 10).is_err());
            let _ = (ResNet18Config { width }.pass_size(3), ResNet18Config { width }.multiply_adds(10));
        }
    }

    #[test]
    fn a_pass_holds_what_its_layers_give() {
        let config = MlpConfig { hidden: vec![16, 8], ..MlpConfig::default() };
        assert_eq!(config.pass_size(784, 10), Some(PassSize { training: 784 + 2 * 58, evaluation: 784 + 58 }));
        // 5 convolutions of 32×32 with the stem, then 5 a stage with sides of 16, 8 and 4 and twice the channels each time.
        let outputs = 5 * 1024 + 5 * 2 * 256 + 5 * 4 * 64 + 5 * 8 * 16;
        let size = ResNet18Config { width: 1 }.pass_size(3).unwrap();
        assert_eq!(size, PassSize { training: 3072 + 4 * outputs, evaluation: 3072 + outputs });
    }
}
