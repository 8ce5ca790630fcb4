//! The local launcher: worker processes of this very program, as many at a time as fit the cores.
//!
//! A worker is `np exec PLAN INDEX`. It trains one run and writes the record itself, so a launcher that dies loses nothing that
//! is finished. Its standard input is a pipe that says nothing: the launcher holds it open for as long as the worker is to go on,
//! so that a wish to stop, and the launcher's own end however it comes, reach every worker.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use np_record::{Outcome, Plan, PlannedRun, Store};

use crate::{
    error::{Error, Result},
    event::Event,
    keeper::Every,
    lock::Lock,
    provenance::Caller,
    screen::Screen,
    stop::Stop,
    worker::failed,
};

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

/// Everything that a launch needs to know.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The plan, as it is in the store.
    pub plan: &'a Plan,
    /// Where plan and records are.
    pub store: &'a Store,
    /// How runs are spread over the machine.
    pub share: Share,
    /// Folder of the published data files.
    pub data_dir: Option<&'a Path>,
    /// What records say about this command.
    pub caller: &'a Caller,
    /// How often workers keep what they have done.
    pub snapshots: Every,
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
    /// Whether the user broke it off.
    pub interrupted: bool,
}

/// What reaches the launcher.
enum Message {
    Said(usize, Event),
    /// A worker has closed its output; with what it wrote to its standard error.
    Ended(usize, String),
}

/// What holds launcher and workers together.
struct Wires {
    program: PathBuf,
    stop: Stop,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
}

/// A worker that is running.
struct Worker {
    child: Child,
    started: Instant,
    outcome: Option<Outcome>,
    /// What it says instead of an outcome.
    excuse: Option<Excuse>,
}

/// Why a worker ends without a record, and nothing is wrong.
enum Excuse {
    /// It was stopped.
    Stopped,
    /// Another process trains the run.
    Busy,
}

/// How often the launcher looks whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// How often it looks after the runs that another process trains.
const LOOK: Duration = Duration::from_millis(500);

/// How long workers have to keep what they have done, once they are asked to stop.
const GRACE: Duration = Duration::from_secs(60);

/// How it is with a run that another process trains.
enum Look {
    Busy,
    Done(Outcome),
    /// That process has ended without a record.
    Free,
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

impl Worker {
    /// Closes its standard input.
    fn ask_to_stop(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Launch<'_> {
    /// Trains the runs at these places of the plan, and returns when all have ended or the user has broken it off.
    ///
    /// # Errors
    /// [`Error::Io`] if no worker can be started, [`Error::Record`] if the record of a worker that died cannot be written. A
    /// failed run is no error: it is counted.
    pub fn train(&self, todo: &[usize], screen: &mut Screen) -> Result<Tally> {
        let program = std::env::current_exe().map_err(Error::io("np"))?;
        let (sender, receiver) = channel();
        let wires = Wires { program, stop: Stop::on_signals(), sender, receiver };
        let mut running = BTreeMap::new();
        let result = self.work(todo, &wires, &mut running, screen);
        // Left over only after an error, a second wish to stop, or when a worker does not heed the first.
        for worker in running.values_mut() {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
        }
        screen.close();
        result
    }

    fn work(
        &self,
        todo: &[usize],
        wires: &Wires,
        running: &mut BTreeMap<usize, Worker>,
        screen: &mut Screen,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut waiting: VecDeque<usize> = todo.iter().copied().collect();
        let mut elsewhere = Vec::new();
        let mut looked = Instant::now();
        let mut deadline: Option<Instant> = None;
        loop {
            if wires.stop.take() {
                tally.interrupted = true;
                if deadline.is_some() {
                    return Ok(tally);
                }
                deadline = Some(Instant::now() + GRACE);
                running.values_mut().for_each(Worker::ask_to_stop);
            }
            while deadline.is_none()
                && running.len() < self.share.jobs
                && let Some(index) = waiting.pop_front()
            {
                let child = self.spawn(index, wires)?;
                running.insert(index, Worker { child, started: Instant::now(), outcome: None, excuse: None });
                screen.begins(index, &self.plan.runs[index]);
            }
            if running.is_empty() && (elsewhere.is_empty() || deadline.is_some()) {
                return Ok(tally);
            }
            if !elsewhere.is_empty() && looked.elapsed() > LOOK {
                for index in std::mem::take(&mut elsewhere) {
                    match self.look(index)? {
                        Look::Done(outcome) => {
                            screen.elsewhere(&self.plan.runs[index], &outcome);
                            tally.elsewhere.push(index);
                            tally.count(index, outcome);
                        }
                        Look::Free => waiting.push_back(index),
                        Look::Busy => elsewhere.push(index),
                    }
                }
                looked = Instant::now();
                continue;
            }
            match wires.receiver.recv_timeout(TICK) {
                Ok(Message::Said(index, event)) => {
                    screen.event(index, &event);
                    match (event, running.get_mut(&index)) {
                        (Event::Recorded { outcome }, Some(worker)) => worker.outcome = Some(outcome),
                        (Event::Stopped, Some(worker)) => worker.excuse = Some(Excuse::Stopped),
                        (Event::Busy, Some(worker)) => worker.excuse = Some(Excuse::Busy),
                        _ => {}
                    }
                }
                Ok(Message::Ended(index, stderr)) => {
                    let Some(mut worker) = running.remove(&index) else { continue };
                    let status = worker.child.wait().map_err(Error::io(&wires.program))?;
                    let run = &self.plan.runs[index];
                    let stopping = deadline.is_some() || wires.stop.is_wished();
                    let outcome = match (worker.outcome, worker.excuse) {
                        (Some(outcome), _) => outcome,
                        (None, Some(Excuse::Busy)) => {
                            screen.leaves(index);
                            elsewhere.push(index);
                            continue;
                        }
                        // Nothing is wrong with a run that was broken off, by us or by a signal to its worker alone.
                        (None, excuse) if excuse.is_some() || stopping => {
                            screen.leaves(index);
                            tally.interrupted = true;
                            continue;
                        }
                        (None, _) => self.bury(run, status, &stderr)?,
                    };
                    screen.ends(index, run, &outcome, worker.started.elapsed());
                    tally.count(index, outcome);
                }
                Err(RecvTimeoutError::Timeout) if deadline.is_some_and(|end| Instant::now() > end) => return Ok(tally),
                Err(_) => {}
            }
        }
    }

    /// Starts the worker of one run, and the threads that listen to it.
    fn spawn(&self, index: usize, wires: &Wires) -> Result<Child> {
        let mut command = Command::new(&wires.program);
        command.args(["exec", &self.plan.experiment, &index.to_string()]);
        command.args(["--id", &self.plan.runs[index].id]);
        command.arg("--store").arg(self.store.root());
        command.args(["--snapshot-every", &self.snapshots.to_string()]);
        command.args(["--threads", &self.share.threads.to_string()]);
        command.args(["--caller", &serde_json::to_string(self.caller).unwrap_or_default()]);
        if let Some(folder) = self.data_dir {
            command.arg("--data-dir").arg(folder);
        }
        command.env("RAYON_NUM_THREADS", self.share.threads.to_string());
        // Candle has a second pool, whose threads spin on the cores that matrix products want next.
        command.env("CANDLE_NUM_THREADS", "1");
        // glibc would return the gradients' memory to the system after each step and fault it in again in the next: a third of the time.
        command.env("MALLOC_MMAP_THRESHOLD_", "1073741824").env("MALLOC_TRIM_THRESHOLD_", "2147483648");
        // Candle's error texts carry a backtrace otherwise.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command.arg("--supervised").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C in a terminal goes to a whole process group: the launcher is to hear it, and to decide for its workers.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(Error::io(&wires.program))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let errors = thread::spawn(move || {
            let mut text = Vec::new();
            stderr.map(|mut pipe| pipe.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let sender = wires.sender.clone();
        thread::spawn(move || {
            for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(Result::ok) {
                if let Some(event) = Event::hear(&line) {
                    let _ = sender.send(Message::Said(index, event));
                }
            }
            let _ = sender.send(Message::Ended(index, errors.join().unwrap_or_default()));
        });
        Ok(child)
    }

    /// Looks after a run that another process trains.
    fn look(&self, index: usize) -> Result<Look> {
        let id = &self.plan.runs[index].id;
        // First the lock, then the record: it is written before the lock is let go.
        if Lock::is_held(self.store, id)? {
            return Ok(Look::Busy);
        }
        let record = self.store.read_record(id)?.filter(np_record::Record::is_done);
        Ok(record.map_or(Look::Free, |record| Look::Done(record.outcome)))
    }

    /// Records a run whose worker died without a record: killed, out of memory, a bug.
    fn bury(&self, run: &PlannedRun, status: ExitStatus, stderr: &str) -> Result<Outcome> {
        let said = stderr.lines().map(str::trim).find(|line| !line.is_empty());
        let reason = match said {
            Some(said) => format!("the worker ended early ({status}): {said}"),
            None => format!("the worker ended early ({status})"),
        };
        // It may have ended after its record was written, or another launcher may have trained the run: what is done stays.
        if let Some(record) = self.store.read_record(&run.id)?.filter(np_record::Record::is_done) {
            return Ok(record.outcome);
        }
        self.store.write_record(&failed(run, reason.clone(), self.caller.provenance(self.share.threads)))?;
        Ok(Outcome::Failed { reason })
    }
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
