//! What came out, first: a row for each pair of arms that an experiment fixed beforehand.

use maud::{Markup, html};
use np_record::{
    Cell, Column, Table,
    compare::{Comparison, Verdict},
};

use super::{markup::table, tables::settings};

/// Of the columns of a comparison, after its axes: difference, interval, adjusted p, and pairs of runs.
const SHOWN: [usize; 4] = [3, 4, 6, 2];

/// The verdicts of the experiments of a page; nothing where none fixed a pair.
pub(super) fn overview(experiments: &[(&str, &[Comparison])]) -> Markup {
    html! { @if let Some(verdicts) = verdicts(experiments) { section #verdicts aria-label="verdicts" { (table(&verdicts, "verdicts-table")) } } }
}

fn verdicts(experiments: &[(&str, &[Comparison])]) -> Option<Table> {
    let pairs = || experiments.iter().flat_map(|(name, pairs)| pairs.iter().map(move |pair| (*name, pair)));
    let is_placed = pairs().flat_map(|(_, pair)| &pair.groups).any(|group| !group.axes.is_empty());
    let of_several = experiments.len() > 1;
    let names = [(of_several, "experiment"), (true, "pair"), (is_placed, "at"), (true, "verdict")];
    let mut columns: Vec<Column> =
        names.iter().filter(|(is_shown, _)| *is_shown).map(|(_, title)| Column::name(title, title)).collect();
    let mut rows = Vec::new();
    for (experiment, pair) in pairs() {
        let told = pair.table();
        let from = told.columns.len() - Comparison::COLUMNS;
        if rows.is_empty() {
            columns.extend(SHOWN.map(|place| told.columns[from + place].clone()));
        }
        let verdict = |difference| Verdict::of(difference, pair.metric.higher_is_better()).to_string();
        for (group, cells) in pair.groups.iter().zip(&told.rows) {
            let words = [
                experiment.to_owned(),
                format!("{} against {}", pair.arm, pair.baseline),
                settings(&group.axes),
                group.difference.as_ref().map_or_else(|| "no runs to compare".to_owned(), &verdict),
            ];
            let shown = names.iter().zip(words).filter(|((is_shown, _), _)| *is_shown);
            let mut row: Vec<Cell> = shown.map(|(_, word)| Cell::name(word)).collect();
            row.extend(SHOWN.map(|place| cells[from + place].clone()));
            rows.push(row);
        }
    }
    let notes = vec![format!(
        "pairs and outcome were fixed in the experiment's file before its runs; a verdict is of p below {} after Holm's adjustment over all pairs of an experiment",
        Verdict::LEVEL
    )];
    (!rows.is_empty()).then(|| Table { title: "verdicts".into(), columns, rows, notes })
}
