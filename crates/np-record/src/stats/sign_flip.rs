//! The sign-flip test: the exact test for paired differences.

use super::SplitMix64;

/// Largest number of differences for which all 2ⁿ sign patterns are counted.
pub const EXACT_UP_TO: usize = 20;

/// Flips drawn above [`EXACT_UP_TO`].
const DRAWN: u32 = 200_000;

/// How a p value was computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FlipMethod {
    /// From all 2ⁿ sign patterns.
    Exact,
    /// From this many random sign patterns, because n exceeds [`EXACT_UP_TO`].
    Drawn(u32),
}

/// The result of [`sign_flip`].
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct SignFlip {
    /// Two-sided p value.
    pub p: f64,
    /// Whether it is exact or from random sign patterns.
    pub method: FlipMethod,
}

/// Two-sided sign-flip (one-sample permutation) test of the hypothesis that paired differences are symmetric about zero.
///
/// p = #{ s ∈ {−1, 1}ⁿ : |Σ sᵢdᵢ| ≥ |Σ dᵢ| } / 2ⁿ, over all 2ⁿ sign patterns for n ≤ [`EXACT_UP_TO`]. For larger n, B = 200,000 seeded random
/// patterns are counted and p = (1 + count) / (1 + B). p is never below [`smallest_p`]; differences of 0 raise this bound.
///
/// `None` without differences, or if one is not finite.
///
/// Fisher, R. A. (1935). The Design of Experiments, §21; Pitman, E. J. G. (1937), Suppl. J. R. Stat. Soc. 4, 119–130.
///
/// ```
/// use np_record::stats::sign_flip;
///
/// // Three differences of one sign: only the flips +++ and −−− are as extreme, 2 of 8.
/// assert_eq!(sign_flip(&[0.2, 0.1, 0.4]).unwrap().p, 0.25);
/// ```
#[must_use]
pub fn sign_flip(differences: &[f64]) -> Option<SignFlip> {
    if differences.is_empty() || !differences.iter().all(|d| d.is_finite()) {
        return None;
    }
    // Sums that are equal on paper may differ by rounding: a tie counts as extreme.
    let slack = 1e-12 * differences.iter().map(|d| d.abs()).sum::<f64>();
    let observed = differences.iter().sum::<f64>().abs() - slack;
    let extreme = |bits: u64| {
        let sum: f64 = differences.iter().enumerate().map(|(i, d)| if bits >> i & 1 == 1 { -d } else { *d }).sum();
        sum.abs() >= observed
    };
    if differences.len() <= EXACT_UP_TO {
        // A flip and its opposite have the same |Σ|: the last sign stays.
        let half = 1_u32 << (differences.len() - 1);
        let count: u32 = (0..half).map(|bits| u32::from(extreme(u64::from(bits)))).sum();
        return Some(SignFlip { p: f64::from(count) / f64::from(half), method: FlipMethod::Exact });
    }
    let mut random = SplitMix64(0);
    let mut count = 0_u32;
    for _ in 0..DRAWN {
        let mut sum = 0.0;
        for chunk in differences.chunks(64) {
            let bits = random.next();
            sum += chunk.iter().enumerate().map(|(i, d)| if bits >> i & 1 == 1 { -d } else { *d }).sum::<f64>();
        }
        count += u32::from(sum.abs() >= observed);
    }
    Some(SignFlip { p: f64::from(count + 1) / f64::from(DRAWN + 1), method: FlipMethod::Drawn(DRAWN) })
}

/// The smallest p value that a two-sided sign-flip test of n differences can give: 2 / 2ⁿ (1 for n ≤ 1). It is 0.25 for n = 3 and 0.0625 for
/// n = 5; n = 6 is the smallest n for which it is below 0.05.
#[must_use]
pub fn smallest_p(n: usize) -> f64 {
    let halvings = i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX);
    0.5_f64.powi(halvings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_values_are_scipys() {
        // statistics.py: scipy.stats.permutation_test(permutation_type="samples", n_resamples=inf), multiples of 2/2^n
        let cases: [(&[f64], f64); 4] = [
            (&[0.0029, 0.0041, 0.0037], 0.25),
            (&[0.0013, -0.0004, -0.0003], 1.0),
            (&[1.3, -0.4, 2.2, 0.7, 0.1, 3.5, -1.1, 0.9], 0.132_812_5),
            (&[0.5, 0.25, -0.125, 0.75, 0.3, 0.61, 0.2, 0.44, -0.05, 0.33, 0.12, 0.29], 0.002_929_687_5),
        ];
        for (differences, p) in cases {
            assert_eq!(sign_flip(differences).unwrap(), SignFlip { p, method: FlipMethod::Exact }, "{differences:?}");
        }
    }

    #[test]
    fn ties_count_as_extreme() {
        // On paper |0.1 + 0.2 − 0.3| = 0, so every flip is as extreme; in floating point the sum is 5.6e-17.
        assert_eq!(sign_flip(&[0.1, 0.2, -0.3]).unwrap().p, 1.0);
        assert_eq!(sign_flip(&[0.0, 0.0]).unwrap().p, 1.0);
    }

    #[test]
    fn drawn_values_come_near_exact_ones() {
        // statistics.py: `all 2^30 flips` 0.1706; three standard errors of the draws are 3·√(0.17·0.83 / 200,000) = 0.0025.
        let differences: Vec<f64> = (1..=30).map(|i| f64::from(if i % 3 == 0 { -i } else { i }) / 10.0).collect();
        let SignFlip { p, method } = sign_flip(&differences).unwrap();
        assert_eq!(method, FlipMethod::Drawn(DRAWN));
        assert!((p - 0.170_598).abs() < 0.0025, "{p}");
    }

    #[test]
    fn smallest() {
        assert_eq!([0, 1, 2, 3, 6].map(smallest_p), [1.0, 1.0, 0.5, 0.25, 0.031_25]);
        assert_eq!(sign_flip(&[1.0; 6]).unwrap().p, smallest_p(6));
        assert_eq!(sign_flip(&[]), None);
        assert_eq!(sign_flip(&[f64::INFINITY]), None);
    }
}
