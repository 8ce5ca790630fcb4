//! Who makes a record, where, with what: the machine, the source, the versions, the command, the time.
//!
//! The commit is that of the source tree which built this binary, asked of git when a command starts, and only if the tree still holds
//! the code that was built (see [`crate::fingerprint`]): a binary that is older than its tree claims none, and one that was carried elsewhere what its tree said when
//! `np bundle` packed it ([`BuiltFrom`]). It is handed to the workers, so that all records of a sweep agree and a commit made meanwhile changes nothing. Only changes to what `np` is built from make a tree dirty: records and figures are its products.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use jiff::Timestamp;
use np_record::{Machine, Provenance};
use serde::{Deserialize, Serialize};

use crate::{fingerprint, task::known};

/// What of the code that a program was built from, as far as its tree knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BuiltFrom {
    /// See [`fingerprint`].
    fingerprint: String,
    commit: String,
    dirty: bool,
}

/// What this program was built from, behind words by which it is found in a program's bytes.
static BUILT: &str = concat!("np was built from ", env!("NP_FINGERPRINT"));
const WORDS: usize = "np was built from ".len();

/// Whether this program trains on GPUs, to be found in the same way.
static TRAINS: &str = if cfg!(feature = "cuda") { "np was built with cuda." } else { "np was built without cuda." };

/// Whether a program trains on GPUs; `None` of one that does not say so, or is no `np`.
pub(crate) fn trains_on_gpus(program: &[u8]) -> Option<bool> {
    // In two parts, so that they stand in no program as they are looked for.
    let has = |word: &str| {
        let words = ["np was built ", word, " cuda."].concat();
        program.windows(words.len()).any(|window| window == words.as_bytes())
    };
    has("with").then_some(true).or_else(|| has("without").then_some(false))
}

/// What the folder says that this program was taken along in.
static BROUGHT: OnceLock<BuiltFrom> = OnceLock::new();

impl BuiltFrom {
    /// That of a program, if it was built from the code in this one's tree as that is now.
    pub(crate) fn of(program: &[u8]) -> Option<Self> {
        Self::in_tree(tree(), program)
    }

    fn in_tree(root: &Path, program: &[u8]) -> Option<Self> {
        let fingerprint = fingerprint::of(root)?;
        let words = [&BUILT.as_bytes()[..WORDS], fingerprint.as_bytes()].concat();
        let is_of_it = program.windows(words.len()).any(|window| window == words);
        let (commit, dirty) = is_of_it.then(|| commit(root)).flatten()?;
        Some(Self { fingerprint, commit, dirty })
    }

    /// Believes this of the program that is running, if it is about it.
    pub(crate) fn brought(self) {
        if self.fingerprint == built() {
            let _ = BROUGHT.set(self);
        }
    }
}

/// The fingerprint of the code that this program was built from. The compiler is to leave the words before it where they are.
fn built() -> &'static str {
    let _ = std::hint::black_box(TRAINS);
    std::hint::black_box(BUILT).get(WORDS..).unwrap_or_default()
}

/// The workspace that this program was built in.
fn tree() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// A tree's commit, and whether its code has changes that are not in it.
fn commit(root: &Path) -> Option<(String, bool)> {
    let commit = git(root, &["rev-parse", "HEAD"])?;
    let code = ["status", "--porcelain", "--", ":/crates", ":/Cargo.toml", ":/Cargo.lock"];
    Some((commit, !git(root, &code)?.is_empty()))
}

/// What a command tells its workers about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The command that asked for the runs, without paths of the machine.
    pub command: String,
    /// Commit of the code that this program was built from; `None` where that cannot be known, as of a program with tasks of its own.
    pub commit: Option<String>,
    /// Whether that tree's code has changes that are not committed.
    pub dirty: Option<bool>,
}

impl Caller {
    /// Describes this build, for a command as it is to be recorded.
    #[must_use]
    pub fn of(command: String) -> Self {
        // A program with tasks of its own has code that is not in this tree.
        if !known().names().is_empty() {
            return Self { command, commit: None, dirty: None };
        }
        match BROUGHT.get() {
            Some(BuiltFrom { commit, dirty, .. }) => {
                Self { command, commit: Some(commit.clone()), dirty: Some(*dirty) }
            }
            None => Self::built_from(tree(), built(), command),
        }
    }

    /// Describes a build of the code with this fingerprint, in the workspace at `root`.
    fn built_from(root: &Path, built: &str, command: String) -> Self {
        let is_of_it = fingerprint::of(root).as_deref() == Some(built);
        let (commit, dirty) = is_of_it.then(|| commit(root)).flatten().unzip();
        Self { command, commit, dirty }
    }

    /// The provenance of a run that starts now on so many threads.
    #[must_use]
    pub fn provenance(&self, threads: usize) -> Provenance {
        let versions = [("np", env!("CARGO_PKG_VERSION")), ("candle", env!("NP_CANDLE")), ("rustc", env!("NP_RUSTC"))];
        let versions = known().versions().iter().copied().chain(versions);
        Provenance {
            machine: machine(),
            threads,
            commit: self.commit.clone(),
            dirty: self.dirty,
            versions: versions.map(|(name, version)| (name.to_owned(), version.to_owned())).collect(),
            command: self.command.clone(),
            started: rfc3339(SystemTime::now()),
            memory_peak_bytes: None,
            arithmetic: Vec::new(),
        }
    }
}

/// The output of a git command in `folder`; `None` without git or outside a work tree. It takes no lock: killed in the middle, `git status` would
/// leave the repository locked.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(["--no-optional-locks", "-C"]).arg(folder).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Logical cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The most physical memory that this process has held so far, in bytes, where the system says.
#[must_use]
pub(crate) fn memory_peak() -> Option<u64> {
    peak_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

fn machine() -> Machine {
    let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text));
    Machine {
        cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: cores(),
        os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        gpu: None,
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let (_, model) = line.split_once(':')?;
    Some(model.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|model| !model.is_empty())
}

/// A time as RFC 3339 writes it, in UTC, to the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    Timestamp::from_second(i64::try_from(seconds).unwrap_or(i64::MAX)).unwrap_or(Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::Duration};

    use super::*;

    #[test]
    fn times_read_as_the_calendar_has_them() {
        // `date -u -d @N +%FT%TZ`
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    /// Makes a workspace with one file of code in one commit; that file.
    fn committed(root: &Path) -> PathBuf {
        let code = root.join("crates/a/src/lib.rs");
        fs::create_dir_all(code.parent().unwrap()).unwrap();
        fs::write(&code, "one").unwrap();
        let commit = ["-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "-m", "one"];
        for arguments in [&["init", "--quiet"][..], &["add", "-A"], &commit] {
            git(root, arguments).unwrap();
        }
        code
    }

    #[test]
    fn a_tree_that_has_moved_on_is_not_asked_for_its_commit() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let code = committed(root);
        let run = |arguments: &[&str]| git(root, arguments).unwrap();
        let built = fingerprint::of(root).unwrap();
        let caller = || Caller::built_from(root, &built, "np run a.yaml".into());
        assert_eq!((caller().commit, caller().dirty), (Some(run(&["rev-parse", "HEAD"])), Some(false)));
        fs::write(&code, "two").unwrap();
        assert_eq!((caller().commit, caller().dirty), (None, None), "edited since");
        run(&["-c", "user.name=n", "-c", "user.email=e", "commit", "--quiet", "-am", "two"]);
        assert_eq!(caller().commit, None, "committed since: the new commit is not what was built");
        let rebuilt = fingerprint::of(root).unwrap();
        assert!(Caller::built_from(root, &rebuilt, String::new()).commit.is_some());
        assert_eq!(Caller::built_from(&root.join("nowhere"), &built, String::new()).commit, None);
    }

    #[test]
    fn a_program_that_is_taken_along_has_the_commit_of_the_tree_that_it_is_of() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let code = committed(root);
        let run = |arguments: &[&str]| git(root, arguments).unwrap();
        let program =
            |fingerprint: &str| format!("\u{0}np was built from {fingerprint}\u{0}np was built from ").into_bytes();
        let of_it = program(&fingerprint::of(root).unwrap());
        let source = BuiltFrom::in_tree(root, &of_it).unwrap();
        assert_eq!((source.commit, source.dirty), (run(&["rev-parse", "HEAD"]), false));
        assert_eq!(BuiltFrom::in_tree(root, &program("0123456789abcdef")), None, "of other code");
        assert_eq!(BuiltFrom::in_tree(&root.join("nowhere"), &of_it), None);
        fs::write(&code, "two").unwrap();
        assert_eq!(BuiltFrom::in_tree(root, &of_it), None, "edited since");
        let of_it = program(&fingerprint::of(root).unwrap());
        assert!(BuiltFrom::in_tree(root, &of_it).unwrap().dirty, "built from what is in no commit");
        // What this program says of itself is found in it, as `np bundle` looks for it.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(own.windows(BUILT.len()).any(|window| window == BUILT.as_bytes()));
        assert_eq!(built().len(), 16);
        assert_eq!(trains_on_gpus(&own), Some(cfg!(feature = "cuda")));
        assert_eq!(trains_on_gpus(&of_it), None);
    }

    #[test]
    fn the_peak_of_memory_is_read_in_bytes() {
        let text = "Name:\tnp\nVmPeak:\t  900000 kB\nVmHWM:\t  123456 kB\nVmRSS:\t    1000 kB\n";
        assert_eq!(peak_of(text), Some(126_418_944));
        for text in ["", "VmHWM:\t many kB\n", "VmHWM:\t 5\n", "VmHWM: 99999999999999999999 kB\n"] {
            assert_eq!(peak_of(text), None, "{text}");
        }
    }

    #[test]
    fn the_processor_has_its_own_name() {
        let text = "processor\t: 0\nmodel name\t: Some  CPU @ 2.00GHz\nmodel name\t: other\n";
        assert_eq!(cpu_model(text).unwrap(), "Some CPU @ 2.00GHz");
        assert_eq!(cpu_model("processor: 0\n"), None);
    }
}
