//! Seeds as people write them: numbers, and ranges of which both ends belong to it. `1..10` are the ten seeds from 1 to 10.

use std::{collections::BTreeSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Unexpected, Visitor},
};

use crate::{
    axes::MOST_RUNS,
    document::Document,
    error::{Error, Fault, Place, Problem, Result},
    spec::Request,
    tree::Tree,
};

/// What one seed, or a range of them, is expected to be.
const ONE: &str = "a whole number, 0 or more, or a range such as `1..10`, both ends included";

/// What a list of them is expected to be on the command line.
const SOME: &str = "whole numbers, 0 or more, or ranges such as `1..10`, both ends included";

/// A list of seeds; in a file a list of numbers and ranges, or one text of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Vec<u64>);

/// From the first to the last; both belong to it.
#[derive(Debug, Clone, Copy)]
struct Span(u64, u64);

impl Span {
    /// Reads `3`, `1..10` or `1..=10`, which is the same.
    fn read(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<u64>().ok();
        let Some((first, last)) = text.split_once("..") else { return number(text).map(|n| Self(n, n)) };
        let (first, last) = (number(first)?, number(last.strip_prefix('=').unwrap_or(last))?);
        (first <= last).then_some(Self(first, last))
    }

    /// Adds its seeds to others; fails where they would be more than any experiment has runs, before there is memory for them.
    fn add_to(self, seeds: &mut Vec<u64>) -> std::result::Result<(), String> {
        let Self(first, last) = self;
        let count = u128::from(last - first) + 1 + seeds.len() as u128;
        if count > MOST_RUNS as u128 {
            return Err(format!("expected at most {MOST_RUNS} seeds, got {count}"));
        }
        seeds.extend(first..=last);
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ONE)
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Span, E> {
                Ok(Span(n, n))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                let range = Some(text).filter(|text| text.contains("..")).and_then(Span::read);
                range.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

impl<'de> Deserialize<'de> for Seeds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Seeds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of seeds, or a range such as `1..10`, both ends included")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Seeds, A::Error> {
                let mut seeds = Vec::new();
                while let Some(span) = items.next_element::<Span>()? {
                    span.add_to(&mut seeds).map_err(de::Error::custom)?;
                }
                Ok(Seeds(seeds))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Seeds, E> {
                let mut seeds = Vec::new();
                for word in text.split(',') {
                    let span = Span::read(word).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
                    span.add_to(&mut seeds).map_err(E::custom)?;
                }
                Ok(Seeds(seeds))
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// The seeds of an experiment: the option's, or else the file's. At least one, and none twice.
pub(crate) fn seeds(written: &Seeds, tree: &Tree, document: &Document, request: &Request) -> Result<Vec<u64>> {
    let (seeds, place) = match &request.seeds {
        None => (written.0.clone(), tree.place(&["seeds".into()], document)),
        Some(text) => {
            let place = Place::Option(format!("--seeds {text}"));
            (typed(text, &place)?, place)
        }
    };
    if seeds.is_empty() {
        let hint = "as in `seeds: [41, 42, 43]`, or `seeds: 41..43`";
        return Err(Fault::new(place, "expected at least one seed, got none").key("seeds").hint(hint).into());
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = seeds.iter().find(|seed| !seen.insert(**seed)) {
        return Err(Fault::new(place, format!("seed `{twice}` stands here twice")).key("seeds").into());
    }
    Ok(seeds)
}

/// Seeds as typed: `41,42`, `1..10`.
fn typed(text: &str, place: &Place) -> Result<Vec<u64>> {
    let mut seeds = Vec::new();
    for word in text.split(',') {
        let span = Span::read(word).ok_or_else(|| {
            // It is one, and larger than any.
            let beyond = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            let expected = if beyond { format!("seeds of at most {}", u64::MAX) } else { SOME.into() };
            let problem = Problem::Expected { expected, got: format!("`{word}`") };
            let hint = Some("as in `--seeds 41,42,43`, or `--seeds 41..43`".into());
            Error::from(Fault { place: place.clone(), key: None, problem, hint })
        })?;
        span.add_to(&mut seeds).map_err(|text| Fault::new(place.clone(), text))?;
    }
    Ok(seeds)
}

/// `1 to 10, 41, 43`: seeds in words, what follows on one another as a range.
pub(crate) fn in_words(seeds: impl IntoIterator<Item = u64>) -> String {
    let mut spans: Vec<Span> = Vec::new();
    for seed in seeds.into_iter().collect::<BTreeSet<u64>>() {
        match spans.last_mut() {
            Some(span) if span.1.checked_add(1) == Some(seed) => span.1 = seed,
            _ => spans.push(Span(seed, seed)),
        }
    }
    let words = |Span(first, last): Span| match last - first {
        0 => first.to_string(),
        1 => format!("{first}, {last}"),
        _ => format!("{first} to {last}"),
    };
    spans.into_iter().map(words).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_ends_belong_to_a_range() {
        let read = |value| serde_json::from_value::<Seeds>(value).map(|seeds| seeds.0);
        for (value, seeds) in [
            (json!([41, 42]), vec![41, 42]),
            (json!("1..4"), vec![1, 2, 3, 4]),
            (json!("1..=4"), vec![1, 2, 3, 4]),
            (json!(" 7 .. 8 , 3"), vec![7, 8, 3]),
            (json!([5, "1..2"]), vec![5, 1, 2]),
            (json!(["18446744073709551615..18446744073709551615"]), vec![u64::MAX]),
            (json!([]), vec![]),
        ] {
            assert_eq!(read(value).unwrap(), seeds);
        }
        for (value, says) in [
            (json!("4..1"), "both ends included"),
            (json!("1...4"), "both ends included"),
            (json!("1..x"), "both ends included"),
            (json!(["1"]), "or a range such as"),
            (json!([-1]), "a whole number, 0 or more"),
            (json!(5), "a list of seeds"),
            (json!("0..18446744073709551615"), "expected at most 10000 seeds, got 18446744073709551616"),
            (json!(["1..6000", "7000..12000"]), "expected at most 10000 seeds, got 11001"),
        ] {
            let error = read(value).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn seeds_in_words_say_where_a_range_ends() {
        assert_eq!(in_words([3, 1, 2, 9, 41, 42]), "1 to 3, 9, 41, 42");
        assert_eq!(in_words([u64::MAX, 0]), "0, 18446744073709551615");
    }
}
