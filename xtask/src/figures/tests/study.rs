//! Figures 11 to 14: what is plotted, by hand from the records, and which of them are left out.

use std::fs;

use np_record::Outcome;

use super::{RATES, SEEDS, Scale, figure, made_up, write_spec};
use crate::figures::runs::Runs;
use crate::figures::{Number, Options, next, ready_first, run};

/// The mean test accuracy over the last five epochs of a run, in percent.
fn late(runs: &Runs, arm: &str, seed: u64) -> f64 {
    let (_, record) = runs.runs.iter().find(|(run, _)| run.arm == arm && run.seed == seed).unwrap();
    let from = record.epochs.len() - 5;
    record.epochs[from..].iter().map(|epoch| 20.0 * epoch.test_accuracy.unwrap()).sum()
}

/// The value in the first row of a figure's table that begins so.
fn plotted(name: &str, start: &str) -> f64 {
    let table = &figure(name).table;
    let row = table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{table}"));
    row.split(',').nth(7).unwrap().parse().unwrap()
}

#[test]
fn figure_14_pairs_by_seed_and_shows_figure_3_beside() {
    let runs = made_up("fig14-data-or-steps").unwrap();
    let difference = late(&runs, "full-25", 42) - late(&runs, "coefficient-one-25", 42);
    let start = "C,25 %,full − coefficient-one,test-accuracy-last-5_difference_points,row,6,42,";
    assert!((plotted("fig14", start) - difference).abs() < 1e-9);
    let low = made_up("fig3-low-data").unwrap().at_fraction(0.1).unwrap();
    let differences = SEEDS.iter().map(|seed| late(&low, "full", *seed) - late(&low, "gradient-only", *seed));
    let start = "C,10 %,full − gradient-only,test-accuracy-last-5_difference_points_beside,row,3,,";
    assert!((plotted("fig14", start) - differences.sum::<f64>() / 3.0).abs() < 1e-9);
    let caption = &figure("fig14").caption;
    for part in
        ["Holm over a family of 8 comparisons", "with 160 to 160 steps a run", "experiment `fig3-low-data`, 60 runs"]
    {
        assert!(caption.contains(part), "{part}\n{caption}");
    }
}

#[test]
fn figure_11_holds_every_arm_against_sgd_on_its_own_set() {
    let runs = made_up("fig11-equal-budgets").unwrap();
    let difference = late(&runs, "lion-tenth", 43) - late(&runs, "sgd-tenth", 43);
    let start = "I,\"Fashion-MNIST, 10 %\",lion − sgd,test-accuracy-last-5_difference_points,row,3,43,";
    let table = &figure("fig11").table;
    let row = table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{table}"));
    let value: f64 = row[start.len()..].split(',').next().unwrap().parse().unwrap();
    assert!((value - difference).abs() < 1e-9);
    let caption = &figure("fig11").caption;
    assert!(caption.contains("Holm over a family of 9 comparisons"), "three pairs on three sets\n{caption}");
    // Whether what was expected came out, by the means.
    let apart = |setting: &str| -> f64 {
        SEEDS
            .iter()
            .map(|seed| {
                late(&runs, &format!("adamw-{setting}"), *seed) - late(&runs, &format!("full-{setting}"), *seed)
            })
            .sum::<f64>()
            / 3.0
    };
    let held = |setting: &str| apart(setting).abs() <= 0.3;
    let all = [("mnist", "MNIST"), ("fashion", "Fashion-MNIST"), ("tenth", "Fashion-MNIST, 10 %")];
    let names = |want: bool| -> Vec<String> {
        let of = all.iter().filter(|(key, _)| held(key) == want);
        of.map(|(key, title)| format!("{title} ({})", format!("{:+.2}", apart(key)).replace('-', "−"))).collect()
    };
    let said = match (names(true).join(", "), names(false).join(", ")) {
        (within, beyond) if beyond.is_empty() => format!("on {within}."),
        (within, beyond) if within.is_empty() => format!("on none, {beyond}."),
        (within, beyond) => format!("on {within}; not on {beyond}."),
    };
    let said = format!("Expected: AdamW within 0.3 points of full rule. It is so {said}");
    assert!(caption.contains(&said), "{said}\n{caption}");
    assert!(caption.contains("MNIST: ") && caption.contains("| hybrid on AdamW |"), "{caption}");
}

#[test]
fn figure_12_holds_every_part_against_the_rule_and_against_a_coefficient_of_one() {
    let runs = made_up("fig12-components").unwrap();
    for (start, other) in [
        ("C,Fashion-MNIST,no-activity − full,", "full-fashion"),
        ("D,Fashion-MNIST,no-activity − coefficient-one,", "coefficient-one-fashion"),
    ] {
        let start = format!("{start}test-accuracy-last-5_difference_points,row,1,41,");
        let difference = late(&runs, "no-activity-fashion", 41) - late(&runs, other, 41);
        assert!((plotted("fig12", &start) - difference).abs() < 1e-9);
    }
}

#[test]
fn figure_13_tests_the_interaction_where_no_run_diverged() {
    let mut runs = made_up("fig13-rate-and-rule").unwrap();
    let at = |runs: &Runs, share: f64, rate: f64| {
        let part = runs.at_fraction(share).unwrap().where_axis("optimizer.lr", &rate.into()).unwrap();
        let all = SEEDS.iter().map(|seed| late(&part, "full", *seed) - late(&part, "sgd", *seed));
        all.sum::<f64>() / SEEDS.len() as f64
    };
    let row = |change: f64, rates: &str, caption: &str| {
        let line = caption.lines().find(|line| line.starts_with("| 10 % | SGD |")).unwrap().to_owned();
        let cells: Vec<&str> = line.split(" | ").collect();
        assert_eq!(cells[2], rates);
        assert_eq!(cells[5].replace('−', "-").parse::<f64>().unwrap(), (100.0 * change).round() / 100.0, "{line}");
    };
    let [low, middle, high] = RATES;
    row(at(&runs, 0.1, high) - at(&runs, 0.1, low), "0.03 to 0.3", &figure("fig13").caption);
    let change = at(&runs, 0.1, middle) - at(&runs, 0.1, low);
    let is_high = |run: &np_record::PlannedRun| run.axes["optimizer.lr"] == high && run.arm == "sgd" && run.seed == 42;
    for (_, record) in runs.runs.iter_mut().filter(|(run, _)| is_high(run)) {
        record.outcome = Outcome::Diverged { epoch: 4, step: 50 };
        record.epochs.truncate(3);
    }
    let drawn = crate::figures::rates::draw(Scale::Quick, &runs).unwrap();
    row(change, "0.03 to 0.1", &drawn.caption);
}

#[test]
fn a_figure_without_records_is_left_out_until_it_has_been_drawn() {
    let dir = tempfile::tempdir().unwrap();
    write_spec(dir.path(), "fig13-rate-and-rule", "name: fig13-rate-and-rule\n");
    let folder = dir.path().join("figures");
    let options =
        Options { scale: Scale::Cpu, only: vec![Number::RateAndRule], no_train: true, out: Some(folder.clone()) };
    run(&options, dir.path()).unwrap();
    assert!(!folder.exists());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("fig13.md"), "**Figure 13.**\n").unwrap();
    let error = run(&options, dir.path()).unwrap_err().to_string();
    assert_eq!(error, "not drawn, for the reasons above: figure 13");
}

#[test]
fn what_can_be_drawn_at_once_is_drawn_first_and_what_comes_next_is_said() {
    let all = vec![Number::Method, Number::Sanity, Number::LowData, Number::Transfer, Number::Cost];
    let here = [Number::Method, Number::LowData, Number::Cost];
    let (order, from) = ready_first(all, |number| here.contains(number));
    assert_eq!(order, [Number::Method, Number::LowData, Number::Cost, Number::Sanity, Number::Transfer]);
    assert_eq!(next(&order[from..]), "figure 2 next, from fig2-sanity; then figure 5");
    assert_eq!(next(&order[from + 1..]), "figure 5 next, from fig5-transfer");
}
