//! Optimizers that want more than gradients, and ResNet-18, through the real binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::{Lab, TINY, text};

/// Matrix methods, averages, a line search, layer records; wide enough that two threads share the work.
const ZOO: &str = "\
name: tiny
question: Does it run?
data: {name: fashion-mnist, source: mini, fraction: 0.2}
model: {mlp: {hidden: [96, 48], dropout: 0.1}}
train: {epochs: 2, batch_size: 50}
seeds: [1]
arms:
  kfac: {optimizer: {kfac: {lr: 0.1, damping: 0.03, update_every: 4}}}
  lbfgs: {optimizer: {lbfgs: {max_iterations: 3}}}
  shampoo: {optimizer: {shampoo: {lr: 0.1, eps: 0.1, update_every: 4}}}
  soap: {optimizer: {soap: {lr: 0.003, update_every: 4}}}
  muon: {optimizer: {muon: {lr: 0.01}}}
  schedule_free_adamw: {optimizer: {schedule_free_adamw: {lr: 0.003}}}
";

const RESNET: &str = "\
name: tiny
question: Does it run?
data: {name: mnist, source: mini, count: 48, layout: rgb32, augment: crop_flip}
model: {resnet18: {width: 4}}
train: {epochs: 2, batch_size: 16, eval_batch_size: 250}
seeds: [1]
arms:
  adamw: {optimizer: {adamw: {lr: 0.001}}}
";

#[test]
fn the_zoo_gives_the_same_bits_at_any_number_of_threads_and_says_what_it_costs() {
    let lab = Lab::new(ZOO);
    for (store, jobs, threads) in [("one", "2", "1"), ("two", "1", "2")] {
        lab.good(&["run", "tiny.yaml", "--store", store, "--jobs", jobs, "--threads", threads]);
    }
    let results = lab.results("one");
    assert_eq!(results.len(), 6);
    assert_eq!(results, lab.results("two"));
    for record in lab.records("one") {
        let accuracy = record["epochs"][1]["test_accuracy"].as_f64().unwrap();
        // Ten classes; 16 steps of 50 images give 45 to 75 %.
        assert!(accuracy > 0.3, "{}: {accuracy}", record["config"]["optimizer"]);
        assert!(record["optimizer"]["state_bytes"].as_u64().unwrap() > 0);
    }

    let (table, _) = lab.good(&["compare", "tiny.yaml", "--store", "one", "--costs", "--format", "csv"]);
    let rows: Vec<Vec<&str>> = table.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(
        rows.iter().map(|row| row[0]).collect::<Vec<_>>(),
        ["kfac", "lbfgs", "shampoo", "soap", "muon", "schedule_free_adamw"]
    );
    for row in &rows {
        assert!(row[1..5].iter().all(|cell| cell.parse::<f64>().unwrap() > 0.0), "{row:?}");
    }
    let bytes: f64 = rows[5][4].parse().unwrap();
    assert!((bytes - 8.0).abs() < 0.01, "two moments in f32, and counts: {bytes}");
    let refused = lab.np(&["compare", "tiny.yaml", "--store", "one", "--costs", "--against", "kfac"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn a_resnet_gives_the_same_bits_at_any_number_of_threads() {
    let lab = Lab::new(RESNET);
    for (store, threads) in [("one", "1"), ("two", "2")] {
        lab.good(&["run", "tiny.yaml", "--store", store, "--jobs", "1", "--threads", threads]);
    }
    let results = lab.results("one");
    assert_eq!(results.len(), 1);
    assert_eq!(results, lab.results("two"));
    let record = &lab.records("one")[0];
    assert_eq!(record["model"]["title"], "ResNet-18 3-4-10");
    assert_eq!(record["config"]["model"], serde_json::json!({"resnet18": {"width": 4}}));
}

#[test]
fn a_resnet_that_does_not_fit_is_refused_at_planning() {
    for (from, to, expected) in [
        (
            "layout: rgb32, ",
            "",
            "expected images of 3×32×32 for the model `resnet18`, as `rgb32` makes them, got `1×28×28`",
        ),
        ("width: 4", "width: 0", "`model.resnet18.width`: expected at least 1, got `0`"),
        ("width: 4", "hidden: [4]", "`model.resnet18.hidden`"),
        (
            "{adamw: {lr: 0.001}}",
            "kfac",
            "expected another optimizer for the model `resnet18`, which keeps no records of its layers, as `kfac` wants them",
        ),
    ] {
        let lab = Lab::new(RESNET.replace(from, to));
        let output = lab.np(&["plan", "tiny.yaml"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let lab = Lab::new(TINY);
    let (planned, _) =
        lab.good(&["plan", "tiny.yaml", "--set", "model={resnet18: {width: 4}}", "--set", "data.layout=rgb32"]);
    assert!(planned.contains("missing"), "{planned}");
}
