//! The report of a step.

/// What a step did, as [`Driver::step_report`](crate::Driver::step_report) and [`Driver::last_report`](crate::Driver::last_report) return it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// How the gradients were used.
    pub outcome: StepOutcome,
    /// Number of parameters that were updated.
    pub updated: usize,
    /// Number of trained parameters that had no gradient. They are left as they are: no update, no decay, no change of state. This is no error,
    /// because a branch of a model may be unused. If all parameters are absent at every step, the loss does not depend on them.
    pub absent: usize,
    /// ‖g‖ over all parameters together, before clipping. `Some` if [`crate::Options`] clip by norm or check for non-finite numbers, and after a
    /// line search. On a CUDA device it is `None` with [`crate::NonFinite::Propagate`] for optimizers that clip on the device
    /// ([`Rule::clips_on_device`](crate::Rule::clips_on_device)), because reading it would make the step wait.
    pub gradient_norm: Option<f64>,
    /// Whether a stopping criterion was met. Only `Lbfgs` of np-core has any; `false` for all others.
    pub converged: bool,
}

/// How the gradients of a step were used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// The parameters were updated.
    #[default]
    Updated,
    /// The gradients were added to those of the calls before ([`crate::Options::accumulate`]); a later call updates the parameters.
    Accumulated,
    /// A gradient was not finite and [`crate::NonFinite::Skip`] is set: nothing but the count of skipped steps changed.
    Skipped,
    /// No parameter changed: no trained parameter had a gradient, nothing had been accumulated ([`flush`](crate::Driver::flush)), or L-BFGS had
    /// converged before.
    Unchanged,
    /// The line search found no better point: the parameters are unchanged, although the optimizer has not converged.
    Stalled,
}
