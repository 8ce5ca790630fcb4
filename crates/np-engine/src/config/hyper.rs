//! What all optimizers' settings have in common.

use crate::error::Result;

/// The hyper-parameters of an optimizer as a plain struct: its name in files, the check of its ranges, and access to η.
///
/// The arithmetic of the optimizer is [`Elementwise`](crate::Elementwise) or [`Rule`](crate::Rule), implemented for the same struct.
pub trait HyperParameters: Clone + Send + Sync + 'static {
    /// Name in configurations and saved state (`adamw`).
    const KIND: &'static str;

    /// `Ok` if every hyper-parameter lies in its range.
    ///
    /// # Errors
    /// [`crate::Error::Config`] for the first that does not.
    fn validate(&self) -> Result<()>;

    /// η, the learning rate before schedule, groups and controller.
    fn learning_rate(&self) -> f64;

    /// Sets η.
    fn set_learning_rate(&mut self, lr: f64);
}
