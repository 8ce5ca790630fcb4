//! A disk that is full, a store that cannot be written, files cut short, a clock that is wrong: nothing that is done is lost, the message
//! says what is the matter, and once it is mended the same command goes on to the same records.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use common::{Lab, TINY, text};
use np_record::Store;

const SNAPSHOTS: [&str; 2] = ["--snapshot-every", "1epoch"];

fn undisturbed(lab: &Lab) -> BTreeMap<String, String> {
    lab.good(&["run", "tiny.yaml", "--store", "whole"]);
    lab.results("whole")
}

/// Runs a shell script in the laboratory, with `$NP` as the command. What it mounts is seen by nobody else and goes with it.
///
/// `None`, and said so, where this user may not mount anything.
fn with_mounts(lab: &Lab, script: &str) -> Option<(bool, String)> {
    let shell = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", script]).current_dir(lab.path(""));
        command.env("NP", env!("CARGO_BIN_EXE_np")).env_remove("NP_DATA_DIR").stdin(Stdio::null());
        command.output()
    };
    fs::create_dir_all(lab.path("store")).unwrap();
    match shell("mount -t tmpfs -o size=1m tmpfs store") {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("not tested: no file system can be mounted here: {}", text(&output.stderr).trim());
            return None;
        }
        Err(error) => {
            eprintln!("not tested: no `unshare` here: {error}");
            return None;
        }
    }
    let output = shell(script).unwrap();
    Some((output.status.success(), text(&output.stderr)))
}

fn said(lab: &Lab, name: &str) -> String {
    fs::read_to_string(lab.path(name)).unwrap()
}

#[test]
fn a_full_disk_stops_a_sweep_and_loses_nothing() {
    let lab = Lab::new(TINY);
    let whole = undisturbed(&lab);
    let script = r#"
        mount -t tmpfs -o size=1m tmpfs store
        sweep() { "$NP" run tiny.yaml --store store --snapshot-every 1epoch "$@"; }
        sweep --arm sgd 2>one
        cp -r store kept
        dd if=/dev/zero of=store/filler bs=1k 2>dd && exit 9
        code=0; sweep 2>full || code=$?; [ $code = 1 ] || exit 8
        # The plan is there, and no room for a record.
        rm store/filler; "$NP" plan tiny.yaml --json --store store >store/plans/tiny.json
        dd if=/dev/zero of=store/filler bs=1k 2>dd && exit 9
        code=0; sweep 2>fuller || code=$?; [ $code = 1 ] || exit 8
        rm store/filler
        cp -r store between
        sweep 2>last
        cp -r store end
    "#;
    let Some((good, stderr)) = with_mounts(&lab, script) else { return };
    assert!(good, "{stderr}\n{}\n{}", said(&lab, "full"), said(&lab, "last"));
    for name in ["full", "fuller"] {
        let said = said(&lab, name);
        assert!(said.contains("No space left on device") && said.contains("\n  hint: make room"), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    }
    assert!(said(&lab, "full").contains("error: cannot write `store/plans/tiny.json`: "));
    assert!(said(&lab, "fuller").contains("error: cannot write `store/runs/"));
    let kept = lab.files("kept/runs");
    assert_eq!(kept.len(), 2);
    for (path, bytes) in kept {
        let name = path.file_name().unwrap();
        assert_eq!(fs::read(lab.path("between/runs").join(name)).unwrap(), bytes);
        assert_eq!(fs::read(lab.path("end/runs").join(name)).unwrap(), bytes);
    }
    assert!(lab.files("between/runs").len() == 2, "nothing half-written stays");
    assert_eq!(lab.results("end"), whole);
    assert!(lab.files("end/snapshots").is_empty() && lab.files("end/locks").is_empty());
}

#[test]
fn a_read_only_store_is_read_and_refused_for_the_rest() {
    let lab = Lab::new(TINY);
    let whole = undisturbed(&lab);
    let script = r#"
        mount -t tmpfs -o size=1m tmpfs store
        sweep() { "$NP" run tiny.yaml --store store "$@"; }
        sweep 2>one >table
        rm "$(ls store/runs/*.json | head -1)"
        mount -o remount,ro store
        code=0; sweep 2>refused || code=$?; [ $code = 1 ] || exit 8
        code=0; sweep --seeds 3 2>plan || code=$?; [ $code = 1 ] || exit 8
        mount -o remount,rw store
        sweep 2>last
        cp -r store end
        mount -o remount,ro store
        # What needs no writing works.
        sweep 2>nothing >again
        "$NP" compare tiny.yaml --store store >compared
    "#;
    let Some((good, stderr)) = with_mounts(&lab, script) else { return };
    assert!(good, "{stderr}\n{}", said(&lab, "refused"));
    for name in ["refused", "plan"] {
        let said = said(&lab, name);
        assert!(said.contains("Read-only file system") && said.contains("\n  hint: let this user"), "{said}");
        assert_eq!(said.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{said}");
    }
    assert_eq!(lab.results("end"), whole);
    assert!(said(&lab, "nothing").contains("nothing to train"));
    assert_eq!(said(&lab, "again"), said(&lab, "table"));
    assert!(!said(&lab, "compared").is_empty());
}

/// The same without a file system of its own, for whoever may not mount one: no file may grow beyond so many blocks of 512 bytes.
#[test]
fn files_that_may_not_grow_lose_nothing() {
    let lab = Lab::new(TINY);
    let whole = undisturbed(&lab);
    let limited = |before: &str| {
        let script = format!("{before}; exec \"$NP\" run tiny.yaml --store store --snapshot-every 1epoch");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).current_dir(lab.path("")).env("NP", env!("CARGO_BIN_EXE_np"));
        command.env_remove("NP_DATA_DIR").output().unwrap()
    };
    let output = limited("trap '' XFSZ; ulimit -f 1");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: cannot write `store/plans/tiny.json`: File too large"), "{said}");
    assert!(said.contains("\n  hint: make room"), "{said}");
    assert!(lab.files("store").is_empty(), "nothing half-written stays");

    // Where nobody ignores the signal it ends the process, in the middle of a file.
    let output = limited("ulimit -f 1");
    assert_eq!(output.status.code(), None, "{}", text(&output.stderr));
    assert!(lab.results("store").is_empty());

    // Plan and records fit, snapshots do not: they are done without.
    let output = limited("trap '' XFSZ; ulimit -f 64");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("no snapshot is kept: "), "{said}");
    assert_eq!(lab.results("store"), whole);
}

/// A file cut to so many bytes, or by so many from its end.
fn cut(path: &Path, to: i64) {
    let mut bytes = fs::read(path).unwrap();
    let length = if to < 0 { bytes.len() - to.unsigned_abs() as usize } else { to as usize };
    bytes.truncate(length);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_record_or_a_plan_that_is_cut_short_is_named_and_the_rest_stays() {
    let lab = Lab::new(TINY);
    let whole = undisturbed(&lab);
    lab.good(&["run", "tiny.yaml", "--store", "store"]);
    let record = lab.files("store/runs").into_keys().next().unwrap();
    for (path, kind) in [(record, "record"), (lab.path("store/plans/tiny.json"), "plan")] {
        for to in [0, 1, 700, -2] {
            cut(&path, to);
            let (cut, others) = (fs::read(&path).unwrap(), without(&lab.files("store"), &path));
            let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "store"]);
            let name = Path::new("store").join(path.strip_prefix(lab.path("store")).unwrap());
            let says = format!("`{}` is not a whole {kind}: at `", name.display());
            assert!(said.contains(&says) && said.contains("set aside as `"), "{said}");
            assert_eq!(lab.results("store"), whole, "made anew");
            // What was there is kept under another name, and nothing else was touched.
            let mut now = without(&lab.files("store"), &path);
            let aside = now.keys().find(|path| !others.contains_key(*path)).unwrap().clone();
            assert!(aside.to_string_lossy().contains(".json.damaged-"), "{aside:?}");
            assert_eq!(now.remove(&aside), Some(cut));
            assert_eq!(now, others);
            assert!(lab.good(&["run", "tiny.yaml", "--store", "store"]).1.contains("nothing to train"));
        }
    }
}

fn without(files: &BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files.iter().filter(|(other, _)| *other != path).map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
}

/// Gives every file of a store this time.
fn dated(lab: &Lab, seconds: u64) {
    for path in lab.files("store").into_keys() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

/// The clock was wrong when the store was written, or is wrong now: what is done is told by ids and digests, never by times.
#[test]
fn a_clock_that_was_set_back_changes_nothing() {
    let lab = Lab::new(TINY.replace("epochs: 2", "epochs: 30"));
    let whole = undisturbed(&lab);
    let arguments = ["run", "tiny.yaml", "--store", "store", "--jobs", "1"];
    // In 2100, and in 1970.
    for seconds in [4_102_444_800, 1] {
        let sweep = [&arguments[..], &SNAPSHOTS].concat();
        let launcher = lab.command(&sweep).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        lab.wait_for("a record", |lab| !lab.results("store").is_empty());
        assert!(Command::new("kill").arg(launcher.id().to_string()).status().unwrap().success());
        launcher.wait_with_output().unwrap();
        let store = Store::open(lab.path("store")).unwrap();
        for id in store.ids().unwrap() {
            let mut record = store.read_record(&id).unwrap().unwrap();
            record.provenance.started.replace_range(..4, "2099");
            store.write_record(&record).unwrap();
        }
        dated(&lab, seconds);
        let (done, kept) = (lab.files("store/runs"), !lab.files("store/snapshots").is_empty());
        let (_, said) = lab.good(&sweep);
        assert!(!said.contains("damaged"), "{said}");
        assert_eq!(said.contains("goes on after epoch"), kept, "{said}");
        assert_eq!(lab.results("store"), whole);
        let now = lab.files("store/runs");
        assert!(done.iter().all(|(path, bytes)| now[path] == *bytes), "what was done is not done again");
        lab.good(&["compare", "tiny.yaml", "--store", "store"]);
        fs::remove_dir_all(lab.path("store")).unwrap();
    }
}
