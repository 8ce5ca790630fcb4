//! No setting of any optimizer or option is infinite, or no number: such a value is refused when it is read, or when it is checked.

use np_core::{OptimizerConfig, Options};
use serde::de::value::{Error, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor};
use serde_json::Value;

/// A value of JSON in which a text may stand for a number that JSON does not have: `\0inf`, `\0-inf`, `\0NaN`.
struct Wide(Value);

impl<'de> IntoDeserializer<'de, Error> for Wide {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Wide {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(x) => visitor.visit_bool(x),
            Value::Number(n) => match n.as_u64() {
                Some(n) => visitor.visit_u64(n),
                None => visitor.visit_f64(n.as_f64().unwrap()),
            },
            Value::String(text) => match text.strip_prefix('\0') {
                Some(number) => visitor.visit_f64(number.parse().unwrap()),
                None => visitor.visit_string(text),
            },
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Wide))),
            Value::Object(map) => {
                visitor.visit_map(MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Wide(value)))))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(name.into_deserializer()),
            Value::Object(map) => {
                let map = MapDeserializer::new(map.into_iter().map(|(key, value)| (key, Wide(value))));
                visitor.visit_enum(MapAccessDeserializer::new(map))
            }
            other => Wide(other).deserialize_any(visitor),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// What may stand in a configuration instead of a default, and has settings of its own.
const OPTIMIZERS: [&str; 11] = [
    r#"{"neuroplastic": {"formulation": "bounded_residual"}}"#,
    r#"{"neuroplastic": {"formulation": "orthogonal_residual"}}"#,
    r#"{"neuroplastic": {"formulation": {"orthogonal_residual": {"schedule": {"late": 0.5}}}}}"#,
    r#"{"neuroplastic": {"formulation": "hybrid"}}"#,
    r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "sgd_momentum"}}}}"#,
    r#"{"neuroplastic": {"formulation": {"hybrid": {"base": "adamw"}}}}"#,
    r#"{"neuroplastic": {"controller": {"mode": "global"}}}"#,
    r#"{"sgd": {"decay": "decoupled"}}"#,
    r#"{"prodigy": {"growth_rate": 2.0}}"#,
    r#"{"kfac": {"kl_clip": 1.0}}"#,
    r#"{"adafactor": {"eps1": 1e-8}}"#,
];

const OPTIONS: [&str; 8] = [
    r#"{"clip": {"norm": 1.0}}"#,
    r#"{"clip": {"value": 1.0}}"#,
    r#"{"groups": [{"match": "*", "lr_scale": 2.0, "weight_decay": 0.1}]}"#,
    r#"{"schedule": "step"}"#,
    r#"{"schedule": "exponential"}"#,
    r#"{"schedule": "cosine"}"#,
    r#"{"schedule": "one_cycle"}"#,
    r#"{"schedule": "linear"}"#,
];

/// `value` with each of its numbers, one at a time, replaced by `number`; with the way to it.
fn replaced(value: &Value, number: f64, way: &str) -> Vec<(String, Value)> {
    let keys: Vec<String> = match value {
        Value::Object(map) => map.keys().cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|i| i.to_string()).collect(),
        // What is absent may be a number too; where it may not, it cannot be read.
        Value::Number(_) | Value::Null => return vec![(way.to_owned(), format!("\0{number}").into())],
        _ => return vec![],
    };
    let at = |key: &String| format!("/{key}");
    let within = |key: &String| replaced(value.pointer(&at(key)).unwrap(), number, &format!("{way}.{key}"));
    let whole = |key: &String, inner: Value| {
        let mut value = value.clone();
        *value.pointer_mut(&at(key)).unwrap() = inner;
        value
    };
    keys.iter().flat_map(|key| within(key).into_iter().map(move |(way, inner)| (way, whole(key, inner)))).collect()
}

/// Settings that are taken though they are infinite, or no number.
fn taken<T: DeserializeOwned>(value: &Value, valid: impl Fn(&T) -> bool) -> Vec<String> {
    let sound = T::deserialize(Wide(value.clone())).unwrap();
    assert!(valid(&sound), "{value}");
    let mut bad = Vec::new();
    for number in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
        for (way, value) in replaced(value, number, "") {
            if T::deserialize(Wide(value)).is_ok_and(|read| valid(&read)) {
                bad.push(format!("{way} = {number}"));
            }
        }
    }
    bad
}

#[test]
fn no_setting_is_infinite_or_no_number() {
    let any = taken(&serde_json::json!({"a": [1.0]}), |_: &std::collections::BTreeMap<String, Vec<f64>>| true);
    assert_eq!(any, [".a.0 = inf", ".a.0 = -inf", ".a.0 = NaN"], "such numbers are read, where there is no check");
    let written = |text: &&str| serde_json::from_str::<OptimizerConfig>(text).unwrap();
    let all = OptimizerConfig::defaults().into_iter().chain(OPTIMIZERS.iter().map(written));
    let valid = |read: &OptimizerConfig| read.validate().is_ok();
    let mut bad: Vec<String> = all.flat_map(|config| taken(&serde_json::to_value(&config).unwrap(), valid)).collect();
    for text in OPTIONS {
        let options: Options = serde_json::from_str(text).unwrap();
        bad.extend(taken(&serde_json::to_value(&options).unwrap(), |read: &Options| read.validate().is_ok()));
    }
    bad.sort();
    bad.dedup();
    assert!(bad.is_empty(), "{bad:#?}");
}
