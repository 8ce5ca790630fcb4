//! `cargo xtask tidy`: rules of this project that the compiler does not check.
//!
//! It checks the files that git tracks, and untracked ones that it does not ignore.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Longest file, in lines.
const LONGEST: usize = 400;

/// Files that may be longer, each with the reason.
const LONG: [(&str, &str); 0] = [];

/// Words that must not be in Rust, Markdown, YAML or TOML: paths of one machine. Split, so that this file may pass.
const PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!(".lib", "rary"), concat!("../sh", "ared")];

/// Words that must not be in Rust.
const CODE: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("should_", "panic"),
    concat!("db", "g!("),
];

/// The layers of np-core, from the bottom up: a file imports only from its own layer and those below.
const FLOORS: [&str; 5] = ["config", "engine", "optim", "neuroplastic", "registry"];

/// Runs the command.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let files = files(root)?;
    for name in &files {
        let path = root.join(name);
        // Deleted, and not yet in the index; or a link to nowhere.
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{name}`"))?;
        findings.extend(check(name, &text));
    }
    findings.extend(
        LONG.iter()
            .filter(|(long, _)| !files.iter().any(|name| name == long))
            .map(|(long, _)| format!("{long}: listed as long, and not there")),
    );
    if findings.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    bail!("{} finding{}\n{}", findings.len(), if findings.len() == 1 { "" } else { "s" }, findings.join("\n"))
}

fn files(root: &Path) -> Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .args(["--", "*.rs", "*.md", "*.yaml", "*.yml", "*.toml"])
        .current_dir(root)
        .output()
        .context("cannot start `git`")?;
    if !output.status.success() {
        bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file's name is not UTF-8")?;
    let mut names: Vec<String> = names.split_terminator('\0').map(String::from).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// The faults of a file, as messages.
fn check(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let rust = name.ends_with(".rs");
    let words = PATHS.iter().chain(if rust { &CODE[..] } else { &[] });
    for word in words {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| line.contains(word)) {
            findings.push(format!("{name}:{}: `{word}` must not be here: {}", i + 1, line.trim()));
        }
    }
    if rust {
        let lines = text.lines().count();
        let listed = LONG.iter().any(|(long, _)| *long == name);
        if lines > LONGEST && !listed {
            findings.push(format!(
                "{name}: {lines} lines, more than {LONGEST}: split it, or list it in `LONG` with the reason"
            ));
        }
        if lines <= LONGEST && listed {
            findings.push(format!("{name}: listed in `LONG`, and has only {lines} lines"));
        }
        findings.extend(upward(name, text));
        if !text.starts_with("//!") {
            findings.push(format!("{name}:1: no `//!` head: say what lives here"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        findings.push(format!("{name}: no newline at the end"));
    }
    findings
}

/// Imports of np-core from a layer above the file's, except in tests.
fn upward(name: &str, text: &str) -> Vec<String> {
    let floor_of = |path: &str| FLOORS.iter().position(|floor| path.split(['/', ':']).next() == Some(floor));
    let Some(floor) = name.strip_prefix("crates/np-core/src/").and_then(floor_of) else { return vec![] };
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let lines = code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines
        .filter_map(|(i, line)| {
            let up = line.split("crate::").skip(1).filter_map(floor_of).find(|other| *other > floor)?;
            let (from, to) = (FLOORS[floor], FLOORS[up]);
            Some(format!("{name}:{}: `{from}` stands below `{to}` and must not import from it", i + 1))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_file_has_no_findings() {
        assert!(check("src/lib.rs", "//! Good.\nfn main() {}\n").is_empty());
        assert!(check("README.md", "# Good\n").is_empty());
    }

    #[test]
    fn imports_run_downwards() {
        let engine = "crates/np-core/src/engine/driver.rs";
        let up =
            "//! Up.\nuse crate::config::options::Options;\nuse crate::optim::sgd::Sgd;\n/// [`crate::registry`]\n";
        assert_eq!(
            upward(engine, up),
            [format!("{engine}:3: `engine` stands below `optim` and must not import from it")]
        );
        assert!(upward(engine, "#[cfg(test)]\nmod tests { use crate::optim::sgd::Sgd; }\n").is_empty());
        assert!(upward("crates/np-core/src/registry/mod.rs", up).is_empty());
        assert!(upward("crates/np-core/src/lib.rs", up).is_empty());
    }

    #[test]
    fn findings_name_file_line_and_word() {
        let found = check("a.rs", &format!("//! Bad.\nfn a() {{ {}) }}\n", CODE[0]));
        assert_eq!(found, [format!("a.rs:2: `{}` must not be here: fn a() {{ {}) }}", CODE[0], CODE[0])]);
        assert_eq!(check("a.md", &format!("{}x\n", PATHS[0])).len(), 1);
        assert!(check("a.md", &format!("never {}\n", CODE[3])).is_empty(), "rules may be written about");
        assert_eq!(check("a.rs", "fn a() {}").len(), 2, "no head, no newline");
        let long = format!("//! Long.\n{}", "\n".repeat(LONGEST));
        assert!(check("a.rs", &long)[0].starts_with("a.rs: 401 lines, more than 400"));
    }

    #[test]
    fn the_list_of_a_repository_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| Command::new("git").args(arguments).current_dir(dir.path()).output().unwrap();
        git(&["init", "--quiet"]);
        fs::write(dir.path().join(".gitignore"), "hidden.rs\n").unwrap();
        fs::write(dir.path().join("hidden.rs"), "").unwrap();
        fs::write(dir.path().join("seen.rs"), "fn a() {}\n").unwrap();
        assert_eq!(files(dir.path()).unwrap(), ["seen.rs"]);
        let message = run(dir.path()).unwrap_err().to_string();
        assert_eq!(message, "1 finding\nseen.rs:1: no `//!` head: say what lives here");
    }
}
