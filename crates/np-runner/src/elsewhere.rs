//! Where the settings of a run stand, for hints about keys that are written somewhere else.

use np_core::{OptimizerConfig, Options};
use np_models::{MlpConfig, ResNet18Config};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{config::TrainConfig, data::DataConfig};

/// `did you mean …`, with the dotted path of a setting that is called `key`. Sections that `path`, where it is written, is in already are passed over. The
/// kind of the model or the optimizer is left out, as it may be; it may be another kind that has such a setting.
pub(crate) fn elsewhere(key: &str, path: &[String]) -> Option<String> {
    // Whether a type takes this value does not matter, only whether it refuses the key as an unknown one.
    let value = json!({ key: null });
    let optimizer = |kind: &&str| knows::<OptimizerConfig>(key, json!({ *kind: value }));
    let sections = [
        ("train", knows::<TrainConfig>(key, value.clone())),
        ("data", knows::<DataConfig>(key, value.clone())),
        ("model", knows::<MlpConfig>(key, value.clone()) || knows::<ResNet18Config>(key, value.clone())),
        ("optimizer", OptimizerConfig::KINDS.iter().any(optimizer)),
        ("options", knows::<Options>(key, value.clone())),
    ];
    let has = |(section, knows): &&(&str, bool)| *knows && !path.iter().any(|part| part == section);
    sections.iter().find(has).map(|(section, _)| format!("did you mean `{section}.{key}`?"))
}

/// Whether `T` has a key of that name.
fn knows<T: DeserializeOwned>(key: &str, value: Value) -> bool {
    let unknown = format!("unknown field `{key}`");
    !serde_json::from_value::<T>(value).is_err_and(|error| error.to_string().contains(&unknown))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::split;

    #[test]
    fn a_key_is_found_in_the_section_that_has_it() {
        for (key, path, expect) in [
            ("epochs", "epochs", Some("train.epochs")),
            ("epochs", "arms.sgd.epochs", Some("train.epochs")),
            ("lr", "train.lr", Some("optimizer.lr")),
            ("fraction", "train.fraction", Some("data.fraction")),
            ("hidden", "hidden", Some("model.hidden")),
            ("width", "width", Some("model.width")),
            ("schedule", "train.schedule", Some("options.schedule")),
            // Another optimizer has it, which is no help.
            ("beta1", "optimizer.sgd.beta1", None),
            ("epoch", "epoch", None),
            ("", "", None),
        ] {
            let expect = expect.map(|path| format!("did you mean `{path}`?"));
            assert_eq!(elsewhere(key, &split(path)), expect, "{path}");
        }
    }
}
