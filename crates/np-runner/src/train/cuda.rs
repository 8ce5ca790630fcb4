//! A CUDA device as the loop wants it: np-models' trainer, np-core's optimizer and np-data's batches, on one stream.

use std::{ops::Range, sync::Arc};

use candle_core::{
    DType, Device, Storage, Tensor,
    cuda_backend::cudarc::driver::{CudaStream, DeviceRepr},
};
use np_core::{AnyOptimizer, Backend};
use np_cuda::{Kept, Queue};
use np_data::{
    DataSet, Pass,
    device::{BUFFERS, DeviceSplit, PixelOrder},
};
use np_models::{
    Model,
    cuda::{ImageLayout, Launching, Totals, Trainer},
};

use super::{
    Total,
    device::{OnDevice, Read},
};
use crate::{
    config::{RunConfig, TrainConfig},
    error::Result,
    gpu::GpuError,
    images::ImageSettings,
    model::batch_shape,
    snapshot::Snapshot,
    task::{Counts, Half, Trainable},
};

/// A model in training on the first of the GPUs that this process may use.
pub(crate) struct Cuda {
    model: Box<dyn Model>,
    optimizer: Box<dyn AnyOptimizer>,
    trainer: Trainer,
    stream: Arc<CudaStream>,
    kept: Kept,
    train: DeviceSplit,
    test: DeviceSplit,
    half: Half,
    /// Of as many images as the largest batch has; what a batch of fewer has is its beginning.
    images: Tensor,
    labels: Tensor,
    places: [u64; 2],
}

impl Cuda {
    /// Everything that a run of so many examples wants on the device.
    pub(crate) fn new(images: &ImageSettings, config: &RunConfig, data: &DataSet, counts: Counts) -> Result<Self> {
        let device = Device::new_cuda(0)?;
        let Device::Cuda(cuda) = &device else { return Err(GpuError::none("candle opened none").into()) };
        let stream = cuda.cuda_stream();
        let preparation = images.data.preparation();
        let shape = preparation.layout.shape(data.train.shape)?;
        let model = images.model.build(shape, data.classes, config.seed, &device)?;
        let optimizer =
            config.optimizer.build_with(Model::parameters(&model), config.options.clone(), Backend::Auto)?;
        let (architecture, layout) = images.model.on_cuda(data.classes, config.seed);
        let TrainConfig { batch_size, eval_batch_size, precision, .. } = config.train;
        let most = [batch_size.min(counts.train), eval_batch_size.min(counts.evaluated_at_once)];
        let batch = batch_shape(shape, most, layout);
        let trainer =
            Trainer::new(&architecture, model.as_ref(), batch, precision.unwrap_or_default(), Launching::Graph)?;

        let order = match layout {
            ImageLayout::ChannelsFirst => PixelOrder::Planes,
            ImageLayout::ChannelsLast => PixelOrder::Interleaved,
        };
        let mut kept = Kept::default();
        let mut queue = Queue::new(stream.clone(), &mut kept);
        let train = DeviceSplit::upload(&mut queue, 0, &data.train, &preparation, order)?;
        let test = DeviceSplit::upload(&mut queue, BUFFERS, &data.test, &preparation, order)?;
        let most = batch.images.max(batch.evaluation);
        let images = Tensor::zeros((most, shape.iter().product::<usize>()), DType::F32, &device)?;
        let labels = Tensor::zeros(most, DType::U32, &device)?;
        let places = [place::<f32>(&stream, &images)?, place::<u32>(&stream, &labels)?];
        Ok(Self { model, optimizer, trainer, stream, kept, train, test, half: Half::Train, images, labels, places })
    }

    /// Prepares these examples of the pass; their images and labels.
    fn batch(&mut self, examples: Range<usize>) -> Result<(Tensor, Tensor)> {
        let count = examples.len();
        let split = if self.half == Half::Train { &self.train } else { &self.test };
        let [images, labels] = self.places;
        split.batch(&mut Queue::new(self.stream.clone(), &mut self.kept), examples, images, labels)?;
        Ok((self.images.narrow(0, 0, count)?, self.labels.narrow(0, 0, count)?))
    }
}

/// Where the numbers of a tensor begin.
fn place<T: candle_core::cuda_backend::CudaDType + DeviceRepr>(stream: &CudaStream, tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(GpuError::Refused("a buffer of a batch is not on the device".into()).into());
    };
    let place = np_cuda::address(stream, storage.as_cuda_slice::<T>()?, start, end);
    Ok(place.map_err(|error| GpuError::Refused(error.to_string()))?)
}

impl OnDevice for Cuda {
    fn model(&self) -> &dyn Trainable {
        &self.model
    }

    fn optimizer(&self) -> &dyn AnyOptimizer {
        self.optimizer.as_ref()
    }

    fn optimizer_mut(&mut self) -> &mut dyn AnyOptimizer {
        self.optimizer.as_mut()
    }

    fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        snapshot.restore(&self.model, self.optimizer.as_mut())
    }

    fn begin(&mut self, half: Half, order: &[u32], pass: Pass) -> Result<()> {
        self.half = half;
        let split = if half == Half::Train { &mut self.train } else { &mut self.test };
        Ok(split.begin(&mut Queue::new(self.stream.clone(), &mut self.kept), order, pass)?)
    }

    fn step(&mut self, examples: Range<usize>, step: u64) -> Result<()> {
        let (images, labels) = self.batch(examples)?;
        let gradients = self.trainer.step(&images, &labels, step)?;
        self.optimizer.step_report(gradients.store())?;
        Ok(())
    }

    fn evaluate(&mut self, examples: Range<usize>) -> Result<()> {
        let (images, labels) = self.batch(examples)?;
        Ok(self.trainer.evaluate(&images, &labels)?)
    }

    fn read(&mut self) -> Result<Read> {
        Ok(read(self.trainer.read()?))
    }

    fn read_evaluation(&mut self) -> Result<Read> {
        Ok(read(self.trainer.read_evaluation()?))
    }
}

fn read(totals: Totals) -> Read {
    let Totals { loss_sum, correct, examples, first_non_finite_step } = totals;
    let total = Total { loss: loss_sum, sums: vec![correct as f64], examples: examples as usize };
    Read { total, broken: first_non_finite_step }
}
