//! `cargo xtask bench`: the time of an optimizer step of this project and of PyTorch, measured alternately on the same number of threads.

pub(crate) mod cuda;
mod models;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{env, fs};

use anyhow::Result;
use clap::{Args, ValueEnum};
use np_record::write_atomic;
use serde_json::{Map, Value, json};

use crate::command::{cargo, json_of};

/// Options of the command.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Threads for both [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds of ours, then PyTorch's; the best of each counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A python with torch [default: NP_PYTHON, else python3]; without one, no ratios
    #[arg(long)]
    python: Option<PathBuf>,
    /// These alone, by the names of the table: `sgd_momentum,adamw`
    #[arg(long, value_delimiter = ',', conflicts_with = "models")]
    only: Vec<String>,
    /// Measure a model's forward and backward pass instead of optimizers' steps
    #[arg(long)]
    models: bool,
    /// Keep the result in `xtask/bench/results/`
    #[arg(long, conflicts_with = "only")]
    keep: bool,
    /// What computes; on `cuda`, steps of optimizers and passes of models alike
    #[arg(long, value_enum, default_value_t = Device::Cpu, conflicts_with_all = ["threads", "rounds", "python", "only", "models"])]
    device: Device,
    /// With `--device cuda`: what `gpu.sh` has left in its folder `out` on a machine with a GPU; measures nothing here
    #[arg(long, value_name = "OUT")]
    from: Option<PathBuf>,
    /// With `--device cuda`: what is to be known of how it was measured
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// The device that steps are measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// This machine's processor
    Cpu,
    /// A GPU, by `.ci/gpu.sh`
    Cuda,
}

/// Sizes, in the order in which they are shown.
const SIZES: [&str; 5] = ["mlp", "1M", "11M", "matrix", "block"];

/// The PyTorch optimizer that an optimizer's time is compared with: the same one, or AdamW if PyTorch does not have it.
fn against(name: &str) -> &str {
    if name.starts_with("neuroplastic") { "adamw" } else { name }
}

/// Names of optimizers, and the size, that a key of [`Times`] is made of.
fn parts(key: &str) -> Option<(&str, usize)> {
    let (name, size) = key.rsplit_once('_')?;
    Some((name, SIZES.iter().position(|known| *known == size)?))
}

type Times = BTreeMap<String, f64>;

/// Runs the command.
pub(crate) fn run(options: &Options, root: &Path) -> Result<()> {
    if options.device == Device::Cuda {
        return cuda::run(root, options);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores);
    let python = options.python.clone().or_else(|| env::var_os("NP_PYTHON").map(PathBuf::from));
    let python = python.unwrap_or_else(|| "python3".into());
    if options.models {
        return models::run(root, &python, threads, options);
    }
    let (mut ours, mut theirs, mut torch) = (Times::new(), Times::new(), None);
    let (mut skipped, mut state, mut memory) = (Value::Null, Value::Null, 0.0_f64);
    let mut has_torch = true;
    for round in 1..=options.rounds.max(1) {
        eprintln!("round {round} of {}: ours", options.rounds.max(1));
        let found = measure_ours(root, threads, &options.only)?;
        merge(&mut ours, &found);
        skipped = found.get("skipped").cloned().unwrap_or_default();
        state = found.get("state").cloned().unwrap_or_default();
        memory = memory.max(found.get("memory_gb_s").and_then(Value::as_f64).unwrap_or(0.0));
        if !has_torch {
            continue;
        }
        eprintln!("round {round} of {}: PyTorch", options.rounds.max(1));
        match measure_torch(root, &python, threads, &options.only) {
            Ok(found) => {
                torch = found.get("version").and_then(Value::as_str).map(str::to_owned);
                merge(&mut theirs, &found);
            }
            Err(error) if round == 1 && !options.keep => {
                eprintln!("no PyTorch, so no ratios: {error:#}");
                has_torch = false;
            }
            Err(error) => return Err(error.context("what is kept needs PyTorch beside ours")),
        }
    }
    print(&ours, &theirs, torch.as_deref(), threads);
    for line in skipped.as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("not measured: {line}");
    }
    if options.keep {
        let unit = "nanoseconds a parameter, best of several";
        keep(
            root,
            "",
            threads,
            json!({"unit": unit, "torch": torch, "memory_gb_s": memory, "ours": ours, "theirs": theirs, "state": state}),
        )?;
    }
    Ok(())
}

fn measure_ours(root: &Path, threads: usize, only: &[String]) -> Result<Map<String, Value>> {
    let mut command = cargo(root, &["run", "--quiet", "--example", "step_times", "--"]);
    json_of(command.args(only).env("RAYON_NUM_THREADS", threads.to_string()))
}

fn measure_torch(root: &Path, python: &Path, threads: usize, only: &[String]) -> Result<Map<String, Value>> {
    let script = root.join("xtask/bench/torch_times.py");
    // What an optimizer is held against must be measured too.
    let mut names: Vec<&str> = only.iter().map(|name| against(name)).collect();
    names.dedup();
    let mut command = Command::new(python);
    json_of(command.arg(script).arg(threads.to_string()).args(names).env("OMP_NUM_THREADS", threads.to_string()))
}

/// Keeps the smaller time of each.
fn merge(best: &mut Times, found: &Map<String, Value>) {
    for (name, value) in found.iter().filter(|(name, _)| parts(name).is_some()) {
        let Some(time) = value.as_f64() else { continue };
        best.entry(name.clone()).and_modify(|least| *least = least.min(time)).or_insert(time);
    }
}

fn print(ours: &Times, theirs: &Times, torch: Option<&str>, threads: usize) {
    println!(
        "nanoseconds a parameter, best of several, {threads} threads, {}",
        torch.map_or("no PyTorch".into(), |v| format!("PyTorch {v} and packages on it, fastest form"))
    );
    println!("{:<26} {:>6} {:>9} {:>9}  ratio", "optimizer", "size", "ours", "PyTorch");
    let mut rows: Vec<_> = ours.iter().filter_map(|(key, time)| Some((parts(key)?, *time))).collect();
    rows.sort_by_key(|(key, _)| *key);
    for ((name, size), time) in rows {
        let (size, against) = (SIZES[size], against(name));
        let other = theirs.get(&format!("{against}_{size}"));
        let beside = other.map_or(String::new(), |t| format!("{t:>9.3}  {:.2}", time / t));
        let what = if name == against || other.is_none() { "" } else { " × its AdamW" };
        println!("{name:<26} {size:>6} {time:>9.3} {beside}{what}");
    }
}

/// Writes `found` to a file of kept results, with machine and date.
fn keep(root: &Path, what: &str, threads: usize, found: Value) -> Result<()> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cpu = cpu.map_or_else(|| env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned());
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root).output();
    let commit = git.ok().and_then(|out| String::from_utf8(out.stdout).ok()).map(|text| text.trim().to_owned());
    let mut result = json!({
        "date": today(),
        "machine": {"cpu": cpu, "cores": std::thread::available_parallelism().map_or(1, usize::from), "os": env::consts::OS},
        "threads": threads,
        "commit": commit,
    });
    if let (Value::Object(result), Value::Object(found)) = (&mut result, found) {
        result.extend(found);
    }
    let path = root.join(format!("xtask/bench/results/{}-{}-{threads}{what}.json", today(), slug(&cpu)));
    write_atomic(&path, (serde_json::to_string_pretty(&result)? + "\n").as_bytes())?;
    println!("kept in {}", path.strip_prefix(root).unwrap_or(&path).display());
    Ok(())
}

/// A processor's name as a part of a file's.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !["", "r", "tm", "cpu", "processor"].contains(word)).collect::<Vec<_>>().join("-")
}

/// Today in UTC, as YYYY-MM-DD.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    // Days since 1 March of year 0, in eras of 400 years: the usual conversion from a count of days to the Gregorian calendar.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (d, m) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{m:02}-{d:02}", era * 400 + year + u64::from(m <= 2))
}

#[cfg(test)]
mod tests {
    #[test]
    fn keys_are_names_and_sizes() {
        assert_eq!(super::parts("schedule_free_adamw_11M"), Some(("schedule_free_adamw", 2)));
        assert_eq!(super::parts("muon_matrix"), Some(("muon", 3)));
        assert_eq!(super::parts("threads"), None);
        assert_eq!([super::against("neuroplastic_bounded"), super::against("lion")], ["adamw", "lion"]);
    }

    #[test]
    fn today_looks_like_a_day() {
        let day = super::today();
        let parts: Vec<u32> = day.split('-').filter_map(|part| part.parse().ok()).collect();
        let [year, month, day_of_month] = parts[..] else { panic!("{day}") };
        assert!(year >= 2026 && (1..=12).contains(&month) && (1..=31).contains(&day_of_month), "{day}");
    }
}
