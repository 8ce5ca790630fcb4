//! Writes files atomically: a file is there in full or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path`. A reader finds the old file or the new one, never a part, even after a power failure.
///
/// The bytes are written to a temporary file in the same folder, synced to the disk (`fsync`) and renamed; then the folder is synced. The
/// temporary file has a random name that begins with a dot and ends in `.tmp`, and must not exist before, so that no link is followed.
/// Missing folders are created. If several writers write to one path, the last one wins.
///
/// # Errors
///
/// Those of the file system; the temporary file is removed then.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, None, |file| file.write_all(bytes))
}

/// As [`write_atomic`], for what is too large to be held as a whole: `fill` writes it.
pub(crate) fn write_filled(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    write_with(path, None, fill)
}

/// [`write_atomic`] for an executable: it has execute permission before it gets its final name.
///
/// # Errors
///
/// As [`write_atomic`].
pub fn write_program(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_with(path, Some(0o755), |file| file.write_all(bytes))
}

/// Writes an output to a path that a user has chosen. A regular file, or the target of a link, is replaced as by [`write_atomic`]. Anything else,
/// such as a device or a pipe, is written into.
///
/// # Errors
///
/// Those of the file system.
pub fn write_output(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if about.is_file() => write_atomic(&fs::canonicalize(path)?, bytes),
        Err(_) if fs::symlink_metadata(path).is_err() => write_atomic(path, bytes),
        // No file, or a link to a file that is not there yet.
        _ => OpenOptions::new().write(true).create(true).truncate(true).open(path)?.write_all(bytes),
    }
}

/// The most of a file's name that its temporary file repeats, in characters: names have a limit.
const REPEATED: usize = 64;

fn write_with(path: &Path, mode: Option<u32>, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path has no file name"));
    };
    create_folders(folder)?;

    let prefix: String = name.to_string_lossy().chars().take(REPEATED).collect();
    let prefix = format!(".{prefix}.");
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp").rand_bytes(12);
    open_to_all(&mut builder, mode.unwrap_or(0o666));
    let mut temporary = builder.tempfile_in(folder).map_err(of_the_system)?;
    fill(temporary.as_file_mut())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// What the system said, without the temporary file's name, which is of no use to anybody.
fn of_the_system(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((said, _)) => io::Error::new(error.kind(), said),
        None => error,
    }
}

/// Who may do what with the file, but for what the process's mask takes away: a temporary file is its owner's alone otherwise.
#[cfg(unix)]
fn open_to_all(builder: &mut tempfile::Builder<'_, '_>, mode: u32) {
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
}

#[cfg(not(unix))]
fn open_to_all(_: &mut tempfile::Builder<'_, '_>, _: u32) {}

/// `create_dir_all`, with every new entry brought to the disk.
fn create_folders(folder: &Path) -> io::Result<()> {
    let missing: Vec<PathBuf> = folder.ancestors().take_while(|a| !a.exists()).map(Path::to_path_buf).collect();
    fs::create_dir_all(folder)?;
    for created in missing.iter().rev() {
        match created.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent)?,
            _ => sync_folder(Path::new("."))?,
        }
    }
    Ok(())
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened as a file; the rename is atomic all the same.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c.json");
        write_atomic(&path, b"one, and longer").unwrap();
        write_atomic(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_the_folder_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("name");
        fs::create_dir_all(taken.join("inside")).unwrap();
        assert!(write_atomic(&taken, b"x").is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(write_atomic(Path::new("/"), b"x").is_err());
        let nowhere = write_atomic(Path::new("/proc/none.json"), b"x").unwrap_err();
        assert!(!nowhere.to_string().contains(".tmp"), "{nowhere}");
    }

    #[test]
    fn many_writers_of_one_path_leave_one_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shared.json");
        std::thread::scope(|scope| {
            for letter in b'a'..=b'h' {
                let path = &path;
                scope.spawn(move || write_atomic(path, &vec![letter; 100_000]).unwrap());
            }
        });
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 100_000);
        assert!(bytes.iter().all(|b| *b == bytes[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn temporary_names_are_new_and_files_are_as_readable_as_any() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};

        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "safe").unwrap();
        // The names that a process with this id would have taken, one after another.
        for count in 0..100 {
            symlink(&victim, dir.path().join(format!(".a.json.{}-{count}.tmp", std::process::id()))).unwrap();
        }
        let path = dir.path().join("a.json");
        write_atomic(&path, b"x").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"safe");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 102);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), mode(&victim), "as the mask of the process has it");
        let program = dir.path().join("np");
        write_program(&program, b"#!/bin/sh\n").unwrap();
        assert_eq!(mode(&program) & 0o100, 0o100);
        write_atomic(&dir.path().join("n".repeat(250)), b"x").unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_regular_file_is_written_into() {
        use std::os::unix::fs::{FileTypeExt as _, symlink};

        let dir = tempfile::tempdir().unwrap();
        let (plain, link) = (dir.path().join("plain"), dir.path().join("link"));
        symlink("plain", &link).unwrap();
        for text in ["made behind the link", "replaced"] {
            write_output(&link, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&plain).unwrap(), text);
            assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        }
        write_output(&plain, b"again").unwrap();
        assert_eq!(fs::read(&plain).unwrap(), b"again");

        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        write_output(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());

        write_output(Path::new("/dev/null"), b"gone").unwrap();
        assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
        assert!(write_output(dir.path(), b"x").is_err(), "a folder");
    }
}
