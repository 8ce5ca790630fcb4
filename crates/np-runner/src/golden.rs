//! Golden files, looked at before they are replayed: one that promises more steps than it holds would be replayed without end.

use np_core::{
    Backend,
    conform::{self, ConformError, Report},
};
use safetensors::SafeTensors;
use serde_json::Value;

/// [`conform::replay`], for files from anywhere.
///
/// # Errors
/// Those of [`conform::replay`]; [`ConformError::Metadata`] where the file has no parameters, or fewer tensors than steps.
pub fn replay(bytes: &[u8], backend: Backend) -> Result<Report, ConformError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let spec = header.metadata().as_ref().and_then(|metadata| metadata.get("spec"));
    // What is no specification at all is for the replay to say.
    if let Some(spec) = spec.and_then(|spec| serde_json::from_str::<Value>(spec).ok()) {
        check(&spec, header.tensors().len()).map_err(|reason| ConformError::Metadata { key: "spec", reason })?;
    }
    conform::replay(bytes, backend)
}

/// Every step has at least the tensor of one parameter after it.
fn check(spec: &Value, tensors: usize) -> Result<(), String> {
    if spec["params"].as_array().is_some_and(Vec::is_empty) {
        return Err("`params`: expected at least one name, got none".to_owned());
    }
    let count = |key: &str| spec[key].as_u64();
    let steps = match (count("steps"), count("steps_per_epoch"), count("epochs")) {
        (_, Some(steps), Some(epochs)) => steps.max(1).saturating_mul(epochs),
        (Some(steps), ..) => steps,
        _ => return Ok(()),
    };
    if steps > tensors as u64 {
        return Err(format!("expected at most a step for each of its {tensors} tensors, got {steps}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_cannot_promise_more_steps_than_it_holds() {
        let good = [
            json!({"params": ["w"], "steps": 3}),
            json!({"params": ["w"], "steps_per_epoch": 1, "epochs": 3}),
            json!(1),
        ];
        let bad = [
            json!({"params": [], "steps": 1}),
            json!({"params": ["w"], "steps": u64::MAX}),
            json!({"params": ["w"], "steps_per_epoch": 0, "epochs": 4}),
            json!({"params": ["w"], "steps": 1, "steps_per_epoch": u64::MAX, "epochs": 2}),
        ];
        assert!(good.iter().all(|spec| check(spec, 3).is_ok()));
        assert!(bad.iter().all(|spec| check(spec, 3).is_err()));
    }
}
