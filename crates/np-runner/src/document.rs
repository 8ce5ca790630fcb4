//! A YAML file as a tree of JSON values, with the line and column of everything in it.
//!
//! The values come from `serde_yaml`; `saphyr-parser` walks the same text first for the places, for what a tree cannot hold (a key
//! twice, a key that is not text, characters that cannot be seen), and for how large and deep it is with every alias written out: a few lines of aliases can stand
//! for more than any memory holds. What the keys mean is for [`crate::spec`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use np_record::{hex, is_hidden, visible};
use saphyr_parser::{Event, Marker, Parser};
use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

use crate::{
    bytes::{LARGEST, bytes_of},
    error::{Fault, Place, Result},
    explain,
    merge::merge,
};

/// The way to a value: the keys, and the positions in lists, from the top.
pub(crate) type KeyPath = Vec<String>;

/// A YAML file, read.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// The file as the user named it.
    pub(crate) path: PathBuf,
    /// SHA-256 of its bytes, in hex.
    pub(crate) sha256: String,
    /// Its bytes.
    pub(crate) text: String,
    /// What it says; always a map.
    pub(crate) value: Value,
    marks: Marks,
}

/// Line and column of every key and list item.
pub(crate) type Marks = BTreeMap<KeyPath, (usize, usize)>;

impl Document {
    /// Reads `path`. Fails with a [`Fault`] if there is no such file, or if it is not YAML that JSON can hold.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        Self::of(path, bytes_of(path)?)
    }

    /// The bytes of a file that goes by the name `path`.
    pub(crate) fn of(path: &Path, bytes: Vec<u8>) -> Result<Self> {
        let whole = || Place::File(path.to_owned(), None);
        let sha256 = hex(&Sha256::digest(&bytes));
        let text = String::from_utf8(bytes).map_err(|error| {
            let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = good.iter().filter(|b| **b == b'\n').count() + 1;
            let column = good.iter().rev().take_while(|b| **b != b'\n').count() + 1;
            let place = Place::File(path.to_owned(), Some((line, column)));
            Fault::new(place, "not UTF-8 text").hint("save the file as UTF-8")
        })?;
        // A byte order mark says how the text is encoded, and is no part of it.
        let bare = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let (value, marks) = parse(bare, &|at| Place::File(path.to_owned(), at))?;
        if !value.is_object() {
            return Err(Fault::new(whole(), "expected a map of keys at the top").hint(LAYOUT).into());
        }
        Ok(Self { path: path.to_owned(), sha256, text, value, marks })
    }

    /// Where `path` stands in the file, or the nearest thing around it.
    pub(crate) fn place(&self, path: &[String]) -> Place {
        let at = (0..=path.len()).rev().find_map(|n| self.marks.get(&path[..n]).copied());
        Place::File(self.path.clone(), at)
    }
}

/// What a value counts beside its text: about what its place takes.
const VALUE: usize = 64;

/// Lists and maps within one another. An experiment has less than ten.
const DEEPEST: usize = 32;

const LAYOUT: &str = "an experiment has `name`, `question`, `data`, `model`, `train`, `seeds` and `arms`";

/// The value of a YAML snippet that was typed into an option.
pub(crate) fn snippet(text: &str, place: &Place) -> Result<Value, Box<Fault>> {
    Ok(parse(text, &|_| place.clone())?.0)
}

/// Parses `text`; `place` turns a line and a column into the place that a fault names.
fn parse(text: &str, place: &dyn Fn(Option<(usize, usize)>) -> Place) -> Result<(Value, Marks), Box<Fault>> {
    let mut marks = Walk::new(place).walk(text)?;
    let tree: serde_yaml::Value = serde_yaml::from_str(text).map_err(|error| {
        let at = error.location().map(|l| (l.line(), l.column()));
        let text = error.to_string();
        let Some(problem) = explain::of_number(&text) else { return Fault::new(place(at), explain::of_yaml(&text)) };
        // Valid YAML, so that a key stands there, or begins nearest before it.
        let before = marks.iter().filter(|(_, mark)| at.is_some_and(|at| **mark <= at));
        let key = before.max_by_key(|(path, mark)| (**mark, path.len())).map(|(path, _)| path.join("."));
        Fault { key, ..Fault::new(place(at), problem) }
    })?;
    let tree = merge(tree, &mut KeyPath::new(), &mut marks, place)?;
    let near = |path: &[String]| place((0..=path.len()).rev().find_map(|n| marks.get(&path[..n]).copied()));
    let value = to_json(tree, &mut Vec::new(), &near)?;
    Ok((value, marks))
}

fn to_json(
    value: serde_yaml::Value,
    path: &mut KeyPath,
    near: &dyn Fn(&[String]) -> Place,
) -> Result<Value, Box<Fault>> {
    use serde_yaml::Value as Yaml;
    let fault = |path: &KeyPath, text: &str| {
        let fault = Fault::new(near(path), text);
        Box::new(if path.is_empty() { fault } else { fault.key(path.join(".")) })
    };
    Ok(match value {
        Yaml::Null => Value::Null,
        Yaml::Bool(b) => Value::Bool(b),
        Yaml::String(s) => Value::String(s),
        Yaml::Number(n) => Value::Number(if let Some(u) = n.as_u64() {
            u.into()
        } else if let Some(i) = n.as_i64() {
            i.into()
        } else {
            n.as_f64()
                .and_then(Number::from_f64)
                .ok_or_else(|| fault(path, &format!("expected a finite number, got `{n}`")))?
        }),
        Yaml::Sequence(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (i, item) in items.into_iter().enumerate() {
                path.push(i.to_string());
                list.push(to_json(item, path, near)?);
                path.pop();
            }
            Value::Array(list)
        }
        Yaml::Mapping(entries) => {
            let mut map = Map::new();
            for (key, item) in entries {
                let Yaml::String(key) = key else {
                    return Err(fault(path, "expected keys that are text; put others in quotes"));
                };
                path.push(key.clone());
                map.insert(key, to_json(item, path, near)?);
                path.pop();
            }
            Value::Object(map)
        }
        Yaml::Tagged(tagged) => return Err(fault(path, &format!("YAML tags have no meaning here: `{}`", tagged.tag))),
    })
}

/// One walk over the events of a text, for the places of its keys and for keys written twice.
struct Walk<'a> {
    marks: Marks,
    path: KeyPath,
    open: Vec<Open>,
    /// Size of all so far, with aliases written out.
    size: usize,
    /// Of each anchor, the size before it and, once it is complete, its own.
    anchors: BTreeMap<usize, usize>,
    place: &'a dyn Fn(Option<(usize, usize)>) -> Place,
}

/// A list or map that the walk is inside of.
struct Open {
    inside: Inside,
    /// Its anchor, 0 for none.
    anchor: usize,
    /// Size of all before it.
    before: usize,
}

enum Inside {
    /// With the position of the next item.
    List(usize),
    /// With the keys so far, and whether the next event is a key.
    Map(BTreeSet<String>, bool),
}

impl<'a> Walk<'a> {
    fn new(place: &'a dyn Fn(Option<(usize, usize)>) -> Place) -> Self {
        let (marks, path, open, anchors) = (Marks::new(), KeyPath::new(), Vec::new(), BTreeMap::new());
        Self { marks, path, open, size: 0, anchors, place }
    }

    fn walk(mut self, text: &str) -> Result<Marks, Box<Fault>> {
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| {
                let text = format!("not valid YAML: {}", error.info());
                Fault::new((self.place)(Some(at(*error.marker()))), text)
            })?;
            match event {
                Event::Scalar(text, _, anchor, _) => {
                    let size = VALUE + text.len();
                    self.anchors.insert(anchor, size);
                    self.grow(size, span.start)?;
                    self.node(Some(&text), span.start, None)?;
                }
                Event::Alias(anchor) => {
                    self.grow(self.anchors.get(&anchor).copied().unwrap_or(VALUE), span.start)?;
                    self.node(None, span.start, None)?;
                }
                Event::SequenceStart(anchor, _) => self.open(Inside::List(0), anchor, span.start)?,
                Event::MappingStart(anchor, _) => {
                    self.open(Inside::Map(BTreeSet::new(), true), anchor, span.start)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some(Open { anchor, before, .. }) = self.open.pop() {
                        self.anchors.insert(anchor, self.size - before);
                    }
                    self.leave();
                }
                _ => {}
            }
        }
        Ok(self.marks)
    }

    /// Counts what is written, or stands for more.
    fn grow(&mut self, size: usize, start: Marker) -> Result<(), Box<Fault>> {
        self.size = self.size.saturating_add(size);
        if self.size <= LARGEST {
            return Ok(());
        }
        let text = format!("expected values of at most {LARGEST} bytes, with every alias written out, got more");
        let fault = Fault::new((self.place)(Some(at(start))), text);
        Err(Box::new(fault.hint("split it into several experiments")))
    }

    /// The start of a list or a map.
    fn open(&mut self, inside: Inside, anchor: usize, start: Marker) -> Result<(), Box<Fault>> {
        if self.open.len() == DEEPEST {
            let text = format!("expected at most {DEEPEST} lists and maps within one another, got more");
            return Err(Box::new(Fault::new((self.place)(Some(at(start))), text)));
        }
        let before = self.size;
        self.grow(VALUE, start)?;
        self.node(None, start, Some(Open { inside, anchor, before }))
    }

    /// A scalar, or the start of a list or map (`opens`).
    fn node(&mut self, scalar: Option<&str>, start: Marker, opens: Option<Open>) -> Result<(), Box<Fault>> {
        let place = || (self.place)(Some(at(start)));
        let is_key = matches!(self.open.last(), Some(Open { inside: Inside::Map(_, true), .. }));
        let stray = |c: char| is_hidden(c) && (is_key || !matches!(c, '\n' | '\t'));
        if let Some(text) = scalar.filter(|text| text.contains(stray)) {
            let text = format!("expected text without control characters, got `{}`", visible(text));
            return Err(Box::new(Fault::new(place(), text)));
        }
        match self.open.last_mut().map(|open| &mut open.inside) {
            Some(Inside::Map(keys, next_is_key @ true)) => {
                let Some(key) = scalar else {
                    return Err(Box::new(Fault::new(place(), "expected a key that is text")));
                };
                if !keys.insert(key.to_owned()) {
                    let fault = Fault::new(place(), "this key stands here twice").key(dotted(&self.path, key));
                    return Err(Box::new(fault.hint("keep one of the two")));
                }
                *next_is_key = false;
                self.path.push(key.to_owned());
                self.marks.insert(self.path.clone(), at(start));
                return Ok(());
            }
            Some(Inside::List(next)) => {
                self.path.push(next.to_string());
                self.marks.insert(self.path.clone(), at(start));
                *next += 1;
            }
            Some(Inside::Map(..)) | None => {}
        }
        match opens {
            Some(open) => self.open.push(open),
            None => self.leave(),
        }
        Ok(())
    }

    /// The value at the end of the path is complete.
    fn leave(&mut self) {
        match self.open.last_mut().map(|open| &mut open.inside) {
            Some(Inside::Map(_, next_is_key)) => *next_is_key = true,
            Some(Inside::List(_)) => {}
            None => return,
        }
        self.path.pop();
    }
}

fn at(marker: Marker) -> (usize, usize) {
    (marker.line(), marker.col() + 1)
}

fn dotted(path: &[String], key: &str) -> String {
    path.iter().map(String::as_str).chain([key]).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<(Value, Marks), Box<Fault>> {
        parse(text, &|at| Place::File("t.yaml".into(), at))
    }

    #[test]
    fn values_and_places_agree() {
        let (value, marks) = read("a: 1\nb:\n  c: [x, 2.5, {d: true}]\n  e: -3\n# end\nf: {}\n").unwrap();
        assert_eq!(value, json!({"a": 1, "b": {"c": ["x", 2.5, {"d": true}], "e": -3}, "f": {}}));
        let key = |path: &str| path.split('.').map(String::from).collect::<Vec<_>>();
        assert_eq!(marks[&key("b.c.2.d")], (3, 16));
        assert_eq!(marks[&key("b.e")], (4, 3));
        assert_eq!(marks[&key("f")], (6, 1));
    }

    #[test]
    fn what_json_cannot_hold_is_refused_at_its_place() {
        for (text, expect) in [
            ("a: 1\nb: {c: 1, c: 2}\n", "t.yaml:2:11: `b.c`: this key stands here twice\n  hint: keep one of the two"),
            ("a:\n  b: .nan\n", "t.yaml:2:3: `a.b`: expected a finite number, got `.nan`"),
            ("a:\n  [1, 2]: 3\n", "t.yaml:2:3: expected a key that is text"),
            ("a:\n  1: 3\n", "t.yaml:1:1: `a`: expected keys that are text; put others in quotes"),
            ("a: !big 3\n", "t.yaml:1:1: `a`: YAML tags have no meaning here: `!big`"),
        ] {
            assert_eq!(read(text).unwrap_err().told(), expect);
        }
        assert!(read("a: [1, 2\nb: 3").unwrap_err().to_string().starts_with("t.yaml:2:"));
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_refused_before_it_is_built() {
        let says = |text: &str, expect: &str| {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        };
        // 10¹² ones out of 300 bytes; a long text many times; a list within itself.
        let ten = |level: usize| format!("*a{}, ", level - 1).repeat(10);
        let nine: String = (1..=12).map(|level| format!("a{level}: &a{level} [{}]\n", ten(level))).collect();
        says(&format!("a0: &a0 [1]\n{nine}"), "with every alias written out");
        says(&format!("a: &a {}\nb: [{}]\n", "x".repeat(10_000), "*a, ".repeat(200)), "with every alias written out");
        says("a: &a [1, *a]\n", "t.yaml");
        says(&format!("a: {}", "[".repeat(40)), "t.yaml:1:35: expected at most 32 lists and maps within one another");
        says(&format!("a: {}", "{b: ".repeat(40)), "expected at most 32 lists and maps");
        says(&format!("a: {}", "[".repeat(100_000)), "t.yaml");
        says(&(0..100_000).map(|i| format!("{}- \n", " ".repeat(i % 2_000))).collect::<String>(), "t.yaml");
        says(&"- 1\n".repeat(100_000), "expected values of at most 1048576 bytes");
        assert!(read("a: &x {b: 1}\nc: [*x, *x, *x]\n").is_ok());
    }

    #[test]
    fn aliases_are_expanded() {
        let (value, _) = read("a: &x {b: 1}\nc: *x\nd: 1\n").unwrap();
        assert_eq!(value, json!({"a": {"b": 1}, "c": {"b": 1}, "d": 1}));
    }
}
