//! Reads files only if they are regular: reading a pipe in place of a file could wait for ever.

use std::fs;
use std::io;
use std::path::Path;

/// The bytes of a regular file, or of the one that a link leads to. `None` if the path is something else, such as a folder, a pipe, a device or a circular
/// link, which is not opened.
///
/// # Errors
///
/// Those of the system; [`io::ErrorKind::NotFound`] if there is nothing at the path.
pub fn read_regular(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(about) if about.is_file() => fs::read(path).map(Some),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
        Err(error) => {
            // The link itself can be looked at, and what it leads to cannot.
            let circles = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink())
                && error.kind() != io::ErrorKind::PermissionDenied;
            if circles { Ok(None) } else { Err(error) }
        }
    }
}
