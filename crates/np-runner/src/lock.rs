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
    /// Why nobody is kept out, where the file system has no locks.
    none: Option<String>,
}

/// Whether a file system has no locks, by what it says to one who wants a lock: not every one says so in the same words.
fn is_without_locks(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        return [libc::ENOSYS, libc::ENOLCK, libc::ENOTSUP, libc::EOPNOTSUPP].contains(&code);
    }
    error.kind() == io::ErrorKind::Unsupported
}

/// Opens a run's lock file, which is made if need be; a link in its place is an error, and not followed, nor is a pipe waited for.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opened = options.open(path);
    match fs::symlink_metadata(path) {
        Ok(about) if !about.is_file() => Err(io::Error::other("it is no regular file, remove it")),
        _ => opened,
    }
}

impl Lock {
    /// Takes the lock of run `id`; `None` if another process has it.
    pub(crate) fn take(store: &Store, id: &str) -> Result<Option<Self>> {
        Self::take_by(store, id, File::try_lock)
    }

    fn take_by(store: &Store, id: &str, lock: impl Fn(&File) -> Result<(), TryLockError>) -> Result<Option<Self>> {
        let folder = store.root().join("locks");
        let path = folder.join(format!("{id}.lock"));
        fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        loop {
            let file = open(&path).map_err(Error::io(&path))?;
            let none = match lock(&file) {
                Ok(()) => None,
                Err(TryLockError::WouldBlock) => return Ok(None),
                // A file system without locks: better a run trained twice than none at all.
                Err(TryLockError::Error(error)) if is_without_locks(&error) => Some(error.to_string()),
                Err(TryLockError::Error(error)) => return Err(Error::io(&path)(error)),
            };
            // Between opening and locking, its last holder may have removed the file: then this lock is of nothing that others see.
            if is_at(&file, &path) {
                return Ok(Some(Self { path, _file: file, none }));
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

    /// Says that it keeps nobody out, where the file system has no locks.
    pub(crate) fn missing(&self) -> Option<String> {
        let (why, folder) = (self.none.as_ref()?, self.path.parent()?.display());
        Some(format!(
            "the file system of `{folder}` has no locks ({why}): two `np run` at a time may train one run twice"
        ))
    }

    /// Whether another process has the lock of run `id`. Nothing is written, so that a store which is only to be read can be asked.
    pub(crate) fn is_held(store: &Store, id: &str) -> Result<bool> {
        let path = store.root().join("locks").join(format!("{id}.lock"));
        // What is no file is nobody's lock, and a pipe would be waited for.
        if fs::symlink_metadata(&path).is_ok_and(|about| !about.is_file()) {
            return Ok(false);
        }
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

    #[cfg(unix)]
    #[test]
    fn a_file_system_without_locks_is_gone_on_with_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for code in [libc::ENOLCK, libc::ENOSYS, libc::ENOTSUP, libc::EOPNOTSUPP] {
            let refuse = |_: &File| Err(TryLockError::Error(io::Error::from_raw_os_error(code)));
            let lock = Lock::take_by(&store, "a", refuse).unwrap().unwrap();
            let text = lock.missing().unwrap();
            assert!(text.contains("has no locks (") && text.contains("may train one run twice"), "{text}");
        }
        let refuse = |_: &File| Err(TryLockError::Error(io::Error::from_raw_os_error(libc::EIO)));
        assert!(Lock::take_by(&store, "a", refuse).is_err(), "a disk that fails is another matter");
        assert_eq!(Lock::take(&store, "a").unwrap().unwrap().missing(), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_a_lock_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let victim = dir.path().join("victim");
        fs::create_dir(dir.path().join("locks")).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("locks/a.lock")).unwrap();
        assert!(Lock::take(&store, "a").is_err());
        assert!(!victim.exists(), "nothing is made where the link leads");
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_the_place_of_a_lock_is_named_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let path = dir.path().join("locks/a.lock");
        fs::create_dir(dir.path().join("locks")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let said = Lock::take(&store, "a").unwrap_err().to_string();
        assert!(said.contains("a.lock") && said.contains("it is no regular file, remove it"), "{said}");
        assert!(!Lock::is_held(&store, "a").unwrap());
        // Somebody who listens makes it no lock.
        let _reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert!(Lock::take(&store, "a").is_err());
        assert!(path.exists());
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
