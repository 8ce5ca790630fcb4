//! Checks pages for everything but links: the table of contents, the documentation tests, the README's length, and the form of blocks.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::BOOK;
use super::markdown::{Block, Page};

/// The most words that a README may have.
const WORDS: usize = 900;

/// The documentation tests of all pages with Rust blocks.
const TESTS: &str = "crates/np-book/src/lib.rs";

/// Languages of blocks. rust: documentation tests; yaml: `np plan`; sh: run in a shell; toml: compared with the workspace's versions; others: not checked.
const LANGUAGES: [&str; 7] = ["rust", "yaml", "sh", "toml", "text", "python", "r"];

/// Allowed beginnings of a mark `<!-- sh: … -->`.
pub(super) const MARKS: [&str; 2] = ["tested by ", "not run, "];

/// The faults of pages, as messages.
pub(super) fn check(root: &Path, pages: &[Page]) -> Result<Vec<String>> {
    let read = |name: &str| fs::read_to_string(root.join(name)).with_context(|| format!("cannot read `{name}`"));
    let (contents, tests, versions) = (read(&format!("{BOOK}/SUMMARY.md"))?, read(TESTS)?, read("Cargo.toml")?);
    let mut findings = Vec::new();
    for page in pages {
        let name = &page.name;
        if let Some(inner) = name.strip_prefix("docs/src/").filter(|inner| *inner != "SUMMARY.md")
            && !contents.contains(&format!("({inner})"))
        {
            findings.push(format!("{name}: not in `{BOOK}/SUMMARY.md`"));
        }
        if name == "README.md" && page.words > WORDS {
            findings.push(format!("{name}: {} words, more than {WORDS}: move some of it into the book", page.words));
        }
        if !["RESULTS.md", "CHANGELOG.md"].contains(&name.as_str()) {
            findings.extend(page.long.iter().map(|(line, length)| format!("{name}:{line}: {length} characters")));
        }
        if tested(name) {
            findings.extend(page.blocks.iter().filter_map(|block| form(name, block, &versions)));
            let rust = page.blocks.iter().any(|block| block.language.starts_with("rust"));
            if rust && !tests.contains(&format!("\"../../../{name}\"")) {
                findings.push(format!("{name}: has Rust blocks, and is not in `{TESTS}`"));
            }
        }
    }
    Ok(findings)
}

/// Whether the blocks of a page are tested: those of READMEs and of the book.
pub(super) fn tested(name: &str) -> bool {
    name.ends_with("README.md") || name.starts_with("docs/src/")
}

/// The fault of a block's form; `None` if there is none.
fn form(name: &str, block: &Block, versions: &str) -> Option<String> {
    let Block { line, language, text, mark } = block;
    let kind = language.split(',').next().unwrap_or_default();
    if !LANGUAGES.contains(&kind) {
        return Some(format!("{name}:{line}: `{language}` is none of {}", LANGUAGES.join(", ")));
    }
    if kind == "rust" && !text.contains("fn main()") {
        return Some(format!("{name}:{line}: no `fn main()`: a block is a program that can be pasted"));
    }
    if let Some(mark) = mark
        && !MARKS.iter().any(|known| mark.starts_with(known))
    {
        return Some(format!("{name}:{line}: the mark `{mark}` begins with none of `{}`", MARKS.join("`, `")));
    }
    if kind == "toml" && text.starts_with("[dependencies]") {
        let stale = text.lines().skip(1).find(|line| !current(line, versions))?;
        return Some(format!("{name}:{line}: `{stale}` is not what the workspace's `Cargo.toml` has"));
    }
    None
}

/// Whether a line of dependencies names a version, or a folder beside this one, that the workspace has.
fn current(line: &str, versions: &str) -> bool {
    let Some((name, value)) = line.split_once(" = ") else { return line.trim().is_empty() };
    let Some(ours) = versions.lines().find_map(|line| line.strip_prefix(&format!("{name} = "))) else { return false };
    let quoted = |text: &str, key: &str| {
        let rest = if key.is_empty() { text } else { text.split_once(key)?.1 };
        rest.split('"').nth(1).map(str::to_owned)
    };
    match quoted(value, "path").filter(|_| value.contains("path")) {
        Some(path) => quoted(ours, "path").is_some_and(|ours| path.ends_with(&format!("/{ours}"))),
        None => match (quoted(value, ""), quoted(ours, "")) {
            (Some(asked), Some(ours)) => ours == asked || ours.starts_with(&format!("{asked}.")),
            _ => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSIONS: &str = "candle-core = \"0.11.1\"\nnp-core = { path = \"crates/np-core\", version = \"0.1.0\" }\n";

    fn form_of(language: &str, text: &str, mark: Option<&str>) -> Option<String> {
        let block = Block { line: 7, language: language.into(), text: text.into(), mark: mark.map(str::to_owned) };
        form("p.md", &block, VERSIONS)
    }

    #[test]
    fn a_block_says_what_it_is() {
        assert_eq!(form_of("rust,no_run", "fn main() {}", None), None);
        assert!(form_of("rust", "let x = 1;", None).unwrap().contains("no `fn main()`"));
        assert!(form_of("", "", None).unwrap().contains("is none of rust"));
        assert_eq!(form_of("sh", "ls", Some("not run, needs a GPU")), None);
        assert!(form_of("sh", "ls", Some("skip")).unwrap().contains("the mark `skip`"));
    }

    #[test]
    fn dependencies_are_those_of_the_workspace() {
        let block = |lines: &str| form_of("toml", &format!("[dependencies]\n{lines}\n"), None);
        assert_eq!(block("candle-core = \"0.11\"\nnp-core = { path = \"../neuroplastic/crates/np-core\" }"), None);
        assert!(block("candle-core = \"0.10\"").unwrap().contains("is not what the workspace"));
        assert!(block("np-core = { path = \"../neuroplastic/np-core\" }").is_some());
        assert!(block("rand = \"1\"").is_some());
    }
}
