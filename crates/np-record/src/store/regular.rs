//! Reading what others may have put there: a pipe in a file's place would be waited for without end.

use std::fs;
use std::io;
use std::path::Path;

/// The bytes of a regular file, or of one that a link leads to; `None` if something else has its name: a folder, a pipe, a device, a link that
/// leads around in a circle. That is not opened.
///
/// # Errors
///
/// Those of the system, where it refuses to look or to read; [`io::ErrorKind::NotFound`] if there is nothing.
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
