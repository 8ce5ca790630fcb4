//! The program as its user has it: planned, trained, killed and resumed to the same bits, compared, reported, exported, refused with reasons.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A folder with an experiment of two arms and two seeds.
struct Lab(TempDir);

const TINY: &str = "\
name: tiny
question: Which is better?
task: {characters: {window: 16, hidden: 8}}
train: {epochs: 3, batch_size: 128, eval_batch_size: 64}
seeds: [1, 2]
outcome: {metric: test_bits_per_character, last_epochs: 2}
hypotheses: [{arm: adam, against: sgd}]
arms:
  adam: {optimizer: {adam: {lr: 0.01}}}
  sgd: {optimizer: {sgd: {lr: 0.5}}}
";

impl Lab {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tiny.yaml"), text).unwrap();
        Self(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_characters"));
        command.current_dir(self.0.path()).args(args).env_remove("NP_DATA_DIR");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that succeeds prints and says.
    fn good(&self, args: &[&str]) -> (String, String) {
        let output = self.run(args);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{args:?}: {}\n{out}\n{said}", output.status);
        (out, said)
    }

    /// What a command says that something written keeps from working.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        said
    }

    fn records(&self, store: &str) -> Vec<Value> {
        let entries = fs::read_dir(self.path(store).join("runs")).unwrap();
        entries.map(|entry| serde_json::from_slice(&fs::read(entry.unwrap().path()).unwrap()).unwrap()).collect()
    }

    fn results(&self, store: &str) -> BTreeMap<String, String> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        self.records(store).iter().map(|record| (word(&record["id"]), word(&record["result_sha256"]))).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn it_is_planned_trained_compared_reported_and_exported() {
    let lab = Lab::new(TINY);
    let (table, said) = lab.good(&["plan", "tiny.yaml"]);
    assert_eq!(table.matches("missing").count(), 4, "{table}");
    assert!(
        said.contains("outcome: test bits per character, mean of the last 2 epochs, lower values are better"),
        "{said}"
    );
    assert!(said.contains("memory of a run: unknown") && said.contains("work: unknown"), "{said}");

    let (table, said) = lab.good(&["run", "tiny.yaml", "--store", "one"]);
    assert!(table.contains("test bits per character, mean of the last 2 epochs") && table.contains("n"), "{table}");
    assert!(said.contains(", test bits per character "), "{said}");
    lab.good(&["run", "tiny.yaml", "--store", "two", "--jobs", "1", "--threads", "2"]);
    assert_eq!(lab.results("one"), lab.results("two"), "the same bits, twice");
    let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "one"]);
    assert!(said.contains("nothing to train"), "{said}");

    for record in lab.records("one") {
        assert_eq!(
            record["config"]["task"]["characters"],
            serde_json::json!({"text": null, "window": 16, "hidden": 8})
        );
        assert_eq!(record["data"]["name"], "licence");
        assert_eq!(record["model"]["title"].as_str().unwrap().split('-').nth(1), Some("8"));
        let last = record["epochs"].as_array().unwrap().last().unwrap();
        assert!(last.get("test_accuracy").is_none() && record["config"].get("data").is_none());
        let (loss, bits) =
            (last["test_loss"].as_f64().unwrap(), last["metrics"]["test_bits_per_character"].as_f64().unwrap());
        // A nat is 1/ln 2 bits; the two are summed apart.
        assert!((bits - loss / std::f64::consts::LN_2).abs() < 1e-9, "{bits} {loss}");
        let first = &record["epochs"][0];
        assert!(last["train_loss"].as_f64() < first["train_loss"].as_f64(), "it learns");
    }

    let (out, _) = lab.good(&["compare", "tiny.yaml", "--store", "one"]);
    assert!(
        out.contains("test bits per character, mean of the last 2 epochs (less is better): `adam` against `sgd`"),
        "{out}"
    );
    let (out, _) = lab.good(&["compare", "tiny.yaml", "--store", "one", "--metric", "final-train-bits-per-character"]);
    assert!(out.contains("final training bits per character (less is better)"), "{out}");
    let (out, _) = lab.good(&["compare", "one/plans/tiny.json"]);
    assert!(out.contains("test bits per character"), "{out}");
    lab.good(&["report", "tiny.yaml", "--store", "one", "--out", "report.html"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    assert!(
        page.contains("test bits per character") && !page.contains("test accuracy"),
        "the page is of what was measured"
    );
    let (out, _) = lab.good(&["watch", "tiny.yaml", "--store", "one", "--once"]);
    assert!(out.contains("test loss") && !out.contains("accuracy"), "{out}");
    let (out, _) = lab.good(&["status", "tiny.yaml", "--store", "one"]);
    assert!(out.matches("done").count() >= 4, "{out}");
    let id = lab.results("one").into_keys().next().unwrap();
    let (out, _) = lab.good(&["show", &id, "--store", "one"]);
    assert!(out.contains("test bits per character") && !out.contains("test %"), "{out}");
    lab.good(&["export", "tiny.yaml", "--store", "one", "--format", "csv", "--out", "tables"]);
    let epochs = fs::read_dir(lab.path("tables")).unwrap().map(|entry| entry.unwrap().path());
    let epochs = epochs.into_iter().find(|path| path.to_string_lossy().contains("epochs")).unwrap();
    assert!(fs::read_to_string(epochs).unwrap().lines().next().unwrap().contains("test_bits_per_character"));
}

#[test]
fn the_experiment_beside_it_can_be_planned() {
    let lab = Lab::new("");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/characters.yaml");
    let (table, _) = lab.good(&["plan", file, "--store", "none"]);
    assert_eq!(table.matches("missing").count(), 6, "{table}");
}

#[test]
fn a_selection_goes_by_the_loss() {
    let lab = Lab::new(&TINY.replace("epochs: 3", "epochs: 2"));
    let swept =
        ["tiny.yaml", "--store", "swept", "--arm", "sgd", "--sweep", "optimizer.lr=0.5,0.000001", "--seeds", "1"];
    lab.good(&[&["run"][..], &swept].concat());
    let (out, _) = lab.good(&[&["compare"][..], &swept, &["--select", "test", "--configurations"]].concat());
    let chosen = out.lines().find(|line| line.contains("chosen")).unwrap();
    assert!(out.contains("test loss") && chosen.contains("0.5"), "the lowest, not the highest: {out}");
}

/// SIGKILL to a worker after an epoch, and what it left goes on to the same end.
#[cfg(target_os = "linux")]
#[test]
fn killed_and_resumed_it_gives_the_same_bits() {
    let lab = Lab::new(&TINY.replace("epochs: 3", "epochs: 6").replace("[1, 2]", "[1]"));
    lab.good(&["run", "tiny.yaml", "--store", "whole", "--snapshot-every", "never"]);
    fs::create_dir_all(lab.path("cut/plans")).unwrap();
    fs::copy(lab.path("whole/plans/tiny.json"), lab.path("cut/plans/tiny.json")).unwrap();
    let mut command = lab.command(&["exec", "tiny", "0", "--store", "cut", "--snapshot-every", "1epoch"]);
    let mut worker = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let epochs = lines.by_ref().filter(|line| line.starts_with("{\"event\":\"epoch\"")).take(2).count();
    worker.kill().unwrap();
    worker.wait().unwrap();
    assert_eq!(epochs, 2);
    assert!(!Path::exists(&lab.path("cut/runs")) || lab.results("cut").is_empty(), "it had not ended");
    let (_, said) = lab.good(&["run", "tiny.yaml", "--store", "cut"]);
    assert!(said.contains("goes on after epoch"), "{said}");
    assert_eq!(lab.results("cut"), lab.results("whole"));
}

#[test]
fn settings_sweep_and_mistakes_are_named() {
    let lab = Lab::new(TINY);
    let (out, _) = lab.good(&["plan", "tiny.yaml", "--sweep", "task.hidden=4,8", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["runs"].as_array().unwrap().len(), 8);
    assert_eq!(plan["runs"][0]["axes"]["task.hidden"], 4);
    assert_eq!(plan["runs"][0]["config"]["task"]["characters"]["window"], 16);
    for (from, to, says, hint) in [
        (
            "hidden: 8",
            "hiden: 8",
            "tiny.yaml:3:33: `task.characters.hiden`: there is no such key",
            "did you mean `hidden`?",
        ),
        ("hidden: 8", "hidden: many", "`task.characters.hidden`: expected a whole number, 0 or more, got `many`", ""),
        ("hidden: 8", "hidden: 0", "tiny.yaml:3:33: `task.characters.hidden`: expected 1 to 4096, got `0`", ""),
        ("characters:", "character:", "`task`: there is no task `character`", "did you mean `characters`?"),
        (
            "train:",
            "model: mlp\ntrain:",
            "tiny.yaml:4:1: `model`: the task `characters` has no such section",
            "its settings are those of `task.characters`",
        ),
        (
            "test_bits_per_character",
            "test_bits_per_charakter",
            "`outcome.metric`: there is no `test_bits_per_charakter` here",
            "did you mean `test_bits_per_character`?",
        ),
        (
            "test_bits_per_character",
            "test_accuracy",
            "`outcome.metric`: expected a number that the task `characters` of arm `adam` measures, got `test_accuracy`",
            "hint: ",
        ),
        ("window: 16", "window: 100000", "`task.characters`: the text is shorter than ten windows", ""),
        ("window: 16", "text: none.txt", "`task.characters`: no data folder: name it with `--data-dir`", ""),
        (
            "adam: {lr: 0.01}",
            "kfac: {lr: 0.01}",
            "expected another optimizer for the task `characters`, which keeps no records of its layers",
            "",
        ),
    ] {
        let lab = Lab::new(&TINY.replacen(from, to, 1));
        let said = lab.refused(&["plan", "tiny.yaml"]);
        assert!(said.contains(says) && said.contains(hint), "{to}: {said}");
    }
    let said = lab.refused(&["plan", "tiny.yaml", "--set", "task.window=0"]);
    assert!(said.contains("`--set task.window=0`: `task.characters.window`: expected 1 or more, got `0`"), "{said}");
    let said = lab.refused(&["plan", "tiny.yaml", "--device", "cuda"]);
    assert!(
        said.contains("`train.device`: expected `cpu`, on which the task `characters` trains alone, got `cuda`"),
        "{said}"
    );
}

#[test]
fn other_data_makes_other_runs_and_travels_in_a_bundle() {
    let lab = Lab::new(&TINY.replace("window: 16", "window: 16, text: own.txt"));
    let ids = |dir: &str, content: &str| {
        fs::create_dir_all(lab.path(dir)).unwrap();
        fs::write(lab.path(dir).join("own.txt"), content.repeat(100)).unwrap();
        let (out, _) = lab.good(&["plan", "tiny.yaml", "--json", "--data-dir", dir]);
        let plan: Value = serde_json::from_str(&out).unwrap();
        plan["runs"].as_array().unwrap().iter().map(|run| run["id"].clone()).collect::<Vec<_>>()
    };
    let one = ids("a", "one text or another; ");
    assert_ne!(one, ids("b", "another text or one; "));
    lab.good(&["bundle", "tiny.yaml", "--data-dir", "a", "--out", "taken"]);
    assert_eq!(fs::read(lab.path("taken/data/own.txt")).unwrap(), fs::read(lab.path("a/own.txt")).unwrap());
    let (out, _) = lab.good(&["plan", "taken/experiments/tiny.yaml", "--json", "--data-dir", "taken/data"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["runs"][0]["id"], one[0]);
}

#[test]
fn the_task_of_images_is_there_as_in_np() {
    let lab = Lab::new(
        "name: tiny\nquestion: Still?\ndata: {fraction: 0.05}\nmodel: {mlp: {hidden: [8]}}\ntrain: {epochs: 1}\nseeds: [1]\n\
         arms: {sgd: {optimizer: {sgd: {lr: 0.1}}}}\n",
    );
    let (out, said) = lab.good(&["plan", "tiny.yaml", "--json"]);
    let plan: Value = serde_json::from_str(&out).unwrap();
    let keys: Vec<&String> = plan["runs"][0]["config"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["data", "model", "train", "optimizer", "options", "seed"], "{said}");
}
