//! Random subsets and orders of examples.
//!
//! There is no generator state to save: every result is a function of the arguments, the seed and the epoch. Each purpose (subset, holdout,
//! order, …) draws from a ChaCha8 stream of its own, so that draws for one do not affect another. Bounded integers are drawn by code of
//! this crate, because those of `rand` change with one of its Cargo features. The golden orders in `tests/sample.rs` fix all results.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::error::Error;

/// What a random stream is for; the number is part of every recorded result and never changes.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Subset = 1,
    Stratified = 2,
    Holdout = 3,
    EpochOrder = 4,
    Augmentation = 5,
}

/// Training examples with some held out for validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holdout {
    /// Indices of the examples to train on: ascending from [`holdout`], in the order of a permutation from
    /// [`Selection::draw`](crate::Selection::draw).
    pub train: Vec<u32>,
    /// Indices of the examples held out, ascending.
    pub validation: Vec<u32>,
}

/// A random subset of `0..len`: the first round(`fraction`·`len`) entries of a seeded permutation.
///
/// For one seed the subset of a smaller fraction is a prefix of that of a larger one; 1 gives all.
///
/// # Errors
/// [`Error::Fraction`] for a fraction outside of (0, 1], [`Error::EmptySubset`] if the number rounds to 0, [`Error::TooManyExamples`] if
/// `len` exceeds 2³² − 1.
pub fn subset(len: usize, fraction: f64, seed: u64) -> Result<Vec<u32>, Error> {
    check(fraction)?;
    let count = share(fraction, len);
    if count == 0 {
        return Err(Error::EmptySubset { fraction, len });
    }
    let mut order = permutation(len, Purpose::Subset, seed)?;
    order.truncate(count);
    Ok(order)
}

/// A random subset with the same fraction of every class; `labels` are the classes of all examples.
///
/// Of a class of n examples it has round(`fraction`·n), but at least one. The order is that of a seeded permutation of all examples. For
/// one seed, the subset of a smaller fraction is contained in that of a larger one; 1 gives all.
///
/// # Errors
/// [`Error::Fraction`] outside of (0, 1], [`Error::EmptySubset`] if there are no labels, [`Error::TooManyExamples`].
pub fn stratified_subset(labels: &[u8], fraction: f64, seed: u64) -> Result<Vec<u32>, Error> {
    check(fraction)?;
    if labels.is_empty() {
        return Err(Error::EmptySubset { fraction, len: 0 });
    }
    let quota = class_counts(labels).map(|count| share(fraction, count).max(1));
    by_quota(labels, quota, Purpose::Stratified, seed)
}

/// `count` random examples of `0..len`: the first entries of the permutation that [`subset`] uses.
///
/// # Errors
/// [`Error::Count`] outside of 1 to `len`, [`Error::TooManyExamples`].
pub fn subset_of(len: usize, count: usize, seed: u64) -> Result<Vec<u32>, Error> {
    check_count(len, count)?;
    let mut order = permutation(len, Purpose::Subset, seed)?;
    order.truncate(count);
    Ok(order)
}

/// `count` random examples with every class in proportion, as nearly as whole numbers can be; `labels` are the classes of all examples.
///
/// The numbers of each class are allotted by the Sainte-Laguë method. They never decrease as `count` grows, so that for one seed the result for a
/// smaller number is contained in that for a larger one. The order is that of the permutation that [`stratified_subset`] uses.
///
/// # Errors
/// [`Error::Count`] outside of 1 to the number of labels, [`Error::TooManyExamples`].
pub fn stratified_subset_of(labels: &[u8], count: usize, seed: u64) -> Result<Vec<u32>, Error> {
    check_count(labels.len(), count)?;
    by_quota(labels, sainte_lague(&class_counts(labels), count), Purpose::Stratified, seed)
}

/// `per_class` random examples of every class that occurs in `labels`, in the order of a seeded permutation of all examples.
///
/// For one seed, the result for a smaller number per class is contained in that for a larger one.
///
/// # Errors
/// [`Error::ClassTooSmall`] if a class has fewer, [`Error::TooManyExamples`].
pub fn balanced_subset(labels: &[u8], per_class: usize, seed: u64) -> Result<Vec<u32>, Error> {
    for (class, found) in (0..=u8::MAX).zip(class_counts(labels)) {
        if (1..per_class).contains(&found) {
            return Err(Error::ClassTooSmall { class, expected: per_class, found });
        }
    }
    by_quota(labels, [per_class; 256], Purpose::Stratified, seed)
}

/// Holds out round(`fraction`·n) of the n examples of every class for validation.
///
/// # Errors
/// [`Error::Fraction`] for a fraction outside of (0, 1), [`Error::EmptySubset`] if no example or every example would be held out,
/// [`Error::TooManyExamples`].
pub fn holdout(labels: &[u8], fraction: f64, seed: u64) -> Result<Holdout, Error> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::Fraction { expected: "more than 0 and less than 1", found: fraction });
    }
    let quota = class_counts(labels).map(|count| share(fraction, count));
    let mut validation = by_quota(labels, quota, Purpose::Holdout, seed)?;
    if validation.is_empty() || validation.len() == labels.len() {
        return Err(Error::EmptySubset { fraction, len: labels.len() });
    }
    validation.sort_unstable();
    let all = 0..count_to_u32(labels.len())?;
    let train = all.filter(|index| validation.binary_search(index).is_err()).collect();
    Ok(Holdout { train, validation })
}

/// The order in which an epoch visits the examples `indices`: a Fisher–Yates shuffle that depends only on the seed, the epoch and the order of
/// `indices`.
pub fn epoch_order(indices: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = indices.to_vec();
    shuffle(&mut order, &mut stream(seed, Purpose::EpochOrder, epoch));
    order
}

fn check(fraction: f64) -> Result<(), Error> {
    if fraction > 0.0 && fraction <= 1.0 {
        Ok(())
    } else {
        Err(Error::Fraction { expected: "more than 0 and at most 1", found: fraction })
    }
}

fn check_count(len: usize, count: usize) -> Result<(), Error> {
    if (1..=len).contains(&count) { Ok(()) } else { Err(Error::Count { expected: len, found: count }) }
}

/// Shares out `seats` among classes of these sizes: each goes to the class with the largest size/(2·seats + 1), the first of those
/// that are equal, until every class has all of its examples.
fn sainte_lague(sizes: &[usize; 256], seats: usize) -> [usize; 256] {
    let classes: Vec<usize> = (0..256).filter(|&class| sizes[class] > 0).collect();
    let mut quota = [0; 256];
    for _ in 0..seats {
        let open = classes.iter().copied().filter(|&class| quota[class] < sizes[class]);
        // size_a/(2q_a + 1) against size_b/(2q_b + 1), in whole numbers
        let side = |a: usize, b: usize| sizes[a] as u128 * (2 * quota[b] as u128 + 1);
        match open.reduce(|best, class| if side(class, best) > side(best, class) { class } else { best }) {
            Some(next) => quota[next] += 1,
            None => break,
        }
    }
    quota
}

/// round(`fraction`·`count`), half away from zero.
fn share(fraction: f64, count: usize) -> usize {
    (fraction * count as f64).round() as usize
}

fn class_counts(labels: &[u8]) -> [usize; 256] {
    let mut counts = [0; 256];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    counts
}

fn count_to_u32(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::TooManyExamples { found: len })
}

fn permutation(len: usize, purpose: Purpose, seed: u64) -> Result<Vec<u32>, Error> {
    let mut order: Vec<u32> = (0..count_to_u32(len)?).collect();
    shuffle(&mut order, &mut stream(seed, purpose, 0));
    Ok(order)
}

/// Walks one permutation of all examples and takes each whose class has some of its quota left.
fn by_quota(labels: &[u8], mut quota: [usize; 256], purpose: Purpose, seed: u64) -> Result<Vec<u32>, Error> {
    let mut order = permutation(labels.len(), purpose, seed)?;
    order.retain(|&index| {
        let left = &mut quota[usize::from(labels[index as usize])];
        let take = *left > 0;
        *left = left.saturating_sub(1);
        take
    });
    Ok(order)
}

pub(crate) fn stream(seed: u64, purpose: Purpose, epoch: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 32 | u64::from(epoch));
    rng
}

/// Fisher and Yates, from the end: every order is equally likely.
fn shuffle(values: &mut [u32], rng: &mut ChaCha8Rng) {
    for last in (1..values.len()).rev() {
        let bound = last as u32 + 1; // an index has 32 bits: a list of them isn't longer than that
        values.swap(last, below(rng, bound) as usize);
    }
}

/// A uniform integer in `0..bound`, for a bound above 0, without bias (Lemire 2019, "Fast random integer generation in an
/// interval").
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u32) -> u32 {
    let mut draw = || u64::from(rng.next_u32()) * u64::from(bound);
    let mut product = draw();
    if (product as u32) < bound {
        let threshold = bound.wrapping_neg() % bound;
        while (product as u32) < threshold {
            product = draw();
        }
    }
    (product >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_integers_are_uniform() {
        // χ² with 6 degrees of freedom stays below 22.5 with probability 0.999; the seed is fixed, so this never flickers.
        let mut rng = stream(1, Purpose::Subset, 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[below(&mut rng, 7) as usize] += 1;
        }
        let chi2: f64 = counts.iter().map(|&n| (f64::from(n) - 10_000.0).powi(2) / 10_000.0).sum();
        assert!(chi2 < 22.5, "{counts:?}");
    }

    #[test]
    fn large_bounds_reject_what_would_bias_them() {
        let mut rng = stream(1, Purpose::Subset, 0);
        let bound = (1 << 31) + 1; // the worst case: almost half of all draws are rejected
        let mean = (0..10_000).map(|_| f64::from(below(&mut rng, bound))).sum::<f64>() / 10_000.0;
        // the mean of 10,000 uniform draws deviates by 0.29 % (1 σ) of the half-width
        assert!((mean / f64::from(bound) - 0.5).abs() < 0.01, "{mean}");
    }

    #[test]
    fn purposes_have_their_own_streams() {
        let draw = |purpose, epoch| stream(41, purpose, epoch).next_u64();
        let all = [
            draw(Purpose::Subset, 0),
            draw(Purpose::Stratified, 0),
            draw(Purpose::Holdout, 0),
            draw(Purpose::EpochOrder, 0),
            draw(Purpose::Augmentation, 0),
            draw(Purpose::EpochOrder, 1),
            draw(Purpose::EpochOrder, u32::MAX),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
