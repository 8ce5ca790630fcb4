//! All arms at once, over made-up runs: pooled over problems, against a target, as profiles.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use crate::common::{record, run, sealed};
use np_record::compare::{
    Cost, Format, Metric, Problem, Target, TargetError, pooled, profile, reached, time_to_target, time_to_target_table,
};
use np_record::select::Runs;
use np_record::stats::Bootstrap;
use np_record::{Direction, Epoch, Outcome, OwnMetric, Phases};
use serde_json::{Value, json};

/// Runs of seeds 1, 2, … of one arm on one data set, ending at these accuracies.
fn ending(arm: &str, data: &str, accuracies: &[f64]) -> Runs {
    let axes = [("data.name", json!(data))];
    let runs = (1..).zip(accuracies).map(|(seed, value)| (run(arm, seed, &axes), value));
    runs.map(|(run, value)| (run.clone(), Some(record(&run, *value)))).collect()
}

/// The same with this accuracy after each epoch, of ten steps and a second each.
fn curves(arm: &str, data: &str, curves: &[&[f64]]) -> Runs {
    let mut runs = ending(arm, data, &vec![0.5; curves.len()]);
    for ((_, record), curve) in runs.iter_mut().zip(curves) {
        let mut made = record.take().unwrap();
        let first = made.epochs[0].clone();
        let epoch = |(i, value): (usize, &f64)| Epoch {
            epoch: i + 1,
            steps: 10 * (i + 1),
            test_accuracy: Some(*value),
            ..first.clone()
        };
        made.epochs = curve.iter().enumerate().map(epoch).collect();
        made.timing = vec![Phases { forward: 0.75, evaluation: 0.25, ..Phases::default() }; curve.len()];
        *record = Some(sealed(made));
    }
    runs
}

fn json_of(table: &np_record::Table) -> Value {
    serde_json::from_str(&table.render(Format::Json)).unwrap()
}

#[test]
fn pooled_over_problems() {
    let runs = [
        ending("full", "mnist", &[0.97, 0.975, 0.99]),
        ending("full", "fashion-mnist", &[0.86, 0.88, 0.87]),
        ending("sgd", "mnist", &[0.96, 0.97, 0.965]),
        ending("sgd", "fashion-mnist", &[0.88, 0.89, 0.87]),
    ]
    .concat();
    let table = pooled(&runs, "sgd", Metric::FinalTestAccuracy, &Bootstrap::default());
    let json = json_of(&table);
    let full = &json["rows"][0];
    assert_eq!((&full["problems"], &full["runs"]), (&json!(2), &json!(6)));
    // Six values, one dropped at either end: (0.87 + 0.88 + 0.97 + 0.975) / 4. The interval is that of the bootstrap's own test.
    assert!((full["iqm"].as_f64().unwrap() - 0.923_75).abs() < 1e-15);
    assert!((full["iqm_low"].as_f64().unwrap() - 0.9175).abs() < 0.0013, "{full}");
    // By hand: on MNIST 8½ of 9 pairs, on Fashion-MNIST a half for each of two ties, and one pair: 2 of 9.
    let want = (8.5 / 9.0 + 2.0 / 9.0) / 2.0;
    assert!((full["probability_better"].as_f64().unwrap() - want).abs() < 1e-15, "{full}");
    assert!(json["rows"][1]["probability_better"].is_null(), "not against itself");
    let text = table.render(Format::Text);
    assert!(text.contains("final test accuracy over 2 problems") && text.contains("P(better than `sgd`)"), "{text}");
    assert!(text.contains("n = 3 on a problem: intervals") && !text.contains("n = 6"), "{text}");

    let loss = pooled(&runs, "sgd", Metric::FinalTrainLoss, &Bootstrap::default()).render(Format::Text);
    assert!(loss.contains("warning: final training loss is pooled over problems as it is"), "{loss}");
    let few = pooled(&runs[..2], "full", Metric::default(), &Bootstrap::default()).render(Format::Text);
    assert!(few.contains("n = 2: below four runs an interquartile mean drops none"), "{few}");
}

#[test]
fn what_did_not_finish_is_said_and_loses() {
    let mut runs = [
        ending("full", "mnist", &[0.99, 0.5, 0.5]),
        ending("sgd", "mnist", &[0.96, 0.97, 0.965]),
        ending("sgd", "fashion-mnist", &[0.88, 0.89, 0.87]),
    ]
    .concat();
    for record in runs[1..3].iter_mut().filter_map(|(_, record)| record.as_mut()) {
        record.outcome = Outcome::Diverged { epoch: 1, step: 3 };
    }
    runs[5].1 = None;
    let table = pooled(&runs, "sgd", Metric::FinalTestAccuracy, &Bootstrap::default());
    // The one that is left beats both of the other's; the two that diverged beat none.
    assert_eq!(json_of(&table)["rows"][0]["probability_better"].as_f64(), Some(1.0 / 3.0));
    let text = table.render(Format::Text);
    assert!(text.contains("warning: `full`: 2 diverged; in no mean"), "{text}");
    assert!(text.contains("warning: `full` has values on 1 of 2 problems"), "{text}");
    assert!(text.contains("warning: `sgd`: 1 missing; in no mean"), "{text}");
}

#[test]
fn the_probability_of_improvement_is_of_what_is_better() {
    let runs = [ending("full", "mnist", &[0.9]), ending("sgd", "mnist", &[0.8])].concat();
    let better =
        |metric| json_of(&pooled(&runs, "sgd", metric, &Bootstrap::default()))["rows"][0]["probability_better"].clone();
    assert_eq!(better(Metric::FinalTestAccuracy), 1.0);
    assert_eq!(better(Metric::FinalTestLoss), 0.5, "equal losses");
    let mut runs = runs;
    if let Some(record) = &mut runs[0].1 {
        record.epochs[1].test_loss = Some(0.01);
    }
    assert_eq!(
        json_of(&pooled(&runs, "sgd", Metric::FinalTestLoss, &Bootstrap::default()))["rows"][0]["probability_better"],
        1.0
    );
}

#[test]
fn time_to_target_is_of_the_first_epoch_and_censored() {
    let mut runs = curves("full", "mnist", &[&[0.7, 0.85, 0.8], &[0.9, 0.9, 0.9], &[0.1, 0.2, 0.3], &[0.9, 0.9, 0.9]]);
    runs[3].1 = None;
    let first = reached(runs[0].1.as_ref().unwrap(), Metric::FinalTestAccuracy, 0.85).unwrap();
    assert_eq!((first.epoch, first.steps, first.seconds), (2, 20, 2.0));
    let times = time_to_target(&runs, Metric::FinalTestAccuracy, &Target::Value(0.85)).unwrap();
    let [time] = &times[..] else { panic!("one group") };
    assert_eq!((time.reached(), time.runs.len(), time.unknown), (2, 3, 1));
    assert_eq!(time.median(|reached| reached.epoch as f64), Some(2.0));
    let json = json_of(&time_to_target_table(&times, Metric::FinalTestAccuracy));
    let row = json!({"data.name": "mnist", "arm": "full", "target": 0.85, "reached": 2, "runs": 3,
                     "median_epochs": 2.0, "median_steps": 20.0, "median_seconds": 2.0, "unknown": 1});
    assert_eq!(json["rows"][0], row);

    let times = time_to_target(&runs, Metric::FinalTestAccuracy, &Target::Value(0.899)).unwrap();
    assert_eq!(times[0].median(|reached| reached.epoch as f64), Some(f64::INFINITY), "two of three never got there");
    let table = time_to_target_table(&times, Metric::FinalTestAccuracy);
    assert!(table.render(Format::Text).contains("1 of 3  not reached  not reached"), "{}", table.render(Format::Text));
    assert!(table.render(Format::Csv).contains("mnist,full,0.899,1,3,,,,1\n"), "{}", table.render(Format::Csv));

    // A loss is reached from above; it is 0.30000000000000004 throughout.
    let times = time_to_target(&runs, Metric::FinalTestLoss, &Target::Value(0.31)).unwrap();
    assert_eq!(times[0].median(|reached| reached.epoch as f64), Some(1.0));
}

#[test]
fn an_arm_can_set_the_target() {
    let runs = [
        curves("full", "mnist", &[&[0.5, 0.9, 0.95]]),
        curves("full", "fashion-mnist", &[&[0.5, 0.6, 0.7]]),
        curves("sgd", "mnist", &[&[0.5, 0.7, 0.8], &[0.5, 0.7, 0.9], &[0.5, 0.7, 0.7]]),
    ]
    .concat();
    let times = time_to_target(&runs, Metric::FinalTestAccuracy, &Target::Arm("sgd".into())).unwrap();
    assert_eq!(times[0].target, Some(0.8), "the median of its ends");
    assert_eq!(times[0].median(|reached| reached.epoch as f64), Some(2.0));
    assert_eq!((times[1].target, times[1].unknown), (None, 1), "it has no run there");
    let table = time_to_target_table(&times, Metric::FinalTestAccuracy).render(Format::Text);
    assert!(table.contains("1 of the runs failed, are missing, or have no target"), "{table}");
}

#[test]
fn targets_that_are_none() {
    let runs = curves("full", "mnist", &[&[0.5]]);
    let error = time_to_target(&runs, Metric::FinalTestAccuracy, &Target::Value(85.0)).unwrap_err();
    assert!(error.to_string().ends_with("got `85`"), "{error}");
    assert_eq!(error.hint(), "accuracies are shares: 85 % is `0.85`");
    let error = time_to_target(&runs, Metric::TrainingTime, &Target::Value(1.0)).unwrap_err();
    assert_eq!(error, TargetError::NoCurve(Metric::TrainingTime));
    // Of a share, one minus it is a cost; of another number that is the better the higher, nothing is.
    let metric = Metric::FinalOwn(OwnMetric::new("test_bleu", Direction::Higher).unwrap());
    let problems = [Problem { experiment: "a", runs: &runs }];
    assert_eq!(profile(&problems, metric, &Cost::Final).unwrap_err(), TargetError::NoCost(metric));
}

#[test]
fn profiles_over_experiments() {
    let one = [
        curves("full", "mnist", &[&[0.5, 0.9, 0.9]]),
        curves("sgd", "mnist", &[&[0.9, 0.9, 0.9]]),
        curves("full", "fashion-mnist", &[&[0.9, 0.9, 0.9]]),
        curves("sgd", "fashion-mnist", &[&[0.5, 0.5, 0.5]]),
    ]
    .concat();
    let two = [
        curves("sgd", "cifar10", &[&[0.5, 0.9]]),
        curves("full", "cifar10", &[&[0.9, 0.9]]),
        curves("adam", "cifar10", &[&[0.9]]),
    ]
    .concat();
    let problems = [Problem { experiment: "one", runs: &one }, Problem { experiment: "two", runs: &two }];
    let table = profile(&problems, Metric::default(), &Cost::Steps(Target::Value(0.85))).unwrap();
    let json = json_of(&table);
    // Steps: full 20 10 10, sgd 10 – 20; ratios 2 1 1 and 1 – 2.
    let near = |value: &Value, want: f64| assert!((value.as_f64().unwrap() - want).abs() < 1e-12, "{value} {want}");
    for (row, within_1, within_2, ever, score) in [(0, 2.0, 3.0, 3.0, 8.0 / 9.0), (1, 1.0, 2.0, 2.0, 5.0 / 9.0)] {
        let row = &json["rows"][row];
        near(&row["within_1"], within_1 / 3.0);
        near(&row["within_2"], within_2 / 3.0);
        near(&row["ever"], ever / 3.0);
        near(&row["score"], score);
    }
    let text = table.render(Format::Text);
    assert!(text.contains("left out: `adam`") && text.contains("3 problems: so few make a list"), "{text}");

    let table = profile(&problems[..1], Metric::default(), &Cost::Final).unwrap();
    // Errors: 0.1 against 0.1, and 0.1 against 0.5.
    near(&json_of(&table)["rows"][1]["within_1"], 0.5);
    near(&json_of(&table)["rows"][0]["within_1"], 1.0);
    let mut diverged = one.clone();
    if let Some(record) = &mut diverged[0].1 {
        record.outcome = Outcome::Diverged { epoch: 2, step: 11 };
    }
    let table = profile(&[Problem { experiment: "one", runs: &diverged }], Metric::default(), &Cost::Final).unwrap();
    near(&json_of(&table)["rows"][0]["ever"], 0.5);

    // The same runs in a second experiment are no second problem; a problem that an arm was not trained on is none.
    let mut missing = one.clone();
    missing[0].1 = None;
    let problems = [("one", &one), ("again", &one)].map(|(experiment, runs)| Problem { experiment, runs });
    let text = profile(&problems, Metric::default(), &Cost::Final).unwrap().render(Format::Text);
    assert!(
        text.contains("2 problems of the very same runs as another") && text.contains("of the 2 problems"),
        "{text}"
    );
    let problems = [Problem { experiment: "one", runs: &missing }];
    let text = profile(&problems, Metric::default(), &Cost::Final).unwrap().render(Format::Text);
    assert!(text.contains("1 run is missing or failed") && text.contains("1 of 2 problems left out"), "{text}");
}
