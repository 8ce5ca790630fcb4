//! From a resolved experiment to a plan: data digests, ids, the plan's name, and what is done already.
//!
//! Which runs answer an experiment file is decided here alone, by [`asked`], for every command: those of the file's text, the options, and
//! the data at hand.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
};

use np_data::{DataName, DataSet, Identity, Source, known_digest};
use np_record::{Plan, PlannedRun, Record, SCHEMA, Store, StoreError, compare::likenesses};
use sha2::{Digest, Sha256};

use crate::{
    data::standing,
    error::{Fault, Place, Result},
    explain::refuse,
    launch::LauncherConfig,
    memory::{CLASSES, Examples, Memory},
    spec::{Request, Spec, SpecRun},
};

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
    /// The memory that each run wants, in the plan's order; empty where the plan was read from a file.
    pub memory: Vec<Memory>,
    /// What would keep its runs from being trained: full data was asked for, and no folder named that has it. The digests are then those of
    /// the published sets.
    pub unread: Option<Box<Fault>>,
    /// What its runs are trained on and is not the published set of that name, a sentence each.
    pub foreign: Vec<String>,
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
    /// What must be said of it, if it is not the published one.
    remark: Option<String>,
    /// Of the training split.
    labels: Vec<u8>,
    /// Examples of the test split.
    test: usize,
}

/// The runs that answer an experiment file: the one notion of it that all commands share.
///
/// Data is what `data_dir` has; a set that is not there counts as the published one, or, where nobody knows that one's digest, as the one that the
/// store's earlier plan has. With `unknown`, a set of which nothing at all is known may be planned for, see [`Assumed::unknown`].
///
/// # Errors
/// As [`plan`].
pub fn asked(request: &Request, data_dir: Option<&Path>, store: &Store, unknown: bool) -> Result<Planned> {
    let name = request.file.file_stem().unwrap_or_default().to_string_lossy();
    // A plan that cannot be read is in the way of what writes plans, not of what asks for hints.
    let earlier = store.read_plan(&name).ok().flatten();
    let assumed = earlier.map(|plan| Assumed::of(&plan)).unwrap_or_default();
    plan_assuming(request, data_dir, &Assumed { unknown, ..assumed })
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
    let (mut runs, mut examples, mut operations, mut memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut unread, mut warnings, mut foreign) = (None, spec.warnings.clone(), Vec::new());
    let mut drawn = BTreeMap::new();
    for run in &spec.runs {
        let key = (run.config.data.name, run.config.data.source);
        let Known { digest, labels, test, remark } = match digests.entry(key) {
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
        if let Some(remark) = remark
            && !foreign.contains(remark)
        {
            foreign.push(remark.clone());
        }
        let data = &run.config.data;
        // One subset serves all runs that train on it.
        let subset = (key, format!("{:?}", data.selection()), run.config.seed);
        let counts = match drawn.entry(subset) {
            Entry::Occupied(counts) => Ok(*counts.get()),
            Entry::Vacant(new) => data
                .selection()
                .draw(labels, run.config.seed)
                .map(|used| *new.insert([used.train.len(), used.validation.len()])),
        };
        let [used, held_out] = counts.map_err(|error| {
            let key = ["data".to_owned(), data.amount_key().to_owned()];
            let text = match error {
                np_data::Error::EmptySubset { len, .. } => format!("leaves none of the {len} training examples"),
                np_data::Error::Count { expected, found } => format!("expected 1 to {expected}, got `{found}`"),
                error => error.to_string(),
            };
            Fault::new(run.tree.place(&key, &spec.document), text).key(key.join("."))
        })?;
        let evaluated = held_out + *test;
        let at_once = Examples { train: used, evaluated: held_out.max(*test), all: labels.len() + *test };
        memory.push(
            Memory::of(&run.config, at_once)
                .map_err(|bad| refuse(&run.tree, &spec.document, &bad.key, &bad.expected, &bad.got))?,
        );
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
        outcome: spec.outcome,
        hypotheses: spec.hypotheses,
        spec: Some(spec.document.text),
        runs,
        plan_sha256: None,
    }
    .sealed();
    // By their ids alone: whether records are the same is for a comparison to say.
    let unmade: Vec<(PlannedRun, Option<Record>)> = plan.runs.iter().map(|run| (run.clone(), None)).collect();
    warnings.extend(likenesses(&unmade).iter().map(ToString::to_string));
    Ok(Planned { plan, examples, operations, memory, unread, foreign, warnings, launcher: spec.launcher })
}

/// What is known of a plan that was read from `file`, rather than made: it must be of the data at hand, as far as that is there.
///
/// # Errors
/// A fault if the data is another.
pub(crate) fn of_stored(plan: Plan, file: &Path, data_dir: Option<&Path>) -> Result<Planned> {
    let (mut foreign, mut unread) = (Vec::new(), None);
    for ((name, source), digest) in Assumed::of(&plan).digests {
        let (at_hand, remark) = match DataSet::load(name, source, data_dir) {
            Ok(set) => (set.digest.clone(), standing(set.identity).remark(&set.title)),
            Err(error) if error.is_absence() => {
                let fault = Fault::told(Place::File(file.to_owned(), None), &error);
                unread.get_or_insert(Box::new(fault));
                let identity = Identity::of(name, source, &digest, None);
                (digest.clone(), standing(identity).remark(&identity.title(name, source, None, &digest)))
            }
            Err(error) => return Err(error.into()),
        };
        if at_hand != digest {
            let short = |digest: &str| digest.chars().take(12).collect::<String>();
            let text = format!(
                "of `{name}` with the digest `{}`, and the data at hand has `{}`",
                short(&digest),
                short(&at_hand)
            );
            let hint = "name the experiment's YAML file for the runs on that data, or leave out the data folder";
            return Err(Fault::new(Place::File(file.to_owned(), None), text).hint(hint).into());
        }
        foreign.extend(remark);
    }
    let (examples, operations, memory) = (Vec::new(), Vec::new(), Vec::new());
    let launcher = LauncherConfig::default();
    Ok(Planned { plan, examples, operations, memory, unread, foreign, warnings: Vec::new(), launcher })
}

/// The plan's name: the experiment's, and with overrides `NAME.HASH`, so that the plan of the file as written stays.
pub(crate) fn plan_name(experiment: &str, overrides: &[String]) -> String {
    if overrides.is_empty() {
        return experiment.to_owned();
    }
    let hash = Sha256::digest(overrides.join("\n"));
    format!("{experiment}.{}", np_record::hex(&hash[..4]))
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
        let fault = Fault::told(run.tree.place(&key, &spec.document), &text).key(key.join("."));
        let fault = Box::new(fault);
        match error {
            error if error.is_absence() => Unread::NoFolder(fault),
            _ => Unread::Broken(fault),
        }
    })?;
    let remark = standing(set.identity).remark(&set.title);
    Ok(Known { test: set.test.len(), labels: set.train.labels, digest: set.digest, remark })
}

/// A data set as it was published, where its digest is known; its labels stand for as many examples of ten even classes.
fn published((name, source): (DataName, Source), assumed: &Assumed) -> Option<Known> {
    let [examples, test] = match source {
        Source::Mini => [2_000, 1_000],
        Source::Full => name.examples(),
    };
    let labels = (0..examples).map(|i| (i % 10) as u8).collect();
    let earlier = assumed.digests.get(&(name, source)).map(String::as_str);
    let digest = known_digest(name, source).or(earlier).or(assumed.unknown.then_some(UNKNOWN))?;
    let identity = Identity::of(name, source, digest, None);
    let remark = standing(identity).remark(&identity.title(name, source, None, digest));
    Some(Known { digest: digest.to_owned(), labels, test, remark: remark.filter(|_| digest != UNKNOWN) })
}

/// The runs of `plan` that have no finished record in `store`, each id once, by their place in the plan. A damaged record is none; a run whose record
/// cannot be read for another reason is left out, see [`blocked`].
#[must_use]
pub fn missing(plan: &Plan, store: &Store) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let is_missing = |run: &PlannedRun| match store.record_of(run) {
        Ok(record) => record.is_none_or(|record| !record.is_done()),
        Err(error) => error.is_damage(),
    };
    let new = plan.runs.iter().enumerate().filter(|(_, run)| seen.insert(&run.id));
    new.filter(|(_, run)| is_missing(run)).map(|(index, _)| index).collect()
}

/// Runs that can be neither used nor trained: the system refuses their records, or these are of a newer version, and no damage to be set aside.
#[must_use]
pub(crate) fn blocked(refused: &[StoreError]) -> usize {
    refused.iter().filter(|error| !error.is_damage()).count()
}
