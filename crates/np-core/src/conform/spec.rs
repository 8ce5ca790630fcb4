//! The metadata of a golden file.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::ConformError;
use crate::registry::OptimizerConfig;
use crate::torch;

/// What a golden file says of itself.
pub(super) struct Spec {
    pub(super) config: OptimizerConfig,
    /// Names in model order.
    pub(super) params: Vec<String>,
    pub(super) schedule: Schedule,
    /// One map an epoch; empty where the file has none.
    pub(super) diagnostics: Vec<BTreeMap<String, f64>>,
}

/// Steps, and which epoch each belongs to.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Schedule {
    pub(super) steps_per_epoch: usize,
    pub(super) epochs: usize,
    /// η of epoch e is lr · decay^(e − 1).
    pub(super) lr_decay_per_epoch: f64,
}

fn bad(reason: impl std::fmt::Display) -> ConformError {
    ConformError::Metadata { key: "spec", reason: reason.to_string() }
}

fn take<T: for<'de> Deserialize<'de>>(map: &mut Map<String, Value>, key: &str) -> Result<T, ConformError> {
    let value = map.remove(key).ok_or_else(|| bad(format!("expected an entry `{key}`")))?;
    serde_json::from_value(value).map_err(|e| bad(format!("`{key}`: {e}")))
}

impl Spec {
    pub(super) fn parse(metadata: &HashMap<String, String>) -> Result<Self, ConformError> {
        let text = metadata.get("spec").ok_or_else(|| bad("expected, but not in the file"))?;
        let mut map: Map<String, Value> = serde_json::from_str(text).map_err(bad)?;
        let params = take(&mut map, "params")?;
        map.remove("dtype");
        let name: String = take(&mut map, "optimizer")?;
        if !OptimizerConfig::KINDS.contains(&name.as_str()) {
            return Err(ConformError::UnknownOptimizer(name));
        }
        if name != "neuroplastic" {
            map.remove("source");
            let steps_per_epoch = take(&mut map, "steps")?;
            map.insert("optimizer".to_string(), name.into());
            let spec: torch::TorchOptimizer = serde_json::from_value(map.into()).map_err(bad)?;
            let schedule = Schedule { steps_per_epoch, epochs: 1, lr_decay_per_epoch: 1.0 };
            return Ok(Self { config: spec.into(), params, schedule, diagnostics: vec![] });
        }
        let schedule = Schedule {
            steps_per_epoch: take(&mut map, "steps_per_epoch")?,
            epochs: take(&mut map, "epochs")?,
            lr_decay_per_epoch: take(&mut map, "lr_decay_per_epoch")?,
        };
        let spec: torch::NeuroPlastic = serde_json::from_value(map.into()).map_err(bad)?;
        let diagnostics = match metadata.get("diagnostics") {
            None => vec![],
            Some(text) => serde_json::from_str(text)
                .map_err(|e| ConformError::Metadata { key: "diagnostics", reason: e.to_string() })?,
        };
        Ok(Self { config: OptimizerConfig::NeuroPlastic(spec.into()), params, schedule, diagnostics })
    }
}
