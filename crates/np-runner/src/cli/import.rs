//! `np import`: an experiment from the YAML of the published PyTorch project.

use std::{fmt::Write as _, num::NonZeroUsize, path::PathBuf, process::ExitCode};

use clap::Args as ClapArgs;
use np_core::{Accumulate, NeuroPlasticConfig, OptimizerConfig, Options, Schedule, schedule, torch};
use np_record::{can_name, visible};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use super::print;
use crate::{
    document::Document,
    error::{Error, Fault, Place, Problem, Result, suggest},
    say::say,
    spec::PLAIN_NAME,
};

/// Turn a YAML file of the published PyTorch project into an experiment, on standard output
///
/// Reads its sections `experiment`, `plasticity` and `homeostatic`. What has no counterpart here is named on standard error, and
/// in the experiment's head comment. A field that the PyTorch project does not know either is a mistake, and an error.
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// The PyTorch project's file
    file: PathBuf,
    /// Name of the experiment, which is also the stem of the file it belongs into [default: its `run_name`, else the file's stem]
    #[arg(long, allow_hyphen_values = true)]
    name: Option<String>,
    /// Leave out fields that nobody knows, and say which, instead of an error
    #[arg(long)]
    lenient: bool,
}

/// Fields of the PyTorch project, by section, that have no counterpart here.
const LEFT_OUT: [(&str, &[&str]); 2] = [
    (
        "experiment",
        &[
            "amp_dtype",
            "checkpoint_dir",
            "data_root",
            "device",
            "download",
            "log_json",
            "log_level",
            "metrics_flush_every_epoch",
            "mixed_precision",
            "num_workers",
            "output_dir",
            "persistent_workers",
            "pin_memory",
            "prefetch_factor",
            "resume_from",
            "save_best_only",
            "save_every_n_epochs",
        ],
    ),
    ("plasticity", &["layerwise"]),
];

/// What to do about a field that nobody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refuse,
    LeaveOut,
}

/// The fields of section `experiment` that mean something here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Experiment {
    dataset: Option<String>,
    batch_size: Option<usize>,
    epochs: Option<u32>,
    lr: Option<f64>,
    weight_decay: Option<f64>,
    decoupled_weight_decay: Option<bool>,
    optimizer: Option<String>,
    seed: Option<u64>,
    scheduler: Option<String>,
    scheduler_gamma: Option<f64>,
    gradient_accumulation_steps: Option<NonZeroUsize>,
    run_name: Option<String>,
}

pub(super) fn import(args: &Args) -> Result<ExitCode> {
    let document = Document::read(&args.file)?;
    let mut left = Vec::new();
    let text = translate(&document, args, &mut left)?;
    for what in &left {
        say!("not carried over: {what}");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn translate(document: &Document, args: &Args, left: &mut Vec<String>) -> Result<String> {
    const SECTIONS: [&str; 3] = ["experiment", "plasticity", "homeostatic"];
    let sections = document.value.as_object().cloned().unwrap_or_default();
    if !SECTIONS.iter().any(|name| sections.contains_key(*name)) {
        let problem = Problem::Expected {
            expected: "sections `experiment`, `plasticity`, `homeostatic`".into(),
            got: "none of them".into(),
        };
        let fault = Fault { place: document.place(&[]), key: None, problem, hint: None };
        return Err(fault.hint("an experiment of this project needs no import: `np run` takes it").into());
    }
    let unknown = if args.lenient { Unknown::LeaveOut } else { Unknown::Refuse };
    for name in sections.keys().filter(|name| !SECTIONS.contains(&name.as_str())) {
        let fault = Fault::new(document.place(std::slice::from_ref(name)), "there is no such section").key(name);
        unknown.meet(fault.hint_if(suggest(name, SECTIONS)), left)?;
    }
    let experiment: Experiment = section(document, &sections, "experiment", unknown, left)?;
    let plasticity: torch::Plasticity = section(document, &sections, "plasticity", unknown, left)?;
    let homeostatic: torch::Homeostatic = section(document, &sections, "homeostatic", unknown, left)?;

    let optimizer = optimizer(document, &experiment, plasticity, homeostatic)?;
    let schedule = schedule_of(&experiment, left);
    let data = match experiment.dataset.as_deref().map(str::to_lowercase).as_deref() {
        None | Some("mnist") => "mnist",
        Some("fashion_mnist" | "fashion-mnist" | "fashionmnist") => "fashion-mnist",
        Some(other) => {
            left.push(format!("`experiment.dataset: {other}`, which is not one of ours; `mnist` stands in its place"));
            "mnist"
        }
    };
    let stem = args.file.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = name(document, args, experiment.run_name.or(stem))?;
    let accumulate = experiment.gradient_accumulation_steps.map_or_else(Accumulate::default, Accumulate);
    let options = Options { schedule, accumulate, ..Options::default() };
    let tree = json!({
        "name": name,
        "question": "What does the imported configuration reach?",
        "data": {"name": data, "source": "full"},
        "model": {"mlp": {"hidden": [256, 256], "dropout": 0.1}},
        "train": {"epochs": experiment.epochs.unwrap_or(10), "batch_size": experiment.batch_size.unwrap_or(128)},
        "seeds": [experiment.seed.unwrap_or(41)],
        "options": {"accumulate": options.accumulate, "schedule": options.schedule},
        "arms": {"imported": {"optimizer": optimizer}},
        "scales": {"quick": {"data": {"source": "mini"}}},
    });
    // Whatever is in names and values of others, a comment is one line.
    let mut text = format!("# Imported from `{}`.\n#\n# Save as `{name}.yaml`.\n", visible(&file_name(&args.file)));
    for what in left.iter() {
        let _ = writeln!(text, "# Not carried over: {}.", visible(what));
    }
    let yaml = serde_yaml::to_string(&tree).map_err(|error| Error::Tensor(error.to_string()))?;
    Ok(text + "\n" + &yaml)
}

/// The experiment's name: as asked for, or else as the file has it. One that no experiment can have is a fault where it stands.
fn name(document: &Document, args: &Args, found: Option<String>) -> Result<String> {
    let name = args.name.clone().or(found).unwrap_or_else(|| "imported".into());
    if can_name(&name) {
        return Ok(name);
    }
    let place = match &args.name {
        Some(name) => Place::Option(format!("--name {name}")),
        None => document.place(&["experiment".into(), "run_name".into()]),
    };
    let problem = Problem::Expected { expected: PLAIN_NAME.into(), got: format!("`{}`", visible(&name)) };
    let hint = Some("choose one with `--name NAME`".to_owned());
    Err(Fault { place, key: args.name.is_none().then(|| "experiment.run_name".to_owned()), problem, hint }.into())
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Unknown {
    /// Refuses a field or a section, or notes it among what is left out.
    fn meet(self, fault: Fault, left: &mut Vec<String>) -> Result<()> {
        match self {
            Self::Refuse => Err(fault.into()),
            Self::LeaveOut => {
                let hint = fault.hint.map(|hint| format!(", {hint}")).unwrap_or_default();
                left.push(format!("`{}`, which nobody knows{hint}", fault.key.unwrap_or_default()));
                Ok(())
            }
        }
    }
}

/// Reads a section key by key: what has no counterpart is left out and said, what is not known or cannot be read is a fault.
fn section<T: DeserializeOwned + Default>(
    document: &Document,
    sections: &Map<String, Value>,
    name: &str,
    unknown: Unknown,
    left: &mut Vec<String>,
) -> Result<T> {
    let fields = match sections.get(name) {
        None | Some(Value::Null) => return Ok(T::default()),
        Some(Value::Object(fields)) => fields,
        Some(other) => {
            let got = format!("`{other}`");
            let problem = Problem::Expected { expected: "a map".into(), got };
            let place = document.place(&[name.to_owned()]);
            return Err(Fault { place, key: Some(name.to_owned()), problem, hint: None }.into());
        }
    };
    let mut known = Map::new();
    for (key, value) in fields {
        let alone = json!({ key: value });
        match serde_json::from_value::<T>(alone) {
            Ok(_) => drop(known.insert(key.clone(), value.clone())),
            Err(_) if LEFT_OUT.iter().any(|(section, keys)| *section == name && keys.contains(&key.as_str())) => {
                left.push(format!("`{name}.{key}`"));
            }
            Err(error) if error.to_string().starts_with("unknown field") => {
                let place = document.place(&[name.to_owned(), key.clone()]);
                let text = error.to_string();
                let known = text.split('`').skip(3).step_by(2);
                let fault = Fault::new(place, "there is no such field").key(format!("{name}.{key}"));
                unknown.meet(fault.hint_if(suggest(key, known)), left)?;
            }
            Err(error) => {
                let place = document.place(&[name.to_owned(), key.clone()]);
                return Err(Fault::new(place, error.to_string()).key(format!("{name}.{key}")).into());
            }
        }
    }
    serde_json::from_value(known.into())
        .map_err(|error| Fault::new(document.place(&[name.to_owned()]), error.to_string()).key(name).into())
}

fn optimizer(
    document: &Document,
    experiment: &Experiment,
    plasticity: torch::Plasticity,
    homeostatic: torch::Homeostatic,
) -> Result<OptimizerConfig> {
    let kind = experiment.optimizer.as_deref().unwrap_or("neuroplastic");
    let mut fields = Map::new();
    if let Some(lr) = experiment.lr {
        fields.insert("lr".into(), lr.into());
    }
    if let Some(decay) = experiment.weight_decay {
        fields.insert("weight_decay".into(), decay.into());
    }
    let place = || document.place(&["experiment".to_owned(), "optimizer".to_owned()]);
    let torch_kind = match kind {
        "neuroplastic" => {
            let defaults = torch::NeuroPlastic::default();
            let config: NeuroPlasticConfig = torch::NeuroPlastic {
                lr: experiment.lr.unwrap_or(defaults.lr),
                weight_decay: experiment.weight_decay.unwrap_or(defaults.weight_decay),
                decoupled_weight_decay: experiment.decoupled_weight_decay.unwrap_or(false),
                plasticity,
                homeostatic,
            }
            .into();
            return Ok(OptimizerConfig::NeuroPlastic(config));
        }
        // The published baseline called SGD has momentum 0.9.
        "sgd" | "sgd_momentum" => {
            fields.insert("momentum".into(), 0.9.into());
            "sgd"
        }
        other => other,
    };
    let spec: std::result::Result<torch::TorchOptimizer, _> =
        serde_json::from_value(json!({"optimizer": torch_kind, "config": fields}));
    match spec {
        Ok(spec) => Ok(spec.into()),
        Err(error) => Err(Fault::new(place(), error.to_string()).key("experiment.optimizer").into()),
    }
}

fn schedule_of(experiment: &Experiment, left: &mut Vec<String>) -> Schedule {
    match experiment.scheduler.as_deref() {
        None | Some("none" | "constant") => Schedule::default(),
        Some("exponential") => {
            let gamma = experiment.scheduler_gamma.unwrap_or(schedule::Exponential::default().gamma);
            Schedule::Exponential(schedule::Exponential { gamma, ..Default::default() })
        }
        Some("cosine") => Schedule::Cosine(schedule::Cosine::default()),
        Some(other) => {
            left.push(format!("`experiment.scheduler: {other}`; the learning rate stays constant"));
            Schedule::default()
        }
    }
}
