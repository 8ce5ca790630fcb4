//! Subsets nest, orders are permutations, and neither ever changes: records of years ago must stay reproducible.

use std::collections::BTreeSet;

use np_data::{
    DataName, DataSet, Error, Holdout, Source, balanced_subset, epoch_order, holdout, stratified_subset, subset,
};

fn set(indices: &[u32]) -> BTreeSet<u32> {
    indices.iter().copied().collect()
}

/// 300 labels of three classes of 150, 100 and 50 examples.
fn labels() -> Vec<u8> {
    [[0, 1, 2], [0, 1, 0]].concat().repeat(50)
}

fn count(labels: &[u8], indices: &[u32], class: u8) -> usize {
    indices.iter().filter(|&&i| labels[i as usize] == class).count()
}

/// The values come from `golden_orders.py` beside this file. If an upgrade of a dependency changes them, it has changed every
/// run: leave the numbers, hold the dependency back.
#[test]
fn golden_orders() {
    assert_eq!(
        subset(60_000, 1.0, 41).unwrap()[..10],
        [59014, 41974, 11937, 23411, 41859, 34881, 1433, 55020, 57536, 37051]
    );
    assert_eq!(
        subset(60_000, 1.0, 42).unwrap()[..10],
        [12704, 51698, 466, 43130, 15384, 45884, 6635, 26323, 8323, 20465]
    );
    let all: Vec<u32> = (0..60_000).collect();
    assert_eq!(epoch_order(&all, 41, 0)[..10], [55544, 10340, 12423, 53684, 7332, 47195, 27498, 7162, 16606, 27635]);
    assert_eq!(epoch_order(&all, 41, 1)[..10], [21167, 38167, 56208, 10962, 49820, 9238, 5985, 43298, 27228, 1482]);
    assert_eq!(stratified_subset(&labels(), 0.5, 41).unwrap()[..10], [200, 235, 243, 249, 55, 119, 72, 93, 221, 230]);
    assert_eq!(holdout(&labels(), 0.1, 41).unwrap().validation[..10], [17, 20, 27, 44, 53, 77, 96, 105, 109, 120]);
}

#[test]
fn subsets_are_nested_across_fractions() {
    let fractions = [0.1, 0.25, 0.5, 1.0];
    let labels = labels();
    for seed in [41, 42, 43] {
        let plain = fractions.map(|fraction| subset(60_000, fraction, seed).unwrap());
        assert_eq!(plain.each_ref().map(Vec::len), [6_000, 15_000, 30_000, 60_000]);
        let strata = fractions.map(|fraction| stratified_subset(&labels, fraction, seed).unwrap());
        assert_eq!(strata.each_ref().map(Vec::len), [30, 76, 150, 300]); // 37.5 and 12.5 round up, 25 stays
        for (small, large) in plain.iter().zip(&plain[1..]) {
            assert_eq!(*small, large[..small.len()]);
        }
        for (small, large) in strata.iter().zip(&strata[1..]) {
            assert!(set(small).is_subset(&set(large)));
        }
        assert_eq!(set(&plain[3]), (0..60_000).collect());
        assert_eq!(set(&strata[3]), (0..300).collect());
        assert_eq!([0, 1, 2].map(|class| count(&labels, &strata[2], class)), [75, 50, 25]);
    }
    assert_ne!(subset(60_000, 0.1, 41).unwrap(), subset(60_000, 0.1, 42).unwrap());
}

#[test]
fn no_class_is_lost_to_rounding() {
    let labels = labels();
    let drawn = stratified_subset(&labels, 0.001, 41).unwrap();
    assert_eq!([0, 1, 2].map(|class| count(&labels, &drawn, class)), [1, 1, 1]);
}

#[test]
fn balanced_subsets_have_as_many_of_every_class() {
    let labels = labels();
    let drawn = balanced_subset(&labels, 20, 41).unwrap();
    assert_eq!([0, 1, 2].map(|class| count(&labels, &drawn, class)), [20, 20, 20]);
    assert_eq!(set(&drawn).len(), 60);
    assert!(set(&balanced_subset(&labels, 10, 41).unwrap()).is_subset(&set(&drawn)));
    let error = balanced_subset(&labels, 51, 41).unwrap_err().to_string();
    assert_eq!(error, "class 2: expected at least 51 examples, found 50");
}

#[test]
fn a_holdout_splits_everything_in_two() {
    let labels = labels();
    let Holdout { train, validation } = holdout(&labels, 0.1, 41).unwrap();
    assert_eq!((train.len(), validation.len()), (270, 30));
    assert_eq!([0, 1, 2].map(|class| count(&labels, &validation, class)), [15, 10, 5]);
    assert_eq!(&set(&train) | &set(&validation), (0..300).collect());
    assert!(train.is_sorted() && validation.is_sorted());
}

#[test]
fn epochs_are_shuffled_anew_and_reproducibly() {
    let data = DataSet::load(DataName::Mnist, Source::Mini, None).unwrap();
    let examples = subset(data.train.len(), 0.25, 41).unwrap();
    let orders: Vec<Vec<u32>> = (0..5).map(|epoch| epoch_order(&examples, 41, epoch)).collect();
    for (epoch, order) in (0..).zip(&orders) {
        assert_eq!(set(order), set(&examples));
        assert_eq!(order.len(), examples.len());
        assert_eq!(*order, epoch_order(&examples, 41, epoch)); // nothing to restore: epoch 3 needs no epoch 2
        assert_ne!(*order, epoch_order(&examples, 42, epoch));
    }
    assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), 5);
    assert!(epoch_order(&[], 41, 0).is_empty());
    assert_eq!(epoch_order(&[7], 41, 0), [7]);
}

#[test]
fn fractions_out_of_range_are_refused() {
    for fraction in [0.0, -0.1, 1.000_001, f64::NAN, f64::INFINITY] {
        assert!(matches!(subset(10, fraction, 1), Err(Error::Fraction { .. })), "{fraction}");
        assert!(matches!(stratified_subset(&[0; 10], fraction, 1), Err(Error::Fraction { .. })), "{fraction}");
        assert!(matches!(holdout(&[0; 10], fraction, 1), Err(Error::Fraction { .. })), "{fraction}");
    }
    assert!(matches!(holdout(&[0; 10], 1.0, 1), Err(Error::Fraction { .. })));
    let error = subset(10, 2.0, 1).unwrap_err().to_string();
    assert_eq!(error, "fraction: expected more than 0 and at most 1, found `2`");
    let error = subset(10, 0.01, 1).unwrap_err().to_string();
    assert_eq!(error, "fraction: expected at least 1 example, found 0 (`0.01` of 10)");
    assert!(matches!(subset(0, 1.0, 1), Err(Error::EmptySubset { .. })));
    assert!(matches!(stratified_subset(&[], 1.0, 1), Err(Error::EmptySubset { .. })));
    for fraction in [0.01, 0.99] {
        assert!(matches!(holdout(&[0; 10], fraction, 1), Err(Error::EmptySubset { .. })), "{fraction}");
    }
}
