//! Launchers: what brings the runs of a plan to the machines that train them.
//!
//! A launcher is given a plan that is in the store and the places of the runs that have no record, and starts `np exec PLAN INDEX` for each
//! of them, here ([`local`]) or by way of a queue ([`slurm`]). It never touches a result: a worker trains one run and writes its record
//! itself, so that whatever becomes of a launcher, what is finished is in the store.

mod local;
mod places;
pub(crate) mod slurm;

use np_record::Outcome;

use crate::say::count;

pub use local::Launch;
pub use places::Gpus;
pub use slurm::{Array, LauncherConfig, SlurmConfig, Submission, Submitted};

/// Who starts the workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Launcher {
    /// This process, on this machine
    #[default]
    Local,
    /// A Slurm cluster, as job arrays; resources are in the experiment's `launcher.slurm`
    Slurm,
}

/// What a failed run means for the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing.
    #[default]
    GoOn,
    /// They are stopped, and keep what they have done.
    Stop,
}

/// What becomes of a run whose snapshot is of another kind of GPU, where the bits are others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OtherGpu {
    /// It fails, and keeps its snapshot.
    #[default]
    Refuse,
    /// It loses its snapshot, and begins anew.
    Restart,
}

impl OtherGpu {
    /// The option that says so, for a worker.
    fn option(self) -> Option<&'static str> {
        (self == Self::Restart).then_some("--restart")
    }
}

/// How runs are spread over the machine's cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Runs at a time.
    pub jobs: usize,
    /// Threads of each.
    pub threads: usize,
}

impl Share {
    /// Shares `cores` out among `runs`, with what was asked for.
    ///
    /// By default a run gets one thread: two runs of a small model on a core each are faster than one after the other on two.
    /// Left-over cores go to the runs when there are fewer runs than cores. Never are there more threads in all than cores: of what was asked
    /// for, runs at a time come first.
    #[must_use]
    pub fn of(cores: usize, runs: usize, jobs: Option<usize>, threads: Option<usize>) -> Self {
        let cores = cores.max(1);
        let jobs = jobs.unwrap_or(cores / threads.unwrap_or(1).max(1)).clamp(1, runs.clamp(1, cores));
        Self { jobs, threads: threads.unwrap_or(usize::MAX).clamp(1, cores / jobs) }
    }

    /// Says that it is less than was asked for, if the cores make it so.
    #[must_use]
    pub fn cut(self, cores: usize, runs: usize, jobs: Option<usize>, threads: Option<usize>) -> Option<String> {
        let asked = jobs.unwrap_or(1).min(runs.max(1)).saturating_mul(threads.unwrap_or(1));
        let words = [jobs.map(|n| format!("`--jobs {n}`")), threads.map(|n| format!("`--threads {n}`"))];
        let words = words.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        let Self { jobs, threads } = self;
        let verb = if words.contains(" and ") { "ask" } else { "asks" };
        let text = format!("{words} {verb} for more than the {cores} cores that this process may use");
        (asked > cores.max(1)).then(|| format!("{text}: {jobs} at a time on {} each", count(threads, "thread")))
    }
}

/// How a launch went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that finished every epoch.
    pub finished: usize,
    /// Runs that diverged, by their place in the plan. A result.
    pub diverged: Vec<usize>,
    /// Runs that failed, by their place in the plan, with the reason.
    pub failed: Vec<(usize, String)>,
    /// Runs that another process trained meanwhile, by their place in the plan; they are counted above as well.
    pub elsewhere: Vec<usize>,
    /// Whether it came to its end.
    pub ending: Ending,
}

/// How a launch came to its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ending {
    /// Every run was tried.
    #[default]
    Complete,
    /// Somebody broke it off; with the exit code that this has.
    Interrupted(u8),
    /// A run failed, and that was to end it.
    FirstFailure,
    /// Its [limit](crate::Limit) was near.
    TimeOver,
}

impl Tally {
    fn count(&mut self, index: usize, outcome: Outcome) {
        match outcome {
            Outcome::Finished => self.finished += 1,
            Outcome::Diverged { .. } => self.diverged.push(index),
            Outcome::Failed { reason } => self.failed.push((index, reason)),
        }
    }
}

/// What a worker on so many threads needs in its environment; its results do not depend on it.
fn environment(threads: &str) -> [(&'static str, &str); 4] {
    [
        ("RAYON_NUM_THREADS", threads),
        // Candle has a second pool, whose threads spin on the cores that matrix products want next.
        ("CANDLE_NUM_THREADS", "1"),
        // glibc would return the gradients' memory to the system after each step and fault it in again in the next: a third of the time.
        ("MALLOC_MMAP_THRESHOLD_", "1073741824"),
        ("MALLOC_TRIM_THRESHOLD_", "2147483648"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_out() {
        let share = |cores, runs, jobs, threads| {
            let Share { jobs, threads } = Share::of(cores, runs, jobs, threads);
            (jobs, threads)
        };
        assert_eq!(share(2, 12, None, None), (2, 1));
        assert_eq!(share(8, 2, None, None), (2, 4), "left-over cores are used");
        assert_eq!(share(8, 99, None, Some(4)), (2, 4));
        assert_eq!(share(8, 99, Some(2), None), (2, 4));
        assert_eq!(share(2, 99, Some(3), Some(5)), (2, 1), "no more threads than cores");
        assert_eq!(share(8, 99, Some(2), Some(3)), (2, 3), "as asked");
        assert_eq!(share(8, 1, Some(9999), Some(9999)), (1, 8));
        assert_eq!(share(8, 99, None, Some(9999)), (1, 8));
        assert_eq!(share(8, 99, Some(9999), None), (8, 1));
        assert_eq!(share(2, 99, Some(0), Some(0)), (1, 1));
        assert_eq!(share(1, 0, None, None), (1, 1));
    }

    #[test]
    fn what_is_cut_is_said() {
        let cut = |jobs, threads| Share::of(2, 12, jobs, threads).cut(2, 12, jobs, threads);
        let text = "`--jobs 9999` and `--threads 9999` ask for more than the 2 cores that this process may use: 2 at a time on 1 thread each";
        assert_eq!(cut(Some(9999), Some(9999)).unwrap(), text);
        assert!(cut(None, Some(3)).unwrap().ends_with("1 at a time on 2 threads each"));
        for (jobs, threads) in [(None, None), (Some(2), None), (None, Some(2)), (Some(2), Some(1))] {
            assert_eq!(cut(jobs, threads), None);
        }
        let one = Share::of(2, 1, Some(9999), Some(1));
        assert_eq!(one.cut(2, 1, Some(9999), Some(1)), None, "there is one run only");
    }
}
