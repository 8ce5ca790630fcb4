//! What a worker says while it trains: one JSON object a line on its standard output.

use std::io::Write as _;

use np_record::{Epoch, Outcome};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// One line of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The training begins.
    Begins {
        /// The model, as a caption prints it.
        model: String,
        /// Training examples a pass.
        examples: usize,
    },
    /// Another process trains this run: there is nothing to do here.
    Busy,
    /// The training goes on from a snapshot.
    Resumed {
        /// Epochs that were complete.
        epoch: usize,
    },
    /// Something a person should know.
    Notice {
        /// In words.
        text: String,
    },
    /// Something a person should know of the machine: the same of every run.
    Remark {
        /// In words.
        text: String,
    },
    /// An epoch is complete.
    Epoch {
        /// Its metrics.
        metrics: Epoch,
        /// Wall time of the epoch.
        seconds: f64,
    },
    /// The run is broken off, as somebody wished; it has no record.
    Stopped,
    /// The record is written.
    Recorded {
        /// How the run ended.
        outcome: Outcome,
    },
}

impl Event {
    /// Says the event. Fails with [`Error::Orphaned`] if nobody listens any more: the launcher was killed, and its worker is to end
    /// too.
    pub(crate) fn say(&self) -> Result<()> {
        let line =
            serde_json::to_string(self).map_err(|error| Error::Io { path: "event".into(), source: error.into() })?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|_| Error::Orphaned)
    }

    /// Reads a line of a worker; `None` for anything else than an event.
    pub(crate) fn hear(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let event = Event::Recorded { outcome: Outcome::Diverged { epoch: 1, step: 3 } };
        assert_eq!(Event::hear(&serde_json::to_string(&event).unwrap()), Some(event));
        assert_eq!(Event::hear("warning: something else"), None);
    }
}
