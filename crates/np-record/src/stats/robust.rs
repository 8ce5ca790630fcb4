//! Statistics that are robust to outliers: the median, the interquartile mean, the probability of improvement.

use super::{count, mean};

/// Interquartile mean: the mean of the values without the ⌊n/4⌋ smallest and the ⌊n/4⌋ largest. `None` if there are no values or one is NaN.
///
/// It is `scipy.stats.trim_mean(x, 0.25)`. For fewer than four values it is the mean. When runs of several tasks are pooled, as Agarwal et al. do,
/// their values must be on one scale.
///
/// Agarwal, R. et al. (2021). Deep reinforcement learning at the edge of the statistical precipice. NeurIPS 34.
///
/// ```
/// use np_record::stats::interquartile_mean;
///
/// assert_eq!(interquartile_mean(&[0.0, 5.0, 7.0, 1000.0]), Some(6.0));
/// ```
#[must_use]
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    if values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    mean(&sorted[cut..sorted.len() - cut])
}

/// Median: the middle value, or the mean of the two middle ones. `None` if there are no values or one is NaN. Infinite values are allowed, for
/// targets that were not reached.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|value| value.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (middle, odd) = (sorted.len() / 2, sorted.len() % 2 == 1);
    let above = sorted[middle];
    // Between a number and infinity there is no middle.
    Some(if odd || above.is_infinite() { above } else { (sorted[middle - 1] + above) / 2.0 })
}

/// P(X > Y) + ½ P(X = Y), over all pairs of a value of the first sample and one of the second. `None` if a sample is empty or contains NaN.
///
/// It is U/(nm) of the Mann–Whitney test; ½ means no difference. For several tasks, take the mean of the tasks' values.
///
/// ```
/// use np_record::stats::probability_above;
///
/// assert_eq!(probability_above(&[3.0, 1.0], &[2.0, 1.0]), Some(0.625));
/// ```
#[must_use]
pub fn probability_above(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.is_empty() || y.is_empty() || x.iter().chain(y).any(|value| value.is_nan()) {
        return None;
    }
    let above = |a: &f64| y.iter().map(|b| if a > b { 1.0 } else { 0.5 * f64::from(u8::from(a == b)) }).sum::<f64>();
    Some(x.iter().map(above).sum::<f64>() / (count(x.len()) * count(y.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: [f64; 8] = [1.3, -0.4, 2.2, 0.7, 0.1, 3.5, -1.1, 0.9];

    #[test]
    fn interquartile_means_are_scipys() {
        // statistics.py: `trim_mean(x, 0.25)` of 8, 7, 5 and 3 values
        let cases = [(8, 0.75), (7, 0.78), (5, 0.7), (3, 1.033_333_333_333_333_4)];
        for (n, want) in cases {
            let got = interquartile_mean(&EIGHT[..n]).unwrap();
            // Sums are taken in another order than numpy's.
            assert!((got - want).abs() < 1e-15, "{n}: {got}");
        }
        assert_eq!(interquartile_mean(&[]), None);
        assert_eq!(interquartile_mean(&[1.0, f64::NAN]), None);
        assert_eq!(interquartile_mean(&[0.0, 1.0, 2.0, f64::INFINITY]), Some(1.5), "an outlier is dropped");
    }

    #[test]
    fn medians() {
        // statistics.py: `median` 0.8 and 0.7
        assert!((median(&EIGHT).unwrap() - 0.8).abs() < 1e-15);
        assert_eq!(median(&EIGHT[..7]), Some(0.7));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[f64::NAN]), None);
        let not = f64::INFINITY;
        assert_eq!(
            [median(&[3.0, not, 1.0]), median(&[3.0, not]), median(&[not, not])],
            [Some(3.0), Some(not), Some(not)]
        );
    }

    #[test]
    fn the_probability_is_mann_whitneys() {
        // statistics.py: `mannwhitneyu(x, y).statistic / (n m)`, with two ties
        let (x, y) = ([0.8740, 0.8779, 0.8808, 0.8711], [0.8711, 0.8738, 0.8771, 0.8740, 0.8700]);
        assert_eq!(probability_above(&x, &y), Some(0.75));
        assert_eq!(probability_above(&y, &x), Some(0.25));
        assert_eq!(probability_above(&[], &y), None);
        assert_eq!(probability_above(&x, &[f64::NAN]), None);
    }
}
