//! A fingerprint of the code that `np` is built from, taken when it is built and again when runs start.
//!
//! Where the two agree, the source tree still holds what this binary was built from, and may be asked for its commit. The build script
//! includes this file, so it needs the standard library alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What is built into `np`, in a crate: code, embedded data, manifest, build script. Not its tests.
const PARTS: [&str; 4] = ["Cargo.toml", "build.rs", "mini", "src"];

/// Files and folders of the workspace at `root` whose content is built into `np`; those that are there.
pub(crate) fn sources(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut sources = vec![root.join("Cargo.lock"), root.join("Cargo.toml")];
    for entry in fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        sources.extend(PARTS.iter().map(|part| folder.join(part)));
    }
    sources.retain(|path| path.exists());
    sources.sort();
    Ok(sources)
}

/// The fingerprint of the workspace at `root`, which does not depend on where that is; `None` where it is no workspace.
pub(crate) fn of(root: &Path) -> Option<String> {
    let mut files = Vec::new();
    for source in sources(root).ok()? {
        collect(&source, &mut files).ok()?;
    }
    files.sort();
    let mut hash = Fnv::default();
    for file in files {
        let bytes = fs::read(&file).ok()?;
        hash.update(file.strip_prefix(root).ok()?.to_string_lossy().as_bytes());
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    Some(format!("{:016x}", hash.0))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        collect(&entry?.path(), files)?;
    }
    Ok(())
}

/// Fowler, Noll and Vo's FNV-1a, 64 bits: against accidents, not against forgers.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        // From the authors' list of test vectors.
        for (text, want) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            let mut hash = Fnv::default();
            hash.update(text.as_bytes());
            assert_eq!(hash.0, want, "{text}");
        }
    }

    #[test]
    fn code_counts_and_the_rest_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            of(dir.path()).unwrap()
        };
        assert_eq!(of(dir.path()), None, "no workspace");
        let first = write("crates/a/src/lib.rs", "one");
        assert_eq!(write("crates/a/tests/all.rs", "test"), first);
        assert_eq!(write("README.md", "words"), first);
        let second = write("crates/a/src/lib.rs", "two");
        assert_ne!(second, first);
        assert_ne!(write("crates/b/mini/data.gz", ""), second);
        fs::remove_dir_all(dir.path().join("crates/b")).unwrap();
        assert_eq!(write("crates/a/src/lib.rs", "one"), first);
    }
}
