//! Trees of values laid over one another, each value remembering who said it.
//!
//! An experiment is a base tree under partial ones: scale, arm, swept value, `--set`. Maps merge key by key; everything else is
//! replaced. A choice (`optimizer: {sgd: {…}}`, see [`is_choice`]) merges only with the same choice and is replaced by another.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    choices::{is_choice, kind_by_default},
    document::{Document, KeyPath},
    error::Place,
};

/// Who said a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The experiment file, at this path of it.
    File(KeyPath),
    /// An option, as typed.
    Option(String),
}

/// A value with the origins of its parts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    pub(crate) value: Value,
    /// By path; a path without an entry has that of the nearest one above it.
    origins: BTreeMap<KeyPath, Origin>,
}

impl Tree {
    /// A tree that `origin` said as a whole.
    pub(crate) fn new(value: Value, origin: Origin) -> Self {
        Self { value, origins: BTreeMap::from([(KeyPath::new(), origin)]) }
    }

    /// The tree of a file, with every bare choice (`optimizer: adamw`) spelled as a map.
    pub(crate) fn of(document: &Document) -> Self {
        let mut value = document.value.clone();
        spell_choices(&mut value, &mut KeyPath::new());
        Self::new(value, Origin::File(KeyPath::new()))
    }

    /// The part at `path`, if there is one.
    pub(crate) fn part(&self, path: &[String]) -> Option<Self> {
        let mut value = &self.value;
        for key in path {
            value = value.get(key)?;
        }
        let mut part = Self::new(value.clone(), self.origin(path));
        for (at, origin) in self.below(path) {
            part.origins.insert(at[path.len()..].to_vec(), origin.clone());
        }
        Some(part)
    }

    /// A map of the parts at these keys, as far as they are there.
    pub(crate) fn pick(&self, keys: &[&str]) -> Self {
        let mut picked = Self::new(Value::Object(Map::new()), self.origin(&[]));
        for key in keys {
            let path = vec![(*key).to_owned()];
            if let Some(part) = self.part(&path) {
                picked.put(&path, part);
            }
        }
        picked
    }

    /// Lays `patch` over the part at `path`, which is made if need be.
    pub(crate) fn overlay(&mut self, path: &[String], mut patch: Self) {
        spell_choices(&mut patch.value, &mut path.to_vec());
        let here = self.part(path).map(|part| part.value);
        let merges = match (&here, &patch.value) {
            (Some(Value::Object(old)), Value::Object(new)) if is_choice(path) => {
                new.is_empty() || old.keys().eq(new.keys()) || old.is_empty()
            }
            (Some(Value::Object(_)), Value::Object(_)) => true,
            _ => false,
        };
        if !merges {
            self.put(path, patch);
            return;
        }
        let keys: KeyPath = patch.value.as_object().into_iter().flat_map(Map::keys).cloned().collect();
        for key in keys {
            if let Some(part) = patch.part(std::slice::from_ref(&key)) {
                let mut at = path.to_vec();
                at.push(key);
                self.overlay(&at, part);
            }
        }
    }

    /// `path` with the kind of a choice filled in where it was left out: `optimizer.lr` → `optimizer.neuroplastic.lr`. Where the tree has none, that
    /// is the default: `model.hidden` → `model.mlp.hidden`.
    pub(crate) fn resolve(&self, path: &[String]) -> KeyPath {
        let mut full = KeyPath::new();
        for key in path {
            if is_choice(&full) {
                let written = self.get(&full).and_then(Value::as_object).and_then(|map| map.keys().next());
                let kind = match written {
                    Some(kind) => Some(kind.clone()).filter(|kind| kind != key),
                    None => kind_by_default(&self.value, &full, key),
                };
                full.extend(kind);
            }
            full.push(key.clone());
        }
        full
    }

    /// The value at `path`.
    pub(crate) fn get(&self, path: &[String]) -> Option<&Value> {
        path.iter().try_fold(&self.value, |value, key| match value {
            Value::Array(items) => items.get(key.parse::<usize>().ok()?),
            other => other.get(key),
        })
    }

    /// Who said the value at `path`.
    pub(crate) fn origin(&self, path: &[String]) -> Origin {
        let found = (0..=path.len()).rev().find_map(|n| Some((n, self.origins.get(&path[..n])?)));
        match found {
            Some((n, Origin::File(base))) => Origin::File([base.as_slice(), &path[n..]].concat()),
            Some((_, origin)) => origin.clone(),
            None => Origin::File(path.to_vec()),
        }
    }

    /// Where the value at `path` was said.
    pub(crate) fn place(&self, path: &[String], document: &Document) -> Place {
        match self.origin(path) {
            Origin::File(path) => document.place(&path),
            Origin::Option(option) => Place::Option(option),
        }
    }

    /// Replaces what is at `path`.
    fn put(&mut self, path: &[String], part: Self) {
        let mut value = &mut self.value;
        for (depth, key) in path.iter().enumerate() {
            if !value.is_object() {
                *value = Value::Object(Map::new());
                if let Some(origin) = part.origins.get(&KeyPath::new()) {
                    self.origins.insert(path[..depth].to_vec(), origin.clone());
                }
            }
            value = &mut value[key.as_str()];
        }
        *value = part.value;
        let stale: Vec<KeyPath> = self.below(path).map(|(at, _)| at.clone()).collect();
        for at in stale {
            self.origins.remove(&at);
        }
        for (at, origin) in part.origins {
            self.origins.insert([path, &at].concat(), origin);
        }
    }

    /// The origins at `path` and below it.
    fn below<'a>(&'a self, path: &'a [String]) -> impl Iterator<Item = (&'a KeyPath, &'a Origin)> {
        self.origins.range(path.to_vec()..).take_while(move |(at, _)| at.starts_with(path))
    }
}

/// Spells every choice that is written as a bare word as a map of one key.
fn spell_choices(value: &mut Value, path: &mut KeyPath) {
    match value {
        Value::String(kind) if is_choice(path) => {
            let kind = std::mem::take(kind);
            *value = Value::Object(Map::from_iter([(kind, Value::Object(Map::new()))]));
        }
        Value::Object(map) => {
            let choice = is_choice(path);
            for (key, inner) in map {
                // `{adamw: }` is YAML's way to say "adamw, and nothing about it".
                if choice && inner.is_null() {
                    *inner = Value::Object(Map::new());
                }
                path.push(key.clone());
                spell_choices(inner, path);
                path.pop();
            }
        }
        _ => {}
    }
}

/// `value` as it is at `path`, with every choice spelled as a map.
pub(crate) fn spelled(value: &Value, path: &[String]) -> Value {
    let mut value = value.clone();
    spell_choices(&mut value, &mut path.to_vec());
    value
}

/// `a.b.c` as a path.
pub(crate) fn split(dotted: &str) -> KeyPath {
    dotted.split('.').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(value: Value) -> Tree {
        let mut value = value;
        spell_choices(&mut value, &mut KeyPath::new());
        Tree::new(value, Origin::File(KeyPath::new()))
    }

    fn option(value: Value) -> Tree {
        Tree::new(value, Origin::Option("--set".into()))
    }

    #[test]
    fn maps_merge_and_the_rest_is_replaced() {
        let mut tree = file(json!({"train": {"epochs": 10, "batch_size": 128}, "list": [1, 2]}));
        tree.overlay(&[], option(json!({"train": {"epochs": 3}, "list": [5], "new": {"a": 1}})));
        let want = json!({"train": {"epochs": 3, "batch_size": 128}, "list": [5], "new": {"a": 1}});
        assert_eq!(tree.value, want);
        assert_eq!(tree.origin(&split("train.epochs")), Origin::Option("--set".into()));
        assert_eq!(tree.origin(&split("train.batch_size")), Origin::File(split("train.batch_size")));
        assert_eq!(tree.origin(&split("new.a")), Origin::Option("--set".into()));
    }

    #[test]
    fn another_choice_replaces_and_the_same_one_merges() {
        let base = file(json!({"optimizer": {"sgd": {"lr": 1.0, "momentum": 0.5}}}));
        for (patch, want) in [
            (json!({"sgd": {"lr": 2.0}}), json!({"sgd": {"lr": 2.0, "momentum": 0.5}})),
            (json!({"adamw": {"lr": 2.0}}), json!({"adamw": {"lr": 2.0}})),
            (json!("adamw"), json!({"adamw": {}})),
            (json!("sgd"), json!({"sgd": {"lr": 1.0, "momentum": 0.5}})),
            (json!({"adamw": null}), json!({"adamw": {}})),
        ] {
            let mut tree = base.clone();
            tree.overlay(&split("optimizer"), option(patch));
            assert_eq!(tree.value["optimizer"], want);
        }
    }

    #[test]
    fn a_path_may_leave_the_kind_out() {
        let tree = file(json!({"optimizer": {"neuroplastic": {"coefficient": {"scale": 2.0}}}}));
        assert_eq!(tree.resolve(&split("optimizer.lr")), split("optimizer.neuroplastic.lr"));
        assert_eq!(tree.resolve(&split("optimizer.neuroplastic.lr")), split("optimizer.neuroplastic.lr"));
        let inner = "optimizer.neuroplastic.coefficient.min";
        assert_eq!(tree.resolve(&split("optimizer.coefficient.min")), split(inner), "one key is not a choice");
        assert_eq!(tree.resolve(&split("train.epochs")), split("train.epochs"));
        assert_eq!(tree.resolve(&split("optimizer")), split("optimizer"));
        let tree = file(json!({"optimizer": {"neuroplastic": {"formulation": {"hybrid": {"base": "sgd_momentum"}}}}}));
        let full = "optimizer.neuroplastic.formulation.hybrid.base.sgd_momentum.momentum";
        assert_eq!(tree.resolve(&split("optimizer.formulation.base.momentum")), split(full), "choices within choices");
    }

    #[test]
    fn a_part_keeps_its_origins_when_it_moves() {
        let mut doc = file(json!({"model": "mlp", "arms": {"a": {"optimizer": "sgd"}}}));
        doc.overlay(&split("arms.a.optimizer.sgd.lr"), option(json!(3)));
        let arm = doc.part(&split("arms.a")).unwrap();
        let mut run = doc.pick(&["model", "data"]);
        run.overlay(&[], arm);
        assert_eq!(run.value, json!({"model": {"mlp": {}}, "optimizer": {"sgd": {"lr": 3}}}));
        assert_eq!(run.origin(&split("optimizer.sgd.lr")), Origin::Option("--set".into()));
        assert_eq!(run.origin(&split("optimizer.sgd.x")), Origin::File(split("arms.a.optimizer.sgd.x")));
        assert_eq!(run.origin(&split("model.mlp")), Origin::File(split("model.mlp")));
    }
}
