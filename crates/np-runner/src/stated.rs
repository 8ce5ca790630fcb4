//! `outcome` and `hypotheses` of an experiment file: what it fixes before its runs, checked. No part of a run or its id.

use std::num::NonZeroUsize;

use np_record::{Direction, EpochMetric, Hypothesis, OwnMetric, StatedOutcome, select::Split};
use serde::Deserialize;

use crate::{
    config::TrainConfig,
    document::Document,
    error::{Fault, Result, suggest},
    explain::refuse,
    spec::SpecRun,
    task::{TaskMetric, known, own_metrics},
    tree::Tree,
};

/// The outcome as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutcomeSpec {
    metric: String,
    #[serde(default = "one")]
    last_epochs: NonZeroUsize,
    /// Follows from the metric; whoever writes it is held to that.
    #[serde(default)]
    direction: Option<Direction>,
}

fn one() -> NonZeroUsize {
    NonZeroUsize::MIN
}

impl OutcomeSpec {
    /// With every value spelled out.
    pub(crate) fn resolve(&self, tree: &Tree, document: &Document) -> Result<StatedOutcome> {
        let Self { metric, last_epochs, direction } = self;
        let (last_epochs, direction) = (*last_epochs, *direction);
        let own: Vec<OwnMetric> = known().metrics();
        let own = || own.iter().find(|own| own.name() == metric).copied().map(EpochMetric::Own);
        let Some(metric) = EpochMetric::named(metric).or_else(own) else {
            let path = ["outcome", "metric"].map(str::to_owned);
            let fault = Fault::new(tree.place(&path, document), format!("there is no `{metric}` here"));
            let names = EpochMetric::ALL.map(EpochMetric::key).into_iter();
            let names = names.chain(known().metrics().into_iter().map(OwnMetric::name));
            return Err(fault.key(path.join(".")).hint_if(suggest(metric, names)).into());
        };
        let own = metric.direction();
        if let Some(got) = direction.filter(|direction| *direction != own) {
            let expected = format!("`{own}`, as {own} values of `{metric}` are better");
            let fault = refuse(tree, document, "outcome.direction", &expected, &got.to_string());
            return Err(fault.hint("leave `direction` out: it follows from the metric").into());
        }
        Ok(StatedOutcome { metric, last_epochs, direction: own })
    }
}

/// Refuses hypotheses that cannot be tested: without an outcome, about an arm that there is not, of an arm against itself, one pair twice.
pub(crate) fn check(
    pairs: &[Hypothesis],
    outcome: Option<StatedOutcome>,
    arms: &[&str],
    tree: &Tree,
    document: &Document,
) -> Result<()> {
    let fault = |at: &[&str], text: String| {
        let path: Vec<String> = std::iter::once(&"hypotheses").chain(at).map(|part| (*part).to_owned()).collect();
        Fault::new(tree.place(&path, document), text).key(path.join("."))
    };
    if outcome.is_none() && !pairs.is_empty() {
        let hint = "fix the number that they are tested on, as in `outcome: {metric: test_accuracy, last_epochs: 5}`";
        return Err(fault(&[], "there is no `outcome` to test them on".into()).hint(hint).into());
    }
    for (place, pair) in pairs.iter().enumerate() {
        let at = place.to_string();
        for (key, arm) in [("arm", &pair.arm), ("against", &pair.against)] {
            if !arms.contains(&arm.as_str()) {
                let fault = fault(&[&at, key], format!("there is no arm `{arm}`"));
                return Err(fault.hint_if(suggest(arm, arms)).into());
            }
        }
        if pair.arm == pair.against {
            let fault = fault(&[&at], format!("arm `{}` is compared with itself", pair.arm));
            return Err(fault.hint("name another arm under `against`").into());
        }
        if let Some(earlier) = pairs[..place].iter().position(|earlier| earlier.pairs(&pair.arm, &pair.against)) {
            let text = format!("`{}` and `{}` are compared by `hypotheses.{earlier}` already", pair.arm, pair.against);
            return Err(fault(&[&at], text).hint("a test is two-sided: leave one of them out").into());
        }
    }
    Ok(())
}

/// Refuses an outcome that the task of a run does not measure.
pub(crate) fn is_measured(outcome: StatedOutcome, runs: &[SpecRun], tree: &Tree, document: &Document) -> Result<()> {
    let lacks = |run: &&SpecRun| {
        let (task, metric) = (run.config.task.chosen(), outcome.metric);
        match metric {
            EpochMetric::TestLoss | EpochMetric::TrainLoss => false,
            EpochMetric::TestAccuracy | EpochMetric::TrainAccuracy => !task.metrics().contains(&TaskMetric::ACCURACY),
            EpochMetric::Own(own) => !own_metrics(&task.metrics()).contains(&own),
        }
    };
    let Some(run) = runs.iter().find(lacks) else { return Ok(()) };
    let task = run.config.task.chosen();
    let mut names = vec![EpochMetric::TestLoss.key(), EpochMetric::TrainLoss.key()];
    if task.metrics().contains(&TaskMetric::ACCURACY) {
        names.extend([EpochMetric::TestAccuracy.key(), EpochMetric::TrainAccuracy.key()]);
    }
    names.extend(own_metrics(&task.metrics()).into_iter().map(OwnMetric::name));
    let expected = format!("a number that the task `{}` of arm `{}` measures", task.name(), run.arm);
    let fault = refuse(tree, document, "outcome.metric", &expected, outcome.metric.key());
    Err(fault.hint_if(suggest(outcome.metric.key(), names)).into())
}

/// Refuses an average over more epochs than a training has, or over some that are not evaluated.
pub(crate) fn fits(
    outcome: StatedOutcome,
    selection: Option<Split>,
    trainings: &[(&str, &TrainConfig)],
    tree: &Tree,
    document: &Document,
) -> Result<()> {
    let last = outcome.last_epochs.get();
    let refused = |expected: String| refuse(tree, document, "outcome.last_epochs", &expected, &last.to_string());
    let shortest = trainings.iter().min_by_key(|(_, train)| train.epochs);
    if let Some((arm, train)) = shortest.filter(|(_, train)| (train.epochs as usize) < last) {
        let fault = refused(format!("at most {}, the epochs that `{arm}` is trained for", train.epochs));
        let hint = "average over fewer epochs, or raise `train.epochs`; a scale may have an `outcome` of its own";
        return Err(fault.hint(hint).into());
    }
    // Training loss and accuracy are there after every epoch.
    let of_test = match outcome.metric {
        EpochMetric::TestAccuracy | EpochMetric::TestLoss => true,
        EpochMetric::TrainAccuracy | EpochMetric::TrainLoss => false,
        EpochMetric::Own(own) => !own.name().starts_with("train_"),
    };
    let lacks = |train: &TrainConfig| !train.evaluates_last(last);
    match trainings.iter().find(|(_, train)| (of_test || selection.is_some()) && lacks(train)) {
        Some((arm, train)) => {
            let every = train.eval_every;
            let fault = refused(format!("1, as `{arm}` is evaluated after every {every} epochs and after the last"));
            Err(fault.hint("average over the last epoch alone, or leave `train.eval_every` at 1").into())
        }
        None => Ok(()),
    }
}
