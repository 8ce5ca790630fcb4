//! The training loop of a device that is asked for work and not waited for: loss and accuracy are read once an epoch.
//!
//! It goes as the CPU's, step by step, and gives the same epochs where the device gives the same numbers. That a training has diverged is seen when it is read, and dated to
//! its step; what was asked for after that step counts for nothing. What a device must be able to do is [`OnDevice`]; the one on CUDA is `cuda`, that of tests is the host.

use std::ops::Range;

use np_core::{AnyOptimizer, Weights};
use np_data::{Pass, epoch_order};
use np_record::Outcome;

use super::{Clock, Evaluated, News, OnGpu, Total, Trained, about_data, about_model, completed, state_of};
use crate::{
    config::RunConfig,
    error::Result,
    snapshot::{Snapshot, State},
    task::{Half, Trainable},
};

/// What a device has added up since it was last asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Read {
    /// Over examples.
    pub(super) total: Total,
    /// The first step, from 0 over the whole run, whose loss was not finite.
    pub(super) broken: Option<u64>,
}

/// A model, its optimizer and its data on a device. What is asked for is queued, in its order; only the two that read wait for it.
pub(crate) trait OnDevice {
    /// The model, whose variables are on the device.
    fn model(&self) -> &dyn Trainable;
    /// Its optimizer.
    fn optimizer(&self) -> &dyn AnyOptimizer;
    /// Its optimizer, to be told where it is.
    fn optimizer_mut(&mut self) -> &mut dyn AnyOptimizer;
    /// Gives model and optimizer the state of a snapshot.
    fn restore(&mut self, snapshot: &Snapshot) -> Result<()>;
    /// Takes the examples of a split, in this order, for the pass that begins.
    fn begin(&mut self, half: Half, order: &[u32], pass: Pass) -> Result<()>;
    /// A training step on these examples of the pass, the step of this number from 0.
    fn step(&mut self, examples: Range<usize>, step: u64) -> Result<()>;
    /// Loss and accuracy on these examples of the pass, without dropout.
    fn evaluate(&mut self, examples: Range<usize>) -> Result<()>;
    /// What all training steps since the last time have added up to.
    fn read(&mut self) -> Result<Read>;
    /// What all evaluations since the last time have added up to.
    fn read_evaluation(&mut self) -> Result<Read>;
}

/// Trains one run on a device, as [`super::train`] does.
///
/// # Errors
/// As there.
pub(crate) fn train_on(device: &mut dyn OnDevice, run: OnGpu<'_>) -> Result<Trained> {
    let OnGpu { config, examples: used, about, from, watch } = run;
    let RunConfig { train, seed, .. } = config;
    let metrics = config.task.chosen().metrics();
    let (model, data_used) = (about_model(device.model()), about_data(about, used));
    watch(News::Begins(&model, &data_used))?;

    let (mut steps, mut epochs, mut timing) = (0, Vec::new(), Vec::new());
    if let Some(snapshot) = from {
        device.restore(snapshot)?;
        let progress = snapshot.progress.clone();
        (steps, epochs, timing) = (progress.steps, progress.epochs, progress.timing);
    }
    let mut outcome = Outcome::Finished;
    'training: for epoch in (1..=train.epochs).skip(epochs.len()) {
        let mut clock = Clock::start();
        let order = epoch_order(&used.train, *seed, epoch - 1);
        device.begin(Half::Train, &order, Pass::Train { seed: *seed, epoch: epoch - 1 })?;
        clock.lap(|phases| &mut phases.data);

        device.optimizer_mut().begin_epoch(epoch as usize, train.epochs as usize);
        let all = spans(order.len(), config.batch_size().get());
        let steps_per_epoch = all.len() as f64;
        for (i, span) in all.into_iter().enumerate() {
            watch(News::Batch)?;
            device.optimizer_mut().set_position(f64::from(epoch - 1) + i as f64 / steps_per_epoch);
            if let Err(error) = device.step(span, steps as u64) {
                // A rule that looks at gradients refuses those of a loss that is not finite: that loss is what happened.
                // Where the device does not answer either, the first error says why.
                let Some(step) = device.read().ok().and_then(|read| read.broken) else { return Err(error) };
                outcome = Outcome::Diverged { epoch: epoch as usize, step: step as usize + 1 };
                break 'training;
            }
            steps += 1;
        }
        let flushed = device.optimizer_mut().flush();
        let read = device.read();
        if !read.as_ref().is_ok_and(|read| read.broken.is_some()) {
            flushed?;
        }
        let Read { total, broken } = read?;
        clock.lap(|phases| &mut phases.steps);
        // Of a sum that is not finite, and of no step, the last one is as good as any.
        let broken = broken.or_else(|| (!total.loss().is_finite()).then(|| steps.saturating_sub(1) as u64));
        if let Some(step) = broken {
            outcome = Outcome::Diverged { epoch: epoch as usize, step: step as usize + 1 };
            break;
        }

        let evaluated = match train.evaluates(epoch) {
            false => None,
            true => {
                device.optimizer_mut().use_weights(Weights::Averaged)?;
                let test = evaluate(device, Half::Test, &used.tested(), config, watch)?;
                let held_out = match used.validation.as_slice() {
                    [] => None,
                    indices => Some(evaluate(device, Half::Train, indices, config, watch)?),
                };
                device.optimizer_mut().use_weights(Weights::Trained)?;
                Some(Evaluated { test, held_out })
            }
        };
        clock.lap(|phases| &mut phases.evaluation);

        let optimizer = device.optimizer();
        let done = completed([epoch as usize, steps], optimizer, &metrics, &total, evaluated.as_ref());
        // The last step of an epoch can be the one that breaks the model: its own loss was still finite.
        let broken = done.test_loss.is_some_and(|loss| !loss.is_finite());
        epochs.push(done.clone());
        timing.push(clock.phases);
        let state = State { model: device.model(), optimizer, steps, epochs: &epochs, timing: &timing };
        watch(News::Epoch(&done, &clock.phases, Some(&state).filter(|_| !broken && epoch < train.epochs)))?;
        if broken {
            outcome = Outcome::Diverged { epoch: epoch as usize, step: steps };
            break;
        }
    }
    let optimizer = Some(state_of(device.optimizer())?);
    Ok(Trained { data: data_used, model, outcome, epochs, timing, optimizer })
}

/// Loss and accuracy on some examples, without dropout or augmentation.
fn evaluate(
    device: &mut dyn OnDevice,
    half: Half,
    indices: &[u32],
    config: &RunConfig,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Total> {
    device.begin(half, indices, Pass::Evaluate)?;
    for span in spans(indices.len(), config.eval_batch_size().get()) {
        watch(News::Batch)?;
        device.evaluate(span)?;
    }
    Ok(device.read_evaluation()?.total)
}

/// `0..len`, cut into batches; the last may be short.
fn spans(len: usize, batch: usize) -> Vec<Range<usize>> {
    (0..len).step_by(batch.max(1)).map(|start| start..start.saturating_add(batch).min(len)).collect()
}

#[cfg(test)]
mod tests;
