//! Launchers: what brings the runs of a plan to the machines that train them.
//!
//! A launcher is given a plan that is in the store and the places of the runs that have no record, and starts `np exec PLAN INDEX` for each
//! of them, here ([`local`]) or by way of a queue ([`slurm`]). It never touches a result: a worker trains one run and writes its record
//! itself, so that whatever becomes of a launcher, what is finished is in the store.

mod local;
pub(crate) mod slurm;

use np_record::Outcome;

pub use local::Launch;
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

/// How runs are spread over the machine.
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
    /// Left-over cores go to the runs when there are fewer runs than cores.
    #[must_use]
    pub fn of(cores: usize, runs: usize, jobs: Option<usize>, threads: Option<usize>) -> Self {
        let cores = cores.max(1);
        let jobs = jobs.unwrap_or(cores / threads.unwrap_or(1).max(1)).clamp(1, runs.max(1));
        Self { jobs, threads: threads.unwrap_or(cores / jobs).max(1) }
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
    /// Somebody broke it off.
    Interrupted,
    /// A run failed, and that was to end it.
    FirstFailure,
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
        assert_eq!(share(2, 99, Some(3), Some(5)), (3, 5), "as asked, whatever the machine");
        assert_eq!(share(2, 99, Some(0), Some(0)), (1, 1));
        assert_eq!(share(1, 0, None, None), (1, 1));
    }
}
