//! Small plans and records for the tests.

use std::collections::BTreeMap;

use np_record::{
    DataInfo, Epoch, Machine, ModelInfo, Outcome, Phases, Plan, PlannedRun, Provenance, Record, SCHEMA, SEMANTICS,
    Standing,
};
use serde_json::{Value, json};

pub(crate) fn run(arm: &str, seed: u64, axes: &[(&str, Value)]) -> PlannedRun {
    let axes: BTreeMap<String, Value> = axes.iter().map(|(key, value)| ((*key).to_string(), value.clone())).collect();
    let config = json!({ "optimizer": { "name": arm, "lr": 0.1 }, "seed": seed, "axes": axes });
    let data_digest = "d1".repeat(32);
    PlannedRun { id: PlannedRun::id_of(&config, &data_digest), arm: arm.into(), seed, axes, config, data_digest }
}

pub(crate) fn plan(runs: Vec<PlannedRun>) -> Plan {
    Plan {
        schema: SCHEMA,
        experiment: "fig2-sanity".into(),
        question: "does it learn?".into(),
        scale: "quick".into(),
        selection: None,
        outcome: None,
        hypotheses: Vec::new(),
        // printf 'a: 1' | sha256sum
        spec_sha256: "16c3c6d78678d53d39ab2c7a5a7bc4596567b46a1a57000a2d707334f779b824".into(),
        overrides: Vec::new(),
        spec: Some("a: 1".into()),
        runs,
        plan_sha256: None,
    }
    .sealed()
}

/// A finished record of two epochs that ends at `accuracy`.
pub(crate) fn record(run: &PlannedRun, accuracy: f64) -> Record {
    let epoch = |epoch: usize, test_accuracy: f64| Epoch {
        epoch,
        steps: epoch * 10,
        lr: 0.1,
        train_loss: 1.0 / 3.0,
        train_accuracy: Some(0.9),
        test_loss: Some(0.1 + 0.2),
        test_accuracy: Some(test_accuracy),
        validation: None,
        metrics: BTreeMap::new(),
        diagnostics: BTreeMap::from([("alpha_mean".to_string(), 1.05)]),
    };
    sealed(Record {
        schema: SCHEMA,
        id: run.id.clone(),
        semantics: SEMANTICS,
        config: run.config.clone(),
        data: DataInfo {
            name: "mnist".into(),
            title: "MNIST".into(),
            digest: run.data_digest.clone(),
            standing: Standing::Published,
            train_examples: 100,
            test_examples: 50,
            validation_examples: 0,
        },
        model: ModelInfo { title: "MLP 784-256-256-10".into(), parameters: 269_322 },
        outcome: Outcome::Finished,
        epochs: vec![epoch(1, accuracy + 0.001), epoch(2, accuracy)],
        result_sha256: String::new(),
        timing: vec![Phases { forward: 0.5, ..Phases::default() }; 2],
        optimizer: None,
        provenance: Provenance {
            machine: Machine { cpu: "some processor".into(), cores: 2, os: "linux x86_64".into(), gpu: None },
            threads: 2,
            commit: Some("c0ffee".into()),
            dirty: Some(false),
            versions: BTreeMap::new(),
            command: "np run".into(),
            started: "2026-01-01T00:00:00Z".into(),
            memory_peak_bytes: None,
            arithmetic: Vec::new(),
        },
        record_sha256: None,
    })
}

pub(crate) fn sealed(mut record: Record) -> Record {
    record.result_sha256 = record.digest_result();
    record.record_sha256 = Some(record.digest());
    record
}
