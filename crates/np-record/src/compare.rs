//! Comparisons of arms: two arms paired by seed, all arms pooled, times to a target, performance profiles.
//!
//! A [`Comparison`] has the unrounded numbers; [`Comparison::render`] turns them into text. Runs that diverged, failed or are missing are counted in
//! every group and named in its warnings.

mod alike;
mod measure;
mod metric;
mod planned;
mod pooled;
mod profile;
mod render;
mod target;
mod verdict;

pub use alike::{Likeness, likenesses, note_likenesses};
pub use measure::Measure;
pub use metric::{Metric, UnknownMetric, with_unit};
pub use planned::{Asked, Compared, Family, Pairs};
pub use pooled::pooled;
pub use profile::{Cost, Problem, profile};
pub(crate) use render::axes_text;
pub use render::{Format, UnknownFormat};
pub use target::{Target, TargetError, TimeToTarget, reached, time_to_target, time_to_target_table};
pub use verdict::Verdict;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::stats::{self, Bootstrap, FlipMethod, Interval, SignFlip};
use crate::{Epoch, Outcome, PlannedRun, Record};

/// The level that warnings speak of.
const LEVEL: f64 = 0.05;

/// Why a comparison cannot be made.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompareError {
    /// The plan has no such arm.
    #[error("no arm `{got}`")]
    UnknownArm {
        /// The plan's arms.
        expected: Vec<String>,
        /// The requested arm.
        got: String,
    },
    /// An arm is compared with itself.
    #[error("arm `{0}` is compared with itself")]
    SameArm(String),
    /// Two runs of one arm have the same seed and axes.
    #[error("arm `{arm}` has two runs of seed `{seed}` at {axes}")]
    Ambiguous {
        /// The arm.
        arm: String,
        /// The seed.
        seed: u64,
        /// The values of the axes, as text.
        axes: String,
    },
}

impl CompareError {
    /// What mends it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownArm { expected, .. } => Some(format!("the plan has {}", quoted(expected))),
            Self::SameArm(_) => None,
            Self::Ambiguous { .. } => Some("every swept key must be an axis of the plan".to_owned()),
        }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Which arms are compared, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// The arm in question; differences are `arm` − `baseline`.
    pub arm: String,
    /// The arm that it is compared with.
    pub baseline: String,
    /// The number that is compared.
    pub metric: Measure,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
}

/// A comparison of two arms, with a group for every combination of axes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The arm in question.
    pub arm: String,
    /// The arm that it is compared with.
    pub baseline: String,
    /// The name of the hypothesis, if the comparison is one with a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The number that is compared.
    pub metric: Measure,
    /// Settings of the intervals.
    pub bootstrap: Bootstrap,
    /// Number of p values in Holm's adjustment: those of this comparison's groups, or of all comparisons that were given to
    /// [`Comparison::adjust_together`].
    pub family: usize,
    /// Which p values these are.
    pub family_of: Family,
    /// The groups, in the plan's order.
    pub groups: Vec<Group>,
}

/// The runs of both arms at one combination of axes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The values of the axes.
    pub axes: BTreeMap<String, Value>,
    /// The arm in question.
    pub arm: ArmSummary,
    /// The arm that it is compared with.
    pub baseline: ArmSummary,
    /// `arm` − `baseline` over the seeds that both have. `None` if there is no such seed, or if both arms have the same runs or the same results.
    pub difference: Option<Difference>,
    /// Whether both arms have the same configuration, and so the same runs.
    pub identical: bool,
    /// Whether the configurations differ, but every pair of records has the same epochs, bit by bit. Such arms are not tested.
    pub same_results: bool,
    /// Caveats for the reader.
    pub warnings: Vec<String>,
}

/// One arm in one group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ArmSummary {
    /// The value of every finished run, by seed.
    pub values: BTreeMap<u64, f64>,
    /// Mean of `values`.
    pub mean: Option<f64>,
    /// Sample standard deviation of `values`.
    pub std: Option<f64>,
    /// Seeds of runs whose training diverged, or whose value is not finite.
    pub diverged: Vec<u64>,
    /// Seeds of runs that failed.
    pub failed: Vec<u64>,
    /// Seeds of runs without a record.
    pub missing: Vec<u64>,
}

/// A paired difference, `arm` − `baseline`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The difference of every pair, by seed.
    pub values: BTreeMap<u64, f64>,
    /// Mean difference.
    pub mean: f64,
    /// Sample standard deviation of the differences; `None` for one pair.
    pub std: Option<f64>,
    /// Bootstrap interval of the mean difference; `None` for one pair.
    pub interval: Option<Interval>,
    /// Two-sided sign-flip test.
    pub test: SignFlip,
    /// The p value after Holm's adjustment over the family, see [`Comparison::family`].
    pub p_holm: f64,
    /// The smallest p value that a test with this number of pairs can give.
    pub smallest_p: f64,
}

/// A run's id, and the epochs of its record.
type Made<'a> = (&'a String, Option<&'a [Epoch]>);

/// Digest and configuration of what a run was trained on.
type DataOf<'a> = (&'a String, Option<&'a Value>);

impl Comparison {
    /// Compares two arms over the runs of a plan, which [`crate::Store::records_of`] returns.
    ///
    /// # Errors
    ///
    /// [`CompareError`] if the question does not fit the plan. Missing, failed and diverged runs are not errors.
    pub fn new(question: Question, runs: &[(PlannedRun, Option<Record>)]) -> Result<Self, CompareError> {
        let Question { arm, baseline, metric, bootstrap } = question;
        if arm == baseline {
            return Err(CompareError::SameArm(arm));
        }
        for name in [&arm, &baseline] {
            if !runs.iter().any(|(run, _)| run.arm == *name) {
                let mut expected: Vec<String> = Vec::new();
                for (run, _) in runs.iter().filter(|(run, _)| run.arm != *name) {
                    if !expected.contains(&run.arm) {
                        expected.push(run.arm.clone());
                    }
                }
                return Err(CompareError::UnknownArm { expected, got: name.clone() });
            }
        }
        let mut groups: Vec<(BTreeMap<String, Value>, [ArmSummary; 2])> = Vec::new();
        // Runs by seed, of each side, group by group; and what is to be said of their data.
        let mut ids: Vec<[BTreeMap<u64, Made>; 2]> = Vec::new();
        let mut remarks: Vec<BTreeSet<String>> = Vec::new();
        // What the first run of each side was trained on, group by group.
        let mut data: Vec<[Option<DataOf>; 2]> = Vec::new();
        for (run, record) in runs {
            let side = match &run.arm {
                name if *name == arm => 0,
                name if *name == baseline => 1,
                _ => continue,
            };
            let at = groups.iter().position(|(axes, _)| *axes == run.axes).unwrap_or_else(|| {
                groups.push((run.axes.clone(), <[ArmSummary; 2]>::default()));
                data.push([None; 2]);
                ids.push(Default::default());
                remarks.push(BTreeSet::new());
                groups.len() - 1
            });
            ids[at][side].insert(run.seed, (&run.id, record.as_ref().map(|record| record.epochs.as_slice())));
            remarks[at].extend(record.as_ref().and_then(|r| r.data.standing.remark(&r.data.title)));
            data[at][side].get_or_insert((&run.data_digest, run.config.get("data")));
            if !groups[at].1[side].add(run.seed, record.as_ref(), metric) {
                let (arm, axes) = (run.arm.clone(), render::axes_text(&run.axes));
                return Err(CompareError::Ambiguous { arm, seed: run.seed, axes });
            }
        }
        let names = [arm.as_str(), baseline.as_str()];
        let groups = groups.into_iter().zip(&ids);
        let mut groups: Vec<Group> = groups.map(|((axes, sides), ids)| group(axes, sides, ids, &bootstrap)).collect();
        for (((group, data), remarks), ids) in groups.iter_mut().zip(data).zip(remarks).zip(&ids) {
            group.warnings = warnings(group, names, metric, &bootstrap);
            let most = |side: &BTreeMap<u64, Made>| {
                side.values().filter_map(|made| made.1).map(|epochs| metric.evaluations(epochs)).max()
            };
            group.warnings.extend(metric.unequal(names, ids.each_ref().map(most)));
            group.warnings.extend(remarks);
            if let [Some(own), Some(rival)] = data
                && own != rival
            {
                let text = format!("`{}` and `{}` were not trained on the same data", names[0], names[1]);
                group.warnings.push(text);
            }
        }
        let mut comparison =
            Self { arm, baseline, name: None, metric, bootstrap, family: 0, family_of: Family::default(), groups };
        Self::adjust_together([&mut comparison]);
        Ok(comparison)
    }

    /// Adds a warning to every group, such as how its runs were selected.
    pub fn warn(&mut self, warning: &str) {
        self.groups.iter_mut().for_each(|group| group.warnings.push(warning.to_owned()));
    }

    /// Adjusts the p values of comparisons that are shown together as one family, because more tests find more differences by chance.
    pub fn adjust_together<'a>(comparisons: impl IntoIterator<Item = &'a mut Comparison>) {
        let mut comparisons: Vec<&mut Comparison> = comparisons.into_iter().collect();
        let tests = |comparison: &Comparison| comparison.groups.iter().filter(|g| g.difference.is_some()).count();
        let family = comparisons.iter().map(|comparison| tests(comparison)).sum();
        let mut differences = Vec::new();
        for comparison in &mut comparisons {
            comparison.family = family;
            differences.extend(comparison.groups.iter_mut().filter_map(|group| group.difference.as_mut()));
        }
        let p: Vec<f64> = differences.iter().map(|d| d.test.p).collect();
        for (difference, adjusted) in differences.into_iter().zip(stats::holm(&p)) {
            difference.p_holm = adjusted;
        }
    }
}

impl ArmSummary {
    /// Number of finished runs.
    #[must_use]
    pub fn n(&self) -> usize {
        self.values.len()
    }

    /// Takes up a run; `false` if its seed is there already.
    fn add(&mut self, seed: u64, record: Option<&Record>, metric: Measure) -> bool {
        let taken = self.values.contains_key(&seed)
            || [&self.diverged, &self.failed, &self.missing].iter().any(|seeds| seeds.contains(&seed));
        match record.map(|r| (&r.outcome, metric.of(r))) {
            None => self.missing.push(seed),
            Some((Outcome::Failed { .. }, _)) => self.failed.push(seed),
            Some((Outcome::Finished, Some(value))) if value.is_finite() => {
                self.values.insert(seed, value);
            }
            Some(_) => self.diverged.push(seed),
        }
        !taken
    }

    fn summed_up(mut self) -> Self {
        let values: Vec<f64> = self.values.values().copied().collect();
        self.mean = stats::mean(&values);
        self.std = stats::sample_std(&values);
        self
    }
}

fn group(
    axes: BTreeMap<String, Value>,
    [arm, baseline]: [ArmSummary; 2],
    [own, rival]: &[BTreeMap<u64, Made>; 2],
    bootstrap: &Bootstrap,
) -> Group {
    let (arm, baseline) = (arm.summed_up(), baseline.summed_up());
    // A run against itself differs by nothing, which is no result.
    let same = |seed: &u64| own.get(seed).zip(rival.get(seed)).is_some_and(|(own, rival)| own.0 == rival.0);
    let identical = own.keys().any(same) && own.keys().filter(|seed| rival.contains_key(seed)).all(same);
    let mut pairs = stats::paired_differences(&arm.values, &baseline.values);
    pairs.retain(|(seed, _)| !same(seed));
    let alike = |seed: &u64| own.get(seed).zip(rival.get(seed)).is_some_and(|(own, rival)| own.1 == rival.1);
    let same_results = !pairs.is_empty() && pairs.iter().all(|(seed, _)| alike(seed));
    if same_results {
        pairs.clear();
    }
    let differences: Vec<f64> = pairs.iter().map(|(_, d)| *d).collect();
    let difference = stats::mean(&differences).zip(stats::sign_flip(&differences)).map(|(mean, test)| Difference {
        mean,
        std: stats::sample_std(&differences),
        interval: bootstrap.interval_of_mean(&differences),
        test,
        p_holm: test.p,
        smallest_p: stats::smallest_p(differences.len()),
        values: pairs.into_iter().collect(),
    });
    Group { axes, arm, baseline, difference, identical, same_results, warnings: Vec::new() }
}

fn warnings(group: &Group, names: [&str; 2], metric: Measure, bootstrap: &Bootstrap) -> Vec<String> {
    let mut out = Vec::new();
    for (name, side) in names.into_iter().zip([&group.arm, &group.baseline]) {
        for (what, seeds) in [("diverged", &side.diverged), ("failed", &side.failed), ("missing", &side.missing)] {
            if !seeds.is_empty() {
                out.push(format!("`{name}`: {what}, and left out of its mean: {}", seeds_text(seeds)));
            }
        }
    }
    let unpaired: Vec<u64> = group
        .arm
        .values
        .keys()
        .filter(|seed| !group.baseline.values.contains_key(seed))
        .chain(group.baseline.values.keys().filter(|seed| !group.arm.values.contains_key(seed)))
        .copied()
        .collect();
    match &group.difference {
        None if group.identical => {
            out.push(format!("`{}`: same configuration as `{}`, nothing to compare", names[0], names[1]));
        }
        None if group.same_results => out.push(alike::SAME_RESULTS.into()),
        None => out.push("no seed is finished in both arms: nothing to compare".into()),
        Some(difference) => {
            if !unpaired.is_empty() {
                out.push(format!("without a partner, and left out of the difference: {}", seeds_text(&unpaired)));
            }
            let n = difference.values.len();
            if difference.smallest_p > LEVEL {
                let p = difference.smallest_p;
                out.push(format!("n = {n}: a two-sided sign-flip test cannot go below p = {p}, whatever the data"));
            }
            let level = bootstrap.confidence * 100.0;
            match difference.interval {
                Some(_) if bootstrap.is_range(n) => out.push(format!(
                    "n = {n}: the bootstrap range is that of the {n} differences themselves, and no {level} % interval"
                )),
                Some(_) if Bootstrap::is_rough(n) => out.push(format!(
                    "n = {n}: the bootstrap range is too short for a {level} % interval, as that of so few differences is"
                )),
                _ => {}
            }
            if let FlipMethod::Drawn(flips) = difference.test.method {
                out.push(format!("n = {n}: p is from {flips} random flips, not from all of them"));
            }
        }
    }
    if metric.selects_on_test() {
        out.push(format!("{} picks an epoch by the test split: too good on average", metric.title()));
    }
    out
}

fn seeds_text(seeds: &[u64]) -> String {
    let list = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    if seeds.len() == 1 { format!("seed {list}") } else { format!("seeds {list}") }
}
