//! `cargo xtask bench --models`: images per second of a forward and backward pass of this project and of PyTorch, measured alternately on the same
//! number of threads.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde_json::{Map, json};

use crate::command::{cargo, json_of};

/// A heading; example and arguments of ours; script and arguments of PyTorch's.
type Row = (&'static str, &'static str, &'static [&'static str], &'static str, &'static [&'static str]);

const MODELS: [Row; 4] = [
    ("MLP 784-256-256-10, batch 128", "mlp_step", &["rates", "30"], "mlp_step.py", &["30"]),
    ("… with its optimizer's step*", "training_step", &["30"], "mlp_step.py", &["30", "adamw"]),
    ("ResNet-18, width 64, batch 32", "resnet_step", &["64", "32", "5"], "resnet_step.py", &["64", "32", "5"]),
    ("ResNet-18, width 16, batch 128", "resnet_step", &["16", "128", "10"], "resnet_step.py", &["16", "128", "10"]),
];

/// Measures, and prints medians over all rounds.
pub(super) fn run(root: &Path, python: &Path, threads: usize, options: &super::Options) -> Result<()> {
    let (rounds, mut kept) = (options.rounds.max(1), Map::new());
    println!("images per second, forward and backward, medians of {rounds} rounds in turn, {threads} threads");
    println!("{:<32} {:>9} {:>9}  ratio", "model", "ours", "PyTorch");
    for (title, example, arguments, script, its_arguments) in MODELS {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let mut command = cargo(root, &["run", "--quiet", "--example", example, "--"]);
            // candle's own pool spins on the cores that matrix products want.
            command.args(arguments).env("RAYON_NUM_THREADS", threads.to_string()).env("CANDLE_NUM_THREADS", "1");
            ours.extend(json_of::<Vec<f64>>(&mut command)?);
            let mut command = Command::new(python);
            command.arg(root.join("crates/np-models/examples").join(script)).args(its_arguments);
            match json_of::<Vec<f64>>(command.env("OMP_NUM_THREADS", threads.to_string())) {
                Ok(found) => theirs.extend(found),
                Err(error) => eprintln!("{title}: nothing of PyTorch: {error:#}"),
            }
        }
        let Some(own) = median(&mut ours) else { bail!("`{example}` measured nothing") };
        let beside = median(&mut theirs).map_or(String::new(), |other| format!("{other:>9.1}  {:.2}", own / other));
        println!("{title:<32} {own:>9.1} {beside}");
        kept.insert(title.into(), json!({"ours": own, "theirs": median(&mut theirs)}));
    }
    println!("* ours NeuroPlastic with diagnostics, PyTorch's fused AdamW");
    if options.keep {
        let unit = "images per second, forward and backward, medians";
        super::keep(root, "-models", threads, json!({"unit": unit, "rates": kept}))?;
    }
    Ok(())
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_middle_counts() {
        assert_eq!([median(&mut [3.0, 1.0, 2.0]), median(&mut [])], [Some(2.0), None]);
    }

    /// What `--python` promises: a python with torch is enough.
    #[test]
    fn scripts_import_torch_and_what_every_python_has() {
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/np-models/examples");
        for (_, _, _, script, _) in MODELS {
            let text = std::fs::read_to_string(examples.join(script)).unwrap();
            let lines = text.lines().map(str::trim_start);
            let imports = lines.filter_map(|line| line.strip_prefix("import ").or_else(|| line.strip_prefix("from ")));
            let modules: Vec<_> = imports.filter_map(|rest| rest.split([' ', '.']).next()).collect();
            assert!(modules.contains(&"torch"), "{script}: {modules:?}");
            for module in modules {
                assert!(["json", "os", "sys", "time", "torch"].contains(&module), "{script}: `{module}`");
            }
        }
    }
}
