//! From a resolved experiment to a plan: data digests, ids, the plan's name, and what is done already.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
};

use np_data::{DataName, DataSet, Source, known_digest};
use np_record::{Plan, PlannedRun, SCHEMA, Store};
use sha2::{Digest, Sha256};

use crate::{
    error::{Fault, Place, Result},
    launch::LauncherConfig,
    spec::{Request, Spec, SpecRun},
};

/// Classes of every data set that there is.
const CLASSES: usize = 10;

/// A plan, with what planning learned and a plan does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Training examples of each run, in the plan's order.
    pub examples: Vec<usize>,
    /// Floating-point operations of each run, in the plan's order: twice the multiply-adds of a forward pass, three times for every example
    /// that is trained on and once for every one that is evaluated. What the optimizer does is not counted.
    pub operations: Vec<f64>,
    /// What would keep its runs from being trained: full data was asked for, and no folder named. The digests are then those of the
    /// published sets.
    pub unread: Option<Box<Fault>>,
    /// What is allowed and hardly meant, a line each.
    pub warnings: Vec<String>,
    /// How the file wants it launched.
    pub launcher: LauncherConfig,
}

/// What a plan may take for granted of data that is not at hand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Assumed {
    /// Digests, such as those of a plan that was made where the data was.
    pub digests: BTreeMap<(DataName, Source), String>,
    /// Whether a set whose digest nobody knows may be planned for all the same, under [`UNKNOWN`]: its ids are then none that a record could have.
    pub unknown: bool,
}

/// The digest of a set that is not at hand and that nobody knows.
pub const UNKNOWN: &str = "unknown";

impl Assumed {
    /// The digests of an earlier plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let digest = |run: &PlannedRun| {
            let read = |pointer| run.config.pointer(pointer).cloned().unwrap_or_default();
            let name = serde_json::from_value(read("/data/name")).ok()?;
            let source = serde_json::from_value(read("/data/source")).ok()?;
            Some(((name, source), run.data_digest.clone()))
        };
        Self { digests: plan.runs.iter().filter_map(digest).collect(), unknown: false }
    }
}

/// A data set, as far as a plan needs to know it.
#[derive(Debug, Clone)]
struct Known {
    digest: String,
    /// Of the training split.
    labels: Vec<u8>,
    /// Examples of the test split.
    test: usize,
}

/// Resolves an experiment into its plan; nothing is written.
///
/// Data is read and digested where it is at hand. Without `data_dir` a plan assumes the published files, so that whoever has their
/// records needs no data; see [`Planned::unread`].
///
/// # Errors
/// [`crate::Error::Fault`] for anything wrong with the file, the options or the data.
pub fn plan(request: &Request, data_dir: Option<&Path>) -> Result<Planned> {
    plan_assuming(request, data_dir, &Assumed::default())
}

/// As [`plan`], with something to go by for data that is not at hand.
///
/// # Errors
/// As [`plan`].
pub fn plan_assuming(request: &Request, data_dir: Option<&Path>, assumed: &Assumed) -> Result<Planned> {
    let spec = Spec::load(request)?;
    let mut digests = BTreeMap::new();
    let (mut runs, mut examples, mut operations) = (Vec::new(), Vec::new(), Vec::new());
    let (mut unread, mut warnings) = (None, Vec::new());
    for run in &spec.runs {
        let key = (run.config.data.name, run.config.data.source);
        let Known { digest, labels, test } = match digests.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match read(run, &spec, data_dir) {
                Ok(known) => new.insert(known),
                Err(Unread::NoFolder(fault)) => {
                    let Some(known) = published(key, assumed) else {
                        return Err(fault.into());
                    };
                    unread.get_or_insert(fault);
                    new.insert(known)
                }
                Err(Unread::Broken(fault)) => return Err(fault.into()),
            },
        };
        let data = &run.config.data;
        let used = data.selection().draw(labels, run.config.seed).map_err(|error| {
            let key = ["data".to_owned(), data.amount_key().to_owned()];
            let text = match error {
                np_data::Error::EmptySubset { len, .. } => format!("leaves none of the {len} training examples"),
                np_data::Error::Count { expected, found } => format!("expected 1 to {expected}, got `{found}`"),
                error => error.to_string(),
            };
            Fault::new(run.tree.place(&key, &spec.document), text).key(key.join("."))
        })?;
        let evaluated = used.validation.len() + *test;
        let used = used.train.len();
        let batch = run.config.train.batch_size;
        if batch > used {
            let warning = format!(
                "an epoch is a single step: `train.batch_size` is `{batch}`, more than the {used} training examples"
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        examples.push(used);
        let forward = run.config.data.shape().map_or(0, |shape| run.config.model.multiply_adds(shape, CLASSES));
        let passes = 3.0 * used as f64 + evaluated as f64;
        operations.push(2.0 * forward as f64 * passes * run.config.train.epochs as f64);
        let config = serde_json::to_value(&run.config)
            .map_err(|error| Fault::new(Place::File(request.file.clone(), None), error.to_string()))?;
        runs.push(PlannedRun {
            id: PlannedRun::id_of(&config, digest),
            arm: run.arm.clone(),
            seed: run.config.seed,
            axes: run.axes.iter().cloned().collect(),
            config,
            data_digest: digest.clone(),
        });
    }
    let overrides = spec.overrides.clone();
    let plan = Plan {
        schema: SCHEMA,
        experiment: plan_name(&spec.name, &overrides),
        question: spec.question,
        scale: request.scale().to_owned(),
        spec_sha256: spec.document.sha256,
        overrides,
        selection: spec.selection,
        runs,
    };
    Ok(Planned { plan, examples, operations, unread, warnings, launcher: spec.launcher })
}

/// The plan's name: the experiment's, and with overrides `NAME.HASH`, so that the plan of the file as written stays.
fn plan_name(experiment: &str, overrides: &[String]) -> String {
    if overrides.is_empty() {
        return experiment.to_owned();
    }
    let hash = Sha256::digest(overrides.join("\n"));
    format!("{experiment}.{}", hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Why a data set is not read.
enum Unread {
    /// Nobody said where it is.
    NoFolder(Box<Fault>),
    /// It is not there, or not what it should be.
    Broken(Box<Fault>),
}

/// A run's data set, read.
fn read(run: &SpecRun, spec: &Spec, data_dir: Option<&Path>) -> Result<Known, Unread> {
    let (name, source): (DataName, Source) = (run.config.data.name, run.config.data.source);
    let set = DataSet::load(name, source, data_dir).map_err(|error| {
        let key = ["data".to_owned(), "source".to_owned()];
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        let (problem, hint) = match text.split_once("\nhint: ") {
            Some((problem, hint)) => (problem.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let fault = Fault::new(run.tree.place(&key, &spec.document), problem).key(key.join("."));
        let fault = Box::new(fault.hint_if(hint));
        match error {
            np_data::Error::NoFolder { .. } => Unread::NoFolder(fault),
            _ => Unread::Broken(fault),
        }
    })?;
    Ok(Known { test: set.test.len(), labels: set.train.labels, digest: set.digest })
}

/// A data set as it was published, where its digest is known; its labels stand for as many examples of ten even classes.
fn published((name, source): (DataName, Source), assumed: &Assumed) -> Option<Known> {
    let (examples, test) = match (name, source) {
        (_, Source::Mini) => (2_000, 1_000),
        (DataName::Mnist | DataName::FashionMnist, Source::Full) => (60_000, 10_000),
        (DataName::Cifar10, Source::Full) => (50_000, 10_000),
    };
    let labels = (0..examples).map(|i| (i % 10) as u8).collect();
    let earlier = assumed.digests.get(&(name, source)).map(String::as_str);
    let digest = known_digest(name, source).or(earlier).or(assumed.unknown.then_some(UNKNOWN))?;
    Some(Known { digest: digest.to_owned(), labels, test })
}

/// The runs of `plan` that have no finished record in `store`, each id once, by their place in the plan.
///
/// # Errors
/// Those of reading records.
pub fn missing(plan: &Plan, store: &Store) -> Result<Vec<usize>> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for (index, run) in plan.runs.iter().enumerate() {
        if seen.insert(&run.id) && !store.is_done(&run.id)? {
            missing.push(index);
        }
    }
    Ok(missing)
}
