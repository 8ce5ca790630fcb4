//! Killed at any moment, damaged, or started twice at once: a sweep ends with the records of an undisturbed one, bit for bit.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::Instant,
};

use common::{Lab, TINY, text};

/// Four runs with everything that a snapshot has to keep: moments, traces, counts of steps, a half-done accumulation, a schedule, dropout.
fn long() -> String {
    TINY.replace("epochs: 2", "epochs: 40")
        .replace("sgd: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}", "adam: {optimizer: adam}")
        + "options: {accumulate: 3, schedule: cosine}\n"
}

const EVERY: [&str; 6] = ["--jobs", "2", "--threads", "1", "--snapshot-every", "1epoch"];

fn undisturbed(lab: &Lab) -> BTreeMap<String, String> {
    lab.good(&["run", "tiny.yaml", "--store", "whole", "--snapshot-every", "never"]);
    lab.results("whole")
}

fn sweep(lab: &Lab, said: &fs::File) -> Child {
    let args = [&["run", "tiny.yaml", "--store", "cut"][..], &EVERY].concat();
    lab.command(&args).stdout(Stdio::null()).stderr(said.try_clone().unwrap()).spawn().unwrap()
}

/// The workers of a launcher: its children, from the table of processes.
fn workers(launcher: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // `pid (name) state parent …`; the name may hold anything.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(launcher) {
            found.push(pid);
        }
    }
    found
}

/// SIGKILL to launcher and workers; the launcher is stopped before, so that it cannot see its workers die.
fn kill_all(mut launcher: Child) {
    let kill = |name: &str, pids: &[u32]| {
        let pids = pids.iter().map(u32::to_string);
        let _ = Command::new("kill").args(["-s", name]).args(pids).stderr(Stdio::null()).status().unwrap();
    };
    kill("STOP", &[launcher.id()]);
    let workers = workers(launcher.id());
    if !workers.is_empty() {
        kill("KILL", &workers);
    }
    launcher.kill().unwrap();
    launcher.wait().unwrap();
}

/// Names of the files below a folder of the store.
fn names(lab: &Lab, folder: &str) -> Vec<String> {
    let files = lab.files(folder);
    files.keys().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// SIGKILL to the launcher alone: its workers find out by themselves, keep what they have done, and end.
fn orphan(mut launcher: Child) {
    launcher.kill().unwrap();
    launcher.wait().unwrap();
}

#[test]
fn killed_at_twenty_moments_it_ends_with_the_same_bits() {
    let lab = Lab::new(long().replace("[1, 2]", "[1, 2, 3]").replace("epochs: 40", "epochs: 250"));
    let began = Instant::now();
    let whole = undisturbed(&lab);
    // On a machine of any speed: twenty rounds of a sixteenth on average are hardly more than the whole sweep.
    let longest = began.elapsed() / 8;
    let said = fs::File::options().create(true).append(true).open(lab.path("said")).unwrap();
    let (mut moment, mut in_the_middle) = (7_u64, 0);
    for round in 0..20 {
        let launcher = sweep(&lab, &said);
        // From the start of the process to the middle of the runs.
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(longest.mul_f64((moment >> 33) as f64 / f64::from(1_u32 << 31)));
        // The next sweep begins at once, while orphans may still be at work.
        if round % 3 == 2 {
            orphan(launcher);
        } else {
            kill_all(launcher);
        }
        in_the_middle += usize::from(lab.results("cut").len() < whole.len());
    }
    assert!(in_the_middle > 0, "every kill came after the end");
    let (_, last) = lab.good(&["run", "tiny.yaml", "--store", "cut"]);
    let said = fs::read_to_string(lab.path("said")).unwrap() + &last;
    assert_eq!(lab.results("cut"), whole);
    assert!(said.contains("goes on after epoch"), "no run was resumed: {said}");
    assert!(!said.contains("failed") && !said.contains("damaged"), "{said}");
    assert!(names(&lab, "cut/snapshots").is_empty(), "{:?}", names(&lab, "cut/snapshots"));
    assert!(names(&lab, "cut/locks").is_empty());
}

#[test]
fn a_plan_that_is_replaced_meanwhile_changes_nothing_for_a_sweep_under_way() {
    let lab = Lab::new(long().replace("epochs: 40", "epochs: 100"));
    let whole = undisturbed(&lab);
    let said = fs::File::options().create(true).append(true).open(lab.path("said")).unwrap();
    let mut launcher = sweep(&lab, &said);
    lab.wait_for("the plan", |lab| lab.path("cut/plans/tiny.json").exists());
    let path = lab.path("cut/plans/tiny.json");
    let mut plan: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    plan["runs"].as_array_mut().unwrap().reverse();
    fs::write(&path, plan.to_string()).unwrap();
    assert!(launcher.wait().unwrap().success(), "{}", fs::read_to_string(lab.path("said")).unwrap());
    assert_eq!(lab.results("cut"), whole);
}

/// Trains the first run of the store's plan for some epochs, and stops it: it leaves two generations of its snapshot.
fn stopped_in_the_middle(lab: &Lab) {
    let mut command = lab.command(&["exec", "tiny", "0", "--store", "cut", "--snapshot-every", "1epoch"]);
    let mut worker = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let epochs = lines.by_ref().filter(|line| line.starts_with("{\"event\":\"epoch\"")).take(3).count();
    assert!(Command::new("kill").arg(worker.id().to_string()).status().unwrap().success());
    assert_eq!((epochs, lines.last().unwrap().as_str()), (3, "{\"event\":\"stopped\"}"));
    worker.wait().unwrap();
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_the_run_goes_on() {
    let lab = Lab::new(long().replace("epochs: 40", "epochs: 400").replace("[1, 2]", "[1]"));
    let whole = undisturbed(&lab);
    fs::create_dir_all(lab.path("cut/plans")).unwrap();
    fs::copy(lab.path("whole/plans/tiny.json"), lab.path("cut/plans/tiny.json")).unwrap();
    for damaged in [&[".snapshot"][..], &[".snapshot", ".snapshot.before"]] {
        stopped_in_the_middle(&lab);
        assert_eq!(names(&lab, "cut/snapshots").iter().filter(|name| !name.contains("damaged")).count(), 2);
        for (path, mut bytes) in lab.files("cut/snapshots") {
            if damaged.iter().any(|end| path.to_string_lossy().ends_with(end)) {
                let middle = bytes.len() / 2;
                // One way to be damaged each: cut short, and a bit flipped.
                if path.extension().is_some_and(|end| end == "before") {
                    bytes[middle] ^= 1;
                } else {
                    bytes.truncate(middle);
                }
                fs::write(&path, bytes).unwrap();
            }
        }
        let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "cut"]);
        assert_eq!(said.matches("is damaged, and set aside as").count(), damaged.len(), "{said}");
        // From the one before, or from the start.
        assert_eq!(said.contains("goes on after epoch"), damaged.len() == 1, "{said}");
        assert_eq!(lab.results("cut"), whole);
        assert!(names(&lab, "cut/snapshots").iter().all(|name| name.contains("damaged")));
        fs::remove_dir_all(lab.path("cut/runs")).unwrap();
    }
    assert_eq!(names(&lab, "cut/snapshots").len(), 3, "what was set aside stays");
}

#[test]
fn two_sweeps_at_once_train_each_run_once() {
    let lab = Lab::new(long());
    let whole = undisturbed(&lab);
    let args = ["run", "tiny.yaml", "--store", "cut", "--jobs", "2", "--threads", "1"];
    let start = || lab.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let both = [start(), start()];
    let outputs = both.map(|child| child.wait_with_output().unwrap());
    let said: String = outputs.iter().map(|output| text(&output.stderr)).collect();
    assert!(outputs.iter().all(|output| output.status.success()), "{said}");
    assert_eq!(outputs[0].stdout, outputs[1].stdout, "both have the whole table");
    assert_eq!(lab.results("cut"), whole);
    // A line a run: `[1/4] full · seed 1: test accuracy …` where it was trained; one that had its record already ends without metrics.
    assert_eq!(said.matches(": test accuracy").count(), 4, "{said}");
    assert!(names(&lab, "cut/locks").is_empty());
}

#[test]
fn a_run_that_can_keep_no_snapshot_says_so_once_and_goes_on() {
    let lab = Lab::new(TINY);
    fs::create_dir_all(lab.path("store")).unwrap();
    // No folder can be made where a file is.
    fs::write(lab.path("store/snapshots"), "").unwrap();
    let args = ["run", "tiny.yaml", "--store", "store", "--snapshot-every", "1epoch", "--set", "train.epochs=4"];
    let (_, said) = lab.good(&[&args[..], &["--arm", "sgd", "--seeds", "1"]].concat());
    assert_eq!(said.matches("no snapshot is kept: ").count(), 1, "{said}");
    assert!(said.contains("a snapshot cannot be read: "), "{said}");
    assert_eq!(lab.results("store").len(), 1);
}

#[test]
fn how_often_snapshots_are_taken_is_no_part_of_a_run() {
    let lab = Lab::new(TINY);
    lab.good(&["run", "tiny.yaml", "--store", "store", "--snapshot-every", "1epoch"]);
    let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "store", "--snapshot-every", "5min"]);
    assert!(said.contains("nothing to train"), "{said}");
    let output = lab.np(&["run", "tiny.yaml", "--snapshot-every", "often"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected `90s`, `5min`, `2epochs` or `never`, got `often`"));
}
