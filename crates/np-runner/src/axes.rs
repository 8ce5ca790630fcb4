//! What varies within an arm: swept keys, from the file or the command line, and values that the command line sets.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::{
    document::{Document, KeyPath, snippet},
    elsewhere::elsewhere,
    error::{Fault, Place, Problem, Result, suggest_or},
    explain::show,
    spec::PARTS,
    tree::{Origin, Tree, split},
};

/// A swept key with its values.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) key: String,
    pub(crate) values: Vec<Value>,
    pub(crate) origin: Origin,
}

/// The grids of an arm, whose runs are those of all of them: a single one, of the file's axes and its own; or, where its `sweep` is a list of
/// configurations, one with a value a key for each of these.
pub(crate) fn grids(
    arm: &str,
    shared: &Map<String, Value>,
    own: Option<&Value>,
    tree: &Tree,
    document: &Document,
    options: &[String],
) -> Result<Vec<Vec<Axis>>> {
    let whole = (vec!["sweep".to_owned()], shared);
    let at = || vec!["arms".to_owned(), arm.to_owned(), "sweep".to_owned()];
    match own {
        Some(Value::Object(own)) => Ok(vec![axes(&[whole, (at(), own)], tree, document, options)?]),
        Some(Value::Array(points)) => {
            if points.is_empty() || points.len() > MOST_RUNS {
                let expected = format!("1 to {MOST_RUNS} configurations");
                let problem = Problem::Expected { expected, got: points.len().to_string() };
                let (place, key) = (tree.place(&at(), document), Some(at().join(".")));
                return Err(Fault { place, key, problem, hint: None }.into());
            }
            let mut seen = BTreeSet::new();
            let mut one = |(place, point): (usize, &Value)| {
                let at = [at(), vec![place.to_string()]].concat();
                let refuse = |expected: &str| {
                    let problem = Problem::Expected { expected: expected.into(), got: show(point) };
                    Fault { place: tree.place(&at, document), key: Some(at.join(".")), problem, hint: None }
                };
                let hint = "as in `sweep: [{optimizer.lr: 0.1, optimizer.momentum: 0.9}]`; a map of keys to lists is every combination";
                let point = match point {
                    Value::Object(_) if !seen.insert(point.to_string()) => {
                        return Err(refuse("every configuration once").hint("leave one of the two out").into());
                    }
                    Value::Object(point) if !point.is_empty() => point,
                    _ => return Err(refuse("a configuration, a map of keys to a value each").hint(hint).into()),
                };
                let listed = point.iter().map(|(key, value)| (key.clone(), Value::from(vec![value.clone()]))).collect();
                axes(&[whole.clone(), (at.clone(), &listed)], tree, document, options)
            };
            points.iter().enumerate().map(&mut one).collect()
        }
        _ => Ok(vec![axes(&[whole], tree, document, options)?]),
    }
}

/// The axes of an arm: those of the file, its own beside them or in their place, and so those of the command line. A sweep comes with its
/// path in the file.
fn axes(
    sweeps: &[(KeyPath, &Map<String, Value>)],
    tree: &Tree,
    document: &Document,
    options: &[String],
) -> Result<Vec<Axis>> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut add = |axis: Axis| -> Result<()> {
        match axes.iter_mut().find(|old| old.key == axis.key) {
            Some(old) => {
                // An option has the last word over the file, and over no other option.
                if let (Origin::Option(earlier), Origin::Option(option)) = (&old.origin, &axis.origin) {
                    let fault = Fault::new(Place::Option(option.clone()), format!("`{earlier}` sweeps this key too"));
                    return Err(fault.key(axis.key).hint("say all its values in one `--sweep`").into());
                }
                *old = axis;
            }
            None => axes.push(axis),
        }
        Ok(())
    };
    for (at, key, values) in
        sweeps.iter().flat_map(|(at, sweep)| sweep.iter().map(move |(key, values)| (at, key, values)))
    {
        let path = [at.as_slice(), std::slice::from_ref(key)].concat();
        let place = || tree.place(&path, document);
        let Value::Array(values) = values else {
            let problem = Problem::Expected { expected: "a list of values".into(), got: show(values) };
            return Err(Fault { place: place(), key: Some(path.join(".")), problem, hint: None }.into());
        };
        known_part(key, place())?;
        check(values, &place(), &path.join("."))?;
        add(Axis { key: key.clone(), values: values.clone(), origin: tree.origin(&path) })?;
    }
    for text in options {
        let option = format!("--sweep {text}");
        let place = Place::Option(option.clone());
        let (key, list) = assignment(text, &place, "--sweep optimizer.lr=0.1,0.03")?;
        known_part(key, place.clone())?;
        let value = snippet(&format!("[{list}]"), &place).map_err(|fault| under(key, 1, fault))?;
        let Value::Array(values) = value else { continue };
        check(&values, &place, key)?;
        add(Axis { key: key.to_owned(), values, origin: Origin::Option(option) })?;
    }
    Ok(axes)
}

/// At least one value, and none twice.
fn check(values: &[Value], place: &Place, key: &str) -> Result<()> {
    let same = |a: &Value, b: &Value| a == b || a.as_f64().is_some_and(|x| b.as_f64() == Some(x));
    let twice = values.iter().enumerate().find_map(|(i, b)| values[..i].iter().any(|a| same(a, b)).then_some(b));
    let fault = match (values, twice) {
        ([], _) => Fault::new(place.clone(), "expected at least one value, got an empty list")
            .hint("list the values, or leave the key out"),
        (_, Some(twice)) => {
            Fault::new(place.clone(), format!("{} stands here twice", show(twice))).hint("name every value once")
        }
        _ => return Ok(()),
    };
    Err(fault.key(key).into())
}

/// The values that the command line sets: where, what, and the option that says so.
pub(crate) fn sets(options: &[String]) -> Result<Vec<(KeyPath, Value, Origin)>> {
    let set = |text: &String| {
        let option = format!("--set {text}");
        let place = Place::Option(option.clone());
        let (key, value) = assignment(text, &place, "--set optimizer.lr=0.05")?;
        known_part(key, place.clone())?;
        let value = snippet(value, &place).map_err(|fault| under(key, 0, fault))?;
        Ok((split(key), value, Origin::Option(option)))
    };
    options.iter().map(set).collect()
}

/// A fault of a snippet as one of the key that it is the value of; the first `less` keys within the snippet are ours.
fn under(key: &str, less: usize, mut fault: Box<Fault>) -> Box<Fault> {
    let inner = fault.key.iter().flat_map(|inner| inner.split('.')).skip(less);
    fault.key = Some(std::iter::once(key).chain(inner).collect::<Vec<_>>().join("."));
    fault
}

/// `key=value`, taken apart.
fn assignment<'a>(text: &'a str, place: &Place, example: &str) -> Result<(&'a str, &'a str)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim(), value)),
        _ => Err(Fault::new(place.clone(), "expected `key=value`").hint(format!("as in `{example}`")).into()),
    }
}

/// Keys within one another in a path. A run has less than ten.
const DEEPEST: usize = 32;

/// A path that an override may set starts with a part of a run, and is not longer than any can be.
pub(crate) fn known_part(key: &str, place: Place) -> Result<()> {
    let keys = key.split('.').count();
    if keys > DEEPEST {
        let text = format!("expected a path of at most {DEEPEST} keys, got {keys}");
        return Err(Fault::new(place, text).into());
    }
    let head = key.split('.').next().unwrap_or_default();
    if PARTS.contains(&head) {
        return Ok(());
    }
    let fault = Fault::new(place, "there is no such key").key(key);
    let fault = match head {
        "seed" | "seeds" => fault.hint("say `--seeds 41,42`, or `seeds: […]` in the file"),
        // A section that is misspelled has more behind it.
        _ => fault.hint_if(suggest_or(head, PARTS, || elsewhere(key, &[]))),
    };
    Err(fault.into())
}

/// Runs that an experiment may have, of all arms, values and seeds.
pub(crate) const MOST_RUNS: usize = 10_000;

/// How many combinations of the axes' values there are, for each of `each`.
pub(crate) fn combinations(axes: &[Axis], each: usize) -> usize {
    axes.iter().fold(each, |count, axis| count.saturating_mul(axis.values.len()))
}

/// Every combination of the axes' values, the last axis running fastest.
pub(crate) fn grid(axes: &[Axis]) -> Vec<Vec<Value>> {
    axes.iter().fold(vec![Vec::new()], |combinations, axis| {
        combinations
            .iter()
            .flat_map(|begun| axis.values.iter().map(|value| [begun.as_slice(), std::slice::from_ref(value)].concat()))
            .collect()
    })
}
