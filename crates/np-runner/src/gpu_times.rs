//! How long runs take on a GPU, as far as somebody has measured it: `gpu_times.tsv`, a row a reading, with where and of what it is.
//!
//! A row is of forward and backward passes over training batches; an evaluation is a third of that. The optimizer's steps are not in it: NeuroPlastic's adds a tenth to a quarter on an H100. A run without a row of its
//! very model, images, precision and batch has no estimate.

use np_record::PlannedRun;
use serde_json::Value;

use crate::{config::RunConfig, device::Device, memory::CLASSES};

const KEPT: &str = include_str!("gpu_times.tsv");

/// Passes over an image in a step of training: forward, and backward twice as much.
const PASSES: f64 = 3.0;

/// A reading.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// The GPU, as its driver names it.
    pub(crate) gpu: &'static str,
    model: Value,
    images: &'static str,
    precision: &'static str,
    batch: usize,
    images_per_second: f64,
    /// When, and of what.
    pub(crate) measured: &'static str,
}

/// All readings.
fn readings() -> Vec<Reading> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [gpu, model, images, precision, batch, rate, measured] = cells[..] else { return None };
        Some(Reading {
            gpu,
            model: serde_json::from_str(model).ok()?,
            images,
            precision,
            batch: batch.parse().ok()?,
            images_per_second: rate.parse().ok()?,
            measured,
        })
    };
    KEPT.lines().skip(1).filter_map(row).collect()
}

/// Seconds on a GPU of a run of so many operations, see [`crate::Planned::operations`], with the reading that says so; nothing for a run that is for no GPU, or of which
/// nothing is kept.
pub(crate) fn seconds(run: &PlannedRun, operations: f64) -> Option<(f64, Reading)> {
    of(run, operations, readings())
}

fn of(run: &PlannedRun, operations: f64, kept: Vec<Reading>) -> Option<(f64, Reading)> {
    let config: RunConfig = serde_json::from_value(run.config.clone()).ok()?;
    let images = config.task.as_images()?;
    let shape = images.data.shape().ok()?;
    let forward = 2.0 * images.model.multiply_adds(shape, CLASSES) as f64;
    let images = shape.map(|side| side.to_string()).join("x");
    let precision = config.train.precision.filter(|_| config.train.device == Device::Cuda)?.name();
    let model = run.config.get("model")?;
    let is_same = |row: &Reading| {
        (&row.model, row.images, row.precision, row.batch)
            == (model, images.as_str(), precision, config.train.batch_size)
    };
    let row = kept.into_iter().find(is_same)?;
    Some((operations / (forward * PASSES) / row.images_per_second, row))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn run(train: Value) -> PlannedRun {
        let config = json!({
            "data": {"name": "cifar10", "source": "full", "fraction": 1.0}, "model": {"resnet18": {"width": 64}}, "train": train,
            "optimizer": "adamw", "seed": 1,
        });
        let config: RunConfig = serde_json::from_value(config).unwrap();
        let config = serde_json::to_value(config.resolved()).unwrap();
        PlannedRun {
            id: String::new(),
            arm: String::new(),
            seed: 1,
            axes: BTreeMap::new(),
            config,
            data_digest: String::new(),
        }
    }

    #[test]
    fn every_row_is_a_reading_of_a_model_that_there_is() {
        let rows = readings();
        assert_eq!(rows.len(), KEPT.lines().count() - 1);
        for row in rows {
            assert!(
                row.images_per_second > 0.0 && row.gpu.starts_with("NVIDIA ") && row.measured.starts_with("20"),
                "{row:?}"
            );
            let model: crate::ModelConfig = serde_json::from_value(row.model.clone()).unwrap();
            assert_eq!(serde_json::to_value(model).unwrap(), row.model, "spelled out, as in a configuration");
        }
    }

    #[test]
    fn a_run_takes_what_its_passes_take_and_without_a_reading_nobody_knows() {
        let config: RunConfig = serde_json::from_value(run(json!({})).config).unwrap();
        let forward = 2.0 * config.task.as_images().unwrap().model.multiply_adds([3, 32, 32], 10) as f64;
        // An epoch of 5,695 examples that are trained on, and of a third as many passes that evaluate.
        let operations = forward * (3.0 * 5695.0 + 5695.0);
        let cuda = |more: Value| {
            let mut train = json!({"device": "cuda"});
            train.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            seconds(&run(train), operations).map(|(seconds, row)| (seconds, row.gpu))
        };
        let (seconds, gpu) = cuda(json!({"precision": "fp32"})).unwrap();
        assert!((seconds - 4.0 / 3.0).abs() < 1e-9 && gpu == "NVIDIA H100 80GB HBM3", "{seconds}");
        // 27,899 a second in TF32, which is the default.
        let (seconds, _) = cuda(json!({})).unwrap();
        assert!((seconds - 4.0 / 3.0 * 5695.0 / 27899.0).abs() < 1e-9, "{seconds}");
        assert_eq!(cuda(json!({"precision": "fp32", "batch_size": 64})), None);
        assert_eq!(super::seconds(&run(json!({})), operations), None, "on the CPU");
    }
}
