//! `cargo xtask tidy`: rules of this project that the compiler does not check.
//!
//! It checks the files that git tracks, and untracked ones that it does not ignore.

use std::collections::{BTreeMap, BTreeSet};
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
const FLOORS: [&str; 4] = ["any", "optim", "neuroplastic", "registry"];

/// Sources whose modules of the first level must not import each other in a circle. Their `lib.rs` only names modules and re-exports.
const ACYCLIC: [&str; 2] = ["crates/np-engine/src/", "crates/np-core/src/"];

/// Runs the command.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut findings = Vec::new();
    let mut circles: Vec<_> = ACYCLIC.iter().map(|source| (*source, Imports::default())).collect();
    let files = files(root)?;
    for name in &files {
        let path = root.join(name);
        // Deleted, and not yet in the index; or a link to nowhere.
        if !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read `{name}`"))?;
        findings.extend(check(name, &text));
        for (source, imports) in &mut circles {
            if let Some(file) = name.strip_prefix(*source).and_then(|file| file.strip_suffix(".rs")) {
                imports.read(file, &text);
            }
        }
    }
    for (source, imports) in circles {
        findings
            .extend(imports.circle().map(|path| format!("{source}: modules import each other in a circle: {path}")));
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
    let ups = imports(text).into_iter().filter_map(|(line, module)| Some((line, floor_of(&module)?)));
    ups.filter(|(_, up)| *up > floor)
        .map(|(line, up)| {
            let (from, to) = (FLOORS[floor], FLOORS[up]);
            format!("{name}:{line}: `{from}` stands below `{to}` and must not import from it")
        })
        .collect()
}

/// The modules of its crate that a file names before its tests, each with the line; `lib` for what is at the root.
fn imports(text: &str) -> Vec<(usize, String)> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let without = |line: &str| if line.trim_start().starts_with("//") { String::new() } else { line.to_string() };
    let code: String = code.lines().map(|line| without(line) + "\n").collect();
    let mut found = vec![];
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        found.extend(names(&code[at + "crate::".len()..]).into_iter().map(|name| (line, name)));
    }
    found
}

/// The modules of a crate's first level, each with those that it imports.
#[derive(Default)]
struct Imports(BTreeMap<String, BTreeSet<String>>);

impl Imports {
    /// Adds what a file imports; tests do not count.
    fn read(&mut self, file: &str, text: &str) {
        let module = file.split('/').next().unwrap_or(file);
        if file.ends_with("tests") || module.ends_with("tests") {
            return;
        }
        let others = imports(text).into_iter().map(|(_, other)| other).filter(|other| other != module);
        self.0.entry(module.to_string()).or_default().extend(others);
        // The root re-exports from all modules.
        let root = self.0.entry("lib".to_string()).or_default();
        root.extend((module != "lib").then(|| module.to_string()));
    }

    /// Modules that import each other in a circle, if there are any.
    fn circle(&self) -> Option<String> {
        let mut left: Vec<&String> = self.0.keys().collect();
        loop {
            let stays = |name: &&String| self.0[*name].iter().any(|other| left.contains(&other));
            let after: Vec<&String> = left.iter().copied().filter(stays).collect();
            if after.is_empty() {
                return None;
            }
            if after.len() == left.len() {
                break;
            }
            left = after;
        }
        // Each that is left imports another that is left, so that the way goes on until it comes back.
        let mut way = vec![*left.first()?];
        loop {
            let next = left.iter().find(|other| way.last().is_some_and(|last| self.0[*last].contains(**other)))?;
            let known = way.iter().position(|name| name == next);
            way.push(next);
            if let Some(known) = known {
                return Some(way[known..].iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → "));
            }
        }
    }
}

/// The modules that an import names, from after its `crate::`.
fn names(path: &str) -> Vec<String> {
    let name = |path: &str| {
        let name = path.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        let root = name.starts_with(char::is_uppercase);
        (!name.is_empty()).then(|| if root { "lib".to_string() } else { name.to_string() })
    };
    let Some(group) = path.strip_prefix('{') else { return name(path).into_iter().collect() };
    // A group, in which there may be others.
    let (mut depth, mut all, mut start) = (0, vec![], 0);
    for (at, c) in group.char_indices() {
        match c {
            ',' | '}' if depth == 0 => {
                all.extend(name(&group[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    all
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
        let low = "crates/np-core/src/optim/sgd.rs";
        let up = "//! Up.\nuse crate::any::Any;\nuse crate::neuroplastic::step::Step;\n/// [`crate::registry`]\n";
        assert_eq!(
            upward(low, up),
            [format!("{low}:3: `optim` stands below `neuroplastic` and must not import from it")]
        );
        assert!(upward(low, "#[cfg(test)]\nmod tests { use crate::registry::Any; }\n").is_empty());
        assert!(upward("crates/np-core/src/registry/mod.rs", up).is_empty());
        assert!(upward("crates/np-core/src/lib.rs", up).is_empty());
    }

    #[test]
    fn circles_of_modules_are_found() {
        let mut imports = Imports::default();
        imports.read("lib", "pub use a::A;\n");
        imports.read("top", "use crate::a::A;\n");
        imports
            .read("a/mod", "use crate::{b, d::D};\n// use crate::top;\n#[cfg(test)]\nmod tests { use crate::top; }\n");
        imports.read("a/tests", "use crate::top;\n");
        imports.read("b", "fn f() { crate::c::f() }\n");
        imports.read("d", "");
        assert_eq!(imports.circle(), None);
        assert_eq!(names("{a::{b, c::d},\n    Root,\n    e}; use crate::f"), ["a", "lib", "e"]);
        let mut rooted = Imports::default();
        rooted.read("a", "use crate::{\n    b,\n    Root,\n};\n");
        rooted.read("b", "");
        assert_eq!(rooted.circle().unwrap(), "`a` → `lib` → `a`");
        imports.read("c", "use crate::a::inner::A;\n");
        assert_eq!(imports.circle().unwrap(), "`a` → `b` → `c` → `a`");
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
