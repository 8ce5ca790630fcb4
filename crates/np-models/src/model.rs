//! The interface of a model.

use candle_core::{Tensor, Var};

use crate::{Error, Recorder, Result};

/// Whether a forward pass is for training or for evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// With dropout. Batch norms use the statistics of the batch and update the running ones.
    Train {
        /// Number of the optimizer step. It selects the dropout masks: the same step gives the same masks.
        step: u64,
    },
    /// Without dropout. Batch norms use the running statistics. Gradients can be taken.
    Eval,
}

/// A model: maps a batch to logits, and has named parameters. It is object safe (`Box<dyn Model>`).
pub trait Model: Send + Sync {
    /// Maps a batch `x` of shape \[batch, input size…\] to logits of shape \[batch, classes\].
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the shape or element type of `x` does not fit; errors of candle.
    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor>;

    /// [`Self::forward`], with the same bits. The backward pass from its result stores the inputs and output gradients of each layer in `recorder`.
    ///
    /// # Errors
    ///
    /// [`Error::Unrecorded`] if the model does not support this, or not on its device or with its element type; those of [`Self::forward`].
    fn forward_recorded(&self, _x: &Tensor, _mode: Mode, _recorder: &Recorder) -> Result<Tensor> {
        Err(Error::Unrecorded { what: self.title() })
    }

    /// The trainable parameters with their names, in definition order.
    ///
    /// A [`Var`] shares its storage with the model: setting it changes the model.
    fn parameters(&self) -> Vec<(String, Var)>;

    /// State that is not trained but has to be saved with the parameters (running statistics), in definition order.
    fn buffers(&self) -> Vec<(String, Var)> {
        Vec::new()
    }

    /// A short name with the sizes: `MLP 784-256-256-10`.
    fn title(&self) -> String;

    /// Number of trainable scalars.
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
