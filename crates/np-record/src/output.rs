//! Checks of an output path: a file is not written over one of its sources, into a store, or over a file of another kind.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Why a file must not be written to a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// It would replace one of its sources.
    #[error("`{}` is what it is made from", path.display())]
    Source {
        /// The file, links followed.
        path: PathBuf,
    },
    /// It would be in a folder of a store.
    #[error("`{}` is in a folder of the store `{}`, which has files of its own alone", path.display(), store.display())]
    InStore {
        /// The file, links followed.
        path: PathBuf,
        /// The store.
        store: PathBuf,
    },
    /// It would replace a file of another kind.
    #[error("`{}` is there already, and is no {kind}: it is not replaced", path.display())]
    Other {
        /// The file, links followed.
        path: PathBuf,
        /// The kind of file that may be replaced.
        kind: &'static str,
    },
    /// The existing file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file, links followed.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl OutputError {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Source { .. } => Some("choose another file"),
            Self::InStore { .. } => Some("choose another folder"),
            Self::Other { .. } => Some("choose another file, or remove this one"),
            Self::Io { .. } => None,
        }
    }
}

/// A kind of file, recognised by its first bytes.
#[derive(Debug, Clone, Copy)]
pub struct OutputKind {
    /// Its name in messages, such as `HTML page`.
    pub name: &'static str,
    /// Whether a file with these first bytes, at most 64, is of this kind.
    pub is: fn(&[u8]) -> bool,
}

impl OutputKind {
    /// An HTML page, such as one of `np report`.
    pub const HTML: Self = Self { name: "HTML page", is: is_html };
}

/// Bytes that tell a file's kind.
const BEGINNING: u64 = 64;

/// Folders of a store.
const FOLDERS: [&str; 6] = ["plans", "runs", "snapshots", "locks", "files", "launch"];

/// `Ok` if a file that is made from `sources` may be written to `path`: if nothing is there, or an empty file, a file of `kind`, or something that is
/// not a regular file (a device, a pipe). Links are followed, even if their target does not exist.
///
/// # Errors
///
/// [`OutputError`] if it may not.
pub fn check_output(path: &Path, kind: OutputKind, sources: &[PathBuf]) -> Result<(), OutputError> {
    let real = landing(path, 0);
    let about = fs::metadata(&real);
    if about.as_ref().is_ok_and(|about| !about.is_file()) {
        return Ok(());
    }
    if sources.iter().any(|source| fs::canonicalize(source).is_ok_and(|source| source == real)) {
        return Err(OutputError::Source { path: real });
    }
    if let Some(store) = store_around(&real) {
        return Err(OutputError::InStore { path: real, store });
    }
    if about.is_err() {
        return Ok(());
    }
    let mut start = Vec::new();
    match File::open(&real).and_then(|file| file.take(BEGINNING).read_to_end(&mut start)) {
        Err(source) => Err(OutputError::Io { path: real, source }),
        Ok(_) if start.is_empty() || (kind.is)(&start) => Ok(()),
        Ok(_) => Err(OutputError::Other { path: real, kind: kind.name }),
    }
}

fn is_html(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    text.starts_with(b"<!doctype html") || text.starts_with(b"<html")
}

/// Links that are followed one after another.
const LINKS: usize = 40;

/// Where a file of this name is, or would be made.
fn landing(path: &Path, links: usize) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(real) = fs::canonicalize(&path) {
        return real;
    }
    let Some(parent) = path.parent() else { return path };
    match fs::read_link(&path) {
        // To something that is not there yet.
        Ok(to) if links < LINKS => landing(&parent.join(to), links + 1),
        _ => match path.file_name() {
            Some(name) => landing(parent, links).join(name),
            None => landing(parent, links),
        },
    }
}

/// The store in one of whose folders a file is: what has `plans`, and another of a store's folders.
fn store_around(path: &Path) -> Option<PathBuf> {
    let inside = path.ancestors().skip(1).find(|folder| {
        let is_own = FOLDERS.iter().any(|name| folder.file_name().is_some_and(|own| own == *name));
        let Some(root) = folder.parent().filter(|_| is_own) else { return false };
        root.join("plans").is_dir() && FOLDERS[1..].iter().any(|other| root.join(other).is_dir())
    })?;
    inside.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_replaced_by_its_own_kind_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let check = |name: &str| check_output(&at(name), OutputKind::HTML, &[at("spec.yaml"), at("page.html")]);
        fs::create_dir_all(at("store/plans")).unwrap();
        fs::create_dir_all(at("store/runs/deep")).unwrap();
        fs::create_dir_all(at("mine/runs")).unwrap();
        for (name, text) in [
            ("spec.yaml", "name: x"),
            ("other.yaml", "name: y"),
            ("store/runs/a.json", "{}"),
            ("page.html", "<!doctype html>"),
            ("own.html", "\u{feff}\n<!DOCTYPE HTML>\n"),
            ("empty", ""),
        ] {
            fs::write(at(name), text).unwrap();
        }
        for good in ["own.html", "empty", "new/er.html", "store/page.html", "mine/runs/page.html", "store"] {
            check(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        assert!(matches!(check("spec.yaml"), Err(OutputError::Source { .. })));
        assert!(matches!(check("page.html"), Err(OutputError::Source { .. })), "whatever kind it is of");
        assert!(matches!(check("other.yaml"), Err(OutputError::Other { .. })));
        for inside in ["store/runs/a.json", "store/runs/new.html", "store/plans/x/new.html", "store/runs/deep/new.html"]
        {
            assert!(matches!(check(inside), Err(OutputError::InStore { .. })), "{inside}");
        }
        assert_eq!(fs::read(at("spec.yaml")).unwrap(), b"name: x");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_to_where_the_file_would_be() {
        use std::os::unix::fs::symlink;

        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let check = |name: &str| check_output(&at(name), OutputKind::HTML, &[at("spec.yaml")]);
        fs::create_dir_all(at("store/plans")).unwrap();
        fs::create_dir_all(at("store/runs")).unwrap();
        fs::write(at("spec.yaml"), "name: x").unwrap();
        for (to, link) in [
            ("spec.yaml", "link"),
            ("link", "twice"),
            ("store/runs/new.json", "dangling"),
            ("store/runs", "folder"),
            ("circle", "circle"),
            ("page.html", "fine"),
        ] {
            symlink(to, at(link)).unwrap();
        }
        assert!(matches!(check("link"), Err(OutputError::Source { .. })));
        assert!(matches!(check("twice"), Err(OutputError::Source { .. })));
        assert!(matches!(check("dangling"), Err(OutputError::InStore { .. })));
        assert!(matches!(check("folder/new.html"), Err(OutputError::InStore { .. })));
        check("fine").unwrap();
        check("circle").unwrap();
        check_output(Path::new("/dev/null"), OutputKind::HTML, &[]).unwrap();
    }
}
