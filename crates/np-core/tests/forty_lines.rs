//! What CONTRIBUTING promises of an element-wise optimizer's file, counted: Yogi and QHAdam were added to show it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

/// Lines that are neither empty nor comment.
fn code(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn an_optimizer_is_a_file_of_45_lines_and_a_row() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &str| fs::read_to_string(source.join(path)).unwrap();
    let rows = read("optim/rows.rs");
    for kind in ["yogi", "qhadam"] {
        let lines = code(&read(&format!("optim/{kind}.rs")));
        assert!((20..=45).contains(&lines), "{kind}: {lines} lines");
        assert_eq!(rows.matches(&format!("= \"{kind}\" => [optim::{kind}]")).count(), 1, "{kind}");
        let golden = source.join(format!("../tests/golden/{kind}.safetensors"));
        assert!(golden.is_file(), "{kind} has no golden file");
    }
    // Nothing else in the engine knows either of them.
    for file in [
        "../../np-engine/src/driver.rs",
        "../../np-engine/src/rule.rs",
        "../../np-engine/src/elementwise/mod.rs",
        "registry/mod.rs",
        "lib.rs",
    ] {
        let text = read(file).to_lowercase();
        assert!(!text.contains("yogi") && !text.contains("qhadam"), "{file}");
    }
}
