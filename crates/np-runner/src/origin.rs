//! Which file a store's plan was made from: `files/NAME` holds the way to it, seen from the store, so that two files of one name do not take
//! turns in replacing each other's plan.
//!
//! A way and not a digest, because a file that was edited makes its own plan anew; seen from the store, because a checkout may move. What is not
//! there any more keeps nobody from its name.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use np_record::{Plan, Store, read_regular, write_atomic};

use crate::error::{Fault, Place, Result};

/// Where the way to a plan's file is kept.
fn note(store: &Store, plan: &Plan) -> PathBuf {
    store.root().join("files").join(&plan.experiment)
}

/// A note's text, if it is one.
fn read(note: &Path) -> Option<String> {
    String::from_utf8(read_regular(note).ok()??).ok()
}

/// The file that a plan was made from, if it is still there.
pub(crate) fn of(store: &Store, plan: &Plan) -> Option<PathBuf> {
    fs::canonicalize(store.root().join(read(&note(store, plan))?.trim_end())).ok()
}

/// Refuses a plan that would replace that of another file.
///
/// # Errors
/// A fault that names the other file.
pub(crate) fn check(store: &Store, plan: &Plan, file: &Path) -> Result<()> {
    let Some(other) = of(store, plan) else { return Ok(()) };
    let same = fs::canonicalize(file).is_ok_and(|file| file == other);
    // One that cannot be read is replaced by nobody, or set aside as damaged.
    let old = store.read_plan(&plan.experiment).ok().flatten();
    if same || old.is_none_or(|old| old.spec_sha256 == plan.spec_sha256) {
        return Ok(());
    }
    let folder = store.root().display();
    let text = format!("the plan `{}` in `{folder}` is of another file, `{}`", plan.experiment, other.display());
    let hint = "rename one of the two files and its experiment, or choose another folder with `--store`";
    Err(Fault::new(Place::File(file.to_owned(), None), text).hint(hint).into())
}

/// Notes which file a plan is of. Where nothing can be written, plan or records will say so.
pub(crate) fn keep(store: &Store, plan: &Plan, file: &Path) {
    let Ok((file, root)) = fs::canonicalize(file).and_then(|file| Ok((file, fs::canonicalize(store.root())?))) else {
        return;
    };
    let path = note(store, plan);
    if let Some(text) = between(&root, &file).to_str().map(|way| format!("{way}\n"))
        && read(&path).as_ref() != Some(&text)
    {
        let _ = write_atomic(&path, text.as_bytes());
    }
}

/// The way from a folder to a file.
fn between(folder: &Path, file: &Path) -> PathBuf {
    let shared = folder.components().zip(file.components()).take_while(|(a, b)| a == b).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(file.components().skip(shared)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_leads_up_and_down() {
        let way = |folder: &str, file: &str| between(Path::new(folder), Path::new(file));
        assert_eq!(way("/a/experiments/records/cpu", "/a/experiments/x.yaml"), Path::new("../../x.yaml"));
        assert_eq!(way("/a", "/a/b/x.yaml"), Path::new("b/x.yaml"));
        assert_eq!(way("/s", "/a/x.yaml"), Path::new("../a/x.yaml"));
    }
}
