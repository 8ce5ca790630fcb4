//! The data that a folder takes along: the sets that its runs need, as they are in the data folder.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use np_data::{DataName, Source, files_of, folder_of, parquet_of};
use np_record::{Plan, write_atomic};

use super::{DATA, PARQUET};
use crate::{
    error::{Error, Fault, Place, Result},
    planning::of_stored_runs,
};

/// How a set travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As the files that training reads.
    Files,
    /// As parquet files, of which those are made on the spot.
    Parquet,
}

/// A data set that travels.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) name: DataName,
    pub(super) form: Form,
    /// Its files, and where each of them comes to in the set's folder.
    files: Vec<(PathBuf, PathBuf)>,
    /// Bytes of all of them.
    pub(super) bytes: u64,
}

/// The published sets that a plan's runs are trained on.
pub(super) fn needed(plan: &Plan) -> impl Iterator<Item = DataName> {
    let data = of_stored_runs(plan).filter_map(|(task, _)| Some(task.as_images()?.data.clone()));
    data.filter(|data| data.source == Source::Full).map(|data| data.name)
}

/// A file of a task of the program's own, in the data folder.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OwnFile {
    /// Where it is in the data folder.
    pub(super) inside: PathBuf,
    from: PathBuf,
    /// How large it is.
    pub(super) bytes: u64,
}

/// The files that the tasks of a plan read.
///
/// # Errors
/// A fault if one is not there, or not in the folder.
pub(super) fn own_files(plan: &Plan, data_dir: Option<&Path>) -> Result<Vec<OwnFile>> {
    let files = of_stored_runs(plan).flat_map(|(task, _)| task.chosen().files());
    let file = |inside: PathBuf| {
        let fault = |text: &str| Fault::new(Place::File(inside.clone(), None), text);
        if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(fault("not a file in the data folder").into());
        }
        let Some(root) = data_dir else {
            return Err(fault("in no data folder").hint("name it with `--data-dir`").into());
        };
        let from = root.join(&inside);
        let bytes = fs::metadata(&from).map_err(Error::io(&from))?.len();
        Ok(OwnFile { inside, from, bytes })
    };
    files.map(file).collect()
}

impl OwnFile {
    /// Brings it into a folder to be taken along.
    pub(super) fn bring(&self, bundle: &Path) -> Result<()> {
        let bytes = fs::read(&self.from).map_err(Error::io(&self.from))?;
        let to = bundle.join(DATA).join(&self.inside);
        write_atomic(&to, &bytes).map_err(Error::io(&to))
    }
}

/// Looks for a set in a data folder. Parquet files go before larger ones, and are of use only to a program that `imports` them.
///
/// # Errors
/// Those of np-data if it is not there; a fault if it is there in a form that cannot be used.
pub(super) fn find(name: DataName, data_dir: Option<&Path>, imports: bool) -> Result<Set> {
    let root = data_dir.ok_or(np_data::Error::NoFolder { name })?;
    let folder = folder_of(name, root);
    let set = |form, files: Vec<PathBuf>| -> Result<Set> {
        let mut bytes = 0;
        for file in &files {
            bytes += fs::metadata(file).map_err(Error::io(file))?.len();
        }
        let place = |file: PathBuf| {
            let inside = file.strip_prefix(&folder).unwrap_or(&file).to_owned();
            (file, inside)
        };
        Ok(Set { name, form, files: files.into_iter().map(place).collect(), bytes })
    };
    let files = files_of(name, root).map_err(Error::from).and_then(|files| set(Form::Files, files));
    let Some(parquet) = parquet_of(name, root) else { return files };
    let parquet = set(Form::Parquet, parquet)?;
    match files {
        Ok(files) if files.bytes <= parquet.bytes || !imports => Ok(files),
        Err(_) if !imports => {
            let text =
                format!("`{name}` is there as parquet files, which an `np` without the feature `hub` cannot read");
            let hint = format!(
                "build it with `--features hub`, also the one that `--program` names; or make the set of them: `np data import {}`",
                folder.display()
            );
            Err(Fault::new(Place::File(folder, None), text).hint(hint).into())
        }
        _ => Ok(parquet),
    }
}

impl Set {
    /// Brings the set into a folder to be taken along, and to where plans find it; one that is imported there leaves with [`Set::leave`].
    pub(super) fn bring(&self, bundle: &Path) -> Result<()> {
        let root = bundle.join(if self.form == Form::Files { DATA } else { PARQUET }).join(self.name.as_str());
        for (from, to) in &self.files {
            let bytes = fs::read(from).map_err(Error::io(from))?;
            let to = root.join(to);
            write_atomic(&to, &bytes).map_err(Error::io(&to))?;
        }
        if self.form == Form::Parquet {
            import(self.name, bundle)?;
        }
        Ok(())
    }

    /// Removes what an import has made: it is made again where it is needed.
    pub(super) fn leave(&self, bundle: &Path) -> Result<()> {
        let made = bundle.join(DATA).join(self.name.as_str());
        match self.form {
            Form::Files => Ok(()),
            Form::Parquet => fs::remove_dir_all(&made).map_err(Error::io(&made)),
        }
    }
}

/// Makes a set of the parquet files that a folder has brought.
#[cfg(feature = "hub")]
pub(super) fn import(name: DataName, bundle: &Path) -> Result<()> {
    Ok(np_data::hub::import(name, &bundle.join(PARQUET).join(name.as_str()), &bundle.join(DATA)).map(drop)?)
}

/// As with the feature `hub`, which this program lacks.
#[cfg(not(feature = "hub"))]
pub(super) fn import(name: DataName, bundle: &Path) -> Result<()> {
    let from = bundle.join(PARQUET).join(name.as_str());
    let fault = Fault::new(Place::File(from, None), "this `np` was built without the reader of parquet files");
    Err(fault.hint("build it with `--features hub`").into())
}

/// Whether this program can do that.
pub(super) const IMPORTS: bool = cfg!(feature = "hub");
