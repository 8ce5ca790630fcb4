//! The local launcher: worker processes of this very program, as many at a time as fit the cores.
//!
//! A worker is `np exec PLAN INDEX`, and is handed the run itself: a plan that is replaced meanwhile, because somebody has edited the file and
//! started another sweep, changes nothing for this one. It trains one run and writes the record itself, so a launcher that dies loses nothing that
//! is finished. Its standard input is a pipe that says nothing: the launcher holds it open for as long as the worker is to go on,
//! so that a wish to stop, and the launcher's own end however it comes, reach every worker.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use np_record::{Outcome, Plan, PlannedRun, Store};

use super::{
    Ending, Gpus, OnFailure, OtherGpu, Share, Tally,
    places::{Spot, next},
};
use crate::{
    error::{Error, REQUEUE_WITHOUT_GAIN, Result, STOPPED},
    event::Event,
    gpu::{GpuError, wants},
    keeper::Every,
    limit::Limit,
    lock::Lock,
    provenance::Caller,
    screen::Screen,
    stop::Stop,
    worker::failed,
};

/// Everything that a launch needs to know.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The plan, as it is in the store.
    pub plan: &'a Plan,
    /// Where plan and records are.
    pub store: &'a Store,
    /// How runs are spread over the machine's cores.
    pub share: Share,
    /// The GPUs for the runs that want one.
    pub gpus: Gpus,
    /// Folder of the published data files.
    pub data_dir: Option<&'a Path>,
    /// What records say about this command.
    pub caller: &'a Caller,
    /// How often workers keep what they have done.
    pub snapshots: Every,
    /// What a failed run means for the others.
    pub on_failure: OnFailure,
    /// When it is to be over, done or not.
    pub limit: Option<Limit>,
    /// What becomes of runs that were begun on another GPU.
    pub other_gpu: OtherGpu,
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
    spot: Spot,
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

/// Exit codes of a worker that somebody wished to end before its first step.
const ENDED: [i32; 2] = [STOPPED as i32, REQUEUE_WITHOUT_GAIN as i32];

/// How long workers have to keep what they have done, once they are asked to stop.
const GRACE: Duration = Duration::from_secs(60);

/// How it is with a run that another process trains.
enum Look {
    Busy,
    Done(Outcome),
    /// That process has ended without a record.
    Free,
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
    /// [`Error::Io`] if no worker can be started, [`Error::Record`] if the record of a worker that died cannot be written, [`Error::Gpu`] for runs that
    /// want a GPU, of which there is none. A failed run is no error: it is counted.
    pub fn train(&self, todo: &[usize], screen: &mut Screen) -> Result<Tally> {
        if self.gpus.runs() == 0 && todo.iter().any(|&index| wants(&self.plan.runs[index])) {
            return Err(GpuError::none("none was given to the runs that want one").into());
        }
        let program = std::env::current_exe().map_err(Error::io("np"))?;
        let (sender, receiver) = channel();
        let wires = Wires { program, stop: Stop::on_signals(), sender, receiver };
        let mut running = BTreeMap::new();
        let result = self.work(todo, &wires, &mut running, screen);
        if result.is_err() {
            // Our trouble is not theirs: they may keep what they have done.
            running.values_mut().for_each(Worker::ask_to_stop);
            let end = Instant::now() + GRACE;
            let alive = |worker: &mut Worker| matches!(worker.child.try_wait(), Ok(None));
            while Instant::now() < end && !wires.stop.take() && running.values_mut().any(alive) {
                thread::sleep(TICK);
            }
        }
        // Left over only after a second wish to stop, or when a worker does not heed the first.
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
        // Runs whose worker has crashed once.
        let mut crashed = BTreeSet::new();
        let mut looked = Instant::now();
        let mut deadline: Option<Instant> = None;
        loop {
            let wished = wires.stop.take();
            if wished {
                tally.ending = Ending::Interrupted(wires.stop.code());
                if deadline.is_some() {
                    return Ok(tally);
                }
            } else if self.on_failure == OnFailure::Stop && !tally.failed.is_empty() && deadline.is_none() {
                tally.ending = Ending::FirstFailure;
            } else if self.limit.is_some_and(Limit::is_near) && deadline.is_none() {
                tally.ending = Ending::TimeOver;
            }
            if tally.ending != Ending::Complete && deadline.is_none() {
                let grace = Instant::now() + GRACE;
                deadline = Some(self.limit.map_or(grace, |limit| limit.end().min(grace)));
                running.values_mut().for_each(Worker::ask_to_stop);
            }
            while deadline.is_none()
                && let Some((index, spot)) = self.next(&mut waiting, running)
            {
                let child = self.spawn(index, spot, wires)?;
                running.insert(index, Worker { child, spot, started: Instant::now(), outcome: None, excuse: None });
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
            screen.tick();
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
                    // Before its first step a worker ends by a wish without a word.
                    let heeded = status.code().is_some_and(|code| ENDED.contains(&code));
                    let stopping = heeded || deadline.is_some() || wires.stop.is_wished();
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
                            if tally.ending == Ending::Complete {
                                tally.ending = Ending::Interrupted(wires.stop.code());
                            }
                            continue;
                        }
                        (None, _) => match self.recorded(run)? {
                            Some(outcome) => outcome,
                            // Out of memory beside a larger neighbour, a machine's hiccup: once more, from its last snapshot.
                            None if crashed.insert(index) => {
                                screen.crashes(index, &crash(status, &stderr));
                                waiting.push_front(index);
                                continue;
                            }
                            None => match self.bury(run, worker.spot, crash(status, &stderr))? {
                                Some(outcome) => outcome,
                                None => {
                                    screen.leaves(index);
                                    elsewhere.push(index);
                                    continue;
                                }
                            },
                        },
                    };
                    screen.ends(index, run, &outcome, worker.started.elapsed());
                    tally.count(index, outcome);
                }
                Err(RecvTimeoutError::Timeout) if deadline.is_some_and(|end| Instant::now() > end) => return Ok(tally),
                Err(_) => {}
            }
        }
    }

    /// The next run for which there is room, taken off the queue.
    fn next(&self, waiting: &mut VecDeque<usize>, running: &BTreeMap<usize, Worker>) -> Option<(usize, Spot)> {
        let taken: Vec<Spot> = running.values().map(|worker| worker.spot).collect();
        next(waiting, self.plan, self.share, &self.gpus, &taken)
    }

    /// Starts the worker of one run, and the threads that listen to it.
    fn spawn(&self, index: usize, spot: Spot, wires: &Wires) -> Result<Child> {
        let mut command = Command::new(&wires.program);
        command.args(["exec", &self.plan.experiment, &index.to_string()]);
        command.args(["--run", &serde_json::to_string(&self.plan.runs[index]).unwrap_or_default()]);
        command.arg("--store").arg(self.store.root());
        command.args(["--snapshot-every", &self.snapshots.to_string()]);
        command.args(["--threads", &spot.threads(self.share).to_string()]);
        command.args(self.other_gpu.option());
        command.args(["--caller", &serde_json::to_string(self.caller).unwrap_or_default()]);
        if let Some(folder) = self.data_dir {
            command.arg("--data-dir").arg(folder);
        }
        spot.prepare(&mut command, self.share, &self.gpus);
        // Candle's error texts carry a backtrace otherwise.
        command.env_remove("RUST_BACKTRACE").env_remove("RUST_LIB_BACKTRACE");
        command.arg("--supervised").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A Ctrl-C in a terminal goes to a whole process group: the launcher is to hear it, and to decide for its workers.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(Error::start(format!("`{}`", wires.program.display())))?;
        if let Err(error) = listen(index, &mut child, wires.sender.clone()) {
            // Nobody would hear it.
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::start("a thread that hears a worker")(error));
        }
        Ok(child)
    }

    /// Looks after a run that another process trains.
    fn look(&self, index: usize) -> Result<Look> {
        let id = &self.plan.runs[index].id;
        // First the lock, then the record: it is written before the lock is let go.
        if Lock::is_held(self.store, id)? {
            return Ok(Look::Busy);
        }
        Ok(self.recorded(&self.plan.runs[index])?.map_or(Look::Free, Look::Done))
    }

    /// How a run ended whose worker cannot say so: it may have died after its record was written, or another launcher have trained the run.
    fn recorded(&self, run: &PlannedRun) -> Result<Option<Outcome>> {
        match self.store.record_of(run) {
            Err(error) if error.is_damage() => Ok(None),
            record => Ok(record?.filter(np_record::Record::is_done).map(|record| record.outcome)),
        }
    }

    /// Records a run whose worker died without a record, twice; `None` if another process has taken it up.
    fn bury(&self, run: &PlannedRun, spot: Spot, reason: String) -> Result<Option<Outcome>> {
        // Where no lock can be written, no record can be either, and that error says what to do.
        let _lock = match Lock::take_patiently(self.store, &run.id) {
            Ok(None) => return Ok(None),
            lock => lock.ok().flatten(),
        };
        if let Some(outcome) = self.recorded(run)? {
            return Ok(Some(outcome));
        }
        self.store.write_record(&failed(run, reason.clone(), self.caller.provenance(spot.threads(self.share))))?;
        Ok(Some(Outcome::Failed { reason }))
    }
}

/// Starts the threads that listen to a worker.
fn listen(index: usize, child: &mut Child, sender: Sender<Message>) -> io::Result<()> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = thread::Builder::new().spawn(move || {
        let mut text = Vec::new();
        stderr.map(|mut pipe| pipe.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    })?;
    let events = move || {
        for line in stdout.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()).map_while(Result::ok) {
            if let Some(event) = Event::hear(&line) {
                let _ = sender.send(Message::Said(index, event));
            }
        }
        let _ = sender.send(Message::Ended(index, errors.join().unwrap_or_default()));
    };
    thread::Builder::new().spawn(events).map(drop)
}

/// Why a worker died, as far as can be told: killed, out of memory, a bug.
fn crash(status: ExitStatus, stderr: &str) -> String {
    match stderr.lines().map(str::trim).find(|line| !line.is_empty()) {
        Some(said) => format!("the worker ended early ({status}): {said}"),
        None => format!("the worker ended early ({status})"),
    }
}
