//! One run, from configuration and data to metrics: the training loop.
//!
//! Everything random comes from the run's seed, and nothing depends on threads or time but the timings. Files, processes and
//! records are for [`crate::worker`].

use std::time::Instant;

use candle_core::{Device, Tensor};
use np_core::{AnyOptimizer, Backend, StepInput, Weights};
use np_data::{DataSet, Holdout, Pass, Preparation, Split, batches, epoch_order};
use np_models::{Mode, Model, Recorder, loss_and_correct};
use np_record::{DataInfo, Epoch, ModelInfo, OptimizerInfo, Outcome, Phases, Score};

use crate::{
    config::RunConfig,
    data::standing,
    device::Device as On,
    error::Result,
    snapshot::{Snapshot, State},
    step::{Examples, observe, search},
};
#[cfg(feature = "cuda")]
use crate::{gpu, memory};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod device;

/// What a training gave.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The data as used.
    pub data: DataInfo,
    /// The model.
    pub model: ModelInfo,
    /// How it ended.
    pub outcome: Outcome,
    /// An entry a completed epoch.
    pub epochs: Vec<Epoch>,
    /// Wall time of each completed epoch; as long as `epochs`.
    pub timing: Vec<Phases>,
    /// What the optimizer kept at the end; none if nothing was trained.
    pub optimizer: Option<OptimizerInfo>,
}

/// What is said while a training goes on.
#[derive(Debug)]
pub enum News<'a> {
    /// It begins.
    Begins(&'a ModelInfo, &'a DataInfo),
    /// A batch, of training or of evaluation, is about to be computed.
    Batch,
    /// An epoch is complete. There is a state to go on from where the training does.
    Epoch(&'a Epoch, &'a Phases, Option<&'a State<'a>>),
}

/// Trains one run, from its beginning or from a snapshot of it: the result is the same, bit for bit.
///
/// `watch` hears how it goes; an error of its ends the training.
///
/// # Errors
/// Those of data, model, optimizer and `watch`; [`crate::Error::Snapshot`] if `from` is one of another run. A loss that is not finite is none: it is [`Outcome::Diverged`].
pub fn train(
    config: &RunConfig,
    data: &DataSet,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    if config.train.device == On::Cuda {
        return train_on_cuda(config, data, from, watch);
    }
    let RunConfig { train, seed, .. } = config;
    let device = Device::Cpu;
    let Holdout { train: examples, validation } = config.data.selection().draw(&data.train.labels, *seed)?;
    let preparation = config.data.preparation();
    let shape = preparation.layout.shape(data.train.shape)?;
    let model = config.model.build(shape, data.classes, *seed, &device)?;
    let model = model.as_ref();
    let mut optimizer = config.optimizer.build_with(model.parameters(), config.options.clone(), Backend::Auto)?;

    let (about_model, about_data) = (about_model(model), about_data(data, examples.len(), validation.len()));
    watch(News::Begins(&about_model, &about_data))?;

    let mut batch = Batch { preparation, shape, pixels: Vec::new(), labels: Vec::new() };
    let (mut steps, mut epochs, mut timing) = (0, Vec::new(), Vec::new());
    if let Some(snapshot) = from {
        snapshot.restore(model, optimizer.as_mut())?;
        let progress = snapshot.progress.clone();
        (steps, epochs, timing) = (progress.steps, progress.epochs, progress.timing);
    }
    let recorder = (optimizer.step_input() == StepInput::LayerStatistics).then(Recorder::new);
    let mut outcome = Outcome::Finished;
    'training: for epoch in (1..=train.epochs).skip(epochs.len()) {
        let mut clock = Clock::start();
        let order = epoch_order(&examples, *seed, epoch - 1);
        let mut total = Total::default();
        optimizer.begin_epoch(epoch as usize, train.epochs as usize);
        let all = batches(&order, config.batch_size());
        let steps_per_epoch = all.len() as f64;
        for (i, indices) in all.enumerate() {
            watch(News::Batch)?;
            let (images, labels) =
                batch.load(&data.train, indices, Pass::Train { seed: *seed, epoch: epoch - 1 }, &device)?;
            clock.lap(|phases| &mut phases.data);

            let examples = Examples { images: &images, labels: &labels, mode: Mode::Train { step: steps as u64 } };
            let (loss, score) = examples.loss(model, recorder.as_ref())?;
            clock.lap(|phases| &mut phases.forward);
            steps += 1;
            if !score.loss.is_finite() {
                outcome = Outcome::Diverged { epoch: epoch as usize, step: steps };
                break 'training;
            }
            total.add(score.loss, score.correct, indices.len());

            let gradients = loss.backward()?;
            clock.lap(|phases| &mut phases.backward);

            optimizer.set_position(f64::from(epoch - 1) + i as f64 / steps_per_epoch);
            if let Some(recorder) = &recorder {
                observe(optimizer.as_mut(), recorder)?;
            }
            if optimizer.step_input() == StepInput::Closure {
                search(optimizer.as_mut(), (score.loss, gradients), &mut || {
                    watch(News::Batch)?;
                    clock.lap(|phases| &mut phases.optimizer);
                    let (loss, score) = examples.loss(model, None)?;
                    clock.lap(|phases| &mut phases.forward);
                    let gradients = loss.backward()?;
                    clock.lap(|phases| &mut phases.backward);
                    Ok((score.loss, gradients))
                })?;
            } else {
                optimizer.step_report(&gradients)?;
            }
            clock.lap(|phases| &mut phases.optimizer);
        }
        // An epoch's gradients are not averaged with those of the next. Does nothing where all have been used.
        optimizer.flush()?;
        clock.lap(|phases| &mut phases.optimizer);
        // A batch norm's running statistics stay those of the weights that were trained.
        optimizer.use_weights(Weights::Averaged)?;
        let all: Vec<u32> = (0..).take(data.test.len()).collect();
        let mut evaluate = |split, indices: &[u32]| evaluate(model, split, indices, config, &mut batch, &device, watch);
        let test = evaluate(&data.test, &all)?;
        let held_out = match validation.as_slice() {
            [] => None,
            indices => Some(evaluate(&data.train, indices)?),
        };
        optimizer.use_weights(Weights::Trained)?;
        clock.lap(|phases| &mut phases.evaluation);

        let done = completed([epoch as usize, steps], optimizer.as_ref(), [total, test], held_out);
        // The last step of an epoch can be the one that breaks the model: its own loss was still finite.
        let broken = !done.test_loss.is_finite();
        epochs.push(done.clone());
        timing.push(clock.phases);
        let (optimizer, epochs, timing) = (optimizer.as_ref(), &epochs, &timing);
        let state = State { model, optimizer, steps, epochs, timing };
        watch(News::Epoch(&done, &clock.phases, Some(&state).filter(|_| !broken && epoch < train.epochs)))?;
        if broken {
            outcome = Outcome::Diverged { epoch: epoch as usize, step: steps };
            break;
        }
    }
    let optimizer = Some(state_of(optimizer.as_ref())?);
    Ok(Trained { data: about_data, model: about_model, outcome, epochs, timing, optimizer })
}

/// As [`train`], on a GPU.
#[cfg(feature = "cuda")]
fn train_on_cuda(
    config: &RunConfig,
    data: &DataSet,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    let Holdout { train: examples, validation } = config.data.selection().draw(&data.train.labels, config.seed)?;
    let at_once = memory::Examples {
        train: examples.len(),
        evaluated: validation.len().max(data.test.len()),
        all: data.train.len() + data.test.len(),
    };
    let trained = cuda::Cuda::new(config, data, at_once)
        .and_then(|mut device| device::train_on(&mut device, config, data, from, watch));
    trained.map_err(|error| gpu::explained(error, memory::Memory::of(config, at_once).ok(), gpu::smallest()))
}

#[cfg(not(feature = "cuda"))]
fn train_on_cuda(
    _config: &RunConfig,
    _data: &DataSet,
    _from: Option<&Snapshot>,
    _watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    Err(crate::GpuError::NotBuilt.into())
}

fn about_model(model: &dyn Model) -> ModelInfo {
    ModelInfo { title: model.title(), parameters: model.num_parameters() }
}

fn about_data(data: &DataSet, train_examples: usize, validation_examples: usize) -> DataInfo {
    DataInfo {
        name: data.name.to_string(),
        title: data.title.clone(),
        digest: data.digest.clone(),
        standing: standing(data.identity),
        train_examples,
        test_examples: data.test.len(),
        validation_examples,
    }
}

/// How much an optimizer keeps.
fn state_of(optimizer: &dyn AnyOptimizer) -> Result<OptimizerInfo> {
    let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    Ok(OptimizerInfo { state_bytes: optimizer.state()?.tensors.values().map(bytes).sum() })
}

/// Loss and accuracy on some examples of a split, without dropout or augmentation.
fn evaluate(
    model: &dyn Model,
    split: &Split,
    indices: &[u32],
    config: &RunConfig,
    batch: &mut Batch,
    device: &Device,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Total> {
    let mut total = Total::default();
    for indices in batches(indices, config.eval_batch_size()) {
        watch(News::Batch)?;
        let (images, labels) = batch.load(split, indices, Pass::Evaluate, device)?;
        let score = loss_and_correct(&model.forward(&images, Mode::Eval)?, &labels)?;
        total.add(score.loss, score.correct, indices.len());
    }
    Ok(total)
}

/// How batches are prepared, and the buffers for that.
///
/// Each is made when it is needed. A batch of 128 takes 0.04 ms of a 3 ms step of an MLP, one with augmentation 0.2 to 0.5 ms of
/// a ResNet's second: a thread that prepares ahead ([`np_data::Prepare::Ahead`]) could save no more, and where runs occupy all
/// cores it takes its time from them.
struct Batch {
    preparation: Preparation,
    shape: [usize; 3],
    pixels: Vec<f32>,
    labels: Vec<u32>,
}

impl Batch {
    /// The images \[n, c, h, w\] and labels \[n\] at `indices`.
    fn load(&mut self, split: &Split, indices: &[u32], pass: Pass, device: &Device) -> Result<(Tensor, Tensor)> {
        self.preparation.fill(split, indices, pass, &mut self.pixels, &mut self.labels)?;
        let [channels, height, width] = self.shape;
        let images = Tensor::from_slice(&self.pixels, (indices.len(), channels, height, width), device)?;
        let labels = Tensor::from_slice(&self.labels, indices.len(), device)?;
        Ok((images, labels))
    }
}

/// The metrics of an epoch that has ended after so many steps, of training and test examples and those held out.
fn completed(
    [epoch, steps]: [usize; 2],
    optimizer: &dyn AnyOptimizer,
    [train, test]: [Total; 2],
    held_out: Option<Total>,
) -> Epoch {
    Epoch {
        epoch,
        steps,
        lr: optimizer.effective_lr(),
        train_loss: train.loss(),
        train_accuracy: train.accuracy(),
        test_loss: test.loss(),
        test_accuracy: test.accuracy(),
        validation: held_out.map(|total| Score { loss: total.loss(), accuracy: total.accuracy() }),
        diagnostics: optimizer.diagnostics().into_iter().filter(|(_, value)| value.is_finite()).collect(),
    }
}

/// Sums over examples.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    loss: f64,
    correct: usize,
    examples: usize,
}

impl Total {
    fn add(&mut self, mean_loss: f64, correct: usize, examples: usize) {
        self.loss += mean_loss * examples as f64;
        self.correct += correct;
        self.examples += examples;
    }

    fn loss(&self) -> f64 {
        self.loss / self.examples as f64
    }

    fn accuracy(&self) -> f64 {
        self.correct as f64 / self.examples as f64
    }
}

/// Adds up the wall time of an epoch by phase.
struct Clock {
    last: Instant,
    phases: Phases,
}

impl Clock {
    fn start() -> Self {
        Self { last: Instant::now(), phases: Phases::default() }
    }

    /// Books the time since the last lap on a phase.
    fn lap(&mut self, phase: impl FnOnce(&mut Phases) -> &mut f64) {
        let now = Instant::now();
        *phase(&mut self.phases) += (now - self.last).as_secs_f64();
        self.last = now;
    }
}

#[cfg(test)]
mod tests;
