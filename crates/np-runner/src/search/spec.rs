//! The section `search` of an experiment, as it is written, and as it is meant: checked, with every configuration drawn.

use np_record::{Hypothesis, StatedOutcome, select::Split};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Arm, Search,
    rungs::{Method, Rung, halving},
    space::{Dimension, Values, draw},
};
use crate::{
    axes::{MOST_RUNS, known_part},
    config::TrainConfig,
    document::{Document, KeyPath},
    error::{Fault, Problem, Result},
    explain::{read, show},
    say::count,
    seeds::{Seeds, in_words},
    spec::{Request, SpecRun},
    tree::Tree,
};

/// Keys that an arm's space may have: more than any optimizer has settings.
const MOST_KEYS: usize = 64;

/// Parts of a run whose values are configurations.
const SEARCHED: [&str; 3] = ["optimizer", "options", "train"];

/// What is no configuration, and why.
const FIXED: [(&str, &str); 6] = [
    ("train.epochs", "the rungs say how many epochs a configuration is trained for"),
    ("train.device", "results are to be compared that one device gives"),
    ("train.precision", "results are to be compared that one device gives"),
    ("train.eval_batch_size", "it changes no result"),
    ("train.eval_every", "it changes no weights"),
    ("train", "name the setting itself, as in `train.batch_size`"),
];

/// Fresh seeds for the finals, where the file names none.
const FRESH: u64 = 10;

/// The section as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SearchSpec {
    method: Method,
    seed: u64,
    configurations: usize,
    #[serde(default)]
    min_epochs: Option<u32>,
    #[serde(default)]
    reduction: Option<u32>,
    #[serde(default)]
    space: Map<String, Value>,
    #[serde(default)]
    final_seeds: Option<Seeds>,
}

/// What a search is read from.
pub(crate) struct Written<'a> {
    /// The section.
    pub(crate) spec: &'a SearchSpec,
    /// The arms that are kept.
    pub(crate) arms: &'a [String],
    /// The seeds of every configuration.
    pub(crate) seeds: &'a [u64],
    /// The split that the file selects on.
    pub(crate) selection: Option<Split>,
    /// What the file fixes for the finals.
    pub(crate) outcome: Option<StatedOutcome>,
    /// The pairs that the finals test.
    pub(crate) hypotheses: &'a [Hypothesis],
    /// The file at its scale.
    pub(crate) tree: &'a Tree,
    /// The file.
    pub(crate) document: &'a Document,
    /// What the command line asks for.
    pub(crate) request: &'a Request,
}

impl Written<'_> {
    /// A fault of the key at a path of the file.
    fn fault(&self, path: &[&str], problem: Problem) -> Fault {
        let path: KeyPath = path.iter().map(|key| (*key).to_owned()).collect();
        Fault { place: self.tree.place(&path, self.document), key: Some(path.join(".")), problem, hint: None }
    }

    fn expected(&self, path: &[&str], expected: impl Into<String>, got: impl Into<String>) -> Fault {
        self.fault(path, Problem::Expected { expected: expected.into(), got: got.into() })
    }

    /// Checks the section, and draws the configurations of every arm; their rungs are not known before a run has told how long a training is, see
    /// [`Self::settle`].
    pub(crate) fn draw(&self) -> Result<Search> {
        let &Self { spec, seeds, tree, .. } = self;
        self.check()?;
        let mut arms = Vec::new();
        for name in self.arms {
            let shared = self.dimensions(&["search", "space"], &spec.space)?;
            let own = match tree.get(&["arms".into(), name.clone(), "space".into()]) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Object(own)) => self.dimensions(&["arms", name, "space"], own)?,
                Some(other) => {
                    return Err(self.expected(&["arms", name, "space"], "a map of keys to values", show(other)).into());
                }
            };
            let kept = shared.into_iter().filter(|one| own.iter().all(|other| other.key != one.key));
            let space: Vec<Dimension> = kept.collect::<Vec<_>>().into_iter().chain(own).collect();
            if space.is_empty() || space.len() > MOST_KEYS {
                let got = count(space.len(), "key");
                let fault = self.expected(&["search", "space"], format!("1 to {MOST_KEYS} keys for arm `{name}`"), got);
                let hint =
                    "as in `space: {optimizer.lr: {log_uniform: [0.001, 1]}}`; an arm may have a `space` of its own";
                return Err(fault.hint(hint).into());
            }
            let points = draw(&space, spec.seed, name, spec.configurations).map_err(|all| {
                let expected = format!("at most {all}, as many as the space of arm `{name}` has");
                let fault =
                    self.expected(&["search", "configurations"], expected, format!("`{}`", spec.configurations));
                fault.hint("try fewer configurations of every arm, or give that arm more values")
            })?;
            arms.push(Arm { name: name.clone(), space, points, bare: Value::Null });
        }
        Ok(Search {
            method: spec.method,
            seeds: seeds.to_vec(),
            final_seeds: self.final_seeds()?,
            rungs: vec![Rung { configurations: spec.configurations, epochs: 0 }],
            outcome: self.outcome,
            hypotheses: self.hypotheses.to_vec(),
            launcher: tree.get(&["launcher".into()]).cloned(),
            arms,
        })
    }

    /// What can be said of the section before anything is drawn.
    fn check(&self) -> Result<()> {
        let &Self { spec, seeds, tree, document, request, .. } = self;
        if self.selection == Some(Split::Test) {
            let fault = self.fault(&["selection"], Problem::Other("a search on the test split".into()));
            let hint = "say `selection: validation`, with `data: {validation: 0.1}`: test images are for the finals";
            return Err(fault.hint(hint).into());
        }
        if let [seed] = seeds {
            let fault = self.expected(
                &["seeds"],
                "at least 2 seeds, on which configurations are compared in pairs",
                format!("`{seed}` alone"),
            );
            let fault = match &request.seeds {
                Some(text) => Fault { place: crate::error::Place::Option(format!("--seeds {text}")), ..fault },
                None => fault,
            };
            return Err(fault.hint("as in `seeds: 1..3`; no configuration is dropped on one seed").into());
        }
        let swept = |path: &[&str]| {
            let path: KeyPath = path.iter().map(|key| (*key).to_owned()).collect();
            tree.get(&path).filter(|sweep| sweep.as_object().is_none_or(|map| !map.is_empty())).is_some()
        };
        let arm = self.arms.iter().find(|arm| swept(&["arms", arm, "sweep"]));
        let fault = match (swept(&["sweep"]), arm, request.sweep.first()) {
            (true, ..) => {
                Some(self.fault(&["sweep"], Problem::Other("a search has a space, and sweeps nothing".into())))
            }
            (_, Some(arm), _) => Some(
                self.fault(&["arms", arm, "sweep"], Problem::Other("a search has a space, and sweeps nothing".into())),
            ),
            (.., Some(text)) => {
                let place = crate::error::Place::Option(format!("--sweep {text}"));
                Some(Fault::new(place, format!("`{}` has a search, which sweeps nothing", document.path.display())))
            }
            _ => None,
        };
        if let Some(fault) = fault {
            let hint = "put configurations into `search.space`; another data set is another search, as with `--set data.name=mnist`";
            return Err(fault.hint(hint).into());
        }
        let key = |key| ["search", key];
        let runs = spec.configurations.saturating_mul(self.arms.len()).saturating_mul(seeds.len());
        if spec.configurations < 2 || runs > MOST_RUNS {
            let expected = format!("2 or more, and at most {MOST_RUNS} runs of all arms and seeds");
            return Err(self.expected(&key("configurations"), expected, format!("`{}`", spec.configurations)).into());
        }
        for (name, value, least) in [("min_epochs", spec.min_epochs, 1), ("reduction", spec.reduction, 2)] {
            match value {
                Some(value) if spec.method == Method::Random => {
                    let fault = self.expected(&key(name), "no such key for the method `random`", format!("`{value}`"));
                    let hint = "leave it out, or say `method: successive_halving`; random search trains every configuration in full";
                    return Err(fault.hint(hint).into());
                }
                Some(value) if value < least => {
                    return Err(self.expected(&key(name), format!("{least} or more"), format!("`{value}`")).into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The keys of a space, in the file's order.
    fn dimensions(&self, at: &[&str], space: &Map<String, Value>) -> Result<Vec<Dimension>> {
        let one = |key: &String| {
            let path = [at, &[key.as_str()]].concat();
            let fault = |expected: &str, got: String| self.expected(&path, expected, got);
            let keys: KeyPath = path.iter().map(|key| (*key).to_owned()).collect();
            let head = key.split('.').next().unwrap_or_default();
            known_part(key, self.tree.place(&keys, self.document))?;
            if !SEARCHED.contains(&head) {
                let expected = "a key of `optimizer`, `options` or `train`";
                let hint = "data and model are the problem, not a configuration: another one is another search, as with `--set data.name=mnist`";
                return Err(fault(expected, format!("`{key}`")).hint(hint).into());
            }
            if let Some((_, why)) = FIXED.iter().find(|(fixed, _)| key == fixed) {
                return Err(fault("a key that a search may change", format!("`{key}`")).hint(*why).into());
            }
            // `read` gives the place within this value; its key is told from the top.
            let part = self.tree.part(&keys).unwrap_or_else(|| self.tree.clone());
            let values: Values = read(&part, self.document).map_err(|mut fault| {
                let inner = fault.key.take().map(|key| format!(".{key}")).unwrap_or_default();
                let hint = "as in `{log_uniform: [0.001, 1]}`, `{uniform: [0.8, 0.99]}`, `{int: [1, 4]}` or `{choice: [constant, cosine]}`";
                let hint = fault.hint.clone().unwrap_or_else(|| hint.to_owned());
                fault.key(format!("{}{inner}", path.join("."))).hint(hint)
            })?;
            if let Some((expected, got)) = values.fault() {
                return Err(fault(&expected, got).into());
            }
            Ok(Dimension { key: key.clone(), values, path: keys })
        };
        space.keys().map(one).collect()
    }

    /// The seeds of the finals: none of those that choose.
    fn final_seeds(&self) -> Result<Vec<u64>> {
        let Some(written) = &self.spec.final_seeds else {
            let last = self.seeds.iter().copied().max().unwrap_or(0);
            let first = if last > u64::MAX - FRESH { 0 } else { last + 1 };
            return Ok((first..).filter(|seed| !self.seeds.contains(seed)).take(FRESH as usize).collect());
        };
        let both: Vec<u64> = written.0.iter().copied().filter(|seed| self.seeds.contains(seed)).collect();
        let got = match (written.0.is_empty(), both.is_empty()) {
            (true, _) => "none".to_owned(),
            (_, false) => format!("`{}`, of the search itself", in_words(both)),
            _ => return Ok(written.0.clone()),
        };
        let fault = self.expected(&["search", "final_seeds"], "seeds that choose nothing", got);
        Err(fault.hint("seeds that chose a configuration favour it: name others, as in `final_seeds: 51..60`").into())
    }

    /// What the runs of the drawn configurations tell: the length of a training, hence the rungs, and whether every arm has the same budget. The runs
    /// become those of the first rung.
    pub(crate) fn settle(&self, search: &mut Search, runs: &mut [SpecRun]) -> Result<()> {
        let Some(first) = runs.first() else { return Ok(()) };
        let epochs = first.config.train.epochs;
        let place = |run: &SpecRun, key: &[&str]| {
            let path: KeyPath = key.iter().map(|key| (*key).to_owned()).collect();
            run.tree.place(&path, self.document)
        };
        for run in &*runs {
            let Some(images) = run.config.task.as_images() else {
                let problem = Problem::Expected { expected: "images".into(), got: "a task of its own".into() };
                let hint = "a search ranks by the accuracy on held-out images; other tasks can be swept, as in `sweep: {optimizer.lr: […]}`";
                let place = place(run, &["task"]);
                return Err(Fault { place, key: Some("task".into()), problem, hint: Some(hint.into()) }.into());
            };
            if images.data.validation.is_none() {
                let problem = Problem::Expected {
                    expected: "a share of the training images to choose by".into(),
                    got: "none".into(),
                };
                let hint = "hold images out, as in `data: {validation: 0.1}`: a search on test images would report what it has fitted";
                let (place, key) = (place(run, &["data", "validation"]), Some("data.validation".to_owned()));
                return Err(Fault { place, key, problem, hint: Some(hint.into()) }.into());
            }
            let own = run.config.train.epochs;
            if own != epochs {
                let problem = Problem::Expected {
                    expected: format!("`{epochs}`, as arm `{}` has", first.arm),
                    got: format!("`{own}` in arm `{}`", run.arm),
                };
                let (place, key) = (place(run, &["train", "epochs"]), Some("train.epochs".to_owned()));
                let hint = "every arm has the same budget, in configurations and in epochs";
                return Err(Fault { place, key, problem, hint: Some(hint.into()) }.into());
            }
        }
        let wanted = self.spec.configurations * self.seeds.len();
        for arm in &search.arms {
            let got = runs.iter().filter(|run| run.arm == arm.name).count();
            if got != wanted {
                let problem = Problem::Other(format!(
                    "two values of a choice mean the same in arm `{}`: {got} runs instead of {wanted}",
                    arm.name
                ));
                let fault = self.fault(&["search", "space"], problem);
                return Err(fault.hint("every arm has the same budget: name each value once").into());
            }
        }
        search.rungs = match self.spec.method {
            Method::Random => vec![Rung { configurations: self.spec.configurations, epochs }],
            Method::SuccessiveHalving => self.halving(epochs)?,
        };
        for (run, rung) in runs.iter().flat_map(|run| search.rungs.iter().map(move |rung| (run, *rung))) {
            let train = TrainConfig { epochs: rung.epochs, ..run.config.train.clone() };
            let last = search.last_epochs(rung).get();
            if !train.evaluates_last(last) {
                let problem = Problem::Expected {
                    expected: format!(
                        "1, or an `outcome` of one epoch: configurations are judged over the last {last} of {}",
                        rung.epochs
                    ),
                    got: format!("`{}`", train.eval_every),
                };
                let (place, key) = (place(run, &["train", "eval_every"]), Some("train.eval_every".to_owned()));
                return Err(Fault { place, key, problem, hint: None }.into());
            }
        }
        let rung = search.rungs[0];
        for run in runs {
            run.config.train.epochs = rung.epochs;
        }
        Ok(())
    }

    fn halving(&self, epochs: u32) -> Result<Vec<Rung>> {
        let (least, reduction) = (self.spec.min_epochs.unwrap_or(1), self.spec.reduction.unwrap_or(3));
        let rungs = halving(self.spec.configurations, epochs, least, reduction);
        if rungs.len() > 1 {
            return Ok(rungs);
        }
        let text = format!(
            "no rung is shorter than a training: {least} times the reduction of {reduction} is more than its {epochs} epochs"
        );
        let fault = self.fault(&["search", "min_epochs"], Problem::Other(text));
        Err(fault.hint("lower it or `search.reduction`, raise `train.epochs`, or say `method: random`").into())
    }
}
