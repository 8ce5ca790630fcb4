//! `np search`, end to end: draws that stay, a search that goes on where it was stopped, and mistakes that are named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{collections::BTreeSet, fs, path::Path};

use common::{Lab, text};
use serde_json::Value;

/// Two arms, four configurations each, two seeds: 4 × 1 and 2 × 2 epochs of 90 images.
const SEARCH: &str = "\
name: tiny
question: Which rate?
outcome: {metric: test_accuracy, last_epochs: 2}
hypotheses: [{arm: adam, against: sgd}]
data: {name: mnist, source: mini, fraction: 0.05, validation: 0.1}
model: {mlp: {hidden: [16], dropout: 0.1}}
train: {epochs: 2, batch_size: 32}
seeds: [1, 2]
search:
  method: successive_halving
  seed: 7
  configurations: 4
  reduction: 2
  space: {optimizer.lr: {log_uniform: [0.001, 1]}}
arms:
  sgd: {optimizer: sgd, space: {optimizer.momentum: {uniform: [0.5, 0.99]}}}
  adam: {optimizer: adam, space: {optimizer.lr: {log_uniform: [0.0001, 0.01]}}}
";

fn with(old: &str, new: &str) -> String {
    assert!(SEARCH.contains(old), "{old}");
    SEARCH.replace(old, new)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The drawn configurations as `np search --plan` prints them, of one arm.
fn drawn(lab: &Lab, arm: &str, args: &[&str]) -> Vec<String> {
    let (table, _) = lab.good(&[&["search", "tiny.yaml", "--plan"], args].concat());
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    table
        .lines()
        .map(words)
        .filter(|words| words[0] == arm)
        .map(|words| words[1..].join(" ").trim_end_matches(" –").to_owned())
        .collect()
}

#[test]
fn draws_are_the_files_and_a_larger_search_keeps_them() {
    let lab = Lab::new(SEARCH);
    let (sgd, adam) = (drawn(&lab, "sgd", &[]), drawn(&lab, "adam", &[]));
    assert_eq!((sgd.len(), adam.len()), (4, 4));
    assert_eq!(sgd, drawn(&lab, "sgd", &[]), "the same again");
    assert!(!lab.path("records").exists(), "a plan writes nothing");

    let larger = with("configurations: 4", "configurations: 9")
        .replace("arms:\n", "arms:\n  lion: {optimizer: lion, space: {optimizer.lr: {log_uniform: [0.0001, 0.01]}}}\n");
    let larger = Lab::new(larger);
    assert_eq!(drawn(&larger, "sgd", &[])[..4], sgd[..]);
    assert_eq!(drawn(&larger, "adam", &[])[..4], adam[..]);
    assert_eq!(drawn(&lab, "adam", &["--arm", "adam"]), adam);
    // The runs of a plan are those of the first rung, with one epoch.
    let plan = json(&lab.good(&["plan", "tiny.yaml", "--json"]).0);
    let runs = plan["runs"].as_array().unwrap();
    assert_eq!((runs.len(), plan["selection"].as_str(), plan["hypotheses"].is_null()), (16, Some("validation"), true));
    assert!(runs.iter().all(|run| run["config"]["train"]["epochs"] == 1));
    let ids: BTreeSet<&str> = runs.iter().map(|run| run["id"].as_str().unwrap()).collect();
    let plan = json(&larger.good(&["plan", "tiny.yaml", "--json"]).0);
    let more: BTreeSet<&str> = plan["runs"].as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap()).collect();
    assert!(ids.is_subset(&more), "no run of the smaller search is another in the larger one");
}

#[test]
fn a_search_that_is_stopped_trains_nothing_twice() {
    let lab = Lab::new(SEARCH);
    // Half of the first rung, as a search that was killed leaves it.
    lab.good(&["run", "tiny.yaml", "--arm", "sgd"]);
    let before = lab.files("records/quick/runs");
    assert_eq!(before.len(), 8);
    let (report, said) = lab.good(&["search", "tiny.yaml", "--format", "json"]);
    // 4 configurations of 2 arms and 2 seeds; then 2 of each.
    assert_eq!(lab.records("records/quick").len(), 16 + 8, "{said}");
    let after = lab.files("records/quick/runs");
    assert!(before.iter().all(|(path, bytes)| after[path] == *bytes), "the first eight are as they were");

    let (again, said) = lab.good(&["search", "tiny.yaml", "--format", "json"]);
    assert_eq!(again, report);
    assert_eq!(said.matches("nothing to train").count(), 2, "both rungs: {said}");
    assert_eq!(lab.files("records/quick/runs"), after);

    // Every arm had the same: 4 × 1 × 2 + 2 × 2 × 2 epochs.
    let rows = json(&report)["rows"].as_array().unwrap().clone();
    for (row, arm) in rows.iter().zip(["sgd", "adam"]) {
        assert_eq!(
            (row["arm"].as_str(), row["configurations"].as_u64(), row["epochs"].as_u64()),
            (Some(arm), Some(4), Some(16))
        );
        let trained =
            lab.records("records/quick").into_iter().filter(|record| record["config"]["optimizer"].get(arm).is_some());
        assert_eq!(trained.map(|record| record["epochs"].as_array().unwrap().len()).sum::<usize>(), 16);
        assert_eq!(row["dropped"], 2);
    }
}

#[test]
fn the_winner_is_the_best_by_validation_and_goes_into_the_finals() {
    let lab = Lab::new(SEARCH);
    let (report, said) = lab.good(&["search", "tiny.yaml", "--out", "finals.yaml"]);
    assert!(
        report.contains("tiny: each arm's best of 4 configurations by validation accuracy, mean of the last 2 epochs"),
        "{report}"
    );
    assert!(
        report.contains("the winners, as a part of an experiment:\n\narms:\n  sgd: {optimizer: {sgd: {lr: "),
        "{report}"
    );
    assert!(!report.contains("test accuracy"), "{report}");
    assert!(said.contains("the finals, 2 arms of 10 seeds each: `finals.yaml`"), "{said}");
    // So does what is said on the way: of each of the 16 + 8 runs.
    assert_eq!(
        (said.matches("validation accuracy ").count(), said.matches("test accuracy").count()),
        (24, 0),
        "{said}"
    );

    // Other commands read its records: the second rung is an experiment, and compares by the same scores.
    let rung = "records/quick/plans/tiny-rung2.json";
    let best = json(&lab.good(&["compare", rung, "--configurations", "--format", "json"]).0);
    let mine = json(&lab.good(&["search", "tiny.yaml", "--format", "json"]).0);
    for row in mine["rows"].as_array().unwrap() {
        let chosen = |other: &&Value| other["arm"] == row["arm"] && other["verdict"] == "chosen";
        let chosen = best["rows"].as_array().unwrap().iter().find(chosen).unwrap();
        assert_eq!(chosen["score"], row["score"]);
        assert_eq!(chosen["optimizer.lr"], row["best"]["optimizer.lr"]);
    }
    lab.good(&["report", rung]);
    lab.good(&["export", rung, "--out", "out"]);
    let file = "records/quick/searches/tiny-rung2.yaml";
    let (_, said) = lab.good(&["run", file, "--store", "records/quick"]);
    assert!(said.contains("nothing to train"), "{said}");
    lab.good(&["pack", rung]);
    assert!(lab.good(&["search", "tiny.yaml"]).1.matches("nothing to train").count() == 2, "packed runs are done");

    let finals = json(&lab.good(&["plan", "finals.yaml", "--json"]).0);
    let runs = finals["runs"].as_array().unwrap();
    assert_eq!((runs.len(), finals["hypotheses"].as_array().unwrap().len()), (20, 1));
    for run in runs {
        assert!(run["config"]["data"].get("validation").is_none() && run["seed"].as_u64().unwrap() > 2);
        assert_eq!(run["config"]["train"]["epochs"], 2);
        let row = mine["rows"].as_array().unwrap().iter().find(|row| row["arm"] == run["arm"]).unwrap();
        let optimizer = run["config"]["optimizer"].as_object().unwrap().values().next().unwrap();
        assert_eq!(optimizer["lr"], row["best"]["optimizer.lr"]);
    }
    // The same again writes the same; another text is not replaced.
    lab.good(&["search", "tiny.yaml", "--out", "finals.yaml"]);
    fs::write(lab.path("finals.yaml"), "name: finals\n").unwrap();
    let output = lab.np(&["search", "tiny.yaml", "--out", "finals.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("another file is there, and is not replaced"));
}

#[test]
fn random_search_is_one_rung_of_whole_trainings() {
    let random = with("successive_halving", "random")
        .replace("  reduction: 2\n", "")
        .replace("configurations: 4", "configurations: 2");
    let lab = Lab::new(random);
    let (report, _) = lab.good(&["search", "tiny.yaml", "--configurations", "--format", "csv"]);
    assert_eq!(report.lines().count(), 1 + 4, "{report}");
    assert!(report.lines().skip(1).all(|line| line.split(',').nth(1) == Some("2")), "two epochs: {report}");
    assert!(!Path::new(&lab.path("records/quick/searches")).exists());
    // To `np run` it is an experiment like any other.
    let (_, said) = lab.good(&["run", "tiny.yaml"]);
    assert!(said.contains("nothing to train") && !said.contains("first of"), "{said}");
}

#[test]
fn a_time_limit_ends_a_search_and_it_goes_on() {
    let lab = Lab::new(SEARCH);
    // Over before anything begins: workers are asked to stop a tenth of the time before its end.
    let output = lab.np(&["search", "tiny.yaml", "--minutes", "0.000001"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    assert!(text(&output.stdout).is_empty());
    lab.good(&["search", "tiny.yaml"]);
}

#[test]
fn mistakes_are_named() {
    let replaced = |old: &str, new: &str| with(old, new);
    let space = "{log_uniform: [0.001, 1]}";
    let cases: Vec<(String, &[&str], &[&str])> = vec![
        (
            replaced("seeds: [1, 2]", "seeds: [1]"),
            &[],
            &["tiny.yaml:8:1: `seeds`: expected at least 2 seeds", "got `1` alone", "hint: as in `seeds: 1..3`"],
        ),
        (SEARCH.into(), &["--seeds", "5"], &["`--seeds 5`: `seeds`: expected at least 2 seeds"]),
        (
            replaced(", validation: 0.1", ""),
            &[],
            &["tiny.yaml:5:1: `data.validation`: expected a share", "hint: hold images out"],
        ),
        (
            SEARCH.to_owned() + "selection: test\n",
            &[],
            &["`selection`: a search on the test split", "hint: say `selection: validation`"],
        ),
        (
            replaced("log_uniform: [0.001", "log_uniform: [0"),
            &[],
            &[
                "tiny.yaml:14:11: `search.space.optimizer.lr`: expected two numbers above 0, the smaller one first, got `[0, 1]`",
            ],
        ),
        (
            replaced("[0.5, 0.99]", "[0.99, 0.5]"),
            &[],
            &["`arms.sgd.space.optimizer.momentum`: expected two numbers, the smaller one first, got `[0.99, 0.5]`"],
        ),
        (
            replaced(space, "{log: [1, 2]}"),
            &[],
            &["tiny.yaml:14:", "`search.space.optimizer.lr", "there is no `log` here", "hint: "],
        ),
        (replaced(space, "[0.1, 0.2]"), &[], &["`search.space.optimizer.lr`", "as in `{log_uniform: [0.001, 1]}`"]),
        (replaced(space, "{choice: [0.1, 0.1]}"), &[], &["expected every value once, got `0.1` twice"]),
        (
            replaced("  space: {optimizer.lr", "  space: {data.fraction"),
            &[],
            &["`search.space.data.fraction`: expected a key of `optimizer`", "another one is another search"],
        ),
        (
            replaced("  space: {optimizer.lr", "  space: {train.epochs"),
            &[],
            &["`search.space.train.epochs`: expected a key that a search may change", "the rungs say"],
        ),
        (replaced("  space: {optimizer.lr", "  space: {optimizer.rate"), &[], &["`optimizer.", "there is no such key"]),
        (
            replaced(space, "{int: [1, 3]}").replace(
                "adam: {optimizer: adam, space: {optimizer.lr: {log_uniform: [0.0001, 0.01]}}}",
                "adam: {optimizer: adam}",
            ),
            &[],
            &["`search.configurations`: expected at most 3, as many as the space of arm `adam` has, got `4`"],
        ),
        (replaced("configurations: 4", "configurations: 1"), &[], &["`search.configurations`: expected 2 or more"]),
        (
            replaced("configurations: 4", "configurations: 4000"),
            &[],
            &["`search.configurations`: expected 2 or more, and at most 10000 runs"],
        ),
        (replaced("reduction: 2", "reduction: 1"), &[], &["`search.reduction`: expected 2 or more, got `1`"]),
        (
            replaced("reduction: 2", "min_epochs: 2"),
            &[],
            &[
                "`search.min_epochs`: no rung is shorter than a training: 2 times the reduction of 3 is more than its 2 epochs",
                "hint: lower it",
            ],
        ),
        (
            replaced("successive_halving", "random"),
            &[],
            &["`search.reduction`: expected no such key for the method `random`"],
        ),
        (
            replaced("successive_halving", "grid"),
            &[],
            &["`search.method`", "there is no `grid` here", "hint: choose from `random`, `successive_halving`"],
        ),
        (replaced("  seed: 7\n", ""), &[], &["`search.seed`: this key is missing"]),
        (
            replaced("  reduction", "  final_seeds: 2..5\n  reduction"),
            &[],
            &["`search.final_seeds`: expected seeds that choose nothing, got `2`, of the search itself"],
        ),
        (
            SEARCH.to_owned() + "sweep: {optimizer.lr: [0.1]}\n",
            &[],
            &["tiny.yaml:18:1: `sweep`: a search has a space, and sweeps nothing"],
        ),
        (SEARCH.into(), &["--sweep", "optimizer.lr=0.1"], &["`--sweep optimizer.lr=0.1`: `tiny.yaml` has a search"]),
        (SEARCH.into(), &["--set", "optimizer.lr=0.1"], &["`--set optimizer.lr=0.1`"]),
        (
            replaced("adam: {optimizer: adam,", "adam: {optimizer: adam, train: {epochs: 3},"),
            &[],
            &[
                "`train.epochs`: expected `2`, as arm `sgd` has, got `3` in arm `adam`",
                "hint: every arm has the same budget",
            ],
        ),
        (
            replaced(space, "{choice: [sgd, {sgd: {}}, adamw, lion]}")
                .replace("space: {optimizer.lr: {choice", "space: {optimizer: {choice")
                .replace("sgd, space: {optimizer.momentum: {uniform: [0.5, 0.99]}}", "sgd"),
            &[],
            &["two values of a choice mean the same in arm"],
        ),
        (SEARCH.into(), &["--out", "tiny.yaml"], &["`--out tiny.yaml`: an experiment of the same name as the search"]),
        (SEARCH.into(), &["--out", "tiny-rung2.yaml"], &["as the search, or one of its rungs"]),
        (SEARCH.into(), &["--out", "tiny.md.yaml"], &["tiny.md.yaml: another file is there, and is not replaced"]),
        (
            replaced("train: {epochs: 2,", "train: {epochs: 7, eval_every: 2,"),
            &[],
            &[
                "`train.eval_every`: expected 1, or an `outcome` of one epoch: configurations are judged over the last 2",
            ],
        ),
        (
            replaced("space: {optimizer.lr: {log_uniform: [0.001, 1]}}", "space: {train.eval_every: {choice: [1, 2]}}"),
            &[],
            &["`search.space.train.eval_every`: expected a key that a search may change", "it changes no weights"],
        ),
        (SEARCH.into(), &["--out", "finals"], &["`--out finals`: expected a file `NAME.yaml`"]),
        (common::TINY.into(), &[], &["tiny.yaml: `search`: there is no such section", "hint: "]),
        (
            common::TINY.replace("sgd: {optimizer", "sgd: {space: {}, optimizer"),
            &[],
            &["`arms.sgd.space`: there is no `search` that draws from it"],
        ),
    ];
    for (text_of, args, says) in cases {
        let lab = Lab::new(&text_of);
        fs::write(lab.path("tiny.md.yaml"), "name: tiny.md\n").unwrap();
        let output = lab.np(&[&["search", "tiny.yaml"], args].concat());
        let said = text(&output.stderr);
        for part in says {
            assert!(said.contains(part), "{part}\n{said}\n{text_of}");
        }
        assert_eq!((output.status.code(), said.matches("error: ").count()), (Some(2), 1), "{said}\n{text_of}");
        assert!(!lab.path("records/quick/runs").exists() && !lab.path("finals.yaml").exists(), "{said}");
    }
}

#[test]
fn an_arm_may_list_its_configurations() {
    let listed = common::TINY.replace(
        "sgd: {optimizer: {sgd: {lr: 0.05, momentum: 0.9}}}",
        "sgd: {optimizer: sgd, sweep: [{optimizer.lr: 0.1, optimizer.momentum: 0.9}, {optimizer.lr: 0.3, optimizer.momentum: 0}]}",
    );
    let lab = Lab::new(&listed);
    let plan = json(&lab.good(&["plan", "tiny.yaml", "--json"]).0);
    let sgd: Vec<&Value> = plan["runs"].as_array().unwrap().iter().filter(|run| run["arm"] == "sgd").collect();
    let values = |run: &Value| {
        (run["axes"]["optimizer.lr"].as_f64(), run["axes"]["optimizer.momentum"].as_f64(), run["seed"].as_u64())
    };
    let expected = [(0.1, 0.9, 1), (0.1, 0.9, 2), (0.3, 0.0, 1), (0.3, 0.0, 2)];
    let expected = expected.map(|(lr, momentum, seed)| (Some(lr), Some(momentum), Some(seed)));
    assert_eq!(sgd.iter().map(|run| values(run)).collect::<Vec<_>>(), expected, "two, and not four combinations");
    for (sweep, says) in [
        ("[]", "`arms.sgd.sweep`: expected 1 to 10000 configurations, got 0"),
        ("[{}]", "`arms.sgd.sweep.0`: expected a configuration, a map of keys to a value each, got `{}`"),
        ("[{optimizer.lr: 1}, {optimizer.lr: 1}]", "`arms.sgd.sweep.1`: expected every configuration once"),
        ("[{seeds: 1}]", "`seeds`: there is no such key"),
    ] {
        let start = listed.find("sweep: ").unwrap() + "sweep: ".len();
        let text_of = format!("{}{sweep}}}\n", &listed[..start]);
        let output = Lab::new(&text_of).np(&["plan", "tiny.yaml"]);
        assert!(text(&output.stderr).contains(says), "{says}\n{}", text(&output.stderr));
    }
}
