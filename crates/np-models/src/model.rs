//! What every model offers: the seam between models and whatever trains them.

use candle_core::{Tensor, Var};

use crate::{Error, Recorder, Result};

/// Whether a forward pass is one of training or of evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Dropout on; statistics of a batch, where a model keeps some, are used and recorded.
    Train {
        /// Selects the dropout masks, so it differs for every pass of a run: with one batch an optimizer step, that step's
        /// number.
        step: u64,
    },
    /// Dropout off; recorded statistics are used. Gradients still flow.
    Eval,
}

/// A model: a map from a batch to logits, with named parameters.
///
/// Object safe, so that a harness can hold a `Box<dyn Model>`.
pub trait Model: Send + Sync {
    /// Maps a batch to logits.
    ///
    /// `x`: \[batch, …\], the model's input size after the batch. Returns \[batch, classes\].
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if `x` does not fit; candle's own.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor>;

    /// As [`Self::forward`], with the same result bit for bit; the backward pass leaves in `recorder` what each layer saw.
    ///
    /// # Errors
    ///
    /// [`Error::Unrecorded`] if the model, or its device or element type, has no such records; those of [`Self::forward`].
    fn forward_recorded(&self, _x: &Tensor, _mode: Mode, _recorder: &Recorder) -> Result<Tensor> {
        Err(Error::Unrecorded { what: self.title() })
    }

    /// The trainable parameters with their names, in definition order: the same from run to run.
    ///
    /// A [`Var`] shares its storage with the model, so setting one changes the model.
    fn parameters(&self) -> Vec<(String, Var)>;

    /// What the model keeps besides parameters and must be saved with them (running statistics), in definition order.
    fn buffers(&self) -> Vec<(String, Var)> {
        Vec::new()
    }

    /// A short name with the sizes: `MLP 784-256-256-10`.
    fn title(&self) -> String;

    /// The number of trainable scalars.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().map(|(_, parameter)| parameter.elem_count()).sum()
    }
}

impl<M: Model + ?Sized> Model for Box<M> {
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        (**self).forward(x, mode)
    }

    fn forward_recorded(&self, x: &Tensor, mode: Mode, recorder: &Recorder) -> Result<Tensor> {
        (**self).forward_recorded(x, mode, recorder)
    }

    fn parameters(&self) -> Vec<(String, Var)> {
        (**self).parameters()
    }

    fn buffers(&self) -> Vec<(String, Var)> {
        (**self).buffers()
    }

    fn title(&self) -> String {
        (**self).title()
    }

    fn num_parameters(&self) -> usize {
        (**self).num_parameters()
    }
}
