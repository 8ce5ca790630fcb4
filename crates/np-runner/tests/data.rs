//! The data of runs: what can be asked of it and what is refused, and what `np data` says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Lab, TINY, text};

/// Everything that can be said about data, at once.
const ALL: &str = "data: {name: fashion-mnist, source: mini, count: 100, sampling: stratified, validation: 0.1, augment: crop_flip, layout: rgb32}";

fn lab() -> Lab {
    Lab::new(TINY.replace("data: {name: mnist, source: mini, fraction: 0.05}", ALL))
}

#[test]
fn augmented_runs_are_the_same_at_any_number_of_threads() {
    let lab = lab();
    for threads in ["1", "2"] {
        lab.good(&["run", "tiny.yaml", "--store", threads, "--jobs", "1", "--threads", threads]);
    }
    assert_eq!(lab.results("1").len(), 4);
    assert_eq!(lab.results("1"), lab.results("2"));
    for bytes in lab.files("1/runs").values() {
        let record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let data = &record["data"];
        assert_eq!((&data["train_examples"], &data["validation_examples"]), (&100.into(), &200.into()));
        let epochs = record["epochs"].as_array().unwrap();
        assert!(epochs.iter().all(|epoch| epoch["validation"]["accuracy"].as_f64().unwrap() > 0.0), "{record}");
        assert!(record["model"]["title"].as_str().unwrap().starts_with("MLP 3072-"), "{record}");
    }
}

#[test]
fn what_is_asked_wrongly_is_named_with_what_would_do() {
    let lab = lab();
    let table = [
        ("data.augment=flip", "`data.augment`: there is no `flip` here", "choose from `none`, `crop_flip`"),
        ("data.sampling=even", "`data.sampling`: there is no `even` here", "choose from `plain`, `stratified`"),
        ("data.layout=rgb", "`data.layout`: there is no `rgb` here", "did you mean `rgb32`?"),
        ("data.count=0", "`data.count`: expected 1 or more", "got `0`"),
        ("data.count=1801", "`data.count`: expected 1 to 1800", "got `1801`"),
        ("data.fraction=0.5", "`data.fraction`: expected `1`, because `data.count` says how many", "got `0.5`"),
        ("data.validation=1", "`data.validation`: expected a number above 0 and below 1", "got `1`"),
        ("data.name=cifar10", "`cifar10`: expected the source `full`, found `mini`", "hint: this set is not embedded"),
        ("data.agument=none", "`data.agument`: there is no such key", "did you mean `augment`?"),
    ];
    for (set, problem, remedy) in table {
        let output = lab.np(&["plan", "tiny.yaml", "--set", set]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{set}: {said}");
        assert!(said.contains(problem) && said.contains(remedy), "{set}: {said}");
    }
}

/// Whatever this `np` was built with, nothing is fetched here: without the feature it says how to come by it, with it nobody answers.
#[test]
fn np_data_fetch_says_what_it_lacks() {
    let lab = lab();
    let output = lab.np(&["data", "fetch", "mnist"]);
    let said = text(&output.stderr);
    assert!(said.contains("`mnist`: expected a data folder") && said.contains("\n  hint: "), "{said}");
    let output = lab.np(&["data", "fetch", "imagenet", "--data-dir", "data"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("expected `mnist`, `fashion-mnist` or `cifar10`, found `imagenet`"));
    if cfg!(not(feature = "hub")) {
        let output = lab.np(&["data", "fetch", "mnist", "--data-dir", "data"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        // A feature is named at every call: the alias `cargo np` would build the program again without it.
        let command = "`cargo run --bin np --features neuroplastic-runner/hub -- data fetch mnist --data-dir data`\n";
        assert!(said.contains("built without the network\n  hint: build it with") && said.ends_with(command), "{said}");
        assert!(!lab.path("data").exists());
    }
}

#[test]
fn np_data_lists_what_is_there_and_finds_what_is_damaged() {
    let lab = lab();
    let (list, _) = lab.good(&["data", "list"]);
    assert_eq!(list.lines().count(), 6, "{list}");
    assert!(list.contains("2000 + 1000  a4d04a88d03b95bc  embedded"), "{list}");
    let (verdict, _) = lab.good(&["data", "verify"]);
    assert_eq!((verdict.matches("as published").count(), verdict.matches("missing").count()), (2, 3), "{verdict}");

    let folder = lab.path("data/cifar10");
    fs::create_dir_all(&folder).unwrap();
    let record = |label: u8| [vec![label], vec![label; 3072]].concat();
    for (label, file) in (0..).zip(["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5"]) {
        fs::write(folder.join(format!("{file}.bin")), record(label)).unwrap();
    }
    fs::write(folder.join("test_batch.bin"), record(5)).unwrap();
    let output = lab.np(&["data", "verify", "--data-dir", "data"]);
    let (verdict, said) = (text(&output.stdout), text(&output.stderr));
    assert!(verdict.contains("cifar10 full: damaged"), "six images are not CIFAR-10: {verdict}");
    assert!(said.contains("`cifar10`: expected 50000 + 10000 examples, found 5 + 1 examples, digest `"), "{said}");
    // a set that can be trained on
    lab.good(&[
        "run",
        "tiny.yaml",
        "--data-dir",
        "data",
        "--set",
        "data.name=cifar10",
        "--set",
        "data.source=full",
        "--set",
        "data.count=4",
        "--set",
        "data.validation=null",
        "--set",
        "train.epochs=1",
        "--store",
        "cifar",
    ]);
    assert_eq!(lab.results("cifar").len(), 4);

    // Without the folder: a plan can be made, but its ids cannot; where there was a plan before, they can.
    let set = "data: {name: cifar10, source: full, count: 4}";
    fs::write(lab.path("tiny.yaml"), common::TINY.replace("data: {name: mnist, source: mini, fraction: 0.05}", set))
        .unwrap();
    let (table, said) = lab.good(&["plan", "tiny.yaml", "--store", "later"]);
    assert_eq!(table.lines().filter(|line| line.starts_with("? ")).count(), 4, "{table}");
    assert!(
        said.contains("some ids cannot be known without the data; to train, ") && said.contains("work: "),
        "{said}"
    );
    assert_eq!(lab.np(&["run", "tiny.yaml", "--store", "later"]).status.code(), Some(2));
    lab.good(&["run", "tiny.yaml", "--store", "later", "--data-dir", "data"]);
    let (table, said) = lab.good(&["plan", "tiny.yaml", "--store", "later"]);
    assert!(table.matches(" done ").count() == 4 && said.contains("nothing to train"), "{table} {said}");
    lab.good(&["run", "tiny.yaml", "--store", "later"]);

    fs::write(folder.join("data_batch_3.bin"), &record(2)[..3000]).unwrap();
    let output = lab.np(&["data", "verify", "--data-dir", "data"]);
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(out.contains("cifar10 full: damaged"), "{out}");
    assert!(said.contains("data_batch_3.bin`: expected whole records of 3073 bytes, found 3000 bytes"), "{said}");
    assert!(said.contains("\n  hint: ") && said.contains("1 data set damaged"), "{said}");
}

#[test]
fn np_data_verify_of_a_folder_that_is_not_there_is_an_error() {
    let lab = lab();
    fs::write(lab.path("file"), "").unwrap();
    for (dir, found) in [("nowhere", "nothing"), ("file", "a file"), ("file/inside", "nothing")] {
        let output = lab.np(&["data", "verify", "--data-dir", dir]);
        let (out, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{said}");
        assert!(said.contains(&format!("`{dir}`: expected a folder, found {found}\n  hint: ")), "{said}");
        assert!(said.contains("`--data-dir` or `NP_DATA_DIR`"), "{said}");
    }
}

#[test]
fn np_data_verify_of_a_folder_that_has_none_of_the_sets_says_so() {
    let lab = lab();
    let verify = |dir: &str| {
        let output = lab.np(&["data", "verify", "--data-dir", dir]);
        assert!(text(&output.stdout).contains("mnist full: missing"), "{}", text(&output.stdout));
        assert_eq!(output.status.code(), Some(1), "{dir}");
        text(&output.stderr)
    };
    fs::create_dir(lab.path("empty")).unwrap();
    let said = verify("empty");
    assert!(
        said.contains("error: `empty`: none of the data sets is there\n  hint: the layout is `DIR/mnist/"),
        "{said}"
    );

    // One level too deep, and files without a folder of the set's name.
    common::foreign(&lab.path("data/fashion-mnist"), 1);
    common::foreign(&lab.path("loose"), 1);
    let said = verify("data/fashion-mnist");
    let deep = "files of `fashion-mnist` lie right in `data/fashion-mnist`, and are not looked for there\n  hint: ";
    assert!(said.contains(deep) && said.contains("name the folder above it: `--data-dir data`"), "{said}");
    let said = verify("loose");
    let loose = "files of `mnist`, `fashion-mnist` lie right in `loose`, and are not looked for there\n  hint: ";
    assert!(said.contains(loose) && said.contains(": `loose/mnist`, `loose/fashion-mnist`"), "{said}");
    let (_, said) = lab.good(&["data", "list", "--data-dir", "data/fashion-mnist"]);
    assert!(said.contains("--data-dir data`"), "{said}");
    // Where one of the sets is, the others may be missing: this one is there, and is another.
    let output = lab.np(&["data", "verify", "--data-dir", "data"]);
    assert!(!text(&output.stderr).contains("none of the data sets"), "{}", text(&output.stderr));
}

/// A pipe in a file's place would be waited for without end.
#[cfg(unix)]
#[test]
fn a_pipe_in_a_files_place_is_refused_and_not_waited_for() {
    let lab = Lab::new(TINY.replace("source: mini", "source: full"));
    let pipe = |name: &str| {
        assert!(std::process::Command::new("mkfifo").arg(lab.path(name)).status().unwrap().success());
    };
    common::foreign(&lab.path("data/mnist"), 1);
    fs::remove_file(lab.path("data/mnist/t10k-labels-idx1-ubyte")).unwrap();
    pipe("data/mnist/t10k-labels-idx1-ubyte");
    let says = "t10k-labels-idx1-ubyte`: expected a regular file, found a pipe\n  hint: ";
    for (args, code) in [(["data", "verify"], 1), (["plan", "tiny.yaml"], 2), (["run", "tiny.yaml"], 2)] {
        let output = lab.np(&[&args[..], &["--data-dir", "data"]].concat());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
    assert!(lab.good(&["data", "list", "--data-dir", "data"]).0.contains("damaged or incomplete"));

    pipe("pipe.yaml");
    for args in [&["plan", "pipe.yaml"][..], &["run", "pipe.yaml"], &["import", "pipe.yaml"], &["report", "pipe.yaml"]]
    {
        let output = lab.np(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("pipe.yaml: expected a regular file, got a pipe or a device\n  hint: "), "{said}");
    }
    let said = text(&lab.np(&["conform", "pipe.yaml"]).stderr);
    assert!(said.contains("pipe.yaml: expected a regular file"), "{said}");
    // One that is meant.
    let yaml = fs::File::open(lab.path("tiny.yaml")).unwrap();
    let output = lab.command(&["import", "/dev/stdin"]).stdin(yaml).output().unwrap();
    assert!(text(&output.stderr).contains("expected sections `experiment`"), "{}", text(&output.stderr));
}

/// Nobody can tell whether 60,000 images in CIFAR-10's form are CIFAR-10, whose digest is not known here.
#[test]
fn as_many_images_as_cifar10_has_are_not_called_whole() {
    let lab = lab();
    let folder = lab.path("data/cifar10");
    fs::create_dir_all(&folder).unwrap();
    let made_up: Vec<u8> = (0..10_000_u32).flat_map(|i| [vec![(i % 10) as u8], vec![i as u8; 3072]].concat()).collect();
    for file in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        fs::write(folder.join(format!("{file}.bin")), &made_up).unwrap();
    }
    let output = lab.np(&["data", "verify", "--data-dir", "data"]);
    let (verdict, said) = (text(&output.stdout), text(&output.stderr));
    let says = "cifar10 full: unverified: its digest is not a published one that is known here (";
    assert!(verdict.contains(says) && !verdict.contains("whole"), "{verdict}");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("1 data set unverified"), "{said}");
    let (list, _) = lab.good(&["data", "list", "--data-dir", "data"]);
    assert!(list.contains("50000 + 10000, unverified"), "{list}");
}
