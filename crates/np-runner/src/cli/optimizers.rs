//! `np optimizers`: the optimizers that an experiment can name, with formulas, settings and defaults.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use np_core::OptimizerConfig;

use super::print;
use crate::error::{Error, Fault, Place, Result, suggest};
use crate::say::say;

/// List the optimizers, or show what one computes, and every setting with its meaning and default
#[derive(Debug, ClapArgs)]
pub(super) struct Args {
    /// One of them
    name: Option<String>,
    /// Print the defaults as JSON instead of YAML
    #[arg(long)]
    json: bool,
}

pub(super) fn optimizers(args: &Args) -> Result<ExitCode> {
    let all = OptimizerConfig::defaults();
    let chosen: Vec<&OptimizerConfig> = match &args.name {
        None => all.iter().collect(),
        Some(name) => {
            let one = all.iter().find(|config| config.kind() == name).ok_or_else(|| {
                let place = Place::Option(format!("np optimizers {name}"));
                Fault::new(place, "there is no such optimizer").hint_if(suggest(name, OptimizerConfig::KINDS))
            })?;
            vec![one]
        }
    };
    let failed = |error: String| Error::io("optimizers")(std::io::Error::other(error));
    let text = if args.json {
        let mut text = match chosen.as_slice() {
            [one] => serde_json::to_string_pretty(one),
            many => serde_json::to_string_pretty(many),
        }
        .map_err(|error| failed(error.to_string()))?;
        text.push('\n');
        text
    } else if args.name.is_some() {
        page(chosen[0]).map_err(failed)?
    } else {
        list(&chosen)
    };
    print(&text)?;
    if let (Some(name), false) = (&args.name, args.json) {
        say!("\nhint: what is left out keeps its default: `arms: {{mine: {{optimizer: {{{name}: {{lr: 0.01}}}}}}}}`");
    } else if !args.json {
        say!("\nhint: `np optimizers NAME` shows its formula, and every setting with its meaning, range and default");
    }
    Ok(ExitCode::SUCCESS)
}

/// A line each: the kind, and the first sentence about it.
fn list(all: &[&OptimizerConfig]) -> String {
    let width = all.iter().map(|config| config.kind().len()).max().unwrap_or_default();
    let line = |config: &&OptimizerConfig| {
        let about = config.about();
        let first = about.lines().next().unwrap_or_default();
        let sentence = first.split_once(". ").map_or(first, |(sentence, _)| sentence);
        format!("{:width$}  {}\n", config.kind(), sentence.trim_end_matches('.'))
    };
    all.iter().map(line).collect()
}

/// Columns that comments are broken at.
const WIDTH: usize = 100;

/// A text as comments of so many columns indent; formulas, which are indented themselves, stay as they are.
fn comment(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut put = |line: &str| {
        let line = format!("{:indent$}# {line}", "");
        out.push_str(line.trim_end());
        out.push('\n');
    };
    for paragraph in text.lines() {
        if paragraph.is_empty() || paragraph.starts_with(' ') {
            put(paragraph);
            continue;
        }
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && indent + 3 + line.chars().count() + word.chars().count() > WIDTH {
                put(&std::mem::take(&mut line));
            }
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(word);
        }
        put(&line);
    }
    out
}

/// What may stand in the place of a default and has settings of its own: the key it stands under, and a configuration with it.
const ALTERNATIVES: [(&str, &str); 9] = [
    ("formulation", r#"{"neuroplastic": {"formulation": "bounded_residual"}}"#),
    ("formulation", r#"{"neuroplastic": {"formulation": "orthogonal_residual"}}"#),
    ("formulation", r#"{"neuroplastic": {"formulation": "hybrid"}}"#),
    ("controller", r#"{"neuroplastic": {"controller": {"mode": "global"}}}"#),
    // Not written where it has its default.
    ("decay", r#"{"sgd": {"decay": "decoupled"}}"#),
    ("decay", r#"{"adagrad": {"decay": "decoupled"}}"#),
    ("decay", r#"{"adadelta": {"decay": "decoupled"}}"#),
    ("decay", r#"{"adamax": {"decay": "decoupled"}}"#),
    ("decay", r#"{"rmsprop": {"decay": "decoupled"}}"#),
];

/// A configuration as an experiment would write it, with what is said of it and of each of its settings, and what may stand in it instead.
fn page(config: &OptimizerConfig) -> std::result::Result<String, String> {
    let mut out = comment(&config.about(), 0) + &yaml(config, None)?;
    for (key, alternative) in ALTERNATIVES {
        let other: OptimizerConfig = serde_json::from_str(alternative).map_err(|error| error.to_string())?;
        if other.kind() == config.kind() {
            let block = yaml(&other, Some(key))?;
            out.push_str("\n# or\n");
            out.extend(block.lines().map(|line| format!("# {line}\n")));
        }
    }
    Ok(out)
}

/// The settings with what is said of each; only those under a key, if one is given.
fn yaml(config: &OptimizerConfig, under: Option<&str>) -> std::result::Result<String, String> {
    let tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    let text = serde_yaml::to_string(&serde_json::json!({ "optimizer": tree })).map_err(|error| error.to_string())?;
    let mut out = String::new();
    // The keys above a line, `optimizer` and the kind left out.
    let mut path: Vec<&str> = Vec::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some((key, _)) = line.trim_start().split_once(':') {
            path.truncate(indent / 2);
            path.push(key);
        }
        if under.is_some_and(|key| path.get(2) != Some(&key)) {
            continue;
        }
        if line.contains(':') {
            let said = path.get(2..).and_then(|keys| config.about_setting(&keys.join(".")));
            out.push_str(&said.map_or_else(String::new, |said| comment(&said, indent)));
        }
        out.push_str(line);
        out.push('\n');
    }
    Ok(out)
}
