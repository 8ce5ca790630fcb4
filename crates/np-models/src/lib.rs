//! The models of the NeuroPlastic experiments, on candle, with seeded initialisation.
//!
//! A [`Model`] maps a batch to logits and names its parameters in definition order. [`Mlp`] is a
//! multi-layer perceptron of any depth and width, [`ResNet18`] a residual network for small images; both
//! are initialised as in PyTorch. Everything random is a function of a seed: weights come from an
//! [`Initializer`], dropout masks from (seed, layer, step), so that a resumed run has no generator to
//! restore. A [`Recorder`] collects the inputs and output gradients of layers. [`load()`] sets parameters
//! and buffers from named tensors, such as those of a PyTorch checkpoint.
//!
//! On a CPU in `f32` and `f64`, the layers and the loss are custom operations, and ResNet-18 without its
//! head is a single one. Their results have the same bits for any number of threads. On other devices and
//! element types they are candle's operations. To train a whole model on a CUDA device, use [`cuda`].
//!
//! The number of threads is that of the current rayon pool (`RAYON_NUM_THREADS`). Also set
//! `CANDLE_NUM_THREADS=1`: candle has a second pool for element-wise operations, whose threads busy-wait on
//! the cores that the matrix products need. Otherwise two threads are no faster than one
//! (`examples/mlp_step.rs` measures both).
//!
//! Optimizers, data, training loops and files are in other crates.
//!
//! One step, forward and backward:
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use np_models::{Mlp, MlpConfig, Mode, Model, cross_entropy, loss_and_correct};
//!
//! # fn main() -> np_models::Result<()> {
//! let device = Device::Cpu;
//! let config = MlpConfig { hidden: vec![32, 16], dropout: 0.1 };
//! let model = Mlp::new(784, 10, &config, 41, &device)?;
//! assert_eq!(model.title(), "MLP 784-32-16-10");
//!
//! let images = Tensor::ones((4, 1, 28, 28), DType::F32, &device)?; // flattened by the model
//! let labels = Tensor::new(&[3u32, 1, 4, 1], &device)?;
//! let logits = model.forward(&images, Mode::Train { step: 0 })?;
//! let gradients = cross_entropy(&logits, &labels)?.backward()?;
//! for (name, parameter) in model.parameters() {
//!     assert!(gradients.get(parameter.as_tensor()).is_some(), "{name} has a gradient");
//! }
//!
//! let score = loss_and_correct(&model.forward(&images, Mode::Eval)?, &labels)?;
//! assert!(score.loss > 0.0 && score.correct <= 4);
//! # Ok(())
//! # }
//! ```

pub mod cuda;
mod error;
mod init;
mod kernels;
pub mod layers;
mod load;
mod loss;
mod mlp;
mod model;
mod names;
mod recorder;
mod resnet;
mod sizes;

pub use cuda::{MemoryPlan, Precision, memory_plan};
pub use error::{Error, Result};
pub use init::Initializer;
pub use load::load;
pub use loss::{Score, cross_entropy, loss_and_correct};
pub use mlp::{Mlp, MlpConfig};
pub use model::{Mode, Model};
pub use recorder::{LayerTrace, Recorder};
pub use resnet::{ResNet18, ResNet18Config};
pub use sizes::PassSize;
