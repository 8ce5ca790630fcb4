//! No more threads than cores, whatever is asked for; and a system that gives none is an error like any other.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fs,
    process::{Command, Stdio},
};

use common::{Lab, TINY, text};

/// A stack that no address space has room for: no thread can be started, as where a limit (`ulimit -u`) is reached.
const NO_STACK: (&str, &str) = ("RUST_MIN_STACK", "281474976710656");

/// A store with a plan in it, and nothing trained.
fn planned(lab: &Lab, args: &[&str]) {
    let (plan, _) = lab.good(&[&["plan", "tiny.yaml", "--json"], args].concat());
    fs::create_dir_all(lab.path("store/plans")).unwrap();
    fs::write(lab.path("store/plans/tiny.json"), plan).unwrap();
}

#[test]
fn as_many_threads_as_there_are_cores() {
    let lab = Lab::new(TINY);
    let cores = std::thread::available_parallelism().unwrap().get();
    let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "all", "--jobs", "9999", "--threads", "9999"]);
    let note = format!("note: `--jobs 9999` and `--threads 9999` ask for more than the {cores} cores");
    assert!(said.contains(&note) && said.contains("on 1 thread each"), "{said}");
    let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "wide", "--threads", "9999"]);
    assert!(said.contains(&format!("1 at a time on {cores} thread")), "{said}");
    let counts: Vec<u64> =
        lab.records("wide").iter().map(|record| record["provenance"]["threads"].as_u64().unwrap()).collect();
    assert_eq!(counts, [cores as u64; 4]);

    // A task of a cluster may be told of more than it gets.
    planned(&lab, &[]);
    let args = ["exec", "tiny", "0", "--store", "store", "--threads", "9999"];
    let output = lab.command(&args).env("RAYON_NUM_THREADS", "9999").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    assert!(text(&output.stdout).contains("not 9999: there are no more cores"), "{}", text(&output.stdout));
    assert_eq!(lab.records("store")[0]["provenance"]["threads"], cores);
}

#[test]
fn no_threads_are_an_error_and_no_panic() {
    let lab = Lab::new(TINY);
    let np = |args: &[&str]| lab.command(args).env(NO_STACK.0, NO_STACK.1).stdin(Stdio::null()).output().unwrap();
    let output = np(&["run", "tiny.yaml", "--store", "launched"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: cannot start a thread that hears a worker: ") && said.contains("ulimit -u"),
        "{said}"
    );
    assert!(!said.contains("panicked"), "{said}");
    assert!(lab.worker("").is_none(), "no worker is left alone");

    planned(&lab, &[]);
    for supervised in [&[][..], &["--supervised"]] {
        let output = np(&[&["exec", "tiny", "0", "--store", "store", "--threads", "1"], supervised].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("error: cannot start ") && !said.contains("panicked"), "{said}");
    }
    let reason = lab.records("store")[0]["outcome"]["reason"].to_string();
    assert!(reason.contains("cannot start 1 thread: "), "{reason}");

    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../np-core/tests/golden/adamw.safetensors");
    let said = text(&np(&["conform", golden]).stderr);
    assert!(said.contains("error: cannot start ") && !said.contains("panicked"), "{said}");
}

/// Waits until process `id` has `file` open.
#[cfg(target_os = "linux")]
fn reads(id: u32, file: &std::path::Path) {
    let open = || fs::read_dir(format!("/proc/{id}/fd")).unwrap().flatten();
    while !open().any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path == file)) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_worker_that_still_reads_its_data_ends_at_once() {
    let lab = Lab::new(TINY);
    // No digest is needed: it never gets as far.
    planned(&lab, &["--set", "data.source=full"]);
    let plan = fs::read_to_string(lab.path("store/plans/tiny.json")).unwrap();
    let name = plan.split("\"experiment\": \"").nth(1).unwrap().split('"').next().unwrap();
    fs::rename(lab.path("store/plans/tiny.json"), lab.path(&format!("store/plans/{name}.json"))).unwrap();
    fs::create_dir_all(lab.path("data/mnist")).unwrap();
    // A file without content, which takes no room on a disk and a while to be read.
    let images = lab.path("data/mnist/train-images-idx3-ubyte");
    let count = 2_000_000_u32;
    fs::write(&images, [0x803, count, 28, 28].map(u32::to_be_bytes).concat()).unwrap();
    let length = 16 + 28 * 28 * u64::from(count);
    fs::OpenOptions::new().write(true).open(&images).unwrap().set_len(length).unwrap();
    let images = images.canonicalize().unwrap();
    for (signal, code) in [(Some("TERM"), 130), (Some("INT"), 130), (Some("USR2"), 76), (None, 130)] {
        let mut command = lab.command(&["exec", name, "0", "--store", "store", "--data-dir", "data"]);
        command.args(signal.is_none().then_some("--supervised"));
        let mut worker = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        reads(worker.id(), &images);
        match signal {
            Some(signal) => {
                let id = worker.id().to_string();
                assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
            }
            None => drop(worker.stdin.take()),
        }
        let stdin = worker.stdin.take();
        let output = worker.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{signal:?}: {}", text(&output.stderr));
        drop(stdin);
        assert!(lab.records("store").is_empty(), "nothing has failed");
    }
}
