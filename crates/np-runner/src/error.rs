//! What can go wrong, in words for the person who can mend it.
//!
//! A [`Fault`] is a mistake in something that someone wrote (a file, an option): where, which key, what was expected, what
//! stands there, and how to mend it. Everything else is an [`Error`] of the machine or of a run.
//!
//! An error's message is the problem alone; its `hint` is what mends it, in this crate and in those that it uses. [`told`] puts the two
//! together, as the program prints them.

use std::{fmt, io, path::PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit code of what was broken off.
pub(crate) const STOPPED: u8 = 130;

/// Exit code of a worker that is to be started again, and will go on from a later epoch than it was started from.
pub(crate) const REQUEUE: u8 = 75;

/// The same, but it has completed no epoch since it was started.
pub(crate) const REQUEUE_WITHOUT_GAIN: u8 = 76;

/// Anything that stops a command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something that was written is wrong; nothing has been trained or stored.
    #[error(transparent)]
    Fault(#[from] Box<Fault>),
    /// A file or a process could not be used.
    #[error("`{path}`: {source}")]
    Io {
        /// The file, or the program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A process or a thread could not be started.
    #[error("cannot start {what}: {source}")]
    Start {
        /// What was to be started.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The store of records refused.
    #[error(transparent)]
    Record(#[from] np_record::StoreError),
    /// A data set could not be used.
    #[error(transparent)]
    Data(#[from] np_data::Error),
    /// An optimizer could not be built or could not step.
    #[error(transparent)]
    Optimizer(#[from] np_core::Error),
    /// A model could not be built.
    #[error(transparent)]
    Model(#[from] np_models::Error),
    /// A setting cannot be met by the data.
    #[error("`{key}`: {problem}")]
    Setting {
        /// Dotted path of its key.
        key: String,
        /// What is wrong.
        problem: Problem,
    },
    /// A task of the program's own failed.
    #[error("{0}")]
    Task(String),
    /// A tensor operation failed.
    #[error("{0}")]
    Tensor(String),
    /// A worker can no longer tell its launcher how it goes on.
    #[error("the launcher has gone")]
    Orphaned,
    /// A file is no snapshot of the run.
    #[error("{0}")]
    Snapshot(String),
    /// A run was broken off by a signal, or because its launcher wishes to stop.
    #[error("stopped before its end")]
    Stopped,
    /// A run was broken off by a scheduler's warning (SIGUSR2), to go on later.
    #[error("stopped, to go on later{}", if *gained { "" } else { "; no epoch was completed since it was started" })]
    Requeue {
        /// Whether it goes on from a later epoch than it was started from.
        gained: bool,
    },
    /// Batches could not be prepared on a GPU.
    #[error(transparent)]
    Batches(#[from] np_data::device::DeviceError),
    /// A run cannot have a GPU.
    #[error(transparent)]
    Gpu(#[from] crate::gpu::GpuError),
    /// A program of Slurm did not do what it was asked for.
    #[error("`{program}`: {said}")]
    Slurm {
        /// Its name.
        program: String,
        /// What it said, or what is wrong with that.
        said: String,
        /// What mends it, where that is known.
        hint: Option<&'static str>,
    },
}

impl Error {
    /// The exit code of a command that ends with this error: 2 where something written has to be changed, 130 where it
    /// was broken off, 75 or 76 where it is to be started again (with and without an epoch gained), else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Fault(_) => 2,
            Self::Stopped => STOPPED,
            Self::Requeue { gained: true } => REQUEUE,
            Self::Requeue { gained: false } => REQUEUE_WITHOUT_GAIN,
            _ => 1,
        }
    }

    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Fault(fault) => fault.hint.clone(),
            Self::Start { .. } => Some(
                "end other programs, allow more processes (`ulimit -u`) and memory, or ask for less with `--jobs` and `--threads`".to_owned(),
            ),
            Self::Record(error) => error.hint().map(str::to_owned),
            Self::Data(error) => error.hint(),
            Self::Model(error) => error.hint().map(str::to_owned),
            Self::Gpu(error) => error.hint(),
            Self::Slurm { hint, .. } => hint.map(str::to_owned),
            _ => None,
        }
    }

    /// What `np` prints of it: the problem, what the system said where the error's own words leave that out, and the hint on a line of its own.
    #[must_use]
    pub fn told(&self) -> String {
        told(self.with_cause(), self.hint())
    }

    /// The problem, with what the system said where the error's own words leave that out.
    pub(crate) fn with_cause(&self) -> String {
        let text = self.to_string();
        let cause = std::error::Error::source(self).map(ToString::to_string).filter(|cause| !text.contains(cause));
        cause.map_or_else(|| text.clone(), |cause| format!("{text}: {cause}"))
    }

    /// Wraps an input or output error with the file that it is about.
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

impl Error {
    /// Wraps what the system said about a process or a thread with what it was to be.
    pub(crate) fn start(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Start { what, source }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<candle_core::Error> for Error {
    /// Keeps candle's message without the backtrace that it carries under `RUST_BACKTRACE`.
    fn from(error: candle_core::Error) -> Self {
        let mut error = error;
        loop {
            error = match error {
                candle_core::Error::WithBacktrace { inner, .. } | candle_core::Error::Context { inner, .. } => *inner,
                other => return Self::Tensor(other.to_string()),
            };
        }
    }
}

/// Keeps what this crate and its sisters say as it is, and of any other error its words and those of its causes.
impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(error: Box<dyn std::error::Error + Send + Sync>) -> Self {
        macro_rules! kept {
            ($error:ident, $($kind:ty),*) => {{
                $(let $error = match $error.downcast::<$kind>() {
                    Ok(own) => return (*own).into(),
                    Err(other) => other,
                };)*
                $error
            }};
        }
        let error = kept!(error, Self, candle_core::Error, np_models::Error, np_data::Error, np_core::Error);
        let error = kept!(error, Fault, np_record::StoreError, crate::gpu::GpuError);
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let words = next.to_string();
            if !text.contains(&words) {
                text = format!("{text}: {words}");
            }
            cause = next.source();
        }
        Self::Task(text)
    }
}

/// A mistake in a file or an option.
///
/// Its message is `place: key: problem`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// Where it stands.
    pub place: Place,
    /// Dotted path of the key, where it is about one.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Where a fault stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, at a line and a column (both from 1) where they are known.
    File(PathBuf, Option<(usize, usize)>),
    /// In an option, given as typed (`--set optimizer.lr=fast`).
    Option(String),
}

/// What is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// One thing was expected, another stands there.
    Expected {
        /// In words: `a number`, `one of …`.
        expected: String,
        /// As written.
        got: String,
    },
    /// A sentence of its own.
    Other(String),
}

impl Fault {
    /// A fault of the whole of `place`.
    pub(crate) fn new(place: Place, problem: impl Into<String>) -> Self {
        Self { place, key: None, problem: Problem::Other(problem.into()), hint: None }
    }

    /// What `np` prints of it: the problem, and the hint on a line of its own.
    pub(crate) fn told(&self) -> String {
        told(self, self.hint.as_ref())
    }

    pub(crate) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn hint_if(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected { expected, got } => write!(f, "expected {expected}, got {got}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "`{key}`: ")?;
        }
        write!(f, "{}", self.problem)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some((line, column))) => write!(f, "{}:{line}:{column}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Option(option) => write!(f, "`{option}`"),
        }
    }
}

/// A problem, and what mends it on a line of its own: how the program prints both.
pub(crate) fn told(problem: impl fmt::Display, hint: Option<impl fmt::Display>) -> String {
    match hint {
        Some(hint) => format!("{problem}\n  hint: {hint}"),
        None => problem.to_string(),
    }
}

/// `did you mean …` where one of `choices` is close to `word`, else the list of them.
pub(crate) fn suggest<S: AsRef<str>>(word: &str, choices: impl IntoIterator<Item = S>) -> Option<String> {
    suggest_or(word, choices, || None)
}

/// As [`suggest`], with something else before the list.
pub(crate) fn suggest_or<S: AsRef<str>>(
    word: &str,
    choices: impl IntoIterator<Item = S>,
    otherwise: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let choices: Vec<String> = choices.into_iter().map(|c| c.as_ref().to_owned()).collect();
    let word = word.to_lowercase();
    // Slips of the finger, or a common beginning (`warmup` for `warmup_epochs`).
    let likeness = |choice: &String| {
        let slips = strsim::osa_distance(&word, &choice.to_lowercase());
        let slip = if slips <= (word.chars().count() / 3).max(1) { 1.0 - 0.01 * slips as f64 } else { 0.0 };
        strsim::jaro_winkler(&word, &choice.to_lowercase()).max(slip)
    };
    let best = choices.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    if likeness(best) > 0.82 {
        return Some(format!("did you mean `{best}`?"));
    }
    let all = || format!("{} {}", if choices.len() == 1 { "there is only" } else { "choose from" }, list(&choices));
    Some(otherwise().unwrap_or_else(all))
}

/// `` `a`, `b`, `c` ``
pub(crate) fn list<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> String {
    words.into_iter().map(|w| format!("`{}`", w.as_ref())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_place_key_and_problem_and_has_its_hint_apart() {
        let fault = Fault {
            place: Place::File("a.yaml".into(), Some((3, 7))),
            key: Some("train.epochs".into()),
            problem: Problem::Expected { expected: "a whole number".into(), got: "`many`".into() },
            hint: Some("say `10`".into()),
        };
        let text = "a.yaml:3:7: `train.epochs`: expected a whole number, got `many`";
        assert_eq!(fault.to_string(), text);
        let told = format!("{text}\n  hint: say `10`");
        assert_eq!(fault.told(), told);
        let error = Error::from(fault);
        assert_eq!((error.exit_code(), error.told(), error.hint()), (2, told, Some("say `10`".into())));
    }

    /// Of every crate, and with what the system said before the hint, not behind it.
    #[test]
    fn an_error_of_another_crate_keeps_its_hint() {
        let data: Error = np_data::Error::NotEmbedded { name: np_data::DataName::Cifar10 }.into();
        let text = "`cifar10`: expected the source `full`, found `mini`\n  hint: this set is not embedded; \
                    read it from a folder with `source: full`";
        assert_eq!(data.told(), text);
        let model: Error = np_models::Error::Unrecorded { what: "a model".into() }.into();
        assert_eq!(
            model.told(),
            "a model keeps no records of its layers, got a recorder\n  hint: `Mlp` keeps them, on a CPU in `f32` and `f64`"
        );
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let record = np_record::StoreError::Io { action: "write", path: "a.json".into(), source: full() };
        // As a task's error too, which is any error.
        let boxed: Box<dyn std::error::Error + Send + Sync> = Box::new(record);
        let text = format!(
            "cannot write `a.json`: {}\n  hint: make room and give the same command again; what is written stays",
            full()
        );
        assert_eq!(Error::from(boxed).told(), text);
        let read: Error = np_data::Error::Io { path: "a".into(), source: full() }.into();
        assert_eq!(read.told(), format!("`a`: could not be read: {}", full()));
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_lists_the_choices() {
        assert_eq!(suggest("fashoin-mnist", ["mnist", "fashion-mnist"]).unwrap(), "did you mean `fashion-mnist`?");
        assert_eq!(suggest("zebra", ["mnist", "cifar"]).unwrap(), "choose from `mnist`, `cifar`");
        assert_eq!(suggest("x", Vec::<&str>::new()), None);
    }
}
