//! How much memory a run will want, by its sizes alone: what `np plan` prints, and what is refused because no machine has it.

use std::fs;

use crate::{
    config::{OutOfRange, RunConfig},
    device::Device,
    images::ImageSettings,
    say::count,
    task::Counts,
};

/// Classes of every data set that there is.
pub(crate) const CLASSES: usize = 10;

/// The most that a run may want: 1 TiB. More is a typing error.
const MOST: u64 = 1 << 40;

/// Bytes of a number: models compute in single precision.
const NUMBER: usize = 4;

/// What a run holds at a time, in bytes, about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// The model's parameters.
    pub parameters: u64,
    /// Their gradients.
    pub gradients: u64,
    /// What the optimizer keeps.
    pub optimizer: u64,
    /// What a pass over a batch holds: of training or of evaluation, whichever is more.
    pub activations: u64,
    /// The data set, a byte a pixel.
    pub data: u64,
}

impl Memory {
    /// The memory of a run on images, of a set of so many examples in all.
    ///
    /// # Errors
    /// The key whose value makes it more than any machine has.
    pub(crate) fn of(
        images: &ImageSettings,
        run: &RunConfig,
        examples: Counts,
        all_examples: usize,
    ) -> Result<Self, OutOfRange> {
        let ImageSettings { data, model } = images;
        let RunConfig { train, optimizer, .. } = run;
        let shape = data.shape()?;
        let shapes = model.parameter_shapes(shape, CLASSES)?;
        let all = |of: &dyn Fn(&[usize]) -> Option<usize>| {
            shapes.iter().try_fold(0_usize, |sum, shape| sum.checked_add(of(shape)?)).and_then(bytes)
        };
        // Fewer than a model may have, or they would have no shapes.
        let parameters = all(&|shape| Some(shape.iter().product())).unwrap_or(u64::MAX);
        // An optimizer that keeps a history has at most one entry a step.
        let steps = examples.train.div_ceil(train.batch_size.max(1)).saturating_mul(train.epochs as usize);
        let held = all(&|shape| optimizer.numbers_held(shape, steps));
        let held = most(held, &format!("optimizer.{}", optimizer.kind()), "an optimizer whose state takes")?;
        let size = model.pass_size(shape, CLASSES);
        let pass = |batch: usize, key: &str, of: fn(np_models::PassSize) -> usize| {
            let all = size.and_then(|size| of(size).checked_mul(batch)).and_then(bytes);
            most(all, key, "a batch whose activations take")
        };
        let (batch, eval) = (train.batch_size, train.eval_batch_size);
        let training = pass(batch.min(examples.train), "train.batch_size", |size| size.training)?;
        let evaluation = pass(eval.min(examples.evaluated_at_once), "train.eval_batch_size", |size| size.evaluation)?;
        let data = data.name.shape().iter().product::<usize>().saturating_mul(all_examples) as u64;
        let activations = training.max(evaluation);
        let memory = Self { parameters, gradients: parameters, optimizer: held, activations, data };
        let Some(precision) = train.precision.filter(|_| train.device == Device::Cuda) else { return Ok(memory) };
        let batches = [batch.min(examples.train), eval.min(examples.evaluated_at_once)];
        let plan = model.memory_on_cuda(shape, CLASSES, batches, precision)?;
        let activations = plan.activations.saturating_add(plan.workspace);
        Ok(Self { parameters: plan.parameters, gradients: plan.gradients, activations, ..memory })
    }

    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Self { parameters, gradients, optimizer, activations, data } = *self;
        [gradients, optimizer, activations, data].into_iter().fold(parameters, u64::saturating_add)
    }

    /// What would make it less, going by what takes the most.
    pub(crate) fn relief(&self) -> &'static str {
        let Self { parameters, gradients, optimizer, activations, data } = *self;
        if activations >= optimizer.max(parameters.saturating_add(gradients)).max(data) {
            "a smaller `train.batch_size` and `train.eval_batch_size`"
        } else if optimizer >= parameters {
            "another optimizer, or a smaller model"
        } else {
            "a smaller model"
        }
    }

    /// Says what it is made of.
    pub(crate) fn in_words(&self) -> String {
        let Self { parameters, gradients, optimizer, activations, data } = self;
        let parts = [
            ("parameters", parameters),
            ("gradients", gradients),
            ("optimizer state", optimizer),
            ("activations of a batch", activations),
            ("data", data),
        ];
        let part = |(name, bytes): &(&str, &u64)| match **bytes {
            0 => format!("no {name}"),
            bytes => format!("{name} {}", human(bytes)),
        };
        let parts: Vec<String> = parts.iter().map(part).collect();
        format!("about {} ({})", human(self.total()), parts.join(", "))
    }

    /// What to say of runs that want more than this machine has, so many at a time.
    pub(crate) fn warning(&self, jobs: usize) -> Option<String> {
        let here = of_this_machine()?;
        let all = self.total().saturating_mul(jobs as u64);
        let text = format!("{} about {} of memory, and this machine has {}", wanting(jobs), human(all), human(here));
        (all > here).then_some(text)
    }
}

/// What is wanted, if that is not more than any machine has: else the error of `key`, which makes it more.
fn most(wanted: Option<u64>, key: &str, what: &str) -> Result<u64, OutOfRange> {
    wanted.filter(|bytes| *bytes <= MOST).ok_or_else(|| OutOfRange {
        key: key.to_owned(),
        expected: format!("{what} {} at the most", human(MOST)),
        got: wanted.map_or_else(|| "more than can be counted".to_owned(), human),
    })
}

/// The runs at a time, up to what they want.
fn wanting(jobs: usize) -> String {
    if jobs == 1 { "a run wants".to_owned() } else { format!("{} at a time want", count(jobs, "run")) }
}

/// Bytes of so many numbers.
fn bytes(numbers: usize) -> Option<u64> {
    u64::try_from(numbers.checked_mul(NUMBER)?).ok()
}

/// Bytes as people say them: `40 B`, `900 kB`, `1.2 GB`.
pub(crate) fn human(bytes: u64) -> String {
    let amount = bytes as f64;
    let (unit, name) = match bytes {
        0..1000 => return format!("{bytes} B"),
        1000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        1_000_000_000..1_000_000_000_000 => (1e9, "GB"),
        _ => (1e12, "TB"),
    };
    let amount = amount / unit;
    if amount < 10.0 { format!("{amount:.1} {name}") } else { format!("{amount:.0} {name}") }
}

/// The memory that processes here may have, where the system says: the machine's, or what it allows this group of processes.
fn of_this_machine() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let all = line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)?;
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    Some(group.map_or(all, |most| most.min(all)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MNIST: Counts = Counts { train: 60_000, evaluated: 10_000, evaluated_at_once: 10_000 };

    fn of(run: &RunConfig, counts: Counts) -> Result<Memory, OutOfRange> {
        Memory::of(run.task.as_images().unwrap(), run, counts, counts.train.saturating_add(counts.evaluated))
    }

    fn config(over: serde_json::Value) -> RunConfig {
        let mut value = json!({"seed": 1, "optimizer": "adam"});
        if let (Some(value), serde_json::Value::Object(over)) = (value.as_object_mut(), over) {
            value.extend(over);
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_run_wants_what_its_parts_want() {
        let memory = of(&config(json!({})), MNIST).unwrap();
        // MLP 784-256-256-10 has 269,322 parameters; Adam two moments of each. A training pass of an example holds 784 + 2 · (2 · 512 + 10)
        // numbers, and 128 of them are less than 1,000 evaluations of 784 + 2 · 512 + 10.
        assert_eq!((memory.parameters, memory.gradients), (1_077_288, 1_077_288));
        assert_eq!((memory.optimizer, memory.activations, memory.data), (2_154_576, 7_272_000, 54_880_000));
        assert_eq!(memory.total(), 66_461_152);
        let words = "about 66 MB (parameters 1.1 MB, gradients 1.1 MB, optimizer state 2.2 MB, activations of a batch 7.3 MB, data 55 MB)";
        assert_eq!(memory.in_words(), words);
    }

    #[test]
    fn what_no_machine_has_is_refused_by_the_key_that_asks_for_it() {
        let huge = u64::MAX;
        for (over, key) in [
            (
                json!({"model": {"mlp": {"hidden": [1_000_000_000_000_u64, 1_000_000_000_000_u64], "dropout": 0.1}}}),
                "model.mlp.hidden",
            ),
            (json!({"model": {"mlp": {"hidden": [huge], "dropout": 0.1}}}), "model.mlp.hidden"),
            (json!({"model": {"resnet18": {"width": 100_000}}, "data": {"layout": "rgb32"}}), "model.resnet18.width"),
            (
                json!({"model": {"mlp": {"hidden": [1_000_000], "dropout": 0.1}}, "optimizer": {"shampoo": {"max_dim": 2_000_000}}}),
                "optimizer.shampoo",
            ),
            (
                json!({"model": {"mlp": {"hidden": [1_000_000], "dropout": 0.1}}, "optimizer": {"lbfgs": {"history": huge}}}),
                "optimizer.lbfgs",
            ),
            (
                json!({"model": {"mlp": {"hidden": [1_000_000], "dropout": 0.1}}, "train": {"batch_size": huge}}),
                "train.batch_size",
            ),
        ] {
            assert_eq!(of(&config(over.clone()), Counts { train: 1_000_000, ..MNIST }).unwrap_err().key, key, "{over}");
        }
        // As many as there are, and no more.
        let all = config(json!({"train": {"batch_size": huge, "eval_batch_size": huge, "epochs": u32::MAX}}));
        assert_eq!(of(&all, MNIST).unwrap().activations, 60_000 * 4 * (784 + 2 * 1034));
    }

    #[test]
    fn a_run_on_a_gpu_wants_what_its_program_wants() {
        let on = |precision: &str| {
            let train = json!({"device": "cuda", "precision": precision, "batch_size": 128, "eval_batch_size": 500});
            let over = json!({"model": {"resnet18": {"width": 64}}, "data": {"name": "cifar10"}, "train": train});
            of(&config(over), Counts { train: 50_000, ..MNIST }).unwrap()
        };
        let (wide, narrow) = (on("tf32"), on("bf16"));
        // 11,173,962 parameters of ResNet-18, with Adam's two moments; running means and variances of 4,800 channels beside the parameters.
        assert_eq!((wide.gradients, wide.optimizer), (4 * 11_173_962, 8 * 11_173_962));
        assert_eq!(wide.parameters, 4 * (11_173_962 + 2 * 4800));
        assert_eq!(wide.data, 60_000 * 3072);
        assert!(narrow.activations < wide.activations, "half the bytes an activation");
    }

    #[test]
    fn messages_say_what_is_wanted() {
        let shampoo = json!({"model": {"mlp": {"hidden": [1_000_000], "dropout": 0.1}}, "optimizer": {"shampoo": {"max_dim": 2_000_000}}});
        let fault = of(&config(shampoo), MNIST).unwrap_err();
        assert_eq!(fault.expected, "an optimizer whose state takes 1.1 TB at the most");
        // Twice the square of 10⁶, at 4 bytes, of each tensor that has this dimension (two weights and a bias), and what is small beside it.
        assert_eq!(fault.got, "24 TB");
        let huge =
            json!({"optimizer": {"lbfgs": {"history": u64::MAX}}, "train": {"epochs": u32::MAX, "batch_size": 1}});
        let fault = of(&config(huge), Counts { train: usize::MAX, ..MNIST }).unwrap_err();
        assert_eq!(fault.got, "more than can be counted");

        let memory = Memory { parameters: 1_077_288, gradients: 1_077_288, ..Memory::default() };
        let words = "about 2.2 MB (parameters 1.1 MB, gradients 1.1 MB, no optimizer state, no activations of a batch, no data)";
        assert_eq!(memory.in_words(), words);
        assert_eq!([wanting(1), wanting(3)], ["a run wants", "3 runs at a time want"]);
    }

    #[test]
    fn bytes_are_said_as_people_say_them() {
        let said = [0, 40, 1_500, 999_999, 1_000_000, 12_345_678, 1 << 40].map(human);
        assert_eq!(said, ["0 B", "40 B", "1.5 kB", "1000 kB", "1.0 MB", "12 MB", "1.1 TB"]);
    }
}
