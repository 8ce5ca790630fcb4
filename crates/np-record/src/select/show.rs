//! A selection as tables, with caveats.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Candidate, Choice, Quantity, Selection, Split};
use crate::compare::axes_text;
use crate::table::{Cell, Column, Table, words};

impl Selection {
    /// A table with a row for each arm and problem: the chosen configuration, the number of configurations, and how much their scores differ.
    #[must_use]
    pub fn table(&self) -> Table {
        let problems = self.problems();
        let score = self.score_title();
        let mut columns: Vec<Column> = problems.iter().map(|axis| Column::name(axis, axis)).collect();
        columns.extend([
            Column::name("arm", "arm"),
            Column::name("chosen", "chosen"),
            Column::number(&score, "score"),
            Column::raw("score_std"),
            Column::number("configurations", "configurations"),
            Column::number("runs", "runs"),
            Column::printed("lowest to highest"),
            Column::raw("lowest"),
            Column::raw("highest"),
        ]);
        let rows = self.choices.iter().map(|choice| {
            let mut row: Vec<Cell> = problems.iter().map(|axis| Cell::axis(choice.axes.get(axis))).collect();
            let (configurations, runs) = choice.budget();
            let best = choice.best();
            let scores = choice.scores();
            let end = |choose: fn(f64, f64) -> f64| scores.iter().copied().reduce(choose);
            let (low, high) = (end(f64::min), end(f64::max));
            let range =
                low.zip(high).map(|(low, high)| format!("{} to {}", self.quantity.text(low), self.quantity.text(high)));
            row.extend([
                Cell::name(&*choice.arm),
                best.map_or_else(|| Cell::printed("none"), |best| Cell::name(setting(&best.axes))),
                best.map_or_else(Cell::default, |best| Cell::number(printed(self.quantity, best), best.score)),
                Cell::raw(best.and_then(|best| best.std)),
                Cell::count(configurations),
                Cell::count(runs),
                Cell::printed(range.unwrap_or_else(|| "–".into())),
                Cell::raw(low),
                Cell::raw(high),
            ]);
            row
        });
        Table { title: self.title(), columns, rows: rows.collect(), notes: self.notes() }
    }

    /// A table with a row for each configuration and its score.
    #[must_use]
    pub fn candidates(&self) -> Table {
        let problems = self.problems();
        let mut columns: Vec<Column> = problems.iter().map(|axis| Column::name(axis, axis)).collect();
        columns.push(Column::name("arm", "arm"));
        columns.extend(self.tuned.iter().map(|axis| Column::name(axis, axis)));
        columns.extend([
            Column::number(&self.score_title(), "score"),
            Column::raw("score_std"),
            Column::number("runs", "runs"),
            Column::number("finished", "finished"),
            Column::number("diverged", "diverged"),
            Column::name("", "verdict"),
        ]);
        let mut rows = Vec::new();
        for choice in &self.choices {
            for (which, candidate) in choice.candidates.iter().enumerate() {
                let mut row: Vec<Cell> = problems.iter().map(|axis| Cell::axis(choice.axes.get(axis))).collect();
                row.push(Cell::name(&*choice.arm));
                row.extend(self.tuned.iter().map(|axis| Cell::axis(candidate.axes.get(axis))));
                let verdict = match candidate {
                    _ if choice.chosen == Some(which) => "chosen",
                    Candidate { competes: false, .. } => "not drawn",
                    Candidate { score: None, .. } => "not finished for every seed",
                    _ => "",
                };
                row.extend([
                    Cell::number(printed(self.quantity, candidate), candidate.score),
                    Cell::raw(candidate.std),
                    Cell::count(candidate.runs),
                    Cell::count(candidate.finished),
                    Cell::count(candidate.diverged),
                    Cell::name(verdict),
                ]);
                rows.push(row);
            }
        }
        Table { title: format!("{}: every configuration", self.title()), columns, rows, notes: self.notes() }
    }

    fn score_title(&self) -> String {
        match self.quantity {
            Quantity::Accuracy => format!("{} accuracy %", self.split.key()),
            Quantity::Loss => format!("{} loss", self.split.key()),
        }
    }

    fn title(&self) -> String {
        let axes: Vec<String> = self.tuned.iter().map(|axis| format!("`{axis}`")).collect();
        let over = match self.last_epochs.get() {
            1 => String::new(),
            n => format!(", mean of the last {n} epochs"),
        };
        format!("each arm at its best {} by {} {}{over}", axes.join(", "), self.split.key(), self.quantity.title())
    }

    /// Remarks for any table of the chosen runs: what was chosen, from how many configurations, and caveats.
    #[must_use]
    pub fn remarks(&self) -> Vec<String> {
        let chosen = self.choices.iter().filter_map(|choice| {
            let problem =
                if choice.axes.is_empty() { String::new() } else { format!(" at {}", axes_text(&choice.axes)) };
            Some(format!("`{}`{problem}: {}", choice.arm, setting(&choice.best()?.axes)))
        });
        let chosen = chosen.collect::<Vec<_>>().join("; ");
        let mut remarks: Vec<String> = self.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        remarks.extend(self.caveat().map(|caveat| format!("warning: {caveat}")));
        remarks.push(format!("{}: {chosen}", self.title()));
        remarks
    }

    /// The caveat for every result of the selection; `None` if the test split had no influence on it.
    #[must_use]
    pub fn caveat(&self) -> Option<String> {
        let most = self.choices.iter().map(|choice| choice.budget().0).max().unwrap_or(0);
        (self.split == Split::Test && most > 1).then(|| {
            format!("the best of up to {most} configurations was chosen on the test split itself: too good on average")
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
        notes.extend(self.caveat().map(|caveat| format!("warning: {caveat}")));
        if self.split == Split::Validation {
            notes.push("chosen on held-out training examples; the test split had no part in it".into());
        }
        let which = if self.last_epochs.get() == 1 { "final" } else { "late" };
        let what = self.quantity.title();
        notes.push(format!(
            "score: mean {which} {what} ± sample standard deviation over seeds, of configurations that finished for every seed; \
             lowest to highest: the scores of all that compete"
        ));
        notes
    }

    fn problems(&self) -> Vec<String> {
        let mut axes: Vec<String> = self.choices.iter().flat_map(|choice| choice.axes.keys().cloned()).collect();
        axes.sort();
        axes.dedup();
        axes
    }
}

/// `optimizer.lr = 0.1, options.schedule = cosine`
fn setting(axes: &BTreeMap<String, Value>) -> String {
    axes.iter().map(|(axis, value)| format!("{axis} = {}", words(value))).collect::<Vec<_>>().join(", ")
}

impl Quantity {
    /// A value as print has it: accuracies in percent.
    fn text(self, value: f64) -> String {
        match self {
            Self::Accuracy => format!("{:.2}", value * 100.0),
            Self::Loss => format!("{value:.4}"),
        }
    }
}

fn printed(quantity: Quantity, candidate: &Candidate) -> String {
    match (candidate.score, candidate.std) {
        (Some(score), Some(std)) => format!("{} ± {}", quantity.text(score), quantity.text(std)),
        (Some(score), None) => quantity.text(score),
        _ => "–".into(),
    }
}

/// What a reader must know of budgets and of choices at the edge of what was tried.
pub(super) fn warnings(split: Split, quantity: Quantity, choices: &[Choice]) -> Vec<String> {
    let mut out = Vec::new();
    let mut problems: Vec<&BTreeMap<String, Value>> = Vec::new();
    for choice in choices {
        if !problems.contains(&&choice.axes) {
            problems.push(&choice.axes);
        }
    }
    for problem in problems {
        let here: Vec<&Choice> = choices.iter().filter(|choice| choice.axes == *problem).collect();
        let place = if problem.is_empty() { String::new() } else { format!("{}: ", axes_text(problem)) };
        if here.iter().any(|choice| choice.budget() != here[0].budget()) {
            let budget = |choice: &&Choice| {
                let (configurations, runs) = choice.budget();
                format!("`{}` {configurations} in {runs} runs", choice.arm)
            };
            let budgets = here.iter().map(budget).collect::<Vec<_>>().join(", ");
            out.push(format!(
                "{place}tuning budgets differ (configurations: {budgets}), and who tries more finds more; `--equal-budget` draws as many for every arm"
            ));
        }
        let steps: Vec<(&str, f64)> = here.iter().filter_map(|c| Some((c.arm.as_str(), c.steps_a_run()?))).collect();
        let ends = |choose: fn(f64, f64) -> f64| steps.iter().map(|(_, steps)| *steps).reduce(choose);
        if ends(f64::min).zip(ends(f64::max)).is_some_and(|(least, most)| most > 1.01 * least) {
            let each = steps.iter().map(|(arm, steps)| format!("`{arm}` {steps:.0}")).collect::<Vec<_>>().join(", ");
            out.push(format!("{place}trainings are not equally long (mean optimizer steps a run: {each})"));
        }
        for choice in here {
            let untrained: usize = choice
                .candidates
                .iter()
                .filter(|candidate| candidate.competes)
                .map(|candidate| candidate.runs - candidate.finished - candidate.diverged)
                .sum();
            if untrained > 0 {
                let all: usize = choice.candidates.iter().filter(|c| c.competes).map(|c| c.runs).sum();
                out.push(format!(
                    "{place}`{}`: {untrained} of {all} runs have failed or are missing: the choice is among what is left",
                    choice.arm
                ));
            }
            match choice.best() {
                None => out.push(format!("{place}`{}`: no configuration finished for every seed", choice.arm)),
                Some(best) => out.extend(edges(choice, best).map(|edge| format!("{place}`{}`: {edge}", choice.arm))),
            }
        }
    }
    let few = choices.iter().filter_map(Choice::best).any(|best| best.runs == 1);
    if few {
        let (split, what) = (split.key(), quantity.title());
        out.push(format!("chosen by the {split} {what} of a single seed: another seed may well choose otherwise"));
    }
    out
}

/// Where the best value is the smallest or largest of three or more that were tried: a better one may lie beyond.
fn edges<'a>(choice: &'a Choice, best: &'a Candidate) -> impl Iterator<Item = String> + 'a {
    best.axes.iter().filter_map(|(axis, value)| {
        let competing = choice
            .candidates
            .iter()
            .filter(|candidate| candidate.competes && candidate.finished + candidate.diverged > 0);
        let mut tried: Vec<f64> = competing.filter_map(|candidate| candidate.axes.get(axis)?.as_f64()).collect();
        tried.sort_by(f64::total_cmp);
        tried.dedup();
        let value = value.as_f64()?;
        let (first, last) = (*tried.first()?, *tried.last()?);
        let edge = match tried.len() {
            3.. if value == first => "smallest",
            3.. if value == last => "largest",
            _ => return None,
        };
        Some(format!(
            "the best `{axis}`, {value}, is the {edge} of the {} tried: a better one may lie beyond",
            tried.len()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_an_experiment_would() {
        let axes = BTreeMap::from([("optimizer.lr".into(), 0.1.into()), ("options.schedule".into(), "cosine".into())]);
        assert_eq!(setting(&axes), "optimizer.lr = 0.1, options.schedule = cosine");
    }
}
