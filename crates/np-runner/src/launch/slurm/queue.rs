//! What Slurm says: the limits of its configuration, and the tasks in its queue. Nothing is asked of an accounting database.

use std::{io, process::Command};

use crate::error::{Error, Result};

/// A task of an array, as `squeue` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// Id of the array.
    pub(crate) array: String,
    /// Its place there.
    pub(crate) place: usize,
    /// What it does.
    pub(crate) state: TaskState,
    /// Why it waits, in Slurm's words (`Priority`, `Resources`); where it is, if it does not.
    pub(crate) reason: String,
    /// What it was submitted with.
    pub(crate) comment: String,
}

/// What a task in the queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskState {
    /// It waits: for its turn, or after it was requeued.
    Waiting,
    /// It is on a node: begins, runs, is held there, or ends.
    Running,
}

/// Fields of a task, between bars: the comment is ours and the last, so that a bar in the others' would be found there.
const FIELDS: &str = "--format=%F|%K|%T|%r|%k";

/// The user's tasks in the queue; `None` if there is no Slurm here.
pub(crate) fn tasks() -> Result<Option<Vec<Task>>> {
    let output = run("squeue", &["--noheader", "--array", "--me", FIELDS])?;
    Ok(output.map(|text| text.lines().filter_map(parse).collect()))
}

/// Most tasks that an array may have; `None` if there is no Slurm here.
pub(crate) fn array_size() -> Result<Option<usize>> {
    let Some(text) = run("scontrol", &["show", "config"])? else { return Ok(None) };
    let none = || Error::Slurm {
        program: "scontrol".into(),
        said: "expected a `MaxArraySize` of 1 or more in its configuration".into(),
        hint: Some("job arrays may be off here; `launcher: {slurm: {array_size: 1}}` overrides it"),
    };
    limit(&text).filter(|n| *n > 0).map(Some).ok_or_else(none)
}

/// The output of a program of Slurm; `None` if there is no such program.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Option<String>> {
    let output = match Command::new(program).args(arguments).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.map_err(Error::io(program))?,
    };
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let said = if said.is_empty() { output.status.to_string() } else { said };
    Err(Error::Slurm { program: program.into(), said, hint: None })
}

/// The id in what `sbatch --parsable` says: `ID`, or `ID;CLUSTER`, on a line of its own; a site's remarks may stand before it.
pub(super) fn submitted(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let id = line.split(';').next().unwrap_or_default();
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_owned())
}

/// A line of `squeue`; `None` for what is no task of an array.
fn parse(line: &str) -> Option<Task> {
    let mut fields = line.splitn(5, '|').map(str::trim);
    let (array, place) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
    let state = match fields.next()? {
        "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "SPECIAL_EXIT" => TaskState::Waiting,
        _ => TaskState::Running,
    };
    let (reason, comment) = (fields.next()?.to_owned(), fields.next()?.to_owned());
    Some(Task { array, place, state, reason, comment })
}

/// `MaxArraySize`, or `max_array_tasks` of the scheduler's parameters where that is less. Places are below the first, so that it is a number
/// of tasks too.
fn limit(config: &str) -> Option<usize> {
    let value = |name: &str| {
        let line = config.lines().find(|line| line.split('=').next().is_some_and(|key| key.trim() == name))?;
        Some(line.split_once('=')?.1.trim())
    };
    let size: usize = value("MaxArraySize")?.parse().ok()?;
    let parameters = value("SchedulerParameters").unwrap_or_default();
    let tasks = parameters.split(',').find_map(|word| word.strip_prefix("max_array_tasks=")?.parse().ok());
    Some(tasks.map_or(size, |tasks: usize| tasks.min(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_are_tasks() {
        let task = |line: &str| parse(line).unwrap();
        let waiting = task("17|3|PENDING|Priority|np:0a1b");
        assert_eq!((waiting.array.as_str(), waiting.place, waiting.state), ("17", 3, TaskState::Waiting));
        assert_eq!((waiting.reason.as_str(), waiting.comment.as_str()), ("Priority", "np:0a1b"));
        for state in ["RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "STOPPED"] {
            assert_eq!(task(&format!("17|0|{state}|None|np:0a1b")).state, TaskState::Running);
        }
        assert_eq!(task("1|0|RUNNING|None|a|b").comment, "a|b");
        assert_eq!(task("1|0|PENDING|BeginTime|(null)").comment, "(null)");
        // A job that is no array, a collapsed array, noise.
        for line in ["18|N/A|RUNNING|None|x", "19|1-4|PENDING|None|x", "slurm_load_jobs error", ""] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn an_answer_without_an_id_is_none() {
        for said in ["17\n", "17;cluster\n", "a remark\n17;cluster\n\n"] {
            assert_eq!(submitted(said).as_deref(), Some("17"), "{said}");
        }
        for said in ["", "\n", "Submitted batch job 17\n", "17\na remark\n", ";cluster\n", "-1", "error: none"] {
            assert_eq!(submitted(said), None, "{said}");
        }
    }

    #[test]
    fn the_configuration_limits_arrays() {
        let config = "Configuration data as of 2026\nLaunchParameters        = (null)\nMaxArraySize            = 1001\nMaxBatchRequeue = 5\n";
        assert_eq!(limit(config), Some(1001));
        let with = |parameters: &str| limit(&format!("{config}SchedulerParameters     = {parameters}\n"));
        assert_eq!(with("bf_interval=1,max_array_tasks=100"), Some(100));
        assert_eq!(with("max_array_tasks=9999"), Some(1001));
        assert_eq!(limit("nothing of the kind"), None);
    }
}
