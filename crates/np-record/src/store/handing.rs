//! What a store gives into an archive, and takes from one: files as they are, each checked as one that is read, whichever way it goes.

use std::path::{Path, PathBuf};

use super::archive::Part;
use super::error::{Kind, StoreError};
use super::packing::io_of;
use super::{Result, Store};
use crate::{Plan, PlannedRun, Record, write_atomic};

/// What became of a file that was handed to a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is there now.
    New,
    /// The store has it, or something that says as much.
    Known,
    /// The store has another of that name, which stays.
    Other,
}

impl Store {
    /// The bytes of the plan of `experiment`, to be handed on; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::read_plan`].
    pub fn give_plan(&self, experiment: &str) -> Result<Option<Vec<u8>>> {
        let Some((path, bytes)) = self.read(Kind::Plan, experiment)? else { return Ok(None) };
        self.plan_of(path, experiment, &bytes)?;
        Ok(Some(bytes))
    }

    /// The bytes of the record of a run that is done, loose or packed, to be handed on; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::record_of`].
    pub fn give_done(&self, run: &PlannedRun) -> Result<Option<Vec<u8>>> {
        if !self.record_of(run)?.is_some_and(|record| record.is_done()) {
            return Ok(None);
        }
        if let Some((record, bytes)) = self.give_loose(&run.id)?
            && record.is_done()
        {
            return Ok(Some(bytes));
        }
        Ok(self.packs.read(self.root(), Kind::Record, &run.id)?.map(|(_, bytes)| bytes))
    }

    /// The loose record of run `id` and its bytes, whatever is packed; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn give_loose(&self, id: &str) -> Result<Option<(Record, Vec<u8>)>> {
        let Some((path, bytes)) = self.loose(Kind::Record, id)? else { return Ok(None) };
        Ok(Some((self.record_in(path, id, &bytes)?, bytes)))
    }

    /// The plan of `experiment` that a file of `archive` holds, checked as one of this store; nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Store::read_plan`].
    pub fn check_plan(&self, archive: &Path, experiment: &str, bytes: &[u8]) -> Result<Plan> {
        self.plan_of(archive.join(Part::Plan.place(experiment)), experiment, bytes)
    }

    /// The record of run `id` that a file of `archive` holds, checked as one of this store; nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn check_record(&self, archive: &Path, id: &str, bytes: &[u8]) -> Result<Record> {
        self.record_in(archive.join(Part::Record.place(id)), id, bytes)
    }

    /// Takes a plan of `archive`, unless there is one of its name.
    ///
    /// # Errors
    ///
    /// As [`Store::check_plan`], and those of reading and writing the store.
    pub fn take_plan(&self, archive: &Path, experiment: &str, bytes: &[u8]) -> Result<Taken> {
        let plan = self.check_plan(archive, experiment, bytes)?;
        match self.read_plan(experiment)? {
            Some(own) if own.agrees_with(&plan) => Ok(Taken::Known),
            Some(_) => Ok(Taken::Other),
            None => self.put(Kind::Plan, experiment, bytes),
        }
    }

    /// Takes a record of `archive`, unless the store has that run's. One of a run that is done goes before one of a run that failed.
    ///
    /// # Errors
    ///
    /// As [`Store::check_record`], and those of reading and writing the store; [`StoreError::Conflict`] if the store has other results of the run.
    pub fn take_record(&self, archive: &Path, id: &str, bytes: &[u8]) -> Result<Taken> {
        let record = self.check_record(archive, id, bytes)?;
        match self.read_record(id)? {
            Some(own) if own.is_done() && record.is_done() && own.result_sha256 != record.result_sha256 => {
                let other: PathBuf = match self.read(Kind::Record, id)? {
                    Some((path, _)) => path,
                    None => self.record_path(id)?,
                };
                Err(StoreError::Conflict { path: archive.join(Part::Record.place(id)), other, id: id.into() })
            }
            Some(own) if own.is_done() || !record.is_done() => Ok(Taken::Known),
            _ => self.put(Kind::Record, id, bytes),
        }
    }

    fn put(&self, kind: Kind, name: &str, bytes: &[u8]) -> Result<Taken> {
        let path = self.path(kind, name)?;
        write_atomic(&path, bytes).map_err(io_of("write", &path))?;
        Ok(Taken::New)
    }
}
