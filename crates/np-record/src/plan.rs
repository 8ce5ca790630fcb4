//! A plan: the runs of one experiment at one scale, with resolved configurations and ids.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::select::Split;
use crate::stated::{Hypothesis, StatedOutcome};
use crate::text::hex;

/// The runs of an experiment file after scale, overrides and sweeps have been applied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`crate::SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// Name of the experiment, from its file.
    pub experiment: String,
    /// The question that the experiment answers, one sentence.
    pub question: String,
    /// `quick`, `cpu` or `paper`.
    pub scale: String,
    /// SHA-256 of the experiment file's bytes, in hex. The plan is out of date if the file has another.
    pub spec_sha256: String,
    /// Overrides from the command line, as typed; empty for the experiment as written.
    pub overrides: Vec<String>,
    /// The split that each arm's best configuration is selected on; `None` if the experiment fixes none. Not part of a run's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Split>,
    /// The number that runs are judged by; `None` if the experiment fixes none. Not part of a run's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StatedOutcome>,
    /// The pairs of arms that the experiment tests on the outcome. Not part of a run's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hypotheses: Vec<Hypothesis>,
    /// The experiment file's text, from which the plan can be made again; `None` in plans of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
    /// The runs, ordered by arm, axes and seed.
    pub runs: Vec<PlannedRun>,
    /// Digest of all other fields, see [`Plan::digest`]. The store writes it; `None` in plans of early versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<String>,
}

/// One run of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedRun {
    /// [`PlannedRun::id_of`] `config` and `data_digest`; the record's file name without `.json`.
    pub id: String,
    /// Name of the arm. It is a label only: another experiment may have the same run in an arm of another name.
    pub arm: String,
    /// The run's seed; also in `config`.
    pub seed: u64,
    /// Values of the swept settings, by dotted path (`data.name`, `data.fraction`); also in `config`.
    pub axes: BTreeMap<String, Value>,
    /// The resolved configuration: every setting has a value.
    pub config: Value,
    /// Digest of the data set, in hex.
    pub data_digest: String,
}

impl PlannedRun {
    /// The id of a run: the first 16 hex digits of the SHA-256 of its configuration (with sorted keys), its data digest and
    /// [its semantics](crate::semantics_of). It does not depend on labels, machine or threads.
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

/// Why a plan is out of date and must be made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// The experiment file has changed since.
    Spec,
    /// The plan was made with these command-line overrides, not from the experiment as written.
    Overrides(Vec<String>),
    /// This run's id is not that of its configuration: the [semantics](crate::semantics_of) have changed, or the plan was edited.
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
    /// Why this plan is out of date for the experiment file with the contents `spec` and this version of the program; `None` if it is not.
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

    /// SHA-256, in hex, of all fields but `plan_sha256`, with keys in order.
    #[must_use]
    pub fn digest(&self) -> String {
        digest_without(self, "plan_sha256")
    }

    /// The plan with its digest in `plan_sha256`.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.plan_sha256 = Some(self.digest());
        self
    }

    /// Whether another plan has the same runs and labels, for the same text and options. One of the two may lack text or digest.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let bare = |plan: &Self| Self { spec: None, plan_sha256: None, ..plan.clone() };
        bare(self) == bare(other)
    }

    /// The arms with the same runs (ids) as an earlier one: each such arm, with the earlier one.
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
