//! Checks links to files and folders of this repository and to headings of its pages. Other addresses are not checked.

use std::path::{Component, Path, PathBuf};

use super::markdown::Page;

/// How the book, which is read in other places as well, names a file or folder of this repository.
const REPOSITORY: [&str; 2] = [
    "https://github.com/neuroplastic-rs/neuroplastic/blob/main/",
    "https://github.com/neuroplastic-rs/neuroplastic/tree/main/",
];

/// The broken links of a page, as messages.
pub(super) fn check(root: &Path, page: &Page, pages: &[Page]) -> Vec<String> {
    let wrong = |(line, target): &(usize, String)| {
        let why = dead(root, page, target, pages)?;
        Some(format!("{}:{line}: `{target}` {why}", page.name))
    };
    let include = |(line, target): &(usize, String)| {
        let place = plain(&folder(page).join(target));
        (!root.join(place).exists()).then(|| format!("{}:{line}: `{target}` does not exist", page.name))
    };
    page.links.iter().filter_map(wrong).chain(page.includes.iter().filter_map(include)).collect()
}

/// The folder that relative links start from.
fn folder(page: &Page) -> &Path {
    Path::new(&page.name).parent().unwrap_or(Path::new(""))
}

/// Why a link is broken; `None` if it is not.
fn dead(root: &Path, page: &Page, target: &str, pages: &[Page]) -> Option<String> {
    if target.starts_with('[') {
        return Some("is not defined on this page".into());
    }
    let named = REPOSITORY.iter().find_map(|start| target.strip_prefix(start));
    let elsewhere = |(scheme, _): (&str, &str)| scheme.chars().all(char::is_alphanumeric);
    if named.is_none() && target.split_once(':').is_some_and(elsewhere) {
        return None;
    }
    let whole = named.unwrap_or(target);
    let (path, heading) = whole.split_once('#').unwrap_or((whole, ""));
    let place = match (named, path) {
        (Some(_), _) => plain(Path::new(path)),
        (None, "") => PathBuf::from(&page.name),
        (None, _) => plain(&folder(page).join(path)),
    };
    if !root.join(&place).exists() {
        return Some("does not exist".into());
    }
    // A book has its own pages and the figures beside it; what else is here is read on GitHub.
    let inside = named.is_some() || place.starts_with("docs/src") || place.starts_with("figures");
    if page.name.starts_with("docs/src") && !inside {
        return Some(format!("leads out of the book\nhint: `{}{}`", REPOSITORY[0], place.display()));
    }
    if heading.is_empty() {
        return None;
    }
    let name = place.to_string_lossy();
    match pages.iter().find(|page| page.name == name) {
        Some(page) if page.anchors.iter().any(|anchor| anchor == heading) => None,
        Some(_) => Some("has no such heading".into()),
        None => Some("names a heading of what is not one of the pages".into()),
    }
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(name: &str, text: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let pages = [Page::read(name, text), Page::read("README.md", "# One\n## Two words\n")];
        check(root, &pages[0], &pages)
    }

    #[test]
    fn links_to_files_folders_and_headings_are_followed() {
        let text = "[a](README.md#two-words) [b](crates) [c](https://example.org/none) [d](#here)\n# Here\n";
        assert!(findings("RESULTS.md", text).is_empty());
        let found = findings("RESULTS.md", "[a](none.md)\n[b](README.md#three)\n[c](#there) [d][x]\n");
        let expected = [
            "RESULTS.md:1: `none.md` does not exist",
            "RESULTS.md:2: `README.md#three` has no such heading",
            "RESULTS.md:3: `#there` has no such heading",
            "RESULTS.md:3: `[x]` is not defined on this page",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_book_names_files_by_address() {
        let good = format!("[a]({}xtask/src/book.rs) [b](../../figures/cpu/fig2.png)\n", REPOSITORY[0]);
        assert!(findings("docs/src/page.md", &good).is_empty());
        let bad = format!("[a]({}none.rs)\n[b](../../Cargo.toml)\n", REPOSITORY[0]);
        let found = findings("docs/src/page.md", &bad);
        assert!(found[0].ends_with("none.rs` does not exist"), "{found:?}");
        assert!(found[1].contains("leads out of the book\nhint: `https://"), "{found:?}");
    }
}
