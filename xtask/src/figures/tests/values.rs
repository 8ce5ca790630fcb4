//! What is plotted, by hand from the records.

use super::{EPOCHS, figure, made_up};
use crate::figures::evidence::{EXPERIMENTS, Evidence, Sources};
use crate::figures::runs::Quantity;

/// The number in the column `name` of the first row of a figure's table that begins so.
fn plotted(name: &str, start: &str, column: &str) -> f64 {
    let table = &figure(name).table;
    let at = table.lines().next().unwrap().split(',').position(|known| known == column).unwrap();
    let row = table.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{start}\n{table}"));
    row.split(',').nth(at).unwrap().parse().unwrap()
}

#[test]
fn figure_2_pairs_by_seed() {
    let runs = made_up("fig2-sanity").unwrap().on("fashion-mnist").unwrap();
    let of = |arm: &str| runs.last(arm, Quantity::TestAccuracy).unwrap()[&42];
    let start = "C,fashion-mnist,full − gradient-only-matched,final-test-accuracy_difference_points,row,5,42,";
    assert!((plotted("fig2", start, "value") - (of("full") - of("gradient-only-matched"))).abs() < 1e-9);
}

#[test]
fn figure_6_has_the_norms_of_a_step() {
    let runs = made_up("fig6-dynamics").unwrap().on("fashion-mnist").unwrap();
    let records = runs.arm("full").unwrap();
    let norms = records.values().map(|record| record.epochs[4].diagnostics["effective_update_norm"]);
    let mean = norms.sum::<f64>() / records.len() as f64;
    // The made-up epochs have 16 steps each, whose root is 4.
    let start = "B,fashion-mnist,full,effective_update_norm_of_a_step,epoch,5,";
    assert!((plotted("fig6", start, "value") - mean / 4.0).abs() < 1e-9);
}

#[test]
fn figure_7_has_the_mean_of_the_last_five_epochs() {
    let runs = made_up("fig7-design-space").unwrap();
    let records = runs.arm("bounded").unwrap();
    let late =
        |epochs: &[np_record::Epoch]| epochs.iter().map(|epoch| 20.0 * epoch.test_accuracy.unwrap()).sum::<f64>();
    let start = "A,cifar10,bounded,test-accuracy-last-5_percent,row,1,42,";
    assert!((plotted("fig7", start, "value") - late(&records[&42].epochs[EPOCHS - 5..])).abs() < 1e-9);
}

#[test]
fn figure_9_marks_where_a_rate_is_not_the_published_one() {
    let mut runs: Vec<_> = EXPERIMENTS.iter().map(|name| made_up(name).unwrap()).collect();
    let moved = |runs: &[_]| Evidence::gather(&Sources::of(&runs.iter().collect::<Vec<_>>()).unwrap()).unwrap().moved;
    assert!(moved(&runs).is_empty());
    let best = &mut runs[5];
    assert_eq!(best.plan.experiment, "fig9-best-rate");
    for (_, record) in best.runs.iter_mut().filter(|(run, record)| run.arm == "full" && record.data.name == "mnist") {
        record.epochs.iter_mut().for_each(|epoch| epoch.lr = 0.3);
    }
    assert_eq!(moved(&runs), ["MNIST"]);
}
