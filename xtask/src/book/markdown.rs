//! Parses a page: its headings, links and fenced blocks, each with its line number. It knows only the Markdown that the pages here use.

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Its path from the repository's root, with `/`.
    pub(crate) name: String,
    /// Identifiers of its headings, as GitHub and mdBook make them.
    pub(crate) anchors: Vec<String>,
    /// Targets of its links and images, with their lines.
    pub(crate) links: Vec<(usize, String)>,
    /// The files that it includes, with the line.
    pub(crate) includes: Vec<(usize, String)>,
    /// Its fenced blocks.
    pub(crate) blocks: Vec<Block>,
    /// Lines of prose that are longer than they should be: number and length.
    pub(crate) long: Vec<(usize, usize)>,
    /// Tables with a mark that names the command which prints them.
    pub(crate) printed: Vec<Printed>,
    /// Number of words.
    pub(crate) words: usize,
}

/// A fenced block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Block {
    /// The line of its opening fence.
    pub(crate) line: usize,
    /// The text after the opening fence: `rust`, `rust,no_run`, `sh`.
    pub(crate) language: String,
    /// Its lines.
    pub(crate) text: String,
    /// The text of a comment `<!-- sh: … -->` before it.
    pub(crate) mark: Option<String>,
}

/// Lines that a command must print: `<!-- printed by: COMMAND -->` before a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    /// The line of the mark.
    pub(crate) line: usize,
    /// The command.
    pub(crate) command: String,
    /// The table's lines.
    pub(crate) lines: Vec<String>,
}

/// Longest line of prose and code, in characters. Tables, images and definitions of links cannot be broken.
const WIDEST: usize = 100;

impl Page {
    /// Reads a page.
    pub(crate) fn read(name: &str, text: &str) -> Self {
        let mut page = Self { name: name.to_owned(), words: text.split_whitespace().count(), ..Self::default() };
        let (mut open, mut mark, mut prose): (Option<Block>, Option<String>, Vec<(usize, &str)>) = (None, None, vec![]);
        let mut printing = false;
        for (i, line) in text.lines().enumerate() {
            let (number, trimmed) = (i + 1, line.trim_start());
            if let Some(block) = &mut open {
                if trimmed.trim_end() == "```" {
                    page.blocks.extend(open.take());
                } else {
                    page.note_width(number, line);
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                continue;
            }
            if let Some(language) = trimmed.strip_prefix("```") {
                let language = language.trim().to_owned();
                open = Some(Block { line: number, language, text: String::new(), mark: mark.take() });
                continue;
            }
            if let Some(said) = comment(trimmed, "sh:") {
                mark = Some(said);
            } else if let Some(command) = comment(trimmed, "printed by:") {
                page.printed.push(Printed { line: number, command, lines: vec![] });
                printing = true;
            } else if !trimmed.is_empty() && !trimmed.starts_with("<!--") {
                mark = None;
            }
            match page.printed.last_mut() {
                Some(printed) if printing && trimmed.starts_with('|') => printed.lines.push(line.to_owned()),
                Some(printed) if printing && !printed.lines.is_empty() => printing = false,
                _ => {}
            }
            if let Some(heading) = trimmed.strip_prefix('#') {
                page.anchors.push(anchor(heading.trim_start_matches('#').trim()));
            }
            if let Some(target) = trimmed.strip_prefix("{{#include ").and_then(|rest| rest.split(['}', ':']).next()) {
                page.includes.push((number, target.to_owned()));
            }
            let unbroken = ["|", "![", "["].iter().any(|start| trimmed.starts_with(start));
            if !unbroken && !["<!--=", "](http"].iter().any(|part| trimmed.contains(part)) {
                page.note_width(number, line);
            }
            prose.push((number, line));
        }
        page.links = links(&prose);
        page
    }

    fn note_width(&mut self, number: usize, line: &str) {
        let length = line.chars().count();
        if length > WIDEST {
            self.long.push((number, length));
        }
    }
}

/// What stands behind `key` in a comment that is the whole line.
fn comment(line: &str, key: &str) -> Option<String> {
    let inner = line.trim().strip_prefix("<!--")?.strip_suffix("-->")?;
    Some(inner.trim().strip_prefix(key)?.trim().to_owned())
}

/// The identifier of a heading: letters, digits, `-` and `_`, lower case, spaces as `-`.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    heading.to_lowercase().chars().filter_map(kept).collect()
}

/// Targets of `](target)` and of `[name]: target`, outside of code spans. A `[text][name]` without a definition is a link to `[name]`.
fn links(prose: &[(usize, &str)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut defined = Vec::new();
    // A link's text may be broken over lines: joined, with the number of the line that each byte came from.
    let mut text = String::new();
    let mut starts = Vec::new();
    for (number, line) in prose {
        starts.push((text.len(), *number));
        text.push_str(&without_code(line));
        text.push('\n');
    }
    let line_of = |at: usize| starts.iter().rev().find(|(start, _)| *start <= at).map_or(1, |(_, number)| *number);
    for (at, _) in text.match_indices("](") {
        if let Some((target, _)) = text[at + 2..].split_once(')') {
            found.push((line_of(at), target.split_whitespace().next().unwrap_or_default().to_owned()));
        }
    }
    for (number, line) in prose {
        if let Some((name, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            defined.push(name.to_owned());
            found.push((*number, target.trim().to_owned()));
        }
    }
    for (at, _) in text.match_indices("][") {
        let Some((name, _)) = text[at + 2..].split_once(']') else { continue };
        if !defined.iter().any(|known| known == name) {
            found.push((line_of(at), format!("[{name}]")));
        }
    }
    found
}

/// The line with what stands in back-ticks taken out.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let text = "# The *first* page, v1.0\n\n[a\nb](x.md#y) `[no](link)` ![i](p.png) [r][ref] [s][none]\n\n<!-- sh: not run, why -->\n```sh\nls\n```\n\n  ```rust,no_run\n  [not](a link)\n  ```\n\n[ref]: https://e.org\n{{#include ../A.md:2:}}\n";
        let page = Page::read("p.md", text);
        assert_eq!(page.anchors, ["the-first-page-v10"]);
        let targets: Vec<_> = page.links.iter().map(|(line, target)| (*line, target.as_str())).collect();
        assert_eq!(targets, [(4, "x.md#y"), (4, "p.png"), (15, "https://e.org"), (4, "[none]")]);
        assert_eq!(page.includes, [(16, "../A.md".to_owned())]);
        assert_eq!(page.blocks[0].mark.as_deref(), Some("not run, why"));
        assert_eq!(
            (page.blocks[1].language.as_str(), page.blocks[1].line, &page.blocks[1].mark),
            ("rust,no_run", 11, &None)
        );
    }

    #[test]
    fn a_table_that_a_command_prints_is_found() {
        let page = Page::read("p.md", "<!-- printed by: np x -->\n\n| a |\n| 1 |\n\n| other |\n");
        let lines = vec!["| a |".to_owned(), "| 1 |".to_owned()];
        assert_eq!(page.printed, [Printed { line: 1, command: "np x".into(), lines }]);
    }

    #[test]
    fn long_lines_are_counted_in_characters_and_tables_are_spared() {
        let wide = "α ".repeat(51);
        let page = Page::read("p.md", &format!("{wide}\n| {wide} |\n{}\n", "α".repeat(100)));
        assert_eq!(page.long, [(1, 102)]);
    }
}
