//! Parts that figures 11 to 14 share: arms with one setting each, points along an axis, forests of paired differences, and expected results.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use np_record::compare::{Difference, Measure};
use np_record::stats::Bootstrap;
use np_record::{Hypothesis, Plan, PlannedRun};
use serde_json::Value;

use super::evidence::{interval, p_alone};
use super::runs::{Runs, Summary};
use super::table::{Mark, Row};
use crate::draw::axis::{Axis, Limits};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Band, Filled, Interval, Layer, Marks, Rule, Spot};
use crate::draw::panel::{Grid, Key, Notes, Panel};
use crate::draw::theme::{self, Look, Marker};

/// Splits the names of arms that have one setting each, such as `full-10`, into the arm (`full`) and the setting, which becomes a value of `axis`. So settings are the
/// groups of a comparison, in the order of `settings`. Hypotheses are split likewise; each pair must be stated in every setting that both of its arms have.
pub(crate) fn by_setting(runs: &Runs, axis: &str, settings: &[(&str, Value)]) -> Result<Runs> {
    let place = |arm: &str| {
        let mut all = settings.iter().enumerate();
        let found = all.find_map(|(rank, (ending, _))| Some((arm.strip_suffix(ending)?.to_owned(), rank)));
        found.with_context(|| {
            let endings: Vec<String> = settings.iter().map(|(ending, _)| format!("`{ending}`")).collect();
            format!("arm `{arm}` names no setting\nhint: it should end with one of {}", endings.join(", "))
        })
    };
    let relabelled = |run: &PlannedRun| -> Result<(usize, PlannedRun)> {
        let (arm, rank) = place(&run.arm)?;
        let mut axes = run.axes.clone();
        axes.insert(axis.to_owned(), settings[rank].1.clone());
        Ok((rank, PlannedRun { arm, axes, ..run.clone() }))
    };
    let mut all = Vec::new();
    for (run, record) in &runs.runs {
        all.push((relabelled(run)?, record.clone()));
    }
    all.sort_by_key(|((rank, _), _)| *rank);
    let mut stated: Vec<(Hypothesis, BTreeSet<usize>)> = Vec::new();
    for pair in &runs.plan.hypotheses {
        let ((arm, rank), (against, other)) = (place(&pair.arm)?, place(&pair.against)?);
        if rank != other {
            bail!("hypothesis `{}` against `{}` is of two settings", pair.arm, pair.against);
        }
        match stated.iter_mut().find(|(known, _)| known.arm == arm && known.against == against) {
            Some((_, ranks)) => _ = ranks.insert(rank),
            None => stated.push((Hypothesis { arm, against, name: None }, BTreeSet::from([rank]))),
        }
    }
    for (pair, ranks) in &stated {
        let of = |arm: &String| -> BTreeSet<usize> {
            all.iter().filter(|((_, run), _)| run.arm == *arm).map(|((rank, _), _)| *rank).collect()
        };
        if of(&pair.arm).intersection(&of(&pair.against)).any(|rank| !ranks.contains(rank)) {
            bail!("hypothesis `{}` against `{}` is not stated in every setting", pair.arm, pair.against);
        }
    }
    let runs_of_plan = runs.plan.runs.iter().map(|run| Ok(relabelled(run)?.1)).collect::<Result<_>>()?;
    let hypotheses = stated.into_iter().map(|(pair, _)| pair).collect();
    let plan = Plan { runs: runs_of_plan, hypotheses, ..runs.plan.clone() };
    Ok(Runs { plan, runs: all.into_iter().map(|((_, run), record)| (run, record)).collect() })
}

/// The measure that an experiment's file fixes as its outcome; an error if it fixes none.
pub(crate) fn outcome(runs: &Runs) -> Result<Measure> {
    let outcome = runs.plan.outcome.map(np_record::StatedOutcome::measure);
    outcome.with_context(|| format!("`{}` fixes no outcome\nhint: give its file an `outcome`", runs.plan.experiment))
}

/// The paragraph beginning with `Expected` of the comment at the head of an experiment's file, if there is one.
pub(crate) fn expected(plan: &Plan) -> Option<String> {
    let comment = plan.spec.as_deref()?.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    let paragraph = comment.skip_while(|line| !line.starts_with("Expected")).take_while(|line| !line.is_empty());
    let text = paragraph.collect::<Vec<_>>().join(" ");
    let text = text.trim_start_matches("Expected").trim_start_matches([':', '.', ',']).trim();
    (!text.is_empty()).then(|| format!("**Expected** (written before the runs). {text}\n"))
}

/// The 95 % bootstrap interval of a mean; both ends are the mean if the values are too few.
pub(crate) fn ends(summary: &Summary) -> [f64; 2] {
    let values: Vec<f64> = summary.values.values().copied().collect();
    let bootstrap = Bootstrap::default();
    let found = bootstrap.interval_of_mean(&values).filter(|_| !Bootstrap::is_rough(values.len()));
    found.map_or([summary.mean; 2], |interval| [interval.low, interval.high])
}

/// Single values: x and y of each.
type Values = Vec<(f64, f64)>;

/// Runs that are plotted along a numeric axis of a plan.
pub(crate) struct Along<'a> {
    /// The runs, of one data set.
    pub(crate) runs: &'a Runs,
    /// The axis.
    pub(crate) axis: &'a str,
    /// The axis' name in the CSV.
    pub(crate) x_name: &'static str,
}

impl Along<'_> {
    /// A layer for each arm: means with intervals, joined, and single seeds beside them. At one x arms are `dodge` pixels apart.
    pub(crate) fn points(&self, panel: char, measure: Measure, dodge: f64, rows: &mut Vec<Row>) -> Result<Vec<Layer>> {
        let arms = self.runs.arms();
        let mut layers = Vec::new();
        for (i, arm) in arms.iter().enumerate() {
            let (spots, values) = self.spots(panel, arm, measure, rows)?;
            let shift = (i as f64 - (arms.len() - 1) as f64 / 2.0) * dodge;
            if !spots.is_empty() {
                layers.push(Layer::Points { look: theme::arm(arm)?, spots, values, shift, filled: Filled::All });
            }
        }
        Ok(layers)
    }

    /// A layer for each arm: a curve through the means, with their intervals as a band.
    pub(crate) fn curves(&self, panel: char, measure: Measure, rows: &mut Vec<Row>) -> Result<Vec<Layer>> {
        let mut layers = Vec::new();
        for arm in self.runs.arms() {
            let (spots, _) = self.spots(panel, &arm, measure, rows)?;
            layers.extend(curve(theme::arm(&arm)?, spots));
        }
        Ok(layers)
    }

    /// Means with intervals of an arm, and single values. All are added to `rows`.
    fn spots(&self, panel: char, arm: &str, measure: Measure, rows: &mut Vec<Row>) -> Result<(Vec<Spot>, Values)> {
        let Self { runs, axis, x_name } = *self;
        let (mut spots, mut values) = (Vec::new(), Vec::new());
        for x in runs.values(axis, Some(arm)) {
            let (data, quantity) = (runs.data(), key(measure));
            let row = |mark| {
                let (data, arm, quantity) = (data.clone(), arm.to_owned(), quantity.clone());
                Row { panel, data, arm, quantity, x_name, x, mark }
            };
            let Some(summary) = runs.where_axis(axis, &x.into())?.measured(arm, measure)? else {
                rows.push(row(Mark::Nothing));
                continue;
            };
            let [low, high] = ends(&summary);
            rows.extend(with_ends(&summary, [low, high], row));
            values.extend(summary.values.values().map(|value| (x, *value)));
            spots.push(Spot { x, mean: summary.mean, low, high });
        }
        Ok((spots, values))
    }
}

/// A curve in a band, with a marker at every mean; `None` without means.
pub(crate) fn curve(look: Look, spots: Vec<Spot>) -> Option<Layer> {
    let marks = Marks::staggered(spots.len(), 0, 1);
    (!spots.is_empty()).then_some(Layer::Curve { look, spots, band: Band::Tint, marks, fill: Fill::Solid })
}

/// Rows of the CSV: a mean with the `ends` of its interval, and every seed.
pub(crate) fn with_ends(summary: &Summary, ends: [f64; 2], row: impl Fn(Mark) -> Row) -> Vec<Row> {
    let ends = (ends[0] < ends[1]).then_some(ends);
    let mean = row(Mark::Mean { value: summary.mean, ends, n: summary.values.len() });
    [mean].into_iter().chain(summary.values.iter().map(|(&seed, &value)| row(Mark::Seed { seed, value }))).collect()
}

/// Name and unit of a measure, for the CSV.
pub(crate) fn key(measure: Measure) -> String {
    format!("{}_{}", measure.key(), if measure.unit() == "%" { "percent" } else { measure.unit() })
}

/// The name of an axis, such as `Test accuracy (%)`. Titles and captions say which epochs are averaged.
pub(crate) fn axis_name(measure: Measure) -> String {
    let title = capital(&measure.title());
    let what = title.split(',').next().unwrap_or_default();
    format!("{what} ({})", measure.unit())
}

/// A panel's key that says which epochs a measure is taken over.
pub(crate) fn over_epochs(measure: Measure) -> Key {
    Key::remark(measure.title().split_once(", ").map_or("last epoch", |(_, epochs)| epochs))
}

/// `text` with its first letter in upper case.
pub(crate) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A row of a forest plot.
pub(crate) struct Line<'a> {
    /// Its label.
    pub(crate) label: String,
    /// Colour, marker and line style.
    pub(crate) look: Look,
    /// The setting, for the CSV.
    pub(crate) setting: String,
    /// What is subtracted from what, for the CSV.
    pub(crate) arm: String,
    /// The difference; `None` if no seed has one.
    pub(crate) difference: Option<&'a Difference>,
    /// Another difference, shown in a light shade above the first, without seeds and without test.
    pub(crate) beside: Option<&'a Difference>,
}

/// The text at the right of a forest plot's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// p, adjusted by Holm's method: for differences that are hypotheses of the experiment.
    P,
    /// The mean difference: for differences that are not tested.
    Mean,
}

/// A panel of paired differences of accuracies in points, one row each.
pub(crate) fn forest(
    letter: char,
    title: &str,
    measure: Measure,
    lines: &[Line],
    told: Told,
    rows: &mut Vec<Row>,
) -> Panel {
    let mut notes = Notes { head: if told == Told::P { "p (Holm)" } else { "mean" }.into(), lines: Vec::new() };
    let (mut intervals, mut labels) = (Vec::new(), Vec::new());
    for (place, line) in lines.iter().enumerate() {
        let place = place as f64;
        labels.push(line.label.clone());
        let row = |quantity: String, mark| Row {
            panel: letter,
            data: line.setting.clone(),
            arm: line.arm.clone(),
            quantity,
            x_name: "row",
            x: place,
            mark,
        };
        let points = format!("{}_difference_points", measure.key());
        if let Some(beside) = line.beside {
            let (mean, ends) = (100.0 * beside.mean, interval(beside));
            let value = Mark::Mean { value: mean, ends, n: beside.values.len() };
            rows.push(row(format!("{points}_beside"), value));
            let light = Look { colour: theme::LIGHT, marker: Marker::Circle, ..line.look };
            intervals.push(Interval {
                look: light,
                row: place - 0.3,
                mean,
                ends,
                values: Vec::new(),
                fill: Fill::Open,
            });
        }
        let Some(difference) = line.difference else {
            notes.lines.push((place, "–".into()));
            continue;
        };
        let (mean, ends) = (100.0 * difference.mean, interval(difference));
        let values: Vec<f64> = difference.values.values().map(|d| 100.0 * d).collect();
        rows.push(row(points.clone(), Mark::Mean { value: mean, ends, n: values.len() }));
        let seeds = difference.values.iter();
        rows.extend(seeds.map(|(&seed, d)| row(points.clone(), Mark::Seed { seed, value: 100.0 * d })));
        notes.lines.push(match told {
            Told::P => {
                rows.push(row("p_holm".into(), Mark::Printed { value: difference.p_holm }));
                (place, p_alone(difference.p_holm))
            }
            Told::Mean => (place, signed(mean)),
        });
        intervals.push(Interval { look: line.look, row: place, mean, ends, values, fill: Fill::Solid });
    }
    let layers = vec![Layer::Rule(Rule { at: 0.0, look: None, band: None }), Layer::Intervals(intervals)];
    let x = Axis::linear("Difference (points)", layers.iter().flat_map(Layer::widths), Limits::ANY);
    let y = Axis::rows(labels);
    let key: Vec<Key> = Vec::new();
    Panel { title: title.into(), x, y, layers, key, grid: Grid::Rows, notes: Some(notes) }
}

/// Points with a sign, such as `+0.31`.
pub(crate) fn signed(points: f64) -> String {
    format!("{points:+.2}").replace('-', "−")
}

/// A difference of shares in points, such as `+0.31 points [+0.10, +0.52]`.
pub(crate) fn in_points(difference: &Difference) -> String {
    let mean = signed(100.0 * difference.mean);
    match interval(difference) {
        Some([low, high]) => format!("{mean} points [{}, {}]", signed(low), signed(high)),
        None => format!("{mean} points"),
    }
}

/// Removes the labels of rows from all columns of panels but the first, because their rows are the same.
pub(crate) fn label_first_column(panels: &mut [Panel], columns: usize) {
    let others = panels.iter_mut().enumerate().filter(|(i, _)| i % columns != 0);
    others.flat_map(|(_, panel)| &mut panel.y.ticks).for_each(|(_, label)| label.clear());
}

#[cfg(test)]
mod tests {
    use np_record::Hypothesis;
    use serde_json::json;

    use super::*;
    use crate::figures::tests::made_up;

    #[test]
    fn arms_are_taken_apart_into_arm_and_setting() {
        let mut runs = made_up("fig14-data-or-steps").unwrap();
        let parts = [("-100", json!(1.0)), ("-50", json!(0.5)), ("-25", json!(0.25)), ("-10", json!(0.1))];
        let apart = by_setting(&runs, "share", &parts).unwrap();
        assert_eq!(apart.arms(), ["full", "gradient-only", "coefficient-one"]);
        assert_eq!((&apart.runs[0].0.axes["share"], apart.runs.len()), (&json!(1.0), runs.runs.len()));
        let pairs: Vec<_> = apart.plan.hypotheses.iter().map(|pair| (&*pair.arm, &*pair.against)).collect();
        assert_eq!(pairs, [("full", "gradient-only"), ("full", "coefficient-one")]);
        let refused = |runs: &Runs, parts: &[(&str, Value)]| by_setting(runs, "share", parts).unwrap_err().to_string();
        assert!(
            refused(&runs, &parts[..3])
                .starts_with("arm `full-10` names no setting\nhint: it should end with one of `-100`")
        );
        runs.plan.hypotheses.pop();
        assert_eq!(
            refused(&runs, &parts),
            "hypothesis `full` against `coefficient-one` is not stated in every setting"
        );
        let (arm, against) = ("full-10".into(), "coefficient-one-25".into());
        runs.plan.hypotheses.push(Hypothesis { arm, against, name: None });
        assert_eq!(refused(&runs, &parts), "hypothesis `full-10` against `coefficient-one-25` is of two settings");
    }

    #[test]
    fn what_was_expected_is_a_paragraph_of_the_files_head() {
        let mut plan = made_up("fig14-data-or-steps").unwrap().plan;
        assert_eq!(expected(&plan), None);
        plan.spec = Some(
            "# A question?\n#\n# Expected. More,\n# and no less.\n#\n# Cost: none.\nname: a\n# Expected: not this.\n"
                .into(),
        );
        assert_eq!(expected(&plan).unwrap(), "**Expected** (written before the runs). More, and no less.\n");
    }
}
