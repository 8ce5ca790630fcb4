//! `np optimizers`: the optimizers that an experiment can name, with their defaults.

use std::process::ExitCode;

use clap::Args as ClapArgs;
use np_core::OptimizerConfig;

use super::print;
use crate::error::{Error, Fault, Place, Result, suggest};
use crate::say::say;

/// List the optimizers, or show every setting of one with its default
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
        yaml(chosen[0]).map_err(failed)?
    } else {
        chosen.iter().map(|config| format!("{}\n", config.kind())).collect()
    };
    print(&text)?;
    if args.name.is_none() && !args.json {
        say!("\nhint: `np optimizers NAME` shows every setting with its default");
    }
    Ok(ExitCode::SUCCESS)
}

/// A configuration as an experiment would write it.
fn yaml(config: &OptimizerConfig) -> std::result::Result<String, String> {
    let tree = serde_json::to_value(config).map_err(|error| error.to_string())?;
    serde_yaml::to_string(&serde_json::json!({ "optimizer": tree })).map_err(|error| error.to_string())
}
