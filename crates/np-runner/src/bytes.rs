//! The bytes of an experiment file, and what is said where there are none to be had.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use crate::error::{Error, Fault, Place, Result, suggest};

/// Bytes that a file may have, and that its values may take with every alias written out. The largest experiment here has 4,000.
pub(crate) const LARGEST: usize = 1 << 20;

/// The bytes of the file at `path`.
///
/// # Errors
/// A [`Fault`] if there is none, if it is too large, or if it might be waited for without end.
pub(crate) fn bytes_of(path: &Path) -> Result<Vec<u8>> {
    let whole = || Place::File(path.to_owned(), None);
    let bytes = read_some(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::new(whole(), "there is no such file").hint_if(neighbours(path)).into(),
        io::ErrorKind::IsADirectory => {
            Fault::new(whole(), "expected a file, got a folder").hint_if(neighbours(&path.join("x"))).into()
        }
        _ => Error::Io { path: path.to_owned(), source: error },
    })?;
    match bytes {
        None => {
            let fault = Fault::new(whole(), "expected a regular file, got a pipe or a device");
            Err(fault.hint("save what it gives as a file, and name that").into())
        }
        Some(bytes) if bytes.len() > LARGEST => {
            let text = format!("expected an experiment of at most {LARGEST} bytes, got more");
            Err(Fault::new(whole(), text).hint("name the experiment's YAML file").into())
        }
        Some(bytes) => Ok(bytes),
    }
}

/// The bytes of a file, up to one more than it may have; `None` if it is a pipe or a device, which might be waited for without end. What is named
/// below `/dev` or `/proc`, as `/dev/stdin` is and a shell's `<(…)`, is read all the same: whoever names it means it.
fn read_some(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let about = fs::metadata(path)?;
    let is_meant = ["/dev", "/proc"].iter().any(|root| path.starts_with(root));
    if !about.is_file() && !about.is_dir() && !is_meant {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// The experiment files in the folder of `path`, as a hint.
fn neighbours(path: &Path) -> Option<String> {
    let folder = match path.parent()? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    let mut files: Vec<String> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    files.sort();
    suggest(&path.file_name()?.to_string_lossy(), files)
}
