//! From a resolved experiment to a plan: data digests, ids, the plan's name, and what is done already.
//!
//! Which runs answer an experiment file is decided here alone, by [`asked`], for every command: those of the file's text, the options, and
//! the data at hand.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
};

use np_record::{
    Plan, PlannedRun, Record, SCHEMA, Store, StoreError,
    compare::{Metric, likenesses},
    select::Split,
};
use sha2::{Digest, Sha256};

use crate::{
    config::RunConfig,
    error::{Error, Fault, Place, Problem, Result},
    explain::refuse,
    launch::LauncherConfig,
    memory::Memory,
    spec::{Request, Spec, SpecRun},
    task::{AboutData, TaskConfig, TaskData},
    tree::split,
};

/// A plan, with what planning learned and a plan does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Training examples of each run, in the plan's order.
    pub examples: Vec<usize>,
    /// Floating-point operations of each run, in the plan's order: twice the multiply-adds of a forward pass, three times for every example
    /// that is trained on and once for every one that is evaluated. What the optimizer does is not counted. None of a task that does not say.
    pub operations: Vec<Option<f64>>,
    /// The memory that each run wants, in the plan's order; empty where the plan was read from a file. None of a task that does not say.
    pub memory: Vec<Option<Memory>>,
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
    /// Digests, such as those of a plan that was made where the data was, by what decides which data it is.
    pub digests: BTreeMap<String, String>,
    /// Whether a set whose digest nobody knows may be planned for all the same, under [`UNKNOWN`]: its ids are then none that a record could have.
    pub unknown: bool,
}

/// The digest of a set that is not at hand and that nobody knows.
pub const UNKNOWN: &str = "unknown";

impl Assumed {
    /// The digests of an earlier plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let digests = of_stored_runs(plan).map(|(task, digest)| (task.chosen().data_key(), digest.to_owned()));
        Self { digests: digests.collect(), unknown: false }
    }
}

/// What the runs of a plan are trained on: a task for each data, as far as this program has it, and the digest.
pub(crate) fn of_stored_runs(plan: &Plan) -> impl Iterator<Item = (TaskConfig, &str)> {
    let mut seen = BTreeSet::new();
    plan.runs.iter().filter_map(move |run| {
        // A plan may have thousands of runs, of few data sets.
        let said = [run.config.get("task"), run.config.get("data")].map(|part| part.map(serde_json::Value::to_string));
        seen.insert((said, &run.data_digest)).then_some(())?;
        let config: RunConfig = serde_json::from_value(run.config.clone()).ok()?;
        Some((config.task, run.data_digest.as_str()))
    })
}

/// Data, or what stands in for it.
struct Known {
    digest: String,
    /// What must be said of it, if it is not the published one.
    remark: Option<String>,
    data: TaskData,
}

impl Known {
    fn of(task: &TaskConfig, data: TaskData) -> Result<Self> {
        let about = task.chosen().about(data.any())?;
        let remark = about.standing.remark(&about.title).filter(|_| about.digest != UNKNOWN);
        Ok(Self { digest: about.digest, remark, data })
    }
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
        let task = run.config.task.chosen();
        let key = task.data_key();
        let Known { digest, remark, data } = match digests.entry(key.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match read(run, &spec, data_dir) {
                Ok(known) => new.insert(known),
                Err(Unread::NoFolder(fault)) => {
                    let earlier = assumed.digests.get(&key).map(String::as_str);
                    let Some(data) = task.stand_in(earlier, assumed.unknown) else {
                        return Err(fault.into());
                    };
                    unread.get_or_insert(fault);
                    new.insert(Known::of(&run.config.task, data)?)
                }
                Err(Unread::Broken(fault)) => return Err(fault.into()),
            },
        };
        if let Some(remark) = remark
            && !foreign.contains(remark)
        {
            foreign.push(remark.clone());
        }
        // One subset serves all runs that train on it.
        let subset = (serde_json::Value::Object(task.parts()).to_string(), run.config.seed);
        let counts = match drawn.entry(subset) {
            Entry::Occupied(counts) => *counts.get(),
            Entry::Vacant(new) => {
                let used = task.examples(data.any(), run.config.seed).map_err(|error| of_task(run, &spec, error))?;
                if used.test == 0 {
                    return Err(of_task(run, &spec, Error::Task("no example is for testing".into())).into());
                }
                if used.validation.is_empty() && spec.selection == Some(Split::Validation) {
                    return Err(nothing_held_out(run, &spec, request.scale()).into());
                }
                *new.insert(used.counts())
            }
        };
        let (used, evaluated) = (counts.train, counts.evaluated);
        if used == 0 {
            return Err(of_task(run, &spec, Error::Task("no example is trained on".into())).into());
        }
        let estimate = task
            .estimate(data.any(), &run.config, counts)
            .map_err(|bad| refuse(&run.tree, &spec.document, &bad.key, &bad.expected, &bad.got))?;
        memory.push(estimate.map(|estimate| estimate.memory));
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
        let passes = 3.0 * used as f64 + evaluated as f64;
        let work = |forward: u64| 2.0 * forward as f64 * passes * run.config.train.epochs as f64;
        operations.push(estimate.map(|estimate| work(estimate.multiply_adds)));
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
    warnings.extend(unequal_evaluations(&spec.runs));
    Ok(Planned { plan, examples, operations, memory, unread, foreign, warnings, launcher: spec.launcher })
}

/// What is known of a plan that was read from `file`, rather than made: it must be of the data at hand, as far as that is there.
///
/// # Errors
/// A fault if the data is another.
pub(crate) fn of_stored(plan: Plan, file: &Path, data_dir: Option<&Path>) -> Result<Planned> {
    let (mut foreign, mut unread) = (Vec::new(), None);
    let mut seen = BTreeSet::new();
    for (task, digest) in of_stored_runs(&plan) {
        let task = task.chosen();
        if !seen.insert(task.data_key()) {
            continue;
        }
        let told = |about: &AboutData| about.standing.remark(&about.title);
        let about = match task.load(data_dir) {
            Ok(data) => task.about(data.any())?,
            Err(Error::Data(error)) if error.is_absence() => {
                let fault = Fault::new(Place::File(file.to_owned(), None), error.to_string()).hint_if(error.hint());
                unread.get_or_insert(Box::new(fault));
                task.told(digest).0
            }
            Err(error) => return Err(error),
        };
        if about.digest != digest {
            let short = |digest: &str| digest.chars().take(12).collect::<String>();
            let text = format!(
                "of `{}` with the digest `{}`, and the data at hand has `{}`",
                about.name,
                short(digest),
                short(&about.digest)
            );
            let hint = "name the experiment's YAML file for the runs on that data, or leave out the data folder";
            return Err(Fault::new(Place::File(file.to_owned(), None), text).hint(hint).into());
        }
        foreign.extend(told(&about));
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

/// A run's data, read.
fn read(run: &SpecRun, spec: &Spec, data_dir: Option<&Path>) -> Result<Known, Unread> {
    let task = &run.config.task;
    let read = task.chosen().load(data_dir).and_then(|data| Known::of(task, data));
    read.map_err(|error| {
        let is_absence = matches!(&error, Error::Data(error) if error.is_absence());
        let key = match task.chosen().section() {
            section if section.is_empty() => vec!["data".to_owned(), "source".to_owned()],
            section => section,
        };
        let fault = Fault::new(run.tree.place(&key, &spec.document), error.with_cause()).key(key.join("."));
        let fault = Box::new(fault.hint_if(error.hint()));
        if is_absence { Unread::NoFolder(fault) } else { Unread::Broken(fault) }
    })
}

/// What a task says of a run's examples, at the setting that it is about.
fn of_task(run: &SpecRun, spec: &Spec, error: Error) -> Box<Fault> {
    let section = run.config.task.chosen().section();
    let hint = error.hint();
    let (path, problem) = match error {
        Error::Setting { key, problem } => ([section, split(&key)].concat(), problem),
        other => (section, Problem::Other(other.to_string())),
    };
    let place = run.tree.place(&path, &spec.document);
    Box::new(Fault { place, key: Some(path.join(".")).filter(|key| !key.is_empty()), problem, hint })
}

/// A run of which nothing is held out, of an experiment that selects by what is.
fn nothing_held_out(run: &SpecRun, spec: &Spec, scale: &str) -> Box<Fault> {
    let document = &spec.document;
    let of_scale = ["scales", scale, "selection"].map(str::to_owned);
    let place = match document.value.pointer(&format!("/{}", of_scale.join("/"))) {
        Some(_) => document.place(&of_scale),
        None => document.place(&["selection".to_owned()]),
    };
    let problem = Problem::Expected {
        expected: "examples that are held out, to select by".into(),
        got: format!("none in arm `{}`", run.arm),
    };
    let hint = match run.config.task.as_images() {
        Some(_) => "hold images out, as in `data: {validation: 0.1}`, or say `selection: test`, as the paper does",
        None => "let the task hold examples out, or say `selection: test`",
    };
    Box::new(Fault { place, key: Some("selection".into()), problem, hint: Some(hint.into()) })
}

/// What is to be known of arms that are not evaluated equally often, at the same values of the axes.
fn unequal_evaluations(runs: &[SpecRun]) -> Option<String> {
    let mut seen: BTreeMap<String, &SpecRun> = BTreeMap::new();
    runs.iter().find_map(|run| {
        let axes = serde_json::to_string(&run.axes).unwrap_or_default();
        let first = *seen.entry(axes).or_insert(run);
        let (every, other) = (first.config.train.eval_every, run.config.train.eval_every);
        (every != other).then(|| {
            format!(
                "`train.eval_every` is {every} in arm `{}` and {other} in arm `{}`: `{}` and `{}` take the best of unequally many evaluations, \
                 and more of them are better on average",
                first.arm,
                run.arm,
                Metric::BestTestAccuracy,
                Metric::BestTestLoss
            )
        })
    })
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
