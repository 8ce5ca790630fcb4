//! Trainings of a tiny model by optimizers that average, search or observe: what is evaluated, what is resumed, what is counted.

use np_data::{DataName, DataSet, Source};
use serde_json::json;

use super::*;
use crate::images::{ImageSettings, Images};

fn config(optimizer: &serde_json::Value) -> RunConfig {
    serde_json::from_value(json!({
        "data": {"name": "fashion-mnist", "count": 120},
        "model": {"mlp": {"hidden": [12], "dropout": 0.2}},
        "train": {"epochs": 3, "batch_size": 30},
        "optimizer": optimizer,
        "seed": 7,
    }))
    .unwrap()
}

fn mini() -> DataSet {
    DataSet::load(DataName::FashionMnist, Source::Mini, None).unwrap()
}

pub(in crate::train) fn images(config: &RunConfig) -> ImageSettings {
    config.task.as_images().unwrap().clone()
}

pub(in crate::train) fn train(
    config: &RunConfig,
    data: &DataSet,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    of_task(&Images, &images(config), data, config, from, watch)
}

/// The run, with the snapshot after its first epoch.
fn trained(config: &RunConfig, data: &DataSet) -> (Trained, Snapshot) {
    let mut first = None;
    let trained = train(config, data, None, &mut |news| {
        if let News::Epoch(epoch, _, Some(state)) = news
            && epoch.epoch == 1
        {
            first = Some(state.snapshot("id")?);
        }
        Ok(())
    });
    (trained.unwrap(), first.unwrap())
}

/// Those that average, search, observe, and one that does nothing of it.
fn special() -> [serde_json::Value; 6] {
    [
        json!({"asgd": {"lr": 0.1, "t0": 1.0}}),
        json!({"schedule_free_sgd": {"lr": 0.5}}),
        json!({"schedule_free_adamw": {"lr": 0.01}}),
        json!({"lbfgs": {"max_iterations": 3, "history": 3}}),
        json!({"kfac": {"lr": 0.1, "damping": 0.03, "update_every": 2}}),
        json!({"adam": {"lr": 0.01}}),
    ]
}

#[test]
fn a_run_that_goes_on_from_a_snapshot_gives_the_same_bits() {
    let data = mini();
    for optimizer in special() {
        let config = config(&optimizer);
        let (whole, snapshot) = trained(&config, &data);
        let snapshot = Snapshot::from_bytes(&snapshot.to_bytes().unwrap(), "id").unwrap();
        let rest = train(&config, &data, Some(&snapshot), &mut |_| Ok(())).unwrap();
        assert_eq!(whole.outcome, Outcome::Finished, "{optimizer}");
        assert_eq!(rest.epochs, whole.epochs, "{optimizer}");
        assert_eq!(rest.optimizer, whole.optimizer, "{optimizer}");
        assert!(whole.epochs[2].train_loss < whole.epochs[0].train_loss, "{optimizer} trains");
    }
}

#[test]
fn what_is_evaluated_is_the_average_and_what_is_kept_the_trained_weights() {
    let data = mini();
    for optimizer in special() {
        let config = config(&optimizer);
        let (trained, snapshot) = trained(&config, &data);
        let settings = images(&config);
        let model = Images.model(&settings, &data, config.seed, &Device::Cpu).unwrap();
        let mut optimizer = config.optimizer.build(model.parameters()).unwrap();
        snapshot.restore(&model, optimizer.as_mut()).unwrap();
        let all: Vec<u32> = (0..).take(data.test.len()).collect();
        let loss = || {
            let mut total = Total::default();
            for examples in batches(&all, config.eval_batch_size()) {
                let picked = Picked { half: Half::Test, examples, pass: Pass::Evaluate };
                let batch = Images.batch(&settings, &data, picked, &Device::Cpu).unwrap();
                total.add(&Images.score(&model, &batch).unwrap(), examples.len());
            }
            total.loss()
        };
        let of_trained = loss();
        optimizer.use_weights(Weights::Averaged).unwrap();
        let of_average = loss();
        optimizer.use_weights(Weights::Trained).unwrap();
        assert_eq!(loss(), of_trained, "{optimizer:?}: they come back to the bit", optimizer = config.optimizer);
        assert_eq!(trained.epochs[0].test_loss, Some(of_average));
        let averages = ["asgd", "schedule_free_sgd", "schedule_free_adamw"].contains(&config.optimizer.kind());
        assert_eq!(of_average != of_trained, averages, "{}", config.optimizer.kind());
    }
}

#[test]
fn a_search_evaluates_the_same_dropout_and_hears_of_a_stop() {
    let (data, config) = (mini(), config(&json!({"lbfgs": {"max_iterations": 4, "max_evaluations": 6}})));
    let mut batches = 0;
    let trained = train(&config, &data, None, &mut |news| {
        batches += usize::from(matches!(news, News::Batch));
        Ok(())
    });
    let evaluation = 3 * data.test.len().div_ceil(1000);
    // 4 batches in each of 3 epochs; a search of several evaluations in most.
    assert!(batches > 2 * 12 + evaluation, "{batches} batches");
    assert_eq!(trained.unwrap().epochs[2].steps, 12, "a search is one step");

    let mut left = 3;
    let stopped = train(&config, &data, None, &mut |news| {
        left -= usize::from(matches!(news, News::Batch));
        if left == 0 { Err(crate::Error::Stopped) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(crate::Error::Stopped)), "in the middle of the first step's search");
}

#[test]
fn the_size_of_the_state_is_that_of_its_tensors() {
    let data = mini();
    let bytes = |optimizer| {
        let trained = trained(&config(&optimizer), &data).0;
        (trained.optimizer.unwrap().state_bytes, trained.model.parameters)
    };
    let (adam, parameters) = bytes(json!({"adam": {"lr": 0.01}}));
    // Two moments of four bytes, and a count of steps a tensor.
    assert_eq!(adam, 2 * 4 * parameters + 4 * 8);
    let (sgd, _) = bytes(json!({"sgd": {"lr": 0.05}}));
    assert_eq!(sgd, 4 * 8, "nothing but the counts");
}

/// The last batches of an epoch are an update of their own where they are fewer than an update takes, and where it takes one nothing changes.
#[test]
fn an_accumulation_ends_with_its_epoch() {
    let data = mini();
    let with = |accumulate: usize, batch_size: usize| {
        let mut config = config(&json!({"sgd": {"lr": 0.05}}));
        config.options = serde_json::from_value(json!({"accumulate": accumulate})).unwrap();
        config.train.batch_size = batch_size;
        // Without dropout the mean over batches of one size is that of all of their examples.
        let model = serde_json::from_value(json!({"mlp": {"hidden": [12], "dropout": 0.0}})).unwrap();
        config.task = crate::TaskConfig::images(ImageSettings { model, ..images(&config) });
        let (trained, snapshot) = trained(&config, &data);
        (
            trained.epochs[2].train_loss,
            snapshot.optimizer.numbers["step"].clone(),
            snapshot.optimizer.numbers["calls"].clone(),
        )
    };
    // 120 examples: 4 batches of 30, two updates of three calls and of one; or one batch, and one update of all of them.
    let (_, updates, left) = with(3, 30);
    assert_eq!((updates.as_str(), left.as_str()), ("2", "0"));
    let ((four, updates, _), (one, ..)) = (with(5, 30), with(1, 120));
    assert_eq!(updates, "1");
    assert!((four - one).abs() < 1e-5, "{four} against {one}");
}
