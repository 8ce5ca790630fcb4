//! One trainer a run: an advisory lock of the operating system on a file of the run's own.
//!
//! The kernel lets go of it when its process ends, however it ends, so that no crash leaves a run locked. The file itself, `locks/ID.lock` in
//! the store, is removed by whoever holds the lock; left behind by a crash, it harms nobody.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use np_record::Store;

use crate::error::{Error, Result};

/// How often a lock is tried for again, and how long after.
const PATIENCE: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The right to train a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Takes the lock of run `id`; `None` if another process has it.
    pub(crate) fn take(store: &Store, id: &str) -> Result<Option<Self>> {
        let folder = store.root().join("locks");
        let path = folder.join(format!("{id}.lock"));
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        loop {
            let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks: better a run trained twice than none at all.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            }
            // Between opening and locking, its last holder may have removed the file: then this lock is of nothing that others see.
            if is_at(&file, &path) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }

    /// Takes the lock of run `id`, even if somebody [looks](Self::is_held) at it just now; `None` if another process has it for longer.
    pub(crate) fn take_patiently(store: &Store, id: &str) -> Result<Option<Self>> {
        for _ in 0..PATIENCE {
            if let Some(lock) = Self::take(store, id)? {
                return Ok(Some(lock));
            }
            thread::sleep(PAUSE);
        }
        Self::take(store, id)
    }

    /// Whether another process has the lock of run `id`. Nothing is written, so that a store which is only to be read can be asked.
    pub(crate) fn is_held(store: &Store, id: &str) -> Result<bool> {
        let path = store.root().join("locks").join(format!("{id}.lock"));
        match File::open(&path) {
            Ok(file) => Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(&path)(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Before the file is closed, and the lock with it.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(theirs)) => identity(ours) == identity(theirs),
        _ => false,
    }
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_a_file_left_behind_locks_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = dir.path().join("locks/a.lock");
        let first = Lock::take(&store, "a").unwrap().unwrap();
        assert!(Lock::take(&store, "a").unwrap().is_none() && Lock::is_held(&store, "a").unwrap());
        assert!(!Lock::is_held(&store, "b").unwrap(), "a lock is of one run");
        drop(first);
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(!Lock::is_held(&store, "a").unwrap());
        assert!(path.exists(), "to look changes nothing");
    }

    #[test]
    fn threads_that_take_and_remove_never_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        let taken: usize = std::thread::scope(|scope| {
            let contend = || {
                let mut taken = 0;
                for _ in 0..300 {
                    if let Some(lock) = Lock::take(&store, "a").unwrap() {
                        assert_eq!(inside.fetch_add(1, order), 0, "two inside");
                        taken += 1;
                        inside.fetch_sub(1, order);
                        drop(lock);
                    }
                }
                taken
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(contend)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken > 0);
    }
}
