//! The verdict of a test.

use std::fmt;

use super::Difference;

/// What a paired difference shows, by its adjusted p value (Holm) at the level [`Verdict::LEVEL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The arm is better.
    Ahead,
    /// The arm is worse.
    Behind,
    /// The test shows no difference; the arms may still differ.
    NotShown,
    /// There are too few pairs for a test to show any difference.
    TooFewPairs,
}

impl Verdict {
    /// The significance level: 0.05.
    pub const LEVEL: f64 = 0.05;

    /// The verdict on a difference of numbers of which higher, or lower, values are better.
    #[must_use]
    pub fn of(difference: &Difference, higher_is_better: bool) -> Self {
        match difference {
            d if d.smallest_p > Self::LEVEL => Self::TooFewPairs,
            d if d.p_holm >= Self::LEVEL => Self::NotShown,
            d if (d.mean > 0.0) == higher_is_better => Self::Ahead,
            _ => Self::Behind,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "ahead",
            Self::Behind => "behind",
            Self::NotShown => "no difference shown",
            Self::TooFewPairs => "too few seeds to tell",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    #[test]
    fn a_verdict_is_of_the_adjusted_p_and_of_what_the_pairs_could_have_shown() {
        // By hand: ten pairs of one sign have p = 2 / 2^10, three of them 0.25.
        let of = |values: &[f64], family: f64, higher| {
            let test = stats::sign_flip(values).unwrap();
            let difference = Difference {
                values: (0..).zip(values.iter().copied()).collect(),
                mean: stats::mean(values).unwrap(),
                std: None,
                interval: None,
                p_holm: (test.p * family).min(1.0),
                test,
                smallest_p: 2.0 / 2_f64.powi(values.len() as i32),
            };
            Verdict::of(&difference, higher)
        };
        assert_eq!(of(&[0.1; 10], 18.0, true), Verdict::Ahead);
        assert_eq!(of(&[0.1; 10], 18.0, false), Verdict::Behind);
        assert_eq!(of(&[-0.1; 10], 18.0, true), Verdict::Behind);
        assert_eq!(of(&[0.1; 10], 30.0, true), Verdict::NotShown);
        assert_eq!(of(&[0.1; 3], 1.0, true), Verdict::TooFewPairs);
    }
}
