//! Commands that hints name: about the same runs as the command that was given, with its options.

use std::path::{Path, PathBuf};

use np_record::{Plan, Store};

use super::{OverrideArgs, PlaceArgs};
use crate::{
    origin,
    shell::{option, quoted},
    spec::{DEFAULT_SCALE, default_store},
    task::known,
};

/// What a command is about: an experiment, and what decides which of its runs, and where their records are.
pub(super) struct About {
    file: PathBuf,
    options: Vec<String>,
}

impl About {
    /// What `file` names, an experiment or a plan, with these options. `None` for a plan whose experiment is not known.
    pub(super) fn of(file: &Path, plan: &Plan, overrides: &OverrideArgs, place: &PlaceArgs) -> Option<Self> {
        let folder = |path: &Path| path.display().to_string();
        // Whoever has set the variable has it still.
        let by_env = std::env::var_os(np_data::DATA_DIR_ENV).map(PathBuf::from);
        let data = place.data_dir.as_ref().filter(|dir| by_env.as_ref() != Some(*dir));
        let data = data.map(|dir| format!("--data-dir {}", folder(dir)));
        if file.extension().is_none_or(|extension| extension != "json") {
            let scale = overrides.scale.as_ref().map(|scale| format!("--scale {scale}"));
            let store = place.store.as_ref().map(|dir| format!("--store {}", folder(dir)));
            let changes = overrides.request(file).overrides();
            return Some(Self {
                file: file.to_owned(),
                options: scale.into_iter().chain(changes).chain(store).chain(data).collect(),
            });
        }
        let root = std::path::absolute(file).ok()?.parent()?.parent()?.to_owned();
        let experiment = origin::of(&Store::open(&root).ok()?, plan)?;
        let scale = Some(&plan.scale).filter(|scale| *scale != DEFAULT_SCALE).map(|scale| format!("--scale {scale}"));
        let apart = default_store(&experiment, &plan.scale) != root;
        let store = apart.then(|| format!("--store {}", super::short(&root)));
        let options = scale.into_iter().chain(plan.overrides.clone()).chain(store).chain(data).collect();
        Some(Self { file: super::short(&experiment).into(), options })
    }

    /// `np NAME FILE --set … --store …`, for a shell.
    pub(super) fn command(&self, name: &str) -> String {
        let file = self.file.display().to_string();
        // A name like an option's is none behind a folder.
        let file = if file.starts_with('-') { format!("./{file}") } else { file };
        let words = [known().program(), name.to_owned(), quoted(&file)];
        words.into_iter().chain(self.options.iter().map(|text| option(text))).collect::<Vec<_>>().join(" ")
    }
}
