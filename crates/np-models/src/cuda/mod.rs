//! Models on a CUDA device: forward, backward, loss and counts of a batch as one list of operations over buffers that keep their addresses.
//!
//! A [`Program`] is made from an [`Architecture`] and a [`BatchShape`] on any machine: operations, buffers with lifetimes, the places of all in one block
//! of memory, and what it takes in all ([`memory_plan`]). With the feature `cuda` a `Trainer` runs programs on a device: the first batch of a size operation by
//! operation, every later one as a graph that was captured then. It only queues work; nothing waits but `Trainer::read` and `Trainer::read_evaluation`.
//!
//! ```text
//! let mut trainer = Trainer::new(&architecture, &model, shape, Precision::Tf32, Launching::Graph)?;
//! for (images, labels) in batches {              // tensors on the device: f32, normalised; u32
//!     let gradients = trainer.step(&images, &labels, step)?;      // queued; the same tensors every time
//!     optimizer.step(gradients.store())?;                         // or by name: gradients.named()
//! }
//! let totals = trainer.read()?;                  // waits; mean loss = totals.loss_sum / totals.examples; then counts from 0 again
//! for (images, labels) in held_out { trainer.evaluate(&images, &labels)?; }
//! let score = trainer.read_evaluation()?;
//! ```
//!
//! Parameters and running statistics are the model's own variables, updated in place, so that saving and loading go on as on a CPU. A batch may be smaller than
//! its [`BatchShape`] says, and never larger. Everything happens on candle's stream of the calling thread: one thread builds a trainer and uses it.

mod builder;
pub mod memory;
mod mlp;
pub mod program;
mod resnet;
#[cfg(feature = "cuda")]
mod trainer;

pub use memory::{MemoryPlan, memory_plan};
#[cfg(feature = "cuda")]
pub use np_cuda::Launching;
pub use program::{Pass, Program};
#[cfg(feature = "cuda")]
pub use trainer::{GradientTensors, Trainer};

use serde::{Deserialize, Serialize};

use crate::{MlpConfig, ResNet18Config};

/// What numbers a device computes with. Parameters, gradients, statistics of batch norms and sums are in `f32` or wider in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// `f32` throughout: products are not rounded before they are added up.
    Fp32,
    /// `f32`, with the factors of convolutions and matrix products rounded to 10 bits of mantissa (TF32), where the device has it. The default.
    #[default]
    Tf32,
    /// Activations, their gradients, and copies of the weights in `bf16`; sums in `f32`.
    Bf16,
}

impl Precision {
    /// As settings and records spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }

    /// Bytes of an activation.
    #[must_use]
    pub fn bytes(self) -> usize {
        if self == Self::Bf16 { 2 } else { 4 }
    }
}

/// The order of an image's numbers in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ImageLayout {
    /// \[channels, height, width\].
    ChannelsFirst,
    /// \[height, width, channels\].
    ChannelsLast,
}

/// The batches that a trainer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchShape {
    /// Most images of a training step; at least 1.
    pub images: usize,
    /// Most images of an evaluation's batch; 0 where there is none.
    pub evaluation: usize,
    /// Channels of an image.
    pub channels: usize,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// The order of the numbers that come.
    pub layout: ImageLayout,
}

/// Which model, as far as a program depends on it.
#[derive(Debug, Clone, PartialEq)]
pub enum Architecture {
    /// An [`Mlp`](crate::Mlp).
    Mlp {
        /// Its widths and dropout.
        config: MlpConfig,
        /// Logits.
        classes: usize,
        /// That of its dropout masks.
        seed: u64,
    },
    /// A [`ResNet18`](crate::ResNet18).
    ResNet18 {
        /// Its width.
        config: ResNet18Config,
        /// Logits.
        classes: usize,
    },
}

/// Sums over the batches since they were read last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Σ of the examples' cross-entropies in nats, in double precision; not finite if the model has diverged.
    pub loss_sum: f64,
    /// Examples whose largest logit is the label's. Of equal logits the first counts; one with a NaN is wrong.
    pub correct: u64,
    /// How many there were.
    pub examples: u64,
    /// The number, as it was given, of the first step whose loss was not finite.
    pub first_non_finite_step: Option<u64>,
}

impl Totals {
    /// From the words that a loss is added to ([`program::texts::totals`]); 0 for what is missing.
    #[must_use]
    pub fn from_words(words: &[u64]) -> Self {
        use program::texts::totals::{CORRECT, EXAMPLES, LOSS, NOT_FINITE};
        let word = |place: usize| words.get(place).copied().unwrap_or(0);
        Self {
            loss_sum: f64::from_bits(word(LOSS)),
            correct: word(CORRECT),
            examples: word(EXAMPLES),
            first_non_finite_step: word(NOT_FINITE).checked_sub(1),
        }
    }
}
