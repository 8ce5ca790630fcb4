//! `launcher.slurm` of an experiment file: what a task of the array asks the cluster for.
//!
//! No part of a run: it enters neither ids nor plans, and a scale may have its own.

use serde::{Deserialize, Serialize};

use crate::config::OutOfRange;

/// The `launcher` of an experiment file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LauncherConfig {
    /// For `--launcher slurm`.
    pub slurm: SlurmConfig,
}

/// What each run asks Slurm for; what is left out is left to the cluster's defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SlurmConfig {
    /// The partition (`--partition`).
    pub partition: Option<String>,
    /// The time limit of a task (`--time`): minutes, or as in `2:30:00` and `1-12`. A run that needs longer is requeued, and goes on.
    pub time: Option<Amount>,
    /// CPUs a task (`--cpus-per-task`), 1 or more: the threads of its run, unless `--threads` is given. Default 1.
    pub cpus: Option<u32>,
    /// Memory a task (`--mem`): megabytes, or as in `4G`.
    pub mem: Option<Amount>,
    /// GPUs a task (`--gpus`): a number, or as in `a100:1`.
    pub gpus: Option<Amount>,
    /// The account that pays (`--account`).
    pub account: Option<String>,
    /// The quality of service (`--qos`).
    pub qos: Option<String>,
    /// Most tasks an array has. Default: what the cluster says (`MaxArraySize`).
    pub array_size: Option<u32>,
    /// Further options of `sbatch`, each as one word: `--constraint=avx512`.
    pub extra: Vec<String>,
}

/// A number, or a number with its unit as Slurm writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a whole number, or a text such as `30`, `2:30:00`, `4G`")]
pub enum Amount {
    /// A number, in the option's own unit.
    Number(u32),
    /// With a unit.
    Text(String),
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Options of `sbatch` that are the launcher's own, by their long names.
const OWN: [&str; 18] = [
    "array",
    "chdir",
    "clusters",
    "comment",
    "error",
    "help",
    "job-name",
    "no-requeue",
    "open-mode",
    "output",
    "parsable",
    "requeue",
    "signal",
    "test-only",
    "usage",
    "version",
    "wait",
    "wrap",
];

/// The letters of those that have one, and letters of options that take no value, so that another option may follow in the same word.
const OWN_LETTERS: [char; 9] = ['a', 'D', 'e', 'h', 'J', 'M', 'o', 'V', 'W'];
const FLAGS: [char; 7] = ['H', 'I', 'k', 'O', 'Q', 's', 'v'];

/// Whether an option of `sbatch` is the launcher's own, however it is written: a long name may be cut short (`--wra`), letters may stand together
/// (`-Ha0-3`).
fn is_own(option: &str) -> bool {
    if let Some(long) = option.strip_prefix("--") {
        let name = long.split('=').next().unwrap_or_default();
        return OWN.iter().any(|own| own.starts_with(name));
    }
    let rest = option[1..].trim_start_matches(FLAGS);
    // `-` alone is no option at all.
    option.len() == 1 || rest.starts_with(OWN_LETTERS)
}

impl SlurmConfig {
    /// Checks what types cannot.
    pub(crate) fn validate(&self) -> Result<(), OutOfRange> {
        let fault = |key: &str, expected: &str, got: &dyn std::fmt::Display| {
            Err(OutOfRange { key: format!("launcher.slurm.{key}"), expected: expected.into(), got: got.to_string() })
        };
        for (key, value) in [("cpus", self.cpus), ("array_size", self.array_size)] {
            if value == Some(0) {
                return fault(key, "1 or more", &0);
            }
        }
        for (i, option) in self.extra.iter().enumerate() {
            let key = format!("extra.{i}");
            if !option.starts_with('-') || option.contains(char::is_whitespace) {
                return fault(&key, "an option as one word, `--name=value`", option);
            }
            if is_own(option) {
                return fault(&key, "an option that is not the launcher's own", option);
            }
        }
        Ok(())
    }

    /// The resources as options of `sbatch`.
    pub(crate) fn options(&self, threads: Option<usize>) -> Vec<String> {
        let text = |option: &Option<String>| option.clone();
        let amount = |option: &Option<Amount>| option.as_ref().map(ToString::to_string);
        let cpus = self.cpus.map_or(threads.unwrap_or(1), |cpus| cpus as usize);
        let named = [
            ("partition", text(&self.partition)),
            ("time", amount(&self.time)),
            ("cpus-per-task", Some(cpus.to_string())),
            ("mem", amount(&self.mem)),
            ("gpus", amount(&self.gpus)),
            ("account", text(&self.account)),
            ("qos", text(&self.qos)),
        ];
        let named = named.into_iter().filter_map(|(name, value)| Some(format!("--{name}={}", value?)));
        named.chain(self.extra.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_become_options_and_what_is_left_out_is_left_to_the_cluster() {
        let config: LauncherConfig = serde_json::from_value(serde_json::json!({"slurm": {
            "partition": "long", "time": "1-12", "cpus": 4, "mem": 2000, "gpus": "a100:1", "extra": ["--constraint=avx512"]
        }}))
        .unwrap();
        config.slurm.validate().unwrap();
        let options = config.slurm.options(Some(2)).join(" ");
        let want = "--partition=long --time=1-12 --cpus-per-task=4 --mem=2000 --gpus=a100:1 --constraint=avx512";
        assert_eq!(options, want);
        assert_eq!(SlurmConfig::default().options(None), ["--cpus-per-task=1"]);
        assert_eq!(SlurmConfig::default().options(Some(3)), ["--cpus-per-task=3"]);
    }

    #[test]
    fn the_launchers_own_options_and_half_ones_are_refused() {
        for (extra, expected) in [
            ("--array=0-3", "an option that is not the launcher's own"),
            ("-a", "an option that is not the launcher's own"),
            ("--wra=x", "an option that is not the launcher's own"),
            ("--w", "an option that is not the launcher's own"),
            ("--", "an option that is not the launcher's own"),
            ("-", "an option that is not the launcher's own"),
            ("--sig=B:TERM@1", "an option that is not the launcher's own"),
            ("--open-mode=truncate", "an option that is not the launcher's own"),
            ("-a0-3", "an option that is not the launcher's own"),
            ("-HJname", "an option that is not the launcher's own"),
            ("-o/dev/null", "an option that is not the launcher's own"),
            // It would keep `sbatch` until the array has ended; part the messages from the log; submit where nobody looks for it.
            ("--wait", "an option that is not the launcher's own"),
            ("--wai", "an option that is not the launcher's own"),
            ("-W", "an option that is not the launcher's own"),
            ("-HW", "an option that is not the launcher's own"),
            ("--error=e.log", "an option that is not the launcher's own"),
            ("--err=e.log", "an option that is not the launcher's own"),
            ("-ee.log", "an option that is not the launcher's own"),
            ("--clusters=all", "an option that is not the launcher's own"),
            ("--cluster=all", "an option that is not the launcher's own"),
            ("-Mall", "an option that is not the launcher's own"),
            ("constraint=a", "an option as one word, `--name=value`"),
            ("--constraint a", "an option as one word, `--name=value`"),
        ] {
            let config = SlurmConfig { extra: vec!["--nice".into(), extra.into()], ..SlurmConfig::default() };
            let fault = config.validate().unwrap_err();
            assert_eq!((fault.key.as_str(), fault.expected.as_str()), ("launcher.slurm.extra.1", expected));
        }
        // Whole names that begin as one of the launcher's own does, letters with a value, and letters together.
        for extra in ["--constraint=avx512", "--export=NONE", "--wait-all-nodes=1", "-plong", "-Hplong", "-H", "-vv"] {
            let config = SlurmConfig { extra: vec![extra.into()], ..SlurmConfig::default() };
            config.validate().unwrap();
        }
        let config = SlurmConfig { cpus: Some(0), ..SlurmConfig::default() };
        assert_eq!(config.validate().unwrap_err().key, "launcher.slurm.cpus");
    }
}
