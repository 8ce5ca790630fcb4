//! Runs external commands and reads their output.

use std::env;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;

/// The cargo that runs this program, in the workspace's root.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root);
    command
}

/// What a command prints as JSON.
pub(crate) fn json_of<T: DeserializeOwned>(command: &mut Command) -> Result<T> {
    let name = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("cannot start `{name}`"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{name}` ended with {}: {}", output.status, said.lines().last().unwrap_or_default());
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("`{name}` did not print what was expected of it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_failures_told() {
        let said = |script: &str| json_of::<Vec<f64>>(Command::new("sh").args(["-c", script]));
        assert_eq!(said("echo '[3, 1.5]'").unwrap(), [3.0, 1.5]);
        assert!(said("echo broken >&2; exit 3").unwrap_err().to_string().ends_with("3: broken"));
        assert!(said("echo {}").unwrap_err().to_string().contains("did not print what was expected"));
        let absent = json_of::<f64>(&mut Command::new("surely-no-such-program")).unwrap_err().to_string();
        assert_eq!(absent, "cannot start `surely-no-such-program`");
    }
}
