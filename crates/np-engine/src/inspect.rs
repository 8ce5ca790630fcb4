//! What a driver says of itself.

use crate::config::options::Options;
use crate::driver::Driver;
use crate::param_state::ParamState;
use crate::report::StepReport;
use crate::rule::Rule;

impl<R: Rule> Driver<R> {
    /// The optimizer's configuration, with the current η.
    pub fn config(&self) -> &R {
        &self.rule
    }

    /// The current options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What the last step did; `None` before the first step and after [`Driver::load_state`].
    pub fn last_report(&self) -> Option<StepReport> {
        self.report
    }

    /// Names of the parameters, in model order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.params.iter().map(|s| s.name.as_str())
    }

    /// Number of steps so far. Skipped steps and calls that only accumulate do not count.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Number of absent gradients, summed over all steps and trained parameters so far.
    pub fn absent_gradients(&self) -> u64 {
        self.absent
    }

    /// Number of calls skipped so far because a gradient was not finite ([`NonFinite::Skip`](crate::NonFinite)).
    pub fn skipped_steps(&self) -> u64 {
        self.skipped
    }

    /// Sets whether steps collect the diagnostics that cost time (default `true`). If not, [`Driver::diagnostics`] has them from earlier steps at most.
    pub fn collect_diagnostics(&mut self, collect: bool) {
        self.collect_diagnostics = collect;
    }

    /// The parameters and their state, for tests of rules.
    #[doc(hidden)]
    pub fn params(&self) -> &[ParamState] {
        &self.params
    }

    /// The parameters and their state, for tests of rules.
    #[doc(hidden)]
    pub fn params_mut(&mut self) -> &mut [ParamState] {
        &mut self.params
    }
}

impl<R: Rule> std::fmt::Debug for Driver<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}({} parameters, step {})", R::KIND, self.params.len(), self.step)
    }
}
