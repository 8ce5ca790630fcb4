//! A worker process: trains one run of a plan that is in the store, and writes its record there.

use std::path::Path;

use np_record::{Kind, ModelInfo, Outcome, Phases, PlannedRun, Provenance, Record, SCHEMA, Store, semantics_of};

use crate::{
    arithmetic::{arithmetic, going_on},
    config::RunConfig,
    device::Device,
    error::{Error, Fault, Place, Result, told},
    event::Event,
    gpu,
    keeper::{Every, Keeper},
    launch::OtherGpu,
    lock::Lock,
    provenance::{Caller, memory_peak},
    say::count,
    stop::{Stop, Wish},
    task::{AboutData, Examples},
    threads,
    train::{News, Trained, about_data, train},
};

/// Who watches over a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervision {
    /// Nobody but the system, by signals.
    Alone,
    /// A launcher, which holds the worker's standard input open for as long as it is to go on.
    Launcher,
}

/// What a worker is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Name of a plan.
    pub plan: &'a str,
    /// The store whose plan it is, if not the one that the record goes to: a copy that stays as it is.
    pub plans: Option<&'a Store>,
    /// Which of its runs, from 0.
    pub index: usize,
    /// The id that the run is expected to have: the plan may have been replaced since the launcher read it.
    pub id: Option<&'a str>,
    /// The run itself, as a launcher hands it over; the plan is then not looked at, and may be replaced meanwhile.
    pub run: Option<&'a PlannedRun>,
    /// Folder of the published data files.
    pub data_dir: Option<&'a Path>,
    /// Threads that the run computes on, for its record.
    pub threads: usize,
    /// What the record says about the command.
    pub caller: &'a Caller,
    /// Who watches over the worker.
    pub supervision: Supervision,
    /// How often what is done is kept.
    pub snapshots: Every,
    /// What becomes of the run, if it was begun on another GPU.
    pub other_gpu: OtherGpu,
}

/// Trains one run and writes its record; a run that fails is recorded as failed. One that another process trains is left to it.
///
/// # Errors
/// [`Error::Fault`] if there is no such run, [`Error::Record`] if the store refuses, [`Error::Orphaned`] if the launcher is gone,
/// [`Error::Stopped`] or [`Error::Requeue`] if somebody wished it, and whatever made the run fail, once that is recorded.
pub fn exec(store: &Store, job: &Job<'_>) -> Result<()> {
    let Job { plan, index, .. } = *job;
    let nowhere = || Place::Option(format!("np exec {plan} {index}"));
    let found;
    let run = match job.run {
        Some(run) => run,
        None => {
            let plans = job.plans.unwrap_or(store);
            found = plans.read_plan(plan)?.ok_or_else(|| Fault::new(nowhere(), "the store has no such plan"))?;
            found.runs.get(index).ok_or_else(|| {
                Fault::new(nowhere(), format!("expected a run from 0 to {}", found.runs.len().saturating_sub(1)))
            })?
        }
    };
    if run.id != PlannedRun::id_of(&run.config, &run.data_digest) {
        let fault = Fault::new(nowhere(), format!("`{}` is not the id of the run's configuration", run.id));
        return Err(fault.hint("`np run` makes the plan anew").into());
    }
    if job.id.is_some_and(|id| id != run.id) {
        return Err(Fault::new(nowhere(), "the plan was replaced while its runs were trained").into());
    }
    let stop = Stop::while_starting();
    let threads = threads::allowed(job.threads);
    let mut provenance = job.caller.provenance(threads);
    if job.supervision == Supervision::Launcher {
        stop.when_closed(std::io::stdin())?;
    }
    let Some(lock) = Lock::take_patiently(store, &run.id)? else { return Event::Busy.say() };
    if let Some(text) = lock.missing() {
        Event::Remark { text }.say()?;
    }
    if threads < job.threads {
        let text = format!("computing on {}, not {}: there are no more cores", count(threads, "thread"), job.threads);
        Event::Remark { text }.say()?;
    }
    if let Some(record) = recorded(store, run)?.filter(Record::is_done) {
        // Trained by another process, since this one was asked for it.
        return Event::Recorded { outcome: record.outcome }.say();
    }
    let mut keeper = Keeper::new(store, &run.id, job.snapshots);
    let result = threads::start(threads).and_then(|()| attempt(run, job, &stop, &mut keeper));
    stop.started();
    provenance.memory_peak_bytes = memory_peak();
    provenance.arithmetic.clone_from(&keeper.arithmetic);
    provenance.machine.gpu.clone_from(&keeper.gpu);
    match result {
        Ok(trained) => {
            let record = record(run, trained, provenance);
            store.write_record(&record)?;
            keeper.remove();
            Event::Recorded { outcome: record.outcome }.say()
        }
        Err(error @ (Error::Orphaned | Error::Stopped)) => {
            let kept = keeper.write();
            // With or without somebody to hear it.
            if let Err(error) = kept {
                let _ = unkept(&error).say();
            }
            let _ = Event::Stopped.say();
            match stop.wish() {
                Some(Wish::Requeue) => Err(Error::Requeue { gained: keeper.has_gained() }),
                _ => Err(error),
            }
        }
        Err(error) => {
            let reason = told(&error, error.hint());
            store.write_record(&failed(run, reason.clone(), provenance))?;
            Event::Recorded { outcome: Outcome::Failed { reason } }.say()?;
            Err(error)
        }
    }
}

/// The record that a run has. A damaged one is set aside, so that it is neither taken for a result nor lost.
fn recorded(store: &Store, run: &PlannedRun) -> Result<Option<Record>> {
    match store.record_of(run) {
        Err(error) if error.is_damage() => {
            let aside = store.set_aside(Kind::Record, &run.id)?;
            let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Event::Notice { text: format!("set aside as `{name}`: {}", first_line(&error.to_string())) }.say()?;
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// The first line of a message: names in it may have more.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// A snapshot that could not be written. The training can go on.
fn unkept(error: &Error) -> Event {
    Event::Notice { text: format!("no snapshot is kept: {}", told(error, error.hint())) }
}

fn attempt(run: &PlannedRun, job: &Job<'_>, stop: &Stop, keeper: &mut Keeper) -> Result<Trained> {
    let place = || Place::Option(format!("run {}", run.id));
    let config: RunConfig = serde_json::from_value(run.config.clone())
        .map_err(|error| Fault::new(place(), format!("planned by another version of np: {error}")))?;
    let task = config.task.chosen();
    let data = task.load(job.data_dir)?;
    if task.about(data.any())?.digest != run.data_digest {
        return Err(Fault::new(place(), "the data has changed since the run was planned").hint("run it again").into());
    }
    keeper.gpu = (config.train.device == Device::Cuda).then(gpu::open).transpose()?;
    let mut notice = |text: String| Event::Notice { text }.say();
    loop {
        let from = keeper.latest(&mut notice)?;
        match from.as_ref().map_or(Ok(()), |snapshot| snapshot.progress.goes_on(keeper.gpu.as_ref())) {
            Err(error) if job.other_gpu == OtherGpu::Restart => {
                notice(format!("begun anew: {}", first_line(&error.to_string())))?;
                keeper.remove();
                continue;
            }
            goes_on => goes_on?,
        }
        if let Some(snapshot) = &from {
            Event::Resumed { epoch: snapshot.epochs() }.say()?;
        }
        if !config.optimizer.portable() {
            let past = from.as_ref().map_or_else(Vec::new, |snapshot| snapshot.progress.arithmetic.clone());
            let (arithmetic, other) = going_on(past, arithmetic());
            keeper.arithmetic = arithmetic;
            if let Some(text) = other {
                Event::Remark { text }.say()?;
            }
        }
        match train(&config, &data, from.as_ref(), &mut |news| hear(&news, stop, keeper)) {
            // Whole, but not of this configuration, or of another version of the optimizer.
            Err(error @ Error::Snapshot(_)) if from.is_some() => keeper.refuse(&error, &mut notice)?,
            other => return other,
        }
    }
}

/// Passes on how a training goes, keeps what is done, and ends it where somebody wishes that.
fn hear(news: &News<'_>, stop: &Stop, keeper: &mut Keeper) -> Result<()> {
    if !matches!(news, News::Begins(..)) {
        stop.started();
    }
    match news {
        News::Begins(model, data) => Event::Begins { model: model.title.clone(), examples: data.train_examples }.say(),
        News::Batch if stop.is_wished() => Err(Error::Stopped),
        News::Batch => Ok(()),
        News::Epoch(metrics, phases, state) => {
            if let Some(Err(error)) = state.map(|state| keeper.epoch(state)) {
                unkept(&error).say()?;
            }
            Event::Epoch { metrics: (*metrics).clone(), seconds: phases.total() }.say()
        }
    }
}

fn record(run: &PlannedRun, trained: Trained, provenance: Provenance) -> Record {
    let Trained { data, model, outcome, epochs, timing, optimizer } = trained;
    let timing = timing.into_iter().map(rounded).collect();
    let mut record = Record {
        schema: SCHEMA,
        id: run.id.clone(),
        semantics: semantics_of(&run.config),
        config: run.config.clone(),
        data,
        model,
        outcome,
        epochs,
        result_sha256: String::new(),
        timing,
        optimizer,
        provenance,
        record_sha256: None,
    };
    record.result_sha256 = record.digest_result();
    record
}

/// The record of a run that could not be made.
#[must_use]
pub(crate) fn failed(run: &PlannedRun, reason: String, provenance: Provenance) -> Record {
    let config: Option<RunConfig> = serde_json::from_value(run.config.clone()).ok();
    // Of a configuration that this program cannot read nothing more is known than its digest.
    let nothing = || (AboutData::new("", "", &run.data_digest), String::new());
    let (about, title) = config.map_or_else(nothing, |config| config.task.chosen().told(&run.data_digest));
    let data = about_data(about, &Examples::default());
    let model = ModelInfo { title, parameters: 0 };
    let outcome = Outcome::Failed { reason };
    record(run, Trained { data, model, outcome, epochs: Vec::new(), timing: Vec::new(), optimizer: None }, provenance)
}

/// Microseconds are enough, and keep records small.
fn rounded(phases: Phases) -> Phases {
    let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
    Phases {
        data: round(phases.data),
        forward: round(phases.forward),
        backward: round(phases.backward),
        optimizer: round(phases.optimizer),
        evaluation: round(phases.evaluation),
        steps: round(phases.steps),
    }
}

/// A run as a person knows it: arm, swept values, seed.
#[must_use]
pub(crate) fn label(run: &PlannedRun) -> String {
    let mut label = run.arm.clone();
    for value in run.axes.values() {
        label.push_str(&format!(" · {}", np_record::words(value)));
    }
    format!("{} · seed {}", np_record::visible(&label), run.seed)
}

/// A value without quotes.
#[must_use]
pub(crate) fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
