//! Runs have the bits that are written here, on every x86-64 CPU with AVX2 and FMA: other caches, other instruction sets beyond, another maker.
//!
//! `digests.tsv` holds the digest of each arm's results. It changes where the arithmetic changes, together with `np_record::semantics_of`. Optimizers over
//! decompositions of matrices (Shampoo, SOAP, K-FAC) are not among them: `np_core::Rule::portable` says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::{collections::BTreeMap, fs};

use common::Lab;

/// The last batch of an epoch has 24 images, few enough for sums in lanes; 784 inputs are summed in two pieces.
const MLP: &str = "\
name: tiny
question: Which bits?
data: {name: fashion-mnist, source: mini}
model: {mlp: {hidden: [256, 256], dropout: 0.1}}
train: {epochs: 2, batch_size: 104}
seeds: [1]
arms:
  neuroplastic: {optimizer: {neuroplastic: {lr: 0.1, coefficient: {scale: 2.0, warmup_epochs: 1}}}}
  neuroplastic-lion: {optimizer: {neuroplastic: {lr: 0.01, formulation: {hybrid: {base: {lion: {}}}}}}}
  sgd: {optimizer: {sgd: {lr: 0.02, momentum: 0.9}}}
  adamw: {optimizer: {adamw: {lr: 0.001}}}
  lamb: {optimizer: {lamb: {lr: 0.01}}}
  prodigy: {optimizer: {prodigy: {lr: 1.0}}}
  adafactor: {optimizer: {adafactor: {lr: 0.01}}}
  muon: {optimizer: {muon: {lr: 0.01}}}
  lbfgs: {optimizer: {lbfgs: {max_iterations: 3}}}
";

/// The last stage sums 1,152 products an output, in three pieces; the last batch has eight images.
const RESNET: &str = "\
name: tiny
question: Which bits?
data: {name: mnist, source: mini, count: 72, layout: rgb32, augment: crop_flip}
model: {resnet18: {width: 16}}
train: {epochs: 2, batch_size: 32, eval_batch_size: 250}
seeds: [1]
arms:
  neuroplastic: {optimizer: {neuroplastic: {lr: 0.1, coefficient: {scale: 2.0, warmup_epochs: 1}}}}
  adamw: {optimizer: {adamw: {lr: 0.001}}}
";

/// The digest of every arm of an experiment, trained anew.
fn digests(model: &str, experiment: &str) -> BTreeMap<String, String> {
    let lab = Lab::new(experiment);
    lab.good(&["run", "tiny.yaml", "--store", "store"]);
    let plan = lab.files("store").into_iter().find(|(path, _)| path.to_string_lossy().contains("plans/")).unwrap().1;
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    let arm_of = |id: &serde_json::Value| {
        let run = plan["runs"].as_array().unwrap().iter().find(|run| run["id"] == *id).unwrap();
        format!("{model} {}", run["arm"].as_str().unwrap())
    };
    let records = lab.records("store");
    records.iter().map(|r| (arm_of(&r["id"]), r["result_sha256"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn the_bits_are_those_of_the_table() {
    if !promised() {
        println!("skipped: the table is of Linux on x86-64 with AVX2 and FMA");
        return;
    }
    let mut found = digests("mlp", MLP);
    found.extend(digests("resnet18", RESNET));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/digests.tsv");
    let found: String = found.iter().map(|(arm, digest)| format!("{arm}\t{digest}\n")).collect();
    let written = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, found, "the left is {path}, the right what this machine gives");
}

/// Whether this is a machine for which the table is promised.
fn promised() -> bool {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    return false;
}
