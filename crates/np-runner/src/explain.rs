//! From a tree to typed settings, and from serde's complaints to faults that say where, what and how to mend it.

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::{
    document::{Document, KeyPath},
    elsewhere::elsewhere,
    error::{Fault, Problem, suggest, suggest_or},
    tree::{Tree, split},
};

/// Reads `tree` as `T`; a fault names the place that said the wrong value.
pub(crate) fn read<T: DeserializeOwned>(tree: &Tree, document: &Document) -> Result<T, Box<Fault>> {
    placed(tree, document, &[], serde_path_to_error::deserialize(tree.value.clone()))
}

/// What reading the part of a tree at `base` gave; a fault names the place that said the wrong value.
pub(crate) fn placed<T>(
    tree: &Tree,
    document: &Document,
    base: &[String],
    read: Result<T, serde_path_to_error::Error<serde_json::Error>>,
) -> Result<T, Box<Fault>> {
    read.map_err(|error| {
        let mut path = [base, &key_path(error.path())].concat();
        let complaint = Complaint::parse(&error.inner().to_string());
        // serde names the key that is unknown or missing in its text, and not always in its path.
        if let Complaint::UnknownKey { key, .. } | Complaint::Missing { key } = &complaint
            && path.last() != Some(key)
        {
            path.push(key.clone());
        }
        let said = path.clone();
        if let Complaint::UnknownKind { word, .. } = &complaint
            && path.last() == Some(word)
        {
            path.pop();
        }
        let got = tree.get(&path);
        // A key that is missing stands nowhere, but what it is missing from does.
        let place = match complaint {
            Complaint::Missing { .. } => &said[..said.len().saturating_sub(1)],
            _ => &said[..],
        };
        complaint.fault(tree.place(place, document), &path, got)
    })
}

fn key_path(path: &serde_path_to_error::Path) -> KeyPath {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Unknown => None,
        })
        .collect()
}

/// What serde objects to.
#[derive(Debug, PartialEq)]
enum Complaint {
    UnknownKey { key: String, choices: Vec<String> },
    UnknownKind { word: String, choices: Vec<String> },
    Missing { key: String },
    Wrong { got: String, expected: String },
    Other(String),
}

impl Complaint {
    /// Takes serde's own sentences apart; they are part of its public behaviour (`de::Error`'s provided methods).
    fn parse(text: &str) -> Self {
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        let words = quoted(text);
        let first = words.first().cloned().unwrap_or_default();
        let rest = words.get(1..).map(<[String]>::to_vec).unwrap_or_default();
        if text.starts_with("unknown field ") {
            Self::UnknownKey { key: first, choices: rest }
        } else if text.starts_with("unknown variant ") {
            Self::UnknownKind { word: first, choices: rest }
        } else if text.starts_with("missing field ") {
            Self::Missing { key: first }
        } else if let Some((got, expected)) = text
            .strip_prefix("invalid type: ")
            .or_else(|| text.strip_prefix("invalid value: "))
            .or_else(|| text.strip_prefix("invalid length "))
            .and_then(|rest| rest.rsplit_once(", expected "))
        {
            Self::Wrong { got: got.to_owned(), expected: in_words(expected) }
        } else {
            Self::Other(text.to_owned())
        }
    }

    fn fault(self, place: crate::error::Place, path: &[String], got: Option<&Value>) -> Box<Fault> {
        let fault = match self {
            Self::UnknownKey { key, choices } => {
                let hint = suggest_or(&key, choices, || elsewhere(&key, path));
                Fault::new(place, "there is no such key").hint_if(hint)
            }
            Self::UnknownKind { word, choices } => {
                Fault::new(place, format!("there is no `{word}` here")).hint_if(suggest(&word, choices))
            }
            Self::Missing { .. } => Fault::new(place, "this key is missing"),
            Self::Wrong { got: told, expected } => {
                let got = got.map_or(told, show);
                Fault { place, key: None, problem: Problem::Expected { expected, got }, hint: None }
            }
            Self::Other(text) => Fault::new(place, text),
        };
        Box::new(if path.is_empty() { fault } else { fault.key(path.join(".")) })
    }
}

/// What the reader of YAML says of a number that it cannot hold, and that no key takes, in our words; `None` if it says something else.
pub(crate) fn of_number(text: &str) -> Option<String> {
    let number = text.split('`').nth(1).filter(|_| text.contains("` as u128") || text.contains("` as i128"))?;
    Some(match number.starts_with('-') {
        true => format!("expected a whole number, 0 or more, got `{number}`"),
        false => format!("expected a whole number of at most {}, got `{number}`", u64::MAX),
    })
}

/// What the reader of YAML says of a text that is none.
pub(crate) fn of_yaml(text: &str) -> String {
    format!("not valid YAML: {}", without_place(text))
}

/// `message` without its closing `at line 3 column 4`, which the place already says.
fn without_place(message: &str) -> &str {
    message.split(" at line ").next().unwrap_or(message)
}

/// What serde expected, without the names of Rust's types.
fn in_words(expected: &str) -> String {
    match expected {
        "f64" | "f32" => "a number".into(),
        "u64" | "u32" | "u16" | "u8" | "usize" => "a whole number, 0 or more".into(),
        "i64" | "i32" | "isize" => "a whole number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" | "string" | "str" => "a text".into(),
        "a sequence" => "a list".into(),
        "string or map" | "map with a single key" => "one kind: its name, or a map of that one name".into(),
        other if other.starts_with("nonzero") || other.starts_with("a nonzero") => "a whole number, 1 or more".into(),
        other if other.starts_with("struct ") || other == "map" => "a map of keys".into(),
        other if other.contains("variant") || other.starts_with("enum ") => "the name of a kind".into(),
        other => other.to_owned(),
    }
}

/// A value as a message shows it: short, in back-ticks.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".into(),
        Value::String(text) => format!("`{text}`"),
        Value::Object(map) if map.len() > 2 => format!("a map of {} keys", map.len()),
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        other => format!("`{other}`"),
    }
}

/// A fault for a value that has the right type and the wrong meaning.
pub(crate) fn refuse(tree: &Tree, document: &Document, key: &str, expected: &str, got: &str) -> Box<Fault> {
    let path = split(key);
    let got = tree.get(&path).map_or_else(|| format!("`{got}`"), show);
    let problem = Problem::Expected { expected: expected.to_owned(), got };
    Box::new(Fault { place: tree.place(&path, document), key: Some(key.to_owned()), problem, hint: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_speaks_as_expected() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[allow(dead_code)]
        struct Outer {
            number: f64,
            count: usize,
            inner: Inner,
        }
        #[derive(Debug, serde::Deserialize)]
        #[serde(rename_all = "snake_case", deny_unknown_fields)]
        #[allow(dead_code)]
        enum Inner {
            Plain,
            Full { lr: f64 },
        }
        let document = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let mut document = Document::read(file.path()).unwrap();
            document.path = "t.yaml".into();
            document
        };
        for (text, expect) in [
            (
                "number: 1\ncount: 2\ninner: plain\nnumbr: 3",
                "t.yaml:4:1: `numbr`: there is no such key\n  hint: did you mean `number`?",
            ),
            ("number: x\ncount: 2\ninner: plain", "t.yaml:1:1: `number`: expected a number, got `x`"),
            ("number: 1\ncount: -2\ninner: plain", "t.yaml:2:1: `count`: expected a whole number, 0 or more, got `-2`"),
            (
                "number: 1\ncount: 2.5\ninner: plain",
                "t.yaml:2:1: `count`: expected a whole number, 0 or more, got `2.5`",
            ),
            (
                "number: 1\ncount: 2\ninner: plane",
                "t.yaml:3:1: `inner`: there is no `plane` here\n  hint: did you mean `plain`?",
            ),
            (
                "number: 1\ncount: 2\ninner:\n  full: {lr: 1, mu: 2}",
                "t.yaml:4:17: `inner.full.mu`: there is no such key\n  hint: there is only `lr`",
            ),
            (
                "number: 1\ncount: 2\ninner:\n  full: {lr: [1]}",
                "t.yaml:4:10: `inner.full.lr`: expected a number, got `[1]`",
            ),
            ("number: 1\ncount: 2\ninner:\n  full: {}", "t.yaml:4:3: `inner.full.lr`: this key is missing"),
            (
                "number: 1\ncount: 2\ninner: [1]",
                "t.yaml:3:1: `inner`: expected one kind: its name, or a map of that one name, got `[1]`",
            ),
        ] {
            let document = document(text);
            let error = read::<Outer>(&Tree::of(&document), &document).unwrap_err();
            assert_eq!(error.told(), expect);
        }
    }
}
