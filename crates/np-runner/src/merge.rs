//! YAML's merge keys: `<<: *base` takes over the entries of another map, `<<: [*a, *b]` those of several.
//!
//! As in YAML 1.1: what a map says itself comes before what it takes over, and of several maps the first comes first. Entries stand where the
//! `<<` stands. A key of the text `"<<"` in quotes means the same here.

use serde_yaml::{Mapping, Value};

use crate::{
    document::{KeyPath, Marks},
    error::{Fault, Place},
};

const MERGE: &str = "<<";

/// Writes out every merge key in `value`; what comes of one has its place, where a fault is to name one.
pub(crate) fn merge(
    value: Value,
    path: &mut KeyPath,
    marks: &mut Marks,
    place: &dyn Fn(Option<(usize, usize)>) -> Place,
) -> Result<Value, Box<Fault>> {
    match value {
        Value::Sequence(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (i, item) in items.into_iter().enumerate() {
                path.push(i.to_string());
                list.push(merge(item, path, marks, place)?);
                path.pop();
            }
            Ok(Value::Sequence(list))
        }
        Value::Mapping(entries) => {
            let own: Vec<Value> = entries.keys().filter(|key| key.as_str() != Some(MERGE)).cloned().collect();
            let mut map = Mapping::new();
            for (key, item) in entries {
                path.push(key.as_str().unwrap_or_default().to_owned());
                let item = merge(item, path, marks, place)?;
                let at = marks.get(path.as_slice()).copied();
                path.pop();
                if key.as_str() != Some(MERGE) {
                    map.insert(key, item);
                    continue;
                }
                for (key, item) in taken(item).ok_or_else(|| {
                    let text = "expected a map, or a list of maps, to take over, as in `<<: *base`";
                    Box::new(Fault::new(place(at), text).key([path.as_slice(), &[MERGE.to_owned()]].concat().join(".")))
                })? {
                    if own.contains(&key) || map.contains_key(&key) {
                        continue;
                    }
                    if let (Some(at), Some(key)) = (at, key.as_str()) {
                        marks.insert([path.as_slice(), &[key.to_owned()]].concat(), at);
                    }
                    map.insert(key, item);
                }
            }
            Ok(Value::Mapping(map))
        }
        other => Ok(other),
    }
}

/// The entries of a map, or of several, in order.
fn taken(value: Value) -> Option<Vec<(Value, Value)>> {
    match value {
        Value::Mapping(map) => Some(map.into_iter().collect()),
        Value::Sequence(maps) => {
            let one = |map| match map {
                Value::Mapping(map) => Some(map.into_iter()),
                _ => None,
            };
            Some(maps.into_iter().map(one).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{document::snippet, error::Place};

    fn read(text: &str) -> Result<serde_json::Value, String> {
        snippet(text, &Place::Option("t".into())).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_map_takes_over_what_it_does_not_say_itself() {
        for (text, value) in [
            ("{a: &a {x: 1, y: 2}, b: {<<: *a, y: 3}}", json!({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}})),
            ("{a: &a {x: 1}, b: {y: 3, <<: *a}}", json!({"a": {"x": 1}, "b": {"y": 3, "x": 1}})),
            (
                "{a: &a {x: 1}, b: &b {x: 2, z: 4}, c: {<<: [*a, *b]}}",
                json!({"a": {"x": 1}, "b": {"x": 2, "z": 4}, "c": {"x": 1, "z": 4}}),
            ),
            (
                "{a: &a {x: {p: 1, q: 2}}, b: {<<: *a, x: {p: 9}}}",
                json!({"a": {"x": {"p": 1, "q": 2}}, "b": {"x": {"p": 9}}}),
            ),
            (
                "{a: &a {x: 1}, b: &b {<<: *a, y: 2}, c: {<<: *b}}",
                json!({"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1, "y": 2}}),
            ),
            ("[&a {x: 1}, {<<: *a}, {<<: {y: 2}}]", json!([{"x": 1}, {"x": 1}, {"y": 2}])),
            ("{<<: []}", json!({})),
        ] {
            let got = read(text).unwrap();
            assert_eq!(got, value, "{text}");
            let order = |value: &serde_json::Value| value.to_string();
            assert_eq!(order(&got), order(&value), "entries stand where the merge key stands: {text}");
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for text in ["{<<: 1}", "{<<: [1]}", "{b: {<<: ~}}", "{a: &a [1], b: {<<: *a}}"] {
            let error = read(text).unwrap_err();
            assert!(error.contains("<<`: expected a map, or a list of maps, to take over"), "{error}");
        }
        assert!(read("{<<: {a: 1}, <<: {b: 1}}").unwrap_err().contains("this key stands here twice"));
    }
}
