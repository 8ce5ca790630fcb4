//! Tells the crate what it is built with: the versions of the compiler and of candle, for the records.
//!
//! The commit is not asked here: it would have to be asked again at every commit and every edit of any crate, and a rebuild
//! that is forgotten would put a wrong one into records. `provenance.rs` asks when runs start.

use std::{env, fs, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=NP_RUSTC={}", rustc().unwrap_or_else(|| "unknown".into()));
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
