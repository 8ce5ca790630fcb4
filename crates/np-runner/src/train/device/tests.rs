//! The loop of a device over the host: the epochs of the CPU's loop, its snapshots and its dates, and nothing read but at an epoch's end.

use np_core::{Backend, NonFinite, Weights};
use np_data::{DataName, DataSet, Source};
use np_models::{Mode, Model};
use serde_json::json;

use super::super::tests::{images, train};
use super::*;
use crate::{
    images::{ImageBatch, ImageSettings, Images},
    task::{Examples, Picked, Task as _},
};

/// The host as a device: it does at once what it is asked for, and says what that was.
struct Host<'a> {
    settings: ImageSettings,
    data: &'a DataSet,
    model: Box<dyn Model>,
    optimizer: Box<dyn AnyOptimizer>,
    pass: (Half, Vec<u32>, Pass),
    steps: Read,
    evaluations: Read,
    calls: Vec<String>,
}

impl<'a> Host<'a> {
    fn new(config: &RunConfig, data: &'a DataSet) -> Self {
        let settings = images(config);
        let model = Images.model(&settings, data, config.seed, &candle_core::Device::Cpu).unwrap();
        let parameters = Trainable::parameters(&model);
        let optimizer = config.optimizer.build_with(parameters, config.options.clone(), Backend::Auto).unwrap();
        Self {
            settings,
            data,
            model,
            optimizer,
            pass: (Half::Train, vec![], Pass::Evaluate),
            steps: Read::default(),
            evaluations: Read::default(),
            calls: vec![],
        }
    }

    fn batch(&self, examples: Range<usize>) -> Result<ImageBatch> {
        let (half, order, pass) = &self.pass;
        let picked = Picked { half: *half, examples: &order[examples], pass: *pass };
        Ok(Images.batch(&self.settings, self.data, picked, &candle_core::Device::Cpu)?)
    }
}

fn used(config: &RunConfig, data: &DataSet) -> Examples {
    Images.examples(&images(config), data, config.seed).unwrap()
}

/// As the task would, on the host.
fn train_on(
    device: &mut dyn OnDevice,
    config: &RunConfig,
    data: &DataSet,
    from: Option<&Snapshot>,
    watch: &mut dyn FnMut(News<'_>) -> Result<()>,
) -> Result<Trained> {
    let about = Images.about(&images(config), data);
    super::train_on(device, OnGpu { config, examples: &used(config, data), about, from, watch })
}

impl OnDevice for Host<'_> {
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
        self.calls.push(format!("begin {half:?} {}", order.len()));
        self.pass = (half, order.to_vec(), pass);
        Ok(())
    }

    fn step(&mut self, examples: Range<usize>, step: u64) -> Result<()> {
        self.calls.push(format!("step {step} {examples:?}"));
        let batch = self.batch(examples)?;
        let loss = Images.loss(&self.model, &batch, Mode::Train { step })?;
        if !loss.score.loss.is_finite() {
            self.steps.broken.get_or_insert(step);
        }
        self.steps.total.add(&loss.score, batch.labels.elem_count());
        // A rule that only queues goes on, whatever the numbers are; one that looks at gradients may refuse them.
        self.optimizer.step_report(&loss.tensor.backward()?)?;
        Ok(())
    }

    fn evaluate(&mut self, examples: Range<usize>) -> Result<()> {
        self.calls.push(format!("evaluate {examples:?}"));
        let batch = self.batch(examples)?;
        let score = Images.score(&self.model, &batch)?;
        self.evaluations.total.add(&score, batch.labels.elem_count());
        Ok(())
    }

    fn read(&mut self) -> Result<Read> {
        self.calls.push("read".into());
        Ok(std::mem::take(&mut self.steps))
    }

    fn read_evaluation(&mut self) -> Result<Read> {
        self.calls.push("read evaluation".into());
        Ok(std::mem::take(&mut self.evaluations))
    }
}

fn config(optimizer: &serde_json::Value) -> RunConfig {
    serde_json::from_value(json!({
        "data": {"name": "fashion-mnist", "count": 100, "validation": 0.05},
        "model": {"mlp": {"hidden": [12], "dropout": 0.2}},
        "train": {"epochs": 3, "batch_size": 30, "eval_batch_size": 400},
        "optimizer": optimizer,
        "options": {"schedule": "cosine"},
        "seed": 7,
    }))
    .unwrap()
}

fn mini() -> DataSet {
    DataSet::load(DataName::FashionMnist, Source::Mini, None).unwrap()
}

/// Keeps the snapshot after the first epoch.
fn keep(first: &mut Option<Snapshot>) -> impl FnMut(News<'_>) -> Result<()> + '_ {
    move |news| {
        if let News::Epoch(epoch, _, Some(state)) = news
            && epoch.epoch == 1
        {
            *first = Some(state.snapshot("id")?);
        }
        Ok(())
    }
}

#[test]
fn a_device_that_computes_as_the_cpu_trains_as_the_cpu() {
    let data = mini();
    for optimizer in
        [json!({"adam": {"lr": 0.01}}), json!({"neuroplastic": {"lr": 0.1}}), json!({"asgd": {"lr": 0.1, "t0": 1.0}})]
    {
        let config = config(&optimizer);
        let (mut here, mut there) = (None, None);
        let cpu = train(&config, &data, None, &mut keep(&mut here)).unwrap();
        let device = train_on(&mut Host::new(&config, &data), &config, &data, None, &mut keep(&mut there)).unwrap();
        assert_eq!(device.outcome, Outcome::Finished);
        assert_eq!(device.epochs, cpu.epochs, "{optimizer}");
        assert_eq!((device.data, device.model, device.optimizer), (cpu.data, cpu.model, cpu.optimizer));
        assert!(device.timing.iter().all(|phases| phases.steps > 0.0 && phases.forward == 0.0));

        let (here, there) = (here.unwrap(), there.unwrap());
        assert_eq!((here.progress.steps, &here.progress.epochs), (there.progress.steps, &there.progress.epochs));
        let state =
            |snapshot: &Snapshot| Snapshot { progress: Default::default(), ..snapshot.clone() }.to_bytes().unwrap();
        assert!(state(&here) == state(&there), "{optimizer}: snapshots hold the same");
        let again = Snapshot::from_bytes(&there.to_bytes().unwrap(), "id").unwrap();
        let rest = train_on(&mut Host::new(&config, &data), &config, &data, Some(&again), &mut |_| Ok(())).unwrap();
        assert_eq!(rest.epochs, cpu.epochs, "{optimizer}: to the bit, once it goes on");
    }
}

#[test]
fn nothing_is_read_but_at_an_epochs_end() {
    let data = mini();
    let config = config(&json!({"sgd": {"lr": 0.1}}));
    let mut host = Host::new(&config, &data);
    train_on(&mut host, &config, &data, None, &mut |_| Ok(())).unwrap();
    // 100 examples in batches of 30; 1,000 test examples and a twentieth of 2,000, class by class, in batches of 400.
    let epoch = |first: usize| {
        let steps = ["0..30", "30..60", "60..90", "90..100"];
        let steps = steps.into_iter().enumerate().map(move |(i, span)| format!("step {} {span}", first + i));
        let rest = [
            "read",
            "begin Test 1000",
            "evaluate 0..400",
            "evaluate 400..800",
            "evaluate 800..1000",
            "read evaluation",
            "begin Train 100",
            "evaluate 0..100",
            "read evaluation",
        ];
        ["begin Train 100".to_owned()].into_iter().chain(steps).chain(rest.map(str::to_owned))
    };
    let want: Vec<String> = [0, 4, 8].into_iter().flat_map(epoch).collect();
    assert_eq!(host.calls, want);
}

#[test]
fn a_run_is_evaluated_as_often_as_it_says_and_at_its_end() {
    let data = mini();
    let every = config(&json!({"asgd": {"lr": 0.1, "t0": 1.0}}));
    let mut seldom = every.clone();
    seldom.train.eval_every = 2;
    let mut host = Host::new(&seldom, &data);
    let device = train_on(&mut host, &seldom, &data, None, &mut |_| Ok(())).unwrap();
    let cpu = train(&seldom, &data, None, &mut |_| Ok(())).unwrap();
    assert_eq!(device.epochs, cpu.epochs);
    // Epochs 2 and 3 of three, each by test and held-out examples: what is trained is what it is with more evaluations.
    assert_eq!(host.calls.iter().filter(|call| *call == "read evaluation").count(), 4);
    let mut want = train(&every, &data, None, &mut |_| Ok(())).unwrap().epochs;
    (want[0].test_loss, want[0].test_accuracy, want[0].validation) = (None, None, None);
    assert_eq!(cpu.epochs, want);
}

#[test]
fn a_divergence_that_is_seen_later_is_dated_to_its_step() {
    let data = mini();
    // What refuses gradients that are not finite sees them before the loss is read.
    let (propagate, refuse) = (NonFinite::Propagate, NonFinite::Error);
    for (lr, policy) in [(1e4, propagate), (1e18, propagate), (1e30, propagate), (1e18, refuse), (1e30, refuse)] {
        let mut config = config(&json!({"sgd": {"lr": lr}}));
        config.options.non_finite = policy;
        let cpu = train(&config, &data, None, &mut |_| Ok(())).unwrap();
        assert!(matches!(cpu.outcome, Outcome::Diverged { .. }) || lr < 1e10, "{lr}");
        let mut host = Host::new(&config, &data);
        let device = train_on(&mut host, &config, &data, None, &mut |_| Ok(())).unwrap();
        assert_eq!((device.outcome, device.epochs), (cpu.outcome, cpu.epochs), "{lr}");
    }
}

#[test]
fn a_wish_to_stop_is_heard_between_two_steps() {
    let data = mini();
    let config = config(&json!({"sgd": {"lr": 0.1}}));
    let (mut host, mut batches) = (Host::new(&config, &data), 0);
    let stopped = train_on(&mut host, &config, &data, None, &mut |news| {
        batches += usize::from(matches!(news, News::Batch));
        if batches == 3 { Err(crate::Error::Stopped) } else { Ok(()) }
    });
    assert!(matches!(stopped, Err(crate::Error::Stopped)));
    assert_eq!(host.calls.last().unwrap(), "step 1 30..60");
}

#[test]
fn averages_are_evaluated_and_trained_weights_come_back() {
    let data = mini();
    let config = RunConfig { options: Default::default(), ..config(&json!({"schedule_free_sgd": {"lr": 0.5}})) };
    let mut host = Host::new(&config, &data);
    let trained = train_on(&mut host, &config, &data, None, &mut |_| Ok(())).unwrap();
    let all: Vec<u32> = (0..).take(data.test.len()).collect();
    let mut loss = |weights| {
        host.optimizer.use_weights(weights).unwrap();
        evaluate(&mut host, Half::Test, &all, &config, &mut |_| Ok(())).unwrap().loss()
    };
    let [averaged, own] = [loss(Weights::Averaged), loss(Weights::Trained)];
    assert_eq!(trained.epochs[2].test_loss, Some(averaged));
    assert_ne!(averaged, own);
}
