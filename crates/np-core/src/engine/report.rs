//! What a step did.

/// What a step did: what [`Driver::step_report`](crate::Driver::step_report) and [`Driver::last_report`](crate::Driver::last_report) give.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// What became of the gradients.
    pub outcome: StepOutcome,
    /// Parameters that were updated.
    pub updated: usize,
    /// Parameters that had no gradient and were left as they are, state and decay included. Not an error: a branch of a model may be
    /// unused. All of them, step after step, means a loss that does not depend on the parameters.
    pub absent: usize,
    /// ‖g‖ over all parameters together, before clipping; there if [`crate::Options`] clip by norm or look for non-finite numbers. Not where the norm stays on
    /// a CUDA device, because the step would have to wait for it: with [`crate::NonFinite::Propagate`], for all but optimizers of whole matrices.
    pub gradient_norm: Option<f64>,
    /// Whether a stopping criterion was met, for optimizers that have some ([`crate::Lbfgs`]); `false` for all others.
    pub converged: bool,
}

/// What became of the gradients of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// The parameters were updated.
    #[default]
    Updated,
    /// The gradients were added to those of the calls before; a later call updates.
    Accumulated,
    /// A gradient was not finite, and the policy is to skip: nothing changed.
    Skipped,
    /// There was nothing to update with: no parameter that is trained had a gradient, nothing had been accumulated, or the optimizer had converged
    /// before. No parameter changed.
    Unchanged,
    /// A line search found no better point: the parameters are where they were, although the optimizer has not converged.
    Stalled,
}
