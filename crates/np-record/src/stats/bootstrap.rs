//! Bootstrap intervals.

use super::{SplitMix64, count, mean};

/// An interval, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Settings of the percentile bootstrap, of the mean or of another statistic.
///
/// B samples of size n are drawn with replacement from the n values. The interval reaches from the (1 − c)/2 to the (1 + c)/2
/// quantile of their means, with linear interpolation between order statistics (`numpy.quantile`'s default). It assumes no
/// normal distribution, but it is too short for few values: for n = 3 and c = 0.95 it is the range from the smallest to the largest value.
///
/// Efron, B. (1979). Bootstrap methods: another look at the jackknife. Annals of Statistics 7, 1–26.
///
/// ```
/// use np_record::stats::Bootstrap;
///
/// let interval = Bootstrap::default().interval_of_mean(&[1.0, 2.0, 4.0]).unwrap();
/// assert_eq!((interval.low, interval.high), (1.0, 4.0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Bootstrap {
    /// Number of resamples B. Default 10,000: the ends are then off by less than 1 % of the interval's width.
    pub resamples: usize,
    /// Confidence c, between 0 and 1. Default 0.95.
    pub confidence: f64,
    /// Seed of the resampling. Default 0; the same values and seed give the same interval.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, confidence: 0.95, seed: 0 }
    }
}

impl Bootstrap {
    /// The interval of the mean of `values`; `None` for fewer than two values, for values that are not finite, without resamples,
    /// or with a confidence outside 0 to 1.
    #[must_use]
    pub fn interval_of_mean(&self, values: &[f64]) -> Option<Interval> {
        if values.len() < 2 {
            return None;
        }
        self.interval_of(&[values], |drawn| mean(drawn[0].as_slice()))
    }

    /// The interval of a statistic of several strata (tasks, samples). Each stratum is resampled separately, to its own size. `None` if there are no
    /// values, if one is not finite, or if the statistic of a resample is not finite.
    ///
    /// ```
    /// use np_record::stats::{Bootstrap, interquartile_mean};
    ///
    /// let tasks: [&[f64]; 2] = [&[0.97, 0.98, 0.97], &[0.87, 0.88, 0.87]];
    /// let pooled = |drawn: &[Vec<f64>]| interquartile_mean(&drawn.concat());
    /// assert!(Bootstrap::default().interval_of(&tasks, pooled).unwrap().low > 0.87);
    /// ```
    #[must_use]
    pub fn interval_of(&self, strata: &[&[f64]], statistic: impl Fn(&[Vec<f64>]) -> Option<f64>) -> Option<Interval> {
        let sound = self.resamples > 0 && (0.0..=1.0).contains(&self.confidence);
        let mut values = strata.iter().copied().flatten().peekable();
        if !sound || values.peek().is_none() || !values.all(|v| v.is_finite()) {
            return None;
        }
        let mut drawn: Vec<Vec<f64>> = strata.iter().map(|stratum| stratum.to_vec()).collect();
        // Resampling constants would give their statistic up to rounding, which must not look like a spread.
        if strata.iter().all(|stratum| stratum.iter().all(|v| *v == stratum[0])) {
            return statistic(&drawn).map(|at| Interval { low: at, high: at });
        }
        let mut random = SplitMix64(self.seed);
        let mut found = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            for (drawn, stratum) in drawn.iter_mut().zip(strata) {
                drawn.iter_mut().for_each(|value| *value = stratum[random.below(stratum.len())]);
            }
            found.push(statistic(&drawn).filter(|at| at.is_finite())?);
        }
        found.sort_by(f64::total_cmp);
        let tail = (1.0 - self.confidence) / 2.0;
        Some(Interval { low: quantile(&found, tail), high: quantile(&found, 1.0 - tail) })
    }

    /// Whether n values are too few for the interval to have its nominal confidence, because resamples vary less than new samples would. That is for n < 6,
    /// where an exact test cannot reach 5 % either (see [`smallest_p`](crate::stats::smallest_p)).
    #[must_use]
    pub fn is_rough(n: usize) -> bool {
        n < 6
    }

    /// Whether n values are so few that the interval is their range: the probability 1 / nⁿ of a resample with only the smallest value
    /// is then at least that of the tail, (1 − c)/2.
    #[must_use]
    pub fn is_range(&self, n: usize) -> bool {
        let power = i32::try_from(n).unwrap_or(i32::MAX);
        count(n).powi(-power) >= (1.0 - self.confidence) / 2.0
    }
}

/// Quantile `q` of sorted, non-empty values: at position q (n − 1), linear between neighbours.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 ≤ q ≤ 1, so the position is an index")]
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * count(sorted.len() - 1);
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = position - position.floor();
    sorted[below] + share * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::interquartile_mean;

    #[test]
    fn the_ends_are_those_of_all_resamples() {
        // statistics.py: `all 8^8 resamples`, the exact distribution that B draws approximate, and what
        // scipy.stats.bootstrap(method="percentile") gives with a million draws.
        let values = [1.3, -0.4, 2.2, 0.7, 0.1, 3.5, -1.1, 0.9];
        let (low, high) = (0.0, 1.875);
        let fine = Bootstrap { resamples: 200_000, ..Bootstrap::default() };
        for (bootstrap, tolerance) in [(Bootstrap::default(), 0.04), (fine, 0.013)] {
            // The standard error of a 2.5 % quantile of B draws is √(0.025·0.975/B)/density: 0.014 and 0.003 here. Three of them, or
            // one step of the grid of 0.0125 that the resampled means lie on.
            let interval = bootstrap.interval_of_mean(&values).unwrap();
            assert!((interval.low - low).abs() < tolerance, "{interval:?}");
            assert!((interval.high - high).abs() < tolerance, "{interval:?}");
        }
    }

    #[test]
    fn three_values_give_their_range() {
        // Of the 27 equally likely resamples one (3.7 %) is all-smallest and one all-largest, more than 2.5 % each.
        let interval = Bootstrap::default().interval_of_mean(&[0.3, 0.1, 0.2]).unwrap();
        assert!((interval.low - 0.1).abs() < 1e-15 && (interval.high - 0.3).abs() < 1e-15);
        assert_eq!([2, 3, 4, 10].map(|n| Bootstrap::default().is_range(n)), [true, true, false, false]);
        assert_eq!([3, 5, 6, 10].map(Bootstrap::is_rough), [true, true, false, false]);
    }

    #[test]
    fn odd_input_has_no_interval() {
        let bootstrap = Bootstrap::default();
        assert_eq!(bootstrap.interval_of_mean(&[]), None);
        assert_eq!(bootstrap.interval_of_mean(&[1.0]), None);
        assert_eq!(bootstrap.interval_of_mean(&[1.0, f64::NAN]), None);
        assert_eq!(Bootstrap { resamples: 0, ..bootstrap }.interval_of_mean(&[1.0, 2.0]), None);
        assert_eq!(Bootstrap { confidence: 2.0, ..bootstrap }.interval_of_mean(&[1.0, 2.0]), None);
        let constant = bootstrap.interval_of_mean(&[0.1; 7]).unwrap();
        assert_eq!(constant.low, constant.high);
    }

    #[test]
    fn strata_are_resampled_by_themselves() {
        // statistics.py: `strata`, the exact distribution over all 3³·3³ resamples of both
        let (a, b) = ([0.97, 0.975, 0.99], [0.86, 0.88, 0.87]);
        let pooled = |drawn: &[Vec<f64>]| interquartile_mean(&drawn.concat());
        let interval = Bootstrap::default().interval_of(&[&a, &b], pooled).unwrap();
        // The statistic lies on a grid of 729 equally likely points; between its neighbours near the ends are 0.00125.
        assert!((interval.low - 0.9175).abs() < 0.0013 && (interval.high - 0.931_25).abs() < 0.0013, "{interval:?}");
        let pooled_at_random = Bootstrap::default().interval_of(&[&[a, b].concat()], pooled).unwrap();
        assert!(pooled_at_random.high - pooled_at_random.low > 0.07, "{pooled_at_random:?}");

        let constant = Bootstrap::default().interval_of(&[&[0.1; 3], &[0.7]], pooled).unwrap();
        assert_eq!(constant.low, constant.high);
        assert_eq!(Bootstrap::default().interval_of(&[&[], &[]], pooled), None);
        assert_eq!(Bootstrap::default().interval_of(&[&[1.0, 2.0]], |_| None), None);
        assert!(Bootstrap::default().interval_of(&[&[], &a], pooled).is_some(), "a task without runs weighs nothing");
    }

    #[test]
    fn seeded() {
        let values = [1.3, -0.4, 2.2, 0.7, 0.1];
        let a = Bootstrap::default().interval_of_mean(&values);
        assert_eq!(a, Bootstrap::default().interval_of_mean(&values));
    }
}
