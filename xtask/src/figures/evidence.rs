//! Figure 9: the paired difference between the full rule and its ablation, in every setting, with five controls.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail};
use np_record::compare::{Comparison, Difference, Group, Metric, Question};
use np_record::select::Selection;
use np_record::stats::{self, Bootstrap};
use np_record::{PlannedRun, Record, Standing};

use super::caption::Caption;
use super::runs::{Quantity, Runs, check_alike, fraction_of};
use super::table::{Mark, Row, long_format};
use super::{Figure, Scale};
use crate::draw::axis::{Axis, Limits, percent};
use crate::draw::canvas::Fill;
use crate::draw::chart::{Interval, Layer, Rule};
use crate::draw::panel::{self, Grid, Key, Layout, Notes, Panel};
use crate::draw::theme::{self, PANEL_WIDTH};

/// Height of a row, in pixels.
const ROW: f64 = 112.0;
/// The ending of a setting's name if its model is not an MLP.
const RESNET: &str = ", ResNet";
/// The published learning rate.
const PUBLISHED: f64 = 0.1;
/// The axis whose values are the settings' names.
const SETTING: &str = "setting";

/// The experiments that the figure is drawn from, in the order of [`Sources::of`].
pub(crate) const EXPERIMENTS: [&str; 7] = [
    "fig2-sanity",
    "fig3-low-data",
    "fig5-transfer",
    "fig9-matched-step",
    "fig9-matched-step-cifar",
    "fig9-best-rate",
    "fig9-best-rate-cifar",
];

/// The runs of [`EXPERIMENTS`].
pub(crate) struct Sources<'a> {
    /// Those of figure 2.
    pub(crate) sanity: &'a Runs,
    /// Those of figure 3.
    pub(crate) low_data: &'a Runs,
    /// Those of figure 5.
    pub(crate) transfer: &'a Runs,
    /// The ablation at matched step size, on the MLP's tasks and on the task of figure 5.
    pub(crate) steps: [&'a Runs; 2],
    /// Both arms at several learning rates, on the MLP's tasks and on the task of figure 5.
    pub(crate) rates: [&'a Runs; 2],
}

impl<'a> Sources<'a> {
    /// From the runs of [`EXPERIMENTS`], in the same order.
    pub(crate) fn of(runs: &[&'a Runs]) -> Result<Self> {
        let &[sanity, low_data, transfer, step, step_cifar, rate, rate_cifar] = runs else {
            bail!("figure 9 is drawn from {} experiments, not from {}", EXPERIMENTS.len(), runs.len())
        };
        Ok(Self { sanity, low_data, transfer, steps: [step, step_cifar], rates: [rate, rate_cifar] })
    }
}

/// The controls: what is held equal, and the ablation's name under it. The last control has another arm in place of the ablation.
pub(crate) const CONTROLS: [(&str, &str); 5] = [
    ("as published", "gradient-only"),
    ("matched bounds", "gradient-only-matched"),
    ("matched step size", "gradient-only-step"),
    ("own best rates", "gradient-only-tuned"),
    ("coefficient 1", "coefficient-one"),
];

/// Draws the figure.
pub(crate) fn draw(scale: Scale, sources: &Sources) -> Result<Figure> {
    let evidence = Evidence::gather(sources)?;
    let mut rows = Vec::new();
    // A panel a control for the tasks of the MLP; one more for the other task, whose differences are far larger.
    let other = evidence.settings.last().cloned().unwrap_or_default();
    let usual = &evidence.settings[..evidence.settings.len().saturating_sub(1)];
    let marks = |control: usize, setting: &str| evidence.mark(control, setting);
    let moved = |setting: &str, arm: &str| arm == CONTROLS[3].1 && evidence.moved.iter().any(|known| known == setting);
    let mut panels = Vec::new();
    let usual_axis =
        evidence.axis((0..CONTROLS.len()).flat_map(|i| usual.iter().filter_map(move |setting| marks(i, setting))));
    for (i, (control, _)) in CONTROLS.iter().enumerate() {
        let marks: Vec<_> = usual.iter().map(|setting| marks(i, setting)).collect();
        let labels = usual.to_vec();
        panels.push(panel(panels.len(), control, usual_axis.clone(), labels, &marks, &moved, &mut rows)?);
    }
    let there: Vec<_> =
        (0..CONTROLS.len()).filter_map(|i| Some((CONTROLS[i].0.to_owned(), marks(i, &other)?))).collect();
    let axis = evidence.axis(there.iter().map(|(_, found)| *found));
    let (labels, marks): (Vec<_>, Vec<_>) = there.into_iter().map(|(label, found)| (label, Some(found))).unzip();
    panels.push(panel(panels.len(), &other, axis, labels, &marks, &moved, &mut rows)?);

    let counts = [usual.len(), usual.len(), usual.len().max(marks.len())];
    panels.iter_mut().for_each(|panel| panel.key = vec![Key::from(0.0, "full rule better →")]);
    if let Some(last) = panels.last_mut() {
        last.key.push(Key::marker(Fill::Open, "rate ≠ 0.1"));
    }
    let layout = Layout::of_rows(2, PANEL_WIDTH, &counts, ROW);
    let drawing = panel::figure("Figure 9: evidence", &panels, layout, &[])?;
    let caption = evidence.caption(scale, sources)?;
    Ok(Figure { name: "fig9", drawing, table: long_format(&rows), caption })
}

/// A difference, with the name of the arm that is subtracted and the setting.
pub(crate) type Found<'a> = (&'static str, &'a Group, &'a Difference);

/// A panel with a row for each of `found`; its marker is open where a rate has `moved` from the published one, by setting and arm.
fn panel(
    index: usize,
    title: &str,
    x: Axis,
    labels: Vec<String>,
    found: &[Option<Found>],
    moved: &dyn Fn(&str, &str) -> bool,
    rows: &mut Vec<Row>,
) -> Result<Panel> {
    let (mut intervals, mut notes) = (Vec::new(), Notes { head: "p (Holm)".into(), lines: Vec::new() });
    for (row, found) in found.iter().enumerate() {
        let row = row as f64;
        let Some((arm, group, difference)) = found else {
            notes.lines.push((row, "none".into()));
            continue;
        };
        let (mean, ends) = (100.0 * difference.mean, interval(difference));
        let values: Vec<f64> = difference.values.values().map(|d| 100.0 * d).collect();
        let at = |quantity: &str, mark| Row {
            panel: char::from(b'A' + index as u8),
            data: setting_of(group),
            arm: format!("full − {arm}"),
            quantity: quantity.into(),
            x_name: "row",
            x: row,
            mark,
        };
        let points = "test_accuracy_difference_points";
        rows.push(at(points, Mark::Mean { value: mean, ends, n: values.len() }));
        rows.extend(difference.values.iter().map(|(&seed, d)| at(points, Mark::Seed { seed, value: 100.0 * d })));
        rows.push(at("p_holm", Mark::Printed { value: difference.p_holm }));
        notes.lines.push((row, p_alone(difference.p_holm)));
        let fill = if moved(&setting_of(group), arm) { Fill::Open } else { Fill::Solid };
        intervals.push(Interval { look: theme::arm(arm)?, row, mean, ends, values, fill });
    }
    let layers = vec![Layer::Rule(Rule { at: 0.0, look: None, band: None }), Layer::Intervals(intervals)];
    let (title, y) = (title.to_owned(), Axis::rows(labels));
    Ok(Panel { title, x, y, layers, key: Vec::new(), grid: Grid::Rows, notes: Some(notes) })
}

/// The ends of the interval in points; `None` where the pairs are too few for one.
pub(crate) fn interval(difference: &Difference) -> Option<[f64; 2]> {
    let interval = difference.interval.filter(|_| !Bootstrap::is_rough(difference.values.len()))?;
    Some([100.0 * interval.low, 100.0 * interval.high])
}

/// p with two or three significant digits, such as `0.033`; never a bare zero.
pub(crate) fn p_alone(p: f64) -> String {
    match p {
        ..0.001 => format!("{p:.1e}"),
        ..0.0995 => format!("{p:.3}"),
        1.0.. => "1".into(),
        _ => format!("{p:.2}"),
    }
}

/// p, and the adjusted p in brackets: `0.033 (0.37)`.
pub(crate) fn p_text(p: f64, holm: f64) -> String {
    format!("{} ({})", p_alone(p), p_alone(holm))
}

fn setting_of(group: &Group) -> String {
    group.axes.get(SETTING).and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

/// What the figure shows, before it is drawn.
pub(crate) struct Evidence {
    /// One comparison for each of [`CONTROLS`], in the same order. Their p values are adjusted as one family.
    pub(crate) comparisons: Vec<Comparison>,
    /// The settings, the MLP's first.
    pub(crate) settings: Vec<String>,
    selections: Vec<Selection>,
    /// The settings in which an arm's own best rate is not the published one.
    pub(crate) moved: Vec<String>,
    /// For each setting: the mean effective update norm times the learning rate, of the ablation as published and at matched step size, as fractions of the full rule's.
    pub(crate) steps: Vec<(String, f64, f64)>,
}

impl Evidence {
    /// The difference under a control in a setting.
    pub(crate) fn mark(&self, control: usize, setting: &str) -> Option<Found<'_>> {
        let group = self.comparisons.get(control)?.groups.iter().find(|group| setting_of(group) == setting)?;
        Some((CONTROLS[control].1, group, group.difference.as_ref()?))
    }

    /// An axis that holds all of these, and zero.
    fn axis<'a>(&self, found: impl Iterator<Item = Found<'a>>) -> Axis {
        let values = found.flat_map(|(_, _, difference)| {
            let ends = interval(difference).into_iter().flatten();
            difference.values.values().map(|d| 100.0 * d).chain([100.0 * difference.mean]).chain(ends)
        });
        Axis::linear("Full rule − other arm (points)", values.chain([0.0]), Limits::ANY)
    }

    /// Pairs the runs of all experiments.
    pub(crate) fn gather(sources: &Sources) -> Result<Self> {
        let Sources { sanity, low_data, transfer, steps, rates } = sources;
        let published = Pool::of([*sanity, *low_data, *transfer], |run| run.arm == "full", "full");
        let of_the_mlp = Pool::of([*sanity, *low_data], |run| run.arm == "full", "full");
        let baseline = |arm: &'static str| Pool::of([*sanity, *low_data, *transfer], move |run| run.arm == arm, arm);
        let step = Pool::of(*steps, |_| true, "gradient-only-step");
        let (mut own, mut selections) = (Pool::default(), Vec::new());
        let mut tuned = Pool::default();
        for part in rates {
            let (best, selection) = part.selected()?;
            own.extend(&best, |run| run.arm == "full", "full");
            tuned.extend(&best, |run| run.arm == "gradient-only", "gradient-only-tuned");
            selections.push(selection);
        }
        let (ablation, matched) = (baseline("gradient-only"), baseline("gradient-only-matched"));
        let mut comparisons = vec![
            published.against(&ablation)?,
            published.against(&matched)?,
            published.against(&step)?,
            own.against(&tuned)?,
            of_the_mlp.against(&baseline("coefficient-one"))?,
        ];
        // The last was added after the others had been seen: a family of its own, which leaves theirs as it was.
        let (stated, added) = comparisons.split_at_mut(CONTROLS.len() - 1);
        Comparison::adjust_together(stated.iter_mut());
        Comparison::adjust_together(added.iter_mut());
        let ratios = published.settings().into_iter().filter_map(|setting| {
            let whole = published.step_of(&setting)?;
            Some((setting.clone(), ablation.step_of(&setting)? / whole, step.step_of(&setting)? / whole))
        });
        let (steps, settings) = (ratios.collect(), published.settings());
        let rank = |group: &Group| settings.iter().position(|known| *known == setting_of(group));
        comparisons.iter_mut().for_each(|comparison| comparison.groups.sort_by_key(rank));
        let published = |rate: f64| (rate / PUBLISHED - 1.0).abs() < 1e-9;
        let has_moved = |setting: &&String| [&own, &tuned].iter().any(|pool| !pool.rates_of(setting).all(published));
        let moved = settings.iter().filter(has_moved).cloned().collect();
        Ok(Self { comparisons, settings, selections, moved, steps })
    }

    fn caption(&self, scale: Scale, sources: &Sources) -> Result<String> {
        let mut steps = String::from(
            "Distance a step (learning rate times mean effective update norm over all epochs), the ablation's as a share of the full rule's:\n\n\
             | setting | as published | matched step size |\n| :-- | --: | --: |\n",
        );
        for (setting, before, after) in &self.steps {
            let _ = writeln!(steps, "| {setting} | {before:.3} | {after:.3} |");
        }
        let (stated, added) = self.comparisons.split_at(CONTROLS.len() - 1);
        let mut caption = Caption::new(9, "Evidence", scale, sources.sanity)
            .also(&[sources.low_data, sources.transfer])
            .also(&sources.steps)
            .also(&sources.rates)
            .text(
                "Final test accuracy of the full rule minus that of its gradient-only ablation, paired by seed, in points, in every setting, under five \
                 controls. As published: the ablation's bounds are [0.5, 1.5], the full rule's [0.2, 2]. Matched bounds: [0.2, 2] in both. Matched step \
                 size: the published ablation with its learning rate raised until it moves as far a step as the full rule. Own best rates: \
                 both as published, each at the learning rate that its validation accuracy chose among the same three, a tenth of the training \
                 images being held out from both (in the setting of the ResNet a part is held out under every control). Coefficient 1: \
                 minus the same stabiliser around plain SGD instead of the ablation, at the same learning rate; it was added after the others had been seen.",
            )
            .rates_are_tried()
            .bands(
                "large markers are means, bars 95 % bootstrap intervals of the mean (none where fewer than six pairs make one), small points single seeds, \
                 open markers (D, F) settings in which an arm chose a rate other than the published 0.1; \
                 at the right the p of an exact two-sided sign-flip test, adjusted (Holm) over all tests of the figure but those of E, which was added later and is a family of its own",
            )
            .note(
                "the learning rate is the published one in the first two controls and the last and, for the full rule, in the third; warm-up and plasticity scale come from a \
                 search that the ablation did not have, so that budgets are equal in the learning rate alone"
                    .into(),
            )
            .comparisons(stated.to_vec())
            .comparisons(added.to_vec())
            .table(steps);
        for selection in &self.selections {
            caption = caption.table(selection.table().render(np_record::compare::Format::Markdown));
        }
        caption.finish()
    }
}

/// Runs of one arm, each with its setting.
#[derive(Default)]
struct Pool(Vec<(PlannedRun, Option<Record>)>);

impl Pool {
    fn of<'a>(parts: impl IntoIterator<Item = &'a Runs>, keep: impl Fn(&PlannedRun) -> bool, name: &str) -> Self {
        let mut pool = Self::default();
        for part in parts {
            pool.extend(part, &keep, name);
        }
        pool
    }

    /// Adds runs as arm `name`. A run that two experiments share is added once.
    fn extend(&mut self, part: &Runs, keep: impl Fn(&PlannedRun) -> bool, name: &str) {
        for (run, record) in part.runs.iter().filter(|(run, _)| keep(run)) {
            if self.0.iter().any(|(known, _)| known.id == run.id) {
                continue;
            }
            let axes = BTreeMap::from([(SETTING.to_owned(), setting(run, record).into())]);
            self.0.push((PlannedRun { arm: name.into(), axes, ..run.clone() }, Some(record.clone())));
        }
    }

    fn against(&self, other: &Pool) -> Result<Comparison> {
        let name = |pool: &Pool| {
            pool.0
                .first()
                .map(|(run, _)| run.arm.clone())
                .context("figure 9 has no runs of an arm, or none of its rates can be chosen")
        };
        let question = Question {
            arm: name(self)?,
            baseline: name(other)?,
            metric: Metric::FinalTestAccuracy.into(),
            bootstrap: Bootstrap::default(),
        };
        for (run, _) in &self.0 {
            let pairs = |rival: &PlannedRun| rival.seed == run.seed && rival.axes == run.axes;
            let rivals = other.0.iter().filter(|(rival, _)| pairs(rival));
            rivals.into_iter().try_for_each(|(rival, _)| check_alike(run, rival))?;
        }
        let all: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        Ok(Comparison::new(question, &all)?)
    }

    /// All settings, in the order of the runs; of one data set the larger fractions first.
    fn settings(&self) -> Vec<String> {
        let mut settings: Vec<(String, f64)> = Vec::new();
        for (run, _) in &self.0 {
            let setting = run.axes[SETTING].as_str().unwrap_or_default().to_owned();
            if settings.iter().any(|(known, _)| *known == setting) {
                continue;
            }
            let (fraction, whole) = (fraction_of(run), setting.split(',').next().unwrap_or_default().to_owned());
            let smaller = |(known, share): &(String, f64)| known.starts_with(&whole) && *share < fraction;
            let at = settings.iter().position(smaller).filter(|_| !setting.ends_with(RESNET)).unwrap_or(settings.len());
            settings.insert(at, (setting, fraction));
        }
        settings.into_iter().map(|(setting, _)| setting).collect()
    }

    /// Learning rates in a setting.
    fn rates_of(&self, setting: &str) -> impl Iterator<Item = f64> {
        let here = self.0.iter().filter(move |(run, _)| run.axes[SETTING] == *setting);
        here.filter_map(|(_, record)| Some(record.as_ref()?.epochs.first()?.lr))
    }

    /// Learning rate times mean effective update norm, over epochs and seeds.
    fn step_of(&self, setting: &str) -> Option<f64> {
        let norm = Quantity::Diagnostic("effective_update_norm");
        let here = self.0.iter().filter(|(run, _)| run.axes[SETTING] == *setting);
        let of = |record: &Record| {
            let all: Vec<f64> = record.epochs.iter().filter_map(|epoch| Some(epoch.lr * norm.of(epoch)?)).collect();
            stats::mean(&all)
        };
        stats::mean(&here.filter_map(|(_, record)| of(record.as_ref()?)).collect::<Vec<_>>())
    }
}

/// The setting of a run in words, from its data and model; the same for both arms.
pub(crate) fn setting(run: &PlannedRun, record: &Record) -> String {
    let data = match record.data.name.as_str() {
        // Another set has a name of its own.
        _ if record.data.standing != Standing::Published => &record.data.title,
        "mnist" => "MNIST",
        "fashion-mnist" => "Fashion-MNIST",
        "cifar10" => "CIFAR-10",
        other => other,
    };
    let fraction = fraction_of(run);
    let model = if record.model.title.starts_with("ResNet") { RESNET } else { "" };
    let share = if fraction < 1.0 { format!(", {}", percent(fraction)) } else { String::new() };
    format!("{data}{share}{model}")
}
