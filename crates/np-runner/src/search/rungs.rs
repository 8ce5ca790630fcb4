//! The rungs of a search: how many configurations of every arm are trained, and for how many epochs.
//!
//! A rung's runs are trainings of their own, from the first epoch to the rung's last, and not the beginnings of longer ones: a schedule that spans a
//! training has another learning rate at the same epoch of a longer one, so that a run of three epochs is no run of nine that was stopped. A rung's epochs
//! are therefore counted in full.

/// A rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rung {
    /// Configurations of every arm.
    pub(crate) configurations: usize,
    /// Epochs of each of their runs.
    pub(crate) epochs: u32,
}

/// How configurations are chosen among.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// Every configuration is trained in full.
    Random,
    /// Many are trained for few epochs, the best of them for more.
    SuccessiveHalving,
}

impl Method {
    /// The name in an experiment file.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::SuccessiveHalving => "successive_halving",
        }
    }
}

/// The rungs of successive halving, with a factor η of two or more: each has an η-th of the configurations of the one before, rounded up, and η times its epochs.
/// The last has the epochs of a whole training, and the first at least `min_epochs`. A rung at which an arm has one configuration left chooses nothing, and is
/// left out unless it is the last.
pub(crate) fn halving(configurations: usize, epochs: u32, min_epochs: u32, reduction: u32) -> Vec<Rung> {
    let powers = |n: u32| u64::from(reduction).checked_pow(n);
    let fits = |n: u32| {
        powers(n).and_then(|power| power.checked_mul(min_epochs.into())).is_some_and(|least| least <= epochs.into())
    };
    let above = (1..u32::BITS).take_while(|&n| fits(n)).count() as u32;
    let mut left = configurations;
    let rungs = (0..=above).map(|n| {
        let rung = Rung { configurations: left, epochs: shortened(epochs, powers(above - n).unwrap_or(u64::MAX)) };
        left = left.div_ceil(reduction as usize);
        rung
    });
    let rungs: Vec<Rung> = rungs.collect();
    let is_last = |rung: &Rung| rung.epochs == epochs;
    rungs.into_iter().filter(|rung| rung.configurations > 1 || is_last(rung)).collect()
}

/// Epochs divided by a power of the factor, to the nearest.
fn shortened(epochs: u32, by: u64) -> u32 {
    let nearest = (2 * u64::from(epochs) + by) / by.saturating_mul(2);
    u32::try_from(nearest).unwrap_or(epochs).max(1)
}

/// Epochs of training that an arm gets altogether.
pub(crate) fn budget(rungs: &[Rung], seeds: usize) -> u64 {
    rungs.iter().map(|rung| rung.configurations as u64 * u64::from(rung.epochs) * seeds as u64).sum()
}

/// `9 × 1, 3 × 3, 1 × 9`: configurations times epochs.
pub(crate) fn in_words(rungs: &[Rung]) -> String {
    rungs.iter().map(|rung| format!("{} × {}", rung.configurations, rung.epochs)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rungs(configurations: usize, epochs: u32, min_epochs: u32, reduction: u32) -> String {
        in_words(&halving(configurations, epochs, min_epochs, reduction))
    }

    #[test]
    fn each_rung_has_a_part_of_the_configurations_and_more_epochs() {
        assert_eq!(rungs(9, 9, 1, 3), "9 × 1, 3 × 3, 1 × 9");
        assert_eq!(rungs(9, 9, 2, 3), "9 × 3, 3 × 9", "the first has at least two epochs");
        assert_eq!(rungs(10, 10, 1, 3), "10 × 1, 4 × 3, 2 × 10", "up for configurations, to the nearest for epochs");
        assert_eq!(rungs(5, 40, 5, 2), "5 × 5, 3 × 10, 2 × 20, 1 × 40");
        assert_eq!(rungs(2, 27, 1, 3), "2 × 1, 1 × 27", "where one is left, it is trained in full");
        assert_eq!(rungs(1, 27, 1, 3), "1 × 27");
        assert_eq!(rungs(4, 3, 2, 3), "4 × 3", "there is no room for a second rung");
        assert_eq!(rungs(4, u32::MAX, 1, u32::MAX), format!("4 × 1, 1 × {}", u32::MAX));
    }

    #[test]
    fn a_budget_counts_every_rung() {
        // 9·1 + 3·3 + 1·9 epochs, three seeds.
        assert_eq!(budget(&halving(9, 9, 1, 3), 3), 81);
        assert_eq!(budget(&[Rung { configurations: 9, epochs: 9 }], 3), 243, "random search");
    }
}
