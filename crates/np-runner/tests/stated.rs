//! `outcome` and `hypotheses`: they change no run, come first wherever something is compared, and cannot be edited into a plan.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use std::fs;

use common::{Lab, TINY, text};
use serde_json::Value;

/// Three arms, and what is asked of them.
fn with(stated: &str) -> String {
    format!("{TINY}  plain: {{optimizer: {{sgd: {{lr: 0.05}}}}}}\n{stated}")
}

const STATED: &str = "\
outcome: {metric: test_accuracy, last_epochs: 2, direction: higher}
hypotheses: [{arm: sgd, against: plain, name: momentum helps}]
";

const EXPLORATORY: &str =
    "exploratory: not fixed in the experiment's file before its runs, and no test of a hypothesis";

#[test]
fn what_is_fixed_changes_no_run_and_comes_first() {
    let lab = Lab::new(with(""));
    lab.good(&["run", "tiny.yaml"]);
    let results = lab.results("records/quick");
    let free = lab.good(&["compare", "tiny.yaml"]).0;
    assert!(free.starts_with(&format!("{EXPLORATORY}\n\nfinal test accuracy (%, more is better): `full`")), "{free}");

    fs::write(lab.path("tiny.yaml"), with(STATED)).unwrap();
    let (_, said) = lab.good(&["plan", "tiny.yaml"]);
    assert!(said.contains("nothing to train: every run has its record"), "{said}");
    let outcome = "outcome: test accuracy, mean of the last 2 epochs, higher values are better; hypotheses: 1";
    assert!(said.contains(outcome), "{said}");
    lab.good(&["run", "tiny.yaml"]);
    assert_eq!(lab.results("records/quick"), results, "the same ids, and nothing trained again");

    let out = lab.good(&["compare", "tiny.yaml"]).0;
    let places: Vec<usize> = [
        "fixed in the experiment's file before its runs: the outcome (test accuracy, mean of the last 2 epochs)",
        "momentum helps: test accuracy, mean of the last 2 epochs (%, more is better): `sgd` against `plain`",
        "beside the outcome: the same pairs by other numbers, after the last epoch; not tested",
        EXPLORATORY,
        "`full` against `sgd`, paired by seed",
        "`full` against `plain`, paired by seed",
    ]
    .iter()
    .map(|part| out.find(part).unwrap_or_else(|| panic!("{part}\n{out}")))
    .collect();
    assert!(places.is_sorted(), "{places:?}\n{out}");

    // The number itself, from the records.
    let json: Value = serde_json::from_str(&lab.good(&["compare", "tiny.yaml", "--format", "json"]).0).unwrap();
    let of = |arm: &str, seed: u64| {
        let planned: np_record::Plan =
            serde_json::from_slice(&fs::read(lab.path("records/quick/plans/tiny.json")).unwrap()).unwrap();
        let run = planned.runs.iter().find(|run| run.arm == arm && run.seed == seed).unwrap();
        let record = lab.records("records/quick").into_iter().find(|record| record["id"] == *run.id).unwrap();
        [0, 1].map(|epoch| record["epochs"][epoch]["test_accuracy"].as_f64().unwrap()).iter().sum::<f64>() / 2.0
    };
    let got = &json["hypotheses"][0]["groups"][0]["difference"]["values"];
    for seed in [1, 2] {
        let want = of("sgd", seed) - of("plain", seed);
        assert!((got[seed.to_string()].as_f64().unwrap() - want).abs() < 1e-12, "{got} {want}");
    }
    assert_eq!(json["outcome"], "test-accuracy-last-2");
    assert_eq!(json["hypotheses"][0]["family_of"], "hypotheses");
    assert_eq!(json["exploratory"].as_array().unwrap().len(), 2);

    lab.good(&["report", "tiny.yaml"]);
    let page = fs::read_to_string(lab.path("report.html")).unwrap();
    let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part}"));
    // Verdicts come first: the pair, what its two seeds can tell, and the difference as `np compare` prints it.
    let verdicts = &page[at("<section id=\"verdicts\"")..at("<p class=\"question\">")];
    assert!(verdicts.contains(">sgd against plain<") && verdicts.contains(">too few seeds to tell<"), "{verdicts}");
    let row = out.lines().find(|line| line.contains(" ± ")).unwrap();
    let difference = row.split_whitespace().find(|cell| cell.starts_with(['+', '-'])).unwrap();
    assert!(verdicts.contains(&format!(">{difference}<")), "{row}\n{verdicts}");
    let first = at("test accuracy, mean of the last 2 epochs (%)</th>");
    assert!(first < at(">test accuracy %</th>") && first < at(">training loss</th>"), "the first number shown");
    assert!(
        at("before its runs: the outcome") < at("momentum helps") && at("momentum helps") < at("beside the outcome")
    );
    assert!(at("beside the outcome") < at("Exploratory: not fixed"), "{page}");

    // Another number is no test of the hypothesis; one arm less has none.
    let loss = lab.good(&["compare", "tiny.yaml", "--metric", "final-train-loss"]).0;
    assert!(loss.starts_with(EXPLORATORY) && !loss.contains("momentum helps"), "{loss}");
    let two = lab.good(&["compare", "tiny.yaml", "--arm", "full", "--arm", "sgd"]).0;
    assert!(two.contains("mean of the last 2 epochs") && !two.contains("momentum helps"), "{two}");
}

#[test]
fn a_plan_keeps_what_was_fixed() {
    let lab = Lab::new(with(STATED));
    lab.good(&["run", "tiny.yaml", "--seeds", "1", "--arm", "sgd"]);
    lab.good(&["run", "tiny.yaml"]);
    let plan = "records/quick/plans/tiny.json";
    let out = lab.good(&["compare", plan]).0;
    assert_eq!(out, lab.good(&["compare", "tiny.yaml"]).0, "from the plan alone");
    // Edited, under a digest that fits.
    let store = np_record::Store::open(lab.path("records/quick")).unwrap();
    let whole = store.read_plan("tiny").unwrap().unwrap();
    for (key, edited) in [
        ("`outcome`", np_record::Plan { outcome: None, ..whole.clone() }),
        ("`hypotheses`", np_record::Plan { hypotheses: Vec::new(), ..whole.clone() }),
    ] {
        store.write_plan(&edited).unwrap();
        let output = lab.np(&["compare", plan]);
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(&format!("{key} is not what the text of this plan")),
            "{said}"
        );
        assert_eq!(lab.good(&["compare", "tiny.yaml"]).0, out, "an experiment is answered from its text");
    }
}

#[test]
fn what_cannot_be_tested_is_refused_at_plan() {
    let of = |outcome: &str, hypotheses: &str| with(&format!("outcome: {outcome}\nhypotheses: {hypotheses}\n"));
    let sound = "{metric: test_accuracy}";
    for (written, says, hint) in [
        (
            of("{metric: test_acuracy}", "[]"),
            "11:11: `outcome.metric`: there is no `test_acuracy` here",
            "`test_accuracy`?",
        ),
        (
            of("{metric: best_test_loss}", "[]"),
            "`outcome.metric`: there is no `best_test_loss` here",
            "hint: choose from `test_accuracy`",
        ),
        (of("{last_epochs: 2}", "[]"), "11:1: `outcome.metric`: this key is missing", ""),
        (
            of("{metric: test_loss, last_epochs: 0}", "[]"),
            "`outcome.last_epochs`: expected a whole number, 1 or more, got `0`",
            "",
        ),
        (
            of("{metric: test_loss, last_epochs: 3}", "[]"),
            "11:30: `outcome.last_epochs`: expected at most 2, the epochs that `full` is trained for, got `3`",
            "hint: average over fewer epochs, or raise `train.epochs`",
        ),
        (
            of("{metric: test_loss, direction: higher}", "[]"),
            "11:30: `outcome.direction`: expected `lower`, as lower values of `test_loss` are better, got `higher`",
            "hint: leave `direction` out",
        ),
        (
            of(sound, "[{arm: sgd, against: plane}]"),
            "12:25: `hypotheses.0.against`: there is no arm `plane`",
            "hint: did you mean `plain`?",
        ),
        (of(sound, "[{arm: x, against: sgd}]"), "`hypotheses.0.arm`: there is no arm `x`", "hint: choose from `full`"),
        (
            of(sound, "[{arm: full, against: sgd}, {arm: sgd, against: sgd}]"),
            "`hypotheses.1`: arm `sgd` is compared with itself",
            "hint: name another arm",
        ),
        (
            of(sound, "[{arm: full, against: sgd}, {arm: sgd, against: full}]"),
            "`hypotheses.1`: `sgd` and `full` are compared by `hypotheses.0` already",
            "hint: a test is two-sided",
        ),
        (
            with("hypotheses: [{arm: full, against: sgd}]\n"),
            "11:1: `hypotheses`: there is no `outcome` to test them on",
            "hint: fix the number",
        ),
        (
            with(STATED).replace("batch_size: 32", "batch_size: 32, eval_every: 2"),
            "`outcome.last_epochs`: expected 1, as `full` is evaluated after every 2 epochs and after the last, got `2`",
            "hint: average over the last epoch alone, or leave `train.eval_every` at 1",
        ),
        (
            with(&format!("{STATED}scales: {{cpu: {{train: {{epochs: 1}}}}}}\n")),
            "`outcome.last_epochs`: expected at most 1, the epochs that `full` is trained for, got `2`",
            "a scale may have an `outcome` of its own",
        ),
    ] {
        let output = Lab::new(&written).np(&["plan", "tiny.yaml"]);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(says) && said.contains(hint), "{written}\n{said}");
    }
    // Training loss is there after every epoch.
    let loss = with("outcome: {metric: train_loss, last_epochs: 2}\n");
    Lab::new(loss.replace("batch_size: 32", "batch_size: 32, eval_every: 2")).good(&["plan", "tiny.yaml"]);
    let own = "scales: {cpu: {train: {epochs: 1}, outcome: {last_epochs: 1}}}\n";
    let (_, said) = Lab::new(with(&format!("{STATED}{own}"))).good(&["plan", "tiny.yaml", "--scale", "cpu"]);
    assert!(said.contains("outcome: final test accuracy, higher values are better; hypotheses: 1"), "{said}");
}

/// Not found by `np compare` alone, when everything has been trained.
#[test]
fn a_selection_by_what_no_run_holds_out_is_refused_at_plan() {
    let expected = "`selection`: expected examples that are held out, to select by, got none in arm";
    let hint =
        "\n  hint: hold images out, as in `data: {validation: 0.1}`, or say `selection: test`, as the paper does\n";
    let scaled = TINY
        .replace("fraction: 0.05}", "validation: 0.1}")
        .replace("  sgd: {", "  sgd: {data: {validation: null}, ")
        .replace("arms:", "scales: {quick: {selection: validation}}\narms:");
    for (written, says) in [
        (with("selection: validation\n"), format!("error: tiny.yaml:11:1: {expected} `full`{hint}")),
        (scaled.clone(), format!("error: tiny.yaml:7:18: {expected} `sgd`{hint}")),
    ] {
        let lab = Lab::new(written);
        for command in ["plan", "run"] {
            let output = lab.np(&[command, "tiny.yaml", "--store", "store"]);
            assert_eq!((text(&output.stderr), output.status.code()), (says.clone(), Some(2)), "{command}");
            assert!(!lab.path("store").exists());
        }
    }
    Lab::new(scaled).good(&["plan", "tiny.yaml", "--arm", "full"]);
    Lab::new(with("selection: test\n")).good(&["plan", "tiny.yaml"]);
}

#[test]
fn arms_that_are_not_evaluated_equally_often_are_warned_of() {
    let lab = Lab::new(TINY.replace("  sgd: {", "  sgd: {train: {eval_every: 2}, "));
    let warning = "warning: `train.eval_every` is 1 in arm `full` and 2 in arm `sgd`: `best-test-accuracy` and `best-test-loss` take the best of \
                   unequally many evaluations, and more of them are better on average\n";
    for command in ["plan", "run"] {
        let (_, said) = lab.good(&[command, "tiny.yaml"]);
        assert!(said.contains(warning), "{said}");
    }
    let best = |metric: &str| lab.good(&["compare", "tiny.yaml", "--metric", metric]).0;
    let of_best = "is the best of 2 evaluations for `full`, and of 1 for `sgd`: more of them are better on average";
    assert!(best("best-test-loss").contains(&format!("best test loss {of_best}")));
    assert!(best("best-test-accuracy").contains(&format!("best test accuracy {of_best}")));
    assert!(!best("final-test-accuracy").contains("evaluations"), "the last epoch always is evaluated");
    // Values of an axis are not compared with one another.
    let equal = Lab::new(TINY);
    let (_, said) = equal.good(&["plan", "tiny.yaml", "--sweep", "train.eval_every=1,2"]);
    assert!(!said.contains("warning"), "{said}");
}
