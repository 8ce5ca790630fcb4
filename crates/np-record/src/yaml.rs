//! Writes values as YAML, as in an experiment file: maps and lists on one line, strings without quotes if YAML reads them as strings.

use serde_json::{Map, Value};

use crate::is_hidden;

/// A number in a form that YAML reads as the same number. With an exponent it has a decimal point, which YAML requires.
///
/// ```
/// let texts = [0.26, 3.5e-4, 1e-4, 2.0, 1e20].map(np_record::yaml::number);
/// assert_eq!(texts, ["0.26", "3.5e-4", "1.0e-4", "2.0", "1.0e+20"]);
/// ```
#[must_use]
pub fn number(number: f64) -> String {
    let size = number.abs();
    let text = if size > 0.0 && size < 0.001 { format!("{number:e}") } else { format!("{number:?}") };
    let Some((digits, exponent)) = text.split_once('e') else { return text };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with('-') { "" } else { "+" };
    format!("{digits}{point}e{sign}{exponent}")
}

/// A value on one line.
///
/// ```
/// let value = serde_json::json!({"sgd": {"lr": 0.05, "nesterov": true}, "words": ["a b", "no", "cosine", null]});
/// assert_eq!(np_record::yaml::flow(&value), r#"{sgd: {lr: 0.05, nesterov: true}, words: ["a b", "no", cosine, null]}"#);
/// ```
#[must_use]
pub fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Number(n) if n.is_f64() => n.as_f64().map_or_else(|| n.to_string(), number),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", word(key), flow(value));
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// A map over several lines down to level `depth`; deeper values are on one line each.
///
/// ```
/// let value = serde_json::json!({"arms": {"a": {"optimizer": {"sgd": {}}}}, "seeds": [1, 2]});
/// assert_eq!(np_record::yaml::block(value.as_object().unwrap(), 2), "arms:\n  a: {optimizer: {sgd: {}}}\nseeds: [1, 2]\n");
/// ```
#[must_use]
pub fn block(map: &Map<String, Value>, depth: usize) -> String {
    let mut text = String::new();
    lines(map, depth, 0, &mut text);
    text
}

fn lines(map: &Map<String, Value>, depth: usize, indent: usize, text: &mut String) {
    let margin = "  ".repeat(indent);
    for (key, value) in map {
        let key = word(key);
        match value {
            Value::Object(inner) if depth > 1 && !inner.is_empty() => {
                text.push_str(&format!("{margin}{key}:\n"));
                lines(inner, depth - 1, indent + 1, text);
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text.push_str(&format!("{margin}{key}:\n"));
                items.iter().for_each(|item| text.push_str(&format!("{margin}  - {}\n", flow(item))));
            }
            value => text.push_str(&format!("{margin}{key}: {}\n", flow(value))),
        }
    }
}

/// What YAML takes for something else than a word, in one version or another.
const NO_WORDS: [&str; 11] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];

/// A word as it is, anything else in quotes: JSON's quotes are YAML's, but for its pairs of surrogates, in whose place YAML has an escape of its own.
fn word(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !NO_WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let escaped = |c: char| match u32::from(c) {
        code if is_hidden(c) && code > 0xffff => format!("\\U{code:08x}"),
        code if is_hidden(c) => format!("\\u{code:04x}"),
        _ => c.into(),
    };
    Value::from(text).to_string().chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn blocks_end_where_lines_do() {
        let value = json!({
            "name": "a-rung2", "question": "Which: one?", "train": {"epochs": 3},
            "arms": {"sgd": {"optimizer": {"sgd": {"momentum": 0.9}}, "sweep": [{"optimizer.lr": 1e-5}, {"optimizer.lr": 0.1}]}, "none": {}},
        });
        let text = "name: a-rung2\nquestion: \"Which: one?\"\ntrain:\n  epochs: 3\narms:\n  sgd:\n    optimizer: {sgd: {momentum: 0.9}}\n    \
                    sweep:\n      - {optimizer.lr: 1.0e-5}\n      - {optimizer.lr: 0.1}\n  none: {}\n";
        assert_eq!(block(value.as_object().unwrap(), 3), text);
    }

    #[test]
    fn what_is_no_word_is_quoted() {
        let words = ["adamw", "On", "1", "", "a: b", "-x", "é", "a\u{202e}b", "a\u{e0067}", "optimizer.lr"]
            .map(|text| flow(&text.into()));
        assert_eq!(
            words,
            [
                "adamw",
                "\"On\"",
                "\"1\"",
                "\"\"",
                "\"a: b\"",
                "\"-x\"",
                "\"é\"",
                "\"a\\u202eb\"",
                "\"a\\U000e0067\"",
                "optimizer.lr"
            ]
        );
        assert_eq!(flow(&json!([-1e-7, -0.5, 3, -4, 0.0])), "[-1.0e-7, -0.5, 3, -4, 0.0]");
    }
}
