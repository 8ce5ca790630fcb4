//! An experiment file, read: its head, its arms and axes, and the tree of each run.
//!
//! Layers, each over the one before: the file's base, the scale, the arm, the swept values, `--set`, the seed. What comes out is
//! typed and in range; [`crate::planning`] turns it into runs with ids.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use np_record::{Hypothesis, StatedOutcome, can_name, select::Split};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    axes::{MOST_RUNS, combinations, grid, grids, sets},
    config::RunConfig,
    document::Document,
    error::{Fault, Place, Problem, Result, suggest},
    explain::{read, refuse, show},
    launch::LauncherConfig,
    layers::{Layers, swept_away},
    search::{self, Search, SearchSpec},
    seeds::{Seeds, seeds},
    stated::{self, OutcomeSpec},
    tree::Tree,
};

/// The scale of a run that asks for none. A file without it under `scales` is meant as it stands.
pub const DEFAULT_SCALE: &str = "quick";

/// The scales that there are: minutes on embedded images; hours on full data; the published protocol.
pub(crate) const SCALES: [&str; 3] = ["quick", "cpu", "paper"];

/// What can name an experiment, in words; see [`can_name`].
pub(crate) const PLAIN_NAME: &str = "a name of letters, digits, `_`, and inner `-` and points, 190 of them at most";

/// The parts of an experiment that a run is made of.
pub(crate) const PARTS: [&str; 6] = ["task", "data", "model", "train", "optimizer", "options"];

/// An experiment as asked for: a file, a scale, and what the command line changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The experiment file.
    pub file: PathBuf,
    /// Name of the scale; none means [`DEFAULT_SCALE`].
    pub scale: Option<String>,
    /// `key=value`, laid over every run.
    pub set: Vec<String>,
    /// `key=a,b`, a further axis, or another list for one of the file's.
    pub sweep: Vec<String>,
    /// The arms to keep; empty for all.
    pub arms: Vec<String>,
    /// The seeds instead of the file's, as typed: numbers, and ranges with both their ends (`1..10`).
    pub seeds: Option<String>,
}

impl Request {
    /// The name of the scale.
    #[must_use]
    pub fn scale(&self) -> &str {
        self.scale.as_deref().unwrap_or(DEFAULT_SCALE)
    }

    /// The options that change what is run, as typed.
    pub(crate) fn overrides(&self) -> Vec<String> {
        let with = |option: &'static str, values: &[String]| {
            values.iter().map(move |value| format!("{option} {value}")).collect::<Vec<_>>()
        };
        let seeds: Vec<String> = self.seeds.iter().cloned().collect();
        [with("--set", &self.set), with("--sweep", &self.sweep), with("--arm", &self.arms), with("--seeds", &seeds)]
            .concat()
    }
}

/// An experiment, resolved.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) question: String,
    /// The split that arms are selected on, where the file says so.
    pub(crate) selection: Option<Split>,
    /// The number that runs are judged by, where the file fixes it.
    pub(crate) outcome: Option<StatedOutcome>,
    /// The pairs that are tested on it, of the arms that are kept.
    pub(crate) hypotheses: Vec<Hypothesis>,
    pub(crate) document: Document,
    /// The options that make it another experiment than the file's, as typed.
    pub(crate) overrides: Vec<String>,
    /// How launchers are to run it; no part of any run.
    pub(crate) launcher: LauncherConfig,
    /// What is allowed and hardly meant, a line each.
    pub(crate) warnings: Vec<String>,
    /// The search that the runs are the first rung of.
    pub(crate) search: Option<Search>,
    /// In the order of arms, axes, seeds.
    pub(crate) runs: Vec<SpecRun>,
}

/// One run of an experiment.
#[derive(Debug, Clone)]
pub(crate) struct SpecRun {
    pub(crate) arm: String,
    pub(crate) axes: Vec<(String, Value)>,
    pub(crate) config: RunConfig,
    /// What the configuration was read from, to say where a value comes from.
    pub(crate) tree: Tree,
}

/// The keys of an experiment file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    name: String,
    question: String,
    #[serde(default, rename = "task")]
    _task: Option<Value>,
    #[serde(default, rename = "data")]
    _data: Option<Value>,
    #[serde(default, rename = "model")]
    _model: Option<Value>,
    #[serde(default, rename = "train")]
    _train: Option<Value>,
    #[serde(default, rename = "options")]
    _options: Option<Value>,
    #[serde(default, rename = "optimizer")]
    _optimizer: Option<Value>,
    seeds: Seeds,
    arms: Map<String, Value>,
    #[serde(default)]
    sweep: Map<String, Value>,
    #[serde(default)]
    selection: Option<Split>,
    #[serde(default)]
    outcome: Option<OutcomeSpec>,
    #[serde(default)]
    hypotheses: Option<Vec<Hypothesis>>,
    #[serde(default)]
    search: Option<SearchSpec>,
    #[serde(default)]
    scales: Map<String, Value>,
    #[serde(default)]
    launcher: LauncherConfig,
}

impl Spec {
    /// Reads and resolves an experiment; the scales that are not asked for are resolved too, so that a mistake in one is found today.
    pub(crate) fn load(request: &Request) -> Result<Self> {
        Self::of(Document::read(&request.file)?, request)
    }

    /// As [`Spec::load`], of a file that has been read.
    pub(crate) fn of(document: Document, request: &Request) -> Result<Self> {
        let written: Head = read(&Tree::of(&document), &document)?;
        known_scales(&written, &document)?;
        let spec = Self::at_scale(request, &document, &written)?;
        for scale in written.scales.keys().filter(|scale| *scale != request.scale()) {
            let other = Request { file: request.file.clone(), scale: Some(scale.clone()), ..Request::default() };
            Self::at_scale(&other, &document, &written)?;
        }
        // Last, because it says nothing about the rest of the file.
        check_name(&written, &document)?;
        Ok(spec)
    }

    fn at_scale(request: &Request, document: &Document, written: &Head) -> Result<Self> {
        let mut tree = Tree::of(document);
        lay_scale(&mut tree, document, request, written)?;
        let head: Head = read(&tree, document)?;
        let launcher = head.launcher.clone();
        launcher.slurm.validate().map_err(|bad| refuse(&tree, document, &bad.key, &bad.expected, &bad.got))?;
        let seeds = seeds(&head.seeds, &tree, document, request)?;
        let sets = sets(&request.set)?;
        let outcome = head.outcome.as_ref().map(|outcome| outcome.resolve(&tree, document)).transpose()?;
        let pairs = head.hypotheses.as_deref().unwrap_or_default();
        stated::check(pairs, outcome, &head.arms.keys().map(String::as_str).collect::<Vec<_>>(), &tree, document)?;
        let mut runs = Vec::new();
        let mut seen = BTreeSet::new();
        let (mut swept, mut warnings) = (Vec::new(), Vec::new());
        let names = arms(&head, &tree, document, request)?;
        let written = head.search.as_ref().map(|spec| {
            let (selection, hypotheses, arms, seeds) = (head.selection, pairs, &names[..], &seeds[..]);
            search::Written { spec, arms, seeds, selection, outcome, hypotheses, tree: &tree, document, request }
        });
        let mut search = written.as_ref().map(search::Written::draw).transpose()?;
        for arm in &names {
            let own = head.arms[arm].get("sweep");
            let grids = match search.as_ref().and_then(|search| search.arms.iter().find(|drawn| drawn.name == *arm)) {
                Some(drawn) => drawn.points.iter().map(|point| search::space::axes(&drawn.space, point)).collect(),
                None => grids(arm, &head.sweep, own, &tree, document, &request.sweep)?,
            };
            swept.push((arm.clone(), grids));
        }
        let counts = swept.iter().flat_map(|(_, grids)| grids).map(|axes| combinations(axes, seeds.len()));
        let count = counts.fold(0, usize::saturating_add);
        if count > MOST_RUNS {
            let text = format!("expected at most {MOST_RUNS} runs, of all arms, values and seeds, got {count}");
            let place = tree.place(&["sweep".into()], document);
            return Err(Fault::new(place, text).hint("split it into several experiments").into());
        }
        for (arm, grids) in swept {
            let mut base = tree.pick(&PARTS);
            let patch = tree.part(&["arms".into(), arm.clone()]);
            let own = patch.filter(|patch| patch.value.is_object()).map(|patch| patch.pick(&PARTS));
            if let Some(own) = &own {
                base.overlay(&[], own.clone());
            }
            let first = runs.len();
            for (axes, values) in grids.iter().flat_map(|axes| grid(axes).into_iter().map(move |values| (axes, values)))
            {
                let layers = Layers { arm: &arm, base: &base, axes, values: &values, sets: &sets };
                for &seed in &seeds {
                    let run = layers.resolve(seed, document)?;
                    // Values that are written in two ways (`sgd`, `{sgd: {}}`) are one: one run stays.
                    let label = serde_json::to_string(&(&run.arm, &run.axes, seed)).unwrap_or_default();
                    if seen.insert(label) {
                        runs.push(run);
                    }
                }
            }
            if let (Some(own), Some(axes)) = (own, grids.first()) {
                warnings.extend(swept_away(&arm, &own, &base, axes, &runs[first..]));
            }
            if let Some(drawn) = search.iter_mut().flat_map(|search| &mut search.arms).find(|drawn| drawn.name == arm) {
                let layers = Layers { arm: &arm, base: &base, axes: &[], values: &[], sets: &sets };
                drawn.bare = layers.tree(&|_| false, document)?.value;
            }
        }
        if let Some(outcome) = outcome {
            let trainings: Vec<_> = runs.iter().map(|run| (run.arm.as_str(), &run.config.train)).collect();
            stated::fits(outcome, head.selection, &trainings, &tree, document)?;
            stated::is_measured(outcome, &runs, &tree, document)?;
        }
        let kept = |arm: &String| runs.iter().any(|run| run.arm == *arm);
        let hypotheses = pairs.iter().filter(|pair| kept(&pair.arm) && kept(&pair.against)).cloned().collect();
        let mut stated = (head.selection, outcome, hypotheses);
        if let (Some(written), Some(search)) = (&written, &mut search) {
            written.settle(search, &mut runs)?;
            warnings.extend(search.warning());
            stated = search.stated();
        }
        let (selection, outcome, hypotheses) = stated;
        let request = Request { seeds: request.seeds.clone().filter(|_| seeds != head.seeds.0), ..request.clone() };
        let (document, overrides) = (document.clone(), request.overrides());
        let (name, question) = (head.name, head.question);
        Ok(Self {
            name,
            question,
            selection,
            outcome,
            hypotheses,
            document,
            overrides,
            launcher,
            warnings,
            search,
            runs,
        })
    }
}

/// A scale is one of three: one under another name would never be asked for.
fn known_scales(head: &Head, document: &Document) -> Result<()> {
    let Some(name) = head.scales.keys().find(|name| !SCALES.contains(&name.as_str())) else { return Ok(()) };
    let place = document.place(&["scales".into(), name.clone()]);
    let fault = Fault::new(place, "there is no such scale").key(format!("scales.{name}"));
    Err(fault.hint_if(suggest(name, SCALES)).into())
}

fn lay_scale(tree: &mut Tree, document: &Document, request: &Request, head: &Head) -> Result<()> {
    let scale = request.scale();
    let path = vec!["scales".to_owned(), scale.to_owned()];
    match tree.part(&path) {
        Some(patch) => {
            if let Some(key) = ["name", "scales"].into_iter().find(|key| patch.value.get(key).is_some()) {
                let place = patch.place(&[key.to_owned()], document);
                return Err(Fault::new(place, "a scale cannot change this")
                    .key(format!("scales.{scale}.{key}"))
                    .into());
            }
            if !patch.value.is_null() {
                tree.overlay(&[], patch);
            }
            Ok(())
        }
        None if scale == DEFAULT_SCALE => Ok(()),
        None => {
            let known: BTreeSet<&str> = head.scales.keys().map(String::as_str).chain([DEFAULT_SCALE]).collect();
            let place = Place::Option(format!("--scale {scale}"));
            let text = format!("`{}` has no scale `{scale}`", document.path.display());
            Err(Fault::new(place, text).hint_if(suggest(scale, known)).into())
        }
    }
}

fn check_name(head: &Head, document: &Document) -> Result<()> {
    let stem = document.path.file_stem().unwrap_or_default().to_string_lossy();
    // With overrides a plan has a longer name, see `plan_name`.
    if head.name == stem && can_name(&stem) && can_name(&format!("{stem}.00000000")) {
        return Ok(());
    }
    if head.name == stem {
        let problem = Problem::Expected { expected: PLAIN_NAME.into(), got: format!("`{stem}`") };
        let hint = Some("rename the file and the experiment; plans are kept under that name".to_owned());
        return Err(Fault { place: document.place(&["name".into()]), key: Some("name".into()), problem, hint }.into());
    }
    let problem = Problem::Expected { expected: format!("the file's name, `{stem}`"), got: format!("`{}`", head.name) };
    let hint = Some("rename the file or the experiment; plans are kept under that name".to_owned());
    Err(Fault { place: document.place(&["name".into()]), key: Some("name".into()), problem, hint }.into())
}

fn arms(head: &Head, tree: &Tree, document: &Document, request: &Request) -> Result<Vec<String>> {
    if head.arms.is_empty() {
        let place = tree.place(&["arms".into()], document);
        let hint = "an arm is a name and what is special about it, as in `arms: {baseline: {optimizer: sgd}}`";
        return Err(Fault::new(place, "expected at least one arm, got none").key("arms").hint(hint).into());
    }
    for (name, patch) in &head.arms {
        let path = ["arms".to_owned(), name.clone()];
        if !patch.is_object() && !patch.is_null() {
            return Err(refuse(tree, document, &path.join("."), "a map of keys", &show(patch)).into());
        }
        if let Some(sweep) = patch.get("sweep").filter(|sweep| !sweep.is_object() && !sweep.is_array()) {
            let key = format!("{}.sweep", path.join("."));
            return Err(refuse(tree, document, &key, "a map of keys to lists of values", &show(sweep)).into());
        }
        if patch.get("space").is_some() && head.search.is_none() {
            let at = [&path[..], &["space".to_owned()]].concat();
            let fault =
                Fault::new(tree.place(&at, document), "there is no `search` that draws from it").key(at.join("."));
            return Err(fault
                .hint("say `search: {method: random, seed: 1, configurations: 20}`, or `sweep` instead")
                .into());
        }
        let known = || PARTS.into_iter().chain(["sweep", "space"]);
        if let Some(key) = patch.as_object().and_then(|map| map.keys().find(|key| known().all(|part| part != *key))) {
            let at = [&path[..], std::slice::from_ref(key)].concat();
            let fault = Fault::new(tree.place(&at, document), "there is no such key").key(at.join("."));
            return Err(fault.hint_if(suggest(key, known())).into());
        }
    }
    if let Some(twice) =
        request.arms.iter().enumerate().find_map(|(i, arm)| request.arms[..i].contains(arm).then_some(arm))
    {
        let place = Place::Option(format!("--arm {twice}"));
        return Err(Fault::new(place, format!("arm `{twice}` is named twice")).hint("name every arm once").into());
    }
    for name in &request.arms {
        if !head.arms.contains_key(name) {
            let place = Place::Option(format!("--arm {name}"));
            let text = format!("`{}` has no arm `{name}`", document.path.display());
            return Err(Fault::new(place, text).hint_if(suggest(name, head.arms.keys())).into());
        }
    }
    Ok(head.arms.keys().filter(|name| request.arms.is_empty() || request.arms.contains(name)).cloned().collect())
}

/// The folder that an experiment's records go to by default, and why.
#[must_use]
pub fn default_store(file: &Path, scale: &str) -> PathBuf {
    let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let folder = absolute.parent().unwrap_or(Path::new("."));
    let home = folder.ancestors().find(|ancestor| ancestor.join("experiments").is_dir());
    let records = match home {
        Some(home) => home.join("experiments").join("records"),
        None => folder.join("records"),
    };
    records.join(scale)
}
