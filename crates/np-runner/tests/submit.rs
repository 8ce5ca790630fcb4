//! `np run --launcher slurm` beside programs that only look like Slurm's: what is submitted, what its script does, and what `np status` makes of
//! a queue. The real ones are for `slurm.rs`.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use common::{Lab, TINY, text};

/// Writes down its arguments, a line each, and gives the array an id.
const SBATCH: &str = r#"n=$(ls "$FAKE" | grep -c '^array'); printf '%s\n' "$@" >"$FAKE/array$n"; echo "a site's remark"; echo "$((n + 10));cluster""#;
const SCONTROL: &str =
    r#"if [ "$1" = show ]; then echo "MaxArraySize            = 3"; else echo "$2" >>"$FAKE/requeued"; fi"#;
const SQUEUE: &str = r#"[ ! -e "$FAKE/queue" ] || cat "$FAKE/queue""#;

/// A laboratory beside which Slurm seems to be.
struct Cluster {
    lab: Lab,
}

impl Cluster {
    fn new(experiment: &str) -> Self {
        let lab = Lab::new(experiment);
        fs::create_dir(lab.path("bin")).unwrap();
        for (name, body) in [("sbatch", SBATCH), ("scontrol", SCONTROL), ("squeue", SQUEUE)] {
            let path = lab.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::create_dir(lab.path("fake")).unwrap();
        Self { lab }
    }

    fn seen(&self, mut command: Command) -> Command {
        let path = format!("{}:{}", self.lab.path("bin").display(), std::env::var("PATH").unwrap());
        command.env("PATH", path).env("FAKE", self.lab.path("fake"));
        command
    }

    /// Runs `np` where the cluster is; its standard output and error.
    fn np(&self, args: &[&str]) -> (String, String) {
        let output = self.seen(self.lab.command(args)).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "np {args:?}: {said}");
        (text(&output.stdout), said)
    }

    /// Arguments of the `n`th array.
    fn array(&self, n: usize) -> Vec<String> {
        let text = fs::read_to_string(self.lab.path(&format!("fake/array{n}"))).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Starts a task of the first array, as Slurm would.
    fn task(&self, place: usize) -> Child {
        let mut command = Command::new(self.array(0).last().unwrap());
        // Its file is no program: Slurm keeps a copy that is.
        let script = command.get_program().to_owned();
        command = Command::new("bash");
        command.arg(script).env("SLURM_ARRAY_JOB_ID", "10").env("SLURM_ARRAY_TASK_ID", place.to_string());
        command.env("SLURM_CPUS_PER_TASK", "1").env_remove("NP_DATA_DIR");
        self.seen(command).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn requeued(&self) -> usize {
        fs::read_to_string(self.lab.path("fake/requeued"))
            .unwrap_or_default()
            .lines()
            .filter(|line| *line == "10_0")
            .count()
    }
}

const RUN: [&str; 6] = ["run", "tiny.yaml", "--store", "a store", "--launcher", "slurm"];

fn kill(name: &str, child: &Child) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// Reads a task's output up to a line with this text.
fn until(child: &mut Child, words: &str) -> impl Iterator<Item = String> + use<> {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.contains(words)), "no `{words}`");
    lines
}

#[test]
fn a_sweep_is_cut_into_arrays_and_what_is_under_way_is_left_alone() {
    let resources = "launcher: {slurm: {time: 30, cpus: 2, mem: 1G, extra: [--nice=5]}}\n";
    let cluster = Cluster::new(&format!("{TINY}{resources}"));
    let (ids, said) = cluster.np(&[&RUN[..], &["--jobs", "2"]].concat());
    assert_eq!(ids, "10\n11\n");
    assert!(said.contains("submitted 3 runs as array 10\nsubmitted 1 run as array 11\n"), "{said}");
    let first = cluster.array(0);
    for word in
        ["--array=0-2%2", "--signal=B:USR2@90", "--requeue", "--time=30", "--cpus-per-task=2", "--mem=1G", "--nice=5"]
    {
        assert!(first.iter().any(|other| other == word), "{word}: {first:?}");
    }
    assert!(cluster.array(1).contains(&"--array=0-0%2".to_owned()));

    // The first array is in the queue, the second has vanished from it.
    let comment = first.iter().find_map(|word| word.strip_prefix("--comment=")).unwrap();
    let queue = format!(
        "10|0|RUNNING|None|{comment}\n10|1|PENDING|Priority|{comment}\n10|2|PENDING|BeginTime|{comment}\n7|0|RUNNING|None|other\n"
    );
    fs::write(cluster.lab.path("fake/queue"), queue).unwrap();
    let (ids, said) = cluster.np(&RUN);
    assert_eq!(ids, "12\n");
    assert!(
        said.contains("submitted 1 run as array 12") && said.contains("3 runs submitted or trained already"),
        "{said}"
    );

    let (rows, said) = cluster.np(&["status", "tiny.yaml", "--store", "a store", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let of = |key: &str| rows.as_array().unwrap().iter().map(|row| row[key].as_str().unwrap_or("")).collect::<Vec<_>>();
    assert_eq!(of("state"), ["running", "queued", "queued", "missing"]);
    assert_eq!(of("task"), ["10_0", "10_1", "10_2", ""]);
    assert_eq!(of("why"), ["", "Priority", "BeginTime", ""]);
    assert!(said.contains("tiny (quick): 4 runs: 1 running, 2 queued, 1 missing"), "{said}");
}

#[test]
fn what_was_submitted_is_trained_whatever_becomes_of_the_file() {
    let cluster = Cluster::new(TINY);
    cluster.lab.good(&["run", "tiny.yaml", "--store", "whole"]);
    cluster.np(&RUN);
    let copy = fs::read_dir(cluster.lab.path("a store/launch/tiny")).unwrap().map(|entry| entry.unwrap().path());
    let copy = copy.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("np-")).unwrap();
    assert!(fs::read(&copy).unwrap() == fs::read(env!("CARGO_BIN_EXE_np")).unwrap());
    assert!(fs::symlink_metadata(&copy).unwrap().is_file(), "no link");

    fs::write(cluster.lab.path("tiny.yaml"), TINY.replace("epochs: 2", "epochs: 1")).unwrap();
    cluster.lab.good(&["run", "tiny.yaml", "--store", "a store"]);
    let others = cluster.lab.results("a store");
    for place in 0..3 {
        assert!(cluster.task(place).wait_with_output().unwrap().status.success());
    }
    let whole = cluster.lab.results("whole");
    let mut trained = cluster.lab.results("a store");
    trained.retain(|id, _| !others.contains_key(id));
    assert_eq!(trained.len(), 3);
    assert!(trained.iter().all(|(id, result)| whole.get(id) == Some(result)), "{trained:?} {whole:?}");
}

/// The copy of the program in a cluster's store.
fn copy(cluster: &Cluster) -> std::path::PathBuf {
    let entries = fs::read_dir(cluster.lab.path("a store/launch/tiny")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("np-")).unwrap()
}

#[test]
fn a_program_that_was_planted_is_never_run() {
    let cluster = Cluster::new(TINY);
    let owned = cluster.lab.path("owned");
    let plant = |path: &std::path::Path| {
        fs::write(path, format!("#!/bin/sh\ntouch '{}'\n", owned.display())).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    cluster.np(&RUN);
    let program = copy(&cluster);
    let ours = fs::read(&program).unwrap();

    // After the submission: the task looks before it runs it.
    plant(&program);
    let output = cluster.task(0).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(126));
    assert!(text(&output.stdout).contains("is not the program that was submitted"), "{}", text(&output.stdout));
    assert!(!owned.exists());
    let (rows, _) = cluster.np(&["status", "--store", "a store"]);
    assert!(rows.contains("ended early: the copy of the program was changed, task 10_0"), "{rows}");

    // Before it, as a file and as a link: the copy is made anew.
    let elsewhere = cluster.lab.path("elsewhere");
    plant(&elsewhere);
    for link in [false, true] {
        fs::remove_file(&program).unwrap();
        match link {
            true => std::os::unix::fs::symlink(&elsewhere, &program).unwrap(),
            false => plant(&program),
        }
        cluster.np(&RUN);
        assert!(fs::symlink_metadata(&program).unwrap().is_file() && fs::read(&program).unwrap() == ours);
        assert_ne!(fs::read(&elsewhere).unwrap(), ours, "nothing is written through a link");
    }
    assert!(cluster.task(0).wait_with_output().unwrap().status.success());
    assert!(!owned.exists());
}

/// What is looked at and what is run is one file, which nobody else can write.
#[test]
fn a_program_that_is_exchanged_while_a_task_looks_at_it_is_never_run() {
    let cluster = Cluster::new(TINY);
    cluster.np(&RUN);
    let (owned, planted, program) = (cluster.lab.path("owned"), cluster.lab.path("planted"), copy(&cluster));
    fs::write(&planted, format!("#!/bin/sh\ntouch '{}'\n", owned.display())).unwrap();
    // Whoever waits for the very moment: after the digest, before the start.
    let look = cluster.lab.path("bin/sha256sum");
    let text = format!("#!/bin/sh\nPATH=/usr/bin:/bin sha256sum\ncp '{}' '{}'\n", planted.display(), program.display());
    fs::write(&look, text).unwrap();
    for path in [&planted, &look] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert!(cluster.task(0).wait_with_output().unwrap().status.success());
    assert!(!owned.exists());
    assert_eq!(fs::read(&program).unwrap(), fs::read(&planted).unwrap(), "it was exchanged");
    assert_eq!(cluster.lab.records("a store").len(), 1);
}

#[test]
fn a_tasks_notes_are_not_written_through_links() {
    let cluster = Cluster::new(TINY);
    cluster.np(&RUN);
    let victim = cluster.lab.path("victim");
    fs::write(&victim, "safe").unwrap();
    let (rows, _) = cluster.np(&["status", "tiny.yaml", "--store", "a store", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    let note = cluster.lab.path("a store/launch/tiny/crashes").join(rows[0]["id"].as_str().unwrap());
    std::os::unix::fs::symlink(&victim, &note).unwrap();
    fs::write(copy(&cluster), "changed").unwrap();
    assert_eq!(cluster.task(0).wait_with_output().unwrap().status.code(), Some(126));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    assert!(fs::symlink_metadata(&note).unwrap().is_file());
}

#[test]
fn an_answer_of_sbatch_without_an_id_is_no_submission() {
    let cluster = Cluster::new(TINY);
    for answer in ["", "Submitted", "sbatch: would start"] {
        fs::write(cluster.lab.path("bin/sbatch"), format!("#!/bin/sh\necho '{answer}'\n")).unwrap();
        let output = cluster.seen(cluster.lab.command(&RUN)).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains(&format!("`sbatch`: expected the id of an array, got `{answer}`")), "{said}");
    }
}

#[test]
fn copies_that_nobody_waits_for_are_removed() {
    let cluster = Cluster::new(TINY);
    let copies = || {
        let names = fs::read_dir(cluster.lab.path("a store/launch/tiny")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("np-") || name.starts_with("plan-")).count()
    };
    cluster.np(&RUN);
    fs::write(cluster.lab.path("fake/queue"), "10|0|PENDING|Priority|np:tiny:0a1b\n").unwrap();
    fs::write(cluster.lab.path("tiny.yaml"), TINY.replace("epochs: 2", "epochs: 1")).unwrap();
    cluster.np(&RUN);
    assert_eq!(copies(), 3, "one program, two plans: tasks of the first submission wait");
    fs::remove_file(cluster.lab.path("fake/queue")).unwrap();
    fs::write(cluster.lab.path("tiny.yaml"), TINY.replace("epochs: 2", "epochs: 3")).unwrap();
    cluster.np(&RUN);
    assert_eq!(copies(), 2);
}

#[test]
fn a_warning_requeues_a_task_that_goes_on_where_it_was() {
    let cluster = Cluster::new(&TINY.replace("epochs: 2", "epochs: 600").replace("[1, 2]", "[1]"));
    cluster.lab.good(&["run", "tiny.yaml", "--store", "whole", "--arm", "full"]);
    cluster.np(&[&RUN[..], &["--arm", "full"]].concat());
    let mut task = cluster.task(0);
    let rest = until(&mut task, "\"epoch\"");
    let (rows, _) = cluster.np(&["status", "--store", "a store", "--format", "csv"]);
    assert!(rows.contains(",running,"), "its lock tells: {rows}");
    kill("USR2", &task);
    assert!(rest.last().unwrap().contains("requeued, to go on"));
    assert!(task.wait().unwrap().success());
    assert_eq!(cluster.requeued(), 1);
    assert!(cluster.lab.results("a store").is_empty());
    let (rows, _) = cluster.np(&["status", "--store", "a store", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(rows[0]["state"], "interrupted");
    assert!(rows[0]["epochs"].as_u64().unwrap() > 0, "{rows}");

    // Beside another process that trains it, a task has nothing to do.
    let mut task = cluster.task(0);
    let rest = until(&mut task, "\"resumed\"");
    assert!(cluster.task(0).wait_with_output().unwrap().status.success());
    let notes =
        cluster.lab.files("a store/launch").into_iter().filter(|(path, _)| path.to_string_lossy().contains("crashes"));
    let notes: Vec<String> = notes.map(|(_, bytes)| text(&bytes)).collect();
    assert_eq!(notes, ["another process had the run, task 10_0\n"]);
    kill("TERM", &task);
    assert!(rest.count() > 0);
    task.wait().unwrap();

    // Not requeued when it is merely asked to end, and what is done is kept.
    let mut task = cluster.task(0);
    let rest = until(&mut task, "\"resumed\"");
    kill("TERM", &task);
    assert!(rest.last().unwrap().contains("ended with exit code 130"));
    assert_eq!((task.wait().unwrap().code(), cluster.requeued()), (Some(130), 1));
    let (rows, _) = cluster.np(&["status", "--store", "a store"]);
    assert!(rows.contains("ended early: exit code 130, task 10_0"), "{rows}");

    assert!(cluster.task(0).wait_with_output().unwrap().status.success());
    assert_eq!(cluster.lab.results("a store"), cluster.lab.results("whole"));
    let left =
        cluster.lab.files("a store/launch").into_keys().filter(|path| path.to_string_lossy().contains("crashes"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_run_that_never_completes_an_epoch_is_not_requeued_for_ever() {
    let slow = TINY.replace("fraction: 0.05", "fraction: 1.0").replace("hidden: [16]", "hidden: [800, 800]");
    let cluster = Cluster::new(&slow.replace("batch_size: 32", "batch_size: 1"));
    cluster.np(&[&RUN[..], &["--arm", "full", "--seeds", "1"]].concat());
    for n in 1..=5 {
        let mut task = cluster.task(0);
        let rest = until(&mut task, "\"begins\"");
        kill("USR2", &task);
        let last: Vec<String> = rest.collect();
        let code = task.wait().unwrap().code();
        assert_eq!(code, Some(if n < 5 { 0 } else { 76 }), "{last:?}");
    }
    assert_eq!(cluster.requeued(), 4);
}

#[test]
fn the_launchers_section_is_checked_and_is_no_part_of_a_run() {
    let lab = Lab::new(TINY);
    let ids = |lab: &Lab| {
        let (plan, _) = lab.good(&["plan", "tiny.yaml", "--json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        plan["runs"].clone()
    };
    let plain = ids(&lab);
    fs::write(
        lab.path("tiny.yaml"),
        format!("{TINY}launcher: {{slurm: {{partition: main, time: '1:00:00', gpus: 1}}}}\n"),
    )
    .unwrap();
    assert_eq!(ids(&lab), plain);
    for (section, says) in [
        (
            "slurm: {partiton: x}",
            "tiny.yaml:10:20: `launcher.slurm.partiton`: there is no such key\n  hint: did you mean `partition`?",
        ),
        ("slurn: {}", "`launcher.slurn`: there is no such key\n  hint: did you mean `slurm`?"),
        ("slurm: {cpus: 0}", "`launcher.slurm.cpus`: expected 1 or more, got `0`"),
        ("slurm: {time: [1]}", "`launcher.slurm.time`: expected a whole number, or a text such as"),
        (
            "slurm: {extra: [--array=1]}",
            "`launcher.slurm.extra.0`: expected an option that is not the launcher's own, got `--array=1`",
        ),
    ] {
        fs::write(lab.path("tiny.yaml"), format!("{TINY}launcher: {{{section}}}\n")).unwrap();
        let output = lab.np(&["plan", "tiny.yaml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    fs::write(lab.path("tiny.yaml"), format!("{TINY}scales: {{cpu: {{launcher: {{slurm: {{cpu: 2}}}}}}}}\n")).unwrap();
    let said = text(&lab.np(&["plan", "tiny.yaml"]).stderr);
    assert!(said.contains("`launcher.slurm.cpu`: there is no such key\n  hint: did you mean `cpus`?"), "{said}");
}

#[test]
fn without_slurm_status_works_and_a_submission_says_what_is_missing() {
    let lab = Lab::new(TINY);
    fs::create_dir(lab.path("empty")).unwrap();
    let np = |args: &[&str]| lab.command(args).env("PATH", lab.path("empty")).output().unwrap();
    let output = np(&RUN);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("`squeue`: there is no such program here") && said.contains("hint: submit from a machine"),
        "{said}"
    );
    let output = np(&[&RUN[..], &["--fail-fast"]].concat());
    assert!(text(&output.stderr).contains("a cluster's tasks do not know of one another"));

    lab.good(&["run", "tiny.yaml", "--store", "a store", "--arm", "sgd"]);
    let output = np(&["status", "tiny.yaml", "--store", "a store", "--format", "csv"]);
    let rows = text(&output.stdout);
    assert_eq!(rows.lines().filter(|row| row.contains(",sgd,") && row.contains(",done,2,2,")).count(), 2, "{rows}");
    assert_eq!(rows.lines().filter(|row| row.contains(",full,") && row.contains(",missing,")).count(), 2, "{rows}");
}
