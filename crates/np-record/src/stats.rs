//! Statistics for comparisons over seeds: mean and standard deviation, intervals, an exact test, an adjustment, profiles.
//!
//! Samples are usually small (three seeds are common). So nothing assumes a normal distribution, and
//! [`smallest_p`] gives in advance the smallest p value that a test can have. Everything is deterministic. Tests compare with SciPy, see
//! `tests/reference/statistics.py`.

mod bootstrap;
mod profile;
mod robust;
mod sign_flip;

pub use bootstrap::{Bootstrap, Interval};
pub use profile::Profile;
pub use robust::{interquartile_mean, median, probability_above};
pub use sign_flip::{EXACT_UP_TO, FlipMethod, SignFlip, sign_flip, smallest_p};

use std::collections::BTreeMap;

/// Arithmetic mean x̄ = Σxᵢ / n; `None` for no values.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    Some(values.iter().sum::<f64>() / count(values.len()))
}

/// Sample standard deviation s = √(Σ(xᵢ − x̄)² / (n − 1)); `None` for fewer than two values, for which it is unknown, not 0.
#[must_use]
pub fn sample_std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|x| (x - centre).powi(2)).sum();
    Some((squares / count(values.len() - 1)).sqrt())
}

/// dₛ = aₛ − bₛ for every seed s that is in both maps, ordered by seed.
#[must_use]
pub fn paired_differences(a: &BTreeMap<u64, f64>, b: &BTreeMap<u64, f64>) -> Vec<(u64, f64)> {
    a.iter().filter_map(|(seed, x)| b.get(seed).map(|y| (*seed, x - y))).collect()
}

/// Holm's step-down adjustment of p values for `p.len()` comparisons, in the order given.
///
/// With p₍₁₎ ≤ … ≤ p₍ₘ₎: p̃₍ᵢ₎ = max over j ≤ i of min(1, (m − j + 1) p₍ⱼ₎). If hypotheses with p̃ < α are rejected, the probability of any
/// false rejection is at most α, whatever the dependence between the tests.
///
/// Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65–70.
#[must_use]
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![0.0; p.len()];
    let mut largest = 0.0_f64;
    for (rank, &i) in order.iter().enumerate() {
        largest = largest.max((count(p.len() - rank) * p[i]).min(1.0));
        adjusted[i] = largest;
    }
    adjusted
}

#[expect(clippy::cast_precision_loss, reason = "no sample has 2^53 members")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Steele, Lea and Flood's SplitMix64: enough for resampling, the same everywhere, and no dependency.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// An index below `n`: the high word of a product, whose bias is below n / 2⁶⁴.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within rounding of a few operations on numbers near 1.
    fn close(got: f64, want: f64) {
        assert!((got - want).abs() <= 1e-14 * want.abs().max(1.0), "got {got}, want {want}");
    }

    #[test]
    fn mean_and_spread() {
        assert_eq!(mean(&[]), None);
        assert_eq!(sample_std(&[0.5]), None);
        // statistics.py: `mean`, `std (ddof 1)` of the three published accuracies
        let values = [0.8740, 0.8779, 0.8808];
        close(mean(&values).unwrap(), 0.877_566_666_666_666_6);
        close(sample_std(&values).unwrap(), 0.003_412_232_895_529_47);
    }

    #[test]
    fn pairs_need_both_sides() {
        let a = BTreeMap::from([(41, 3.0), (42, 5.0), (44, 1.0)]);
        let b = BTreeMap::from([(41, 1.0), (42, 6.0), (43, 9.0)]);
        assert_eq!(paired_differences(&a, &b), [(41, 2.0), (42, -1.0)]);
    }

    #[test]
    fn holm_as_computed_by_hand_and_by_scipy_order() {
        // By hand: sorted 0.005 0.01 0.03 0.04, times 4 3 2 1: 0.02 0.03 0.06 0.04, running maximum 0.02 0.03 0.06 0.06.
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        for (got, want) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
            close(*got, want);
        }
        assert_eq!(holm(&[0.6, 0.7]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn splitmix_is_the_published_one() {
        // First outputs for seed 1234567, from the reference implementation's test vector.
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(first, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }
}
