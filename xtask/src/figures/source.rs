//! The records behind a figure: read if they are there and belong to the experiment as it stands, made by `np` if not.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use np_record::{Outcome, Store};

use super::Scale;
use super::runs::Runs;
use crate::command;

/// Where experiments and records are.
pub(crate) struct Workspace {
    /// The workspace's root.
    pub(crate) root: PathBuf,
    /// Which records.
    pub(crate) scale: Scale,
}

/// What a look at an experiment's records gives.
enum Found {
    /// All of them.
    All(Box<Runs>),
    /// Not all, or not of the experiment as it stands; why, in words.
    NotAll(String),
}

impl Workspace {
    /// The runs of `experiments/NAME.yaml`. `train` is called at most once, with the reason, if the plan is missing or out of date or a record is
    /// missing.
    pub(crate) fn obtain(&self, name: &str, train: &dyn Fn(&str) -> Result<()>) -> Result<Runs> {
        let reason = match self.look(name)? {
            Found::All(runs) => return Ok(*runs),
            Found::NotAll(reason) => reason,
        };
        train(&reason)?;
        match self.look(name)? {
            Found::All(runs) => Ok(*runs),
            Found::NotAll(reason) => bail!("{name}: still, after `np run`: {reason}"),
        }
    }

    fn look(&self, name: &str) -> Result<Found> {
        let spec = self.root.join("experiments").join(format!("{name}.yaml"));
        let bytes = fs::read(&spec).with_context(|| format!("cannot read `{}`", spec.display()))?;
        let store = Store::open(self.root.join("experiments/records").join(self.scale.to_string()))?;
        let Some(plan) = store.read_plan(name)? else { return Ok(Found::NotAll("no plan yet".into())) };
        if let Some(stale) = plan.stale(&bytes) {
            return Ok(Found::NotAll(format!("the plan is out of date: {stale}")));
        }
        if plan.scale != self.scale.to_string() {
            return Ok(Found::NotAll(format!("the plan is of scale `{}`", plan.scale)));
        }
        let (mut runs, mut missing) = (Vec::new(), 0);
        for (run, record) in store.records_of(&plan)? {
            match record {
                None => missing += 1,
                Some(record) => match &record.outcome {
                    Outcome::Failed { reason } => {
                        return Ok(Found::NotAll(format!("run `{}` failed: {reason}", run.id)));
                    }
                    Outcome::Finished | Outcome::Diverged { .. } => runs.push((run, record)),
                },
            }
        }
        if missing > 0 || runs.is_empty() {
            return Ok(Found::NotAll(format!("{missing} of {} records are missing", plan.runs.len())));
        }
        Ok(Found::All(Box::new(Runs { plan, runs })))
    }

    /// Has `np` make what is missing; its words go where ours go.
    pub(crate) fn train(&self, name: &str, reason: &str) -> Result<()> {
        eprintln!("{name}: {reason}; running `np run experiments/{name}.yaml --scale {}`", self.scale);
        self.np(&["run".into(), format!("experiments/{name}.yaml")])
    }

    /// Has `np` write the page of these experiments, with the figures that are in its folder.
    pub(crate) fn report(&self, names: &[&str], page: &Path) -> Result<()> {
        let folder = page.parent().unwrap_or(Path::new("."));
        let mut arguments = vec!["report".to_owned()];
        arguments.extend(names.iter().map(|name| format!("experiments/{name}.yaml")));
        for (option, path) in [("--figures", folder), ("--out", page)] {
            let path = std::path::absolute(path).with_context(|| format!("cannot find `{}`", path.display()))?;
            arguments.extend([option.to_owned(), path.display().to_string()]);
        }
        self.np(&arguments)
    }

    fn np(&self, arguments: &[String]) -> Result<()> {
        let status = command::cargo(&self.root, &["run", "--bin", "np", "--"])
            .args(arguments)
            .args(["--scale", &self.scale.to_string()])
            .status()
            .context("cannot start cargo")?;
        if !status.success() {
            bail!("`np {} --scale {}` ended with {status}", arguments.join(" "), self.scale);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;

    use super::*;
    use crate::figures::tests::{experiment, write_spec};

    #[test]
    fn trains_only_what_is_missing_or_out_of_date() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick };
        let store = Store::open(dir.path().join("experiments/records/quick")).unwrap();
        let trained = Cell::new(0);
        let made = |spec: &str| {
            let (plan, records) = experiment("fig2-sanity", spec);
            store.write_plan(&plan).unwrap();
            records.iter().for_each(|record| store.write_record(record).unwrap());
            records[0].id.clone()
        };
        let train = |_reason: &str| {
            trained.set(trained.get() + 1);
            made(&fs::read_to_string(dir.path().join("experiments/fig2-sanity.yaml")).unwrap());
            Ok(())
        };
        let message = workspace.obtain("fig2-sanity", &train).unwrap_err().to_string();
        assert!(message.contains("cannot read") && message.contains("fig2-sanity.yaml"), "{message}");

        write_spec(dir.path(), "fig2-sanity", "a: 1\n");
        assert_eq!(workspace.obtain("fig2-sanity", &train).unwrap().runs.len(), 18);
        assert_eq!(trained.get(), 1, "no plan");
        workspace.obtain("fig2-sanity", &train).unwrap();
        assert_eq!(trained.get(), 1, "all there");
        write_spec(dir.path(), "fig2-sanity", "a: 2\n");
        workspace.obtain("fig2-sanity", &train).unwrap();
        assert_eq!(trained.get(), 2, "another spec");
        let id = made("a: 2\n");
        fs::remove_file(store.record_path(&id).unwrap()).unwrap();
        workspace.obtain("fig2-sanity", &train).unwrap();
        assert_eq!(trained.get(), 3, "a record is missing");

        write_spec(dir.path(), "fig2-sanity", "a: 3\n");
        let message = workspace.obtain("fig2-sanity", &|_| Ok(())).unwrap_err().to_string();
        assert!(
            message.contains("still, after `np run`: the plan is out of date: the experiment file has changed"),
            "{message}"
        );
    }

    #[test]
    fn a_failed_run_is_tried_again_and_then_told() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick };
        write_spec(dir.path(), "fig2-sanity", "a: 1\n");
        let store = Store::open(dir.path().join("experiments/records/quick")).unwrap();
        let (plan, mut records) = experiment("fig2-sanity", "a: 1\n");
        store.write_plan(&plan).unwrap();
        records[3].outcome = Outcome::Failed { reason: "out of memory".into() };
        records[3].result_sha256 = records[3].digest_result();
        records.iter().for_each(|record| store.write_record(record).unwrap());
        let message = workspace.obtain("fig2-sanity", &|_| Ok(())).unwrap_err().to_string();
        assert!(message.contains("failed: out of memory"), "{message}");
    }
}
