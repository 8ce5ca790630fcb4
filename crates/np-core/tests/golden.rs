//! Golden trajectories, replayed on all backends. The files in `golden/` are a few of a larger set that `np conform` reads.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use np_core::conform::{ConformError, Report, replay};
use np_core::{Backend, OptimizerConfig};

/// Kinds of which there can be no file, because a file holds gradients alone, and what they need beside them.
const WITHOUT_A_FILE: [(&str, &str); 2] = [("kfac", "each layer's inputs"), ("lbfgs", "the loss at trial points")];

fn carried() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The files below `folder`, however deep.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// None for a file of an optimizer that we do not have.
fn run(path: &Path, backend: Backend) -> Option<Report> {
    match replay(&std::fs::read(path).unwrap(), backend) {
        Ok(report) => Some(report),
        Err(ConformError::UnknownOptimizer(_)) => None,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

/// Every file that the project carries, and, where NP_GOLDEN_DIR names a folder, every file below it whose optimizer we have.
#[test]
fn every_file_within_tolerance() {
    let mut all = files(&carried());
    all.extend(std::env::var("NP_GOLDEN_DIR").iter().flat_map(|folder| files(Path::new(folder))));
    let mut seen = 0;
    let mut failures = Vec::new();
    for path in all {
        for backend in [Backend::Auto, Backend::Tensors, Backend::Interpreted] {
            let Some(report) = run(&path, backend) else { break };
            assert!(report.compared > 1000, "{}: compared only {}", path.display(), report.compared);
            let worst = report.worst.as_ref().unwrap();
            println!("{backend:?} {}: {worst}", path.file_name().unwrap().display());
            if !report.passed() {
                failures.push(format!("{backend:?} {}: {worst}", path.display()));
            }
            seen += 1;
        }
    }
    assert!(seen >= 16, "only {seen} replays: are the carried files there?");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn every_kind_has_a_file() {
    let kinds: BTreeSet<&str> =
        files(&carried()).iter().filter_map(|path| run(path, Backend::Auto)).map(|report| report.optimizer).collect();
    for kind in OptimizerConfig::KINDS {
        let excepted = WITHOUT_A_FILE.iter().any(|(name, _)| name == kind);
        assert_ne!(kinds.contains(kind), excepted, "`{kind}`: carry a file, or say why there is none, but not both");
    }
}

/// `reference/golden.py` can make a file of every kind.
#[test]
fn every_kind_has_a_reference() {
    let script = include_str!("reference/golden.py");
    for kind in OptimizerConfig::KINDS {
        let excepted = WITHOUT_A_FILE.iter().any(|(name, _)| name == kind);
        assert_ne!(script.contains(&format!("\"{kind}\"")), excepted, "`{kind}`: give it a row in `REFERENCES`");
    }
}
