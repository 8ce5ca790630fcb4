//! What came out, first: a sentence for each pair of arms that an experiment fixed beforehand.

use maud::{Markup, html};
use np_record::{
    Cell, Column, Table,
    compare::{Comparison, Difference},
};

use super::{markup::table, tables::settings};

/// Below it, after Holm's adjustment, a difference is told from none.
const LEVEL: f64 = 0.05;

/// The pairs of the experiments that fixed some, a row each; `None` where no test was fixed.
pub(super) fn verdicts(experiments: &[(&str, &[Comparison])]) -> Option<Table> {
    let several = experiments.iter().filter(|(_, pairs)| !pairs.is_empty()).count() > 1;
    let mut columns: Vec<Column> = several.then(|| Column::name("experiment", "experiment")).into_iter().collect();
    columns.extend(["pair", "at", "verdict"].map(|title| Column::name(title, title)));
    columns
        .extend(["difference", "95 % interval", "p (Holm)", "pairs of runs"].map(|title| Column::number(title, title)));
    let mut rows = Vec::new();
    for (experiment, pairs) in experiments {
        for pair in *pairs {
            for group in &pair.groups {
                let mut row: Vec<Cell> = several.then(|| Cell::name(*experiment)).into_iter().collect();
                let pair_of = format!("{} against {}", pair.arm, pair.baseline);
                row.extend([pair_of, settings(&group.axes), verdict(pair, group.difference.as_ref())].map(Cell::name));
                row.extend(numbers(pair, group.difference.as_ref()).map(Cell::printed));
                rows.push(row);
            }
        }
    }
    if rows.iter().all(|row| row[usize::from(several) + 1].text.is_empty()) {
        columns.remove(usize::from(several) + 1);
        rows.iter_mut().for_each(|row| drop(row.remove(usize::from(several) + 1)));
    }
    let notes = vec![format!(
        "pairs and outcome were fixed in the experiment's file before its runs; a verdict is of p below {LEVEL} after Holm's adjustment over all pairs of an experiment"
    )];
    (!rows.is_empty()).then(|| Table { title: "verdicts".into(), columns, rows, notes })
}

/// `ahead`, `behind`, or what cannot be said.
fn verdict(pair: &Comparison, difference: Option<&Difference>) -> String {
    let Some(difference) = difference else { return "no runs to compare".into() };
    if difference.smallest_p > LEVEL {
        return "too few seeds to tell".into();
    }
    match (difference.p_holm < LEVEL, (difference.mean > 0.0) == pair.metric.higher_is_better()) {
        (false, _) => "no difference shown".into(),
        (true, true) => "ahead".into(),
        (true, false) => "behind".into(),
    }
}

fn numbers(pair: &Comparison, difference: Option<&Difference>) -> [String; 4] {
    let Some(difference) = difference else { return ["–".into(), "–".into(), "–".into(), "0".into()] };
    let signed = |value: f64| {
        let text = pair.metric.text(value);
        if value >= 0.0 { format!("+{text}") } else { text.replace('-', "−") }
    };
    let unit = if pair.metric.unit() == "%" { " points" } else { "" };
    let interval = difference.interval.map_or("–".into(), |i| format!("{} to {}", signed(i.low), signed(i.high)));
    let p = match difference.p_holm {
        p if p < 0.001 => "< 0.001".into(),
        p => format!("{p:.3}"),
    };
    [format!("{}{unit}", signed(difference.mean)), interval, p, difference.values.len().to_string()]
}

/// The verdicts of all experiments of a page.
pub(super) fn overview(experiments: &[(&str, &[Comparison])]) -> Markup {
    html! { @if let Some(verdicts) = verdicts(experiments) { section #verdicts aria-label="verdicts" { (table(&verdicts, "verdicts-table")) } } }
}
