//! `cargo xtask finals`: writes tuned learning rates and schedules into the experiments that use them, from the records of the tuning experiments.
//!
//! A tuning experiment has an arm for each optimizer, and the data set as an axis. The final experiment has an arm for each optimizer and data set, such as
//! `full-mnist`, on a line of its own in its file. The `lr` and `schedule` of this line are set to the values that the tuning chose; the rest of the line
//! stays. A line whose tuning runs are not complete is left as it is.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use np_record::select::{self, Choice, Rule, Runs};
use np_record::{Plan, PlannedRun, Record, Store, write_atomic, yaml};
use serde_json::Value;

use crate::figures::Scale;
use crate::figures::source::Workspace;

/// A final experiment, and the experiments that tune its arms: one, or one and its continuation.
struct Final {
    name: &'static str,
    tuning: &'static [&'static str],
}

const FINALS: [Final; 2] = [
    Final { name: "fig11-equal-budgets", tuning: &["fig11-tuning", "fig11-tuning-more"] },
    Final { name: "fig12-components", tuning: &["fig12-tuning", "fig12-tuning-more"] },
];

/// The scale whose records choose.
const SCALE: Scale = Scale::Cpu;

/// Options of `cargo xtask finals`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Write nothing, and fail where a file is not what the records give
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    let mut stale = Vec::new();
    for one in &FINALS {
        let path = root.join(format!("experiments/{}.yaml", one.name));
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let choices = chosen(root, one.tuning)?;
        let Choices { made, open, edges } = &choices;
        match made.len() + open {
            0 => println!(
                "{}: `{}` has no plan at scale `{SCALE}` yet, and chooses nothing",
                one.name,
                one.tuning.join("`, `")
            ),
            all => println!(
                "{}: `{}` has chosen {} of {all}; {open} lack records",
                one.name,
                one.tuning.join("`, `"),
                made.len()
            ),
        }
        edges.iter().for_each(|edge| println!("  {edge}"));
        let written = with_choices(&text, made).with_context(|| format!("`{}`", path.display()))?;
        match options.check {
            true if written != text => stale.push(one.name),
            true => alike(root, one, made)?,
            false if written != text => write_atomic(&path, written.as_bytes())?,
            false => {}
        }
    }
    if !stale.is_empty() {
        bail!(
            "not what the tuning chose: {}\nhint: run `cargo xtask finals`, and train again what has changed",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The choices of the tuning experiments.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    /// The choice for each arm of the final experiment.
    pub(crate) made: Vec<Made>,
    /// Number of choices without complete records.
    pub(crate) open: usize,
    /// Choices of the lowest or highest learning rate that was tried, a sentence each.
    pub(crate) edges: Vec<String>,
}

/// A choice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made {
    /// The arm of the final experiment, `full-mnist`.
    pub(crate) arm: String,
    /// Its learning rate.
    pub(crate) rate: f64,
    /// Its schedule, if schedules were tried.
    pub(crate) schedule: Option<String>,
    /// The id of one of the runs that it was chosen by.
    run: String,
}

/// The choices from the records of the tuning experiments; none if the first has no plan.
pub(crate) fn chosen(root: &Path, tuning: &[&str]) -> Result<Choices> {
    let store = Store::open(root.join(format!("experiments/records/{SCALE}")))?;
    let mut all: Vec<(PlannedRun, Option<Record>)> = Vec::new();
    let mut rule = None;
    for name in tuning {
        let Some(plan) = store.read_plan(name)? else { break };
        rule = rule.or_else(|| Some(Rule::of(&plan, plan.selection.unwrap_or_default())));
        all.extend(tried(root, &store, &plan)?);
    }
    let (Some(rule), name) = (rule, tuning.join("`, `")) else { return Ok(Choices::default()) };
    let (selection, _) = select::select(&rule, &all)?;
    let mut choices = Choices::default();
    for choice in &selection.choices {
        let is_whole = choice.candidates.iter().all(|one| one.finished + one.diverged == one.runs);
        let Some(best) = choice.best().filter(|_| is_whole) else {
            choices.open += 1;
            continue;
        };
        let rate = rate_of(&best.axes).with_context(|| format!("`{name}` tried no learning rates"))?;
        let schedule = best.axes.get("options.schedule").and_then(name_of);
        let mut axes = choice.axes.clone();
        axes.extend(best.axes.clone());
        let run = all.iter().find(|(run, _)| run.arm == choice.arm && run.axes == axes);
        let run = run.map(|(run, _)| run.id.clone()).unwrap_or_default();
        let arm = format!("{}-{}", choice.arm, ending(choice)?);
        if is_at_an_edge(choice, rate) {
            choices.edges.push(format!("warning: `{arm}` chose {rate}, an edge of its rates\nhint: add one beyond it, and one to every other arm"));
        }
        choices.made.push(Made { arm, rate, schedule, run });
    }
    Ok(choices)
}

/// The runs of a plan that is what its file says.
fn tried(root: &Path, store: &Store, plan: &Plan) -> Result<Runs> {
    let tuning = &plan.experiment;
    let spec = root.join(format!("experiments/{tuning}.yaml"));
    if let Some(stale) = plan.stale(&fs::read(&spec).with_context(|| format!("cannot read `{}`", spec.display()))?) {
        bail!(
            "the plan `{tuning}` is out of date: {stale}\nhint: run `cargo np run experiments/{tuning}.yaml --scale {SCALE}`"
        );
    }
    let reading = store.records_of(plan);
    if let Some(error) = reading.refused.into_iter().next() {
        return Err(error.into());
    }
    Ok(reading.runs)
}

fn rate_of(axes: &std::collections::BTreeMap<String, Value>) -> Option<f64> {
    axes.get("optimizer.lr")?.as_f64()
}

/// `cosine` of `{"cosine": {…}}` or `"cosine"`.
fn name_of(value: &Value) -> Option<String> {
    match value {
        Value::String(name) => Some(name.clone()),
        Value::Object(map) => map.keys().next().cloned(),
        _ => None,
    }
}

fn is_at_an_edge(choice: &Choice, rate: f64) -> bool {
    let rates: BTreeSet<u64> = choice.candidates.iter().filter_map(|one| Some(rate_of(&one.axes)?.to_bits())).collect();
    [rates.first(), rates.last()].contains(&Some(&rate.to_bits()))
}

/// How the arms of a set end.
fn ending(choice: &Choice) -> Result<&'static str> {
    let data = choice.axes.get("data");
    let name = data.and_then(|data| data.get("name")?.as_str());
    let share = data.and_then(|data| data.get("fraction")?.as_f64());
    Ok(match (name, share) {
        (Some("mnist"), Some(1.0)) => "mnist",
        (Some("fashion-mnist"), Some(1.0)) => "fashion",
        (Some("fashion-mnist"), Some(0.25)) => "quarter",
        (Some("fashion-mnist"), Some(0.1)) => "tenth",
        _ => {
            bail!("no name for the data of arm `{}`: {data:?}\nhint: give them one in xtask/src/finals.rs", choice.arm)
        }
    })
}

/// The text of an experiment with these choices: `lr` and `schedule` on the line of each arm.
pub(crate) fn with_choices(text: &str, choices: &[Made]) -> Result<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for Made { arm, rate, schedule, .. } in choices {
        let head = format!("  {arm}: {{");
        let mut all = lines.iter_mut().filter(|line| line.starts_with(&head));
        let line = all.next().with_context(|| format!("no line of arm `{arm}`\nhint: it begins with `{head}`"))?;
        if all.next().is_some() {
            bail!("two lines of arm `{arm}`");
        }
        *line = replaced(line, "lr: ", &yaml::number(*rate)).with_context(|| format!("arm `{arm}` has no `lr`"))?;
        if let Some(schedule) = schedule {
            *line = replaced(line, "schedule: ", schedule).with_context(|| format!("arm `{arm}` has no `schedule`"))?;
        }
    }
    Ok(lines.join("\n") + "\n")
}

/// A line with another value behind a key.
fn replaced(line: &str, key: &str, value: &str) -> Option<String> {
    let (before, rest) = line.split_once(key)?;
    let end = rest.find([',', '}'])?;
    Some(format!("{before}{key}{value}{}", &rest[end..]))
}

/// Fails where an arm is trained otherwise than it was tuned, but for what must differ: its seeds, and the images that were held out.
fn alike(root: &Path, one: &Final, made: &[Made]) -> Result<()> {
    if made.is_empty() {
        return Ok(());
    }
    let workspace = Workspace { root: root.to_path_buf(), scale: SCALE, ask: Workspace::planned };
    let plan = workspace.planned(one.name)?;
    let store = Store::open(root.join(format!("experiments/records/{SCALE}")))?;
    let mut tuning: Vec<PlannedRun> = Vec::new();
    for name in one.tuning {
        tuning.extend(store.read_plan(name)?.map(|plan| plan.runs).unwrap_or_default());
    }
    for Made { arm, run, .. } in made {
        let tuned = tuning.iter().find(|known| known.id == *run);
        let own: Vec<_> = plan.runs.iter().filter(|known| known.arm == *arm).collect();
        let tuned = tuned.map(|run| select::as_tuned(&run.config));
        if own.is_empty() || own.iter().any(|run| Some(select::as_tuned(&run.config)) != tuned) {
            bail!("arm `{arm}` of `{}` is not trained as `{}` has tuned it", one.name, one.tuning.join("`, `"));
        }
        let seeds: BTreeSet<u64> = tuning.iter().map(|run| run.seed).collect();
        if let Some(run) = own.iter().find(|run| seeds.contains(&run.seed)) {
            bail!("seed {} of `{}` has chosen in `{}`", run.seed, one.name, one.tuning.join("`, `"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(arm: &str, rate: f64, schedule: Option<&str>) -> Made {
        Made { arm: arm.into(), rate, schedule: schedule.map(str::to_owned), run: String::new() }
    }

    #[test]
    fn a_choice_changes_the_line_of_its_arm_alone() {
        let text = "arms:\n  sgd-mnist: {options: {schedule: constant}, optimizer: {sgd: {lr: 0.15, momentum: 0.9}}}\n  \
                    sgd-tenth: {options: {schedule: constant}, optimizer: {sgd: {lr: 0.15}}}\n";
        let written = with_choices(text, &[made("sgd-tenth", 3.5e-4, Some("cosine"))]).unwrap();
        let want = text.replace("constant}, optimizer: {sgd: {lr: 0.15}}", "cosine}, optimizer: {sgd: {lr: 3.5e-4}}");
        assert_eq!(written, want);
        let written = with_choices(text, &[made("sgd-mnist", 0.26, None)]).unwrap();
        assert_eq!(written, text.replace("lr: 0.15, momentum", "lr: 0.26, momentum"));
        let error = with_choices(text, &[made("adam-mnist", 0.001, None)]).unwrap_err().to_string();
        assert!(error.contains("no line of arm `adam-mnist`"), "{error}");
    }

    /// The committed files are what the committed records of their tuning choose; what lacks records is no choice yet.
    #[test]
    fn the_files_have_the_rates_that_the_records_choose() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        for one in &FINALS {
            let text = fs::read_to_string(root.join(format!("experiments/{}.yaml", one.name))).unwrap();
            let choices = chosen(root, one.tuning).unwrap();
            let written = with_choices(&text, &choices.made).unwrap();
            let changed: Vec<_> = text.lines().zip(written.lines()).filter(|(old, new)| old != new).collect();
            assert!(written == text, "{}: run `cargo xtask finals`\n{changed:#?}", one.name);
        }
    }
}
