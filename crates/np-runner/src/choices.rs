//! The places of an experiment where one of several kinds is chosen, written `kind` or `{kind: {…}}`, and the kind that stands there where
//! nothing is written.

use np_core::{OptimizerConfig, Schedule};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::model::ModelConfig;

/// The keys under which a kind is chosen: parts of a run, and parts of an optimizer.
const CHOICES: [&str; 3] = ["task", "model", "optimizer"];
const CHOICES_OF_OPTIMIZERS: [&str; 2] = ["formulation", "base"];

/// Whether `path`, in a run's tree or anywhere in an experiment's, is one of the choices.
pub(crate) fn is_choice(path: &[String]) -> bool {
    let inner = match path {
        [scales, _, arms, _, rest @ ..] if scales == "scales" && arms == "arms" => rest,
        [head, _, rest @ ..] if head == "scales" || head == "arms" => rest,
        all => all,
    };
    match inner {
        [only] => CHOICES.contains(&only.as_str()),
        [options, schedule] if options == "options" => schedule == "schedule",
        [optimizer, .., last] => optimizer == "optimizer" && CHOICES_OF_OPTIMIZERS.contains(&last.as_str()),
        [] => false,
    }
}

/// The kind that a run has at `path`, a choice, where its tree says none: the default, unless `key` is itself the name of a kind. An optimizer has no
/// default, and the parts of one that cannot be read have none.
pub(crate) fn kind_by_default(run: &Value, path: &[String], key: &str) -> Option<String> {
    let (whole, rest): (Reread, &[String]) = match path {
        [model] if model == "model" => (reread::<ModelConfig>, &[]),
        [_, schedule] if schedule == "schedule" => (reread::<Schedule>, &[]),
        [optimizer, rest @ ..] if optimizer == "optimizer" && !rest.is_empty() => (reread::<OptimizerConfig>, rest),
        _ => return None,
    };
    let written = if rest.is_empty() { None } else { run.get("optimizer") };
    let mut named = written.cloned().unwrap_or(Value::Null);
    *at(&mut named, rest) = json!({ key: {} });
    // A kind that lacks a setting is a kind all the same.
    if !whole(named).is_err_and(|error| error.contains("unknown variant")) {
        return None;
    }
    let found = match written {
        Some(optimizer) => whole(optimizer.clone()).ok()?,
        None if path.len() == 1 => serde_json::to_value(ModelConfig::default()).ok()?,
        None => serde_json::to_value(Schedule::default()).ok()?,
    };
    match rest.iter().try_fold(&found, |value, key| value.get(key))? {
        Value::String(kind) => Some(kind.clone()),
        Value::Object(map) => map.keys().next().cloned(),
        _ => None,
    }
}

/// Reads a value as one type, and writes it again.
type Reread = fn(Value) -> Result<Value, String>;

/// A value as it is written once it has been read, with every default in it.
fn reread<T: DeserializeOwned + Serialize>(value: Value) -> Result<Value, String> {
    let typed: T = serde_json::from_value(value).map_err(|error| error.to_string())?;
    serde_json::to_value(typed).map_err(|error| error.to_string())
}

/// The place at `path`, which is made if need be.
fn at<'a>(mut value: &'a mut Value, path: &[String]) -> &'a mut Value {
    for key in path {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value = &mut value[key.as_str()];
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::split;

    #[test]
    fn a_kind_that_is_not_written_is_the_default() {
        let neuroplastic = json!({"optimizer": {"neuroplastic": {}}});
        let hybrid = json!({"optimizer": {"neuroplastic": {"formulation": {"hybrid": {}}}}});
        let formulation = "optimizer.neuroplastic.formulation";
        for (run, path, key, want) in [
            (&json!({}), "model", "hidden", Some("mlp")),
            (&json!({}), "model", "hiden", Some("mlp")),
            (&json!({}), "model", "resnet18", None),
            (&json!({}), "model", "mlp", None),
            (&json!({}), "options.schedule", "warmup", Some("constant")),
            (&json!({}), "options.schedule", "step", None),
            (&json!({}), "optimizer", "lr", None),
            (&neuroplastic, formulation, "hybrid", None),
            (&hybrid, &format!("{formulation}.hybrid.base"), "sgd_momentum", None),
        ] {
            assert_eq!(kind_by_default(run, &split(path), key).as_deref(), want, "{path} {key}");
        }
        let kinds = |run: &Value, path: &str| kind_by_default(run, &split(path), "no_such_kind");
        assert!(kinds(&neuroplastic, formulation).is_some());
        assert!(kinds(&hybrid, &format!("{formulation}.hybrid.base")).is_some());
    }
}
