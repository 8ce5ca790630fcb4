//! Metrics of a program's own task, which are stored by name in the epochs of a record.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use crate::Direction;

/// The most names that a process keeps: files of others may not fill its memory.
const MOST: usize = 4096;

/// The longest name, in bytes.
const LONGEST: usize = 64;

/// A metric of a program's own task, such as `test_bits_per_character`: the name of an entry of [`crate::Epoch::metrics`], and whether higher or
/// lower values are better.
///
/// It is `Copy`: its names are stored once and stay in memory until the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct OwnMetric(&'static Names);

#[derive(PartialEq, Eq)]
struct Names {
    name: String,
    key: String,
    title: String,
    direction: Direction,
}

static KNOWN: Mutex<BTreeMap<(String, bool), &'static Names>> = Mutex::new(BTreeMap::new());

impl OwnMetric {
    /// The metric with this name, `SPLIT_NAME`. `None` unless the name consists of lower-case letters, digits and `_`, begins with a letter,
    /// has at most 64 bytes and is not one of [`crate::EpochMetric::ALL`].
    #[must_use]
    pub fn new(name: &str, direction: Direction) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins || name.len() > LONGEST || !name.bytes().all(plain) || crate::EpochMetric::named(name).is_some() {
            return None;
        }
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = (name.to_owned(), direction == Direction::Higher);
        if let Some(names) = known.get(&entry) {
            return Some(Self(names));
        }
        if known.len() >= MOST {
            return None;
        }
        let words = name.replace('_', " ");
        let title = match words.strip_prefix("train ") {
            Some(rest) => format!("final training {rest}"),
            None => format!("final {words}"),
        };
        let key = format!("final-{}", name.replace('_', "-"));
        let names: &'static Names = Box::leak(Box::new(Names { name: name.to_owned(), key, title, direction }));
        known.insert(entry, names);
        Some(Self(names))
    }

    /// The name in records and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        &self.0.name
    }

    /// The name on a command line of its value after the last epoch: `final-test-bits-per-character`.
    #[must_use]
    pub fn key(self) -> &'static str {
        &self.0.key
    }

    /// The name in a sentence of its value after the last epoch: `final test bits per character`.
    #[must_use]
    pub fn title(self) -> &'static str {
        &self.0.title
    }

    /// Whether higher or lower values are better.
    #[must_use]
    pub fn direction(self) -> Direction {
        self.0.direction
    }
}

impl fmt::Debug for OwnMetric {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "OwnMetric({}, {})", self.0.name, self.0.direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StatedOutcome;
    use crate::compare::Metric;

    #[test]
    fn a_name_has_three_forms() {
        let own = OwnMetric::new("test_bits_per_character", Direction::Lower).unwrap();
        assert_eq!(own.key(), "final-test-bits-per-character");
        assert_eq!(own.title(), "final test bits per character");
        let train = OwnMetric::new("train_score", Direction::Higher).unwrap();
        assert_eq!(train.title(), "final training score");
        assert!(Metric::FinalOwn(train).higher_is_better() && !Metric::FinalOwn(own).higher_is_better());
        assert_eq!(OwnMetric::new("test_bits_per_character", Direction::Lower), Some(own));
        assert_ne!(OwnMetric::new("test_bits_per_character", Direction::Higher), Some(own));
        for bad in ["", "Test", "test loss", "9", "_x", "test_loss", &"a".repeat(65)] {
            assert_eq!(OwnMetric::new(bad, Direction::Lower), None, "{bad}");
        }
    }

    #[test]
    fn an_outcome_is_read_as_it_is_written() {
        let text = r#"{"metric":"test_bits_per_character","last_epochs":2,"direction":"lower"}"#;
        let outcome: StatedOutcome = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&outcome).unwrap(), text);
        assert_eq!(outcome.measure().title(), "test bits per character, mean of the last 2 epochs");
        assert_eq!(outcome.measure().key(), "test-bits-per-character-last-2");
        assert!(serde_json::from_str::<StatedOutcome>(&text.replace("test_", "../")).is_err());
    }
}
