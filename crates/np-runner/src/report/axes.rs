//! Axes as a page names them: of a value with parts, such as `{name: fashion-mnist, source: full, fraction: 0.1}`, those parts that differ between runs.

use std::collections::BTreeMap;

use np_record::{PlannedRun, select::Runs};
use serde_json::{Map, Value};

/// Leaves out of every axis the parts that all runs share; runs are told apart by their axes as before.
pub(super) fn shorten(all: &mut Runs, runs: &mut Runs) {
    let mut axes: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (run, _) in all.iter() {
        for (axis, value) in &run.axes {
            let values = axes.entry(axis.clone()).or_default();
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
    }
    let short = |run: &mut PlannedRun| {
        for (axis, value) in &mut run.axes {
            if let (Value::Object(map), Some(others)) = (&*value, axes.get(axis)) {
                *value = Value::Object(apart(map, others));
            }
        }
    };
    all.iter_mut().chain(runs.iter_mut()).for_each(|(run, _)| short(run));
}

/// The parts in which any of `values` has something else; all of them where that would leave nothing.
fn apart(map: &Map<String, Value>, values: &[Value]) -> Map<String, Value> {
    let differs = |key: &str| values.iter().any(|other| other.get(key) != map.get(key));
    let apart: Map<String, Value> =
        map.iter().filter(|(key, _)| differs(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    if apart.is_empty() { map.clone() } else { apart }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn parts_that_all_share_are_left_out() {
        let values = [
            json!({"name": "mnist", "source": "full"}),
            json!({"name": "fashion-mnist", "source": "full", "fraction": 0.1}),
            json!({"name": "fashion-mnist", "source": "full"}),
        ];
        let short = |value: &Value| Value::Object(apart(value.as_object().unwrap(), &values));
        assert_eq!(short(&values[0]), json!({"name": "mnist"}));
        assert_eq!(short(&values[1]), json!({"name": "fashion-mnist", "fraction": 0.1}));
        assert_eq!(short(&values[2]), json!({"name": "fashion-mnist"}));
        assert_eq!(apart(values[0].as_object().unwrap(), &values[..1]).len(), 2, "of one value all is said");
    }
}
