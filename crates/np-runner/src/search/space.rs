//! The space of a search: what values a key may have, and how they are drawn.
//!
//! A draw is a function of the search's seed, the arm, the configuration's number and the key, and of nothing else: another arm, another key or a
//! larger budget changes no value that was drawn before. Values are rounded, so that a file of winners can be read.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{axes::Axis, document::KeyPath, explain::show, tree::Origin};

/// The values that a key may have.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Values {
    /// A number between two others, evenly on a logarithmic scale; three significant digits.
    LogUniform([f64; 2]),
    /// A number between two others, evenly; in steps of between a hundredth and a thousandth of their distance.
    Uniform([f64; 2]),
    /// A whole number; both ends belong to it.
    Int([i64; 2]),
    /// One of a list.
    Choice(Vec<Value>),
}

/// A key that is searched.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dimension {
    /// As it is written: `optimizer.lr`.
    pub(crate) key: String,
    /// What it may be.
    pub(crate) values: Values,
    /// Where it stands in the file.
    pub(crate) path: KeyPath,
}

/// An end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The smaller values.
    Low,
    /// The larger values.
    High,
}

/// The share of a range at each of its ends that counts as its edge.
const EDGE: f64 = 0.1;

/// Draws that an arm may take altogether: to meet each of 10,000 configurations takes 98,000 on average.
const MOST_DRAWS: usize = 200_000;

impl Values {
    /// What is wrong with them: what was expected, and what stands there.
    pub(crate) fn fault(&self) -> Option<(String, String)> {
        let range = |[low, high]: &[f64; 2], least: f64| {
            let sound = *low >= least && low < high && high.is_finite();
            let above = if least > 0.0 { " above 0" } else { "" };
            (!sound).then(|| (format!("two numbers{above}, the smaller one first"), format!("`[{low}, {high}]`")))
        };
        match self {
            Self::LogUniform(ends) => range(ends, f64::MIN_POSITIVE),
            Self::Uniform(ends) => range(ends, f64::MIN),
            Self::Int([low, high]) => {
                (low >= high).then(|| ("two whole numbers, the smaller one first".into(), format!("`[{low}, {high}]`")))
            }
            Self::Choice(list) => {
                let twice = list.iter().enumerate().find_map(|(i, value)| list[..i].contains(value).then_some(value));
                match (list.len(), twice) {
                    (0, _) => Some(("at least one value".into(), "an empty list".into())),
                    (_, Some(twice)) => Some(("every value once".into(), format!("{} twice", show(twice)))),
                    _ => None,
                }
            }
        }
    }

    /// How many values there are, where they can be counted.
    fn count(&self) -> Option<u64> {
        match self {
            Self::LogUniform(_) | Self::Uniform(_) => None,
            Self::Int([low, high]) => Some(high.abs_diff(*low).saturating_add(1)),
            Self::Choice(list) => Some(list.len() as u64),
        }
    }

    /// The value at a place from 0 to 2⁶⁴ − 1.
    fn at(&self, place: u64) -> Value {
        // The high word of a product: as even as 64 bits can be.
        let below = |n: u64| ((u128::from(place) * u128::from(n)) >> 64) as u64;
        let share = (place >> 11) as f64 / (1_u64 << 53) as f64;
        match self {
            Self::LogUniform([low, high]) => {
                let value = (low.ln() + share * (high.ln() - low.ln())).exp();
                rounded(&format!("{value:.2e}"), value, [*low, *high])
            }
            Self::Uniform([low, high]) => {
                let (value, width) = (low + share * (high - low), high - low);
                let decimals = (2.0 - width.log10().floor()).clamp(0.0, 300.0) as usize;
                rounded(&format!("{value:.decimals$}"), value, [*low, *high])
            }
            Self::Int([low, _]) => {
                let n = self.count().unwrap_or(1);
                Value::from(i64::try_from(i128::from(*low) + i128::from(below(n))).unwrap_or(*low))
            }
            Self::Choice(list) => list.get(below(list.len() as u64) as usize).cloned().unwrap_or_default(),
        }
    }

    /// The edge that a value lies at: the outer tenth of a range, the first or last whole number. A choice has none.
    pub(crate) fn edge(&self, value: &Value) -> Option<End> {
        let value = value.as_f64()?;
        let share = match self {
            Self::LogUniform([low, high]) => (value / low).ln() / (high / low).ln(),
            Self::Uniform([low, high]) => (value - low) / (high - low),
            Self::Int([low, high]) => match value {
                _ if high.abs_diff(*low) < 2 => return None,
                at if at <= *low as f64 => 0.0,
                at if at >= *high as f64 => 1.0,
                _ => return None,
            },
            Self::Choice(_) => return None,
        };
        match share {
            share if share <= EDGE => Some(End::Low),
            share if share >= 1.0 - EDGE => Some(End::High),
            _ => None,
        }
    }

    /// In words: `0.001 to 1, on a logarithmic scale`.
    pub(crate) fn in_words(&self) -> String {
        match self {
            Self::LogUniform([low, high]) => format!("{low} to {high}, on a logarithmic scale"),
            Self::Uniform([low, high]) => format!("{low} to {high}"),
            Self::Int([low, high]) => format!("whole numbers from {low} to {high}"),
            Self::Choice(list) => list.iter().map(np_record::words).collect::<Vec<_>>().join(", "),
        }
    }
}

/// A number as it is written with few digits, within its range.
fn rounded(text: &str, value: f64, [low, high]: [f64; 2]) -> Value {
    Value::from(text.parse().unwrap_or(value).clamp(low, high))
}

/// A place from 0 to 2⁶⁴ − 1: the generator, whose counters are these words.
fn place(seed: u64, arm: &str, configuration: usize, attempt: usize, key: &str) -> u64 {
    let mut hash = Sha256::new();
    // Names may hold any character: their lengths keep them apart.
    hash.update(format!("{seed} {configuration} {attempt} {} {arm} {key}", arm.len()));
    hash.finalize().iter().take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The configurations of an arm, no two the same; or how many there are, if they are too few.
pub(crate) fn draw(
    space: &[Dimension],
    seed: u64,
    arm: &str,
    configurations: usize,
) -> Result<Vec<Map<String, Value>>, usize> {
    let all = space.iter().try_fold(1_u64, |all, one| Some(all.saturating_mul(one.values.count()?)));
    if let Some(all) = all.filter(|all| *all < configurations as u64) {
        return Err(all as usize);
    }
    let (mut drawn, mut seen, mut draws) = (Vec::new(), BTreeSet::new(), 0);
    for configuration in 0..configurations {
        // What was drawn already is drawn again, under the next number of attempts.
        for attempt in 0.. {
            draws += 1;
            if draws > MOST_DRAWS {
                return Err(drawn.len());
            }
            let value = |one: &Dimension| one.values.at(place(seed, arm, configuration, attempt, &one.key));
            let point: Map<String, Value> = space.iter().map(|one| (one.key.clone(), value(one))).collect();
            if seen.insert(Value::from(point.clone()).to_string()) {
                drawn.push(point);
                break;
            }
        }
    }
    Ok(drawn)
}

/// A configuration as axes with one value each.
pub(crate) fn axes(space: &[Dimension], point: &Map<String, Value>) -> Vec<Axis> {
    let axis = |one: &Dimension| {
        let values = point.get(&one.key).cloned().into_iter().collect();
        Axis { key: one.key.clone(), values, origin: Origin::File(one.path.clone()) }
    };
    space.iter().map(axis).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(key: &str, values: Values) -> Dimension {
        Dimension { key: key.into(), values, path: vec!["search".into(), "space".into(), key.into()] }
    }

    fn space() -> Vec<Dimension> {
        vec![
            one("optimizer.lr", Values::LogUniform([1e-4, 1.0])),
            one("optimizer.momentum", Values::Uniform([0.8, 0.999])),
            one("train.batch_size", Values::Int([16, 64])),
            one("options.schedule", Values::Choice(vec!["constant".into(), "cosine".into()])),
        ]
    }

    /// The values are those of this generator, computed with Python's hashlib and math in the same order of operations; they must never change, or a search
    /// that goes on would train other configurations.
    #[test]
    fn draws_are_these() {
        let keys = ["optimizer.lr", "optimizer.momentum", "train.batch_size", "options.schedule"];
        let drawn = draw(&space(), 7, "sgd", 3).unwrap();
        let drawn: Vec<Value> =
            drawn.iter().map(|point| keys.iter().map(|key| point[*key].clone()).collect()).collect();
        let expected = [
            json!([0.00424, 0.839, 54, "cosine"]),
            json!([0.076, 0.952, 60, "constant"]),
            json!([0.478, 0.916, 48, "constant"]),
        ];
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_larger_budget_another_arm_or_another_key_changes_no_earlier_draw() {
        let few = draw(&space(), 7, "sgd", 4).unwrap();
        let many = draw(&space(), 7, "sgd", 40).unwrap();
        assert_eq!(few, many[..4]);
        let other = draw(&space(), 7, "adam", 4).unwrap();
        assert!(few.iter().zip(&other).all(|(a, b)| a["optimizer.lr"] != b["optimizer.lr"]), "an arm has its own");
        let without = draw(&space()[..2], 7, "sgd", 4).unwrap();
        let same = |(a, b): (&Map<String, Value>, &Map<String, Value>)| a.iter().all(|(key, value)| b[key] == *value);
        assert!(without.iter().zip(&few).all(same));
        assert_ne!(few, draw(&space(), 8, "sgd", 4).unwrap(), "another seed");
    }

    #[test]
    fn values_are_within_their_ranges_and_short() {
        let drawn = draw(&space(), 1, "a", 500).unwrap();
        let numbers = |key: &str| drawn.iter().map(|point| point[key].as_f64().unwrap()).collect::<Vec<_>>();
        let within = |key: &str, low: f64, high: f64| numbers(key).iter().all(|x| (low..=high).contains(x));
        assert!(within("optimizer.lr", 1e-4, 1.0) && within("optimizer.momentum", 0.8, 0.999));
        assert!(within("train.batch_size", 16.0, 64.0));
        // Of 500 draws a quarter lies in each decade: 125, with a standard deviation of 9.7.
        let small = numbers("optimizer.lr").iter().filter(|x| **x < 1e-3).count();
        assert!((85..165).contains(&small), "{small}");
        for point in &drawn {
            let digits = |key: &str| format!("{:e}", point[key].as_f64().unwrap()).split('e').next().unwrap().len();
            assert!(digits("optimizer.lr") <= 4, "three digits and a point: {point:?}");
            assert!(digits("optimizer.momentum") <= 5, "steps of 0.001: {point:?}");
        }
    }

    #[test]
    fn a_small_space_is_met_in_full_and_not_beyond() {
        let small = vec![one("a", Values::Int([-1, 1])), one("b", Values::Choice(vec![json!(true), json!({"x": 1})]))];
        let drawn = draw(&small, 3, "a", 6).unwrap();
        let all: BTreeSet<String> = drawn.iter().map(|point| Value::from(point.clone()).to_string()).collect();
        assert_eq!(all.len(), 6);
        assert_eq!(draw(&small, 3, "a", 7), Err(6));
        // 1, 1.001 and 1.0004 rounded are one or two values.
        assert!(draw(&[one("a", Values::LogUniform([1.0, 1.001]))], 3, "a", 9).unwrap_err() < 3);
        assert_eq!(draw(&[one("a", Values::Int([i64::MIN, i64::MAX]))], 3, "a", 5).unwrap().len(), 5);
    }

    #[test]
    fn the_outer_tenth_is_an_edge() {
        let log = Values::LogUniform([0.001, 1.0]);
        // A tenth of three decades: 0.001 × 10^0.3 = 0.001995.
        let at = |values: &Values, value: Value| values.edge(&value);
        assert_eq!(at(&log, 0.0019.into()), Some(End::Low));
        assert_eq!([at(&log, 0.0021.into()), at(&log, 0.49.into())], [None, None]);
        assert_eq!(at(&log, 0.51.into()), Some(End::High));
        let uniform = Values::Uniform([0.0, 10.0]);
        assert_eq!([0.9, 1.1, 9.1].map(|x| at(&uniform, x.into())), [Some(End::Low), None, Some(End::High)]);
        let int = Values::Int([1, 4]);
        assert_eq!([1, 2, 4].map(|x| at(&int, x.into())), [Some(End::Low), None, Some(End::High)]);
        assert_eq!(at(&Values::Int([0, 1]), 0.into()), None, "there is nothing between");
        assert_eq!(at(&Values::Choice(vec![1.into(), 2.into()]), 1.into()), None);
    }
}
