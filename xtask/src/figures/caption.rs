//! The caption of a figure: what is shown, the data and runs behind it, and its limitations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use np_record::compare::{Asked, Compared, Comparison, Format, Metric, Pairs};
use np_record::{Outcome, Record};
use serde_json::Value;

use super::Scale;
use super::runs::{Quantity, Runs, Summary};
use crate::draw::theme;

/// Names of the arm that all others are compared with; experiments use one or the other.
const SUBJECTS: [&str; 2] = ["full", "neuroplastic"];

/// Builds a caption.
pub(crate) struct Caption<'a> {
    number: u8,
    scale: Scale,
    /// The runs that the tables are about.
    runs: &'a Runs,
    /// Runs of further experiments that the figure shows.
    also: Vec<&'a Runs>,
    /// All runs that the figure shows, if the tables are about a part of them.
    made_from: Vec<&'a Runs>,
    text: String,
    tables: Vec<Section>,
    notes: Vec<String>,
    rates_are_tried: bool,
    divergence_is_shown: bool,
}

enum Section {
    Comparison(Metric),
    Made(Vec<Comparison>),
    Text(String),
    Last(Vec<Quantity>),
}

/// A table with its contents.
enum Table {
    /// Comparisons that the figure has made, one table each.
    Made(Vec<Comparison>),
    /// The experiment's tests, and a table that accompanies its outcome.
    Tests(Box<Compared>, Option<np_record::Table>),
    /// As Markdown.
    Text(String),
}

impl<'a> Caption<'a> {
    /// Begins with the figure's number and title.
    pub(crate) fn new(number: u8, title: &str, scale: Scale, runs: &'a Runs) -> Self {
        let text = format!("**Figure {number}. {title}.**");
        Self {
            number,
            scale,
            runs,
            also: Vec::new(),
            made_from: Vec::new(),
            text,
            tables: Vec::new(),
            notes: Vec::new(),
            rates_are_tried: false,
            divergence_is_shown: false,
        }
    }

    /// Adds runs of further experiments that the figure shows.
    pub(crate) fn also(mut self, runs: &[&'a Runs]) -> Self {
        self.also.extend(runs);
        self
    }

    /// Sets all runs that the figure shows, if its tables are about a part of them.
    pub(crate) fn made_from(mut self, runs: &[&'a Runs]) -> Self {
        self.made_from.extend(runs);
        self
    }

    /// Adds sentences on what is shown.
    pub(crate) fn text(mut self, text: &str) -> Self {
        let _ = write!(self.text, " {text}");
        self
    }

    /// Adds what means and bands are, and the seeds of all runs so far. Call it after [`Caption::also`], whose seeds it includes.
    pub(crate) fn bands(mut self, what: &str) -> Self {
        let mut seeds: Vec<(BTreeSet<u64>, Vec<&str>)> = Vec::new();
        let mut titles: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for (run, record) in [self.runs].into_iter().chain(self.also.iter().copied()).flat_map(|part| &part.runs) {
            titles.entry(&record.data.title).or_default().insert(run.seed);
        }
        for (title, own) in titles {
            match seeds.iter_mut().find(|(known, _)| *known == own) {
                Some((_, titles)) => titles.push(title),
                None => seeds.push((own, vec![title])),
            }
        }
        let several = seeds.len() > 1;
        let parts: Vec<String> = seeds
            .into_iter()
            .map(|(seeds, titles)| {
                let list = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
                let s = if seeds.len() == 1 { "" } else { "s" };
                let on = if several { format!(" on {}", titles.join(" and ")) } else { String::new() };
                format!("{} seed{s} ({list}){on}", seeds.len())
            })
            .collect();
        let _ = write!(self.text, " Over {}: {what}.", parts.join(" and "));
        self
    }

    /// Adds comparisons that the figure has made.
    pub(crate) fn comparisons(mut self, made: Vec<Comparison>) -> Self {
        self.tables.push(Section::Made(made));
        self
    }

    /// Adds a table in Markdown.
    pub(crate) fn table(mut self, text: String) -> Self {
        self.tables.push(Section::Text(text));
        self
    }

    /// Adds that the learning rates were tried, and are not the published one.
    pub(crate) fn rates_are_tried(mut self) -> Self {
        self.rates_are_tried = true;
        self
    }

    /// States that the figure itself shows which runs diverged.
    pub(crate) fn divergence_is_shown(mut self) -> Self {
        self.divergence_is_shown = true;
        self
    }

    /// Adds a note.
    pub(crate) fn note(mut self, text: String) -> Self {
        self.notes.push(text);
        self
    }

    /// Adds the experiment's tests of `metric`: its hypotheses, averaged over epochs as its outcome says if that is of the same metric, and the full rule
    /// against every other arm.
    pub(crate) fn comparison(mut self, metric: Metric) -> Self {
        self.tables.push(Section::Comparison(metric));
        self
    }

    /// Adds a table of these quantities in the last epoch.
    pub(crate) fn last_epoch(mut self, quantities: &[Quantity]) -> Self {
        self.tables.push(Section::Last(quantities.to_vec()));
        self
    }

    /// The whole caption, as Markdown.
    pub(crate) fn finish(self) -> Result<String> {
        let mut out = format!("{}\n", self.text);
        let mut tables = Vec::new();
        for table in &self.tables {
            tables.push(match table {
                Section::Comparison(metric) => self.tests(*metric)?,
                Section::Made(made) => Table::Made(made.clone()),
                Section::Text(text) => Table::Text(text.clone()),
                Section::Last(quantities) => Table::Text(self.last(quantities)?),
            });
        }
        // What a figure compares across experiments is a family of its own, section by section; an experiment's tests have theirs.
        for table in &mut tables {
            if let Table::Made(comparisons) = table {
                Comparison::adjust_together(comparisons.iter_mut());
            }
        }
        for table in &tables {
            let texts = match table {
                Table::Made(comparisons) => rendered(comparisons),
                Table::Tests(compared, beside) => self.tests_text(compared, beside.as_ref()),
                Table::Text(text) => vec![text.clone()],
            };
            if !texts.is_empty() {
                let _ = write!(out, "\n{}", texts.join("\n"));
            }
        }
        let _ = write!(out, "\nNotes:\n\n");
        for note in self.notes() {
            let _ = writeln!(out, "- {note}");
        }
        let _ = write!(out, "\nMade from:\n\n");
        for line in self.sources() {
            let _ = writeln!(out, "- {line}");
        }
        Ok(out)
    }

    fn tests(&self, metric: Metric) -> Result<Table> {
        let arms = self.runs.arms();
        let subject = SUBJECTS.into_iter().find(|subject| arms.iter().any(|arm| arm == subject));
        let outcome = self.runs.plan.outcome.map(np_record::StatedOutcome::measure);
        let Some(pairs) = subject.map(Pairs::Of).or_else(|| outcome.map(|_| Pairs::OfFirst)) else {
            return Ok(Table::Made(Vec::new()));
        };
        let runs = self.runs.recorded();
        let measure = outcome.filter(|outcome| outcome.metric() == metric).unwrap_or(metric.into());
        let asked = Asked { measure: Some(measure), pairs, ..Asked::default() };
        let compared = Compared::of(&self.runs.plan, &runs, &asked)?;
        let beside = compared.beside(&runs)?;
        Ok(Table::Tests(Box::new(compared), beside))
    }

    /// Tests in Markdown. If nothing in the experiment was fixed beforehand, the notes say so once, and this does not.
    fn tests_text(&self, compared: &Compared, beside: Option<&np_record::Table>) -> Vec<String> {
        let mut texts = Vec::new();
        if !compared.hypotheses.is_empty() {
            texts.push(compared.heading() + "\n");
            texts.extend(rendered(&compared.hypotheses));
        }
        texts.extend(compared.untested.iter().map(|lost| format!("{lost}\n")));
        texts.extend(beside.map(|table| table.render(Format::Markdown)));
        if !compared.exploratory.is_empty() && self.runs.plan.outcome.is_some() {
            texts.push(format!("{}\n", Compared::EXPLORATORY));
        }
        texts.extend(rendered(&compared.exploratory));
        texts
    }

    fn last(&self, quantities: &[Quantity]) -> Result<String> {
        let keys: Vec<String> = quantities.iter().map(|q| q.title()).collect();
        let mut out =
            format!("Last epoch, mean ± sample standard deviation over seeds:\n\n| arm | {} |\n", keys.join(" | "));
        let _ = writeln!(out, "| :-- | {} |", vec!["--:"; keys.len()].join(" | "));
        for arm in self.runs.arms() {
            let cells = quantities.iter().map(|quantity| {
                Ok(match self.runs.summary(&arm, *quantity)? {
                    Some(Summary { mean, std: Some(std), .. }) => format!("{mean:.3} ± {std:.3}"),
                    Some(Summary { mean, .. }) => format!("{mean:.3}"),
                    None => "-".into(),
                })
            });
            let cells: Result<Vec<String>> = cells.collect();
            let _ = writeln!(out, "| {} | {} |", theme::arm(&arm)?.label, cells?.join(" | "));
        }
        Ok(out)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let arms = self.runs.arms();
        let bounds: Vec<(&String, [f64; 2])> = arms.iter().filter_map(|arm| Some((arm, self.bounds(arm)?))).collect();
        if bounds.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            let list: Vec<String> =
                bounds.iter().map(|(arm, [low, high])| format!("`{arm}` [{low}, {high}]")).collect();
            notes.push(format!(
                "the arms differ in the bounds of α as well as in the rule ({}), as published: their difference is not the rule's alone",
                list.join(", ")
            ));
        }
        let what = if self.rates_are_tried {
            "warm-up and plasticity scale"
        } else {
            "learning rate, warm-up and plasticity scale"
        };
        notes.push(format!("{what} of NeuroPlastic are the published ones, which were selected on the MNIST test set"));
        let compares = |section: &Section| matches!(section, Section::Comparison(_));
        if self.tables.iter().any(compares) && self.runs.plan.outcome.is_none() {
            notes.push(format!(
                "{}; p is adjusted over the tests of this experiment by the same number; figure 9 adjusts over all settings and controls",
                Compared::EXPLORATORY
            ));
        }
        if !self.divergence_is_shown {
            notes.extend(self.diverged());
        }
        let parts = [self.runs].into_iter().chain(self.also.iter().copied()).flat_map(|part| &part.runs);
        if parts.into_iter().any(|(_, record)| record.data.title.contains("(JPEG)")) {
            notes.push("CIFAR-10 (JPEG): decoded from JPEG copies of the images, whose pixels differ a little from the original ones".into());
        }
        let every = self.made_from.iter().copied().chain([self.runs]).chain(self.also.iter().copied());
        let records = every.flat_map(|part| &part.runs).map(|(_, record)| record);
        let foreign: BTreeSet<String> =
            records.filter_map(|record| record.data.standing.remark(&record.data.title)).collect();
        notes.extend(foreign);
        if self.scale == Scale::Quick {
            notes.push(
                "`quick` is a small sample of the data: it shows that the machinery works, not what the paper claims"
                    .into(),
            );
        }
        notes
    }

    /// Notes on runs that diverged.
    fn diverged(&self) -> Vec<String> {
        let diverged = self.runs.runs.iter().filter_map(|(run, record)| match record.outcome {
            Outcome::Diverged { epoch, .. } => Some((run, epoch)),
            _ => None,
        });
        let diverged: Vec<_> = diverged.collect();
        const MEANS: &str = "up to the epoch before, and in no mean of last epochs";
        if diverged.len() > 6 {
            let mut arms: BTreeMap<&str, usize> = BTreeMap::new();
            diverged.iter().for_each(|(run, _)| *arms.entry(&run.arm).or_default() += 1);
            let list: Vec<String> = arms.iter().map(|(arm, count)| format!("{count} of `{arm}`")).collect();
            return vec![format!("{} runs diverged ({}); they count {MEANS}", diverged.len(), list.join(", "))];
        }
        let told = diverged.iter().map(|(run, epoch)| {
            let axes: String = run.axes.iter().map(|(key, value)| format!(", `{key}` = `{value}`")).collect();
            format!("`{}`, seed {}{axes}: diverged in epoch {epoch}; it counts {MEANS}", run.arm, run.seed)
        });
        told.collect()
    }

    /// Lower and upper bound of α in the configuration of an arm, if its optimizer has them and they differ.
    fn bounds(&self, arm: &str) -> Option<[f64; 2]> {
        let (run, _) = self.runs.runs.iter().find(|(run, _)| run.arm == arm)?;
        let coefficient = find(&run.config, "coefficient")?;
        let [low, high] = [coefficient.get("min")?.as_f64()?, coefficient.get("max")?.as_f64()?];
        (low < high).then_some([low, high])
    }

    fn sources(&self) -> Vec<String> {
        let own = if self.made_from.is_empty() { vec![self.runs] } else { self.made_from.clone() };
        let parts: Vec<&Runs> = own.into_iter().chain(self.also.iter().copied()).collect();
        let records: Vec<&Record> = parts.iter().flat_map(|part| &part.runs).map(|(_, record)| record).collect();
        let every = |of: &dyn Fn(&Record) -> String| -> String {
            let all: BTreeSet<String> = records.iter().map(|record| of(record)).collect();
            all.into_iter().collect::<Vec<_>>().join("; ")
        };
        let mut data: BTreeMap<(&str, &str), (BTreeSet<usize>, usize)> = BTreeMap::new();
        for r in &records {
            let entry = data.entry((&r.data.title, &r.data.digest)).or_default();
            entry.0.insert(r.data.train_examples);
            entry.1 = r.data.test_examples;
        }
        let mut lines: Vec<String> = Vec::new();
        for part in &parts {
            let (name, question) = (&part.plan.experiment, &part.plan.question);
            lines.push(format!(
                "scale `{}`, experiment `{name}`, {} runs: {question}",
                self.scale,
                part.plan.runs.len()
            ));
        }
        for ((title, digest), (train, test)) in data {
            let train = train.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
            let digest: String = digest.chars().take(12).collect();
            lines.push(format!("data: {title}, digest `{digest}`; {train} training and {test} test examples"));
        }
        lines.push(format!(
            "model: {}; {} epochs",
            every(&|r| format!("{} ({} parameters)", r.model.title, r.model.parameters)),
            epochs(&parts)
        ));
        lines.push(format!("commit: {}", every(&commit)));
        let machine = |r: &Record| {
            let machine = &r.provenance.machine;
            let s = if r.provenance.threads == 1 { "" } else { "s" };
            let gpu = machine.gpu.as_ref().map(|gpu| format!("; {gpu}")).unwrap_or_default();
            format!(
                "{}, {} cores, {}, {} thread{s} a run{gpu}",
                machine.cpu, machine.cores, machine.os, r.provenance.threads
            )
        };
        lines.push(format!("machine: {}", every(&machine)));
        lines.push(format!("redraw: `cargo xtask figures --scale {} --only {}`", self.scale, self.number));
        lines
    }
}

fn rendered(comparisons: &[Comparison]) -> Vec<String> {
    comparisons.iter().map(|comparison| comparison.render(Format::Markdown)).collect()
}

/// The epochs of the longest run of each experiment, in words.
fn epochs(parts: &[&Runs]) -> String {
    let all: BTreeSet<usize> = parts.iter().map(|part| part.epochs()).collect();
    all.iter().map(usize::to_string).collect::<Vec<_>>().join(" or ")
}

fn commit(record: &Record) -> String {
    let Some(commit) = &record.provenance.commit else { return "unknown".into() };
    let short: String = commit.chars().take(12).collect();
    match record.provenance.dirty {
        Some(false) => format!("`{short}`"),
        Some(true) => format!("`{short}` with uncommitted changes"),
        None => format!("`{short}`, perhaps with uncommitted changes"),
    }
}

/// The first object under a key, at any depth.
fn find<'v>(value: &'v Value, key: &str) -> Option<&'v Value> {
    let map = value.as_object()?;
    map.get(key).or_else(|| map.values().find_map(|inner| find(inner, key)))
}
