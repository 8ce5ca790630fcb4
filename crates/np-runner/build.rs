//! Tells the crate what it is built with, for the records: versions of the compiler and of candle, and a fingerprint of the code.
//!
//! The commit is not asked here: every commit would mean a build, also of what has not changed. `provenance.rs` asks when runs start,
//! and believes the answer only if the tree still has this fingerprint.

use std::{env, fs, path::Path, process::Command};

#[allow(dead_code, reason = "the crate has the other half of its uses")]
#[path = "src/fingerprint.rs"]
mod fingerprint;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=NP_RUSTC={}", rustc().unwrap_or_else(|| "unknown".into()));
    let root = Path::new("../..");
    for source in fingerprint::sources(root).unwrap_or_default() {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    println!("cargo::rustc-env=NP_FINGERPRINT={}", fingerprint::of(root).unwrap_or_default());
    // The lock file of a checkout; there is none beside a published crate.
    let lock = "../../Cargo.lock";
    if let Ok(text) = fs::read_to_string(lock) {
        println!("cargo::rerun-if-changed={lock}");
        println!("cargo::rustc-env=NP_CANDLE={}", version(&text, "candle-core").unwrap_or("unknown"));
    } else {
        println!("cargo::rustc-env=NP_CANDLE=unknown");
    }
}

/// `1.95.0`, from `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc() -> Option<String> {
    let output = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

/// The version of a package in a lock file.
fn version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\n"))?;
    after.lines().next()?.strip_prefix("version = \"")?.strip_suffix('"')
}
