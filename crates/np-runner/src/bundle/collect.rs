//! Bringing archives home: all of them are read and checked before anything is written, so that one that is damaged leaves the store as it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use np_record::{Archive, Kind, Part, Plan, Store, Taken, can_name};

use super::kept;
use crate::{
    error::{Error, Result},
    keeper::clear,
    rebuild,
    snapshot::Snapshot,
    worker::first_line,
};

/// What became of an archive.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Collection {
    /// The file.
    pub path: PathBuf,
    /// What is in the store now and was not: plans, records, snapshots.
    pub new: [usize; 3],
    /// What the store had already, or was further with.
    pub known: [usize; 3],
    /// What was not taken, each with the reason.
    pub refused: Vec<String>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// An archive that was read to its end.
struct Sound {
    archive: Archive,
    plans: BTreeMap<String, Plan>,
    /// Of the records that are sound, the digest of their results; none of a run that failed.
    records: BTreeMap<String, Option<String>>,
    snapshots: BTreeSet<String>,
    refused: Vec<String>,
}

/// The plans that an archive holds, by name; those that are refused are left out.
///
/// # Errors
/// If it is damaged.
pub(crate) fn plans(archive: &Archive, store: &Store) -> Result<(BTreeMap<String, Plan>, Vec<String>)> {
    let (mut plans, mut refused) = (BTreeMap::new(), Vec::new());
    for (_, name) in archive.files().filter(|(part, _)| *part == Part::Plan) {
        let bytes = archive.read(Part::Plan, name)?;
        let checked = store.check_plan(archive.path(), name, &bytes).map_err(Error::from);
        let place = archive.path().join(Part::Plan.place(name));
        match checked.and_then(|plan| rebuild::check(&plan, &place).map(|()| plan)) {
            // It will be a folder's name.
            Ok(plan) if !can_name(&plan.scale) => {
                refused.push(format!("`{}`: `{}` cannot be a scale", place.display(), plan.scale));
            }
            Ok(plan) => drop(plans.insert(name.to_owned(), plan)),
            Err(error) => refused.push(first_line(&error.to_string()).to_owned()),
        }
    }
    Ok((plans, refused))
}

impl Sound {
    /// Reads all of an archive. What is not sound in itself is refused; what is not what the index says makes the archive a damaged one.
    fn read(archive: Archive, store: &Store) -> Result<Self> {
        let (plans, refused) = plans(&archive, store)?;
        let mut sound = Self { archive, plans, records: BTreeMap::new(), snapshots: BTreeSet::new(), refused };
        let planned: BTreeSet<String> =
            sound.plans.values().flat_map(|plan| plan.runs.iter().map(|run| run.id.clone())).collect();
        for (part, name) in sound.archive.files().filter(|(part, _)| *part != Part::Plan) {
            let bytes = sound.archive.read(part, name)?;
            let place = sound.archive.path().join(part.place(name));
            if !planned.contains(name) {
                sound.refused.push(format!("`{}` is of no run of the plans that came with it", place.display()));
                continue;
            }
            let refusal = match part {
                Part::Record => match store.check_record(sound.archive.path(), name, &bytes) {
                    Ok(record) => {
                        let result = record.is_done().then_some(record.result_sha256);
                        sound.records.insert(name.to_owned(), result);
                        continue;
                    }
                    Err(error) => first_line(&error.to_string()).to_owned(),
                },
                _ => match Snapshot::from_bytes(&bytes, name) {
                    Ok(_) => {
                        sound.snapshots.insert(name.to_owned());
                        continue;
                    }
                    Err(error) => format!("`{}` is no snapshot: {error}", place.display()),
                },
            };
            sound.refused.push(refusal);
        }
        Ok(sound)
    }
}

/// Brings what archives hold into a store: plans, unless it has one of that name; records that pass the checks of any record, unless it has the run's; and snapshots,
/// unless it is as far. What is refused keeps the rest from nothing. To do it again changes nothing.
///
/// # Errors
/// [`np_record::StoreError::NoArchive`] if one is damaged: then nothing is written, of none of them. What the system says.
pub fn collect(archives: &[PathBuf], store: &Store) -> Result<Vec<Collection>> {
    let read = |path: &PathBuf| Sound::read(Archive::open(path)?, store);
    let mut sounds = archives.iter().map(read).collect::<Result<Vec<Sound>>>()?;
    disagreements(&mut sounds);
    sounds.into_iter().map(|sound| bring(sound, store)).collect()
}

/// Refuses the records of runs that two archives have different results of: nobody can tell which of them is right.
fn disagreements(sounds: &mut [Sound]) {
    let mut first: BTreeMap<String, (String, usize)> = BTreeMap::new();
    let mut apart: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for (at, sound) in sounds.iter().enumerate() {
        for (id, result) in sound.records.iter().filter_map(|(id, result)| Some((id, result.as_ref()?))) {
            match first.get(id) {
                Some((other, earlier)) if other != result => drop(apart.insert(id.clone(), [*earlier, at])),
                Some(_) => {}
                None => drop(first.insert(id.clone(), (result.clone(), at))),
            }
        }
    }
    for (id, both) in apart {
        let [one, other] = both.map(|at| sounds[at].archive.path().display().to_string());
        for sound in sounds.iter_mut().filter(|sound| sound.records.get(&id).is_some_and(Option::is_some)) {
            sound.records.remove(&id);
            sound.refused.push(format!("`{one}` and `{other}` have different results of the run `{id}`"));
        }
    }
}

fn bring(sound: Sound, store: &Store) -> Result<Collection> {
    let Sound { archive, plans, records, snapshots, refused } = sound;
    let mut done = Collection { path: archive.path().to_owned(), refused, ..Collection::default() };
    for name in plans.keys() {
        let bytes = archive.read(Part::Plan, name)?;
        match store.take_plan(archive.path(), name, &bytes) {
            Ok(Taken::Other) => done.notes.push(format!(
                "the store's plan of `{name}` is another one, of another text or other options, and stays"
            )),
            taken => done.count(0, taken.map_err(Error::from))?,
        }
    }
    for id in records.keys() {
        match store.read_record(id) {
            Err(error) if error.is_damage() => {
                let aside = store.set_aside(Kind::Record, id)?;
                let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
                done.notes.push(format!("set aside as `{name}`: {}", first_line(&error.to_string())));
            }
            _ => {}
        }
        let bytes = archive.read(Part::Record, id)?;
        done.count(1, store.take_record(archive.path(), id, &bytes).map_err(Error::from))?;
        if matches!(store.is_done(id), Ok(true)) {
            clear(store, [id]);
        }
    }
    for id in &snapshots {
        if matches!(store.is_done(id), Ok(true)) {
            done.known[2] += 1;
            continue;
        }
        let bytes = archive.read(Part::Snapshot, id)?;
        let taken = kept::take(store, id, &bytes);
        done.count(2, taken.map_err(|error| of_snapshot(error, archive.path(), id)))?;
    }
    Ok(done)
}

fn of_snapshot(error: Error, archive: &Path, id: &str) -> Error {
    match error {
        Error::Snapshot(why) => {
            Error::Snapshot(format!("`{}`: {why}", archive.join(Part::Snapshot.place(id)).display()))
        }
        other => other,
    }
}

impl Collection {
    /// Counts what was taken, and notes what was refused; what the system refuses ends it all.
    fn count(&mut self, part: usize, taken: Result<Taken>) -> Result<()> {
        match taken {
            Ok(Taken::New) => self.new[part] += 1,
            Ok(_) => self.known[part] += 1,
            Err(error @ (Error::Io { .. } | Error::Record(np_record::StoreError::Io { .. }))) => return Err(error),
            Err(error) => self.refused.push(first_line(&error.to_string()).to_owned()),
        }
        Ok(())
    }
}
