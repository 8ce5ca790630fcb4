//! One run, from configuration and data to metrics: the training loop.
//!
//! Everything random comes from the run's seed, and nothing depends on threads or time but the timings. Files, processes and
//! records are for [`crate::worker`].

use std::time::Instant;

use candle_core::{Device, Tensor};
use np_core::{AnyOptimizer, Backend, StepInput, Weights};
use np_data::{Pass, batches, epoch_order};
use np_models::{Mode, Recorder};
use np_record::{DataInfo, Epoch, ModelInfo, OptimizerInfo, Outcome, Phases};

use crate::{
    config::RunConfig,
    device::Device as On,
    error::Result,
    snapshot::{Snapshot, State},
    step::{observe, search},
    task::{AboutData, Examples, Half, Picked, Score, Task, TaskData, TaskMetric, Trainable},
};

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", test))]
mod device;
mod totals;

#[cfg(feature = "cuda")]
pub(crate) use cuda::Cuda;
#[cfg(feature = "cuda")]
pub(crate) use device::train_on;
use totals::{Evaluated, Total, completed, whole};

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

/// A run to be trained on a GPU, as a task is handed it.
pub struct OnGpu<'a> {
    /// Its configuration.
    pub config: &'a RunConfig,
    /// The examples that it uses.
    pub examples: &'a Examples,
    #[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code, reason = "what trains on a GPU reads it"))]
    about: AboutData,
    #[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code, reason = "what trains on a GPU reads it"))]
    from: Option<&'a Snapshot>,
    #[cfg_attr(not(any(feature = "cuda", test)), allow(dead_code, reason = "what trains on a GPU reads it"))]
    watch: &'a mut dyn FnMut(News<'_>) -> Result<()>,
}

impl std::fmt::Debug for OnGpu<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnGpu")
    }
}

/// Trains one run, from its beginning or from a snapshot of it: the result is the same, bit for bit.
///
/// `data` is that of the run's task. `watch` hears how it goes; an error of its ends the training.
///
/// # Errors
/// Those of data, model, optimizer and `watch`; [`crate::Error::Snapshot`] if `from` is one of another run. A loss that is not finite is none: it is [`Outcome::Diverged`].
pub fn train(
    config: &RunConfig,
    data: &TaskData,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    config.task.chosen().train(config, data.any(), from, watch)
}

/// As [`train`], of a task that is known.
pub(crate) fn of_task<T: Task>(
    task: &T,
    settings: &T::Settings,
    data: &T::Data,
    config: &RunConfig,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    let RunConfig { train, seed, .. } = config;
    let used = task.examples(settings, data, *seed)?;
    if train.device == On::Cuda {
        let about = task.about(settings, data);
        return task.train_on_gpu(settings, data, OnGpu { config, examples: &used, about, from, watch });
    }
    let device = Device::Cpu;
    let metrics = task.metrics();
    let model = &task.model(settings, data, *seed, &device)?;
    let mut optimizer = config.optimizer.build_with(model.parameters(), config.options.clone(), Backend::Auto)?;

    let (about_model, about_data) = (about_model(model), about_data(task.about(settings, data), &used));
    watch(News::Begins(&about_model, &about_data))?;

    let batch =
        |half: Half, examples: &[u32], pass: Pass| task.batch(settings, data, Picked { half, examples, pass }, &device);
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
        let order = epoch_order(&used.train, *seed, epoch - 1);
        let mut total = Total::default();
        optimizer.begin_epoch(epoch as usize, train.epochs as usize);
        let all = batches(&order, config.batch_size());
        let steps_per_epoch = all.len() as f64;
        for (i, indices) in all.enumerate() {
            watch(News::Batch)?;
            let examples = batch(Half::Train, indices, Pass::Train { seed: *seed, epoch: epoch - 1 })?;
            clock.lap(|phases| &mut phases.data);

            // Evaluated again, with the same mode, a batch has the same dropout.
            let mode = Mode::Train { step: steps as u64 };
            let loss = match &recorder {
                Some(recorder) => task.loss_recorded(model, &examples, mode, recorder)?,
                None => task.loss(model, &examples, mode)?,
            };
            clock.lap(|phases| &mut phases.forward);
            steps += 1;
            if !loss.score.loss.is_finite() {
                outcome = Outcome::Diverged { epoch: epoch as usize, step: steps };
                break 'training;
            }
            whole(task.name(), &loss.score, &metrics)?;
            total.add(&loss.score, indices.len());

            let gradients = loss.tensor.backward()?;
            clock.lap(|phases| &mut phases.backward);

            optimizer.set_position(f64::from(epoch - 1) + i as f64 / steps_per_epoch);
            if let Some(recorder) = &recorder {
                observe(optimizer.as_mut(), recorder)?;
            }
            if optimizer.step_input() == StepInput::Closure {
                search(optimizer.as_mut(), (loss.score.loss, gradients), &mut || {
                    watch(News::Batch)?;
                    clock.lap(|phases| &mut phases.optimizer);
                    let loss = task.loss(model, &examples, mode)?;
                    clock.lap(|phases| &mut phases.forward);
                    let gradients = loss.tensor.backward()?;
                    clock.lap(|phases| &mut phases.backward);
                    Ok((loss.score.loss, gradients))
                })?;
            } else {
                optimizer.step_report(&gradients)?;
            }
            clock.lap(|phases| &mut phases.optimizer);
        }
        // An epoch's gradients are not averaged with those of the next. Does nothing where all have been used.
        optimizer.flush()?;
        clock.lap(|phases| &mut phases.optimizer);
        let evaluated = match train.evaluates(epoch) {
            false => None,
            true => {
                // A batch norm's running statistics stay those of the weights that were trained.
                optimizer.use_weights(Weights::Averaged)?;
                let mut evaluate = |half: Half, indices: &[u32]| -> Result<Total> {
                    let mut total = Total::default();
                    for indices in batches(indices, config.eval_batch_size()) {
                        watch(News::Batch)?;
                        let score = task.score(model, &batch(half, indices, Pass::Evaluate)?)?;
                        whole(task.name(), &score, &metrics)?;
                        total.add(&score, indices.len());
                    }
                    Ok(total)
                };
                let test = evaluate(Half::Test, &used.tested())?;
                let held_out = match used.validation.as_slice() {
                    [] => None,
                    indices => Some(evaluate(Half::Train, indices)?),
                };
                optimizer.use_weights(Weights::Trained)?;
                Some(Evaluated { test, held_out })
            }
        };
        clock.lap(|phases| &mut phases.evaluation);

        let done = completed([epoch as usize, steps], optimizer.as_ref(), &metrics, &total, evaluated.as_ref());
        // The last step of an epoch can be the one that breaks the model: its own loss was still finite. Without an evaluation the next step's loss says so.
        let broken = done.test_loss.is_some_and(|loss| !loss.is_finite());
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

fn about_model(model: &dyn Trainable) -> ModelInfo {
    ModelInfo {
        title: model.title(),
        parameters: model.parameters().iter().map(|(_, parameter)| parameter.elem_count()).sum(),
    }
}

/// What a record says of its data.
pub(crate) fn about_data(about: AboutData, used: &Examples) -> DataInfo {
    let AboutData { name, title, digest, standing } = about;
    DataInfo {
        name,
        title,
        digest,
        standing,
        train_examples: used.train.len(),
        test_examples: used.test,
        validation_examples: used.validation.len(),
    }
}

/// How much an optimizer keeps.
fn state_of(optimizer: &dyn AnyOptimizer) -> Result<OptimizerInfo> {
    let bytes = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
    Ok(OptimizerInfo { state_bytes: optimizer.state()?.tensors.values().map(bytes).sum() })
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
