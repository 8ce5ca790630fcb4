//! `cargo xtask book --run`: plans YAML blocks, runs shell blocks, and compares tables with the output of the commands that print them, in the
//! repository's root.
//!
//! A YAML block with a name is an experiment; it is in the root as `NAME.yaml` while the shell blocks of its page run. Other YAML blocks are parts of
//! an experiment and are completed. Files that a page's commands leave in the root are removed afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::markdown::Page;
use super::pages;
use crate::command::cargo;

/// The keys that every experiment needs, each with a default line.
const LEAST: [(&str, &str); 4] = [
    ("name", "name: block"),
    ("question", "question: \"Is this block an experiment?\""),
    ("seeds", "seeds: [1]"),
    ("arms", "arms: {one: {optimizer: sgd}}"),
];

/// Runs the blocks of all pages; the first that fails ends it.
pub(super) fn run(root: &Path, all: &[Page]) -> Result<()> {
    for page in all.iter().filter(|page| pages::tested(&page.name)) {
        let before = names_in(root)?;
        let outcome = run_page(root, page);
        for left in names_in(root)?.difference(&before) {
            fs::remove_file(root.join(left)).with_context(|| format!("cannot remove `{left}`"))?;
        }
        outcome?;
    }
    Ok(())
}

/// The files of a folder.
fn names_in(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root).context("cannot read the repository's root")? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            names.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(names)
}

fn run_page(root: &Path, page: &Page) -> Result<()> {
    for block in page.blocks.iter().filter(|block| block.language == "yaml") {
        let at = format!("{}:{}", page.name, block.line);
        let text = experiment(&block.text);
        let name = text.lines().find_map(|line| line.strip_prefix("name: ")).unwrap_or_default();
        let name = name.split_whitespace().next().unwrap_or_default();
        let path = root.join(format!("{name}.yaml"));
        if path.exists() {
            bail!("{at}: `{name}.yaml` is there already");
        }
        fs::write(&path, &text).with_context(|| format!("cannot write `{}`", path.display()))?;
        println!("{at}: planned");
        let file = format!("{name}.yaml");
        let output = cargo(root, &["run", "--quiet", "--bin", "np", "--", "plan", &file])
            .env_remove("NP_DATA_DIR")
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("{at}: `np plan` refuses it:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        if name == "block" {
            fs::remove_file(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
    }
    for block in page.blocks.iter().filter(|block| block.language == "sh") {
        let at = format!("{}:{}", page.name, block.line);
        match &block.mark {
            Some(mark) => println!("{at}: {mark}"),
            None => {
                println!("{at}: run");
                shell(root, &block.text).with_context(|| at)?;
            }
        }
    }
    for printed in &page.printed {
        let at = format!("{}:{}", page.name, printed.line);
        println!("{at}: printed by `{}`", printed.command);
        let said = shell(root, &printed.command).with_context(|| at.clone())?;
        if let Some(other) = printed.lines.iter().find(|line| !said.lines().any(|said| said == *line)) {
            bail!("{at}: `{}` does not print\n  {other}\nbut\n{said}", printed.command);
        }
    }
    Ok(())
}

/// A block's text, completed to an experiment.
fn experiment(text: &str) -> String {
    let has = |key: &str| text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    let lacking: Vec<&str> = LEAST.iter().filter(|(key, _)| !has(key)).map(|(_, line)| *line).collect();
    if lacking.is_empty() { text.to_owned() } else { format!("{}\n{text}", lacking.join("\n")) }
}

/// Runs a script, which must succeed, and returns its output.
fn shell(root: &Path, script: &str) -> Result<String> {
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(root)
        .env_remove("NP_DATA_DIR")
        .output()
        .context("cannot start `bash`")?;
    if !output.status.success() {
        bail!("ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_experiment_gets_what_it_lacks() {
        let whole = experiment("data: {name: mnist}\nseeds: 1..3\n");
        let expected = "name: block\nquestion: \"Is this block an experiment?\"\narms: {one: {optimizer: sgd}}\ndata: {name: mnist}\nseeds: 1..3\n";
        assert_eq!(whole, expected);
        assert_eq!(experiment(&whole), whole);
    }

    #[test]
    fn what_a_page_leaves_is_removed_and_what_it_prints_is_held_to_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kept"), "").unwrap();
        let page = |printed: &str| {
            let text = format!("```sh\necho '| 2 |' > left\n```\n<!-- printed by: cat left -->\n{printed}\n");
            let page = Page::read("README.md", &text);
            assert_eq!(page.blocks.len(), 1);
            page
        };
        run(dir.path(), &[page("| 2 |")]).unwrap();
        assert_eq!(names_in(dir.path()).unwrap(), ["kept".to_owned()].into());
        let message = run(dir.path(), &[page("| 3 |")]).unwrap_err().to_string();
        assert!(message.starts_with("README.md:4: `cat left` does not print\n  | 3 |"), "{message}");
        assert_eq!(names_in(dir.path()).unwrap().len(), 1, "after an error, too");
    }
}
