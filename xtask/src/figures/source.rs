//! The records of a figure. They are read if they exist and belong to the current experiment file; else `np` makes them.

use std::collections::{BTreeMap, btree_map::Entry};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use np_data::{DATA_DIR_ENV, DataName, DataSet, Identity, Source, known_digest};
use np_record::{Outcome, Plan, Reading, Record, Standing, Store};

use super::Scale;
use super::runs::Runs;
use crate::command;

/// Where experiments and records are.
pub(crate) struct Workspace {
    /// The workspace's root.
    pub(crate) root: PathBuf,
    /// The scale, which selects the records.
    pub(crate) scale: Scale,
    /// Returns an experiment's current plan: [`Workspace::planned`], except in tests.
    pub(crate) ask: fn(&Self, &str) -> Result<Plan>,
}

/// The state of an experiment's records.
enum Found {
    /// All of them.
    All(Box<Runs>),
    /// Some are missing, or they are not of the current experiment file; with the reason in words.
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
        let plan = match store.read_plan(name) {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(Found::NotAll("no plan yet".into())),
            // `np run` makes it anew.
            Err(error) if error.is_damage() => return Ok(Found::NotAll(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        if let Some(stale) = plan.stale(&bytes) {
            return Ok(Found::NotAll(format!("the plan is out of date: {stale}")));
        }
        if plan.scale != self.scale.to_string() {
            return Ok(Found::NotAll(format!("the plan is of scale `{}`", plan.scale)));
        }
        // A published plan, which has no digest of its own, is what was published. A digest can be written anew after an edit.
        if plan.plan_sha256.is_some() && !plan.agrees_with(&(self.ask)(self, name)?) {
            return Ok(Found::NotAll(format!(
                "the plan `{name}` is not the one that `np plan` makes of the experiment"
            )));
        }
        if let Some(other) = on_other_data(&plan)? {
            return Ok(Found::NotAll(other));
        }
        let (mut runs, mut missing) = (Vec::new(), 0);
        let Reading { runs: all, refused } = store.records_of(&plan);
        if let Some(error) = refused.first() {
            return Ok(Found::NotAll(error.to_string()));
        }
        for (run, record) in all {
            match record {
                None => missing += 1,
                Some(record) => match &record.outcome {
                    Outcome::Failed { reason } => {
                        return Ok(Found::NotAll(format!("run `{}` failed: {reason}", run.id)));
                    }
                    Outcome::Finished | Outcome::Diverged { .. } => runs.push((run, described(record))),
                },
            }
        }
        if missing > 0 || runs.is_empty() {
            return Ok(Found::NotAll(format!("{missing} of {} records are missing", plan.runs.len())));
        }
        Ok(Found::All(Box::new(Runs { plan, runs })))
    }

    /// Runs `np run` to make the missing records. Its output is not captured.
    pub(crate) fn train(&self, name: &str, reason: &str) -> Result<()> {
        eprintln!("{name}: {reason}; running `np run experiments/{name}.yaml --scale {}`", self.scale);
        self.np(&["run".into(), format!("experiments/{name}.yaml")])
    }

    /// Runs `np report` to write the page of these experiments, with the figures that are in the page's folder.
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

    /// The plan that `np plan` makes of the current experiment file.
    pub(crate) fn planned(&self, name: &str) -> Result<Plan> {
        command::json_of(&mut self.command(&["plan".into(), format!("experiments/{name}.yaml"), "--json".into()]))
    }

    /// `np` with these arguments, at the scale.
    fn command(&self, arguments: &[String]) -> Command {
        let mut np = command::cargo(&self.root, &["run", "--bin", "np", "--"]);
        if data_dir().is_none() {
            np.env_remove(DATA_DIR_ENV);
        }
        np.args(arguments).args(["--scale", &self.scale.to_string()]);
        np
    }

    fn np(&self, arguments: &[String]) -> Result<()> {
        let status = self.command(arguments).status().context("cannot start cargo")?;
        if !status.success() {
            bail!("`np {} --scale {}` ended with {status}", arguments.join(" "), self.scale);
        }
        Ok(())
    }
}

/// A record whose data's name, title and standing are replaced by those that follow from its configuration and the digest.
fn described(mut record: Record) -> Record {
    let Some((name, source)) = data_of(&record.config) else { return record };
    let data = &mut record.data;
    let told = match data.standing {
        Standing::Published => Identity::Published,
        Standing::Unverified => Identity::Unverified,
        Standing::Custom => Identity::Custom,
    };
    let (identity, title) = Identity::of_told(name, source, &data.digest, (told, &data.title));
    let standing = match identity {
        Identity::Published => Standing::Published,
        Identity::Unverified => Standing::Unverified,
        Identity::Custom => Standing::Custom,
    };
    (data.name, data.title, data.standing) = (name.to_string(), title, standing);
    record
}

/// The data set of a configuration; `None` for one that `np` would not make.
fn data_of(config: &serde_json::Value) -> Option<(DataName, Source)> {
    let read = |pointer| config.pointer(pointer).cloned().unwrap_or_default();
    Some((serde_json::from_value(read("/data/name")).ok()?, serde_json::from_value(read("/data/source")).ok()?))
}

/// The data folder, if the environment names one that exists.
fn data_dir() -> Option<PathBuf> {
    std::env::var_os(DATA_DIR_ENV).map(PathBuf::from).filter(|folder| folder.is_dir())
}

/// If a plan was made for other data than the current, says so in words. The current data are those in the data folder, or else the published data sets. A set that is
/// missing and whose published digest is not known is not checked.
fn on_other_data(plan: &Plan) -> Result<Option<String>> {
    // A set is read once a process.
    static AT_HAND: Mutex<BTreeMap<(DataName, Source), Option<String>>> = Mutex::new(BTreeMap::new());
    let mut at_hand = AT_HAND.lock().unwrap_or_else(PoisonError::into_inner);
    for run in &plan.runs {
        let Some((name, source)) = data_of(&run.config) else { continue };
        let digest = match at_hand.entry((name, source)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(match DataSet::digest_of(name, source, data_dir().as_deref()) {
                Ok(digest) => Some(digest),
                Err(error) if error.is_absence() => known_digest(name, source).map(str::to_owned),
                Err(error) => return Err(error.into()),
            }),
        };
        if digest.as_ref().is_some_and(|digest| *digest != run.data_digest) {
            let short: String = run.data_digest.chars().take(12).collect();
            return Ok(Some(format!("the plan is of other data: `{name}` with the digest `{short}`")));
        }
    }
    Ok(None)
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
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick, ask: made_up };
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
        assert_eq!(workspace.obtain("fig2-sanity", &train).unwrap().runs.len(), 30);
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

    /// The current plan, independent of the store.
    fn made_up(workspace: &Workspace, name: &str) -> Result<Plan> {
        let spec = fs::read_to_string(workspace.root.join("experiments").join(format!("{name}.yaml")))?;
        Ok(experiment(name, &spec).0)
    }

    #[test]
    fn a_plan_with_other_arms_is_refused_whatever_its_digest_says() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick, ask: made_up };
        write_spec(dir.path(), "fig2-sanity", "a: 1\n");
        let store = Store::open(dir.path().join("experiments/records/quick")).unwrap();
        let (plan, records) = experiment("fig2-sanity", "a: 1\n");
        records.iter().for_each(|record| store.write_record(record).unwrap());
        let (mut turned, mut cut) = (plan.clone(), plan.clone());
        turned.runs.iter_mut().for_each(|run| {
            run.arm = if run.arm == "full" { "gradient-only" } else { "full" }.into();
        });
        cut.runs.retain(|run| run.seed != plan.runs[0].seed);
        for forged in [turned, cut] {
            store.write_plan(&forged).unwrap();
            let message = workspace.obtain("fig2-sanity", &|reason| bail!("{reason}")).unwrap_err().to_string();
            assert_eq!(message, "the plan `fig2-sanity` is not the one that `np plan` makes of the experiment");
        }
        store.write_plan(&plan).unwrap();
        workspace.obtain("fig2-sanity", &|_| bail!("all there")).unwrap();
    }

    #[test]
    fn a_data_set_is_called_what_its_digest_says() {
        let (_, mut records) = experiment("fig2-sanity", "a: 1\n");
        let mut record = records.remove(0);
        record.config = serde_json::json!({"data": {"name": "fashion-mnist", "source": "mini"}});
        record.data.digest = known_digest(DataName::FashionMnist, Source::Mini).unwrap().into();
        (record.data.name, record.data.title) = ("mnist".into(), "MNIST".into());
        let data = described(record.clone()).data;
        let title = DataName::FashionMnist.title(Source::Mini);
        assert_eq!((data.name.as_str(), data.title.as_str()), ("fashion-mnist", title));
        record.data.digest = "0123456789abcdef".repeat(4);
        let data = described(record).data;
        assert_eq!(data.title, "custom data in fashion-mnist (digest 0123456789ab)");
        assert_eq!(data.standing, Standing::Custom);
    }

    #[test]
    fn a_failed_run_is_tried_again_and_then_told() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick, ask: made_up };
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

    #[test]
    fn what_was_edited_is_named_and_not_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: dir.path().to_path_buf(), scale: Scale::Quick, ask: made_up };
        write_spec(dir.path(), "fig2-sanity", "a: 1\n");
        let store = Store::open(dir.path().join("experiments/records/quick")).unwrap();
        let (plan, records) = experiment("fig2-sanity", "a: 1\n");
        let restore = || {
            store.write_plan(&plan).unwrap();
            records.iter().for_each(|record| store.write_record(record).unwrap());
        };
        restore();
        workspace.obtain("fig2-sanity", &|_| bail!("all there")).unwrap();
        let refused = |path: PathBuf, from: &str, to: &str| {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{from}");
            fs::write(&path, text.replacen(from, to, 1)).unwrap();
            let message = workspace.obtain("fig2-sanity", &|reason| bail!("{reason}")).unwrap_err().to_string();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(message.contains(&name) && message.contains("was changed after it was written"), "{message}");
            restore();
        };
        let record = || store.record_path(&records[0].id).unwrap();
        refused(record(), "MNIST (made up)", "MNIST");
        refused(record(), "\"forward\": 0.0", "\"forward\": 1.0");
        refused(store.plan_path("fig2-sanity").unwrap(), "\"arm\": \"full\"", "\"arm\": \"gradient-only\"");
        workspace.obtain("fig2-sanity", &|_| bail!("all there")).unwrap();
    }

    #[test]
    fn a_plan_of_other_data_answers_no_figure() {
        let run = |digest: &str| {
            let config = serde_json::json!({"data": {"name": "mnist", "source": "mini"}});
            let (mut plan, _) = experiment("fig2-sanity", "a: 1\n");
            plan.runs.truncate(1);
            (plan.runs[0].config, plan.runs[0].data_digest) = (config, digest.into());
            plan
        };
        assert_eq!(on_other_data(&run(known_digest(DataName::Mnist, Source::Mini).unwrap())).unwrap(), None);
        let message = on_other_data(&run("0123456789abcdef")).unwrap().unwrap();
        assert_eq!(message, "the plan is of other data: `mnist` with the digest `0123456789ab`");
    }
}
