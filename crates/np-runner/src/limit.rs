//! A limit of time for a command that trains: workers are asked to stop before it is over, so that what they have done is kept in time.

use std::time::{Duration, Instant};

/// The longest time that workers get to keep what they have done.
const LONGEST: Duration = Duration::from_secs(30);

/// The longest limit, a year: further ends are no instants on every system.
const MOST: f64 = 365.0 * 24.0 * 60.0;

/// When a launch ends, whatever is left to train.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// When workers are asked to stop.
    ask: Instant,
    /// When they are ended.
    end: Instant,
}

impl Limit {
    /// A launch that is over after `time` from now. The last tenth of it, and no more than half a minute, is for snapshots.
    #[must_use]
    pub fn within(time: Duration) -> Self {
        let now = Instant::now();
        let end = now.checked_add(time).unwrap_or(now);
        Self { ask: end.checked_sub((time / 10).min(LONGEST)).unwrap_or(now), end }
    }

    /// Whether it is time to ask workers to stop.
    pub(crate) fn is_near(self) -> bool {
        Instant::now() >= self.ask
    }

    /// When workers are ended that were asked to stop and have not, if not earlier.
    pub(crate) fn end(self) -> Instant {
        self.end
    }
}

/// `7`, `7.5`: a number of minutes as an option has it.
pub(crate) fn minutes(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| *number > 0.0 && *number <= MOST);
    let number = number.ok_or_else(|| format!("expected minutes, a number above 0, got `{text}`"))?;
    Ok(Duration::from_secs_f64(number * 60.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_asked_before_the_end() {
        let margin = |seconds| {
            let limit = Limit::within(Duration::from_secs(seconds));
            limit.end.duration_since(limit.ask).as_secs()
        };
        assert_eq!((margin(60), margin(600), margin(60_000)), (6, 30, 30));
        assert!(Limit::within(Duration::ZERO).is_near() && !Limit::within(Duration::from_secs(60)).is_near());
    }

    #[test]
    fn minutes_may_have_a_fraction() {
        assert_eq!((minutes("7"), minutes("0.5")), (Ok(Duration::from_secs(420)), Ok(Duration::from_secs(30))));
        for text in ["", "0", "-1", "NaN", "inf", "1e9", "7min"] {
            assert!(minutes(text).unwrap_err().contains("a number above 0"), "{text}");
        }
    }
}
