//! Golden trajectories, replayed on both backends. The files in `golden/` are a few of a larger set that `np conform` reads.
#![allow(clippy::unwrap_used)]

use np_core::Backend;
use np_core::conform::{Report, replay};

fn run(path: &std::path::Path, backend: Backend) -> Report {
    let bytes = std::fs::read(path).unwrap();
    replay(&bytes, backend).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file that the project carries, and, where NP_GOLDEN_DIR names a folder, every file there whose optimizer we have.
#[test]
fn every_file_within_tolerance() {
    let carried = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut folders = vec![carried.to_string()];
    folders.extend(std::env::var("NP_GOLDEN_DIR"));
    let mut seen = 0;
    let mut failures = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "safetensors") {
                continue;
            }
            for backend in [Backend::Auto, Backend::Tensors] {
                let report = run(&path, backend);
                assert!(report.compared > 1000, "{}: compared only {}", path.display(), report.compared);
                let worst = report.worst.as_ref().unwrap();
                println!("{:?} {}: {worst}", backend, path.file_name().unwrap().display());
                if !report.passed() {
                    failures.push(format!("{:?} {}: {worst}", backend, path.display()));
                }
                seen += 1;
            }
        }
    }
    assert!(seen >= 16, "only {seen} replays: are the carried files there?");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
