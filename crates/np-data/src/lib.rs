//! The data sets of the NeuroPlastic experiments, and seeded batches over them.
//!
//! MNIST and Fashion-MNIST come from two sources: `mini`, 2,000 training and 1,000 test images embedded in
//! this crate, so that everything runs offline; and `full`, the published IDX files in a folder. CIFAR-10
//! is read from its binary version in a folder. With the feature `hub`, sets can be fetched from the
//! Hugging Face Hub, imported from its parquet files, and converted to candle-datasets' tensors.
//!
//! Images are kept as bytes until a batch needs them, also on a [device]. Without the features `hub` and
//! `cuda` the crate does not depend on a tensor library. Only `fetch` uses the network and, through hf-hub,
//! the environment. The embedded images have their own licences, which are beside them in `mini/`.
//!
//! One epoch, from loading to normalised pixels:
//!
//! ```
//! use std::num::NonZeroUsize;
//! use np_data::{DataName, DataSet, Error, Normalization, Source, batches, epoch_order, subset};
//!
//! # fn main() -> Result<(), Error> {
//! let data = DataSet::load(DataName::FashionMnist, Source::Mini, None)?;
//! assert_eq!(data.title, "Fashion-MNIST (mini)");
//! assert!(data.is_official());
//!
//! let (seed, epoch) = (41, 0);
//! let examples = subset(data.train.len(), 0.25, seed)?; // a quarter of the training set, fixed by the seed
//! let order = epoch_order(&examples, seed, epoch); // and shuffled anew in every epoch
//!
//! let (mut pixels, mut labels) = (Vec::new(), Vec::new()); // reused by every batch
//! let mut seen = 0;
//! for batch in batches(&order, NonZeroUsize::new(128).unwrap()) {
//!     Normalization::HALF.fill(&data.train, batch, &mut pixels, &mut labels)?;
//!     assert_eq!(pixels.len(), labels.len() * 28 * 28); // B×1×28×28, from −1 to 1
//!     seen += labels.len();
//! }
//! assert_eq!(seen, 500);
//! # Ok(())
//! # }
//! ```

mod augment;
mod batch;
#[cfg(feature = "hub")]
mod candle;
pub mod cifar;
mod dataset;
pub mod device;
pub mod digest;
mod error;
#[cfg(feature = "hub")]
pub mod fetch;
mod files;
mod hint;
#[cfg(feature = "hub")]
pub mod hub;
mod identity;
pub mod idx;
mod loader;
mod looks;
mod mini;
mod name;
mod note;
mod prepare;
mod regular;
mod sample;
mod select;
mod spelling;

pub use augment::{Augmentation, View, Views};
pub use batch::{Normalization, batches};
pub use dataset::{DATA_DIR_ENV, DataSet, Split, folder_of, sets_right_in};
pub use digest::known_digest;
pub use error::Error;
pub use files::{files_of, parquet_of};
pub use identity::Identity;
pub use loader::{Batch, Batches, Loader, Prepare};
pub use name::{DataName, Source};
pub use prepare::{Layout, Pass, Preparation};
pub use sample::{
    Holdout, balanced_subset, epoch_order, holdout, stratified_subset, stratified_subset_of, subset, subset_of,
};
pub use select::{Amount, Sampling, Selection};
