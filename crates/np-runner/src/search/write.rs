//! Experiments that a search writes: its later rungs, and the finals of its winners.
//!
//! They are ordinary files. A rung has its configurations listed, so that no later version has to draw them again; the finals have fresh seeds, and
//! train on the images that the search held out.

use std::path::{Path, PathBuf};

use np_record::{Hypothesis, Store, yaml};
use serde_json::{Map, Value, json};

use super::{Search, rungs::Rung};
use crate::spec::{DEFAULT_SCALE, PARTS};

/// How the file of the finals begins.
pub(crate) const FINALS: &str = "# The finals of the search in";

/// The configurations of an arm that go on, by number.
pub(crate) type Kept = Vec<(String, Vec<usize>)>;

/// The name of a rung's experiment; `number` is from 1.
pub(crate) fn rung_name(plan: &str, number: usize) -> String {
    format!("{plan}-rung{number}")
}

/// Where a rung's experiment is written.
pub(crate) fn rung_file(store: &Store, plan: &str, number: usize) -> PathBuf {
    store.root().join("searches").join(format!("{}.yaml", rung_name(plan, number)))
}

/// What an experiment says besides its arms.
pub(crate) struct Head<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    /// Its question.
    pub(crate) question: &'a str,
    /// The scale that its values are those of.
    pub(crate) scale: &'a str,
    /// The file of the search.
    pub(crate) file: &'a Path,
}

impl Head<'_> {
    /// The file's name, for a comment: nothing of it can end the line.
    fn file(&self) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        np_record::visible(&name).into_owned()
    }

    /// An experiment with these arms. What all of them have in common stands at the top; `rest` is what else it says.
    fn experiment(
        &self,
        comment: &str,
        mut arms: Vec<(String, Map<String, Value>)>,
        rest: Map<String, Value>,
    ) -> String {
        let mut top = Map::new();
        top.insert("name".into(), self.name.into());
        top.insert("question".into(), self.question.into());
        for part in PARTS {
            let first = arms.first().and_then(|(_, arm)| arm.get(part)).cloned();
            if let Some(shared) = first.filter(|value| arms.iter().all(|(_, arm)| arm.get(part) == Some(value))) {
                arms.iter_mut().for_each(|(_, arm)| arm.retain(|key, _| key != part));
                top.insert(part.into(), shared);
            }
        }
        let mut text = comment.to_owned() + &yaml::block(&top, 1) + &yaml::block(&rest, 2) + "arms:\n";
        for (name, arm) in arms {
            let arm = Map::from_iter([(name, Value::Object(arm))]);
            // A level deeper than they are, for the margin.
            let lines = yaml::block(&Map::from_iter([("arms".to_owned(), Value::Object(arm))]), 3);
            text += lines.strip_prefix("arms:\n").unwrap_or(&lines);
        }
        if self.scale != DEFAULT_SCALE {
            text += &format!("scales: {{{}: {{}}}}\n", self.scale);
        }
        text
    }
}

/// The text of a rung's experiment; `number` is from 1.
pub(crate) fn rung(search: &Search, head: &Head<'_>, number: usize, kept: &Kept) -> String {
    let Some(&rung) = search.rungs.get(number.wrapping_sub(1)) else { return String::new() };
    let Rung { configurations, epochs } = rung;
    let comment = format!(
        "# Rung {number} of {} of the search in `{}`, written by `np search`: {configurations} of {} configurations of every arm, {epochs} epochs each.\n",
        search.rungs.len(),
        head.file(),
        search.rungs.first().map_or(0, |first| first.configurations),
    );
    let arms = search.arms.iter().filter_map(|arm| {
        let (_, numbers) = kept.iter().find(|(name, _)| *name == arm.name)?;
        let mut parts = arm.bare.as_object().cloned().unwrap_or_default();
        put(&mut parts, "train", "epochs", epochs.into());
        let points: Vec<Value> =
            numbers.iter().filter_map(|&n| arm.points.get(n).cloned().map(Value::Object)).collect();
        parts.insert("sweep".into(), points.into());
        Some((arm.name.clone(), parts))
    });
    let mut rest = Map::new();
    rest.insert("seeds".into(), json!(search.seeds));
    rest.insert("selection".into(), "validation".into());
    if let Some(outcome) = search.outcome {
        rest.insert("outcome".into(), json!({"metric": outcome.metric, "last_epochs": search.last_epochs(rung)}));
    }
    rest.extend(search.launcher.clone().map(|launcher| ("launcher".to_owned(), launcher)));
    head.experiment(&comment, arms.collect(), rest)
}

/// The parts of a run that are its settings, as the file of the search writes them.
pub(crate) fn parts(tree: &Value) -> Map<String, Value> {
    PARTS.iter().filter_map(|part| Some(((*part).to_owned(), tree.get(part)?.clone()))).collect()
}

/// The text of the experiment that concludes: each arm with its winner's settings, which are given as the parts of a run.
pub(crate) fn finals(search: &Search, head: &Head<'_>, winners: &[(String, Map<String, Value>)]) -> String {
    let seeds = crate::seeds::in_words(search.seeds.iter().copied());
    let comment = format!(
        "{FINALS} `{}`, written by `np search`: each arm with the best of {} configurations by held-out images.\n\
         # Seeds {seeds} chose, and are no seeds of this experiment; the images that were held out are trained on.\n",
        head.file(),
        search.rungs.first().map_or(0, |first| first.configurations),
    );
    let arms = winners.iter().map(|(name, parts)| {
        let mut parts = parts.clone();
        if let Some(data) = parts.get_mut("data").and_then(Value::as_object_mut) {
            data.retain(|key, _| key != "validation");
        }
        (name.clone(), parts)
    });
    let mut rest = Map::new();
    rest.insert("seeds".into(), json!(search.final_seeds));
    if let Some(outcome) = search.outcome {
        rest.insert("outcome".into(), json!({"metric": outcome.metric, "last_epochs": outcome.last_epochs}));
    }
    let won = |arm: &str| winners.iter().any(|(name, _)| name == arm);
    let pairs: Vec<&Hypothesis> =
        search.hypotheses.iter().filter(|pair| won(&pair.arm) && won(&pair.against)).collect();
    if !pairs.is_empty() {
        rest.insert("hypotheses".into(), json!(pairs));
    }
    rest.extend(search.launcher.clone().map(|launcher| ("launcher".to_owned(), launcher)));
    head.experiment(&comment, arms.collect(), rest)
}

/// The winners as a part of an experiment: their optimizers and options, and what else was searched.
pub(crate) fn fragment(search: &Search, winners: &[(String, Map<String, Value>)]) -> String {
    let mut arms = Map::new();
    for (name, parts) in winners {
        let mut own = Map::new();
        for part in ["optimizer", "options"] {
            own.extend(parts.get(part).map(|value| (part.to_owned(), value.clone())));
        }
        let space = search.arms.iter().filter(|arm| arm.name == *name).flat_map(|arm| &arm.space);
        for key in space.filter_map(|one| one.key.strip_prefix("train.")) {
            if let Some(value) = parts.get("train").and_then(|train| train.get(key)) {
                put(&mut own, "train", key, value.clone());
            }
        }
        arms.insert(name.clone(), Value::Object(own));
    }
    yaml::block(&Map::from_iter([("arms".to_owned(), Value::Object(arms))]), 2)
}

/// Sets a key of a part, which is made if need be.
fn put(parts: &mut Map<String, Value>, part: &str, key: &str, value: Value) {
    let part = parts.entry(part).or_insert_with(|| Value::Object(Map::new()));
    if let Some(map) = part.as_object_mut() {
        map.insert(key.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        document::Document,
        spec::{Request, Spec},
    };

    const FILE: &str = "\
name: s
question: Which?
outcome: {metric: test_accuracy, last_epochs: 2}
hypotheses: [{arm: a, against: b}]
data: {name: mnist, validation: 0.2}
train: {epochs: 9}
seeds: [1, 2]
search: {method: successive_halving, seed: 5, configurations: 9, space: {optimizer.lr: {log_uniform: [0.0001, 1]}}}
arms:
  a: {optimizer: {sgd: {momentum: 0.9}}, space: {train.batch_size: {int: [16, 64]}}}
  b: {optimizer: adam, options: {schedule: cosine}}
launcher: {slurm: {partition: short}}
scales:
  cpu: {data: {source: full}, launcher: {slurm: {partition: long}}}
";

    fn spec(name: &str, text: &str, scale: &str) -> Spec {
        let file = PathBuf::from(format!("{name}.yaml"));
        let document = Document::of(&file, text.as_bytes().to_vec()).unwrap();
        Spec::of(document, &Request { file, scale: Some(scale.into()), ..Request::default() })
            .unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn a_rung_is_an_experiment_of_the_same_configurations_with_more_epochs() {
        let first = spec("s", FILE, "cpu");
        let search = first.search.clone().unwrap();
        assert_eq!(super::super::rungs::in_words(&search.rungs), "9 × 1, 3 × 3, 1 × 9");
        assert!(first.runs.iter().all(|run| run.config.train.epochs == 1));
        let kept = vec![("a".to_owned(), vec![1, 4, 7]), ("b".to_owned(), vec![0, 2, 8])];
        let head = Head { name: "s-rung2", question: "Which?", scale: "cpu", file: Path::new("x/s.yaml") };
        let text = rung(&search, &head, 2, &kept);
        let start = "# Rung 2 of 3 of the search in `s.yaml`, written by `np search`: 3 of 9 configurations of every arm, 3 epochs each.\n\
                     name: s-rung2\nquestion: Which?\n";
        // A question with a mark is quoted.
        assert!(text.starts_with(&start.replace("Which?", "\"Which?\"")), "{text}");
        let second = spec("s-rung2", &text, "cpu");
        assert_eq!((second.runs.len(), second.outcome.unwrap().last_epochs.get(), second.hypotheses.len()), (12, 2, 0));
        for (arm, numbers) in &kept {
            let of = |spec: &Spec| spec.runs.iter().filter(|run| run.arm == *arm).cloned().collect::<Vec<_>>();
            let expected = of(&first);
            let expected = numbers.iter().flat_map(|n| &expected[2 * n..2 * n + 2]);
            for (own, old) in of(&second).iter().zip(expected) {
                let mut config = old.config.clone();
                config.train.epochs = 3;
                assert_eq!((&own.config, &own.axes), (&config, &old.axes));
            }
        }
        assert_eq!(second.warnings, Vec::<String>::new());
        assert_eq!(second.launcher.slurm.partition.as_deref(), Some("long"), "launched as the search is");
    }

    #[test]
    fn finals_have_other_seeds_and_all_images() {
        let first = spec("s", FILE, "quick");
        let search = first.search.clone().unwrap();
        let winner = |arm: &str| {
            let run = first.runs.iter().rfind(|run| run.arm == arm).unwrap();
            ((arm.to_owned(), parts(&run.tree.value)), run)
        };
        let (winners, runs): (Vec<_>, Vec<_>) = ["a", "b"].map(winner).into_iter().unzip();
        let head = Head { name: "best", question: "Which is better?", scale: "quick", file: Path::new("s.yaml") };
        let text = finals(&search, &head, &winners);
        let last = spec("best", &text, "quick");
        assert_eq!(last.hypotheses.len(), 1);
        assert_eq!(last.runs.len(), 20);
        for run in &last.runs {
            let tuned = runs.iter().find(|tuned| tuned.arm == run.arm).unwrap();
            assert!((3..=12).contains(&run.config.seed), "fresh: ten after the last");
            let mut config = tuned.config.clone();
            (config.seed, config.train.epochs) = (run.config.seed, 9);
            let mut images = config.task.as_images().unwrap().clone();
            images.data.validation = None;
            config.task = crate::TaskConfig::images(images);
            assert_eq!(run.config, config);
        }
        let fragment = fragment(&search, &winners);
        assert!(fragment.starts_with("arms:\n  a: {optimizer: {sgd: {momentum: 0.9, lr: "), "{fragment}");
        assert!(fragment.contains(", train: {batch_size: "), "{fragment}");
        assert!(
            fragment.contains("  b: {optimizer: {adam: {lr: ")
                && fragment.contains("options: {schedule: {cosine: {}}}"),
            "{fragment}"
        );
    }
}
