//! A plan, made again from the text and the options that it carries: a plan that is read must be the one that was made.

use std::{collections::BTreeMap, path::Path};

use np_record::{Plan, PlannedRun};
use serde_json::Value;

use crate::{
    document::Document,
    error::{Fault, Place, Result},
    planning::plan_name,
    spec::{Request, Spec},
    worker::first_line,
};

/// Checks a plan that was read from `file`: its runs must be those of its text, in their order and under their names, and on one digest a data set.
/// A plan of before plans carried their text passes, as its digest is checked where it is read.
///
/// # Errors
/// A fault that names the file and the first thing that differs.
pub(crate) fn check(plan: &Plan, file: &Path) -> Result<()> {
    let Some(text) = &plan.spec else { return Ok(()) };
    let refuse = |text: String| {
        let fault = Fault::new(Place::File(file.to_owned(), None), text);
        fault.hint("`np run` of the experiment makes the plan anew")
    };
    let spec = respecify(plan, text).map_err(|error| {
        refuse(format!("the text that this plan carries is no experiment: {}", first_line(&error.to_string())))
    })?;
    let head = [
        ("`experiment`", plan.experiment == plan_name(&spec.name, &spec.overrides)),
        ("`question`", plan.question == spec.question),
        ("`selection`", plan.selection == spec.selection),
        ("`outcome`", plan.outcome == spec.outcome),
        ("`hypotheses`", plan.hypotheses == spec.hypotheses),
        ("`overrides`", plan.overrides == spec.overrides),
        ("`spec_sha256`", plan.spec_sha256 == spec.document.sha256),
    ];
    if let Some((key, _)) = head.iter().find(|(_, same)| !same) {
        return Err(refuse(format!("{key} is not what the text of this plan gives")).into());
    }
    if plan.runs.len() != spec.runs.len() {
        let (expected, got) = (spec.runs.len(), plan.runs.len());
        return Err(refuse(format!("the text of this plan gives {expected} runs, and it has {got}")).into());
    }
    let mut digests: BTreeMap<_, &str> = BTreeMap::new();
    for (place, (run, made)) in plan.runs.iter().zip(&spec.runs).enumerate() {
        let digest = *digests.entry(made.config.task.chosen().data_key()).or_insert(&run.data_digest);
        let same = run.arm == made.arm
            && run.seed == made.config.seed
            && run.axes == made.axes.iter().cloned().collect::<BTreeMap<String, Value>>()
            && serde_json::to_value(&made.config).is_ok_and(|config| config == run.config)
            && run.data_digest == digest
            && run.id == PlannedRun::id_of(&run.config, digest);
        if !same {
            let id = &run.id;
            return Err(refuse(format!("run {place} of this plan, `{id}`, is not what its text gives")).into());
        }
    }
    Ok(())
}

/// The experiment of a plan's text, at its scale and with its options.
fn respecify(plan: &Plan, text: &str) -> Result<Spec> {
    // The file's name is the experiment's, see `check_name`.
    let mut document = Document::of(Path::new("plan.yaml"), text.as_bytes().to_vec())?;
    let name = document.value.get("name").and_then(Value::as_str).unwrap_or_default();
    document.path = format!("{name}.yaml").into();
    let mut request = Request { file: document.path.clone(), scale: Some(plan.scale.clone()), ..Request::default() };
    for option in &plan.overrides {
        let value = |name: &str| option.strip_prefix(name).map(str::to_owned);
        if let Some(value) = value("--set ") {
            request.set.push(value);
        } else if let Some(value) = value("--sweep ") {
            request.sweep.push(value);
        } else if let Some(value) = value("--arm ") {
            request.arms.push(value);
        } else {
            request.seeds = value("--seeds ");
        }
    }
    Spec::of(document, &request)
}
