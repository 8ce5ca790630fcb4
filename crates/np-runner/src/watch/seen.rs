//! Records that were read at an earlier look: one that is done is read again only if its file is another.

use std::{collections::BTreeMap, fs, time::SystemTime};

use np_record::{Plan, PlannedRun, Record, Store, select::Runs};

/// What tells a file from what was there before, without reading it; nothing for a record that is not loose.
type Stamp = Option<(u64, Option<SystemTime>)>;

/// Done records by id, each with its file's stamp when it was read.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    records: BTreeMap<String, (Stamp, Record)>,
}

impl Seen {
    /// Every run of a plan, in the plan's order, with its record. What cannot be read is left out: `np status` says it.
    pub(crate) fn records_of(&mut self, plan: &Plan, store: &Store) -> Runs {
        plan.runs.iter().map(|run| (run.clone(), self.record_of(run, store))).collect()
    }

    fn record_of(&mut self, run: &PlannedRun, store: &Store) -> Option<Record> {
        // Before it is read: what is written meanwhile is seen at the next look.
        let stamp = stamp(run, store);
        if let Some((then, record)) = self.records.get(&run.id)
            && *then == stamp
        {
            return Some(record.clone());
        }
        self.records.remove(&run.id);
        let record = store.record_of(run).ok().flatten()?;
        // One that is packed has no file of its own to tell whether it is another.
        if record.is_done() && stamp.is_some() {
            self.records.insert(run.id.clone(), (stamp, record.clone()));
        }
        Some(record)
    }
}

fn stamp(run: &PlannedRun, store: &Store) -> Stamp {
    let about = fs::metadata(store.record_path(&run.id).ok()?).ok()?;
    Some((about.len(), about.modified().ok()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use np_record::{Outcome, Provenance};
    use serde_json::json;

    use super::*;
    use crate::worker::failed;

    #[test]
    fn a_record_is_read_again_only_where_its_file_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let config = json!({"optimizer": {"sgd": {}}, "train": {"epochs": 1}, "seed": 1});
        let id = PlannedRun::id_of(&config, "d");
        let run = PlannedRun { id, arm: "a".into(), seed: 1, axes: BTreeMap::new(), config, data_digest: "d".into() };
        let provenance: Provenance = serde_json::from_value(json!({
            "machine": {"cpu": "", "cores": 1, "os": ""}, "threads": 1, "commit": null, "dirty": null, "versions": {},
            "command": "", "started": "",
        }))
        .unwrap();
        let mut seen = Seen::default();
        assert_eq!(seen.record_of(&run, &store), None);
        let mut record = failed(&run, "why".into(), provenance);
        store.write_record(&record).unwrap();
        assert!(matches!(seen.record_of(&run, &store).unwrap().outcome, Outcome::Failed { .. }));
        assert!(seen.records.is_empty(), "it may be trained again");
        record.outcome = Outcome::Finished;
        record.result_sha256 = record.digest_result();
        store.write_record(&record).unwrap();
        let first = seen.record_of(&run, &store).unwrap();
        assert_eq!(first.outcome, Outcome::Finished);

        // Other bytes under the stamp of the first are not looked at; under another stamp they are, and are no record.
        let path = store.record_path(&run.id).unwrap();
        let about = fs::metadata(&path).unwrap();
        fs::write(&path, vec![b' '; about.len() as usize]).unwrap();
        let set = |time| fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        set(about.modified().unwrap());
        assert_eq!(seen.record_of(&run, &store), Some(first));
        set(about.modified().unwrap() + Duration::from_secs(2));
        assert_eq!(seen.record_of(&run, &store), None);
    }
}
