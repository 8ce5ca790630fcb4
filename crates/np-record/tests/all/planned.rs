//! What was fixed beforehand and what was not: averages over epochs, families of tests, selection by the same average.

use std::num::NonZeroUsize;

use crate::common::{plan, record, run, sealed};
use np_record::compare::{Asked, Compared, Comparison, Family, Format, Measure, Metric, Pairs};
use np_record::select::{Rule, Runs, Split, select};
use np_record::{Direction, Epoch, EpochMetric, Hypothesis, Plan, Score, StatedOutcome};
use serde_json::json;

fn late(last: usize) -> StatedOutcome {
    StatedOutcome {
        metric: EpochMetric::TestAccuracy,
        last_epochs: NonZeroUsize::MIN.saturating_add(last - 1),
        direction: Direction::Higher,
    }
}

/// Differences in thousandths, by seed, of three arms at two values of `k`: a − b and a − c.
const A_B: [[i32; 6]; 2] = [[1, 2, 3, 4, 5, 6], [-1, 2, 3, 4, 5, 6]];
const A_C: [[i32; 6]; 2] = [[2, 4, 6, 8, 10, 12], [-3, -6, 9, 12, 15, 18]];

/// Runs whose last epoch is the same for all: the differences are in the mean of the last two.
fn made() -> (Plan, Runs) {
    let mut runs = Runs::new();
    for (arm, sign) in [("a", None), ("b", Some(A_B)), ("c", Some(A_C))] {
        for (k, seed) in [0, 1].into_iter().flat_map(|k| (0..6).map(move |seed| (k, seed))) {
            let run = run(arm, seed, &[("k", json!(k))]);
            let less = sign.map_or(0, |differences| differences[k][seed as usize]);
            let mut record = record(&run, 0.5);
            record.epochs[0].test_accuracy = Some(0.7 - 2.0 * f64::from(less) / 1000.0);
            runs.push((run, Some(sealed(record))));
        }
    }
    let mut plan = plan(runs.iter().map(|(run, _)| run.clone()).collect());
    plan.outcome = Some(late(2));
    plan.hypotheses = vec![Hypothesis { arm: "a".into(), against: "b".into(), name: Some("a helps".into()) }];
    (plan.sealed(), runs)
}

/// p and adjusted p of each group.
fn p(comparison: &Comparison) -> Vec<(f64, f64)> {
    let of = comparison.groups.iter().filter_map(|group| group.difference.as_ref());
    of.map(|difference| (difference.test.p, difference.p_holm)).collect()
}

#[test]
fn epochs_that_were_not_evaluated_are_neither_last_nor_best() {
    let mut record = record(&run("a", 1, &[]), 0.5);
    (record.epochs[0].test_accuracy, record.epochs[0].test_loss) = (None, None);
    assert_eq!(Metric::FinalTestAccuracy.of(&record), Some(0.5));
    assert_eq!(Metric::BestTestAccuracy.of(&record), Some(0.5));
    assert_eq!(Metric::FinalTestAccuracy.of_epoch(&record.epochs[0]), None);
    assert_eq!(late(2).measure().of(&record), None, "one of the two that are averaged");
    let text = serde_json::to_value(&record.epochs).unwrap();
    assert_eq!(text[0].get("test_accuracy").or(text[0].get("test_loss")), None);
    assert_eq!(serde_json::from_value::<Vec<Epoch>>(text).unwrap(), record.epochs);
    // Of a training that has broken off before its end.
    record.epochs.truncate(1);
    assert_eq!([Metric::FinalTestAccuracy, Metric::BestTestLoss].map(|metric| metric.of(&record)), [None, None]);
    assert_eq!(Metric::FinalTrainLoss.of(&record), Some(1.0 / 3.0));
}

#[test]
fn a_measure_is_the_mean_of_the_last_epochs() {
    let mut record = record(&run("a", 1, &[]), 0.9);
    let mut third = record.epochs[1].clone();
    (record.epochs[0].test_accuracy, record.epochs[1].test_accuracy, third.test_accuracy) =
        (Some(0.5), Some(0.8), Some(0.9));
    (record.epochs[1].train_loss, third.train_loss) = (0.75, 0.25);
    record.epochs.push(third);
    let of = |last| late(last).measure().of(&record);
    assert_eq!(of(1), Some(0.9));
    assert_eq!(of(1), Metric::FinalTestAccuracy.of(&record));
    // By hand: 1.7 / 2 and 2.2 / 3.
    assert!((of(2).unwrap() - 0.85).abs() < 1e-15 && (of(3).unwrap() - 2.2 / 3.0).abs() < 1e-15);
    assert_eq!(of(4), None, "fewer epochs than are averaged");
    let loss = Measure::late(EpochMetric::TrainLoss, 2.try_into().unwrap());
    assert_eq!(loss.of(&record), Some(0.5));
    assert_eq!((loss.key().as_str(), loss.unit(), loss.higher_is_better()), ("train-loss-last-2", "nats", false));
    record.epochs[1].test_accuracy = Some(f64::NAN);
    assert!(late(2).measure().of(&record).is_some_and(f64::is_nan), "one epoch that is no number is not passed over");
    for metric in [EpochMetric::TestAccuracy, EpochMetric::TestLoss, EpochMetric::TrainLoss, EpochMetric::TrainAccuracy]
    {
        assert_eq!(serde_json::to_value(metric).unwrap(), metric.key());
    }
}

#[test]
fn hypotheses_are_one_family_and_the_rest_is_exploratory() {
    let (plan, runs) = made();
    let compared = Compared::of(&plan, &runs, &Asked::default()).unwrap();
    let [a_b] = &compared.hypotheses[..] else { panic!("one hypothesis") };
    let difference = |of: &Comparison, group: usize| of.groups[group].difference.as_ref().unwrap().mean;
    // (1 + … + 6) / 6 and (−1 + 2 + … + 6) / 6 thousandths.
    assert!((difference(a_b, 0) - 0.0035).abs() < 1e-12 && (difference(a_b, 1) - 0.019 / 6.0).abs() < 1e-12);
    // Of 2⁶ flips 2 are as extreme as +1 … +6 (sum 21). The sum 19 is reached by no flip and by that of the 1, and their opposites: 4. Holm:
    // 2 · 0.03125, and the largest of that and 0.0625.
    assert_eq!(p(a_b), [(0.03125, 0.0625), (0.0625, 0.0625)]);
    assert_eq!((a_b.family, a_b.family_of, a_b.name.as_deref()), (2, Family::Hypotheses, Some("a helps")));
    let [a_c] = &compared.exploratory[..] else { panic!("one pair beside the hypothesis") };
    // 3 · (−1, −2, 3, 4, 5, 6): the sum is 15 of 21, and the flipped ones may sum up to 3: none, 1, 2, 3, 1 + 2, and opposites, 10 of 64.
    assert_eq!(p(a_c), [(0.03125, 0.0625), (0.15625, 0.15625)]);
    assert_eq!((a_c.family, a_c.family_of), (2, Family::Exploratory));
    let text = a_b.render(Format::Text);
    let head =
        "a helps: test accuracy, mean of the last 2 epochs (%, more is better): `a` against `b`, paired by seed\n";
    assert!(text.starts_with(head), "{text}");
    assert!(text.ends_with("Holm over a family of 2 comparisons\n"), "{text}");
    let csv = a_b.render(Format::Csv);
    assert!(csv.lines().nth(1).unwrap().ends_with(",hypotheses,a helps"), "{csv}");
    assert!(csv.contains(",test-accuracy-last-2,a,b,"), "{csv}");
}

#[test]
fn a_test_has_one_adjusted_p_wherever_it_is_asked_for() {
    let (plan, runs) = made();
    let ask = |pairs| Compared::of(&plan, &runs, &Asked { pairs, ..Asked::default() }).unwrap();
    let usual = ask(Pairs::OfFirst);
    for pairs in [Pairs::Of("a"), Pairs::Of("c"), Pairs::Against("c"), Pairs::Against("b")] {
        let other = ask(pairs);
        assert_eq!(other.hypotheses, usual.hypotheses, "always there, and always the same");
        for part in &other.exploratory {
            let ends = [part.arm.as_str(), part.baseline.as_str()];
            if ends.contains(&"a") {
                assert_eq!((p(part), part.family_of), (p(&usual.exploratory[0]), Family::Exploratory), "{pairs:?}");
            } else {
                // b − c: 1 … 6, and (−2, −8, 6, 8, 10, 12), whose sum is 26 of 46, so that those flipped may sum up to 10: none, 2, 6, 8 (twice),
                // 10, 2 + 6, 2 + 8 (twice), and opposites: 18 of 64. Of all pairs, with 0.03125 and 0.15625 of a − c: 4 · 0.03125, 1 · 0.28125 below
                // 2 · 0.15625.
                assert_eq!(p(part), [(0.03125, 0.125), (0.28125, 0.3125)], "{pairs:?}");
                assert_eq!((part.family, part.family_of), (4, Family::AllPairs));
            }
        }
    }
    assert_eq!(ask(Pairs::Against("c")).exploratory.len(), 2);
    assert_eq!(ask(Pairs::Against("b")).exploratory.len(), 1, "a − b is the hypothesis");
    assert!(Compared::of(&plan, &runs, &Asked { pairs: Pairs::Of("d"), ..Asked::default() }).is_err());
}

#[test]
fn another_number_than_the_outcome_tests_no_hypothesis() {
    let (mut plan, runs) = made();
    let measure = Some(Metric::FinalTrainLoss.into());
    let compared = Compared::of(&plan, &runs, &Asked { measure, ..Asked::default() }).unwrap();
    assert!(compared.hypotheses.is_empty() && !compared.is_outcome);
    assert_eq!(compared.exploratory.len(), 2, "all pairs of the first arm");
    assert_eq!(compared.beside(&runs).unwrap(), None);
    // Without an outcome the last epoch counts, as it did before files had one.
    (plan.outcome, plan.hypotheses) = (None, Vec::new());
    let compared = Compared::of(&plan, &runs, &Asked::default()).unwrap();
    assert_eq!((compared.measure, compared.exploratory.len()), (Metric::FinalTestAccuracy.into(), 2));
    assert!(compared.all().all(|part| part.family_of == Family::Exploratory && part.family == 4));
}

#[test]
fn last_epoch_and_losses_stand_beside_the_outcome() {
    let (plan, runs) = made();
    let compared = Compared::of(&plan, &runs, &Asked::default()).unwrap();
    let table = compared.beside(&runs).unwrap().unwrap();
    let text = table.render(Format::Text);
    assert_eq!(table.rows.len(), 6, "three numbers at two values of k:\n{text}");
    for part in ["0  a    b        final test accuracy (%)", "final training loss (nats)", "final test loss (nats)"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(
        text.contains("50.00 ± 0.00") && text.contains("0.3333 ± 0.0000") && text.contains("0.3000 ± 0.0000"),
        "{text}"
    );
    assert!(!text.contains(" p "), "{text}");
}

#[test]
fn a_hypothesis_without_runs_is_told() {
    let (plan, mut runs) = made();
    runs.retain(|(run, _)| run.arm != "b");
    let compared = Compared::of(&plan, &runs, &Asked::default()).unwrap();
    assert!(compared.hypotheses.is_empty());
    assert_eq!(compared.untested, ["hypothesis `a` against `b`: one of them has no runs that could be compared"]);
}

#[test]
fn what_is_fixed_is_under_the_digest_and_in_no_id() {
    let (fixed, _) = made();
    let free = Plan { outcome: None, hypotheses: Vec::new(), ..fixed.clone() }.sealed();
    assert_ne!(fixed.plan_sha256, free.plan_sha256);
    assert!(!fixed.agrees_with(&free) && fixed.runs == free.runs);
    let text = serde_json::to_string(&fixed).unwrap();
    let said = r#""outcome":{"metric":"test_accuracy","last_epochs":2,"direction":"higher"},"hypotheses":[{"arm":"a","against":"b","name":"a helps"}]"#;
    assert!(text.contains(said), "{text}");
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), fixed);
    let text = serde_json::to_string(&free).unwrap();
    assert!(!text.contains("outcome") && !text.contains("hypotheses"), "as plans were before: {text}");
}

#[test]
fn a_selection_averages_as_the_outcome_does() {
    let mut runs = Runs::new();
    // Held-out accuracies of both epochs: the last alone prefers 0.1 (0.6 > 0.5), the mean of both 0.3 (0.7 > 0.6).
    for (lr, scores) in [(0.3, [0.9, 0.5]), (0.1, [0.6, 0.6])] {
        let run = run("a", 1, &[("optimizer.lr", json!(lr))]);
        let mut record = record(&run, 0.5);
        for (epoch, accuracy) in record.epochs.iter_mut().zip(scores) {
            epoch.validation = Some(Score { loss: 0.5, accuracy: Some(accuracy) });
        }
        runs.push((run, Some(sealed(record))));
    }
    let mut plan = plan(runs.iter().map(|(run, _)| run.clone()).collect());
    let chosen = |plan: &Plan| {
        let (selection, _) = select(&Rule::of(plan, Split::Validation), &runs).unwrap();
        let best = selection.choices[0].best().unwrap();
        (best.axes["optimizer.lr"].as_f64().unwrap(), best.score.unwrap(), selection.table().title)
    };
    assert_eq!(chosen(&plan), (0.1, 0.6, "each arm at its best `optimizer.lr` by validation accuracy".into()));
    plan.outcome = Some(late(2));
    let title = "each arm at its best `optimizer.lr` by validation accuracy, mean of the last 2 epochs";
    assert_eq!(chosen(&plan), (0.3, 0.7, title.into()));
}
