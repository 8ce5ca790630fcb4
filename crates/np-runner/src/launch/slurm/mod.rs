//! The launcher for Slurm: a sweep becomes one job array, or several where the cluster limits their size; a task trains one run.
//!
//! What is submitted stays as it was: plan and program are copied into the store under names made of their content, and Slurm keeps the script.
//!
//! ```text
//! STORE/launch/PLAN/
//!   np-HASH, plan-HASH/plans/PLAN.json    the program and the plan, as they were submitted
//!   TOKEN.sh, TOKEN.json                  an array: its script, and which run each of its tasks trains
//!   logs/ARRAY_TASK.log                   what a task said
//!   stalls/ID, crashes/ID                 what tasks note about runs that they could not bring to an end
//! ```
//!
//! None of it is needed once nothing of the plan is queued. An array carries its token as a comment. So `squeue` alone tells which runs wait or are trained, to whoever asks from this store.

pub(crate) mod config;
mod queue;
mod script;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use np_record::{Plan, Store, read_regular, write_atomic, write_program};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use config::{LauncherConfig, SlurmConfig};
pub(crate) use queue::{Task, TaskState};

use self::script::{Script, pattern};
use super::OtherGpu;
use crate::{
    error::{Error, Fault, Place, Result},
    keeper::Every,
    lock::Lock,
    provenance::Caller,
};

/// Everything that a submission needs to know.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The plan, as it is in the store.
    pub plan: &'a Plan,
    /// Where plan and records are; every node must see it under the same path.
    pub store: &'a Store,
    /// What a task asks for.
    pub config: &'a SlurmConfig,
    /// Most tasks at a time, of an array.
    pub jobs: Option<usize>,
    /// Threads of each run; none means the CPUs of its task.
    pub threads: Option<usize>,
    /// Folder of the published data files.
    pub data_dir: Option<&'a Path>,
    /// What records say about this command.
    pub caller: &'a Caller,
    /// How often workers keep what they have done.
    pub snapshots: Every,
    /// What becomes of runs that were begun on another GPU.
    pub other_gpu: OtherGpu,
}

/// An array that Slurm has accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Its id.
    pub id: String,
    /// How many tasks it has.
    pub tasks: usize,
}

/// What came of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submitted {
    /// The arrays.
    pub arrays: Vec<Array>,
    /// How many of the runs wait or are trained already.
    pub under_way: usize,
    /// Where the tasks' logs are.
    pub logs: PathBuf,
}

/// `TOKEN.json`: the runs of an array, in the order of its tasks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Runs {
    runs: Vec<String>,
}

/// The tasks that wait or run, by the id of the run that they train.
#[derive(Debug, Clone, Default)]
pub(crate) struct Queue(BTreeMap<String, Task>);

impl Queue {
    /// Whether anything was ever submitted from a store.
    pub(crate) fn concerns(store: &Store) -> bool {
        store.root().join("launch").is_dir()
    }

    /// The tasks of a store's plans; `None` if there is no Slurm here.
    pub(crate) fn of(store: &Store) -> Result<Option<Self>> {
        let Some(tasks) = queue::tasks()? else { return Ok(None) };
        let mut arrays: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut queue = BTreeMap::new();
        for task in tasks {
            let runs = arrays.entry(task.comment.clone()).or_insert_with(|| runs_of(store, &task.comment));
            let Some(run) = runs.get(task.place) else { continue };
            // Submitted twice, say by hand: the one that trains it counts.
            if !queue.get(run).is_some_and(|other: &Task| other.state == TaskState::Running) {
                queue.insert(run.clone(), task);
            }
        }
        Ok(Some(Self(queue)))
    }

    /// The task that trains a run, or is to.
    pub(crate) fn task(&self, run: &str) -> Option<&Task> {
        self.0.get(run)
    }
}

/// The runs of the array with this comment; none if it is not of this store.
fn runs_of(store: &Store, comment: &str) -> Vec<String> {
    let mut words = comment.split(':');
    let (Some("np"), Some(plan), Some(token), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Vec::new();
    };
    if [plan, token].iter().any(|word| word.contains('/') || word.starts_with('.')) {
        return Vec::new();
    }
    let text = read_regular(&folder(store, plan).join(format!("{token}.json"))).ok().flatten().unwrap_or_default();
    serde_json::from_slice::<Runs>(&text).map(|array| array.runs).unwrap_or_default()
}

/// Where everything about the launches of a plan is.
fn folder(store: &Store, plan: &str) -> PathBuf {
    store.root().join("launch").join(plan)
}

/// What the last task of a run noted that could not bring it to an end.
pub(crate) fn crash(store: &Store, plan: &str, run: &str) -> Option<String> {
    let text = String::from_utf8(read_regular(&folder(store, plan).join("crashes").join(run)).ok()??).ok()?;
    text.lines().last().map(str::to_owned)
}

impl Submission<'_> {
    /// Submits the runs at these places of the plan, but for those that wait or are trained already. `told` hears of each array.
    ///
    /// # Errors
    /// [`Error::Slurm`] if there is no Slurm or it refuses, [`Error::Io`] if the copies cannot be written, [`Error::Fault`] if a path cannot
    /// stand in a script. Arrays that `told` has heard of are submitted all the same.
    pub fn submit(&self, todo: &[usize], told: &mut dyn FnMut(&Array)) -> Result<Submitted> {
        let root = self.store.root();
        // Not canonical: behind a link there may be a path of this machine alone.
        let store = Store::open(std::path::absolute(root).map_err(Error::io(root))?)?;
        let folder = folder(&store, &self.plan.experiment);
        let queue = Queue::of(&store)?.ok_or_else(|| absent("squeue"))?;
        let mut open = Vec::new();
        for &place in todo {
            let id = &self.plan.runs[place].id;
            if queue.task(id).is_none() && !Lock::is_held(&store, id)? {
                open.push(place);
            }
        }
        let logs = folder.join("logs");
        let mut submitted = Submitted { arrays: Vec::new(), under_way: todo.len() - open.len(), logs: logs.clone() };
        if open.is_empty() {
            return Ok(submitted);
        }
        let size = match self.config.array_size {
            Some(size) => size as usize,
            None => queue::array_size()?.ok_or_else(|| absent("scontrol"))?,
        };
        for name in ["logs", "stalls", "crashes"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(Error::io(path))?;
        }
        // Who submits a run again, with more time perhaps, wants it tried as if for the first time.
        for &place in &open {
            let _ = fs::remove_file(folder.join("stalls").join(&self.plan.runs[place].id));
        }
        let (program, digest) = copy_program(&folder)?;
        let plans = self.copy_plan(&folder)?;
        // By name: a task may be of a run that the file no longer has.
        let ours = format!("np:{}:", self.plan.experiment);
        if !queue::tasks()?.is_some_and(|tasks| tasks.iter().any(|task| task.comment.starts_with(&ours))) {
            // Nobody waits for the copies of earlier submissions, some tens of megabytes each.
            prune(&folder, &[program.as_path(), plans.root()]);
        }
        for places in open.chunks(size) {
            let script = Script {
                plan: &self.plan.experiment,
                runs: places.iter().map(|&place| (place, &self.plan.runs[place])).collect(),
                program: &program,
                digest: &digest,
                store: store.root(),
                plans: plans.root(),
                folder: &folder,
                threads: self.threads,
                arguments: self.arguments()?,
            };
            let array = self.submit_array(&folder, &script)?;
            told(&array);
            submitted.arrays.push(array);
        }
        Ok(submitted)
    }

    /// Arguments of every worker.
    fn arguments(&self) -> Result<Vec<String>> {
        let caller = serde_json::to_string(self.caller).unwrap_or_default();
        let mut arguments = vec!["--snapshot-every".into(), self.snapshots.to_string(), "--caller".into(), caller];
        arguments.extend(self.other_gpu.option().map(str::to_owned));
        if let Some(data_dir) = self.data_dir {
            let path = std::path::absolute(data_dir).map_err(Error::io(data_dir))?;
            arguments.extend(["--data-dir".into(), path.to_str().ok_or_else(|| unspeakable(&path))?.to_owned()]);
        }
        Ok(arguments)
    }

    fn submit_array(&self, folder: &Path, script: &Script<'_>) -> Result<Array> {
        let text = script.text().ok_or_else(|| unspeakable(folder))?;
        let token = short(&Sha256::digest(&text));
        let runs = Runs { runs: script.runs.iter().map(|(_, run)| run.id.clone()).collect() };
        let runs = serde_json::to_vec(&runs).map_err(|error| Error::io(folder)(error.into()))?;
        let path = folder.join(format!("{token}.sh"));
        for (path, bytes) in [(folder.join(format!("{token}.json")), runs), (path.clone(), text.into_bytes())] {
            write_atomic(&path, &bytes).map_err(Error::io(path))?;
        }
        let speak = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| unspeakable(path));
        let tasks = script.runs.len();
        let throttle = self.jobs.map(|jobs| format!("%{jobs}")).unwrap_or_default();
        let logs = pattern(&speak(&folder.join("logs"))?);
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name=np-{}", self.plan.experiment),
            format!("--comment=np:{}:{token}", self.plan.experiment),
            format!("--array=0-{}{throttle}", tasks - 1),
            // To the script alone, in time for a snapshot: the worker is asked by it.
            "--signal=B:USR2@90".to_owned(),
            "--requeue".to_owned(),
            format!("--chdir={}", speak(folder)?),
            format!("--output={logs}/%A_%a.log"),
            // A requeued task goes on in its log.
            "--open-mode=append".to_owned(),
        ];
        arguments.extend(self.config.options(self.threads));
        arguments.push(speak(&path)?);
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = queue::run("sbatch", &words)?.ok_or_else(|| absent("sbatch"))?;
        let id = queue::submitted(&said).ok_or_else(|| {
            let got = np_record::visible(said.trim());
            let said = format!("expected the id of an array, got `{got}`");
            let hint = Some("`squeue --me` shows whether it was submitted");
            Error::Slurm { program: "sbatch".into(), said, hint }
        })?;
        Ok(Array { id, tasks })
    }

    /// Copies the plan into a store of its own, where no later `np run` replaces it.
    fn copy_plan(&self, folder: &Path) -> Result<Store> {
        let text = serde_json::to_vec(self.plan).map_err(|error| Error::io(folder)(error.into()))?;
        let plans = Store::open(folder.join(format!("plan-{}", short(&Sha256::digest(text)))))?;
        if plans.read_plan(&self.plan.experiment)?.as_ref() != Some(self.plan) {
            plans.write_plan(self.plan)?;
        }
        Ok(plans)
    }
}

/// Copies this program, so that building it anew changes no task that waits; with its SHA-256 in hex. What has the copy's name already is not
/// believed: others may write into a store.
fn copy_program(folder: &Path) -> Result<(PathBuf, String)> {
    let here = std::env::current_exe().map_err(Error::io("np"))?;
    let bytes = fs::read(&here).map_err(Error::io(&here))?;
    let digest = Sha256::digest(&bytes);
    let copy = folder.join(format!("np-{}", short(&digest)));
    if !is_whole(&copy, &digest) {
        write_program(&copy, &bytes).map_err(Error::io(&copy))?;
    }
    Ok((copy, np_record::hex(&digest)))
}

/// Whether there is a program with this digest, and no link to one.
fn is_whole(path: &Path, digest: &[u8]) -> bool {
    let runs = |about: fs::Metadata| {
        #[cfg(unix)]
        let allowed = std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o100 != 0;
        #[cfg(not(unix))]
        let allowed = true;
        about.is_file() && allowed
    };
    fs::symlink_metadata(path).is_ok_and(runs) && fs::read(path).is_ok_and(|bytes| Sha256::digest(bytes)[..] == *digest)
}

/// Removes copies of programs and plans, but for those to keep. What cannot be removed stays: it is in nobody's way.
fn prune(folder: &Path, keep: &[&Path]) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if keep.contains(&path.as_path()) {
            continue;
        }
        if name.starts_with("np-") {
            let _ = fs::remove_file(path);
        } else if name.starts_with("plan-") {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn short(digest: &[u8]) -> String {
    np_record::hex(&digest[..6])
}

fn absent(program: &str) -> Error {
    let said = "there is no such program here".to_owned();
    let hint = Some("submit from a machine of the cluster, or leave out `--launcher slurm`");
    Error::Slurm { program: program.to_owned(), said, hint }
}

fn unspeakable(path: &Path) -> Error {
    let place = Place::File(path.to_owned(), None);
    Fault::new(place, "expected a path in UTF-8, for a batch script")
        .hint("choose another folder with `--store`")
        .into()
}
