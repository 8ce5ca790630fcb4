//! The table of kept timings: for every measured kind of CPU, with PyTorch's times of the same run and the target ratios.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::{fs, iter};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// A goal, set before anything was measured.
#[derive(Clone, Copy)]
enum Goal {
    /// At most so many nanoseconds per parameter.
    Within(f64),
    /// At most PyTorch's time.
    NoSlower,
    /// At least so many times PyTorch's rate.
    Faster(f64),
}

/// Key of a timing, its label, and the goal.
const STEPS: [(&str, &str, Goal); 11] = [
    ("adamw_11M", "AdamW, 11 million parameters", Goal::NoSlower),
    ("sgd_momentum_11M", "SGD with momentum, 11 million", Goal::NoSlower),
    ("lars_11M", "LARS, 11 million", Goal::NoSlower),
    ("lamb_11M", "LAMB, 11 million", Goal::NoSlower),
    ("neuroplastic_11M", "NeuroPlastic with diagnostics, 11 million", Goal::Within(1.4)),
    ("neuroplastic_mlp", "NeuroPlastic with diagnostics, the MLP 784-256-256-10", Goal::Within(0.9)),
    ("neuroplastic_orthogonal_11M", "orthogonal residual, 11 million", Goal::Within(2.6)),
    ("neuroplastic_hybrid_adamw_11M", "hybrid on AdamW, 11 million", Goal::Within(2.6)),
    ("soap_block", "SOAP, a block of 256 × 256", Goal::NoSlower),
    ("shampoo_block", "Shampoo, a block of 256 × 256", Goal::NoSlower),
    ("muon_matrix", "Muon, a matrix of 1024 × 1024", Goal::NoSlower),
];

/// The goal for a model's forward and backward pass: so many times PyTorch's rate.
const MODELS: f64 = 1.2;

/// The entries of a file of timings that are used here.
#[derive(Deserialize)]
struct Kept {
    date: String,
    machine: Machine,
    /// Times of optimizers' steps.
    #[serde(default)]
    ours: BTreeMap<String, f64>,
    #[serde(default)]
    theirs: BTreeMap<String, f64>,
    /// Rates of models.
    #[serde(default)]
    rates: BTreeMap<String, Rates>,
}

#[derive(Deserialize)]
struct Rates {
    ours: f64,
    theirs: f64,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    cores: usize,
}

/// The latest timings on every kind of CPU, by the CPU's name.
fn kept(root: &Path, models: bool) -> Result<BTreeMap<String, Kept>> {
    let folder = root.join("xtask/bench/results");
    let mut all: BTreeMap<String, Kept> = BTreeMap::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Those of a GPU are another table.
        let of_a_gpu = name.ends_with("-cuda.json");
        if !name.ends_with(".json") || of_a_gpu || name.ends_with("-models.json") != models {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let found: Kept = serde_json::from_str(&text)
            .with_context(|| format!("`{}` is not what `cargo xtask bench --keep` writes", path.display()))?;
        let is_older = |known: &Kept| known.date <= found.date;
        if all.get(&found.machine.cpu).is_none_or(is_older) {
            all.insert(found.machine.cpu.clone(), found);
        }
    }
    Ok(all)
}

/// A table cell: this project's value, PyTorch's, their ratio, and whether the goal was reached, such as `0.42 / 0.56 (0.76 ×), reached`.
fn cell(ours: Option<f64>, theirs: Option<f64>, goal: Goal) -> String {
    let Some(ours) = ours else { return "not measured".to_owned() };
    let digits = |x: f64| if x < 10.0 { format!("{x:.2}") } else { format!("{x:.0}") };
    let (beside, reached) = match (goal, theirs) {
        (Goal::Within(most), _) => (digits(ours), ours <= most),
        (Goal::NoSlower, Some(theirs)) => {
            (format!("{} / {} ({:.2} ×)", digits(ours), digits(theirs), ours / theirs), ours <= theirs)
        }
        (Goal::Faster(times), Some(theirs)) => {
            (format!("{} / {} ({:.2} ×)", digits(ours), digits(theirs), ours / theirs), ours >= times * theirs)
        }
        (_, None) => return format!("{}, alone", digits(ours)),
    };
    format!("{beside}, {}", if reached { "reached" } else { "**missed**" })
}

/// What a key of the models' rates stands for. The one that says "its" is the MLP's, which comes before it where it is printed.
fn model(key: &str) -> String {
    if key.starts_with('…') {
        "MLP 784-256-256-10, batch 128, with a step: ours of NeuroPlastic with diagnostics, PyTorch's of fused AdamW"
            .to_owned()
    } else {
        key.to_owned()
    }
}

fn head(out: &mut String, what: &str, kept: &BTreeMap<String, Kept>) {
    let of = |kept: &Kept| format!("{}, {} cores, {}", kept.machine.cpu, kept.machine.cores, kept.date);
    let names: Vec<String> = kept.values().map(of).collect();
    let _ = writeln!(out, "| {what} | goal | {} |\n| :-- | :-- |{}", names.join(" | "), " :-- |".repeat(names.len()));
}

/// Both tables: steps of optimizers, and forward and backward passes of models.
pub(super) fn table(root: &Path) -> Result<String> {
    let steps = kept(root, false)?;
    if steps.is_empty() {
        bail!("no timings are kept\nhint: `cargo xtask bench --keep` measures them");
    }
    let mut out = String::new();
    head(&mut out, "nanoseconds a parameter and step, ours / PyTorch's", &steps);
    for (key, what, goal) in STEPS {
        let goal_text = match goal {
            Goal::Within(most) => format!("≤ {most} ns"),
            Goal::NoSlower => "≤ 1 ×".to_owned(),
            Goal::Faster(times) => format!("≥ {times} ×"),
        };
        let cells = steps.values().map(|kept| cell(kept.ours.get(key).copied(), kept.theirs.get(key).copied(), goal));
        let cells: Vec<String> = iter::once(goal_text).chain(cells).collect();
        let _ = writeln!(out, "| {what} | {} |", cells.join(" | "));
    }
    let models = kept(root, true)?;
    let keys: BTreeSet<(String, &String)> =
        models.values().flat_map(|kept| kept.rates.keys()).map(|key| (model(key), key)).collect();
    out.push('\n');
    head(&mut out, "images a second, forward and backward, ours / PyTorch's", &models);
    for (what, key) in keys {
        let cell = |kept: &Kept| {
            let rates = kept.rates.get(key);
            cell(rates.map(|rates| rates.ours), rates.map(|rates| rates.theirs), Goal::Faster(MODELS))
        };
        let cells = models.values().map(cell);
        let _ = writeln!(out, "| {what} | ≥ {MODELS} × | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_says_what_was_aimed_at_and_whether_it_was_reached() {
        assert_eq!(cell(Some(0.5), Some(1.0), Goal::NoSlower), "0.50 / 1.00 (0.50 ×), reached");
        assert_eq!(cell(Some(1.2), Some(1.0), Goal::NoSlower), "1.20 / 1.00 (1.20 ×), **missed**");
        assert_eq!(cell(Some(1.41), None, Goal::Within(1.4)), "1.41, **missed**");
        assert_eq!(cell(Some(119.0), Some(100.0), Goal::Faster(1.2)), "119 / 100 (1.19 ×), **missed**");
        assert_eq!(cell(Some(2.0), None, Goal::NoSlower), "2.00, alone");
        assert_eq!(cell(None, Some(1.0), Goal::NoSlower), "not measured");
    }

    #[test]
    fn the_last_of_each_cpu_counts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("xtask/bench/results");
        fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, cpu: &str, date: &str, ours: f64| {
            let numbers = if name.contains("models") {
                format!(r#""rates":{{"MLP":{{"ours":{ours},"theirs":1.0}}}}"#)
            } else {
                format!(r#""ours":{{"adamw_11M":{ours}}},"theirs":{{"adamw_11M":1.0}}"#)
            };
            let text = format!(r#"{{"date":"{date}","machine":{{"cpu":"{cpu}","cores":2}},{numbers}}}"#);
            fs::write(folder.join(name), text).unwrap();
        };
        write("a.json", "one", "2026-01-02", 0.9);
        write("b.json", "one", "2026-01-01", 0.7);
        write("c.json", "two", "2026-01-01", 1.5);
        write("c-models.json", "two", "2026-01-01", 1.5);
        fs::write(folder.join("d-cuda.json"), "{}").unwrap();
        let table = table(dir.path()).unwrap();
        let row = "| AdamW, 11 million parameters | ≤ 1 × | 0.90 / 1.00 (0.90 ×), reached | 1.50 / 1.00 (1.50 ×), **missed** |";
        assert!(table.contains(row), "{table}");
        assert!(table.contains("| MLP | ≥ 1.2 × | 1.50 / 1.00 (1.50 ×), reached |"), "{table}");
        assert!(table.contains("| one, 2 cores, 2026-01-02 | two, 2 cores, 2026-01-01 |"), "{table}");
    }
}
