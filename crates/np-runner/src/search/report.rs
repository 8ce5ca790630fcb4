//! What a search says at its end: how much was tried, what was dropped where, what won, and what speaks against it.

use np_record::{
    Cell, Column, Table,
    stats::{Bootstrap, Interval},
    words,
};
use serde_json::{Map, Value, json};

use super::{
    Arm, Search,
    prune::Ranked,
    rungs::{Method, Rung},
    space::End,
};
use crate::say::count;

/// What a rung gave.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Climbed {
    /// The rung.
    pub(crate) rung: Rung,
    /// Its configurations, arm by arm, the best first.
    pub(crate) arms: Vec<(String, Vec<Ranked>)>,
}

impl Climbed {
    fn of(&self, arm: &str) -> &[Ranked] {
        self.arms.iter().find(|(name, _)| name == arm).map_or(&[], |(_, ranked)| ranked)
    }
}

/// A search that has ended.
pub(crate) struct Ended<'a> {
    /// Name of its plan.
    pub(crate) name: &'a str,
    /// The search.
    pub(crate) search: &'a Search,
    /// Its rungs.
    pub(crate) rungs: &'a [Climbed],
}

impl Ended<'_> {
    /// The winner of an arm: the best of the last rung that finished for every seed.
    pub(crate) fn winner(&self, arm: &str) -> Option<&Ranked> {
        self.rungs.last()?.of(arm).iter().find(|one| one.diverged == 0)
    }

    /// The configurations of an arm that a rung dropped; of the last rung all but the winner stay behind, and none is dropped.
    fn dropped(&self, arm: &str) -> Vec<(Rung, &[Ranked])> {
        let next = self.rungs.iter().skip(1).map(|next| next.rung.configurations);
        self.rungs
            .iter()
            .zip(next)
            .map(|(climbed, kept)| (climbed.rung, climbed.of(arm).get(kept..).unwrap_or_default()))
            .collect()
    }

    /// One row an arm.
    pub(crate) fn table(&self) -> Table {
        let columns = vec![
            Column::name("arm", "arm"),
            Column::number("configurations", "configurations"),
            Column::number("epochs of training", "epochs"),
            Column::printed("dropped"),
            Column::raw("dropped"),
            Column::raw("dropped_not_told_apart"),
            Column::name("best", "best"),
            Column::raw("configuration"),
            Column::number("validation accuracy %", "score"),
            Column::raw("score_std"),
            Column::printed("interval"),
            Column::raw("interval_low"),
            Column::raw("interval_high"),
        ];
        let rows = self.search.arms.iter().map(|arm| self.row(arm)).collect();
        Table { title: self.title(), columns, rows, notes: self.notes() }
    }

    fn row(&self, arm: &Arm) -> Vec<Cell> {
        let dropped = self.dropped(&arm.name);
        let text: Vec<String> =
            dropped.iter().map(|(rung, out)| format!("{} at {}", out.len(), epochs(*rung))).collect();
        let all: Vec<&Ranked> = dropped.iter().flat_map(|(_, out)| *out).collect();
        let alike = all.iter().filter(|one| !one.is_told_apart()).count();
        let (winner, point) = (self.winner(&arm.name), |one: &Ranked| arm.points.get(one.configuration));
        let best = winner.and_then(point);
        vec![
            Cell::name(&*arm.name),
            Cell::count(arm.points.len()),
            Cell::count(usize::try_from(self.search.budget()).unwrap_or(usize::MAX)),
            Cell::printed(if text.is_empty() { "–".into() } else { text.join(", ") }),
            Cell::raw(all.len()),
            Cell::raw(alike),
            Cell { text: best.map_or_else(|| "none".into(), setting), raw: json!(best) },
            Cell::raw(json!(winner.map(|one| one.configuration))),
            winner.map_or_else(Cell::default, |one| Cell::number(percent(one), Some(one.mean))),
            Cell::raw(json!(winner.and_then(|one| one.std))),
            Cell::printed(ends(winner.and_then(|one| one.interval), "–")),
            Cell::raw(json!(winner.and_then(|one| one.interval).map(|interval| interval.low))),
            Cell::raw(json!(winner.and_then(|one| one.interval).map(|interval| interval.high))),
        ]
    }

    /// One row a configuration and rung.
    pub(crate) fn configurations(&self) -> Table {
        let columns = vec![
            Column::name("arm", "arm"),
            Column::number("epochs", "epochs"),
            Column::number("no.", "configuration"),
            Column::name("configuration", "values"),
            Column::number("validation accuracy %", "score"),
            Column::raw("score_std"),
            Column::number("diverged", "diverged"),
            Column::printed("behind the best"),
            Column::raw("behind"),
            Column::raw("behind_low"),
            Column::raw("behind_high"),
            Column::name("", "verdict"),
        ];
        let mut rows = Vec::new();
        for arm in &self.search.arms {
            for (at, climbed) in self.rungs.iter().enumerate() {
                let kept = self.rungs.get(at + 1).map(|next| next.rung.configurations);
                for (place, one) in climbed.of(&arm.name).iter().enumerate() {
                    let point = arm.points.get(one.configuration);
                    let verdict = match (kept, place) {
                        (None, _) if self.winner(&arm.name) == Some(one) => "best",
                        (None, _) => "",
                        (Some(kept), place) if place < kept => "goes on",
                        _ if one.is_told_apart() => "dropped",
                        _ => "dropped, not told apart",
                    };
                    let behind = one.behind_interval.filter(|_| place > 0);
                    rows.push(vec![
                        Cell::name(&*arm.name),
                        Cell::count(climbed.rung.epochs as usize),
                        Cell::count(one.configuration),
                        Cell { text: point.map_or_else(String::new, setting), raw: json!(point) },
                        Cell::number(percent(one), Some(one.mean)),
                        Cell::raw(json!(one.std)),
                        Cell::count(one.diverged),
                        Cell::printed(if place == 0 {
                            String::new()
                        } else {
                            format!("{:.2} ({})", one.behind * 100.0, ends(behind, "–"))
                        }),
                        Cell::raw(one.behind),
                        Cell::raw(json!(behind.map(|interval| interval.low))),
                        Cell::raw(json!(behind.map(|interval| interval.high))),
                        Cell::name(verdict),
                    ]);
                }
            }
        }
        Table {
            title: format!("{}: every configuration at every rung", self.title()),
            columns,
            rows,
            notes: self.notes(),
        }
    }

    fn title(&self) -> String {
        let over = match self.rungs.last().map(|last| self.search.last_epochs(last.rung).get()) {
            None | Some(1) => String::new(),
            Some(n) => format!(", mean of the last {n} epochs"),
        };
        let n = self.search.rungs.first().map_or(0, |rung| rung.configurations);
        format!("{}: each arm's best of {n} configurations by validation accuracy{over}", self.name)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.warnings();
        notes.push(format!("budget: {}", self.search.budget_in_words()));
        if self.search.method == Method::SuccessiveHalving {
            let all: Vec<&Ranked> =
                self.search.arms.iter().flat_map(|arm| self.dropped(&arm.name)).flat_map(|(_, out)| out).collect();
            let alike = all.iter().filter(|one| !one.is_told_apart()).count();
            notes.push(format!(
                "{} dropped, by the mean over the seeds of the paired difference to the rung's best; the interval of {alike} of these differences holds 0: \
                 such a configuration may well be as good",
                count(all.len(), "configuration")
            ));
        }
        let seeds = self.search.seeds.len();
        let rough = match (Bootstrap::default().is_range(seeds), Bootstrap::is_rough(seeds)) {
            (true, _) => format!("; of {seeds} seeds it is their range"),
            (_, true) => format!("; of {seeds} seeds it is too short"),
            _ => String::new(),
        };
        notes.push(format!("interval: 95 % bootstrap of the mean over the seeds{rough}"));
        notes.push("the best of many is too good on average, on its seeds and its held-out images: conclude with the file that `--out` writes".into());
        notes
    }

    /// What speaks against the winners.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for arm in &self.search.arms {
            let Some(winner) = self.winner(&arm.name) else {
                warnings.push(format!(
                    "warning: `{}`: no configuration of the last rung finished for every seed",
                    arm.name
                ));
                continue;
            };
            for one in &arm.space {
                let value = arm.points.get(winner.configuration).and_then(|point| point.get(&one.key));
                let Some((value, end)) = value.and_then(|value| Some((value, one.values.edge(value)?))) else {
                    continue;
                };
                let end = if end == End::Low { "lower" } else { "upper" };
                warnings.push(format!(
                    "warning: `{}`: the best `{}`, {}, lies at the {end} edge of its space ({}): a better one may lie beyond",
                    arm.name,
                    one.key,
                    words(value),
                    one.values.in_words()
                ));
            }
        }
        warnings
    }
}

fn epochs(rung: Rung) -> String {
    count(rung.epochs as usize, "epoch")
}

/// `optimizer.lr = 0.1, train.batch_size = 32`
pub(crate) fn setting(point: &Map<String, Value>) -> String {
    point.iter().map(|(key, value)| format!("{key} = {}", words(value))).collect::<Vec<_>>().join(", ")
}

fn percent(one: &Ranked) -> String {
    match one.std {
        Some(std) => format!("{:.2} ± {:.2}", one.mean * 100.0, std * 100.0),
        None => format!("{:.2}", one.mean * 100.0),
    }
}

fn ends(interval: Option<Interval>, none: &str) -> String {
    interval
        .map_or_else(|| none.to_owned(), |Interval { low, high }| format!("{:.2} to {:.2}", low * 100.0, high * 100.0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use np_record::compare::Format;

    use super::*;
    use crate::search::{
        prune::{Tried, rank},
        space::{Dimension, Values},
    };

    fn search() -> Search {
        let arm = |name: &str| {
            let point = |lr: f64| Map::from_iter([("optimizer.lr".to_owned(), Value::from(lr))]);
            let space =
                vec![Dimension { key: "optimizer.lr".into(), values: Values::LogUniform([0.001, 1.0]), path: vec![] }];
            Arm { name: name.into(), space, points: vec![point(0.0011), point(0.03), point(0.9)], bare: Value::Null }
        };
        Search {
            method: Method::SuccessiveHalving,
            seeds: vec![1, 2],
            final_seeds: vec![3],
            rungs: vec![Rung { configurations: 3, epochs: 1 }, Rung { configurations: 1, epochs: 3 }],
            outcome: None,
            hypotheses: vec![],
            launcher: None,
            arms: vec![arm("a"), arm("b")],
        }
    }

    fn ranked(scores: &[(usize, [Option<f64>; 2])]) -> Vec<Ranked> {
        let tried = |(configuration, scores): &(usize, [Option<f64>; 2])| Tried {
            configuration: *configuration,
            scores: BTreeMap::from([(1, scores[0]), (2, scores[1])]),
        };
        rank(&scores.iter().map(tried).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_report_counts_what_was_tried_and_warns_of_edges() {
        let search = search();
        let first = |best: usize| {
            ranked(&[
                (best, [Some(0.8), Some(0.9)]),
                ((best + 1) % 3, [Some(0.78), Some(0.91)]),
                ((best + 2) % 3, [Some(0.1), None]),
            ])
        };
        let rungs = [
            Climbed { rung: search.rungs[0], arms: vec![("a".into(), first(2)), ("b".into(), first(1))] },
            Climbed {
                rung: search.rungs[1],
                arms: vec![
                    ("a".into(), ranked(&[(2, [Some(0.9), Some(0.92)])])),
                    ("b".into(), ranked(&[(1, [Some(0.9), None])])),
                ],
            },
        ];
        let ended = Ended { name: "s", search: &search, rungs: &rungs };
        let text = ended.table().render(Format::Text);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "s: each arm's best of 3 configurations by validation accuracy");
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        // 3 × 1 × 2 + 1 × 3 × 2 epochs; 0.9 and 0.92: mean 0.91, standard deviation 0.0141, range.
        assert_eq!(words(lines[3]), "a 3 12 2 at 1 epoch optimizer.lr = 0.9 91.00 ± 1.41 90.00 to 92.00");
        assert_eq!(words(lines[4]), "b 3 12 2 at 1 epoch none –");
        assert!(text.contains("warning: `a`: the best `optimizer.lr`, 0.9, lies at the upper edge of its space (0.001 to 1, on a logarithmic scale)"), "{text}");
        assert!(text.contains("warning: `b`: no configuration of the last rung finished for every seed"), "{text}");
        assert!(text.contains("budget: the same for every arm: 3 configurations and 12 epochs of training (3 × 1, 1 × 3 configurations × epochs, 2 seeds each)"), "{text}");
        // Of each arm the second, behind the best by 0.02 and by −0.01.
        assert!(
            text.contains("4 configurations dropped")
                && text.contains("the interval of 2 of these differences holds 0"),
            "{text}"
        );
        assert!(text.contains("of 2 seeds it is their range"), "{text}");

        let all = ended.configurations();
        let verdicts: Vec<&str> = all.rows.iter().map(|row| row[11].text.as_str()).collect();
        let arm = ["goes on", "dropped, not told apart", "dropped"];
        assert_eq!(verdicts, [&arm[..], &["best"], &arm, &[""]].concat());
        let winner = |scores: &[(usize, [Option<f64>; 2])]| {
            let rung = Climbed { rung: search.rungs[1], arms: vec![("a".into(), ranked(scores))] };
            let ended = Ended { name: "s", search: &search, rungs: &[rung] };
            ended.winner("a").map(|one| one.configuration)
        };
        assert_eq!(winner(&[(0, [Some(0.9), None]), (1, [Some(0.4), Some(0.4)])]), Some(1), "the first diverged once");
        assert_eq!(winner(&[(0, [Some(0.9), None])]), None);
        let json = all.json();
        assert_eq!(json["rows"][2]["diverged"], 1);
        assert_eq!(json["rows"][1]["values"], json!({"optimizer.lr": 0.0011}));
    }
}
