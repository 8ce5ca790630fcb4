//! Keeps a run's latest snapshots in the store: when they are due, in two generations, and what to do about a damaged one.
//!
//! `snapshots/ID.snapshot` is the latest, `ID.snapshot.before` the one before it. Both go when the run has its record. Whoever writes here
//! holds the run's [lock](crate::lock).

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use np_record::{Epoch, Gpu, Store, read_regular, write_atomic};

use crate::{
    error::{Error, Result},
    lock::Lock,
    snapshot::{Snapshot, State},
};

/// How often a snapshot is written, at the end of an epoch; and always when a run is asked to stop. No part of a run's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Once so much time has passed.
    Time(Duration),
    /// After so many epochs.
    Epochs(u32),
    /// Not at all.
    Never,
}

impl Default for Every {
    /// A minute: little to lose, and little time spent on it.
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

impl fmt::Display for Every {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
            Self::Epochs(1) => f.write_str("1epoch"),
            Self::Epochs(n) => write!(f, "{n}epochs"),
            Self::Never => f.write_str("never"),
        }
    }
}

impl FromStr for Every {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("expected `90s`, `5min`, `2epochs` or `never`, got `{text}`");
        let word = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let number = || text[..text.len() - word.len()].parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(bad);
        let seconds = |n: u32| Self::Time(Duration::from_secs(u64::from(n)));
        match word.trim() {
            "s" => Ok(seconds(number()?)),
            "min" => Ok(seconds(number()?.saturating_mul(60))),
            "epoch" | "epochs" => Ok(Self::Epochs(number()?)),
            "never" if text.trim() == "never" => Ok(Self::Never),
            _ => Err(bad()),
        }
    }
}

/// Removes what a crash has left of the runs with these ids, which have their records: snapshots, and files of locks that nobody holds. What
/// cannot be removed harms nobody.
pub(crate) fn clear(store: &Store, ids: impl IntoIterator<Item = impl AsRef<str>>) {
    let names = |folder: &str| -> BTreeSet<String> {
        let entries = fs::read_dir(store.root().join(folder)).into_iter().flatten().flatten();
        // `ID.lock`, `ID.snapshot…`, `.ID.snapshot…tmp`
        let id = |name: String| name.trim_start_matches('.').split('.').next().unwrap_or_default().to_owned();
        entries.map(|entry| id(entry.file_name().to_string_lossy().into_owned())).collect()
    };
    let (locks, snapshots) = (names("locks"), names("snapshots"));
    for id in ids {
        let id = id.as_ref();
        if snapshots.contains(id) {
            Keeper::new(store, id, Every::Never).remove();
        }
        if locks.contains(id) {
            drop(Lock::take(store, id));
        }
    }
}

/// Keeps the snapshots of one run.
#[derive(Debug)]
pub(crate) struct Keeper {
    folder: PathBuf,
    id: String,
    every: Every,
    /// When the latest was written, or the run began.
    written: Instant,
    /// Epochs of that.
    epochs: usize,
    /// Epochs that were complete when the process started.
    began: usize,
    /// The end of the last epoch, while it is not written.
    pending: Option<Snapshot>,
    /// Whether writing has failed: it is tried again, and not told again.
    failing: bool,
    /// See [`np_record::Provenance::arithmetic`].
    pub(crate) arithmetic: Vec<String>,
    /// The GPU that the run is trained on.
    pub(crate) gpu: Option<Gpu>,
}

impl Keeper {
    /// Epochs in the latest snapshot of run `id` that seems whole, without reading all of it.
    pub(crate) fn kept(store: &Store, id: &str) -> Option<usize> {
        Self::kept_epochs(store, id).map(|epochs| epochs.len())
    }

    /// The metrics of those epochs.
    pub(crate) fn kept_epochs(store: &Store, id: &str) -> Option<Vec<Epoch>> {
        let keeper = Self::new(store, id, Every::Never);
        ["", ".before"].into_iter().find_map(|suffix| Snapshot::peek(&keeper.path(suffix), id))
    }

    /// A keeper for run `id`.
    pub(crate) fn new(store: &Store, id: &str, every: Every) -> Self {
        let folder = store.root().join("snapshots");
        Self {
            folder,
            id: id.to_owned(),
            every,
            written: Instant::now(),
            epochs: 0,
            began: 0,
            pending: None,
            failing: false,
            arithmetic: Vec::new(),
            gpu: None,
        }
    }

    /// Where its snapshot of this generation is or would be.
    pub(crate) fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.snapshot{suffix}", self.id))
    }

    /// The latest snapshot that is whole. One that is not is set aside, and `say` told.
    pub(crate) fn latest(&mut self, say: &mut dyn FnMut(String) -> Result<()>) -> Result<Option<Snapshot>> {
        // One that was refused since counts for nothing.
        (self.epochs, self.began) = (0, 0);
        for suffix in ["", ".before"] {
            let path = self.path(suffix);
            let bytes = match read_regular(&path) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => {
                    self.set_aside(&path, &Error::Snapshot("it is no regular file".into()), say)?;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    say(format!("a snapshot cannot be read: {}", Error::io(path)(error)))?;
                    continue;
                }
            };
            match Snapshot::from_bytes(&bytes, &self.id) {
                Ok(snapshot) => {
                    (self.epochs, self.began) = (snapshot.epochs(), snapshot.epochs());
                    return Ok(Some(snapshot));
                }
                Err(error) => self.set_aside(&path, &error, say)?,
            }
        }
        Ok(None)
    }

    /// Sets the latest snapshot aside: it is whole, and cannot be gone on from.
    pub(crate) fn refuse(&mut self, why: &Error, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let paths = ["", ".before"].map(|suffix| self.path(suffix));
        match paths.iter().find(|path| path.exists()) {
            Some(path) => self.set_aside(path, why, say),
            None => Ok(()),
        }
    }

    fn set_aside(&self, path: &Path, why: &Error, say: &mut dyn FnMut(String) -> Result<()>) -> Result<()> {
        let free = (1..).map(|n| self.path(&format!(".damaged-{n}"))).find(|path| !path.exists());
        let aside = free.unwrap_or_else(|| self.path(".damaged"));
        fs::rename(path, &aside).map_err(Error::io(path))?;
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say(format!("snapshot `{}` is damaged, and set aside as `{}`: {why}", name(path), name(&aside)))
    }

    /// An epoch is complete: a snapshot is taken, and written if one is due.
    ///
    /// # Errors
    /// The first time that it cannot be written, why not. The training can go on.
    pub(crate) fn epoch(&mut self, state: &State<'_>) -> Result<()> {
        if self.every == Every::Never {
            return Ok(());
        }
        let mut snapshot = state.snapshot(&self.id)?;
        snapshot.progress.arithmetic.clone_from(&self.arithmetic);
        snapshot.progress.gpu.clone_from(&self.gpu);
        let due = match self.every {
            Every::Time(time) => self.written.elapsed() >= time,
            Every::Epochs(n) => snapshot.epochs().saturating_sub(self.epochs) >= n as usize,
            Every::Never => false,
        };
        self.pending = Some(snapshot);
        if !due {
            return Ok(());
        }
        let first = !self.failing;
        match self.write() {
            Err(error) if first => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the end of the last epoch, if it is not written; the one written before it is kept.
    pub(crate) fn write(&mut self) -> Result<()> {
        let Some(snapshot) = &self.pending else { return Ok(()) };
        self.failing = true;
        let (path, before) = (self.path(""), self.path(".before"));
        match fs::rename(&path, &before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(path)(error)),
            _ => {}
        }
        write_atomic(&path, &snapshot.to_bytes()?).map_err(Error::io(path))?;
        (self.written, self.epochs) = (Instant::now(), snapshot.epochs());
        (self.pending, self.failing) = (None, false);
        Ok(())
    }

    /// Whether a later epoch is written than there was when the process started.
    pub(crate) fn has_gained(&self) -> bool {
        self.epochs > self.began
    }

    /// Removes the run's snapshots, and what a crash while writing has left. Those set aside stay, for whoever wonders.
    pub(crate) fn remove(&self) {
        for suffix in ["", ".before"] {
            let _ = fs::remove_file(self.path(suffix));
        }
        let temporary = format!(".{}.snapshot", self.id);
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&temporary) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_runs_that_are_done_are_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let done =
            ["locks/a.lock", "snapshots/a.snapshot", "snapshots/a.snapshot.before", "snapshots/.a.snapshot.1-0.tmp"];
        let stay = ["locks/b.lock", "snapshots/b.snapshot", "snapshots/a.snapshot.damaged-1"];
        for name in done.iter().chain(&stay) {
            write_atomic(&dir.path().join(name), b"").unwrap();
        }
        clear(&store, ["a", "c"]);
        assert!(done.iter().all(|name| !dir.path().join(name).exists()));
        assert!(stay.iter().all(|name| dir.path().join(name).exists()));
    }

    #[test]
    fn intervals_are_read_as_written() {
        for (text, every) in [
            ("90s", Every::Time(Duration::from_secs(90))),
            ("5min", Every::Time(Duration::from_secs(300))),
            ("1epoch", Every::Epochs(1)),
            ("20 epochs", Every::Epochs(20)),
            ("never", Every::Never),
        ] {
            assert_eq!(text.parse(), Ok(every));
            assert_eq!(every.to_string().parse(), Ok(every));
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5min", "3never", "2 hours", "99999999999s"] {
            assert!(text.parse::<Every>().unwrap_err().contains("expected `90s`"), "{text}");
        }
    }
}
