//! Snapshots on their way from one store to another.

use std::{fs, io};

use np_record::{Store, Taken, read_regular, write_atomic};

use crate::{
    error::{Error, Result},
    keeper::{Every, Keeper},
    lock::Lock,
    snapshot::Snapshot,
};

/// A run in the middle.
#[derive(Debug)]
pub(super) struct Kept {
    /// Completed epochs.
    pub(super) epochs: usize,
    /// The snapshot's file.
    pub(super) bytes: Vec<u8>,
}

/// The latest snapshot of run `id` that is whole.
pub(super) fn latest(store: &Store, id: &str) -> Option<Kept> {
    let keeper = Keeper::new(store, id, Every::Never);
    ["", ".before"].into_iter().find_map(|suffix| {
        let bytes = read_regular(&keeper.path(suffix)).ok()??;
        let epochs = Snapshot::from_bytes(&bytes, id).ok()?.epochs();
        Some(Kept { epochs, bytes })
    })
}

/// Puts the snapshot of run `id` where `np run` finds it, unless the store's own is as far; that one is then the earlier generation.
///
/// # Errors
/// [`Error::Snapshot`] if it is none, or the run is under way here; what the system says.
pub(super) fn take(store: &Store, id: &str, bytes: &[u8]) -> Result<Taken> {
    let epochs = Snapshot::from_bytes(bytes, id)?.epochs();
    let Some(_lock) = Lock::take_patiently(store, id)? else {
        return Err(Error::Snapshot("the run is being trained here".into()));
    };
    if latest(store, id).is_some_and(|own| own.epochs >= epochs) {
        return Ok(Taken::Known);
    }
    let keeper = Keeper::new(store, id, Every::Never);
    let path = keeper.path("");
    match fs::rename(&path, keeper.path(".before")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io(path)(error)),
        _ => {}
    }
    write_atomic(&path, bytes).map_err(Error::io(&path))?;
    Ok(Taken::New)
}
