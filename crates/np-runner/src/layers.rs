//! What one run is made of: values of axes and of `--set` laid over a run's tree: parents before children, whatever the order that they are written in, and no value twice.
//!
//! `sweep: {optimizer.lr: [0.1, 0.2], optimizer: [sgd, adamw]}` is four runs at the rates named, as it would be the other way round: the
//! optimizer is chosen first, then its rate is set.

use std::fmt;

use np_core::OptimizerConfig;
use serde_json::Value;

use crate::{
    axes::Axis,
    choices::is_choice,
    config::{Frame, RunConfig},
    document::{Document, KeyPath},
    error::{Error, Fault, Place, Problem, Result, list},
    explain::{read, refuse, show},
    spec::SpecRun,
    task,
    tree::{Origin, Tree, spelled, split},
};

/// The part of a run that has no default.
const OPTIMIZER: &str = "optimizer";

/// What one run is made of, bottom up.
pub(crate) struct Layers<'a> {
    pub(crate) arm: &'a str,
    pub(crate) base: &'a Tree,
    pub(crate) axes: &'a [Axis],
    pub(crate) values: &'a [Value],
    pub(crate) sets: &'a [(KeyPath, Value, Origin)],
}

impl Layers<'_> {
    /// The layers over one another, but for those of some options.
    pub(crate) fn tree(&self, without: &dyn Fn(&str) -> bool, document: &Document) -> Result<Tree, Box<Fault>> {
        let kept = |said: &Said<'_>| !matches!(said.origin, Origin::Option(option) if without(option));
        let axes = self.axes.iter().zip(self.values).map(|(axis, value)| Said {
            key: split(&axis.key),
            value,
            origin: &axis.origin,
            by: By::Axis,
        });
        let sets = self.sets.iter().map(|(key, value, origin)| Said { key: key.clone(), value, origin, by: By::Set });
        lay(self.base.clone(), axes.chain(sets).filter(kept).collect(), document)
    }

    /// Whether anything says which optimizer it is, and not only what one is to have.
    fn has_optimizer(&self) -> bool {
        let keys = self.axes.iter().map(|axis| split(&axis.key)).chain(self.sets.iter().map(|(key, ..)| key.clone()));
        let says = |key: KeyPath| match &key[..] {
            [part] => part == OPTIMIZER,
            [part, kind, ..] => part == OPTIMIZER && OptimizerConfig::KINDS.contains(&kind.as_str()),
            [] => false,
        };
        self.base.get(&[OPTIMIZER.into()]).is_some() || keys.into_iter().any(says)
    }

    /// The run of a seed, typed and checked.
    pub(crate) fn resolve(&self, seed: u64, document: &Document) -> Result<SpecRun> {
        if !self.has_optimizer() {
            let place = document.place(&["arms".into(), self.arm.into()]);
            let hint = format!("choose from {}, as in `optimizer: adamw`", list(OptimizerConfig::KINDS));
            let fault = Fault::new(place, "neither the arm nor the base has an optimizer").key(OPTIMIZER);
            return Err(fault.hint(hint).into());
        }
        let laid = self.tree(&|_| false, document)?;
        let (config, tree) = match settle(laid, seed, document) {
            Err(Error::Fault(fault)) => return Err(self.blame(*fault, seed, document).into()),
            other => other?,
        };
        let whole = Tree::new(serde_json::to_value(&config).unwrap_or_default(), Origin::File(KeyPath::new()));
        let label = |axis: &Axis| {
            let path = whole.resolve(&split(&axis.key));
            // What has its default may be left out of the configuration.
            whole.get(&path).or_else(|| tree.get(&path)).map(|value| (axis.key.clone(), value.clone())).ok_or_else(
                || {
                    let fault = Fault::new(
                        tree.place(&path, document),
                        "this key is swept, and there is no such key in the run",
                    );
                    let hint = format!("leave out the arm `{}`, or the axis", self.arm);
                    Error::from(fault.key(path.join(".")).hint(hint))
                },
            )
        };
        let axes = self.axes.iter().map(label).collect::<Result<_>>()?;
        Ok(SpecRun { arm: self.arm.to_owned(), axes, config, tree })
    }

    /// A fault that names a line of the file, where the file without the options would be sound, is the fault of an option.
    fn blame(&self, fault: Fault, seed: u64, document: &Document) -> Fault {
        let origins = self.axes.iter().map(|axis| &axis.origin).chain(self.sets.iter().map(|(.., origin)| origin));
        let options: Vec<&str> = origins
            .filter_map(|origin| match origin {
                Origin::Option(option) => Some(option.as_str()),
                Origin::File(_) => None,
            })
            .collect();
        let sound = |without: &dyn Fn(&str) -> bool| {
            self.tree(without, document).is_ok_and(|tree| settle(tree, seed, document).is_ok())
        };
        if matches!(fault.place, Place::Option(_)) {
            // The other arms may well have it.
            let absent = fault.problem == Problem::Other("there is no such key".into());
            let problem = Problem::Other(format!("there is no such key in arm `{}`", self.arm));
            return if absent { Fault { problem, ..fault } } else { fault };
        }
        if !sound(&|_| true) {
            return fault;
        }
        let alone = options.iter().find(|option| sound(&|other| other == **option));
        let blamed = alone.map_or_else(|| options.join(" "), |option| (*option).to_owned());
        Fault { place: Place::Option(blamed), ..fault }
    }
}

/// Types and checks one run's tree.
fn settle(mut tree: Tree, seed: u64, document: &Document) -> Result<(RunConfig, Tree)> {
    tree.overlay(&["seed".into()], Tree::new(seed.into(), Origin::File(vec!["seeds".into()])));
    let task = task::read(&tree, document)?;
    let config = read::<Frame>(&tree, document)?.with(task).resolved();
    config.validate().map_err(|bad| refuse(&tree, document, &bad.key, &bad.expected, &bad.got))?;
    Ok((config, tree))
}

/// What says a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// An axis of a sweep.
    Axis,
    /// `--set`.
    Set,
}

/// A value that is laid over a tree.
#[derive(Debug, Clone)]
pub(crate) struct Said<'a> {
    /// Where to, as it is written: kinds may be left out.
    pub(crate) key: KeyPath,
    /// The value.
    pub(crate) value: &'a Value,
    /// Where it is written.
    pub(crate) origin: &'a Origin,
    /// What says it.
    pub(crate) by: By,
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.origin, self.by) {
            (Origin::Option(option), _) => write!(f, "`{option}`"),
            (Origin::File(path), By::Axis) => write!(f, "the axis `{}`", path.join(".")),
            (Origin::File(path), By::Set) => write!(f, "`{}`", path.join(".")),
        }
    }
}

/// Lays values over a tree.
///
/// # Errors
/// A fault that names two of them that set one value.
pub(crate) fn lay(mut tree: Tree, mut rest: Vec<Said<'_>>, document: &Document) -> Result<Tree, Box<Fault>> {
    let mut laid: Vec<(Said<'_>, Vec<KeyPath>)> = Vec::new();
    while !rest.is_empty() {
        // What a key stands for may depend on what is laid already, so paths are looked at anew; of equally long ones the first written comes first.
        let paths: Vec<KeyPath> = rest.iter().map(|said| tree.resolve(&said.key)).collect();
        let next = (0..rest.len()).min_by_key(|&i| paths[i].len()).unwrap_or_default();
        let (said, path) = (rest.remove(next), &paths[next]);
        let patch = Tree::new(said.value.clone(), said.origin.clone());
        let values = values(path, said.value);
        for (earlier, theirs) in &laid {
            if let Some(twice) = values.iter().find(|own| theirs.iter().any(|other| meet(own, other))) {
                return Err(Box::new(conflict(earlier, &said, twice, document)));
            }
        }
        tree.overlay(path, patch);
        laid.push((said, values));
    }
    Ok(tree)
}

/// Values that an arm says itself and that an axis of the file replaces in every one of its runs, a sentence each. What an option replaces is meant to be.
pub(crate) fn swept_away(arm: &str, own: &Tree, base: &Tree, axes: &[Axis], runs: &[SpecRun]) -> Vec<String> {
    let mut leaves = Vec::new();
    leaves_of(&own.value, &mut KeyPath::new(), &mut leaves);
    let lost = leaves.into_iter().filter_map(|(path, value)| {
        let same = |other: &Value| match (value.as_f64(), other.as_f64()) {
            (Some(own), Some(other)) => own == other,
            _ => value.is_object() || *other == *value,
        };
        let kept = |run: &SpecRun| run.tree.get(&path).is_some_and(same);
        let option = |run: &SpecRun| matches!(run.tree.origin(&path), Origin::Option(_));
        if runs.iter().any(|run| kept(run) || option(run)) {
            return None;
        }
        let axis = axes.iter().find(|axis| meet(&base.resolve(&split(&axis.key)), &path))?;
        let (key, value, axis) = (path.join("."), show(value), &axis.key);
        Some(format!("arm `{arm}`: no run has its own `{key}`, {value}: the axis `{axis}` does not list it"))
    });
    lost.collect()
}

/// The values in a tree that are no maps, or empty ones, with their paths.
fn leaves_of<'a>(value: &'a Value, path: &mut KeyPath, leaves: &mut Vec<(KeyPath, &'a Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, inner) in map {
                path.push(key.clone());
                leaves_of(inner, path, leaves);
                path.pop();
            }
        }
        leaf => leaves.push((path.clone(), leaf)),
    }
}

/// The paths at which a value that is laid at `path` says something itself; of a choice, its kind too.
fn values(path: &KeyPath, value: &Value) -> Vec<KeyPath> {
    let mut paths = Vec::new();
    collect(&mut path.clone(), &spelled(value, path), &mut paths);
    paths
}

fn collect(path: &mut KeyPath, value: &Value, paths: &mut Vec<KeyPath>) {
    let Value::Object(map) = value else {
        paths.push(path.clone());
        return;
    };
    if is_choice(path) {
        // The kind, at a place that no setting has.
        paths.push([path.as_slice(), &[KIND.to_owned()]].concat());
    }
    for (key, inner) in map {
        path.push(key.clone());
        collect(path, inner, paths);
        path.pop();
    }
}

/// Stands for the kind of a choice in the path of what is said.
const KIND: &str = "";

/// Whether two paths are of one value, or of a value and a part of it.
fn meet(a: &KeyPath, b: &KeyPath) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn conflict(earlier: &Said<'_>, later: &Said<'_>, at: &[String], document: &Document) -> Fault {
    // An option is the nearer one to mend.
    let place = |said: &Said<'_>| match said.origin {
        Origin::File(path) => document.place(path),
        Origin::Option(option) => Place::Option(option.clone()),
    };
    let (here, there) = match (earlier.origin, later.origin) {
        (Origin::Option(_), Origin::File(_)) => (earlier, later),
        _ => (later, earlier),
    };
    let key: Vec<&str> = at.iter().map(String::as_str).filter(|key| *key != KIND).collect();
    let hint = match (here.by, there.by) {
        (By::Set, By::Axis) => "leave one of them out; `--sweep KEY=VALUE` keeps one value of an axis",
        (By::Set, By::Set) => "say every value once",
        _ => "leave it out of one of the two axes, or write the combinations as the values of one",
    };
    Fault::new(place(here), format!("{there} sets this value too")).key(key.join(".")).hint(hint)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn laid(said: &[(&str, Value, By)]) -> Result<Value, String> {
        let document = Document::of(std::path::Path::new("t.yaml"), b"name: t\n".to_vec()).unwrap();
        let origin = Origin::Option("--option".into());
        let base = json!({"optimizer": {"adam": {"lr": 9}}, "data": {"name": "mnist", "fraction": 1}, "model": {"mlp": {"hidden": [1]}}});
        let said =
            said.iter().map(|(key, value, by)| Said { key: crate::tree::split(key), value, origin: &origin, by: *by });
        let tree = lay(Tree::new(base, Origin::File(KeyPath::new())), said.collect(), &document);
        tree.map(|tree| tree.value).map_err(|fault| fault.told())
    }

    /// Every order of some values.
    fn orders<T: Clone>(all: &[T]) -> Vec<Vec<T>> {
        if all.is_empty() {
            return vec![Vec::new()];
        }
        let first = |i: usize| {
            let mut rest = all.to_vec();
            let one = rest.remove(i);
            orders(&rest).into_iter().map(move |rest| [vec![one.clone()], rest].concat())
        };
        (0..all.len()).flat_map(first).collect()
    }

    #[test]
    fn the_order_written_is_of_no_matter() {
        use By::{Axis, Set};
        let formulation = json!({"hybrid": {"base": "sgd_momentum"}});
        for (said, path, want) in [
            (
                vec![("optimizer.lr", json!(1), Axis), ("optimizer", json!("sgd"), Axis)],
                "/optimizer",
                json!({"sgd": {"lr": 1}}),
            ),
            (
                vec![("optimizer.lr", json!(1), Axis), ("optimizer", json!("sgd"), Set)],
                "/optimizer",
                json!({"sgd": {"lr": 1}}),
            ),
            (
                vec![("data.fraction", json!(0.5), Axis), ("data", json!({"name": "b"}), Axis)],
                "/data",
                json!({"name": "b", "fraction": 0.5}),
            ),
            (
                vec![
                    ("optimizer.formulation.base.momentum", json!(2), Axis),
                    ("optimizer.formulation", formulation, Set),
                    ("optimizer.lr", json!(1), Set),
                    ("optimizer", json!("neuroplastic"), Axis),
                ],
                "/optimizer",
                json!({"neuroplastic": {"lr": 1, "formulation": {"hybrid": {"base": {"sgd_momentum": {"momentum": 2}}}}}}),
            ),
        ] {
            for order in orders(&said) {
                assert_eq!(laid(&order).unwrap().pointer(path), Some(&want), "{order:?}");
            }
        }
    }

    #[test]
    fn one_value_is_set_once() {
        use By::{Axis, Set};
        for said in [
            [("optimizer.lr", json!(1), Axis), ("optimizer.adam.lr", json!(2), Axis)],
            [("optimizer.lr", json!(1), Axis), ("optimizer", json!({"sgd": {"lr": 2}}), Axis)],
            [("optimizer.lr", json!(1), Axis), ("optimizer.lr", json!(1), Set)],
            [("optimizer", json!("sgd"), Axis), ("optimizer", json!("adam"), Set)],
            [("data", json!({"name": "b"}), Axis), ("data.name", json!("c"), Axis)],
            [("data.validation", json!(null), Set), ("data.validation", json!(0.1), Axis)],
            [("model.hidden", json!([8]), Axis), ("model.hidden.0", json!(4), Set)],
            [("train.epochs", json!(1), Set), ("train.epochs", json!(2), Set)],
        ] {
            for order in orders(&said) {
                let fault = laid(&order).unwrap_err();
                assert!(fault.contains("sets this value too\n  hint: "), "{order:?}: {fault}");
            }
        }
        let fine = [("optimizer", json!({"sgd": {"momentum": 0.5}}), Axis), ("optimizer.lr", json!(1), Axis)];
        assert_eq!(laid(&fine).unwrap()["optimizer"], json!({"sgd": {"momentum": 0.5, "lr": 1}}));
    }
}
