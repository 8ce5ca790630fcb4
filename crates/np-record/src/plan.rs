//! A plan: the fully resolved runs of one experiment at one scale, each with its id.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::select::Split;
use crate::stated::{Hypothesis, StatedOutcome};
use crate::text::hex;

/// The runs that an experiment file stands for, once scale, overrides and sweeps have been applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`crate::SCHEMA`] of the writer.
    pub schema: u32,
    /// Name of the experiment, as its file says.
    pub experiment: String,
    /// The question that the experiment answers, one sentence.
    pub question: String,
    /// `quick`, `cpu` or `paper`.
    pub scale: String,
    /// SHA-256 of the experiment file's bytes, in hex: a plan of another text is out of date.
    pub spec_sha256: String,
    /// Overrides given on the command line, as typed; empty for the experiment as written.
    pub overrides: Vec<String>,
    /// The split that each arm's best configuration is selected on, where the experiment says so. No part of a run or its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Split>,
    /// The number that the runs are judged by, where the experiment fixes it. No part of a run or its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StatedOutcome>,
    /// The pairs of arms that are tested on the outcome, as the experiment fixes them. No part of a run or its id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hypotheses: Vec<Hypothesis>,
    /// The experiment file's text, from which the plan can be made again; not in plans of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The runs, in the order of arms, axes, seeds.
    pub runs: Vec<PlannedRun>,
    /// Digest of all of the above, see [`Plan::digest`]; the store writes it. Not in plans of before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<String>,
}

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// What [`PlannedRun::id_of`] gives for `config` and `data_digest`; the record's file name without `.json`.
    pub id: String,
    /// Name of the arm. A label: two experiments may call the same run by different names.
    pub arm: String,
    /// The run's seed, also in `config`.
    pub seed: u64,
    /// Values of the swept keys, by dotted path (`data.name`, `data.fraction`). Labels, all of them also in `config`.
    pub axes: BTreeMap<String, Value>,
    /// The resolved configuration: every value spelled out, nothing left to a default.
    pub config: Value,
    /// Digest of the data set, in hex.
    pub data_digest: String,
}

impl PlannedRun {
    /// The id of a run: the first 16 hex digits of the SHA-256 of its canonical configuration (keys sorted), its data digest and
    /// [its semantics](crate::semantics_of). Labels, machine and threads have no part in it.
    #[must_use]
    pub fn id_of(config: &Value, data_digest: &str) -> String {
        Self::id_under(config, data_digest, crate::semantics_of(config))
    }

    /// As [`PlannedRun::id_of`], under other semantics than today's.
    pub(crate) fn id_under(config: &Value, data_digest: &str, semantics: u32) -> String {
        let mut hash = Sha256::new();
        hash.update(canonical(config).to_string());
        hash.update([0]);
        hash.update(data_digest);
        hash.update([0]);
        hash.update(semantics.to_string());
        hex(&hash.finalize())[..16].to_string()
    }
}

/// Why a plan must be made anew before its records are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// The experiment file has changed since.
    Spec,
    /// The plan is of the experiment with these command-line overrides, not of the experiment as written.
    Overrides(Vec<String>),
    /// Runs mean something else now (their [semantics](crate::semantics_of) were raised), or the plan was edited: this id is not that of its configuration.
    Id(String),
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Stale::Spec => f.write_str("the experiment file has changed"),
            Stale::Overrides(given) => write!(f, "it was made with `{}`", given.join(" ")),
            Stale::Id(id) => write!(f, "run `{id}` is of another version"),
        }
    }
}

impl Plan {
    /// Why this plan is not one of the experiment file whose bytes are `spec`, as this version would run it; `None` if it is.
    #[must_use]
    pub fn stale(&self, spec: &[u8]) -> Option<Stale> {
        if self.spec_sha256 != hex(&Sha256::digest(spec)) {
            return Some(Stale::Spec);
        }
        if !self.overrides.is_empty() {
            return Some(Stale::Overrides(self.overrides.clone()));
        }
        let other = self.runs.iter().find(|run| run.id != PlannedRun::id_of(&run.config, &run.data_digest))?;
        Some(Stale::Id(other.id.clone()))
    }

    /// SHA-256, in hex, of everything but `plan_sha256`, keys in order.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_without(self, "plan_sha256")
    }

    /// The plan with its digest.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.plan_sha256 = Some(self.digest());
        self
    }

    /// Whether another plan has the same runs under the same names, for the same text and options; one of them may lack text or digest.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let bare = |plan: &Self| Self { spec: None, plan_sha256: None, ..plan.clone() };
        bare(self) == bare(other)
    }

    /// For each arm that has the very runs of an earlier one, however it is written: that arm and the earlier one.
    #[must_use]
    pub fn twins(&self) -> Vec<(&str, &str)> {
        let arms = self.arms();
        let runs = |arm: &str| -> BTreeSet<&str> {
            self.runs.iter().filter(|run| run.arm == arm).map(|run| run.id.as_str()).collect()
        };
        let all: Vec<BTreeSet<&str>> = arms.iter().map(|arm| runs(arm)).collect();
        let earlier = |at: usize| Some((arms[at], arms[all[..at].iter().position(|other| *other == all[at])?]));
        (0..arms.len()).filter_map(earlier).collect()
    }

    /// Names of the arms, in order of appearance.
    #[must_use]
    pub fn arms(&self) -> Vec<&str> {
        let mut arms: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !arms.contains(&run.arm.as_str()) {
                arms.push(&run.arm);
            }
        }
        arms
    }
}

/// `value` with the keys of every map in order, so that equal configurations print alike.
pub(crate) fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), canonical(v))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        other => other.clone(),
    }
}

/// SHA-256, in hex, of a file's content without one of its keys, the other keys in order.
pub(crate) fn digest_without(content: &impl Serialize, key: &str) -> String {
    // Maps with keys of text and finite numbers only: nothing that JSON lacks.
    let mut value = canonical(&serde_json::to_value(content).unwrap_or_default());
    if let Some(map) = value.as_object_mut() {
        map.shift_remove(key);
    }
    hex_of(value.to_string().as_bytes())
}

/// SHA-256 of bytes, in hex.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
