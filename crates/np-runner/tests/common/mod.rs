//! A laboratory in a temporary folder: an experiment file, a store, and the real `np`.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// A tiny experiment: two arms, two seeds, seconds in all.
pub(crate) const TINY: &str = "\
name: tiny
question: Does it run?
data: {name: mnist, source: mini, fraction: 0.05}
model: {mlp: {hidden: [16], dropout: 0.1}}
train: {epochs: 2, batch_size: 32}
seeds: [1, 2]
arms:
  full: {optimizer: {neuroplastic: {lr: 0.1, coefficient: {scale: 2.0, warmup_epochs: 1}}}}
  sgd: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}
";

/// A temporary folder with an experiment in it.
pub(crate) struct Lab {
    dir: TempDir,
}

impl Lab {
    /// A laboratory whose only experiment is `tiny.yaml`, with this text.
    pub(crate) fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tiny.yaml"), text).unwrap();
        Self { dir }
    }

    /// A path in the laboratory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The `np` command, in the laboratory's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_np"));
        command.current_dir(self.dir.path()).args(args).env_remove("NP_DATA_DIR").env("RUST_BACKTRACE", "1");
        command
    }

    /// Runs `np` to its end.
    pub(crate) fn np(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs `np`, which must succeed; its standard output and error.
    pub(crate) fn good(&self, args: &[&str]) -> (String, String) {
        let output = self.np(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "np {args:?}: {}\n{out}\n{err}", output.status);
        (out, err)
    }

    /// Every file of a store, with its content.
    pub(crate) fn files(&self, store: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(&self.path(store), &mut files);
        files
    }

    /// Every record of a store.
    pub(crate) fn records(&self, store: &str) -> Vec<serde_json::Value> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(self.path(&format!("{store}/runs"))).into_iter().flatten() {
            paths.push(entry.unwrap().path());
        }
        // Beside records there may be the temporary file of one that is being written.
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.iter().map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
    }

    /// `result_sha256` of every record of a store, by id.
    pub(crate) fn results(&self, store: &str) -> BTreeMap<String, String> {
        self.records(store).iter().map(|record| (word(&record["id"]), word(&record["result_sha256"]))).collect()
    }

    /// The process that trains a run of a plan of `tiny.yaml` below this folder.
    pub(crate) fn worker(&self, id: &str) -> Option<String> {
        let trains = |pid: &String| {
            let read =
                |name: &str| fs::read(format!("/proc/{pid}/{name}")).map(|bytes| text(&bytes)).unwrap_or_default();
            let folder = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let command = read("cmdline");
            command.contains("\0exec\0tiny") && command.contains(id) && folder.starts_with(self.dir.path())
        };
        let names =
            fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).find(trains)
    }

    /// Waits until something holds; fails after two minutes.
    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(120);
        while Instant::now() < end {
            if holds(self) {
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("waited in vain for {what}");
    }
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn word(value: &serde_json::Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

/// Four IDX files of made-up images of a published set's form, 100 + 50 of them.
pub(crate) fn foreign(folder: &Path, salt: u8) {
    fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 100_u32), ("t10k", 50)] {
        let images = (0..count * 784).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ salt);
        let head = |magic: u32, sizes: &[u32]| [&[magic], sizes].concat().into_iter().flat_map(u32::to_be_bytes);
        let images: Vec<u8> = head(0x803, &[count, 28, 28]).chain(images).collect();
        let labels: Vec<u8> = head(0x801, &[count]).chain((0..count).map(|i| (i % 10) as u8)).collect();
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// Half of Fashion-MNIST, from a folder.
const FULL: &str = "data: {name: fashion-mnist, source: full, fraction: 0.5}";

/// The tiny experiment on Fashion-MNIST's files.
pub(crate) fn lab_of_full() -> Lab {
    Lab::new(TINY.replace("data: {name: mnist, source: mini, fraction: 0.05}", FULL))
}
