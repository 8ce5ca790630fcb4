//! Which configurations of an arm go on: those with the best mean over the rung's seeds, each compared in pairs with the best of them.
//!
//! All configurations of a rung are trained from the same seeds: the same initialisation, order and held-out images. So they are compared by the differences
//! dₛ = bestₛ − ownₛ, seed by seed, which vary less than the accuracies do. A configuration is dropped by the rank of the mean of these over all of the rung's seeds,
//! and never on one of them. How many are dropped is fixed beforehand, so that every arm has the same budget; whether a dropped one could be told
//! apart from the best is counted and reported.

use std::collections::BTreeMap;

use np_record::stats::{Bootstrap, Interval, mean, paired_differences, sample_std};

/// A configuration and what its runs reached at a rung.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tried {
    /// Its number in the arm.
    pub(crate) configuration: usize,
    /// Accuracy on the held-out images, by seed; none of a run that diverged.
    pub(crate) scores: BTreeMap<u64, Option<f64>>,
}

/// A configuration in its place among those of a rung.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ranked {
    /// Its number in the arm.
    pub(crate) configuration: usize,
    /// Mean accuracy over the seeds; a run that diverged counts as 0.
    pub(crate) mean: f64,
    /// Sample standard deviation over the seeds.
    pub(crate) std: Option<f64>,
    /// The interval of the mean over the seeds.
    pub(crate) interval: Option<Interval>,
    /// Runs that diverged.
    pub(crate) diverged: usize,
    /// Mean of the paired differences: by how much the rung's best is better.
    pub(crate) behind: f64,
    /// The interval of that.
    pub(crate) behind_interval: Option<Interval>,
}

impl Ranked {
    /// Whether the rung's best is better by more than the seeds explain: the interval of the paired difference lies above 0.
    pub(crate) fn is_told_apart(&self) -> bool {
        self.behind_interval.is_some_and(|interval| interval.low > 0.0)
    }
}

/// Why nothing is ranked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    /// There are fewer than two seeds.
    #[error("expected at least 2 seeds a configuration, got fewer")]
    OneSeed,
    /// A configuration lacks runs of seeds that another has.
    #[error("configuration {configuration} has not the seeds of the others")]
    OtherSeeds {
        /// Its number.
        configuration: usize,
    },
}

/// The configurations of a rung, the best first; of equals the one that was drawn first.
///
/// # Errors
/// [`Unfit`] unless all have the same seeds, two or more.
pub(crate) fn rank(tried: &[Tried]) -> Result<Vec<Ranked>, Unfit> {
    let Some(first) = tried.first() else { return Ok(Vec::new()) };
    if first.scores.len() < 2 {
        return Err(Unfit::OneSeed);
    }
    if let Some(other) = tried.iter().find(|one| !one.scores.keys().eq(first.scores.keys())) {
        return Err(Unfit::OtherSeeds { configuration: other.configuration });
    }
    let counted = |one: &Tried| -> BTreeMap<u64, f64> {
        one.scores.iter().map(|(seed, score)| (*seed, score.unwrap_or(0.0))).collect()
    };
    let values = |scores: &BTreeMap<u64, f64>| scores.values().copied().collect::<Vec<f64>>();
    let mut all: Vec<(&Tried, BTreeMap<u64, f64>, f64)> = tried
        .iter()
        .map(|one| {
            let scores = counted(one);
            let mean = mean(&values(&scores)).unwrap_or(0.0);
            (one, scores, mean)
        })
        .collect();
    all.sort_by(|(a, _, x), (b, _, y)| y.total_cmp(x).then(a.configuration.cmp(&b.configuration)));
    let best = all[0].1.clone();
    let resample = Bootstrap::default();
    let ranked = all.into_iter().map(|(one, scores, reached)| {
        let differences: Vec<f64> = paired_differences(&best, &scores).into_iter().map(|(_, d)| d).collect();
        Ranked {
            configuration: one.configuration,
            mean: reached,
            std: sample_std(&values(&scores)),
            interval: resample.interval_of_mean(&values(&scores)),
            diverged: one.scores.values().filter(|score| score.is_none()).count(),
            behind: mean(&differences).unwrap_or(0.0),
            behind_interval: resample.interval_of_mean(&differences),
        }
    });
    Ok(ranked.collect())
}

/// The numbers of those that go on, in the order that they were drawn in.
pub(crate) fn kept(ranked: &[Ranked], count: usize) -> Vec<usize> {
    let mut kept: Vec<usize> = ranked.iter().take(count).map(|one| one.configuration).collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(configuration: usize, scores: &[Option<f64>]) -> Tried {
        Tried { configuration, scores: scores.iter().enumerate().map(|(i, score)| (41 + i as u64, *score)).collect() }
    }

    #[test]
    fn the_mean_over_all_seeds_decides_and_not_one_of_them() {
        // The first is far ahead on one seed and behind on two: means 0.70, 0.72, 0.71.
        let rung = [
            tried(0, &[Some(0.90), Some(0.60), Some(0.60)]),
            tried(1, &[Some(0.72), Some(0.72), Some(0.72)]),
            tried(2, &[Some(0.71), Some(0.72), Some(0.70)]),
        ];
        let ranked = rank(&rung).unwrap();
        assert_eq!(ranked.iter().map(|one| one.configuration).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!((kept(&ranked, 2), kept(&ranked, 9)), (vec![1, 2], vec![0, 1, 2]));
        // Of three values the interval is their range. Differences of 2: 0.01, 0, 0.02; of 0: −0.18, 0.12, 0.12.
        let interval = ranked[1].behind_interval.unwrap();
        assert!((ranked[1].behind - 0.01).abs() < 1e-12 && interval.low.abs() < 1e-12);
        assert!(!ranked[1].is_told_apart() && !ranked[2].is_told_apart(), "dropped, and not told apart");
        assert!((ranked[2].behind - 0.02).abs() < 1e-12);
        assert_eq!((ranked[0].behind, ranked[0].is_told_apart()), (0.0, false));
    }

    #[test]
    fn differences_are_paired() {
        // Both vary by 0.2 from seed to seed, and one is better by 0.01 on each.
        let rung = [tried(3, &[Some(0.5), Some(0.7)]), tried(7, &[Some(0.51), Some(0.71)])];
        let ranked = rank(&rung).unwrap();
        assert_eq!(ranked[0].configuration, 7);
        assert!((ranked[1].behind - 0.01).abs() < 1e-12 && ranked[1].is_told_apart());
    }

    #[test]
    fn a_run_that_diverged_counts_and_equals_stay_in_order() {
        let rung = [
            tried(0, &[Some(0.9), None]),
            tried(1, &[Some(0.5), Some(0.5)]),
            tried(2, &[Some(0.4), Some(0.6)]),
            tried(3, &[None, None]),
        ];
        let ranked = rank(&rung).unwrap();
        // Means 0.45, 0.5, 0.5, 0.
        assert_eq!(ranked.iter().map(|one| one.configuration).collect::<Vec<_>>(), [1, 2, 0, 3]);
        assert_eq!(ranked.iter().map(|one| one.diverged).collect::<Vec<_>>(), [0, 0, 1, 2]);
    }

    #[test]
    fn one_seed_or_another_ranks_nothing() {
        assert_eq!(rank(&[tried(0, &[Some(0.9)]), tried(1, &[Some(0.1)])]), Err(Unfit::OneSeed));
        let lacking = [tried(0, &[Some(0.9), Some(0.9)]), tried(4, &[Some(0.1)])];
        assert_eq!(rank(&lacking), Err(Unfit::OtherSeeds { configuration: 4 }));
        assert_eq!(rank(&[]), Ok(vec![]));
    }
}
