//! Transfers files from a store to an archive and back. Each file is checked as if it were read from the store, and copied unchanged.

use std::path::{Path, PathBuf};

use super::archive::Part;
use super::error::{Kind, StoreError};
use super::packing::io_of;
use super::{Result, Store};
use crate::{Plan, PlannedRun, Record, write_atomic};

/// What a store did with a file of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It was added.
    New,
    /// The store has it already, or an equivalent one.
    Known,
    /// The store has a different one of the same name, which stays.
    Other,
}

impl Store {
    /// The bytes of the plan of `experiment`, for an archive; `None` if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::read_plan`].
    pub fn give_plan(&self, experiment: &str) -> Result<Option<Vec<u8>>> {
        let Some((path, bytes)) = self.read(Kind::Plan, experiment)? else { return Ok(None) };
        self.plan_of(path, experiment, &bytes)?;
        Ok(Some(bytes))
    }

    /// The bytes of the record of a run that is done ([`Record::is_done`]), loose or packed, for an archive; `None` if there is none.
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

    /// The loose record of run `id` and its bytes; `None` if there is none, even if there is a packed one.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn give_loose(&self, id: &str) -> Result<Option<(Record, Vec<u8>)>> {
        let Some((path, bytes)) = self.loose(Kind::Record, id)? else { return Ok(None) };
        Ok(Some((self.record_in(path, id, &bytes)?, bytes)))
    }

    /// The plan of `experiment` in the file `bytes` of `archive`, checked as a plan of this store. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Store::read_plan`].
    pub fn check_plan(&self, archive: &Path, experiment: &str, bytes: &[u8]) -> Result<Plan> {
        self.plan_of(archive.join(Part::Plan.place(experiment)), experiment, bytes)
    }

    /// The record of run `id` in the file `bytes` of `archive`, checked as a record of this store. Nothing is written.
    ///
    /// # Errors
    ///
    /// As [`Store::read_record`].
    pub fn check_record(&self, archive: &Path, id: &str, bytes: &[u8]) -> Result<Record> {
        self.record_in(archive.join(Part::Record.place(id)), id, bytes)
    }

    /// Adds the plan of `experiment` from `archive`, unless the store has a plan of this name.
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

    /// Adds the record of run `id` from `archive`, unless the store has a record of this run. The record of a run that is done replaces that of a failed run.
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
