//! The task of a run, read from its tree.

use serde_json::Value;

use super::{TaskConfig, known};
use crate::{
    document::Document,
    error::{Fault, suggest},
    explain::{placed, refuse, show},
    tree::Tree,
};

/// The sections of the task of images.
const SECTIONS: [&str; 2] = ["data", "model"];

/// Reads the task: that of images, where a run names none.
pub(crate) fn read(tree: &Tree, document: &Document) -> Result<TaskConfig, Box<Fault>> {
    let key = ["task".to_owned()];
    let Some(written) = tree.get(&key).filter(|value| !value.is_null()) else {
        let value = tree.pick(&SECTIONS).value;
        return placed(tree, document, &[], serde_path_to_error::deserialize(value)).map(TaskConfig::images);
    };
    let named = written.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    let Some((name, settings)) = named else {
        return Err(refuse(tree, document, "task", "the name of a task, or a map of that one name", &show(written)));
    };
    let path = [key[0].clone(), name.clone()];
    let Some(read) = known().read(name, settings.clone()) else {
        let fault = Fault::new(tree.place(&path, document), format!("there is no task `{name}`")).key("task");
        let hint = match known().names().as_slice() {
            [] => Some(
                "this program has images alone, which need no `task`; run the program that has the task".to_owned(),
            ),
            names => suggest(name, names),
        };
        return Err(Box::new(fault.hint_if(hint)));
    };
    if let Some(section) = SECTIONS.into_iter().find(|section| tree.get(&[(*section).to_owned()]).is_some()) {
        let place = tree.place(&[section.to_owned()], document);
        let fault = Fault::new(place, format!("the task `{name}` has no such section")).key(section);
        return Err(Box::new(fault.hint(format!("its settings are those of `task.{name}`; `{section}` is of images"))));
    }
    placed(tree, document, &path, read)
}

/// As [`read`], of a configuration in a plan or record.
pub(crate) fn of_config(config: &Value) -> Result<TaskConfig, String> {
    let Some(written) = config.get("task") else {
        let pick = |key: &str| config.get(key).map(|value| (key.to_owned(), value.clone()));
        let value = Value::Object(SECTIONS.into_iter().filter_map(pick).collect());
        return serde_json::from_value(value).map(TaskConfig::images).map_err(|error| error.to_string());
    };
    if let Some(section) = SECTIONS.into_iter().find(|section| config.get(section).is_some()) {
        return Err(format!("`{section}` beside `task`"));
    }
    let named = written.as_object().filter(|map| map.len() == 1).and_then(|map| map.iter().next());
    let (name, settings) = named.ok_or("`task` names no task")?;
    let read = known().read(name, settings.clone()).ok_or_else(|| format!("this program has no task `{name}`"))?;
    read.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_without_tasks_of_its_own_says_so() {
        let said = |text: &str| {
            let document = Document::of(Path::new("t.yaml"), text.as_bytes().to_vec()).unwrap();
            read(&Tree::of(&document), &document).unwrap_err().told()
        };
        let fault = said("name: t\ntask: text\n");
        assert!(
            fault.starts_with("t.yaml:2:") && fault.contains("`task`: there is no task `text`\n  hint: "),
            "{fault}"
        );
        let fault = said("task: [text]\n");
        assert!(fault.contains("`task`: expected the name of a task, or a map of that one name"), "{fault}");
        assert!(said("data: {nam: mnist}\n").contains("`data.nam`: there is no such key"));
    }

    #[test]
    fn a_configuration_names_its_task_or_is_of_images() {
        let images = of_config(&json!({"data": {"fraction": 0.5}, "seed": 1})).unwrap();
        assert_eq!(images.as_images().unwrap().data.fraction, 0.5);
        assert_eq!(of_config(&json!({})).unwrap(), TaskConfig::images(Default::default()));
        for (config, says) in [
            (json!({"task": {"text": {}}}), "this program has no task `text`"),
            (json!({"task": "text"}), "`task` names no task"),
            (json!({"task": {"text": {}}, "model": {}}), "`model` beside `task`"),
            (json!({"data": {"nam": "mnist"}}), "unknown field `nam`"),
        ] {
            let error = of_config(&config).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
