//! The task of this repository's experiments: an MLP or a ResNet-18 on sets of labelled images.
//!
//! Its settings are the sections `data` and `model` of an experiment. It is a task like any other; beyond what a task must say it knows its sizes,
//! keeps records of its layers, has published sets that need not be at hand for a plan, and trains on GPUs.

use std::path::Path;

use candle_core::{Device, Tensor};
use np_data::{DataName, DataSet, Holdout, Identity, Source, Split, known_digest};
use np_models::{Mode, Model, Recorder, cross_entropy, loss_and_correct};
use serde::{Deserialize, Serialize};

use crate::{
    config::{OutOfRange, RunConfig},
    data::{DataConfig, standing},
    error::{Error, Problem, Result},
    memory::{CLASSES, Memory},
    model::ModelConfig,
    planning::UNKNOWN,
    task::{AboutData, Counts, Estimate, Examples, Half, Loss, Picked, Score, Task, TaskMetric, TaskResult},
    train::{OnGpu, Trained},
};

/// Images, classified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Images;

/// The settings of [`Images`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageSettings {
    /// The data set, and how much of it.
    pub data: DataConfig,
    /// The model.
    pub model: ModelConfig,
}

/// A batch: images \[n, c, h, w\] and labels \[n\].
#[derive(Debug, Clone)]
pub struct ImageBatch {
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
}

impl Task for Images {
    type Settings = ImageSettings;
    type Data = DataSet;
    type Model = Box<dyn Model>;
    type Batch = ImageBatch;

    fn name(&self) -> &'static str {
        "images"
    }

    fn metrics(&self) -> Vec<TaskMetric> {
        vec![TaskMetric::ACCURACY]
    }

    fn validate(&self, settings: &ImageSettings) -> Result<(), OutOfRange> {
        settings.data.validate()?;
        settings.model.validate()?;
        settings.model.takes(settings.data.shape()?)
    }

    fn data(&self, settings: &ImageSettings, folder: Option<&Path>) -> TaskResult<DataSet> {
        Ok(DataSet::load(settings.data.name, settings.data.source, folder)?)
    }

    fn data_key(&self, settings: &ImageSettings) -> String {
        format!("{} {:?}", settings.data.name, settings.data.source)
    }

    fn about(&self, _: &ImageSettings, data: &DataSet) -> AboutData {
        let (name, title, digest) = (data.name.to_string(), data.title.clone(), data.digest.clone());
        AboutData { name, title, digest, standing: standing(data.identity) }
    }

    fn examples(&self, settings: &ImageSettings, data: &DataSet, seed: u64) -> TaskResult<Examples> {
        let drawn = settings.data.selection().draw(&data.train.labels, seed);
        let Holdout { train, validation } = drawn.map_err(|error| {
            let problem = match error {
                np_data::Error::EmptySubset { len, .. } => {
                    Problem::Other(format!("leaves none of the {len} training examples"))
                }
                np_data::Error::Count { expected, found } => {
                    Problem::Expected { expected: format!("1 to {expected}"), got: format!("`{found}`") }
                }
                error => Problem::Other(error.to_string()),
            };
            Error::Setting { key: format!("data.{}", settings.data.amount_key()), problem }
        })?;
        Ok(Examples { train, validation, test: data.test.len() })
    }

    fn model(
        &self,
        settings: &ImageSettings,
        data: &DataSet,
        seed: u64,
        device: &Device,
    ) -> TaskResult<Box<dyn Model>> {
        let shape = settings.data.preparation().layout.shape(data.train.shape)?;
        Ok(settings.model.build(shape, data.classes, seed, device)?)
    }

    /// Each is made when it is needed. A batch of 128 takes 0.04 ms of a 3 ms step of an MLP, one with augmentation 0.2 to 0.5 ms of a ResNet's second:
    /// a thread that prepares ahead ([`np_data::Prepare::Ahead`]) could save no more, and where runs occupy all cores it takes its time from them.
    fn batch(
        &self,
        settings: &ImageSettings,
        data: &DataSet,
        picked: Picked<'_>,
        device: &Device,
    ) -> TaskResult<ImageBatch> {
        let split = half(data, picked.half);
        let preparation = settings.data.preparation();
        let [channels, height, width] = preparation.layout.shape(split.shape)?;
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        preparation.fill(split, picked.examples, picked.pass, &mut pixels, &mut labels)?;
        let n = picked.examples.len();
        let images = Tensor::from_vec(pixels, (n, channels, height, width), device)?;
        Ok(ImageBatch { images, labels: Tensor::from_vec(labels, n, device)? })
    }

    fn loss(&self, model: &Box<dyn Model>, batch: &ImageBatch, mode: Mode) -> TaskResult<Loss> {
        loss(&model.forward(&batch.images, mode)?, batch)
    }

    fn score(&self, model: &Box<dyn Model>, batch: &ImageBatch) -> TaskResult<Score> {
        Ok(score(&model.forward(&batch.images, Mode::Eval)?, batch)?)
    }

    fn loss_recorded(
        &self,
        model: &Box<dyn Model>,
        batch: &ImageBatch,
        mode: Mode,
        recorder: &Recorder,
    ) -> TaskResult<Loss> {
        loss(&model.forward_recorded(&batch.images, mode, recorder)?, batch)
    }

    fn records_layers(&self, settings: &ImageSettings) -> bool {
        settings.model.records_layers()
    }

    fn model_in_words(&self, settings: &ImageSettings) -> String {
        format!("the model `{}`", settings.model.key())
    }

    fn parameter_names(&self, settings: &ImageSettings) -> Option<Vec<String>> {
        Some(settings.model.parameter_names())
    }

    fn estimate(
        &self,
        settings: &ImageSettings,
        data: &DataSet,
        run: &RunConfig,
        counts: Counts,
    ) -> Result<Option<Estimate>, OutOfRange> {
        let memory = Memory::of(settings, run, counts, data.train.len() + data.test.len())?;
        let multiply_adds = settings.data.shape().map_or(0, |shape| settings.model.multiply_adds(shape, CLASSES));
        Ok(Some(Estimate { memory, multiply_adds }))
    }

    /// A data set as it was published, where its digest is known; its labels stand for as many examples of ten even classes, and it has no images.
    fn stand_in(&self, settings: &ImageSettings, earlier: Option<&str>, unknown: bool) -> Option<DataSet> {
        let (name, source): (DataName, Source) = (settings.data.name, settings.data.source);
        let [examples, test] = match source {
            Source::Mini => [2_000, 1_000],
            Source::Full => name.examples(),
        };
        let digest = known_digest(name, source).or(earlier).or(unknown.then_some(UNKNOWN))?;
        let identity = Identity::of(name, source, digest, None);
        let split = |count: usize| Split {
            images: Vec::new(),
            labels: (0..count).map(|i| (i % 10) as u8).collect(),
            shape: name.shape(),
        };
        let title = identity.title(name, source, None, digest);
        let (train, test, digest) = (split(examples), split(test), digest.to_owned());
        Some(DataSet { name, source, title, identity, train, test, classes: CLASSES, digest })
    }

    fn told(&self, settings: &ImageSettings, digest: &str) -> (AboutData, String) {
        let (name, source) = (settings.data.name, settings.data.source);
        let identity = Identity::of(name, source, digest, None);
        let title = identity.title(name, source, None, digest);
        let about =
            AboutData { name: name.to_string(), title, digest: digest.to_owned(), standing: standing(identity) };
        (about, settings.model.title().to_owned())
    }

    fn trains_on_gpu(&self) -> bool {
        true
    }

    #[cfg(feature = "cuda")]
    fn train_on_gpu(&self, settings: &ImageSettings, data: &DataSet, run: OnGpu<'_>) -> Result<Trained> {
        let (config, counts) = (run.config, run.examples.counts());
        let trained = crate::train::Cuda::new(settings, config, data, counts)
            .and_then(|mut device| crate::train::train_on(&mut device, run));
        let wants = || Memory::of(settings, config, counts, data.train.len() + data.test.len()).ok();
        trained.map_err(|error| crate::gpu::explained(error, wants(), crate::gpu::smallest()))
    }

    #[cfg(not(feature = "cuda"))]
    fn train_on_gpu(&self, _: &ImageSettings, _: &DataSet, _: OnGpu<'_>) -> Result<Trained> {
        Err(crate::GpuError::NotBuilt.into())
    }
}

/// A part of a set.
pub(crate) fn half(data: &DataSet, half: Half) -> &Split {
    match half {
        Half::Train => &data.train,
        Half::Test => &data.test,
    }
}

fn loss(logits: &Tensor, batch: &ImageBatch) -> TaskResult<Loss> {
    Ok(Loss { tensor: cross_entropy(logits, &batch.labels)?, score: score(logits, batch)? })
}

fn score(logits: &Tensor, batch: &ImageBatch) -> np_models::Result<Score> {
    let np_models::Score { loss, correct } = loss_and_correct(logits, &batch.labels)?;
    Ok(Score { loss, sums: vec![correct as f64] })
}
