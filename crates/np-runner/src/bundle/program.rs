//! The program that a folder takes along: as small as it gets here, and for which machines it is.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use flate2::{Compression, write::GzEncoder};

use crate::{
    error::{Error, Fault, Place, Result},
    provenance::{BuiltFrom, trains_on_gpus},
};

/// A program, ready to be taken along.
#[derive(Debug)]
pub(super) struct Program {
    /// Its bytes, without symbols where `strip` is at hand, as gzip.
    pub(super) compressed: Vec<u8>,
    /// Bytes of the program itself.
    pub(super) size: u64,
    /// For which machines it is.
    pub(super) machine: String,
    /// What it was built from, where that is known.
    pub(super) source: Option<BuiltFrom>,
    /// Whether it trains on GPUs, where it says so.
    pub(super) on_gpus: Option<bool>,
}

/// The program at `path`, or this one.
pub(super) fn carried(path: Option<&Path>, work: &Path) -> Result<Program> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => std::env::current_exe().map_err(Error::io("np"))?,
    };
    let bytes = match stripped(&path, work) {
        Some(bytes) => bytes,
        None => fs::read(&path).map_err(Error::io(&path))?,
    };
    let Some(machine) = machine(&bytes) else {
        let place = Place::Option(format!("--program {}", path.display()));
        return Err(Fault::new(place, "expected a program of Linux (ELF)").hint("name a built `np`").into());
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let compressed = encoder.write_all(&bytes).and_then(|()| encoder.finish()).map_err(Error::io(&path))?;
    let (source, on_gpus) = (BuiltFrom::of(&bytes), trains_on_gpus(&bytes));
    Ok(Program { compressed, size: bytes.len() as u64, machine, source, on_gpus })
}

/// A program without its symbols; `None` where that cannot be had.
fn stripped(path: &Path, work: &Path) -> Option<Vec<u8>> {
    let to = work.join("np.stripped");
    let mut command = Command::new("strip");
    command.arg("-o").arg(&to).arg(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let done = command.status().is_ok_and(|status| status.success());
    let bytes = fs::read(&to).ok().filter(|_| done);
    let _ = fs::remove_file(to);
    bytes
}

/// Whether a program can make data sets of parquet files; `None` if it cannot be started here, or no `np`.
pub(super) fn imports(path: &Path) -> Option<bool> {
    let path: PathBuf = std::path::absolute(path).ok()?;
    let asks = |words: &[&str]| {
        let mut command = Command::new(&path);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    asks(&["--version"]).then(|| asks(&["data", "import", "--help"]))
}

/// `x86-64 Linux, glibc 2.34 or later`, by the head of an ELF file and the versions that it names; `None` for anything else.
fn machine(bytes: &[u8]) -> Option<String> {
    let head = bytes.first_chunk::<20>().filter(|head| head.starts_with(b"\x7fELF"))?;
    let (kind, little) = ([head[18], head[19]], head[5] == 1);
    let kind = if little { u16::from_le_bytes(kind) } else { u16::from_be_bytes(kind) };
    // Numbers of `e_machine`, from elf.h.
    let cpu = match kind {
        62 => "x86-64".to_owned(),
        183 => "aarch64".to_owned(),
        243 => "RISC-V".to_owned(),
        other => format!("ELF machine {other}"),
    };
    let library = match glibc(bytes) {
        Some((major, minor)) => format!(", glibc {major}.{minor} or later"),
        None => String::new(),
    };
    Some(format!("{cpu} Linux{library}"))
}

/// The latest version of glibc that a program names.
fn glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const NAME: &[u8] = b"GLIBC_";
    let starts = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    let version = |(at, _): (usize, &[u8])| {
        let rest = &bytes[at + NAME.len()..];
        let length = rest.iter().take(12).take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
        let (major, minor) = std::str::from_utf8(&rest[..length]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    starts.filter_map(version).max()
}

#[cfg(test)]
mod tests {
    use super::machine;

    #[test]
    fn a_program_says_its_machine() {
        let elf = |kind: u16, rest: &[u8]| {
            let head = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 9], &[2, 0], &kind.to_le_bytes()].concat();
            machine(&[&head, rest].concat())
        };
        assert_eq!(
            elf(62, b"GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.2.5\0GLIBC_PRIVATE").unwrap(),
            "x86-64 Linux, glibc 2.34 or later"
        );
        assert_eq!(elf(183, b"").unwrap(), "aarch64 Linux");
        assert_eq!(elf(9, b"GLIBC_").unwrap(), "ELF machine 9 Linux");
        for other in [&b""[..], b"\x7fELF", b"#!/bin/sh\necho a script that is long enough\n"] {
            assert_eq!(machine(other), None);
        }
    }
}
