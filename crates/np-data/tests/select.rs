//! Subsets by count and by share, plain and stratified, nested, and beside what is held out for validation.

#![allow(clippy::unwrap_used)] // the helpers, too, are tests

use std::collections::BTreeSet;

use np_data::{Amount, Error, Holdout, Sampling, Selection, stratified_subset_of, subset, subset_of};

const SAMPLINGS: [Sampling; 2] = [Sampling::Plain, Sampling::Stratified];

/// As many labels as CIFAR-10 has, in its balance, shuffled.
fn balanced() -> Vec<u8> {
    (0..50_000_u32).map(|i| (i * 7919 % 50_000 / 5_000) as u8).collect()
}

/// 1,000 labels of four classes of 600, 300, 99 and 1.
fn skewed() -> Vec<u8> {
    (0..1_000_u32)
        .map(|i| i * 7 % 1_000)
        .map(|i| [600, 900, 999, 1_000].iter().filter(|&&end| i >= end).count() as u8)
        .collect()
}

fn set(indices: &[u32]) -> BTreeSet<u32> {
    indices.iter().copied().collect()
}

fn counts(labels: &[u8], indices: &[u32]) -> Vec<usize> {
    let count = |class: u8| indices.iter().filter(|&&i| labels[i as usize] == class).count();
    (0..10).map(count).take_while(|&count| count > 0).collect()
}

#[test]
fn counts_are_exact_and_nested() {
    for labels in [balanced(), skewed()] {
        let n = labels.len();
        for seed in [41, 42] {
            let ladder = [1, 2, 10, n / 5, n / 2, n - 1, n];
            let plain = ladder.map(|count| subset_of(n, count, seed).unwrap());
            let strata = ladder.map(|count| stratified_subset_of(&labels, count, seed).unwrap());
            assert_eq!(plain.each_ref().map(Vec::len), ladder);
            assert_eq!(strata.each_ref().map(Vec::len), ladder);
            for i in 1..ladder.len() {
                assert_eq!(plain[i - 1], plain[i][..ladder[i - 1]]);
                assert!(set(&strata[i - 1]).is_subset(&set(&strata[i])));
            }
            assert_eq!(set(&plain[6]).len(), n);
            assert_eq!(set(&strata[6]).len(), n);
            assert_eq!(plain[3], subset(n, 0.2, seed).unwrap(), "a count is a share by another name");
        }
    }
}

#[test]
fn classes_keep_their_shares() {
    let labels = balanced();
    assert_eq!(counts(&labels, &stratified_subset_of(&labels, 10_000, 41).unwrap()), [1_000; 10]);
    let sizes = counts(&labels, &stratified_subset_of(&labels, 10_007, 41).unwrap());
    assert_eq!(sizes, [1_001, 1_001, 1_001, 1_001, 1_001, 1_001, 1_001, 1_000, 1_000, 1_000]);

    let labels = skewed();
    assert_eq!(counts(&labels, &stratified_subset_of(&labels, 1_000, 41).unwrap()), [600, 300, 99, 1]);
    // 60, 30, 9.9 and 0.1 as whole numbers
    assert_eq!(counts(&labels, &stratified_subset_of(&labels, 100, 41).unwrap()), [60, 30, 10]);
    // the shares of ten seats are 6, 3, 0.99 and 0.01
    assert_eq!(counts(&labels, &stratified_subset_of(&labels, 10, 41).unwrap()), [6, 3, 1]);
}

#[test]
fn what_is_held_out_is_not_trained_on_and_does_not_depend_on_the_amount() {
    for labels in [balanced(), skewed()] {
        for sampling in SAMPLINGS {
            let draw =
                |amount, seed| Selection { amount, sampling, validation: Some(0.1) }.draw(&labels, seed).unwrap();
            let whole = draw(Amount::Fraction(1.0), 41);
            assert_eq!(&set(&whole.train) | &set(&whole.validation), (0..labels.len() as u32).collect());
            let mut before = BTreeSet::new();
            for amount in [Amount::Count(50), Amount::Count(100), Amount::Fraction(0.25), Amount::Fraction(1.0)] {
                let Holdout { train, validation } = draw(amount, 41);
                assert_eq!(validation, whole.validation);
                assert!(set(&train).is_disjoint(&set(&validation)));
                assert!(before.is_subset(&set(&train)), "less is a part of more");
                assert_eq!(set(&train).len(), train.len(), "each once");
                before = set(&train);
            }
            assert_ne!(draw(Amount::Fraction(1.0), 42).validation, whole.validation);
        }
    }
    let labels = balanced();
    let held = Selection { amount: Amount::Count(10_000), sampling: Sampling::Stratified, validation: Some(0.1) };
    let Holdout { train, validation } = held.draw(&labels, 41).unwrap();
    assert_eq!((counts(&labels, &train), counts(&labels, &validation)), (vec![1_000; 10], vec![500; 10]));
}

#[test]
fn without_validation_a_selection_is_the_plain_subset() {
    let all = Selection { amount: Amount::Fraction(0.25), sampling: Sampling::Plain, validation: None };
    let Holdout { train, validation } = all.draw(&balanced(), 41).unwrap();
    assert_eq!((train, validation.len()), (subset(50_000, 0.25, 41).unwrap(), 0));
}

#[test]
fn counts_out_of_range_are_refused() {
    for sampling in SAMPLINGS {
        for count in [0, 1_001, usize::MAX] {
            let selection = Selection { amount: Amount::Count(count), sampling, validation: None };
            let error = selection.draw(&skewed(), 41).unwrap_err();
            assert!(matches!(error, Error::Count { expected: 1_000, found } if found == count), "{error}");
        }
        let held = Selection { amount: Amount::Count(901), sampling, validation: Some(0.1) };
        let error = held.draw(&skewed(), 41).unwrap_err().to_string();
        assert_eq!(error, "count: expected 1 to 900, found `901`");
    }
}
