//! Floating-point numbers in JSON, bit by bit, including NaN and infinities.
//!
//! JSON has no NaN and no infinity; serde_json would write them as `null`, and fail to read its own file. But a test loss can
//! overflow in a run that has not diverged, and such a value is a result. It is written as the string `"NaN"`, `"inf"` or `"-inf"`.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes one number.
pub(crate) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        out.serialize_f64(*value)
    } else if value.is_nan() {
        out.serialize_str("NaN")
    } else if *value > 0.0 {
        out.serialize_str("inf")
    } else {
        out.serialize_str("-inf")
    }
}

/// Reads one number.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    input.deserialize_any(NumberVisitor)
}

struct NumberVisitor;

impl Visitor<'_> for NumberVisitor {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a number, `\"NaN\"`, `\"inf\"` or `\"-inf\"`")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<f64, E> {
        Ok(value)
    }

    #[expect(clippy::cast_precision_loss, reason = "whole numbers written by hand; ours always carry a point")]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "whole numbers written by hand; ours always carry a point")]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<f64, E> {
        match value {
            "NaN" => Ok(f64::NAN),
            "inf" => Ok(f64::INFINITY),
            "-inf" => Ok(f64::NEG_INFINITY),
            _ => Err(E::invalid_value(de::Unexpected::Str(value), &self)),
        }
    }
}

/// One number inside a map.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Number(#[serde(with = "crate::float")] f64);

/// The same for a number that may be missing, and is then left out.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Number, Serialize, Serializer};

    /// Writes the number.
    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(crate) fn serialize<S: Serializer>(value: &Option<f64>, out: S) -> Result<S::Ok, S::Error> {
        value.map(Number).serialize(out)
    }

    /// Reads the number; one that is there is no `null`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Option<f64>, D::Error> {
        Number::deserialize(input).map(|Number(value)| Some(value))
    }
}

/// The same for the numbers of a map.
pub(crate) mod map {
    use super::{BTreeMap, Deserialize, Deserializer, Number, Serializer};

    /// Writes the map, keys in order.
    pub(crate) fn serialize<S: Serializer>(map: &BTreeMap<String, f64>, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(map.iter().map(|(key, &value)| (key, Number(value))))
    }

    /// Reads the map.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let map = BTreeMap::<String, Number>::deserialize(input)?;
        Ok(map.into_iter().map(|(key, Number(value))| (key, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives() {
        let values =
            [0.1, -0.0, 1.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, 1.0 / 3.0, 0.1_f32.into(), 1e21, 123_456_789.125];
        for value in values {
            let text = serde_json::to_string(&Number(value)).unwrap();
            let Number(back) = serde_json::from_str(&text).unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{text}");
        }
    }

    #[test]
    fn what_json_lacks_is_spelled_out() {
        for (value, text) in [(f64::NAN, "\"NaN\""), (f64::INFINITY, "\"inf\""), (f64::NEG_INFINITY, "\"-inf\"")] {
            assert_eq!(serde_json::to_string(&Number(value)).unwrap(), text);
            let Number(back) = serde_json::from_str(text).unwrap();
            assert_eq!(back.to_string(), value.to_string());
        }
        assert!(serde_json::from_str::<Number>("\"infinite\"").is_err());
        assert!(serde_json::from_str::<Number>("null").is_err());
    }

    #[test]
    fn what_is_absent_is_not_written() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct One {
            #[serde(default, with = "crate::float::option", skip_serializing_if = "Option::is_none")]
            x: Option<f64>,
        }
        for (x, text) in [(None, "{}"), (Some(0.5), "{\"x\":0.5}"), (Some(f64::INFINITY), "{\"x\":\"inf\"}")] {
            assert_eq!(serde_json::to_string(&One { x }).unwrap(), text);
            assert_eq!(serde_json::from_str::<One>(text).unwrap(), One { x });
        }
        assert!(serde_json::from_str::<One>("{\"x\":null}").is_err());
    }
}
