//! The version of the semantics of a configuration: it is raised when the same configuration gives other numbers than before.

use serde_json::Value;

/// The version for most configurations. It is raised when the same configurations give other numbers (after a change of initialisation,
/// shuffling or an optimizer), so that old records are not used for new runs. Part of every run's id, see [`semantics_of`].
pub const SEMANTICS: u32 = 2;

/// Of the runs whose numbers changed after version 2, and they alone.
const REVISED: u32 = 3;

/// Optimizers, also as the base of another, whose decompositions and products of matrices changed with [`REVISED`].
const OF_MATRICES: [&str; 4] = ["muon", "shampoo", "soap", "kfac"];

/// The version for runs of this configuration: [`SEMANTICS`], or a higher one for configurations whose numbers have changed since.
///
/// Version 3: configurations with gradient accumulation, whose epochs now end with a step on the accumulated gradients, and optimizers of
/// matrices, whose arithmetic has changed.
#[must_use]
pub fn semantics_of(config: &Value) -> u32 {
    let accumulates = config.pointer("/options/accumulate").and_then(Value::as_u64).is_some_and(|calls| calls > 1);
    if accumulates || config.get("optimizer").is_some_and(is_of_matrices) { REVISED } else { SEMANTICS }
}

/// Whether such an optimizer is named anywhere in an optimizer's configuration.
fn is_of_matrices(optimizer: &Value) -> bool {
    let named = |word: &str| OF_MATRICES.contains(&word);
    match optimizer {
        Value::String(word) => named(word),
        Value::Object(map) => map.iter().any(|(key, value)| named(key) || is_of_matrices(value)),
        Value::Array(items) => items.iter().any(is_of_matrices),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::PlannedRun;

    #[test]
    fn only_what_gives_other_numbers_has_another_version() {
        let of = |optimizer: Value, accumulate: u32| {
            semantics_of(&json!({"optimizer": optimizer, "options": {"accumulate": accumulate}}))
        };
        let hybrid = |base: Value| json!({"neuroplastic": {"lr": 0.1, "formulation": {"hybrid": {"base": base}}}});
        for same in
            [json!({"sgd": {"lr": 0.1}}), json!({"adamw": {}}), hybrid(json!("adamw")), hybrid(json!({"lion": {}}))]
        {
            assert_eq!([of(same.clone(), 1), of(same, 2)], [2, 3]);
        }
        for kind in OF_MATRICES {
            let base = hybrid(json!({kind: {"lr": 0.1}}));
            assert_eq!([of(json!({kind: {}}), 1), of(base, 1), of(hybrid(json!(kind)), 1)], [3; 3], "{kind}");
        }
        assert_eq!(semantics_of(&json!({"optimizer": {"sgd": {}}, "model": {"muon": 1}})), 2);
    }

    #[test]
    fn the_version_is_part_of_the_id() {
        let config = json!({"optimizer": {"muon": {"lr": 0.1}}, "seed": 1});
        // printf '{"optimizer":{"muon":{"lr":0.1}},"seed":1}\0d\0%s' 3 | sha256sum | cut -c-16
        assert_eq!(PlannedRun::id_of(&config, "d"), "c439b7b540b67f8c");
        assert_ne!(PlannedRun::id_of(&config, "d"), PlannedRun::id_under(&config, "d", SEMANTICS));
    }
}
