//! Comparisons of made-up runs: pairing, counting, warning, printing.

use crate::common::{record, run, sealed};
use np_record::compare::{CompareError, Comparison, Format, Metric, Question, likenesses, pooled};
use np_record::stats::Bootstrap;
use np_record::{Outcome, PlannedRun, Record, Standing};
use serde_json::{Value, json};

type Runs = Vec<(PlannedRun, Option<Record>)>;

/// The final accuracies that the published code gives on Fashion-MNIST.
const FULL: [f64; 3] = [0.8740, 0.8779, 0.8808];
const GRADIENT_ONLY: [f64; 3] = [0.8711, 0.8738, 0.8771];

fn arms(axes: &[(&str, Value)]) -> Runs {
    let of = |arm: &str, values: [f64; 3]| {
        let runs = (41..).zip(values).map(|(seed, value)| (run(arm, seed, axes), value));
        runs.map(|(run, value)| (run.clone(), Some(record(&run, value)))).collect::<Runs>()
    };
    [of("full", FULL), of("gradient-only", GRADIENT_ONLY)].concat()
}

fn ask(metric: Metric) -> Question {
    let (arm, baseline) = ("full".into(), "gradient-only".into());
    Question { arm, baseline, metric: metric.into(), bootstrap: Bootstrap::default() }
}

#[test]
fn three_seeds() {
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &arms(&[])).unwrap();
    let [group] = &comparison.groups[..] else { panic!("one group") };
    let difference = group.difference.as_ref().unwrap();
    // By hand: (0.0029 + 0.0041 + 0.0037) / 3
    assert!((difference.mean - 0.003_566_666_666_666_7).abs() < 1e-15);
    assert_eq!((difference.test.p, difference.smallest_p, difference.p_holm), (0.25, 0.25, 0.25));
    let interval = difference.interval.unwrap();
    assert!((interval.low - 0.0029).abs() < 1e-12 && (interval.high - 0.0041).abs() < 1e-12);
    assert_eq!(
        group.warnings,
        [
            "n = 3: a two-sided sign-flip test cannot go below p = 0.25, whatever the data",
            "n = 3: the bootstrap range is that of the 3 differences themselves, and no 95 % interval"
        ]
    );
}

#[test]
fn text() {
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &arms(&[])).unwrap();
    let want = "\
final test accuracy (%, more is better): `full` against `gradient-only`, paired by seed

        full  gradient-only  n  difference (points)  bootstrap range     p  p Holm  smallest p
87.76 ± 0.34   87.40 ± 0.30  3                +0.36   [+0.29, +0.41]  0.25    0.25        0.25

warning: n = 3: a two-sided sign-flip test cannot go below p = 0.25, whatever the data
warning: n = 3: the bootstrap range is that of the 3 differences themselves, and no 95 % interval
mean ± sample standard deviation; 10000 bootstrap resamples of the paired differences
p: two-sided sign-flip test; Holm over a family of 1 comparison
";
    assert_eq!(comparison.render(Format::Text), want);
}

#[test]
fn markdown_csv_and_json_hold_the_same_groups() {
    let runs = [arms(&[("data.fraction", json!(0.1))]), arms(&[("data.fraction", json!(1.0))])].concat();
    let comparison = Comparison::new(ask(Metric::FinalTrainLoss), &runs).unwrap();
    assert_eq!(comparison.groups.len(), 2);
    let markdown = comparison.render(Format::Markdown);
    assert!(markdown.contains("| data.fraction | full | gradient-only |"), "{markdown}");
    assert!(markdown.contains("| 0.1 | 0.3333 ± 0.0000 | 0.3333 ± 0.0000 | 3 | +0.0000 |"), "{markdown}");
    assert_eq!(markdown.matches("cannot go below").count(), 1, "said once for both groups: {markdown}");

    let csv = comparison.render(Format::Csv);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0][..4], ["data.fraction", "metric", "arm", "baseline"]);
    assert_eq!(lines[2][..6], ["1.0", "final-train-loss", "full", "gradient-only", "3", "0.3333333333333333"]);

    let json: Value = serde_json::from_str(&comparison.render(Format::Json)).unwrap();
    assert_eq!(json["groups"][1]["axes"]["data.fraction"], json!(1.0));
    assert_eq!(json["groups"][1]["arm"]["values"]["42"], json!(1.0 / 3.0));
    assert_eq!(json["metric"], "final-train-loss");
}

/// Six seeds, whose differences are all positive.
fn six(axes: &[(&str, Value)]) -> Runs {
    let of = |arm: &str, start: f64| {
        let runs = (1..=6).map(|seed| (run(arm, seed, axes), start + 0.001 * (seed * seed) as f64));
        runs.map(|(run, value)| (run.clone(), Some(record(&run, value)))).collect::<Runs>()
    };
    let mut runs = [of("full", 0.9), of("gradient-only", 0.8)].concat();
    runs[0].1 = Some(record(&run("full", 1, axes), 0.95));
    runs
}

#[test]
fn tables_that_are_shown_together_are_one_family() {
    let ask = |metric| Comparison::new(ask(metric), &six(&[])).unwrap();
    let mut parts = [ask(Metric::FinalTestAccuracy), ask(Metric::BestTestAccuracy)];
    let p = |part: &Comparison| part.groups[0].difference.as_ref().unwrap().p_holm;
    // 2 of the 2⁶ sign patterns are as extreme as the one seen.
    assert_eq!((p(&parts[0]), parts[0].family), (0.03125, 1));
    assert!(!parts[0].render(Format::Text).contains("of all tables here"));
    Comparison::adjust_together(&mut parts);
    assert_eq!((p(&parts[0]), p(&parts[1]), parts[1].family), (0.0625, 0.0625, 2));
    assert!(
        parts[0].render(Format::Markdown).contains("Holm over a family of 2 comparisons, those of all tables here")
    );
}

#[test]
fn an_interval_is_called_one_where_there_are_six_differences() {
    let runs = six(&[]);
    let of = |seeds: u64| {
        let some: Runs = runs.iter().filter(|(run, _)| run.seed <= seeds).cloned().collect();
        Comparison::new(ask(Metric::FinalTestAccuracy), &some).unwrap().render(Format::Text)
    };
    assert!(of(6).contains("95 % interval") && !of(6).contains("bootstrap range"), "{}", of(6));
    assert!(
        !of(5).contains("  95 % interval") && of(5).contains("n = 5: the bootstrap range is too short"),
        "{}",
        of(5)
    );
}

#[test]
fn what_is_not_compared_is_told() {
    let mut runs = arms(&[]);
    if let Some(record) = &mut runs[0].1 {
        record.outcome = Outcome::Diverged { epoch: 2, step: 11 };
    }
    if let Some(record) = &mut runs[1].1 {
        record.outcome = Outcome::Failed { reason: "killed".into() };
    }
    runs[5].1 = None;
    if let Some(record) = &mut runs[3].1 {
        record.epochs[1].test_accuracy = Some(f64::NAN);
    }
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    let group = &comparison.groups[0];
    assert_eq!((&group.arm.diverged[..], &group.arm.failed[..]), (&[41][..], &[42][..]));
    assert_eq!((&group.baseline.diverged[..], &group.baseline.missing[..]), (&[41][..], &[43][..]));
    assert!(group.difference.is_none());
    let text = comparison.render(Format::Text);
    for part in [
        "88.08, 1 diverged, 1 failed",
        "87.38, 1 diverged, 1 missing",
        "warning: `full`: diverged, and left out of its mean: seed 41",
        "warning: no seed is finished in both arms: nothing to compare",
        "Holm over a family of 0 comparisons",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn arms_on_other_data_are_told() {
    let mut runs = arms(&[]);
    let warned = |runs: &Runs| {
        let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), runs).unwrap();
        comparison.groups[0]
            .warnings
            .iter()
            .any(|w| w == "`full` and `gradient-only` were not trained on the same data")
    };
    assert!(!warned(&runs));
    for (run, _) in runs.iter_mut().filter(|(run, _)| run.arm == "full") {
        run.config["data"] = json!({"name": "mnist", "fraction": 0.5});
    }
    assert!(warned(&runs));
}

#[test]
fn arms_of_the_same_runs_are_no_result() {
    let mut runs = arms(&[]);
    // The baseline spelled otherwise: the same ids, and so the same values.
    let twin: Runs = runs.iter().filter(|(run, _)| run.arm == "full").cloned().collect();
    runs.retain(|(run, _)| run.arm == "full");
    runs.extend(twin.into_iter().map(|(run, record)| (PlannedRun { arm: "gradient-only".into(), ..run }, record)));
    let says = "`full`: same configuration as `gradient-only`, nothing to compare";
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    let group = &comparison.groups[0];
    assert!(group.identical && group.difference.is_none() && comparison.family == 0);
    for format in Format::ALL {
        assert!(comparison.render(format).contains(says), "{format}");
    }
    let text = comparison.render(Format::Text);
    assert!(!text.contains("no seed is finished") && !text.contains("+0.00"), "{text}");
    let table = pooled(&runs, "gradient-only", Metric::FinalTestAccuracy, &Bootstrap::default()).render(Format::Text);
    assert!(table.contains(says) && !table.contains("0.50"), "{table}");
    // With one seed of its own it is another configuration.
    let differs = (run("full", 50, &[]), Some(record(&run("full", 50, &[]), 0.9)));
    let rival =
        (PlannedRun { arm: "gradient-only".into(), ..run("x", 50, &[]) }, Some(record(&run("x", 50, &[]), 0.8)));
    runs.extend([differs, rival]);
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    assert_eq!(comparison.groups[0].difference.as_ref().unwrap().values.len(), 1, "pairs of one run are none");
}

#[test]
fn arms_that_differ_in_nothing_that_acts_are_no_result() {
    // Two values of an axis; at the second the configurations differ and the results do not.
    let mut runs = [arms(&[("k", json!(1))]), arms(&[("k", json!(2))])].concat();
    for (run, record_of) in runs.iter_mut().filter(|(run, _)| run.arm == "gradient-only" && run.axes["k"] == 2) {
        *record_of = Some(record(run, FULL[run.seed as usize - 41]));
    }
    let says = "the same results to the bit: these arms do not differ in anything that acts";
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    let [differs, same] = &comparison.groups[..] else { panic!("two groups") };
    assert!(!differs.same_results && differs.difference.is_some());
    assert!(same.same_results && !same.identical && same.difference.is_none());
    assert_eq!(comparison.family, 1, "no p, and no part of the family");
    for format in Format::ALL {
        assert!(comparison.render(format).contains(says), "{format}");
    }
    assert!(!comparison.render(Format::Text).contains("no seed is finished"));
    let told: Vec<String> = likenesses(&runs).iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("`gradient-only` and `full` at `k` = `2`: {says}")]);
    // One number apart in one seed, and not in the last epoch: arms that act.
    let (_, last) = runs.last_mut().unwrap();
    let last = last.as_mut().unwrap();
    last.epochs[0].train_loss = f64::from_bits(last.epochs[0].train_loss.to_bits() + 1);
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    assert!(comparison.groups[1].difference.is_some() && likenesses(&runs).is_empty());
}

#[test]
fn arms_that_are_the_same_at_one_value_of_an_axis_are_told_by_it() {
    let mut runs = [arms(&[("k", json!(1))]), arms(&[("k", json!(2))])].concat();
    let ids: Vec<String> = runs.iter().filter(|(run, _)| run.arm == "full").map(|(run, _)| run.id.clone()).collect();
    let mut of = runs.iter_mut().filter(|(run, _)| run.arm == "gradient-only");
    of.by_ref().take(3).zip(&ids).for_each(|((run, record), id)| {
        run.id.clone_from(id);
        *record = None;
    });
    let told = |runs: &Runs| likenesses(runs).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(told(&runs), ["`gradient-only`: same configuration as `full` at `k` = `1`, nothing to compare"]);
    let mut of = runs.iter_mut().filter(|(run, _)| run.arm == "gradient-only");
    of.by_ref().zip(&ids).for_each(|((run, _), id)| run.id.clone_from(id));
    assert_eq!(told(&runs), ["`gradient-only`: same configuration as `full`, nothing to compare"]);
}

#[test]
fn data_of_another_name_is_told() {
    let mut runs = arms(&[]);
    for data in runs.iter_mut().filter_map(|(_, record)| record.as_mut()).map(|record| &mut record.data) {
        (data.title, data.standing) = ("custom data in mnist (digest 0123456789ab)".into(), Standing::Custom);
    }
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    let says = "custom data in mnist (digest 0123456789ab): not the published data set of that name";
    assert_eq!(comparison.groups[0].warnings.iter().filter(|warning| *warning == says).count(), 1);
}

#[test]
fn unpaired_seeds_are_told() {
    let mut runs = arms(&[]);
    runs.push((run("full", 50, &[]), Some(record(&run("full", 50, &[]), 0.9))));
    let comparison = Comparison::new(ask(Metric::FinalTestAccuracy), &runs).unwrap();
    let group = &comparison.groups[0];
    assert_eq!((group.arm.n(), group.difference.as_ref().unwrap().values.len()), (4, 3));
    assert!(group.warnings[0].contains("without a partner, and left out of the difference: seed 50"));
}

#[test]
fn questions_that_do_not_fit() {
    let mut runs = arms(&[]);
    let other = Question { baseline: "sgd".into(), ..ask(Metric::default()) };
    let error = Comparison::new(other, &runs).unwrap_err();
    assert_eq!(error.to_string(), "no arm `sgd`");
    assert_eq!(error.hint().unwrap(), "the plan has `full`, `gradient-only`");
    let same = Question { baseline: "full".into(), ..ask(Metric::default()) };
    assert!(matches!(Comparison::new(same, &runs), Err(CompareError::SameArm(_))));
    runs.push(runs[0].clone());
    let error = Comparison::new(ask(Metric::default()), &runs).unwrap_err();
    assert!(matches!(error, CompareError::Ambiguous { seed: 41, .. }), "{error}");
}

#[test]
fn a_selected_epoch_is_called_selected() {
    let comparison = Comparison::new(ask(Metric::BestTestAccuracy), &arms(&[])).unwrap();
    let group = &comparison.groups[0];
    // The first epoch of every record is 0.001 better than the last.
    assert!((group.arm.mean.unwrap() - (FULL.iter().sum::<f64>() / 3.0 + 0.001)).abs() < 1e-12);
    assert!(group.warnings.iter().any(|w| w.contains("picks an epoch by the test split")));
    assert!(!group.warnings.iter().any(|w| w.contains("evaluations")), "both have two");
    // One arm that was evaluated after its last epoch alone.
    let mut runs = arms(&[]);
    for (run, record) in &mut runs {
        let Some(record) = record.as_mut().filter(|_| run.arm == "gradient-only") else { continue };
        (record.epochs[0].test_accuracy, record.epochs[0].test_loss) = (None, None);
    }
    let warnings = |metric| Comparison::new(ask(metric), &runs).unwrap().groups[0].warnings.join("; ");
    let said = warnings(Metric::BestTestAccuracy);
    let text = "best test accuracy is the best of 2 evaluations for `full`, and of 1 for `gradient-only`: more of them";
    assert!(said.contains(text), "{said}");
    assert!(warnings(Metric::BestTestLoss).contains("best test loss is the best of 2 evaluations for `full`"));
    assert!(!warnings(Metric::FinalTestAccuracy).contains("evaluations"), "both were after the last epoch");
}

#[test]
fn names() {
    for metric in Metric::ALL {
        assert_eq!(metric.key().parse(), Ok(metric));
        assert_eq!(serde_json::to_value(metric).unwrap(), metric.key());
    }
    for format in Format::ALL {
        assert_eq!(format.key().parse(), Ok(format));
    }
    let error = "accuracy".parse::<Metric>().unwrap_err();
    assert_eq!(error.to_string(), "no metric `accuracy`");
    assert!(error.hint().starts_with("one of `final-test-accuracy`, "), "{}", error.hint());
    let error = "yaml".parse::<Format>().unwrap_err();
    assert_eq!(error.to_string(), "no format `yaml`");
    assert_eq!(error.hint(), "one of `text`, `markdown`, `csv`, `json`");
    let nothing = Record { epochs: Vec::new(), timing: Vec::new(), ..record(&run("full", 1, &[]), 0.5) };
    assert!(Metric::ALL.iter().all(|metric| metric.of(&sealed(nothing.clone())).is_none()));
}
