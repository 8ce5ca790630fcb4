//! Conversion to candle-datasets' type: tensors in memory, pixels from 0 to 1.

use candle_core::{DType, Device, Result, Tensor};
use candle_datasets::vision::Dataset;

use crate::dataset::{DataSet, Split};

impl DataSet {
    /// The set as a `Dataset` of `candle_datasets::vision`, on the CPU. It has the same bits as that crate's `load_dir` of the same files.
    ///
    /// Images have the values pixel / 255 in single precision and the shape `N×784` for MNIST and Fashion-MNIST, `N×3×32×32` for CIFAR-10. Labels
    /// are bytes, `N`.
    ///
    /// # Errors
    /// Those of candle.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use np_data::{DataName, DataSet, Source};
    ///
    /// let data = DataSet::load(DataName::FashionMnist, Source::Mini, None)?.to_candle()?;
    /// assert_eq!(data.train_images.dims(), [2_000, 784]);
    /// assert_eq!((data.test_labels.dims(), data.labels), (&[1_000][..], 10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_candle(&self) -> Result<Dataset> {
        let (train_images, train_labels) = tensors(&self.train)?;
        let (test_images, test_labels) = tensors(&self.test)?;
        Ok(Dataset { train_images, train_labels, test_images, test_labels, labels: self.classes })
    }
}

/// Images and labels of a split.
fn tensors(split: &Split) -> Result<(Tensor, Tensor)> {
    let n = split.len();
    let images = match split.shape {
        [1, height, width] => Tensor::from_slice(&split.images, (n, height * width), &Device::Cpu)?,
        [channels, height, width] => Tensor::from_slice(&split.images, (n, channels, height, width), &Device::Cpu)?,
    };
    let images = (images.to_dtype(DType::F32)? / 255.)?;
    Ok((images, Tensor::from_slice(&split.labels, n, &Device::Cpu)?))
}
