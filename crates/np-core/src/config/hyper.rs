//! What all optimizers' settings have in common.

use crate::error::Result;

/// The settings of an optimizer, a plain struct: its name in files, the ranges of its fields, and η among them.
///
/// An optimizer is this and its arithmetic: [`Elementwise`](crate::Elementwise) or [`Rule`](crate::Rule).
pub trait HyperParameters: Clone + Send + Sync + 'static {
    /// Name in configurations and saved state (`adamw`).
    const KIND: &'static str;

    /// Whether every hyper-parameter lies in its range.
    ///
    /// # Errors
    /// [`crate::Error::Config`] names the first that does not.
    fn validate(&self) -> Result<()>;

    /// η, the step size before schedules and controllers.
    fn learning_rate(&self) -> f64;

    /// Sets η.
    fn set_learning_rate(&mut self, lr: f64);
}
