//! From a resolved experiment to a plan: data digests, ids, the plan's name, and what is done already.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::Path,
};

use np_data::{DataName, DataSet, Source};
use np_record::{Plan, PlannedRun, SCHEMA, Store};
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Fault, Place, Result},
    spec::{Request, Spec, SpecRun},
};

/// A plan, with what planning learned and a plan does not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Training examples of each run, in the plan's order.
    pub examples: Vec<usize>,
}

/// Resolves an experiment into its plan; nothing is written.
///
/// # Errors
/// [`Error::Fault`] for anything wrong with the file, the options or the data.
pub fn plan(request: &Request, data_dir: Option<&Path>) -> Result<Planned> {
    let spec = Spec::load(request)?;
    let mut digests = BTreeMap::new();
    let (mut runs, mut examples) = (Vec::new(), Vec::new());
    for run in &spec.runs {
        let key = (run.config.data.name, run.config.data.source);
        let (digest, all) = match digests.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(data(run, &spec, data_dir)?),
        };
        let used = (run.config.data.fraction * *all as f64).round() as usize;
        if used == 0 {
            let text = format!("leaves none of the {all} training examples");
            let place = run.tree.place(&["data".into(), "fraction".into()], &spec.document);
            return Err(Fault::new(place, text).key("data.fraction").into());
        }
        examples.push(used);
        let config = serde_json::to_value(&run.config)
            .map_err(|error| Fault::new(Place::File(request.file.clone(), None), error.to_string()))?;
        runs.push(PlannedRun {
            id: PlannedRun::id_of(&config, digest),
            arm: run.arm.clone(),
            seed: run.config.seed,
            axes: run.axes.iter().cloned().collect(),
            config,
            data_digest: digest.clone(),
        });
    }
    let overrides = request.overrides();
    let plan = Plan {
        schema: SCHEMA,
        experiment: plan_name(&spec.name, &overrides),
        question: spec.question,
        scale: request.scale().to_owned(),
        spec_sha256: spec.document.sha256,
        overrides,
        runs,
    };
    Ok(Planned { plan, examples })
}

/// The plan's name: the experiment's, and with overrides `NAME.HASH`, so that the plan of the file as written stays.
fn plan_name(experiment: &str, overrides: &[String]) -> String {
    if overrides.is_empty() {
        return experiment.to_owned();
    }
    let hash = Sha256::digest(overrides.join("\n"));
    format!("{experiment}.{}", hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Digest and number of training examples of a run's data set.
fn data(run: &SpecRun, spec: &Spec, data_dir: Option<&Path>) -> Result<(String, usize)> {
    let (name, source): (DataName, Source) = (run.config.data.name, run.config.data.source);
    let set = DataSet::load(name, source, data_dir).map_err(|error| {
        let key = ["data".to_owned(), "source".to_owned()];
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        let (problem, hint) = match text.split_once("\nhint: ") {
            Some((problem, hint)) => (problem.to_owned(), Some(hint.to_owned())),
            None => (text, None),
        };
        let fault = Fault::new(run.tree.place(&key, &spec.document), problem).key(key.join("."));
        Error::from(fault.hint_if(hint))
    })?;
    Ok((set.digest, set.train.labels.len()))
}

/// The runs of `plan` that have no finished record in `store`, each id once, by their place in the plan.
///
/// # Errors
/// Those of reading records.
pub fn missing(plan: &Plan, store: &Store) -> Result<Vec<usize>> {
    let mut seen = BTreeSet::new();
    let mut missing = Vec::new();
    for (index, run) in plan.runs.iter().enumerate() {
        if seen.insert(&run.id) && !store.is_done(&run.id)? {
            missing.push(index);
        }
    }
    Ok(missing)
}
