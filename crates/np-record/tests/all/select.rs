//! Selection over made-up sweeps: by which split, at which budget, and what is said about it.

use crate::common::{record, run, sealed};
use np_record::compare::{Comparison, Format, Metric, Question};
use np_record::select::{Budget, Choice, Rule, Runs, SelectError, Split, select};
use np_record::stats::Bootstrap;
use np_record::{Outcome, Score};
use serde_json::json;

/// Two seeds of each learning rate, ending at these test accuracies; validation accuracies go the other way.
fn sweep(arm: &str, data: &str, tried: &[(f64, f64)]) -> Runs {
    let mut runs = Runs::new();
    for &(lr, accuracy) in tried {
        for seed in [1, 2] {
            let run = run(arm, seed, &[("data.name", json!(data)), ("optimizer.lr", json!(lr))]);
            let mut record = record(&run, accuracy + 0.002 * seed as f64);
            for epoch in &mut record.epochs {
                epoch.validation =
                    Some(Score { loss: 0.5, accuracy: epoch.test_accuracy.map(|accuracy| 1.5 - accuracy) });
            }
            runs.push((run, Some(sealed(record))));
        }
    }
    runs
}

fn by(split: Split) -> Rule {
    Rule { split, ..Rule::default() }
}

fn plan() -> Runs {
    let grid = [(0.3, 0.80), (0.1, 0.90), (0.03, 0.85), (0.01, 0.70)];
    [
        sweep("full", "mnist", &grid),
        sweep("full", "fashion-mnist", &grid[..2]),
        sweep("sgd", "mnist", &grid[2..]),
        sweep("sgd", "fashion-mnist", &grid[..2]),
    ]
    .concat()
}

#[test]
fn the_best_of_each_arm_and_problem_by_either_split() {
    let chosen = |split| -> Vec<f64> {
        let (selection, _) = select(&by(split), &plan()).unwrap();
        assert_eq!(selection.tuned, ["optimizer.lr"]);
        selection.choices.iter().map(|choice| choice.best().unwrap().axes["optimizer.lr"].as_f64().unwrap()).collect()
    };
    assert_eq!(chosen(Split::Test), [0.1, 0.1, 0.03, 0.1]);
    assert_eq!(chosen(Split::Validation), [0.01, 0.3, 0.01, 0.3]);
}

#[test]
fn the_chosen_runs_compare_as_if_nothing_had_been_swept() {
    let (selection, runs) = select(&by(Split::Test), &plan()).unwrap();
    assert_eq!(runs.len(), 8);
    assert!(runs.iter().all(|(run, _)| run.axes.len() == 1 && run.axes.contains_key("data.name")));
    let (arm, baseline) = ("full".into(), "sgd".into());
    let question = Question { arm, baseline, metric: Metric::default().into(), bootstrap: Bootstrap::default() };
    let mut comparison = Comparison::new(question, &runs).unwrap();
    let differences: Vec<Option<f64>> =
        comparison.groups.iter().map(|g| g.difference.as_ref().map(|difference| difference.mean)).collect();
    assert!((differences[0].unwrap() - 0.05).abs() < 1e-12, "{differences:?}");
    // The made-up records of the second data set are the same for both arms.
    assert!(differences[1].is_none() && comparison.groups[1].same_results, "{differences:?}");
    let caveat = selection.caveat().unwrap();
    comparison.warn(&caveat);
    assert_eq!(
        comparison
            .render(Format::Text)
            .matches(
                "warning: the best of up to 4 configurations was chosen on the test split itself: too good on average"
            )
            .count(),
        1
    );
    assert_eq!(select(&by(Split::Validation), &plan()).unwrap().0.caveat(), None);
}

#[test]
fn unequal_budgets_are_told_and_can_be_made_equal() {
    let (selection, _) = select(&by(Split::Test), &plan()).unwrap();
    let budgets: Vec<_> = selection.choices.iter().map(Choice::budget).collect();
    assert_eq!(budgets, [(4, 8), (2, 4), (2, 4), (2, 4)]);
    let told: Vec<_> = selection.warnings.iter().filter(|warning| warning.contains("budgets differ")).collect();
    assert_eq!(told.len(), 1, "{:?}", selection.warnings);
    assert!(
        told[0].starts_with(
            "`data.name` = `mnist`: tuning budgets differ (configurations: `full` 4 in 8 runs, `sgd` 2 in 4 runs)"
        ),
        "{}",
        told[0]
    );

    let equal = |seed| select(&Rule { budget: Budget::Equal(seed), ..by(Split::Test) }, &plan()).unwrap().0;
    let drawn = |seed| -> Vec<bool> { equal(seed).choices[0].candidates.iter().map(|c| c.competes).collect() };
    assert_eq!(equal(0).choices.iter().map(|choice| choice.budget().0).collect::<Vec<_>>(), [2, 2, 2, 2]);
    assert!(!equal(0).warnings.iter().any(|warning| warning.contains("budgets differ")));
    assert_eq!(drawn(7), drawn(7));
    // All six pairs of four come up in fifty draws.
    let mut pairs: Vec<_> = (0..50).map(drawn).collect();
    pairs.sort();
    pairs.dedup();
    assert_eq!(pairs.len(), 6);
    let chosen = equal(3).choices[0].clone();
    assert!(chosen.best().unwrap().competes);
}

#[test]
fn what_diverged_or_is_missing_cannot_win() {
    let mut runs = plan();
    // The best learning rate of `full` on MNIST loses a seed, the second best diverges.
    runs[3].1 = None;
    if let Some(record) = &mut runs[4].1 {
        record.outcome = Outcome::Diverged { epoch: 1, step: 3 };
    }
    let (selection, _) = select(&by(Split::Test), &runs).unwrap();
    let full = &selection.choices[0];
    assert_eq!(full.best().unwrap().axes["optimizer.lr"], json!(0.3));
    assert_eq!((full.candidates[1].score, full.candidates[1].finished), (None, 1));
    assert_eq!((full.candidates[2].score, full.candidates[2].diverged), (None, 1));
    assert_eq!(full.budget(), (4, 7), "a run that diverged was paid for, one without a record was not");
    let edge = "`data.name` = `mnist`: `full`: the best `optimizer.lr`, 0.3, is the largest of the 4 tried: a better one may lie beyond";
    assert!(selection.warnings.iter().any(|warning| warning == edge), "{:?}", selection.warnings);
    let table = selection.candidates().render(Format::Csv);
    assert!(table.contains("mnist,full,0.1,,,2,1,0,not finished for every seed\n"), "{table}");

    runs.iter_mut().filter(|(run, _)| run.arm == "sgd").for_each(|(_, record)| *record = None);
    let (selection, kept) = select(&by(Split::Test), &runs).unwrap();
    assert_eq!(selection.choices[2].chosen, None);
    assert!(selection.warnings.iter().any(|w| w.ends_with("`sgd`: no configuration finished for every seed")));
    assert_eq!(kept.iter().filter(|(run, _)| run.arm == "sgd").count(), 4, "the first configuration stands for it");
}

#[test]
fn tables_in_every_format() {
    let (selection, _) = select(&by(Split::Test), &plan()).unwrap();
    let text = selection.table().render(Format::Text);
    assert!(text.starts_with("each arm at its best `optimizer.lr` by test accuracy\n\n"), "{text}");
    assert!(
        text.contains(
            "mnist          full  optimizer.lr = 0.1      90.30 ± 0.14               4     8     70.30 to 90.30"
        ),
        "{text}"
    );
    let csv = selection.table().render(Format::Csv);
    assert!(csv.starts_with("data.name,arm,chosen,score,score_std,configurations,runs,lowest,highest\nmnist,full,optimizer.lr = 0.1,0.903,"), "{csv}");
    assert_eq!(selection.candidates().rows.len(), 10);
    assert_eq!(serde_json::to_value(&selection).unwrap()["choices"][0]["chosen"], 1);
}

#[test]
fn questions_that_cannot_be_answered() {
    let mut runs = plan();
    if let Some(record) = &mut runs[5].1 {
        record.epochs[1].validation = None;
    }
    let error = select(&by(Split::Validation), &runs).unwrap_err();
    assert!(matches!(&error, SelectError::NoValidation { arm, .. } if arm == "full"));
    assert!(error.to_string().ends_with(" of arm `full` has no validation score"), "{error}");
    assert!(error.hint().starts_with("hold examples out with `data.validation`"));
    assert!(select(&by(Split::Test), &runs).is_ok());

    let named = |axis: &str| Rule { tuned: vec![axis.into()], ..by(Split::Test) };
    assert_eq!(select(&named("data.name"), &runs).unwrap().0.choices.len(), 8, "problems are what is not tuned");
    let error = select(&named("optimizer.momentum"), &runs).unwrap_err();
    assert_eq!(error.to_string(), "expected an axis of the plan, got `optimizer.momentum`");
    assert_eq!(error.hint(), "its axes are `data.name`, `optimizer.lr`");
    let plain: Runs = vec![(run("full", 1, &[("data.name", json!("mnist"))]), None)];
    let error = select(&by(Split::Test), &plain).unwrap_err();
    let text = "nothing to select: no axis of `optimizer`, `options` or `train`, got `data.name`";
    assert_eq!(error.to_string(), text);
    assert!(error.hint().starts_with("try values with `--sweep optimizer.lr=0.1,0.03`"));
}
