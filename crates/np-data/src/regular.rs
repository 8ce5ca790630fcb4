//! Opens files only if they are regular: reading a pipe in place of a data file could wait for ever.

use std::fs::{self, File, FileType};
use std::path::Path;

use crate::error::Error;

/// Opens a regular file, or one that a link leads to. What else has its name is not opened.
///
/// # Errors
/// [`Error::Foreign`] if it is no regular file; [`Error::Io`] if the system refuses.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let refused = |source| Error::Io { path: path.to_path_buf(), source };
    let kind = fs::metadata(path).map_err(refused)?.file_type();
    if kind.is_file() {
        return File::open(path).map_err(refused);
    }
    let (expected, found) = ("a regular file".to_owned(), what(kind).to_owned());
    Err(Error::Foreign { path: path.to_path_buf(), expected, found, remedy: "put the data file itself there" })
}

fn what(kind: FileType) -> &'static str {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt as _;
        if kind.is_fifo() {
            return "a pipe";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    if kind.is_dir() { "a folder" } else { "something else" }
}
