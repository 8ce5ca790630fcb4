//! Plans and records that no training made: plausible, and the same every time.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use np_record::{
    DataInfo, Epoch, EpochMetric, Hypothesis, Machine, ModelInfo, Outcome, Phases, Plan, PlannedRun, Provenance,
    Record, SCHEMA, SEMANTICS, Score, Standing, StatedOutcome,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::figures::runs::Runs;

const ARMS: [&str; 3] = ["full", "gradient-only", "gradient-only-matched"];
pub(super) const SEEDS: [u64; 3] = [41, 42, 43];
pub(super) const EPOCHS: usize = 10;
pub(super) const RATES: [f64; 3] = [0.03, 0.1, 0.3];

/// What is special about a made-up run.
#[derive(Clone)]
struct Made {
    arm: &'static str,
    data: &'static str,
    fraction: f64,
    rate: Option<f64>,
    seed: u64,
}

/// The runs of an experiment, but for seeds.
fn runs_of(name: &str) -> Vec<Made> {
    let made = |arm, data, fraction, rate| Made { arm, data, fraction, rate, seed: 0 };
    let all = |arms: &[&'static str], settings: &[(&'static str, f64)], rates: &[Option<f64>]| {
        let mut all = Vec::new();
        for arm in arms {
            for (data, fraction) in settings {
                all.extend(rates.iter().map(|rate| made(*arm, *data, *fraction, *rate)));
            }
        }
        all
    };
    let (whole, rates) = ([("mnist", 1.0), ("fashion-mnist", 1.0)], RATES.map(Some));
    let shares = [0.1, 0.25, 0.5, 1.0].map(|fraction| ("fashion-mnist", fraction));
    let cifar = [("cifar10", 1.0)];
    match name {
        "fig2-sanity" => all(&CONTROLLED, &whole, &[None]),
        "fig3-low-data" => all(&CONTROLLED, &shares, &[None]),
        "fig6-dynamics" => all(&CONTROLLED[..4], &whole, &[None]),
        "fig4-optimizers" => all(&["sgd-momentum", "adam", "adamw", "neuroplastic"], &cifar, &rates),
        "fig5-transfer" => all(&ARMS, &cifar, &[None]),
        "fig7-design-space" => all(
            &["direct", "bounded", "orthogonal", "adamw-gain", "sgd-trust-ratio", "controller-layerwise"],
            &cifar,
            &[None],
        ),
        "fig8-stability" => {
            all(&["full", "no-signal-normalization", "no-norm-clip", "no-rms-gain", "none"], &whole[1..], &rates)
        }
        "fig9-matched-step" => [&whole[..1], &shares].concat().iter().map(|(d, f)| made("any", d, *f, None)).collect(),
        "fig9-matched-step-cifar" => all(&["cifar10"], &cifar, &[None]),
        "fig9-best-rate" => all(&ARMS[..2], &[&whole[..1], &shares].concat(), &rates),
        "fig9-best-rate-cifar" => all(&ARMS[..2], &cifar, &rates),
        "fig13-rate-and-rule" => all(
            &["full", "gradient-only", "gradient-only-matched", "coefficient-one", "sgd"],
            &[shares[3], shares[0]],
            &rates,
        ),
        "fig11-equal-budgets" | "fig12-components" | "fig14-data-or-steps" => in_settings(name),
        _ => all(&ARMS, &whole, &[None]),
    }
}

/// The arms of an experiment that has an arm for every rule and setting.
fn in_settings(name: &str) -> Vec<Made> {
    let (mnist, fashion) = (("-mnist", "mnist", 1.0), ("-fashion", "fashion-mnist", 1.0));
    let (quarter, tenth) = (("-quarter", "fashion-mnist", 0.25), ("-tenth", "fashion-mnist", 0.1));
    let (arms, settings): (&[&str], Vec<(&str, &'static str, f64)>) = match name {
        "fig11-equal-budgets" => {
            let arms =
                &["sgd", "sgd-momentum", "adamw", "lion", "coefficient-one", "gradient-only", "full", "hybrid-adamw"];
            (arms, vec![mnist, fashion, tenth])
        }
        "fig12-components" => {
            (&["full", "no-activity", "scale-half", "coefficient-one"], vec![mnist, fashion, quarter, tenth])
        }
        _ => {
            let share = |ending, share| (ending, "fashion-mnist", share);
            (&PARTED, vec![share("-10", 0.1), share("-25", 0.25), share("-50", 0.5), share("-100", 1.0)])
        }
    };
    let made = |(ending, data, fraction): &(&str, &'static str, f64), arm: &&str| {
        // A handful of names, for as long as the tests run.
        let arm: &'static str = Box::leak(format!("{arm}{ending}").into_boxed_str());
        Made { arm, data, fraction: *fraction, rate: None, seed: 0 }
    };
    settings.iter().flat_map(|setting| arms.iter().map(move |arm| made(setting, arm))).collect()
}

/// The arms of figures 2 and 3.
const CONTROLLED: [&str; 5] = [ARMS[0], ARMS[1], ARMS[2], "coefficient-one", "sgd"];

/// The arms of figure 14.
const PARTED: [&str; 3] = ["full", "gradient-only", "coefficient-one"];

/// The outcome and the pairs that an experiment fixes.
fn stated(name: &str, runs: &[PlannedRun]) -> (Option<StatedOutcome>, Vec<Hypothesis>) {
    if !["fig11", "fig12", "fig13", "fig14"].iter().any(|number| name.starts_with(number)) {
        return (None, Vec::new());
    }
    let metric = EpochMetric::TestAccuracy;
    let outcome = StatedOutcome { metric, last_epochs: 5.try_into().unwrap(), direction: metric.direction() };
    let mut pairs: Vec<Hypothesis> = Vec::new();
    for other in ["gradient-only", "coefficient-one", "sgd", "no-activity"] {
        for ending in ["", "-mnist", "-fashion", "-quarter", "-tenth", "-10", "-25", "-50", "-100"] {
            let (arm, against) = (format!("full{ending}"), format!("{other}{ending}"));
            let is_there = |arm: &str| runs.iter().any(|run| run.arm == arm);
            if is_there(&arm) && is_there(&against) {
                pairs.push(Hypothesis { arm, against, name: None });
            }
        }
    }
    (Some(outcome), pairs)
}

pub(crate) fn write_spec(root: &Path, name: &str, text: &str) {
    fs::create_dir_all(root.join("experiments")).unwrap();
    fs::write(root.join(format!("experiments/{name}.yaml")), text).unwrap();
}

/// A plan of the kind that `np` makes for a figure's experiment, and a plausible record for each run.
pub(crate) fn experiment(name: &str, spec: &str) -> (Plan, Vec<Record>) {
    let (mut runs, mut records) = (Vec::new(), Vec::new());
    for made in runs_of(name) {
        for seed in SEEDS {
            let made = Made { seed, ..made.clone() };
            let has_shares = ["fig3-low-data", "fig9-best-rate", "fig13-rate-and-rule"].contains(&name);
            let run = planned(&made, has_shares);
            records.push(record(&run, &made));
            runs.push(run);
        }
    }
    let spec_sha256 = Sha256::digest(spec).iter().map(|byte| format!("{byte:02x}")).collect();
    let (experiment, question, scale) = (name.into(), "does the full rule help?".into(), "quick".into());
    let (outcome, hypotheses) = stated(name, &runs);
    (
        Plan {
            schema: SCHEMA,
            experiment,
            question,
            scale,
            spec_sha256,
            overrides: Vec::new(),
            selection: None,
            outcome,
            hypotheses,
            spec: Some(spec.into()),
            runs,
            plan_sha256: None,
        },
        records,
    )
}

fn planned(made: &Made, with_fraction: bool) -> PlannedRun {
    let Made { arm, data, fraction, rate, seed } = made.clone();
    let bounds = if arm == "gradient-only" { [0.5, 1.5] } else { [0.2, 2.0] };
    let config = json!({
        "data": { "name": data, "fraction": fraction },
        "optimizer": { "neuroplastic": { "rule": arm, "lr": rate, "coefficient": { "min": bounds[0], "max": bounds[1] } } },
        "seed": seed,
    });
    let mut axes = BTreeMap::from([("data.name".to_string(), Value::from(data))]);
    if with_fraction {
        axes.insert("data.fraction".into(), fraction.into());
    }
    if let Some(rate) = rate {
        axes.insert("optimizer.lr".into(), rate.into());
    }
    let data_digest: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    PlannedRun { id: PlannedRun::id_of(&config, &data_digest), arm: arm.into(), seed, axes, config, data_digest }
}

fn record(run: &PlannedRun, made: &Made) -> Record {
    let Made { data, fraction, rate, .. } = made.clone();
    // A number in −1 … 1 that depends on the run only.
    let noise = |salt: usize| {
        let hash = Sha256::digest(format!("{} {salt}", run.id));
        f64::from(hash[0]) / 127.5 - 1.0
    };
    let arm = ARMS.iter().position(|arm| *arm == run.arm).unwrap_or(0);
    let best = match data {
        "mnist" => 0.976,
        "cifar10" => 0.62,
        _ => 0.878,
    };
    let off = rate.map_or(0.0, |rate: f64| (rate / 0.1).log10().abs());
    let ceiling = best + 0.045 * fraction.log10() - 0.0035 * arm as f64 - 0.05 * off;
    // Without its norm clip the rule does not survive the highest rate.
    let diverges = rate == Some(0.3) && ["no-norm-clip", "none"].contains(&run.arm.as_str());
    let epoch = |i: usize| {
        let (x, learnt) = (i as f64, 1.0 - 0.55 * (-0.55 * i as f64).exp());
        let test_accuracy = ceiling - 0.22 * (1.0 - learnt) + 0.0035 * noise(i + 300);
        let diagnostics = [
            ("alpha_mean", [1.05, 0.86, 0.82][arm] - 0.15 / x + 0.004 * noise(i)),
            ("alpha_std", [0.62, 0.38, 0.55][arm] + 0.01 * noise(i + 20)),
            ("raw_gradient_norm", 9.0 + 6.0 / x + 0.5 * arm as f64 + 0.3 * noise(i + 40)),
            ("effective_update_norm", [29.4, 27.4, 30.2][arm] + 3.0 / x + 0.5 * noise(i + 60)),
            ("alpha_fraction_near_min", 0.24 + 0.06 * arm as f64 + 0.01 * noise(i + 80)),
            ("alpha_fraction_near_max", 0.17 - 0.03 * arm as f64 + 0.01 * noise(i + 100)),
        ];
        Epoch {
            epoch: i,
            steps: 16 * i,
            lr: 0.1,
            train_loss: 0.28 + 0.012 * arm as f64 + 0.5 * (1.0 - learnt) - 0.09 * fraction.log10()
                + 0.006 * noise(i + 200),
            train_accuracy: Some(0.9),
            test_loss: Some(0.3),
            test_accuracy: Some(test_accuracy),
            validation: rate.map(|_| Score { loss: 0.3, accuracy: Some(test_accuracy + 0.002 * noise(i + 400)) }),
            metrics: BTreeMap::new(),
            diagnostics: diagnostics.map(|(key, value)| (key.to_string(), value)).into(),
        }
    };
    let title = match data {
        "mnist" => "MNIST (made up)",
        "cifar10" => "CIFAR-10 (made up)",
        _ => "Fashion-MNIST (made up)",
    };
    let model = if data == "cifar10" { "ResNet-18 3-16-10" } else { "MLP 784-256-256-10" };
    let (outcome, last) = match diverges {
        true => (Outcome::Diverged { epoch: 2, step: 20 }, 1),
        false => (Outcome::Finished, EPOCHS),
    };
    let mut record = Record {
        schema: SCHEMA,
        id: run.id.clone(),
        semantics: SEMANTICS,
        config: run.config.clone(),
        data: DataInfo {
            name: data.into(),
            title: title.into(),
            digest: run.data_digest.clone(),
            standing: Standing::Published,
            train_examples: (2000.0 * fraction) as usize,
            test_examples: 1000,
            validation_examples: 0,
        },
        model: ModelInfo { title: model.into(), parameters: 269_322 },
        outcome,
        epochs: (1..=last).map(epoch).collect(),
        result_sha256: String::new(),
        timing: vec![Phases::default(); last],
        optimizer: None,
        provenance: Provenance {
            machine: Machine { cpu: "a processor".into(), cores: 2, os: "linux x86_64".into(), gpu: None },
            threads: 1,
            commit: Some("0123456789abcdef0123".into()),
            dirty: Some(false),
            versions: BTreeMap::new(),
            command: "np run".into(),
            started: "2026-01-01T00:00:00Z".into(),
            memory_peak_bytes: None,
            arithmetic: Vec::new(),
        },
        record_sha256: None,
    };
    record.result_sha256 = record.digest_result();
    record
}

pub(crate) fn made_up(name: &str) -> anyhow::Result<Runs> {
    let (plan, records) = experiment(name, "");
    Ok(Runs { runs: plan.runs.iter().cloned().zip(records).collect(), plan })
}
